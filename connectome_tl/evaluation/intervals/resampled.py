"""Corrected resampled t test, for k-fold cross-validation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from connectome_tl.errors import DataError
from connectome_tl.plurals import counted

# The published test rejects 10-13 % of true nulls between ridge models (benchmarks/null.py), because its
# assumed correlation between folds, n_test / (n_train + n_test), is too small.
WIDENING = 2.0


@dataclass(frozen=True)
class ResampledTest:
    """Mean difference over folds with its corrected interval and two-sided p value."""

    difference: float
    low: float
    high: float
    t: float
    p_value: float
    n_folds: int


def corrected_resampled_t(
    differences: np.ndarray, n_train: float, n_test: float, widening: float = WIDENING
) -> ResampledTest:
    """Nadeau & Bengio (2003, doi:10.1023/A:1024068626366); for repeated k-fold Bouckaert & Frank (2004).

    The variance over folds is multiplied by 1 / n_folds + n_test / n_train, since training sets
    overlap, and then by `widening`, which was tuned on simulated nulls (1 gives the published test).

    Args:
        differences: (n_folds,) of a mean score, over all folds of all repeats.

    Raises:
        DataError: fewer than two folds, or test folds larger than training folds, where the
            correction leaves no power (for example, 33 training and 329 test rows): compare over subjects.
    """
    differences = np.asarray(differences, dtype=float)
    n = differences.size
    if n < 2 or not np.isfinite(differences).all():
        raise DataError("the corrected t test needs two or more finite fold differences", got=counted(n, "fold"))
    if n_test > n_train:
        raise DataError(
            "the corrected resampled t test is for k-fold cross-validation",
            expected="test folds smaller than training folds",
            got=f"{n_train:g} training and {n_test:g} test rows",
            remedy="Use the paired difference over subjects.",
        )
    mean = float(differences.mean())
    error = float(np.sqrt(widening * (1 / n + n_test / n_train) * differences.var(ddof=1)))
    if error == 0:
        return ResampledTest(mean, mean, mean, 0.0 if mean == 0 else float("inf"), float(mean == 0), n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    t = mean / error
    return ResampledTest(mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), n - 1)), n)
