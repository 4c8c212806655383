"""`run_study` in Python has the results of the command, and returns tables."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_study import last_stage, small_cohorts, small_settings

from connectome_tl import run_study
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.errors import LeakageError, OutputError, UsageError
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.evaluation.permutation.tests import statistic, statistic_parts
from connectome_tl.settings.study import ALL_CONTROLS, CohortUse, SplitSettings, StudySettings
from connectome_tl.training.schemes import BY_NAME
from connectome_tl.workflows.folder import open_log
from connectome_tl.workflows.study import run as run_module
from connectome_tl.workflows.study import tune as tune_module
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.study_run import StudyRun

COHORTS = small_cohorts()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    home = tmp_path_factory.mktemp("study")
    write_cohort(COHORTS.target, home / "target")
    settings = small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(small_settings().stages.finetune),
        splits=SplitSettings(repeats=1, outer=3, stratum="cognitive"),
        permutations=3,
        network_permutations=3,
    )
    return run_study(settings, home / "out", base=home)


@pytest.mark.slow
def test_a_run_without_stages_has_neither_their_controls_nor_their_verdicts(run: StudyRun) -> None:
    models = set(run.predictions["model"])
    assert models >= {"full", "single_task", "no_clinical", "ridge", "prevalence"}
    stages = {name for name in ALL_CONTROLS if BY_NAME[name].engine != "mixture" or not BY_NAME[name].pretrain}
    stages |= {name for name in ALL_CONTROLS if not BY_NAME[name].adapt}
    assert len(stages) == 8
    assert not models & stages
    assert not set(run.comparisons["control"]) & stages


@pytest.mark.parametrize(
    ("begun", "now", "said"),
    [
        ({"device": "cpu"}, {"device": "cuda"}, "device: cpu to cuda.*Give --set device=cpu, or give another --out"),
        (
            {"device": "cuda"},
            {"device": "cpu"},
            "Give --set device=cuda on a machine with a GPU, or give another --out",
        ),
        ({"device": "cpu"}, {"device": "cuda", "seed": 3}, "device: cpu to cuda; seed: 0 to 3.*delete the folder"),
        ({"seed": 1}, {"n_jobs": 7}, r"seed: 1 to 0\b(?!.*n_jobs)"),
    ],
)
def test_what_differs_from_the_settings_of_a_begun_run_is_said(
    begun: dict[str, Any], now: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(dump_settings(small_settings(**begun)))
    with pytest.raises(UsageError, match=f"(?s)run with other settings.*{said}"):
        run_module._refuse_other(file, dump_settings(small_settings(**now)))
    run_module._refuse_other(file, dump_settings(small_settings(**{**begun, "n_jobs": 7})))


def test_a_run_that_moved_against_its_data_goes_on_and_another_cohort_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(dump_settings(small_settings(target=CohortUse(cohort="../target/cohort.yaml"))))
    run_module._refuse_other(file, dump_settings(small_settings(target=CohortUse(cohort="../../target/cohort.yaml"))))
    with pytest.raises(UsageError, match=r"target\.cohort: \.\./target/cohort\.yaml to \.\./other/cohort\.yaml"):
        run_module._refuse_other(file, dump_settings(small_settings(target=CohortUse(cohort="../other/cohort.yaml"))))


def test_a_run_and_a_search_never_share_a_folder(run: StudyRun, tmp_path: Path) -> None:
    target = read_run_cohorts(read_study(run.folder), run.folder, None).target
    (tmp_path / "search.txt").write_text("")
    with pytest.raises(UsageError, match="contains a search"):
        run_module._settle(tmp_path, read_study(run.folder), target)
    (tmp_path / "search.txt").unlink()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.json").write_text("{}")
    with pytest.raises(UsageError, match="contains a run"):
        tune_module._refuse_other(tmp_path, "")


def test_settings_of_a_begun_run_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: [")
    with pytest.raises(UsageError, match="settings of the run in this folder cannot be read"):
        run_module._refuse_other(file, "a: 1")


def test_a_run_is_tables_that_agree_with_its_files(run: StudyRun) -> None:
    table = pd.read_csv(run.folder / "predictions.tsv", sep="\t", na_values="n/a")
    np.testing.assert_allclose(table["y_score"], run.predictions["y_score"], rtol=1e-15)
    assert {"task", "model", "metric", "value", "low", "high"} <= set(run.scores.columns)
    assert set(run.verdicts["task"]) == {"cognitive", "motor_score"}
    assert run.report.is_file()
    assert (run.permutations["n_permutations"] == 3).all()
    assert {"core", "full"} <= set(run.permutations["model"])
    assert run.permutations["p_value"].isin([0.25, 0.5, 0.75, 1.0]).all()


def test_the_observed_statistic_is_that_of_the_full_model_and_the_identity_changes_nothing() -> None:
    study = small_settings(steps=2, controls=())
    splits = make_split_plan(COHORTS.target, study.splits)
    tasks = tasks_of(study, COHORTS)
    n_subjects = COHORTS.target.n_subjects
    moves = np.vstack([np.arange(n_subjects), np.roll(np.arange(n_subjects), 5)])
    found = network_statistics(study, COHORTS, splits, tasks, moves)
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    table = cross_validate(study, COHORTS, splits).predictions
    sums = np.zeros((2, 2, 1))
    for fold in splits.repeats[0]:
        for t, task in enumerate(tasks):
            y = COHORTS.target.targets[task.name]
            mine = table[(table["task"] == task.name) & (table["model"] == "full")]
            score = mine.set_index("subject")["y_score"].loc[list(fold.test)]
            train, test = (y[list(ids)].to_numpy()[:, None] for ids in (fold.train, fold.test))
            sums[t] += statistic_parts(score.to_numpy()[:, None], train, test, task)
    np.testing.assert_allclose(statistic(sums, tasks)[0], found[0])


@pytest.mark.slow
def test_a_disk_that_fills_up_again_and_again_loses_nothing(run: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these writes fails once; the same call resumes, with the results of an uninterrupted run."""
    out, full = run.folder.with_name("full"), ["study.yaml", "models/*.safetensors", "permuted/*.json", "report.html"]
    replace = os.replace

    def no_space(temporary: str, target: Path) -> None:
        if full and target.match(full[0]):
            del full[0]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(temporary, target)

    monkeypatch.setattr("connectome_tl.provenance.os.replace", no_space)
    settings = load_settings(run.folder / "study.yaml", StudySettings)
    for _ in tuple(full):
        with pytest.raises(OutputError, match=r"No space left on device.*files written before are intact"):
            run_study(settings, out, base=run.folder)
        assert not list(out.rglob("*.part"))
    assert (out / "scores.json").is_file()
    run_study(settings, out, base=run.folder)
    assert contents(out) == contents(run.folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run except its log."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "log")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "log").mkdir()
    with open_log(tmp_path, "a study") as log:
        (handler,) = log.handlers
        monkeypatch.setattr(handler, "flush", full)
        log.info("not written")
        monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"source": {"cohort": "older/cohort.yaml", "tasks": ["age", "height", "iq"]}}, ["'height'", "'iq'"]),
        ({"confounds": {"columns": ["log(motion2)"]}}, ["no column 'motion2'"]),
        ({"harmonise": {"method": "combat", "protect": ["hat"]}}, ["no column 'hat'"]),
    ],
)
def test_names_that_a_cohort_does_not_have_are_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], names: list[str]
) -> None:
    for folder, cohort in (("target", COHORTS.target), ("older", COHORTS.source), ("pool", COHORTS.pool)):
        assert cohort is not None
        write_cohort(cohort, tmp_path / folder)
    settings = StudySettings.model_validate(small_settings().model_dump() | changed)
    with pytest.raises(UsageError) as refusal:
        run_study(settings, tmp_path / "out", base=tmp_path)
    assert all(name in str(refusal.value) for name in names)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"log"}


def test_a_leak_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectome_tl.training import stages

    write_cohort(COHORTS.target, tmp_path / "target")
    settings = small_settings(
        steps=1,
        source=None,
        pool={"cohort": "target/cohort.yaml"},
        stages=small_settings().stages.model_copy(update={"pretrain": None}),
        controls=(),
    )
    monkeypatch.setattr(stages, "adaptation_rows", lambda pool, *_, **__: pool.ids)
    with pytest.raises(LeakageError):
        run_study(settings, tmp_path / "out", base=tmp_path)
    assert not {"predictions.tsv", "scores.json", "report.html"} & {path.name for path in (tmp_path / "out").iterdir()}
