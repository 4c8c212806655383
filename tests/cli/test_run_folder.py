"""`connectome-tl run`: writes the specified files, with the same bytes every time, also after a kill."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.workflows.study.run import run_study

from .study_on_disk import Command, contents, write_study

pytestmark = pytest.mark.slow

CONTROLS = [
    "full", "core", "network", "scratch", "no_pretrain", "no_adapt", "network_scratch", "network_no_pretrain",
    "network_no_adapt", "core_scratch", "core_permuted_source", "single_task", "no_clinical",
]  # fmt: skip
BASELINES = [
    "clinical_only", "nuisance_only", "ridge", "linear_all", "kernel_ridge", "cpm", "pca_logistic", "linear_svm",
    "linear_transfer", "meta_matching", "prevalence", "site_only",
]  # fmt: skip
COLUMNS = ["subject", "task", "model", "repeat", "fold", "y_true", "y_score", "y_pred"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("data")).parent


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    """An uninterrupted run."""
    out = data / "finished"
    done = subprocess.run(_line(data, out), capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    assert f"Report: {out / 'report.html'}" in done.stdout.replace("\n", "")
    assert "Traceback" not in done.stderr
    return out


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of few models, and its uninterrupted run in `finished`."""
    study = write_study(tmp_path_factory.mktemp("brief"), controls=(), baselines=("prevalence", "ridge"))
    run_study(study, study.parent / "finished")
    return study.parent


def _line(data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "connectome_tl.cli", "run", str(data / "study.yaml"), "--out", str(out), *more]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}


def test_the_folder_holds_what_the_contract_says(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} >= {
        "study.yaml", "split_plan.json", "predictions.tsv", "scores.json", "report.html", "provenance.json", "models",
        "log",
    }  # fmt: skip
    assert not [path for path in finished.rglob("*") if path.name.endswith(".part")]
    for path in finished.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".tsv", ".yaml", ".html") and path.parent.name != "log":
            text = path.read_text("utf-8")
            assert str(finished.parent) not in text, path.name
            assert "NaN" not in text or path.suffix == ".html", path.name


def test_the_split_plan_tests_everyone_once_a_repeat(finished: Path) -> None:
    plan = json.loads((finished / "split_plan.json").read_text())
    assert set(plan) == {"hash", "repeats"}
    assert len(plan["repeats"]) == 2
    for repeat in plan["repeats"]:
        assert [set(fold) for fold in repeat["folds"]] == [{"train", "test", "inner"}] * 2
        tested = [s for fold in repeat["folds"] for s in fold["test"]]
        assert sorted(tested) == [f"target{i:03d}" for i in range(1, 21)]


def test_predictions_are_of_every_model_in_its_fold_and_missing_is_na(finished: Path) -> None:
    text = (finished / "predictions.tsv").read_text()
    assert text.splitlines()[0].split("\t") == COLUMNS
    table = pd.read_csv(finished / "predictions.tsv", sep="\t", na_values="n/a", keep_default_na=False)
    assert list(table["model"].unique()) == [*CONTROLS, *BASELINES]
    assert list(table["task"].unique()) == ["cognitive", "motor_score"]
    assert (table.groupby(["task", "model", "repeat"]).size() == 20).all()
    assert not table.duplicated(["subject", "task", "model", "repeat"]).any()
    folds = {
        (r, s): f
        for r, repeat in enumerate(json.loads((finished / "split_plan.json").read_text())["repeats"])
        for f, fold in enumerate(repeat["folds"])
        for s in fold["test"]
    }
    assert all(folds[r, s] == f for r, s, f in zip(table["repeat"], table["subject"], table["fold"], strict=True))
    assert np.isfinite(table[["y_score", "y_pred"]]).all().all()
    assert table["y_true"].isna().any()
    assert "\tn/a\t" in text
    binary = table[table["task"] == "cognitive"]
    assert binary["y_score"].between(0, 1).all()
    assert (binary["y_pred"] == (binary["y_score"] >= 0.5)).all()
    truth = pd.read_csv(finished.parent / "target" / "participants.tsv", sep="\t", index_col="participant_id")
    scores = table[table["task"] == "motor_score"]
    np.testing.assert_array_equal(scores["y_true"], truth.loc[scores["subject"], "bayley_motor"])


