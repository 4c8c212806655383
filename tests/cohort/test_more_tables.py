"""Sessions, phenotype and quality tables are joined by id and say when they cannot be."""

from __future__ import annotations

import json

import numpy as np

from .conftest import OnDisk


def with_tables(on_disk: OnDisk, *tables: dict) -> OnDisk:
    on_disk.settings["tables"] = list(tables)
    return on_disk


def test_a_phenotype_table_is_joined_by_id(on_disk: OnDisk) -> None:
    (on_disk.folder / "phenotype.csv").write_text("record_id,mother_age\n02,31\n01,28\n99,50\n04,n/a\n")
    on_disk.settings["covariates"] = [{"column": "mother_age", "unit": "years"}]
    cohort = with_tables(on_disk, {"file": "phenotype.csv"}).read()
    np.testing.assert_array_equal(cohort.covariates["mother_age"], [28, 31, np.nan, np.nan, np.nan, np.nan])
    assert any("nothing on 3 subjects" in note for note in cohort.notes)
    assert "phenotype.csv" in cohort.sources


def test_one_of_several_visits_is_selected(on_disk: OnDisk) -> None:
    rows = [f"sub-0{i}\t{visit}\t{40 * visit + i}" for i in range(1, 7) for visit in (1, 2)]
    (on_disk.folder / "visits.tsv").write_text("participant_id\tvisit\tscan_weeks\n" + "\n".join(rows) + "\n")
    on_disk.settings["covariates"] = [{"column": "scan_weeks", "unit": "weeks"}]
    problems = with_tables(on_disk, {"file": "visits.tsv"}).problems()
    assert len(problems) == 2  # the column that could not be joined is the other
    assert "stand twice" in problems[0]
    assert all(f"0{i}" in problems[0] for i in range(1, 7))
    cohort = with_tables(on_disk, {"file": "visits.tsv", "select": "visit == 1"}).read()
    np.testing.assert_array_equal(cohort.covariates["scan_weeks"], np.arange(41, 47))


def test_quality_of_upstream_tools_is_read_one_file_per_subject(on_disk: OnDisk) -> None:
    """QSIPrep's image_qc, eddy QUAD's json; an exclusion by a motion limit is a step of the flow."""
    for i in range(1, 7):
        folder = on_disk.folder / f"sub-0{i}" / "dwi"
        folder.mkdir(parents=True)
        name = f"sub-0{i}_desc-image_qc.tsv"
        (folder / name).write_text(f"subject_id\tmean_fd\traw_neighbor_corr\n0{i}\t0.{i}\t0.8\n")
        (folder / "qc.json").write_text(json.dumps({"qc_mot_abs": i / 10, "qc_path": "x", "list": [1]}))
    on_disk.settings["select"] = "mean_fd < 0.5"
    on_disk.settings["covariates"] = [{"column": "qc_mot_abs", "unit": "mm", "role": "nuisance"}]
    cohort = with_tables(
        on_disk,
        {"file": "sub-{id}/dwi/sub-{id}_desc-image_qc.tsv", "columns": ["mean_fd"]},
        {"file": "sub-{id}/dwi/qc.json"},
    ).read()
    assert cohort.ids == ("sub-01", "sub-02", "sub-03", "sub-04")
    assert cohort.flow[1].n_excluded == 2
    np.testing.assert_allclose(cohort.covariates["qc_mot_abs"], [0.1, 0.2, 0.3, 0.4])


def test_what_does_not_fit_is_listed_with_everything_else(on_disk: OnDisk) -> None:
    (on_disk.folder / "more.tsv").write_text("who\tsex\nsub-01\tF\n")
    (on_disk.folder / "clash.tsv").write_text("participant_id\tsex\nsub-01\tM\n")
    on_disk.table["pma"][1] = "late"
    problems = with_tables(
        on_disk,
        {"file": "more.tsv"},
        {"file": "none.tsv"},
        {"file": "clash.tsv", "columns": ["sex", "height"]},
    ).problems()
    text = "\n".join(problems)
    for part in ("no id column", "file not found", "stands in two tables", "'height'", "'late'"):
        assert part in text, part


def test_a_unit_that_contradicts_the_sidecar_is_refused(on_disk: OnDisk) -> None:
    (on_disk.folder / "participants.json").write_text(json.dumps({"pma": {"Units": "day"}, "ga": {"Units": "week"}}))
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "declared twice" in problems[0]
    (on_disk.folder / "participants.json").write_text(json.dumps({"pma": {"Units": "weeks"}}))
    assert on_disk.read().age_unit == "weeks"
