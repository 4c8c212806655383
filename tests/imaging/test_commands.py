"""External programs of the user: their words, version and output files, and messages on failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from connectome_tl.errors import DataError, InterruptedRunError, MissingInputError
from connectome_tl.imaging.commands import hook_record, output_of, require_hook, run_hook
from connectome_tl.imaging.read.images import Volume, write_volume
from connectome_tl.settings.hooks import BrainHook, DistortionHook
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings

GRID = Volume(np.ones((4, 5, 6), dtype=np.float32), np.diag([2.0, 2, 2, 1]), "sub-01", "head.nii.gz")


def brain(*words: str, **more: object) -> BrainHook:
    return BrainHook.model_validate({"command": list(words), **more})


def shell(script: str) -> BrainHook:
    return brain("sh", "-c", script)


def run(hook: BrainHook, folder: Path, **values: str) -> None:
    given = {"out": str(folder / "out.nii.gz"), **values}
    run_hook(hook, "brain", given, folder, subject="sub-01", log=folder / "log.txt")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"command": ["tool", "{dwi}"]}, r"\{dwi\} is not known here; there are \{image\}"),
        ({"command": ["tool", "{image"]}, "an unclosed brace"),
        ({"command": ["tool", "{image:>9}"]}, r"\{image\} is put in as it is"),
        ({"command": []}, "at least 1"),
        ({"command": [["tool"], []]}, "an empty command"),
        ({"command": ["tool"], "outputs": {"labels": "x.nii.gz"}}, "outputs are some of mask"),
        ({"command": ["tool"], "outputs": {"mask": "../x.nii.gz"}}, "must be in the folder"),
        ({"command": ["tool"], "outputs": {"mask": "/x.nii.gz"}}, "must be in the folder"),
    ],
)
def test_words_that_mean_nothing_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BrainHook.model_validate(given)


def test_one_command_or_several_and_structural_scans_have_no_hook_for_distortion() -> None:
    one = {"hooks": {"distortion": {"command": ["eddy", "{dwi}", "{out}"]}}}
    found = ConnectomesSettings.model_validate(one).hooks.distortion
    assert found == DistortionHook(command=(("eddy", "{dwi}", "{out}"),))
    two = DistortionHook.model_validate({"command": [["topup", "{b0s}"], ["eddy", "{{x}}"]]})
    assert two.used == {"b0s"}
    with pytest.raises(ValidationError, match="distortion"):
        MorphometrySettings.model_validate(one)


def test_paths_reach_the_program_as_they_are_and_no_shell_reads_them(tmp_path: Path) -> None:
    strange = tmp_path / "a b; $(touch x) '.txt"
    strange.write_text("voxels")
    run(brain("cp", "{image}", "{out}"), tmp_path, image=str(strange))
    assert (tmp_path / "out.nii.gz").read_text() == "voxels"
    assert str(strange) in (tmp_path / "log.txt").read_text()


def test_a_failure_is_one_error_with_the_last_lines_that_were_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(shell("for i in $(seq 99); do echo line $i >&2; done; exit 3"), tmp_path)
    text = str(caught.value)
    assert "subject sub-01: hooks.brain (sh) failed (exit code 3)" in text
    assert "line 88 | " in text
    assert "line 87 " not in text
    with pytest.raises(InterruptedRunError, match="killed"):
        run(shell("kill -9 $$"), tmp_path)
    with pytest.raises(MissingInputError, match=r"requires \{image\}, which this scan does not have"):
        run(brain("cp", "{image}", "{out}"), tmp_path)


def test_a_program_that_is_not_there_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no-such-tool"):
        require_hook(brain("no-such-tool", "{image}"), "brain", tmp_path)
    own = tmp_path / "own.sh"
    own.write_text("#!/bin/sh\necho 1.2\n")
    hook = brain("{config}/own.sh", "{image}", version=["{config}/own.sh"])
    with pytest.raises(MissingInputError, match=r"own\.sh"):  # not executable
        require_hook(hook, "brain", tmp_path)
    own.chmod(0o755)
    require_hook(hook, "brain", tmp_path)


def test_the_record_holds_the_version_and_changes_with_words_and_files(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_text("a")
    said = ["echo", "tool 1.2"]

    def record(*words: str) -> str:
        return hook_record(brain(*words, version=said), "brain", tmp_path)

    first = record("cp", "{config}/weights.bin", "{out}")
    assert first.startswith("tool 1.2 (")
    assert record("cp", "{config}/weights.bin", "{out}") == first
    assert record("cp", "-f", "{config}/weights.bin", "{out}") != first
    weights.write_text("other")
    assert record("cp", "{config}/weights.bin", "{out}") != first
    option = ["sh", "-c", "tool --weights={config}/weights.bin '{out}'"]  # the file name is a part of a word
    before = record(*option)
    weights.write_text("changed")
    assert record(*option) != before
    with pytest.raises(DataError, match=r"hooks\.brain\.version"):
        hook_record(brain("cp", version=["false"]), "brain", tmp_path)


def test_what_a_program_leaves_is_checked(tmp_path: Path) -> None:
    hook, file = brain("cp"), tmp_path / "out.nii.gz"

    def left() -> Volume:
        return output_of(hook, "brain", "mask", tmp_path, GRID)[0]

    (tmp_path / "mask_of_tool.nii.gz").write_text("elsewhere")
    with pytest.raises(DataError, match=r"its output mask; expected out.nii.gz; got mask_of_tool.nii.gz"):
        left()
    file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"hooks\.brain: out.nii.gz"):
        left()
    for data, affine, message in (
        (np.ones((4, 5, 7)), GRID.affine, "same grid"),
        (np.ones((4, 5, 6)), np.diag([2.0, 2, 2.1, 1]), "same grid"),
        (np.full((4, 5, 6), np.nan), GRID.affine, "not finite"),
    ):
        write_volume(file, data.astype(np.float32), affine)
        with pytest.raises(DataError, match=message):
            left()
    write_volume(file, np.ones((4, 5, 6), dtype=np.float32), GRID.affine)
    assert left().data.all()
