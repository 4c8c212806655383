"""Whether a core predicts held-out rows better than by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.training.closed_form.fitted_core import CoreFit

# Penalties and weights of the parts are chosen by the same left-out predictions, which makes them optimistic: without
# any signal, t values exceed the quantiles of the t distribution too often.
_LEAST_T = 3.0
_FEWEST = 4  # families


def predictable_scores(fitted: CoreFit, families: Sequence[str]) -> tuple[bool, ...]:
    """Test each score of a core on the rows that were left out for it.

    A score is predictable if the correlation of leave-one-family-out predictions with the outcome has a t value of at
    least 3, with as many degrees of freedom as there are families with a known outcome, minus 2.

    Args:
        families: (n_rows,) names.

    Returns:
        (n_scores,) booleans; False for fewer than four families.
    """
    names = np.asarray(families)
    return tuple(
        _t(predicted, outcome, names) >= _LEAST_T
        for predicted, outcome in zip(fitted.left_out.T, fitted.outcomes.T, strict=True)
    )


def _t(predicted: np.ndarray, outcome: np.ndarray, families: np.ndarray) -> float:
    known = np.isfinite(outcome) & np.isfinite(predicted)
    n_families = len(np.unique(families[known]))
    if n_families < _FEWEST or np.ptp(predicted[known]) == 0 or np.ptp(outcome[known]) == 0:
        return 0.0
    r = float(np.clip(np.corrcoef(predicted[known], outcome[known])[0, 1], -1.0, 1.0))
    return float(r * np.sqrt((n_families - 2) / max(1.0 - r * r, 1e-12)))