def test_scores_are_a_list_of_records_that_agree_with_the_predictions(finished: Path) -> None:
    from sklearn.metrics import mean_absolute_error, roc_auc_score

    scores = json.loads((finished / "scores.json").read_text())
    keys = {"task", "model", "metric", "value", "low", "high", "n", "n_positive", "method"}
    assert all(keys <= set(score) for score in scores)
    found = {(s["task"], s["model"], s["metric"]): s for s in scores}
    assert {s["model"] for s in scores} == {*CONTROLS, *BASELINES}
    table = pd.read_csv(finished / "predictions.tsv", sep="\t", na_values="n/a").dropna(subset=["y_true"])
    for model in ("full", "ridge"):
        rows = table[(table["model"] == model) & (table["task"] == "cognitive")]
        pairs = good = 0.0
        for _, fold in rows.groupby(["repeat", "fold"]):
            n = (fold["y_true"] == 1).sum() * (fold["y_true"] == 0).sum()
            if n:
                pairs, good = pairs + n, good + n * roc_auc_score(fold["y_true"], fold["y_score"])
        assert found["cognitive", model, "auc"]["value"] == pytest.approx(good / pairs)
        rows = table[(table["model"] == model) & (table["task"] == "motor_score")]
        assert found["motor_score", model, "mae"]["value"] == pytest.approx(
            mean_absolute_error(rows["y_true"], rows["y_pred"])
        )
    assert found["cognitive", "prevalence", "auc"]["value"] == 0.5


def test_the_settings_of_the_folder_run_as_they_lie(data: Path, finished: Path, command: Command) -> None:
    from connectome_tl.config import load_settings
    from connectome_tl.settings.study import StudySettings

    given, kept = (load_settings(folder / "study.yaml", StudySettings) for folder in (data, finished))
    cohorts = {"source": given.source, "pool": given.pool, "target": given.target}
    assert kept.model_copy(update=cohorts) == given
    assert (finished / kept.target.cohort).resolve() == (data / given.target.cohort).resolve()
    before = contents(finished)
    assert command("run", finished / "study.yaml", "--out", finished).code == 0
    assert contents(finished) == before


def test_provenance_and_report_are_whole(finished: Path) -> None:
    provenance = json.loads((finished / "provenance.json").read_text())
    assert provenance["split_plan"] == json.loads((finished / "split_plan.json").read_text())["hash"]
    assert provenance["versions"]["torch"]
    assert set(provenance["inputs"]) == {"target", "source", "pool"}
    html = (finished / "report.html").read_text("utf-8")
    assert "A small study" in html
    assert "research" in html.lower()


def test_a_second_run_in_the_same_folder_changes_no_byte(data: Path, finished: Path, command: Command) -> None:
    before = contents(finished)
    assert command("run", data / "study.yaml", "--out", finished).code == 0
    assert contents(finished) == before
    report = (finished / "report.html").read_bytes()
    (finished / "report.html").unlink()
    assert command("report", finished, "--undated").code == 0
    assert (finished / "report.html").read_bytes() == report


