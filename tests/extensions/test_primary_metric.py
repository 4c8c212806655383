"""The metric of an extension as the primary one of its kind of outcome: lower is better, chance is 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts

from connectome_tl import extend
from connectome_tl.audit.nuisance import nuisance_findings
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain.study import not_above_chance
from connectome_tl.evaluation.scores.compare import paired_difference
from connectome_tl.evaluation.scores.predictions import Interval, OutOfFold
from connectome_tl.nn.losses import KindLoss
from connectome_tl.report.text.verdict import level
from connectome_tl.settings.metrics import METRICS, Estimand, Metric, check_metrics
from connectome_tl.settings.records.results import Score
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.tasks import KINDS, Task, TaskKind, standard_scale


def relative_error(rows: OutOfFold, base: OutOfFold | None, estimand: Estimand) -> Interval:
    """Absolute error relative to that of the training mean, with a crude interval."""
    del estimand
    other = rows.y_true.mean() if base is None else base.predicted
    found = float(np.abs(rows.predicted - rows.y_true).mean() / np.abs(other - rows.y_true).mean())
    half = 2.0 * found / np.sqrt(rows.y_true.size)
    return found, found - half, found + half


RELATIVE = Metric(
    "relative_error", "Relative error", "relative error", -1, 0.0, np.inf, ("value",), 1.0, "predicting the mean",
    margin=0.05, kinds=("delay",),
)  # fmt: skip
DELAY = TaskKind("delay", "value", "mae", "the mean", "a delay", standard_scale, primary="relative_error")


def squared(outputs, targets):  # type: ignore[no-untyped-def]
    return (outputs - targets) ** 2


def soft(outputs, taught):  # type: ignore[no-untyped-def]
    return squared(outputs, taught).mean()


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(metric=(RELATIVE, relative_error), kind=(DELAY, KindLoss(squared, soft, columnwise=True)))


def predictions(error: float, seed: int = 0, n: int = 60) -> OutOfFold:
    rng = np.random.default_rng(seed)
    y = np.random.default_rng(9).normal(size=n)
    score = (y + error * rng.normal(size=n))[None]
    return OutOfFold(np.arange(n).astype(str), y, score, score, np.zeros((1, n), dtype=int), np.arange(n))


def walking() -> Task:
    return Task(name="walking", kind="delay", column="walking", unit="months")


def test_differences_are_those_of_the_metric_and_narrower_for_models_that_agree() -> None:
    good, alike, bad = predictions(0.3), predictions(0.3), predictions(0.9, seed=1)
    alike = replace(alike, score=alike.score + 0.001, predicted=alike.predicted + 0.001)
    found = paired_difference(good, bad, walking(), "relative_error")
    want = relative_error(good, None, "procedure")[0] - relative_error(bad, None, "procedure")[0]
    assert found.value == pytest.approx(want)
    assert found.low < found.value < found.high < 0
    close = paired_difference(good, alike, walking(), "relative_error")
    assert close.high - close.low < 0.5 * (found.high - found.low)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.2, 0.6, "better"), (1.2, 1.6, "worse"), (0.8, 1.2, "not distinguishable")]
)
def test_verdicts_follow_its_direction(low: float, high: float, said: str) -> None:
    score = Score(
        task="walking", model="full", metric="relative_error", value=(low + high) / 2, low=low, high=high, n=60
    )  # fmt: skip
    assert said in level(score)
    assert (not_above_chance(walking(), "full", [score]) == "") == (said == "better")
    nuisance = score.model_copy(update={"model": "age", "value": score.value - 0.1})
    (finding,) = nuisance_findings([score], [nuisance], [walking()])
    assert (finding.status == "warning") == (said == "better")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"primary": "mae"}, "cannot be the primary metric"),
        ({"primary": "auc"}, "is no metric of"),
        ({"primary": "nothing"}, "unknown metric"),
        ({"second": "brier"}, "is no metric of"),
    ],
)
def test_a_kind_with_a_metric_that_allows_no_verdict_is_refused(changed: dict, said: str) -> None:
    other = replace(DELAY, name="other", **changed)
    with pytest.raises(UsageError, match=said):
        extend(kind=(other, KindLoss(squared, soft)))
    assert "other" not in KINDS


@pytest.mark.parametrize("kind", ["binary", "regression", "ordinal", "multiclass"])
def test_kinds_of_the_package_have_metrics_that_allow_a_verdict(kind: str) -> None:
    check_metrics(KINDS[kind])
    assert METRICS[KINDS[kind].tested].of(kind)


def with_delay(cohort: Cohort) -> Cohort:
    score = cohort.targets["motor_score"]
    return replace(
        cohort,
        tasks=(*cohort.tasks, walking()),
        targets=cohort.targets.assign(walking=20 - score / 10),
        status=cohort.status.assign(walking=cohort.status["motor_score"]),
        scores=None if cohort.scores is None else cohort.scores.assign(walking=20 - score / 10),
    )


def test_a_study_uses_it_for_scores_comparisons_verdicts_and_the_learning_curve(run_small: Callable) -> None:
    cohorts = small_cohorts(n_source=16, n_pool=12, n_target=24)
    run = run_small(
        {},
        cohorts.with_role("target", with_delay(cohorts.target)),
        target=CohortUse(cohort="target/cohort.yaml", tasks=("walking",)),
        splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"),
        baselines=("prevalence", "ridge", "clinical_only"),
        controls=(),
        permutations=2,
        learning_curve=(10,),
        figures=True,
    )
    assert set(run.comparisons["metric"]) == {"relative_error"}
    assert np.isfinite(run.comparisons["difference"]).all()
    assert {point.metric for point in run.record.learning_curve} == {"relative_error"}
    assert set(run.permutations["metric"]) == {"r2"}  # of permutation tests, named as such
    assert "Permutation test of R2 (" in run.record.verdicts[0].how_well
    (verdict,) = run.record.verdicts
    assert verdict.how_well.startswith("Relative error ")
    page = run.report.read_text("utf-8")
    assert "Relative error" in page
    assert "lower score" not in verdict.headline
