"""Patterns of files in folders with wildcards in their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectome_tl.cohort.arrays.files import found_files
from connectome_tl.cohort.findings import Findings


def files_of(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_called_like_the_pattern_does_not_hide_the_subjects(tmp_path: Path) -> None:
    files_of(tmp_path, "{id}/relmat.csv", "sub-01/relmat.csv", "sub-02/relmat.csv")
    found = found_files("sub-{id}/relmat.csv", tmp_path, Findings())
    assert sorted(found) == ["01", "02"]
    # The folder of a template is another match, and the id is still found.
    assert sorted(found_files("{id}/relmat.csv", tmp_path, Findings())) == ["sub-01", "sub-02", "{id}"]


def test_a_folder_with_wildcards_before_the_id_is_that_folder(tmp_path: Path) -> None:
    files_of(tmp_path, "scans {id} *new*/a.csv", "scans x new/b.csv")
    assert sorted(found_files("scans {id} *new*/{id}.csv", tmp_path, Findings())) == ["a"]


@pytest.mark.parametrize(
    "pattern",
    ["**/sub-{id}_conn.csv", "out/**/sub-{id}_conn.csv", "out/sub-{id}/**/sub-{id}_conn.csv", "**/dwi/**/sub-{id}_*"],
)
def test_two_stars_are_any_number_of_folders(tmp_path: Path, pattern: str) -> None:
    files_of(tmp_path, "out/sub-01/ses-1/dwi/sub-01_conn.csv", "out/sub-02/dwi/sub-02_conn.csv", "out/sub-02/readme")
    assert sorted(found_files(pattern, tmp_path, Findings())) == ["01", "02"]


def test_two_stars_within_a_name_are_one(tmp_path: Path) -> None:
    files_of(tmp_path, "01_x_conn.csv", "deep/02_conn.csv")
    assert sorted(found_files("{id}_**conn.csv", tmp_path, Findings())) == ["01"]


def test_hidden_files_and_marks_of_open_documents_are_no_matrices(tmp_path: Path) -> None:
    files_of(tmp_path, "01_conn.csv", "._02_conn.csv", "~$03_conn.csv")
    assert sorted(found_files("{id}_conn.csv", tmp_path, Findings())) == ["01"]
