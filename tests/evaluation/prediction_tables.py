"""Tables of predictions for the tests in this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.tasks import Task

MOTOR = Task(name="motor", kind="binary", column="motor")
LANGUAGE = Task(name="language", kind="regression", column="language")


def table(rng, n=40, n_repeats=3, n_folds=5, task="motor", model="full", kind="binary", tie=False):
    """A table of predictions with folds that differ between repeats."""
    y = (rng.random(n) < 0.4).astype(float) if kind == "binary" else rng.normal(95, 15, n)
    rows = []
    for r in range(n_repeats):
        fold = rng.permutation(np.arange(n) % n_folds)
        if kind == "binary":
            score = 1 / (1 + np.exp(-(y - 0.4 + rng.normal(0, 1, n))))
            score = np.round(score, 1) if tie else score
            predicted = (score > 0.5).astype(float)
        else:
            score = predicted = y + rng.normal(0, 10, n)
        rows.append(
            pd.DataFrame(
                {
                    "subject": [f"s{i:03d}" for i in range(n)],
                    "task": task,
                    "model": model,
                    "repeat": r,
                    "fold": fold,
                    "y_true": y,
                    "y_score": score,
                    "y_pred": predicted,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


SEVERITY = Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe", "very severe"))
DIAGNOSIS = Task(name="diagnosis", kind="multiclass", column="diagnosis", levels=("control", "ASD", "ADHD"))


def levels_table(rng, task, n=60, n_repeats=2, n_folds=4, model="full", signal=1.5, y=None, threshold=0.5, round_to=6):
    """Rows of an ordinal or multiclass task, made by `prediction_rows`; folds differ between repeats."""
    y = rng.integers(0, task.n_levels, n).astype(float) if y is None else y
    ids, tables = [f"s{i:03d}" for i in range(n)], []
    for r in range(n_repeats):
        fold = np.random.default_rng([7, r, n]).permutation(np.arange(n) % n_folds)  # the same for every model
        distance = np.abs(y[:, None] - np.arange(task.n_levels)) if task.kind == "ordinal" else 1.0 - np.eye(
            task.n_levels)[y.astype(int)]  # fmt: skip
        weight = np.exp(-signal * distance + rng.normal(0, 1, (n, task.n_levels)))
        probability = np.round(weight, round_to) / np.round(weight, round_to).sum(axis=1, keepdims=True)
        for k in range(n_folds):
            at = np.flatnonzero(fold == k)
            p = probability[at]
            if model == "prevalence":
                p = np.tile(
                    np.bincount(y[fold != k].astype(int), minlength=task.n_levels) / (fold != k).sum(), (at.size, 1)
                )
            tables.append(prediction_rows(task, model, r, k, [ids[i] for i in at], y[at], p, threshold))
    return pd.concat(tables, ignore_index=True)
