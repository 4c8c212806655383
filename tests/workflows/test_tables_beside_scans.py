"""Values of scans in tables belong to the right session and the declared unit; ambiguous ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.inputs import take_inventory
from connectome_tl.settings.columns import AgeColumn
from connectome_tl.workflows.scans.age import read_ages
from connectome_tl.workflows.scans.cohort import said_of_subjects

WEEKS = AgeColumn(column="age", unit="weeks", reference="postmenstrual")


def lay(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for subject, sessions in (("sub-01", ("ses-a", "ses-b")), ("sub-02", ("ses-a",))):
        for session in sessions:
            lay(tmp_path, f"{subject}/{session}/anat/{subject}_{session}_T2w.nii.gz")
    return tmp_path


def ages(root: Path, column: AgeColumn | None = WEEKS) -> dict[str, float]:
    return dict(read_ages(take_inventory(root, diffusion=False), column).values)


def test_rows_of_participants_with_a_session_are_that_sessions(root: Path) -> None:
    lay(root, "participants.tsv", "participant_id\tsession_id\tage\nsub-01\ta\t30\n01\tses-b\t40\nsub-02\tses-a\t35\n")
    assert ages(root) == {"sub-01_ses-a": 30.0, "sub-01_ses-b": 40.0, "sub-02_ses-a": 35.0}


@pytest.mark.parametrize("place", ["participants", "sub-02/sub-02_sessions", "sessions"])
def test_a_unit_that_the_dictionary_contradicts_is_refused(root: Path, place: str) -> None:
    if place == "participants":
        lay(root, "participants.tsv", "participant_id\tage\nsub-02\t35\n")
    else:
        lay(root, "sub-02/sub-02_sessions.tsv", "session_id\tage\nses-a\t35\n")
    assert ages(root) == {"sub-02_ses-a": 35.0}
    lay(root, f"{place}.json", '{"age": {"Units": "week"}}')
    assert ages(root) == {"sub-02_ses-a": 35.0}
    lay(root, f"{place}.json", '\ufeff{"age": {"Units": "days"}}')
    with pytest.raises(DataError, match="unit of 'age' is declared twice; expected days; got weeks"):
        ages(root)


def test_an_age_in_days_beside_a_column_that_is_taken_undeclared_is_refused(root: Path) -> None:
    lay(root, "sub-02/sub-02_sessions.tsv", "session_id\tscan_age\nses-a\t35\n")
    assert ages(root, None) == {"sub-02_ses-a": 35.0}
    lay(root, "sub-02/sub-02_sessions.json", '{"scan_age": {"Units": "day"}}')
    with pytest.raises(DataError, match="'scan_age' is declared twice"):
        ages(root, None)


def test_two_ages_of_one_scan_are_refused_and_the_remedy_works(root: Path) -> None:
    lay(root, "participants.tsv", "participant_id\tage\nsub-02\t35\nsub-02\t40\n")
    with pytest.raises(
        DataError, match=r"subject sub-02, file .*participants.tsv: two rows give two ages; got 35 and 40"
    ):
        ages(root)
    lay(root, "participants.tsv", "participant_id\tage\tsession_id\nsub-02\t35\tses-a\nsub-02\t40\tses-b\n")
    assert ages(root)["sub-02_ses-a"] == 35.0


def test_cells_that_differ_between_rows_of_a_subject_are_missing(root: Path) -> None:
    lay(root, "participants.tsv", "participant_id\tsex\tsite\nsub-01\tF\tA\nsub-01\tF\tB\n02\tM\tA\n")
    table = said_of_subjects(take_inventory(root, diffusion=False), "x").set_index("subject")
    assert table.loc["sub-x01"].tolist() == ["F", None]
    assert table.loc["sub-x02"].tolist() == ["M", "A"]


def test_own_columns_of_the_names_that_are_written_are_kept(root: Path) -> None:
    lay(root, "participants.tsv", "participant_id\tsession\tsubject\nsub-01\tfirst\tA\nsub-02\tsecond\tB\n")
    table = said_of_subjects(take_inventory(root, diffusion=False), "")
    assert table["session_given"].tolist() == ["first", "second"]
    assert table["subject_given"].tolist() == ["A", "B"]
