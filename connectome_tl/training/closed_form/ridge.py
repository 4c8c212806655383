"""Ridge regression on few columns, with the penalty chosen by leave-one-family-out errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum


def fit_few_columns(
    x: np.ndarray, y: np.ndarray, families: Sequence[str] | np.ndarray, penalties: np.ndarray
) -> tuple[np.ndarray, float]:
    """Slopes (n_columns,) and intercept of the fit with the smallest squared error of left-out predictions.

    Args:
        x: (n_rows, n_columns). y: (n_rows,).
        families: (n_rows,) names or codes of two families or more.
    """
    design = Design.of(np.ones((len(y), 1)), Families.of([str(name) for name in families]))
    centre, target = x.mean(axis=0), y[:, None]
    left, size, right = np.linalg.svd(x - centre, full_matrices=False)
    errors = design.residuals(target)
    path = Spectrum(size**2, left, design).path(target, errors, penalties)
    penalty = penalties[((errors - path) ** 2).mean(axis=(1, 2)).argmin()]
    slopes = right.T @ (size / (size**2 + penalty) * (left.T @ (y - y.mean())))
    return slopes, float(y.mean() - centre @ slopes)