def test_a_run_killed_again_and_again_ends_with_the_same_files(brief: Path, command: Command) -> None:
    # benchmarks/kill.py does it fifty times; here once in each part of a run, with workers and without.
    out = brief / "killed"
    for n_jobs, pattern, n_files in (
        (1, "split_plan.json", 1),
        (2, "models/*.json", 5),
        (1, "models/permuted/*.json", 3),
    ):
        process = subprocess.Popen(
            _line(brief, out, "--set", f"n_jobs={n_jobs}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        _wait_until(lambda p=process, w=pattern, n=n_files: p.poll() is not None or len(list(out.glob(w))) >= n)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        _wait_until(lambda group=process.pid: not _alive(group))  # its workers end with it
        assert not (out / "scores.json").exists()
    (out / "models" / ".fit.json.abc.part").write_text('{"half": ')  # remains of a killed write
    assert command("run", brief / "study.yaml", "--out", out).code == 0
    assert contents(out) == contents(brief / "finished")


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_another_study_in_the_same_folder_is_refused(data: Path, finished: Path, command: Command) -> None:
    before = contents(finished)
    answer = command("run", data / "study.yaml", "--out", finished, "--set", "seed=1")
    assert answer.code == 64
    assert "other settings" in answer.err
    assert contents(finished) == before


def test_another_target_in_the_same_folder_is_refused(data: Path, finished: Path, command: Command) -> None:
    before = contents(finished)
    table = data / "target" / "participants.tsv"
    text = table.read_text()
    try:
        table.write_text(text.replace("target-twins1", "").replace("target-twins2", ""))
        answer = command("run", data / "study.yaml", "--out", finished)
    finally:
        table.write_text(text)
    assert answer.code == 64
    assert "target cohort has changed" in answer.err
    assert contents(finished) == before


def test_the_number_of_processes_changes_no_result(data: Path, finished: Path, command: Command) -> None:
    again = shutil.copytree(finished, data / "again")
    shutil.rmtree(again / "models" / "permuted")
    (again / "log" / "finished.json").unlink()  # else an unchanged run is not made again
    assert command("run", data / "study.yaml", "--out", again, "--set", "n_jobs=2").code == 0
    now, before = contents(again), contents(finished)
    assert now.keys() == before.keys()
    changed = {name for name in now if now[name] != before[name]}
    assert "predictions.tsv" not in changed
    assert "scores.json" not in changed
    assert not [name for name in changed if name.startswith("models/")]


def test_a_second_writer_is_told_so(data: Path, finished: Path, command: Command) -> None:
    with open(finished / "log" / "claim", "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        answer = command("run", data / "study.yaml", "--out", finished)
    assert answer.code == 74
    assert "another run is writing" in answer.err


def test_a_full_disk_is_said_and_the_same_command_goes_on(brief: Path, command: Command) -> None:
    out = brief / "full"
    limited = ["bash", "-c", 'ulimit -f 24; exec "$@"', "bash", *_line(brief, out)]  # files of 24 kB at most
    # Coverage measurement writes larger files.
    environment = {name: value for name, value in _environment().items() if not name.startswith("COVERAGE")}
    answer = subprocess.run(limited, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 74, answer.stderr
    assert "could not write" in answer.stderr
    assert "Check free space" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert list(out.glob("models/*.json"))
    assert not list(out.rglob("*.part"))
    assert command("run", brief / "study.yaml", "--out", out).code == 0
    assert contents(out) == contents(brief / "finished")


def test_a_folder_that_cannot_be_written_is_said(data: Path, tmp_path: Path, command: Command) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    place = Path("/proc/self/fd") if os.geteuid() == 0 else closed  # permissions of a folder do not restrict root
    answer = command("run", data / "study.yaml", "--out", place / "out")
    assert answer.code == 74
    assert "cannot write here" in answer.err


def test_an_out_that_is_a_file_is_an_output_error_and_an_input_is_not_replaced(data: Path, command: Command) -> None:
    file = data / "notes.txt"
    file.write_text("mine")
    assert command("run", data / "study.yaml", "--out", file).code == 74
    assert file.read_text() == "mine"
    before = (data / "study.yaml").read_bytes()
    assert command("run", data / "study.yaml", "--out", data / "study.yaml").code == 64
    assert (data / "study.yaml").read_bytes() == before


def test_a_damaged_fit_is_named_and_mended_by_deleting_it(data: Path, finished: Path, command: Command) -> None:
    before = contents(finished)
    (finished / "log" / "finished.json").unlink()  # else an unchanged run is not made again
    file = next((finished / "models").glob("*.json"))
    file.write_text("{")
    answer = command("run", data / "study.yaml", "--out", finished)
    assert answer.code == 74
    assert file.name in answer.err
    file.unlink()
    assert command("run", data / "study.yaml", "--out", finished).code == 0
    assert contents(finished) == before


def test_an_interrupt_asks_to_run_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    process = subprocess.Popen(_line(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(out.glob("models/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 75, said.decode()
    assert b"Run the same command again" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize(("command", "resumes"), [("run", "; it resumes"), ("embed", "")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_within_an_import_has_the_same_exit_code(
    number: int, command: str, resumes: str, tmp_path: Path
) -> None:
    """CPython ends itself by SIGINT after a KeyboardInterrupt in executed source text, as during imports."""
    program = f"""
        import os
        import signal
        import connectome_tl.cli as cli
        import connectome_tl.cli.entry as entry

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell leaves it ignored

        def command(**options):
            exec("os.kill(os.getpid(), {int(number)})\\nfor _ in range(10**6): pass")

        entry.app = command
        cli.main(["{command}"])
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    line = [sys.executable, "-m", "program"]
    answer = subprocess.run(line, capture_output=True, text=True, check=False, env=_environment(), cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (75, f"Error: interrupted. Run the same command again{resumes}.\n")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["run", "study.yaml", "--out", "run"]])
@pytest.mark.parametrize("module", ["typer", "numpy.linalg._umath_linalg", "connectome_tl.cli.setup"])
def test_an_interrupt_while_the_commands_are_imported_is_one_line(words: list[str], module: str) -> None:
    """NumPy converts an interrupt of its import to an ImportError."""
    program = f"""
        import os, signal, sys

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
                    exec("for _ in range(10**6): pass")

        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.meta_path.insert(0, Finder())
        from connectome_tl.cli import main
        main({words!r})
    """
    line = [sys.executable, "-c", textwrap.dedent(program)]
    answer = subprocess.run(line, capture_output=True, text=True, check=False, env=_environment())
    assert (answer.returncode, answer.stderr) == (75, "Error: interrupted. Run the same command again.\n")
