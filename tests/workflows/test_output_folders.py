"""Output folders: files of others are neither replaced nor mixed with results."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectome_tl.cli.entry import answer
from connectome_tl.errors import OutputError, UsageError
from connectome_tl.workflows.folder import claim, refuse_not_begun, refuse_others
from connectome_tl.workflows.release.predict import predict_cohort
from connectome_tl.workflows.release.validate import validate_on
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.tune import tune_study

STUDY = "# my comment\ntarget: {cohort: cohort.yaml, tasks: [x]}\n"


@pytest.mark.parametrize("call", [run_study, tune_study])
def test_a_study_beside_its_own_settings_does_not_replace_them(call: object, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY + "splits: {inner: 3}\ntune: {space: {core.clip: {low: 1, high: 2}}}\n")
    (tmp_path / "cohort.yaml").write_text("name: a\nparticipants: p.tsv\n")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"other files.*cohort\.yaml, study\.yaml.*empty folder"):
        call(tmp_path / "study.yaml", tmp_path)  # type: ignore[operator]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_folder_is_free_if_it_is_new_empty_or_was_begun(tmp_path: Path) -> None:
    refuse_not_begun(tmp_path / "new")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "log").mkdir()  # of a batch system
    with claim(tmp_path):
        pass
    (tmp_path / "notes.txt").touch()  # added by its owner
    with claim(tmp_path):
        pass
    assert not (tmp_path / "new").exists()
    assert {".DS_Store", "log", "notes.txt"} <= {path.name for path in tmp_path.iterdir()}


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(OutputError, match="not an output folder: Not a directory"):
        refuse_others(tmp_path / "x")


def test_a_demo_needs_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_table.csv").touch()
    with pytest.raises(SystemExit) as left:
        answer(["demo", "--out", str(tmp_path)])
    assert left.value.code == 64
    assert "other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["my_table.csv"]


@pytest.mark.parametrize("place", [".", "sub", "../bundle/new.tsv"])
def test_nothing_is_written_into_a_bundle(place: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for call in (predict_cohort, validate_on):
        with pytest.raises(UsageError, match="in the folder of the bundle"):
            call(bundle, tmp_path / "cohort.yaml", bundle / place)
    assert not list(bundle.iterdir())


def test_a_validation_leaves_other_results_alone(tmp_path: Path) -> None:
    (tmp_path / "scores.tsv").touch()
    (tmp_path / "predictions.tsv").touch()  # as in the folder of a run
    with pytest.raises(UsageError, match=r"other files.*predictions\.tsv"):
        validate_on(tmp_path / "bundle", tmp_path / "cohort.yaml", tmp_path)
