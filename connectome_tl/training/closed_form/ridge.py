"""Ridge regression on few columns, with the penalty chosen by leave-one-family-out errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum

_LEAST = 1e-12  # eigenvalues relative to the largest one below which a direction is constant


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
    inside = x - centre
    values, vectors = np.linalg.eigh(inside.T @ inside)
    kept = values > _LEAST * max(values[-1], 1e-300)
    values, vectors = values[kept], vectors[:, kept]
    left = inside @ (vectors / np.sqrt(values))
    errors = design.residuals(target)
    path = Spectrum(values, left, design).path(target, errors, penalties)
    penalty = penalties[((errors - path) ** 2).mean(axis=(1, 2)).argmin()]
    slopes = vectors @ (np.sqrt(values) / (values + penalty) * (left.T @ (y - y.mean())))
    return slopes, float(y.mean() - centre @ slopes)
