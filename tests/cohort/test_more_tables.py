"""Sessions, phenotype and quality tables are joined by id, with an error if this is impossible."""

from __future__ import annotations

import json

import numpy as np
import pytest

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
    assert "occur twice" in problems[0]
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


def test_merged_headers_of_files_of_single_subjects_are_noted_once(on_disk: OnDisk) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    for i in range(1, 7):
        book = openpyxl.Workbook()
        for row in (["Growth", None], ["head", "weight"], [30 + i, 3000 + i]):
            book.active.append(row)
        book.active.merge_cells("A1:B1")
        book.save(on_disk.folder / f"growth-0{i}.xlsx")
    on_disk.settings["covariates"] = [{"column": "weight", "unit": "g"}]
    cohort = with_tables(on_disk, {"file": "growth-{id}.xlsx"}).read()
    assert cohort.covariates["weight"].tolist() == [3001, 3002, 3003, 3004, 3005, 3006]
    (note,) = (one for one in cohort.notes if "Growth" in one)
    assert note == "growth-01.xlsx: the title 'Growth' (A1:B1) was not read (and so in 5 more files)"


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
    for part in ("no id column", "file not found", "occurs in two tables", "'height'", "'late'"):
        assert part in text, part


def test_a_unit_that_contradicts_the_sidecar_is_refused(on_disk: OnDisk) -> None:
    (on_disk.folder / "participants.json").write_text(json.dumps({"pma": {"Units": "day"}, "ga": {"Units": "week"}}))
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "declared twice" in problems[0]
    (on_disk.folder / "participants.json").write_text(json.dumps({"pma": {"Units": "weeks"}}))
    assert on_disk.read().age_unit == "weeks"


def redcap(on_disk: OnDisk) -> OnDisk:
    """A longitudinal export: birth, scan and follow-up are separate rows in one file."""
    lines = ["record_id,redcap_event_name,redcap_repeat_instrument,ga_birth,scan_pma,bayley_cog"]
    for i in range(1, 7):
        lines += [f"{i},birth_arm_1,,29+{i},,", f"{i},term_arm_1,,,4{i - 1},", f"{i},term_arm_1,mri,,,"]
        lines += [f"{i},month24_arm_1,,,,{80 + i}"]
    (on_disk.folder / "redcap.csv").write_text("\n".join(lines) + "\n")
    on_disk.matrices = {}
    on_disk.settings = {
        "participants": "redcap.csv",
        "id": "record_id",
        "age": {"column": "scan_pma", "unit": "weeks", "reference": "postmenstrual"},
        "covariates": [{"column": "ga_birth", "unit": "weeks", "available_at": "birth"}],
        "outcomes": [{"name": "cog", "column": "bayley_cog", "kind": "regression", "edition": "Bayley-III"}],
    }
    return on_disk


def test_events_of_one_export_are_joined_as_the_error_says(on_disk: OnDisk) -> None:
    problems = redcap(on_disk).problems()
    assert len(problems) == 1
    assert "select: \"redcap_event_name == 'birth_arm_1'\"" in problems[0]
    assert "month24_arm_1" in problems[0]
    on_disk.settings["select"] = "redcap_event_name == 'birth_arm_1'"
    on_disk.settings["tables"] = [{"file": "redcap.csv", "select": "redcap_event_name == 'term_arm_1'"}]
    assert "add and redcap_repeat_instrument == ''." in on_disk.problems()[0]
    on_disk.settings["select"] = "redcap_event_name == 'birth_arm_1'"
    term = "redcap_event_name == 'term_arm_1' and redcap_repeat_instrument == ''"
    on_disk.settings["tables"] = [
        {"file": "redcap.csv", "select": term, "columns": ["scan_pma"]},
        {"file": "redcap.csv", "select": "redcap_event_name == 'month24_arm_1'", "columns": ["bayley_cog"]},
    ]
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.age, [40, 41, 42, 43, 44, 45])
    np.testing.assert_array_equal(cohort.targets["cog"], [81, 82, 83, 84, 85, 86])
    np.testing.assert_allclose(cohort.covariates["ga_birth"], 29 + np.arange(1, 7) / 7)
    assert [step.n_left for step in cohort.flow] == [24, 6]


def test_events_of_an_export_of_labels_are_found_by_the_name_of_their_column(on_disk: OnDisk) -> None:
    redcap(on_disk)
    file = on_disk.folder / "redcap.csv"
    file.write_text(file.read_text().replace("redcap_event_name", "Event Name").replace("birth_arm_1", "Birth (Arm 1)"))
    (said,) = on_disk.problems()
    keep = "`Event Name` == 'Birth (Arm 1)'"
    assert f'select: "{keep}"' in said
    on_disk.settings["select"] = keep
    on_disk.settings["tables"] = [
        {"file": "redcap.csv", "select": "`Event Name` == 'month24_arm_1'", "columns": ["bayley_cog"]},
        {
            "file": "redcap.csv",
            "select": "`Event Name` == 'term_arm_1' and redcap_repeat_instrument == ''",
            "columns": ["scan_pma"],
        },
    ]
    np.testing.assert_array_equal(on_disk.read().targets["cog"], [81, 82, 83, 84, 85, 86])


def test_a_column_of_two_tables_fills_gaps_and_never_overwrites(on_disk: OnDisk) -> None:
    (on_disk.folder / "more.tsv").write_text("participant_id\tcog\nsub-01\t101\nsub-04\t90\n")
    on_disk.table["cog_status"][3] = ""
    cohort = with_tables(on_disk, {"file": "more.tsv", "columns": ["cog"]}).read()
    np.testing.assert_array_equal(cohort.scores["cog"], [101, 84, 77, 90, np.nan, 95])
    (on_disk.folder / "more.tsv").write_text("participant_id\tcog\nsub-01\t99\n")
    assert "occurs in two tables" in on_disk.problems()[0]


def test_ids_of_a_further_table_in_another_spelling_or_of_nobody_are_refused(on_disk: OnDisk) -> None:
    on_disk.settings["covariates"] = [{"column": "steroids", "type": "categorical"}]
    for ids, said in (
        (["SUB-01", "sub-2"], "written differently"),
        (["sub-\u041e1", "sub_02"], "cyrillic capital letter o"),
        (["A1", "B2"], "no subject of the participants"),
    ):
        rows = "".join(f"{one}\tyes\n" for one in ids)
        (on_disk.folder / "more.tsv").write_text("participant_id\tsteroids\n" + rows)
        problems = with_tables(on_disk, {"file": "more.tsv"}).problems()
        assert len(problems) == 1
        assert said in problems[0]
