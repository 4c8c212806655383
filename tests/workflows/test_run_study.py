"""`run_study` in Python does what the command does, and hands back tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl import run_study
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import LeakageError
from connectome_tl.evaluation.label_permutations import network_statistics
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation import statistic, statistic_parts
from connectome_tl.settings.study import SplitSettings, Stages
from connectome_tl.workflows.run import StudyRun

COHORTS = small_cohorts()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    home = tmp_path_factory.mktemp("study")
    write_cohort(COHORTS.target, home / "target")
    settings = small_settings(
        epochs=1,
        source=None,
        pool=None,
        stages=Stages(pretrain=None, adapt=None, finetune=small_settings().stages.finetune),
        splits=SplitSettings(repeats=1, outer=3, stratum="cognitive"),
        permutations=3,
    )
    return run_study(settings, home / "out", base=home)


def test_a_run_without_stages_has_neither_their_controls_nor_their_verdicts(run: StudyRun) -> None:
    models = set(run.predictions["model"])
    assert models >= {"full", "single_task", "no_clinical", "ridge", "prevalence"}
    assert not models & {"scratch", "no_pretrain", "no_adapt"}
    assert not set(run.comparisons["control"]) & {"scratch", "no_pretrain", "no_adapt"}


def test_a_run_is_tables_that_agree_with_its_files(run: StudyRun) -> None:
    table = pd.read_csv(run.folder / "predictions.tsv", sep="\t", na_values="n/a")
    np.testing.assert_allclose(table["y_score"], run.predictions["y_score"], rtol=1e-15)
    assert {"task", "model", "metric", "value", "low", "high"} <= set(run.scores.columns)
    assert set(run.verdicts["task"]) == {"cognitive", "motor_score"}
    assert run.report.is_file()
    assert (run.permutations["n_permutations"] == 3).all()
    assert run.permutations["p_value"].isin([0.25, 0.5, 0.75, 1.0]).all()


def test_the_observed_statistic_is_that_of_the_full_model_and_the_identity_changes_nothing() -> None:
    study = small_settings(epochs=2, controls=())
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
            score = table[table["task"] == task.name].set_index("subject")["y_score"].loc[list(fold.test)]
            train, test = (y[list(ids)].to_numpy()[:, None] for ids in (fold.train, fold.test))
            sums[t] += statistic_parts(score.to_numpy()[:, None], train, test, task.is_binary)
    np.testing.assert_allclose(statistic(sums, tasks)[0], found[0])


def test_a_leak_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectome_tl.training import stages

    write_cohort(COHORTS.target, tmp_path / "target")
    settings = small_settings(
        epochs=1,
        source=None,
        pool={"cohort": "target/cohort.yaml"},
        stages=small_settings().stages.model_copy(update={"pretrain": None}),
        controls=(),
    )
    monkeypatch.setattr(stages, "adaptation_rows", lambda pool, *_, **__: pool.ids)
    with pytest.raises(LeakageError):
        run_study(settings, tmp_path / "out", base=tmp_path)
    assert not {"predictions.tsv", "scores.json", "report.html"} & {path.name for path in (tmp_path / "out").iterdir()}
