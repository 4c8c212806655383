"""Ridge on one kernel, or on the best of several, for many labellings at once.

Penalty and kernel minimise the squared error of leave-one-family-out predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.evaluation.baselines.design import Design, Scored
from connectome_tl.evaluation.baselines.engines.linear import missing_patterns
from connectome_tl.settings.core import PENALTIES
from connectome_tl.training.closed_form import spectrum as closed_form
from connectome_tl.training.closed_form.combine import best_fit
from connectome_tl.training.closed_form.spectrum import Families, Spectrum

_AT_ONCE = 128  # labellings per batch, to limit memory
Kernel = tuple[np.ndarray, np.ndarray]  # (n_train, n_train), (n_test, n_train)


@dataclass(frozen=True, eq=False)
class KernelFit:
    """Ridge regression on one kernel for many labellings.

    Attributes:
        dual: dual coefficients, (n_rows, n_labellings); 0 for a missing label. offset: (n_labellings,).
        left_out: leave-one-family-out scores, (n_rows, n_labellings), centred at the mean of all rows (the mean of
            the remaining rows is negatively correlated with the label and would reverse the ranking of a weak score);
            NaN for a missing label.
        loss: mean squared error of the leave-one-family-out predictions, (n_labellings,).
    """

    dual: np.ndarray
    offset: np.ndarray
    left_out: np.ndarray
    loss: np.ndarray

    def scores(self, cross: np.ndarray) -> np.ndarray:
        """Scores (n_test, n_labellings) from the kernel between test and training rows, (n_test, n_rows)."""
        return cross @ self.dual + self.offset


def fit_kernel(
    gram: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    counts: np.ndarray | None = None,
) -> KernelFit:
    """Fit ridge regression with an unpenalised intercept.

    Args:
        gram: (n_rows, n_rows), centred or not. y: (n_rows, n_labellings), NaN where missing.
        families: (n_rows,) codes.
        counts: (n_rows,) copies of each row in a bootstrap sample, which are left out together; None for one each.
    """
    dual, left_out = np.zeros(y.shape), np.full(y.shape, np.nan)
    offset, loss = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    grid = np.asarray(penalties, dtype=float)
    for rows, columns in missing_patterns(y):
        groups = Families.of([str(code) for code in families[rows]])
        copies = np.ones(len(rows)) if counts is None else counts[rows].astype(float)
        root, share = np.sqrt(copies)[:, None], copies / copies.sum()
        if groups.n_families < 2:  # no family can be left out: predict the mean
            offset[columns] = left_out[np.ix_(rows, columns)] = share @ y[np.ix_(rows, columns)]
            continue
        design = closed_form.Design.of(root, groups)
        part = gram[np.ix_(rows, rows)]
        spectrum = Spectrum.of(root * part * root.T, np.arange(len(rows)), design)
        for start in range(0, columns.size, _AT_ONCE):
            some = columns[start : start + _AT_ONCE]
            target = root * y[np.ix_(rows, some)]
            mean = share @ y[np.ix_(rows, some)]
            errors = design.residuals(target)
            shares, added = best_fit(spectrum.path(target, errors, grid), errors, np.zeros(some.size, dtype=bool))
            weights = root * spectrum.dual(target, grid, shares)
            dual[np.ix_(rows, some)] = weights
            offset[some] = mean - share @ (part @ weights)
            left_out[np.ix_(rows, some)] = mean + added / root
            loss[some] = ((errors - added) ** 2).sum(axis=0) / copies.sum()
    return KernelFit(dual, offset, left_out, loss)


def best_kernel(
    kernels: Sequence[Kernel],
    y: np.ndarray,
    families: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    counts: np.ndarray | None = None,
) -> Scored:
    """Scores of the kernel with the smallest leave-one-family-out error, per labelling."""
    fits = [fit_kernel(gram, y, families, penalties, counts) for gram, _ in kernels]
    chosen = np.argmin([fit.loss for fit in fits], axis=0)
    columns = np.arange(y.shape[1])
    test = np.array([fit.scores(cross) for fit, (_, cross) in zip(fits, kernels, strict=True)])
    left_out = np.array([fit.left_out for fit in fits])
    return Scored(test[chosen, :, columns].T, left_out[chosen, :, columns].T)


def linear_kernel(train: np.ndarray, test: np.ndarray) -> Kernel:
    """Gram matrices of columns centred on the training rows, scaled to a mean eigenvalue of 1."""
    center = train.mean(axis=0)
    train, test = train - center, test - center
    scale = max(float(np.einsum("ij,ij->", train, train)) / len(train), 1e-300)
    return train @ train.T / scale, test @ train.T / scale


def sampled(kernel: Kernel, rows: np.ndarray, counts: np.ndarray) -> Kernel:
    """The linear kernel of a bootstrap sample from that of all training rows: centred on the sample and scaled.

    Args:
        rows: numbers of the drawn rows, each once. counts: copies of each.
    """
    share = counts / counts.sum()
    gram, cross = kernel[0][np.ix_(rows, rows)], kernel[1][:, rows]
    mean = gram @ share
    centred = gram - mean[:, None] - mean + share @ mean
    scale = max(float(share @ centred.diagonal()), 1e-300)
    return centred / scale, (cross - (cross @ share)[:, None] - mean + share @ mean) / scale


def moments(values: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n_columns,) of known values (n_rows, n_columns) with copies of each row."""
    weights = np.isfinite(values) * (1.0 if counts is None else counts[:, None])
    weights = weights / weights.sum(axis=0)
    mean = np.nansum(weights * values, axis=0)
    return mean, np.sqrt(np.nansum(weights * (values - mean) ** 2, axis=0))


def unit_scale(gram: np.ndarray, cross: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale a kernel so that the mean eigenvalue of its centred form is 1."""
    scale = max(float(np.trace(gram) - gram.mean() * len(gram)) / len(gram), 1e-300)
    return gram / scale, cross / scale


def solve_gram(design: Design, y: np.ndarray) -> Scored:
    """Ridge regression on columns that are not rescaled."""
    return best_kernel([linear_kernel(design.train, design.test)], y, design.families)
