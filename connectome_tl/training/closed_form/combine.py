"""Combine ridge paths of several kernels: best single fit and non-negative stack.

Both use leave-one-family-out predictions only.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls


def slope(added: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Least-squares slope (n_columns,) of the errors on a prediction (n_rows, n_columns), at least 0."""
    products, squares = (added * errors).sum(axis=0), (added**2).sum(axis=0)
    return np.where(squares > 0, np.maximum(products, 0.0) / np.where(squares > 0, squares, 1.0), 0.0)


def best_fit(path: np.ndarray, errors: np.ndarray, relax: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The penalty of least squared error, with its slope if requested ("relaxed ridge").

    With far more columns than rows the best penalty is often below any positive one; the slope undoes the
    flattening that the least penalty still causes (Kobak et al. 2020, JMLR 21(169)).

    Args:
        path: (n_penalties, n_rows, n_columns), see `Spectrum.path`.
        errors: (n_rows, n_columns), what is to be predicted.
        relax: (n_columns,) bool.

    Returns:
        shares (n_penalties, n_columns), the slope at the chosen penalty and 0 elsewhere; and the
        prediction (n_rows, n_columns).
    """
    products = np.einsum("krc,rc->kc", path, errors)
    squares = np.einsum("krc,krc->kc", path, path)
    slopes = np.where(squares > 0, np.maximum(products, 0.0) / np.where(squares > 0, squares, 1.0), 0.0)
    slopes = np.where(relax, slopes, 1.0)
    chosen = (slopes**2 * squares - 2 * slopes * products).argmin(axis=0)
    columns = np.arange(errors.shape[1])
    shares = np.zeros(squares.shape)
    shares[chosen, columns] = slopes[chosen, columns]
    return shares, path[chosen, :, columns].T * slopes[chosen, columns]


def stack(
    paths: list[np.ndarray], errors: np.ndarray, stein: np.ndarray, fallback: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Non-negative least squares of the errors on the predictions of all kernels at several penalties.

    Args:
        paths: one (n_penalties, n_rows, n_columns) per kernel.
        errors: (n_rows, n_columns).
        stein: (n_columns,) bool, shrink by max(0, 1 - 2 (1 - R2) / ((n - 2) R2)). Where it is False the
            stack is never constant: if all weights are 0, the best single fit of kernel `fallback` is used instead.
        fallback: number of that kernel.

    Returns:
        Shares, one (n_penalties, n_columns) per kernel; the prediction (n_rows, n_columns).
    """
    n_columns = errors.shape[1]
    shares = [np.zeros((len(path), n_columns)) for path in paths]
    prediction = np.zeros_like(errors)
    for column in range(n_columns):
        matrix = np.concatenate([path[:, :, column] for path in paths]).T
        target = errors[:, column]
        try:
            weights, _ = nnls(matrix, target, maxiter=30 * matrix.shape[1])
        except RuntimeError:  # no convergence; the fallback is used below
            weights = np.zeros(matrix.shape[1])
        if stein[column]:
            weights = weights * _stein(target, matrix @ weights)
        elif not weights.any():
            chosen, _ = best_fit(paths[fallback][:, :, [column]], errors[:, [column]], np.array([False]))
            start = sum(len(path) for path in paths[:fallback])
            weights[start : start + len(chosen)] = chosen[:, 0]
        prediction[:, column] = matrix @ weights
        start = 0
        for share in shares:
            share[:, column] = weights[start : start + len(share)]
            start += len(share)
    return shares, prediction


def _stein(target: np.ndarray, prediction: np.ndarray) -> float:
    total = float(target @ target)
    error = float(((target - prediction) ** 2).sum())
    if error >= total or len(target) < 3:
        return 0.0
    return max(0.0, 1.0 - 2.0 * error / ((len(target) - 2) * (total - error)))
