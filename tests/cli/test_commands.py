"""The command line: fast help, torch only where needed, one message and one exit code per error."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from connectome_tl import __version__

from .study_on_disk import Command

HEAVY = ("torch", "torch_geometric", "nilearn", "dipy", "matplotlib", "sklearn", "pandas", "scipy")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_answers_within_a_second_of_cpu_time_and_loads_nothing_heavy() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys\nfrom connectome_tl.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as left:\n"
    code += f"    print(left.code, [m for m in {HEAVY} if m in sys.modules])"
    said = python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.splitlines()[-1] == "0 []"
    assert "research" in said
    for name in ("demo", "init", "run", "report", "cohort"):
        assert name in said
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, connectome_tl as c\nassert c.__version__\nfrom connectome_tl import read_cohort, simulate_study\n"
    )
    code += "import connectome_tl.report.render, connectome_tl.config, connectome_tl.workflows.data.cohort\n"
    assert python(code + "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'monai')])").strip() == "[]"


def test_every_name_of_the_package_can_be_had() -> None:
    import connectome_tl

    for name in connectome_tl.__all__:
        assert getattr(connectome_tl, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = connectome_tl.nothing_such


def test_the_version_is_said(command: Command) -> None:
    answer = command("--version")
    assert (answer.code, answer.out.strip()) == (0, f"connectome-tl {__version__}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "study.yaml"),
        ("nonsense",),
        ("run", "study.yaml", "--out", "x", "--nonsense"),
        ("demo", "--seed", "many"),
        (),
    ],
)
def test_wrong_arguments_are_wrong_usage(command: Command, arguments: tuple[str, ...]) -> None:
    answer = command(*arguments)
    assert answer.code == 64
    assert "Traceback" not in answer.out + answer.err


@pytest.mark.parametrize(
    "arguments", [("run", "absent.yaml", "--out", "out"), ("cohort", "absent.yaml"), ("report", ".")]
)
def test_what_is_not_there_is_missing_input(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            arguments: tuple[str, ...]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    answer = command(*arguments)
    assert answer.code == 66
    assert answer.err.startswith("Error: file ")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_says_so_and_shows_a_traceback_only_on_request(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from connectome_tl.workflows.init import examples

    def broken(folder: Path) -> list[Path]:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(examples, "write_examples", broken)
    answer = command("init", tmp_path)
    assert answer.code == 70
    assert "This is a bug" in answer.err
    assert "Traceback" not in answer.err
    from connectome_tl import cli

    with pytest.raises(ZeroDivisionError):
        cli.main(["--debug", "init", str(tmp_path)])


def test_init_writes_examples_that_are_settings_and_never_overwrites(command: Command, tmp_path: Path) -> None:
    from connectome_tl.config import load_settings
    from connectome_tl.settings.cohort import CohortSettings
    from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
    from connectome_tl.settings.study import StudySettings

    assert command("init", tmp_path).code == 0
    load_settings(tmp_path / "connectomes.yaml", ConnectomesSettings)
    load_settings(tmp_path / "morphometry.yaml", MorphometrySettings)
    study = load_settings(tmp_path / "study.yaml", StudySettings)
    assert study.source is not None
    assert study.pool is not None
    for use in (study.source, study.pool, study.target):
        load_settings(tmp_path / use.cohort, CohortSettings)
    for key in ("select:", "labels:", "key:", "family: [", "zero_rows:", "layout:"):
        assert key in (tmp_path / "cohort.yaml").read_text(), key
    (tmp_path / "cohort.yaml").write_text("mine")
    (tmp_path / "study.yaml").unlink()
    assert command("init", tmp_path).code == 74
    assert (tmp_path / "cohort.yaml").read_text() == "mine"
    assert not (tmp_path / "study.yaml").exists()


def test_a_cohort_is_described(command: Command, study: Path) -> None:
    answer = command("cohort", study.parent / "target" / "cohort.yaml")
    assert answer.code == 0
    assert "20" in answer.out


def test_without_torch_the_extra_is_named(study: Path, tmp_path: Path) -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom connectome_tl.cli import main\n"
    code += f"main(['run', {str(study)!r}, '--out', {str(tmp_path / 'run')!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 66, done.stderr
    assert "pip install 'connectome-tl[learn]'" in done.stderr
    assert "Traceback" not in done.stderr
