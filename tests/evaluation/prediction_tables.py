"""Tables of predictions for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

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
