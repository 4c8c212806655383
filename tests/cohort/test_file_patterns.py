"""Patterns of files in folders with wildcards in their names."""

from __future__ import annotations

from pathlib import Path

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
