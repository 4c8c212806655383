"""A run whose report fails keeps its numbers, goes on in another place, and returns at once when finished."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_study import last_stage, small_cohorts, small_settings

import connectome_tl
from connectome_tl import extend, extension_code, run_study
from connectome_tl.atlas import atlas_folders
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings, parse_settings
from connectome_tl.connectome.formats import table as formats
from connectome_tl.settings.study import SplitSettings, StudySettings
from connectome_tl.workflows.study import finished as finished_module
from connectome_tl.workflows.study import judge as judge_module
from connectome_tl.workflows.study.finished import is_finished
from connectome_tl.workflows.study.report import draw_report

pytestmark = pytest.mark.slow

NUMBERS = ("predictions.tsv", "predictions.json", "scores.json", "scores.tsv", "comparisons.tsv")
AGAIN = """
import json, sys, time
import connectome_tl
from connectome_tl import extend, extension, run_study
start = time.process_time()
run = run_study("study.yaml", "out")
cpu_seconds = time.process_time() - start
print(json.dumps([cpu_seconds, "torch" in sys.modules, len(run.scores)]))
"""


@pytest.fixture(scope="module", autouse=True)
def tables() -> Iterator[None]:
    """The variable that leads to the table of the cohort."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TABLES", ".")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 200 subjects without earlier stages."""
    place = tmp_path_factory.mktemp("begun") / "here"
    write_cohort(small_cohorts(n_target=200).target, place / "target")
    cohort = place / "target" / "cohort.yaml"
    cohort.write_text(cohort.read_text().replace("participants: ", "participants: ${TABLES}/"))
    settings = small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(small_settings(steps=1).stages.finetune),
        splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"),
        controls=(),
        baselines=("prevalence",),
        refits={"linear": 0},
    )
    (place / "study.yaml").write_text(dump_settings(settings))
    return place


@contextmanager
def failing() -> Iterator[None]:
    """No sentence can be composed."""

    def fail(*_: object) -> str:
        raise ArithmeticError("no sentence")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judge_module, "methods_paragraph", fail)
        yield


@pytest.fixture(scope="module")
def begun(home: Path) -> Path:
    """The same with a run that stopped when its sentences were composed."""
    with failing(), pytest.raises(ArithmeticError, match="no sentence"):
        run_study(home / "study.yaml", home / "out")
    return home


def _again(place: Path) -> tuple[float, bool, int]:
    code = [sys.executable, "-c", AGAIN]
    done = subprocess.run(code, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cpu_seconds, has_torch, n_scores = json.loads(done.stdout)
    return cpu_seconds, has_torch, n_scores


def _numbers(place: Path) -> dict[str, bytes]:
    return {name: (place / "out" / name).read_bytes() for name in NUMBERS}


def _fits(place: Path) -> dict[str, int]:
    """Times at which fits were written."""
    models = place / "out" / "models"
    return {str(path.relative_to(models)): path.stat().st_mtime_ns for path in models.rglob("*.safetensors")}


def test_predictions_and_scores_are_on_disk_before_any_sentence_is_composed(begun: Path) -> None:
    out = begun / "out"
    assert all((out / name).is_file() for name in NUMBERS)
    assert json.loads((out / "scores.json").read_text())
    assert not (out / "results.json").exists()
    assert not (out / "report.html").exists()


@pytest.fixture(scope="module")
def moved(begun: Path) -> tuple[Path, dict[str, bytes], dict[str, int]]:
    """The stopped run in another place, and its numbers and times of its fits before."""
    before, fits = _numbers(begun), _fits(begun)
    there = begun.parent / "there"
    shutil.move(begun, there)
    return there, before, fits


def test_a_moved_run_goes_on_and_when_finished_returns_at_once_without_torch(
    moved: tuple[Path, dict[str, bytes], dict[str, int]],
) -> None:
    there, before, fits = moved
    *_, n_scores = _again(there)
    assert before
    assert _numbers(there) == before
    assert fits
    assert _fits(there) == fits
    assert (there / "out" / "report.html").is_file()
    cpu_seconds, has_torch, again = _again(there)
    assert not has_torch
    assert cpu_seconds < 2.0
    assert again == n_scores > 0


def test_new_scores_never_lie_beside_the_sentences_of_an_earlier_run(
    moved: tuple[Path, dict[str, bytes], dict[str, int]],
) -> None:
    there, *_ = moved
    _again(there)
    said = [there / "out" / name for name in ("results.json", "report.html", "provenance.json", "log/finished.json")]
    assert all(path.is_file() for path in said)
    said.append(there / "out" / "calibrated.tsv")  # of earlier settings
    said[-1].write_text("")
    with failing(), pytest.raises(ArithmeticError, match="no sentence"):
        run_study(there / "study.yaml", there / "out", check=True)
    assert not any(path.exists() for path in said)
    assert (there / "out" / "scores.json").is_file()


def _is_finished(place: Path) -> bool:
    noted = json.loads((place / "out" / "log" / "finished.json").read_text())["settings"]
    return is_finished(place / "out", parse_settings(noted, StudySettings))


def _add_line(file: str) -> Callable[[Path, pytest.MonkeyPatch], object]:
    def change(place: Path, _: pytest.MonkeyPatch) -> object:
        (found,) = sorted(place.glob(file))[:1]
        return found.write_text(found.read_text() + "\n")

    return change


def _extend(_: Path, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(formats, "FORMATS", list(formats.FORMATS))
    patched.setattr(extension_code, "_REGISTERED", {})
    extend(importer=next(one for one in formats.FORMATS if one.name == "npz"))


def _other_version(_: Path, patched: pytest.MonkeyPatch) -> None:
    before = finished_module.versions

    def versions(*names: object) -> dict[str, str]:
        return {**before(*names), "monai": "0.0"}  # type: ignore[arg-type]

    patched.setattr(finished_module, "versions", versions)


def _other_atlas(place: Path, patched: pytest.MonkeyPatch) -> None:
    folders = [Path(shutil.copytree(one, place / "atlases")) for one in atlas_folders()]
    table = folders[0] / "unc_aal90" / "regions.tsv"
    table.write_text(table.read_text() + "\n")
    patched.setattr(finished_module, "atlas_folders", lambda: tuple(folders))
    finished_module.package_code.cache_clear()


@pytest.fixture(autouse=True)
def hashed_again() -> Iterator[None]:
    yield
    finished_module.package_code.cache_clear()


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "a table": _add_line("target/participants.tsv"),
    "a dictionary beside the table": lambda place, _: (place / "target" / "participants.json").write_text("{}"),
    "a matrix more": lambda place, _: shutil.copy(
        sorted((place / "target").rglob("*.npz"))[0],
        sorted((place / "target").rglob("*.npz"))[0].with_name("sub-new.npz"),
    ),
    "a variable": lambda _, patched: patched.setenv("TABLES", "elsewhere"),
    "an extension": _extend,
    "the version of a library": _other_version,
    "an atlas of the package": _other_atlas,
    "a sidecar": _add_line("out/predictions.json"),
    "the record of a fit": _add_line("out/models/*.json"),
    "a fit that was deleted": lambda place, _: sorted(place.glob("out/models/*.json"))[0].unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_copy_of_a_finished_run_is_finished_until_anything_it_looked_at_changes(
    what: str,
    moved: tuple[Path, dict[str, bytes], dict[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, *_ = moved
    if not (there / "out" / "log" / "finished.json").is_file():
        _again(there)
    place = Path(shutil.copytree(there, tmp_path / "copy"))
    assert _is_finished(place)
    CHANGES[what](place, monkeypatch)
    assert not _is_finished(place)
    monkeypatch.undo()
    finished_module.package_code.cache_clear()
    monkeypatch.setenv("TABLES", ".")
    assert _is_finished(there)


@pytest.mark.parametrize("part", ["cohort", "connectome/formats"])
def test_readers_of_cohorts_look_for_optional_files_in_a_way_that_is_traced(part: str) -> None:
    bare = re.compile(r"\.(is_file|exists|r?glob)\(|os\.environ")
    files = sorted((Path(connectome_tl.__file__).parent / part).rglob("*.py"))
    assert files
    assert [file.name for file in files if bare.search(file.read_text())] == []


@pytest.mark.parametrize("edited", [False, True])
def test_a_run_whose_report_is_rendered_again_is_finished_unless_it_was_edited(
    moved: tuple[Path, dict[str, bytes], dict[str, int]], tmp_path: Path, edited: bool
) -> None:
    there, *_ = moved
    if not (there / "out" / "log" / "finished.json").is_file():
        _again(there)
    place = Path(shutil.copytree(there, tmp_path / "copy"))
    page = place / "out" / "report.html"
    if edited:
        page.write_text(page.read_text() + " ")
    draw_report(place / "out")
    assert _is_finished(place) != edited
