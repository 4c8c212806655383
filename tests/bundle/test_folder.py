"""Folders of bundles: what a killed process leaves is replaced, other files are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from connectome_tl.bundle.folder import FILES, MANIFEST, open_folder, write_folder
from connectome_tl.errors import UsageError

CONTENT = {name: f"{name}\n".encode() for name in FILES}


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("last", range(len(FILES) + 1))
def test_a_bundle_that_was_killed_while_it_was_written_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    out = tmp_path / "bundle"
    written: list[Path] = []

    def replace(source: str, target: Path) -> None:
        if len(written) == last:  # after the temporary file was written
            monkeypatch.setattr(os.path, "exists", lambda _: False)  # a killed process removes nothing
            raise _Killed
        written.append(target)
        Path(source).rename(target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(_Killed):
            write_folder(out, CONTENT)
    monkeypatch.undo()
    assert any(path.suffix == ".part" for path in out.rglob("*"))
    write_folder(out, CONTENT)
    open_folder(out)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {*FILES, MANIFEST}


@pytest.mark.parametrize("name", [".notes.abc.part", "configs/.other.json.abc.part", "manifest.json.part", ".a.part"])
def test_other_files_are_not_removed(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(UsageError, match="not empty and is not a bundle"):
        write_folder(tmp_path, CONTENT)
    assert file.read_text() == "mine"
