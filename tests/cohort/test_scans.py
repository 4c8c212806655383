"""Rows that are scans: scans of a child stay together with those of its twin; formats of dHCP and REDCap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cohort.people import people_of
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.settings.study import SplitSettings

from .conftest import OnDisk, symmetric


def two_scans(on_disk: OnDisk) -> OnDisk:
    """Two scans of the first child (dHCP's session without `ses-`), one of the others; the second is a twin of it."""
    on_disk.table["participant_id"] = ["CC01", "CC01", "CC02", "CC03", "CC04", "CC05"]
    on_disk.table["session_id"] = ["100", "200", "300", "400", "500", "600"]
    on_disk.table["family"] = ["", "twins", "twins", "", "", ""]
    on_disk.table["family"][0] = ""
    on_disk.settings["id"] = ["participant_id", "session_id"]
    on_disk.settings["connectomes"]["files"] = "sub-{id}.tsv"
    pairs = zip(on_disk.table["participant_id"], on_disk.table["session_id"], strict=True)
    on_disk.matrices = {f"sub-{p}_ses-{s}": symmetric(90, i) for i, (p, s) in enumerate(pairs)}
    return on_disk


def test_scans_of_one_child_and_its_twin_are_one_group(on_disk: OnDisk) -> None:
    cohort = two_scans(on_disk).read()
    assert cohort.ids[:2] == ("CC01_ses-100", "CC01_ses-200")
    assert cohort.family[0] == cohort.family[1] == cohort.family[2] != ""
    assert len(set(cohort.family)) == 4
    first = symmetric(90, 1)
    np.testing.assert_allclose(cohort.weights[1, 0], np.log1p(first).astype(np.float32), rtol=1e-6)


def test_a_cohort_of_scans_is_written_and_read_again(on_disk: OnDisk, tmp_path: Path) -> None:
    cohort = two_scans(on_disk).read()
    again = read_cohort(write_cohort(cohort, tmp_path / "again"))
    assert (again.ids, again.children) == (cohort.ids, cohort.children)
    assert again.family.tolist() == cohort.family.tolist()
    np.testing.assert_array_equal(again.weights, cohort.weights)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"keep": "first"}, "CC01_ses-100"),
        ({"keep": "last"}, "CC01_ses-200"),
        ({"keep": "nearest", "age": 38.0}, "CC01_ses-100"),
        ({"keep": "nearest", "age": 41.0}, "CC01_ses-200"),
    ],
)
def test_one_scan_of_each_subject_is_kept_by_its_age(on_disk: OnDisk, rule: dict, kept: str) -> None:
    on_disk = two_scans(on_disk)
    on_disk.table["pma"] = ["38.2", "40.9", "40.0", "40.0", "40.0", "40.0"]
    on_disk.settings["age"] = {"column": "pma", "unit": "weeks", "reference": "postmenstrual"}
    on_disk.settings["one_scan"] = rule
    cohort = on_disk.read()
    assert cohort.ids == (kept, "CC02_ses-300", "CC03_ses-400", "CC04_ses-500", "CC05_ses-600")
    assert (cohort.flow[-1].label, cohort.flow[-1].n_excluded) == ("one scan per subject", 1)
    assert people_of(cohort).text == "5 infants"


def test_one_scan_needs_the_ages_of_scans_and_an_age_to_be_near_to(on_disk: OnDisk) -> None:
    on_disk = two_scans(on_disk)
    on_disk.table["pma"] = ["n/a", "40.9", "40.0", "40.0", "40.0", "40.0"]
    on_disk.settings["age"] = {"column": "pma", "unit": "weeks", "reference": "postmenstrual"}
    on_disk.settings["one_scan"] = {"keep": "first"}
    with pytest.raises(DataError, match="1 scan has no age"):
        on_disk.read()
    on_disk.settings["one_scan"] = {"keep": "nearest"}
    with pytest.raises(UsageError, match="goes with an age"):
        on_disk.read()


def test_few_labels_tests_every_scan_of_every_other_family(on_disk: OnDisk) -> None:
    on_disk = two_scans(on_disk)
    cohort = on_disk.read()
    for repeat in make_split_plan(
        cohort, SplitSettings(scheme="few_labels", n_labelled=2, outer=2, repeats=5, stratum="")
    ).repeats:
        labelled = set(repeat[0].train)
        families = {str(f) for f, i in zip(cohort.family, cohort.ids, strict=True) if f and i in labelled}
        others = {i for f, i in zip(cohort.family, cohort.ids, strict=True) if i not in labelled and f not in families}
        assert {i for fold in repeat for i in fold.test} == others


def test_further_tables_are_joined_by_scan_or_by_child(on_disk: OnDisk) -> None:
    on_disk = two_scans(on_disk)
    rows = zip(on_disk.table["participant_id"], on_disk.table["session_id"], strict=True)
    sessions = "".join(f"{child}\t{scan}\t{int(scan) / 10}\n" for child, scan in rows)
    (on_disk.folder / "sessions.tsv").write_text("participant_id\tsession_id\thead\n" + sessions)
    births = "".join(f"sub-CC0{i}\t{i}\n" for i in range(1, 6))
    (on_disk.folder / "births.tsv").write_text("participant_id\tbirth_order\n" + births)
    on_disk.settings["tables"] = [{"file": "sessions.tsv"}, {"file": "births.tsv"}]
    on_disk.settings["covariates"] = [{"column": "head", "unit": "cm"}, {"column": "birth_order"}]
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.covariates["head"], [10, 20, 30, 40, 50, 60])
    np.testing.assert_array_equal(cohort.covariates["birth_order"], [1, 1, 2, 3, 4, 5])


