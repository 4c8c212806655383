"""Scores and intervals that are not estimable have a reason, in results, tables and pages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from connectome_tl.evaluation.learning_curve import points
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.report.tables.scores import score_tables, with_interval
from connectome_tl.report.text.verdict import level
from connectome_tl.tasks import Task

N = 20
FOLD = np.arange(N) % 4
MOTOR = Task(name="motor", kind="binary", column="motor")
IQ = Task(name="iq", kind="regression", column="iq")
SEVERITY = Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe"))
CAUSE = Task(name="cause", kind="multiclass", column="cause", levels=("a", "b", "c"))
BY_FOLD = (FOLD >= 2) * 1.0  # one class in each test fold
EQUAL = "interval not estimable: its predictions are equal within each test fold"
SAME = "not estimable: all tested subjects have the same outcome"


def table(task: Task, y: np.ndarray, outputs: np.ndarray, model: str = "full") -> pd.DataFrame:
    levels = task.n_levels if task.spec.by_level else 0
    found = pd.DataFrame(
        {"subject": [f"s{i:02d}" for i in range(N)], "task": task.name, "model": model, "repeat": 0, "fold": FOLD}
    ).assign(y_true=y, y_score=outputs, y_pred=outputs if not task.is_binary else (outputs >= 0.5) * 1.0)
    if levels:
        found["y_pred"] = 0.0
    return found.assign(**{f"p_{k}": 1.0 / levels for k in range(levels)})


RISK = np.linspace(0.1, 0.9, N)
CASES = [
    (MOTOR, np.arange(N) // 4 % 2 * 1.0, np.full(N, 0.4), EQUAL),
    (MOTOR, (np.arange(N) % 3 == 0) * 1.0, FOLD / 10, EQUAL),  # constants that differ between folds
    (MOTOR, BY_FOLD, RISK, "not estimable: no test fold contains both classes"),
    (MOTOR, np.zeros(N), RISK, SAME),
    (IQ, np.full(N, 100.0), RISK, SAME),
    (SEVERITY, np.zeros(N), np.full(N, 1.0), SAME),
    (SEVERITY, BY_FOLD, np.full(N, 1.0), "not estimable: no test fold contains two levels"),
    (SEVERITY, np.arange(N) % 3 * 1.0, np.full(N, 1.0), EQUAL),
    (CAUSE, np.ones(N), np.full(N, 1 / 3), SAME),
    (CAUSE, np.arange(N) % 3 * 1.0, np.full(N, 1 / 3), EQUAL),
]


@pytest.mark.parametrize(("task", "y", "outputs", "reason"), CASES)
def test_a_score_or_interval_that_is_not_estimable_has_its_reason_everywhere(
    task: Task, y: np.ndarray, outputs: np.ndarray, reason: str
) -> None:
    found = scores(table(task, y, outputs), [task])
    for score in found:
        undefined = not np.isfinite(score.value) or not np.isfinite(score.high - score.low)
        assert undefined == bool(score.reason)
        assert score.low != score.high
    main = next(score for score in found if score.metric == task.spec.primary)
    assert main.reason == reason
    assert not np.isfinite([main.low, main.high, main.fitted_low, main.fitted_high]).any()
    (point,) = points(found, [task], 5)
    assert point.reason == reason
    assert reason in with_interval(point)
    assert reason in {text for _, _, cells in score_tables(found)[0].rows for cell in cells for text in cell}
    assert reason.partition(": ")[2] in level(main)


def test_a_regression_equal_to_the_training_mean_has_no_interval() -> None:
    y = np.arange(N) * 1.0
    both = [table(IQ, y, np.full(N, y.mean()), model) for model in ("full", "prevalence")]
    found = {s.model: s for s in scores(pd.concat(both), [IQ]) if s.metric == "r2"}
    assert found["full"].reason == EQUAL
    assert (found["prevalence"].low, found["prevalence"].high, found["prevalence"].reason) == (0.0, 0.0, "")


@pytest.mark.parametrize("task", [MOTOR, SEVERITY])
def test_a_score_with_equal_predictions_in_some_folds_says_in_how_many(task: Task) -> None:
    y = np.arange(N) // 4 % 2 * 1.0
    found = scores(table(task, y, np.where(FOLD == 1, 0.4, RISK)), [task])
    if task is SEVERITY:
        chances = np.where(FOLD == 1, 0.5, RISK)
        found = scores(table(task, y, RISK).assign(p_0=1 - chances, p_1=chances, p_2=0.0), [task])
    main = found[0]
    assert main.reason == "its predictions are equal within 1 of 4 test folds"
    assert main.low < main.value < main.high
    assert main.reason in with_interval(main)


def test_one_family_is_the_reason() -> None:
    y = np.arange(N) * 1.0
    found = scores(table(IQ, y, y + RISK), [IQ], {f"s{i:02d}": "one" for i in range(N)})
    assert {s.reason for s in found} == {"interval not estimable: all subjects belong to one family"}
