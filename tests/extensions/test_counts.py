"""An external kind of task: counts with a logarithmic link and the loss of Poisson regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import mean_poisson_deviance
from small_study import plan_of, small_cohorts, small_settings
from torch import Tensor

from connectome_tl import extend
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.outcomes import read_outcome
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.scores.predictions import Interval, OutOfFold
from connectome_tl.nn.losses import KindLoss
from connectome_tl.settings.columns import Outcome
from connectome_tl.settings.metrics import Estimand, Metric
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.tasks import KINDS, Task, TaskKind
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.workflows.study.study_run import StudyRun

HALF = 0.5


def log_rate(counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(counts, 0.0) + HALF))


def rate(scores: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.exp(scores) - HALF, 0.0))


def centred(known: np.ndarray) -> tuple[float, float]:
    return float(known.mean()), 1.0


def whole(values: np.ndarray) -> np.ndarray:
    return np.asarray((values >= 0) & (values % 1 == 0))


def poisson(outputs: Tensor, scores: Tensor) -> Tensor:
    """Deviance of Poisson regression in units of the mean count."""
    return 2.0 * (torch.exp(scores) * (scores - outputs) - torch.exp(scores) + torch.exp(outputs))


def soft(outputs: Tensor, taught: Tensor) -> Tensor:
    return poisson(outputs, taught).mean()


def explained_deviance(rows: OutOfFold, base: OutOfFold | None, estimand: Estimand) -> Interval:
    """Deviance of a Poisson model, explained beyond that of the training mean, with a crude interval."""
    mean = np.full_like(rows.y_true, rows.y_true.mean()) if base is None else base.predicted.mean(axis=0)
    both = (np.maximum(one, 0.01) for one in (rows.predicted.mean(axis=0), mean))
    ours, none = (mean_poisson_deviance(rows.y_true, one) for one in both)
    half = 1.0 / np.sqrt(rows.y_true.size) * (1.0 if estimand == "procedure" else 0.5)
    return 1.0 - ours / none, 1.0 - ours / none - half, 1.0 - ours / none + half


DEVIANCE = Metric(
    "deviance_explained", "Deviance explained", "explained deviance", 1, -np.inf, 1.0, ("value",), 0.0,
    kinds=("tally",),
)  # fmt: skip
COUNT = TaskKind(
    "tally", "value", "mae", "the mean", "an expected tally", centred, log_rate, rate, whole, "no tally",
    loss="the deviance of Poisson regression",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(kind=(COUNT, KindLoss(poisson, soft, columnwise=True)), metric=(DEVIANCE, explained_deviance))


def with_seizures(cohort: Cohort) -> Cohort:
    """Numbers of seizures, the more the lower the motor score."""
    score = cohort.targets["motor_score"].to_numpy(float)
    counts = np.round(np.exp((100.0 - score) / 15.0))
    task = Task(name="seizures", kind="tally", column="seizures", unit="seizures")
    return replace(
        cohort,
        tasks=(*cohort.tasks, task),
        targets=cohort.targets.assign(seizures=counts),
        status=cohort.status.assign(seizures=cohort.status["motor_score"]),
        scores=None if cohort.scores is None else cohort.scores.assign(seizures=counts),
    )


COHORTS = small_cohorts(n_source=16, n_pool=12, n_target=30)


@pytest.fixture(scope="module")
def run(run_small: Callable) -> StudyRun:
    return run_small(
        {},
        COHORTS.with_role("target", with_seizures(COHORTS.target)),
        target=CohortUse(cohort="target/cohort.yaml", tasks=("seizures", "cognitive")),
        splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"),
        baselines=("prevalence", "ridge", "linear_all"),
        controls=("no_pretrain", "single_task"),
        permutations=2,
        figures=True,
    )


@pytest.mark.slow
def test_a_study_with_it_runs_to_a_report_that_says_so(
    run: StudyRun, unknown_to_the_package: Callable[[str], bool]
) -> None:
    mine = run.predictions[run.predictions["task"] == "seizures"]
    assert set(mine["model"]) >= {"full", "core", "network", "no_pretrain", "single_task", "ridge", "prevalence"}
    learnt = mine[mine["model"].isin(["full", "core", "network"])]
    assert np.isfinite(learnt["y_score"]).all()
    assert (learnt["y_score"] >= 0).all()
    scores = run.scores[run.scores["task"] == "seizures"]
    assert set(scores["metric"]) == {"r2", "mae", "deviance_explained"}
    assert "deviance_explained" not in set(run.scores[run.scores["task"] == "cognitive"]["metric"])
    assert "seizures" in set(run.permutations["task"])
    assert "seizures" in set(run.comparisons["task"])
    page = run.report.read_text("utf-8")
    assert "an expected tally" in page
    assert "Deviance explained" in page
    assert "were used to predict seizures" in page
    assert "missing ones masked, by the deviance of Poisson regression for seizures (AdamW" in page
    assert unknown_to_the_package("tally")


def test_an_ensemble_stays_on_the_logarithmic_scale(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohorts = COHORTS.with_role("target", with_seizures(COHORTS.target))
    fold = Fold(cohorts.target.ids[:20], cohorts.target.ids[20:])
    study = small_settings().with_settings({"stages.finetune.ensemble.random_start": False})
    plan = plan_of(fold, study, cohorts=cohorts, tasks=("seizures",))
    plan = replace(plan, parents=tuple((name, replace(one, tasks=("seizures",))) for name, one in plan.parents))
    result = fit([plan], cohorts.by_name(), store=FitStore(tmp_path))[plan.key]
    found = stored_model(FitStore(tmp_path), plan.key).predict(cohorts.target, fold.test)
    assert found.tobytes() == np.array([result.predictions[i] for i in fold.test]).tobytes()
    assert (found >= 0).all()


def test_the_loss_has_its_minimum_at_the_expected_count() -> None:
    counts = torch.tensor([0.0, 1.0, 2.0, 9.0])
    scores = torch.log(counts + HALF)
    output = torch.zeros(1, requires_grad=True)
    for _ in range(200):
        (step,) = torch.autograd.grad(poisson(output, scores).mean(), output)
        output = (output - 0.05 * step).detach().requires_grad_()
    assert rate(output.detach().numpy()) == pytest.approx(counts.mean().item(), rel=1e-3)


def test_a_value_that_is_none_is_refused_and_so_is_another_kind_of_this_name() -> None:
    spec, findings = Outcome(name="seizures", column="n", kind="tally"), Findings()
    read = read_outcome(pd.DataFrame({"n": ["2", "", "1.5"]}), spec, ["a", "b", "c"], "table.tsv", findings)
    assert read.status == ("observed", "unknown", "observed")
    (problem,) = findings.problems
    assert "tally outcome 'seizures' holds no tally" in str(problem)
    with pytest.raises(UsageError, match="already"):
        extend(kind=(replace(COUNT, second="r2"), KindLoss(poisson, soft)))
    assert KINDS["tally"] is COUNT
