"""Meta-matching: predict source outcomes in the target and stack them on the training rows.

He et al. 2022, doi:10.1038/s41593-022-01059-9; Chen et al. 2024, doi:10.1162/imag_a_00233.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import (
    Kernel,
    KernelFit,
    fit_kernel,
    linear_kernel,
    moments,
    sampled,
)
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import missing_patterns
from connectome_tl.evaluation.baselines.engines.refits import weighted_refits
from connectome_tl.evaluation.baselines.source import FromSource
from connectome_tl.settings.baselines import MetaMatchingSettings

_UNIT_LENGTH_FROM = 10  # outcomes; with fewer, centring and unit length remove too much information


def solve(settings: MetaMatchingSettings, source: FromSource, design: Design, y: np.ndarray) -> Scored:
    """Scores of the stack; with `fine_tune`, its residuals are fitted by ridge regression on the features."""
    train, test = (_predicted(source, rows) for rows in (design.train, design.test))
    found = stacked(settings, train, test, y, design.families)
    if settings.variant == "stacking":
        return found
    return _tuned(found, linear_kernel(design.train, design.test), y, design.families)


def refits(
    settings: MetaMatchingSettings,
    source: FromSource,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Refits on bootstrap samples, see `Refit`; rows without an outcome are in each, since they centre the kernel."""
    of_train, of_test = _predicted(source, train), _predicted(source, test)
    kernel = None if settings.variant == "stacking" else linear_kernel(train, test)

    def drawn(rows: np.ndarray, copies: np.ndarray) -> Scored:
        found = stacked(settings, of_train[rows], of_test, y[rows, None], families[rows], copies)
        if kernel is None:
            return found
        return _tuned(found, sampled(kernel, rows, copies), y[rows, None], families[rows], copies)

    return weighted_refits(drawn, y, families, np.where(np.isfinite(y), counts, 1))


def _predicted(source: FromSource, rows: np.ndarray) -> np.ndarray:
    """Predicted source outcomes (n_rows, n_outcomes) in standard deviations of the source."""
    models = source.models
    return (models.predict(rows) - models.offset) / models.spread


def _tuned(
    found: Scored, kernel: Kernel, y: np.ndarray, families: np.ndarray, counts: np.ndarray | None = None
) -> Scored:
    gram, cross = kernel
    rest = fit_kernel(gram, y - found.left_out, families, counts=counts)
    return Scored(found.test + rest.scores(cross), found.left_out + rest.left_out)


def stacked(
    settings: MetaMatchingSettings,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray | None = None,
) -> Scored:
    """Ridge of the labels on predicted source outcomes (n_rows, n_outcomes), in standard deviations.

    `counts` are copies of each row in a bootstrap sample, see `fit_kernel`.
    """
    scores, left_out = np.empty((len(test), y.shape[1])), np.full(y.shape, np.nan)
    for rows, columns in missing_patterns(y):
        groups: dict[tuple[int, ...], list[int]] = {}
        for column in columns:
            copies = None if counts is None else counts[rows]
            kept = best_outcomes(train[rows], y[rows, column], settings.largest, copies)
            groups.setdefault(kept, []).append(int(column))
        for kept, members in groups.items():
            fitted, cross = _ridge(settings, train[:, kept], test[:, kept], rows, y[:, members], families, counts)
            scores[:, members] = fitted.scores(cross)
            left_out[:, members] = fitted.left_out
    return Scored(scores, left_out)


def _ridge(
    settings: MetaMatchingSettings,
    train: np.ndarray,
    test: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray | None,
) -> tuple[KernelFit, np.ndarray]:
    """The fit, and the kernel between test and training rows; `rows` are rows with a known label."""
    unit_length = settings.form == "unit_length" or (settings.form == "auto" and train.shape[1] >= _UNIT_LENGTH_FROM)
    if unit_length:
        train, test = unit_rows(train), unit_rows(test)
        return fit_kernel(train @ train.T, y, families, settings.penalties, counts), test @ train.T
    spread = moments(train[rows], None if counts is None else counts[rows])[1]
    spread = np.where(spread > 0, spread, np.inf)
    kernel = linear_kernel(train / spread, test / spread)
    gram, cross = kernel if counts is None else sampled(kernel, np.arange(len(train)), counts)
    return fit_kernel(gram, y, families, counts=counts), cross


def unit_rows(predicted: np.ndarray) -> np.ndarray:
    """Centre each row and scale it to unit length."""
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1.0)


def best_outcomes(
    predicted: np.ndarray, y: np.ndarray, largest: int, counts: np.ndarray | None = None
) -> tuple[int, ...]:
    """Positions of the source outcomes whose prediction, or its negative, has the smallest error."""
    if predicted.shape[1] <= largest:
        return tuple(range(predicted.shape[1]))
    mean, spread = moments(y[:, None], counts)
    z = (y[:, None] - mean) / np.where(spread > 0, spread, 1.0)
    copies = np.ones(len(y)) if counts is None else counts
    losses = np.minimum(copies @ (z - predicted) ** 2, copies @ (z + predicted) ** 2)
    return tuple(sorted(np.argsort(losses, kind="stable")[:largest].tolist()))


def meta_matching(data: BaselineData) -> list[Baseline]:
    """One model of all tasks; none for a study without a source cohort."""
    source = data.source
    settings = data.study.baseline_settings.meta_matching
    learner = calibrated(partial(solve, settings, source), refits=partial(refits, settings, source))
    return [Baseline(source.design, data.tasks, learner)] if source.there else []
