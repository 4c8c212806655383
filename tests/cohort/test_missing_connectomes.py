"""Subjects without a connectome who stay in the cohort: by a missing file, or by a column with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.workflows.data.cohort import check_cohort

IDS = [f"p{i}" for i in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six subjects; p4 has no matrix, and p1 has one that quality control refused."""
    rng = np.random.default_rng(0)
    for one in (i for i in IDS if i != "p4"):
        upper = np.triu(rng.poisson(9.0, (5, 5)), 1)
        np.savetxt(tmp_path / f"{one}.csv", upper + upper.T, "%d", ",")
        pd.DataFrame({"name": list("12345"), "FA": rng.uniform(0, 1, 5)}).to_csv(
            tmp_path / f"{one}_fa.tsv", sep="\t", index=False
        )
    table = pd.DataFrame({"participant_id": IDS, "qc": ["", "motion", "n/a", "", "", ""], "iq": range(90, 96)})
    table.to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    return tmp_path


def cohort_file(folder: Path, connectomes: str, more: str = "") -> Path:
    text = f"participants: people.tsv\nconnectomes: {{files: '{{id}}.csv', labels: numbered, {connectomes}}}\n{more}"
    (folder / "cohort.yaml").write_text(text)
    return folder / "cohort.yaml"


def test_rows_without_a_matrix_stay_as_subjects_without_a_connectome(folder: Path) -> None:
    cohort = read_cohort(cohort_file(folder, "unmatched: missing"))
    assert list(cohort.ids) == IDS
    assert cohort.node_mask.any(axis=1).tolist() == [True] * 4 + [False, True]
    assert not cohort.weights[4].any()
    want = np.loadtxt(folder / "p5.csv", delimiter=",")
    np.testing.assert_array_equal(cohort.weights[5, 0], want)  # rows after the gap have their own matrix
    assert (cohort.flow[-1].label, cohort.flow[-1].n_left) == ("5 with a connectome", 6)
    assert cohort.flow[-1].reason == "1 without: no matrix"
    assert any("p4" in note for note in cohort.notes)


def test_a_reason_hides_a_matrix_that_is_there_and_is_told_in_the_flow(folder: Path) -> None:
    cohort = read_cohort(cohort_file(folder, "unmatched: missing, reason: qc"))
    assert [i for i, there in zip(IDS, cohort.node_mask.any(axis=1), strict=True) if not there] == ["p1", "p4"]
    assert cohort.flow[-1].reason == "1 without: motion; 1 without: no matrix"
    assert any("p1 (motion)" in note for note in cohort.notes)


def test_a_row_with_neither_matrix_nor_reason_is_still_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="p4"):
        read_cohort(cohort_file(folder, "reason: qc"))
    with pytest.raises(DataError, match=r"connectomes\.reason: column 'quality'"):
        read_cohort(cohort_file(folder, "unmatched: missing, reason: quality"))


def test_regional_measures_of_who_has_no_connectome_are_unknown(folder: Path) -> None:
    more = "region_features: {files: '{id}_fa.tsv', names: [FA]}\n"
    cohort = read_cohort(cohort_file(folder, "unmatched: missing, reason: qc", more))
    assert cohort.region_features is not None
    assert np.isnan(cohort.region_features[[1, 4]]).all()
    assert np.isfinite(cohort.region_features[[0, 2, 3, 5]]).all()


def test_they_go_with_one_file_per_subject_only(folder: Path) -> None:
    text = "participants: people.tsv\nconnectomes: {stack: m.npz, labels: numbered, unmatched: missing}\n"
    (folder / "cohort.yaml").write_text(text)
    with pytest.raises(UsageError, match="go with files"):
        read_cohort(folder / "cohort.yaml")


def test_the_quality_page_says_who_has_none(folder: Path) -> None:
    check_cohort(cohort_file(folder, "unmatched: missing"), folder / "page.html")
    assert "without a matrix stays without one: p4" in (folder / "page.html").read_text("utf-8")