def test_a_scan_without_its_session_and_one_that_stands_twice_are_named(on_disk: OnDisk) -> None:
    on_disk = two_scans(on_disk)
    on_disk.table["session_id"][3] = "n/a"
    on_disk.table["session_id"][1] = "100"
    problems = on_disk.problems()
    assert any("row 4 has no subject id" in problem for problem in problems)
    assert any("CC01_ses-100" in problem and "the subject id occurs twice" in problem for problem in problems)


def test_a_redcap_export_with_events_and_labels(on_disk: OnDisk) -> None:
    """One row per child and event; quoted commas and line breaks; cells of other events are empty."""
    header = "record_id,redcap_event_name,redcap_repeat_instrument,maternal_education,notes,race___1\n"
    rows = "".join(
        f'{i:02d},birth_arm_1,,"College, or more","line one\nline two",1\n{i:02d},two_years_arm_1,,,,\n'
        for i in range(1, 7)
    )
    (on_disk.folder / "redcap.csv").write_bytes(b"\xef\xbb\xbf" + (header + rows).replace("\n", "\r\n").encode())
    on_disk.settings["tables"] = [
        {
            "file": "redcap.csv",
            "select": "redcap_event_name == 'birth_arm_1'",
            "columns": ["maternal_education", "race___1"],
        }
    ]
    on_disk.settings["covariates"] = [{"column": "maternal_education", "type": "categorical"}, {"column": "race___1"}]
    cohort = on_disk.read()
    assert set(cohort.covariates["maternal_education"]) == {"College, or more"}
    assert cohort.covariates["race___1"].tolist() == [1.0] * 6


def test_a_redcap_export_may_be_the_participants_table(on_disk: OnDisk) -> None:
    on_disk.table["record_id"] = on_disk.table.pop("participant_id")
    on_disk.table["redcap_event_name"] = ["birth_arm_1"] * 6
    for column in on_disk.table.values():
        column.append(column[0])
    on_disk.table["redcap_event_name"][6] = "two_years_arm_1"
    on_disk.settings |= {"id": "record_id", "select": "redcap_event_name == 'birth_arm_1'"}
    assert on_disk.read().n_subjects == 6


@pytest.mark.parametrize("layout", ["one file per child", "one file for all"])
def test_a_bids_sessions_table_gives_each_scan_a_row(on_disk: OnDisk, layout: str) -> None:
    """participants.tsv has a row per child; its scans, their ages and head sizes are in sessions.tsv."""
    on_disk.table = {name: cells[:3] for name, cells in on_disk.table.items() if name not in ("pma", "participant_id")}
    on_disk.table = {"participant_id": ["sub-CC01", "sub-CC02", "sub-CC03"], **on_disk.table}
    on_disk.table["family"] = ["", "", ""]
    on_disk.settings["id"] = ["participant_id", "session_id"]
    scans = [("CC01", "ses-1", 34.5), ("CC01", "ses-2", 41.0), ("CC02", "ses-1", 40.0), ("CC03", "ses-7", 42.0)]
    if layout == "one file per child":
        for child in ("CC01", "CC02", "CC03"):
            (on_disk.folder / f"sub-{child}").mkdir()
            rows = "".join(f"{scan[4:] if child == 'CC02' else scan}\t{age}\n" for c, scan, age in scans if c == child)
            (on_disk.folder / f"sub-{child}" / f"sub-{child}_sessions.tsv").write_text("session_id\tpma\n" + rows)
        on_disk.settings["tables"] = [{"file": "sub-{id}/sub-{id}_sessions.tsv"}]
    else:
        rows = "".join(f"sub-{child}\t{scan}\t{age}\n" for child, scan, age in scans)
        (on_disk.folder / "sessions.tsv").write_text("participant_id\tsession_id\tpma\n" + rows)
        on_disk.settings["tables"] = [{"file": "sessions.tsv"}]
    on_disk.matrices = {f"sub-{child}_{scan}": symmetric(90, i) for i, (child, scan, _) in enumerate(scans)}
    cohort = on_disk.read()
    assert cohort.ids == tuple(f"sub-{child}_{scan}" for child, scan, _ in scans)
    np.testing.assert_array_equal(cohort.age, [34.5, 41.0, 40.0, 42.0])
    assert cohort.family[0] == cohort.family[1] != cohort.family[2]
    assert cohort.targets["cognitive"].tolist() == [0, 0, 1, 1]


def test_dhcps_gender_is_sex(on_disk: OnDisk) -> None:
    on_disk.table["gender"] = on_disk.table.pop("sex")
    cohort = on_disk.read()
    assert cohort.covariates["sex"].fillna("").tolist() == ["F", "M", "M", "F", "F", ""]
    assert "sex: read from the column gender" in cohort.notes
