"""Check the tables of a run folder against each other: splits, predictions, thresholds, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.audit.results import RUN_AGAIN, older_intervals
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import ConnectomeTLError
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import called, columns_of
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import PermutationResult, Score
from connectome_tl.tasks import Task

_KEY = ["task", "model", "repeat", "subject"]


def split_findings(splits: SplitPlan, families: Mapping[str, str]) -> list[Finding]:
    """Check that folds are disjoint, families are not split, and no subject is tested twice in a repeat."""
    shared, kin, twice = [], [], []
    for repeat, number, fold in splits.folds():
        where = f"repeat {repeat}, fold {number}"
        both = set(fold.train) & set(fold.test)
        shared += [f"{subject} ({where})" for subject in sorted(both)]
        related = {families[s] for s in fold.train if families.get(s)} & {
            families[s] for s in fold.test if families.get(s)
        }
        kin += [f"family {family} ({where})" for family in sorted(related)]
        for inner in fold.inner:
            outside = set(inner.test) & set(inner.train) | (set(inner.train) | set(inner.test)) - set(fold.train)
            shared += [f"{subject} (inner folds of {where})" for subject in sorted(outside)]
    for repeat, folds in enumerate(splits.repeats):
        tested = [subject for fold in folds for subject in fold.test]
        twice += [f"{s} (repeat {repeat})" for s in sorted({s for s in tested if tested.count(s) > 1})]
    return [
        _finding("folds are disjoint", shared, "trained on and tested", "split_plan.json"),
        _finding("families stay together", kin, "on both sides of a fold", "split_plan.json"),
        _finding("everyone is tested once a repeat", twice, "tested twice", "split_plan.json"),
    ]


def prediction_findings(
    predictions: pd.DataFrame, splits: SplitPlan, targets: pd.DataFrame, tasks: Sequence[Task], threshold: float
) -> list[Finding]:
    """Check that rows belong to the fold that tested them, and outcomes and classes are correct.

    Args:
        targets: indexed by subject, one column per task; from the current cohort.
    """
    file = "predictions.tsv"
    tested = {(r, s): f for r, f, fold in splits.folds() for s in fold.test}
    names = [f"{s} ({t}, {m}, repeat {r})" for t, m, r, s in predictions[_KEY].itertuples(index=False, name=None)]
    placed = [
        tested.get((int(r), str(s))) == int(f)
        for r, s, f in predictions[["repeat", "subject", "fold"]].itertuples(index=False, name=None)
    ]
    kinds = {task.name: task for task in tasks}
    truth, expected = np.full(len(predictions), np.inf), np.full(len(predictions), np.inf)
    for name, task in kinds.items():
        here = (predictions["task"] == name).to_numpy()
        truth[here] = targets[name].reindex(predictions.loc[here, "subject"], fill_value=np.inf).to_numpy(dtype=float)
        expected[here] = called(task, columns_of(predictions[here], task), threshold)
    observed, classes = (predictions[c].to_numpy(dtype=float) for c in ("y_true", "y_pred"))
    misplaced = _named(names, ~np.array(placed, dtype=bool))
    other = _named(names, ~np.isclose(observed, truth, rtol=1e-6, atol=1e-9, equal_nan=True))
    cut = _named(names, ~np.isclose(classes, expected, rtol=1e-6, atol=1e-9))
    doubled = [" ".join(map(str, key)) for key in predictions[predictions.duplicated(_KEY)][_KEY].to_numpy()]
    return [
        _finding("predictions are those of the split plan", misplaced, "not in the fold that tested them", file),
        _finding("one prediction per subject and repeat", doubled, "predicted twice", file),
        _finding("outcomes are the cohort's", other, "with another outcome than the cohort has", file),
        _finding(f"classes are those of the threshold {threshold:g}", cut, "classified at another threshold", file),
    ]


def score_findings(
    predictions: pd.DataFrame,
    recorded: Sequence[Score],
    tasks: Sequence[Task],
    families: Mapping[str, str],
    n_labelled: int | None = None,
    *,
    other_version: bool = False,
) -> list[Finding]:
    """Check that scoring the predictions again gives `scores.json`.

    Args:
        other_version: whether the run was made with another version of this package, whose intervals may differ.
    """
    check = "scores follow from the predictions"
    try:
        again = {(s.task, s.model, s.metric): s for s in scores(predictions, tasks, families, n_labelled=n_labelled)}
    except ConnectomeTLError as error:
        what = f"the predictions cannot be scored: {error}"
        return [Finding(check=check, status="failed", what=what, remedy=_edited("predictions.tsv"))]
    differ: list[str] = []
    older: list[str] = []
    for score in recorded:
        new = again.pop((score.task, score.model, score.metric), None)
        name = f"{score.metric} of {score.model}, {score.task}"
        if new is None or not np.isclose(new.value, score.value, atol=1e-6, equal_nan=True):
            differ.append(f"{name}: {score.value:.3f}, again {'nothing' if new is None else f'{new.value:.3f}'}")
        elif not np.allclose((new.low, new.high), (score.low, score.high), atol=1e-6, equal_nan=True):
            (older if other_version and new.method != score.method else differ).append(f"interval of {name}")
    hidden = [f"{metric} of {model}, {task}" for task, model, metric in again]
    return [
        _finding(check, differ, "do not follow from the predictions", "scores.json"),
        *(
            []
            if not older
            else [
                Finding(
                    check="intervals of this version",
                    status="warning",
                    what=older_intervals(len(older)),
                    remedy=RUN_AGAIN,
                )
            ]
        ),
        _finding("no score was left out", hidden, "not reported", "scores.json"),
    ]


def null_findings(tests: Sequence[PermutationResult]) -> list[Finding]:
    """Check that the run's permutations have a mean AUC of one half; a larger mean indicates leakage.

    A smaller mean is harmless. Since permutations within blocks preserve differences between blocks, a mean above one
    half is a warning, not a failure.
    """
    check, strange, seen = "permutation null", [], 0
    for test in tests:
        null = np.array([value for value in test.null if np.isfinite(value)])
        if metric_named(test.metric).chance != 0.5 or test.model not in ("core", "full") or null.size < 5:
            continue
        seen += 1
        mean, error = float(null.mean()), float(null.std(ddof=1) / np.sqrt(null.size))
        if mean - 0.5 > 4 * max(error, 1e-3):
            strange.append(f"{test.task}: mean {mean:.3f} (standard error {error:.3f})")
    if not seen:
        return [Finding(check=check, status="skipped", what="the run has no permuted AUC")]
    if not strange:
        return [
            Finding(check=check, status="passed", what=f"permuted outcomes are not predicted ({counted(seen, 'task')})")
        ]
    return [
        Finding(
            check=check,
            status="warning",
            what=f"permuted outcomes are predicted: {', '.join(strange)}",
            remedy="Blocks (sites, families) may contain the outcome; otherwise a step uses outcomes of test rows.",
        )
    ]


def _named(names: Sequence[str], wrong: np.ndarray) -> list[str]:
    return [name for name, is_wrong in zip(names, wrong) if is_wrong]


def _finding(check: str, wrong: Sequence[str], what: str, file: str) -> Finding:
    if not wrong:
        return Finding(check=check, status="passed", what="holds")
    text = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return Finding(check=check, status="failed", what=f"{len(wrong)} {what}: {text}", remedy=_edited(file))


def _edited(file: str) -> str:
    return f"{file} was edited, or the cohort was. Restore it, or run the study again."
