"""The `connectomes:` block: an array and a transform for each measure, triangles, rows without names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, UsageError
from connectome_tl.settings.cohort import CohortSettings

IDS = ("sub-1", "sub-2", "sub-3")
NAMES = ("a", "b", "c", "d", "e")


def symmetric(seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).gamma(1, 5, (5, 5)), 1)
    return upper + upper.T


COUNTS = np.stack([symmetric(i) for i in range(3)])
FA = np.stack([np.tanh(symmetric(i + 9) / 50) for i in range(3)])


def cohort(folder: Path, **spec: Any) -> Cohort:
    (folder / "labels.tsv").write_text("\n".join(NAMES) + "\n")
    (folder / "p.tsv").write_text("participant_id\n" + "\n".join(IDS) + "\n")
    settings = {"participants": "p.tsv", "connectomes": {"labels": "labels.tsv", **spec}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings))
    return read_cohort(folder / "cohort.yaml")


def test_each_measure_has_its_array_and_its_transform_in_stacks_and_files(tmp_path: Path) -> None:
    """log1p for counts and none for FA: the order is that of the measures, whatever the order in the file."""
    np.savez(tmp_path / "all.npz", fa=FA.astype(np.float32), n=COUNTS.astype(np.int64))
    for one, counts, fa in zip(IDS, COUNTS, FA, strict=True):
        np.savez(tmp_path / f"{one}.npz", fa=fa.astype(np.float32), n=counts.astype(np.int64))
    how = {"key": ["n", "fa"], "measure": ["count", "FA"], "transform": ["log1p", "none"]}
    for where in ({"stack": "all.npz", "rows": "p.tsv"}, {"files": "sub-{id}.npz"}):
        found = cohort(tmp_path, **how, **where)
        assert found.measures == ("count", "FA")
        np.testing.assert_allclose(found.weights[:, 0], np.log1p(COUNTS.astype(np.int64)), rtol=1e-6)
        np.testing.assert_allclose(found.weights[:, 1], FA, rtol=1e-6)


@pytest.mark.parametrize("measure", ["count", "streamline_count", "SIFT2", "mean_length", "FA", "n_counts"])
def test_a_negative_weight_of_a_measure_that_has_none_is_refused_without_a_transform(
    tmp_path: Path, measure: str
) -> None:
    values = np.maximum(COUNTS.round(), 1)
    values[1, 0, 2] = values[1, 2, 0] = -1
    np.save(tmp_path / "s.npy", values)
    (tmp_path / "rows.tsv").write_text("participant_id\n" + "\n".join(IDS) + "\n")
    how = {"stack": "s.npy", "rows": "rows.tsv", "transform": "none"}
    with pytest.raises(DataError, match=r"sub-2.*never negative; got -1 between a and c.*name it in `measure`"):
        cohort(tmp_path, measure=measure, **how)
    for other in ("r", "covariance", "lengthening_z"):
        assert any("few negative weights" in note for note in cohort(tmp_path, measure=other, **how).notes)
    np.save(tmp_path / "s.npy", COUNTS - 4.5)
    assert not any("few negative" in note for note in cohort(tmp_path, measure="r", **how).notes)


def test_a_measure_outside_its_transform_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", n=COUNTS, r=FA + 1)
    how = {"key": ["n", "r"], "measure": ["count", "r"], "transform": ["log1p", "fisher_z"]}
    with pytest.raises(DataError, match="Fisher's z") as caught:
        cohort(tmp_path, stack="all.npz", rows="p.tsv", **how)
    assert "log1p" not in str(caught.value.problems[0].what)


@pytest.mark.parametrize("diagonal", [True, False])
def test_lower_triangles_as_nilearn_writes_them(tmp_path: Path, diagonal: bool) -> None:
    """Oracle: nilearn's own vectoriser."""
    from nilearn.connectome import sym_matrix_to_vec

    rows = np.stack([sym_matrix_to_vec(matrix, discard_diagonal=not diagonal) for matrix in FA])
    if diagonal:
        rows[:, np.cumsum(np.arange(1, 6)) - 1] *= np.sqrt(2)  # nilearn scales the diagonal
    np.save(tmp_path / "all.npy", rows)
    found = cohort(tmp_path, stack="all.npy", rows="p.tsv", layout="lower")
    np.testing.assert_allclose(found.weights[:, 0], FA, rtol=1e-6)
    for one, row in zip(IDS, rows, strict=True):
        np.save(tmp_path / f"{one}.npy", row)
    np.testing.assert_array_equal(cohort(tmp_path, files="sub-{id}.npy", layout="lower").weights, found.weights)


def test_rows_without_names_are_numbered_where_that_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", COUNTS)
    found = cohort(tmp_path, stack="all.npy", rows="p.tsv", labels="numbered")
    assert found.regions == ("1", "2", "3", "4", "5")
    np.testing.assert_allclose(found.weights[:, 0], COUNTS, rtol=1e-6)
    assert any("numbered" in note for note in found.notes)
    np.savez(tmp_path / "named.npz", w=COUNTS, roi_names=np.array(NAMES))
    assert cohort(tmp_path, stack="named.npz", rows="p.tsv", labels="numbered").regions == NAMES


def test_assumed_orders_are_said_and_named_ones_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", COUNTS)
    assert any("no names" in note for note in cohort(tmp_path, stack="all.npy", rows="p.tsv").notes)
    np.savez(tmp_path / "all.npz", w=COUNTS, regions=np.array(NAMES[::-1]))
    found = cohort(tmp_path, stack="all.npz", rows="p.tsv")
    assert not any("no names" in note for note in found.notes)
    np.testing.assert_allclose(found.weights[:, 0], COUNTS[:, ::-1, ::-1], rtol=1e-6)


def test_ids_in_the_stack_must_not_contradict_the_row_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", w=COUNTS, subjects=np.array(IDS[::-1]))
    with pytest.raises(DataError, match="'subjects'"):
        cohort(tmp_path, stack="all.npz", rows="p.tsv")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"transform": ["log1p", "none"]}, "2 entries for 1 measure:"),
        ({"key": ["a", "b"]}, "2 entries for 1 measure:"),
        ({"labels": "numbered", "atlas": "aal90"}, "means no names"),
        ({"measure": ["a", "b"], "transform": ["fisher_z", "none"], "diagonal": "keep"}, "diagonal"),
        ({"layout": "left"}, "layout"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    spec = {"stack": "all.npy", "rows": "p.tsv", "labels": "labels.tsv", **wrong}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"participants": "p.tsv", "connectomes": spec}))
    with pytest.raises(UsageError, match=said):
        load_settings(tmp_path / "c.yaml", CohortSettings)
