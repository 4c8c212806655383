"""Meta-matching: predict source outcomes in the target and stack them on the training rows.

He et al. 2022, doi:10.1038/s41593-022-01059-9; Chen et al. 2024, doi:10.1162/imag_a_00233.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import KernelFit, fit_kernel, linear_kernel
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import missing_patterns
from connectome_tl.evaluation.baselines.source import FromSource
from connectome_tl.settings.baselines import MetaMatchingSettings

_UNIT_LENGTH_FROM = 10  # outcomes; with fewer, centring and unit length remove too much information


def solve(settings: MetaMatchingSettings, source: FromSource, design: Design, y: np.ndarray) -> Scored:
    """Scores of the stack; with `fine_tune`, its residuals are fitted by ridge regression on the features."""
    models = source.models
    train, test = ((models.predict(rows) - models.offset) / models.spread for rows in (design.train, design.test))
    found = stacked(settings, train, test, y, design.families)
    if settings.variant == "stacking":
        return found
    gram, cross = linear_kernel(design.train, design.test)
    rest = fit_kernel(gram, y - found.left_out, design.families)
    return Scored(found.test + rest.scores(cross), found.left_out + rest.left_out)


def stacked(
    settings: MetaMatchingSettings, train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray
) -> Scored:
    """Ridge of the labels on predicted source outcomes (n_rows, n_outcomes), in standard deviations."""
    scores, left_out = np.empty((len(test), y.shape[1])), np.full(y.shape, np.nan)
    for rows, columns in missing_patterns(y):
        groups: dict[tuple[int, ...], list[int]] = {}
        for column in columns:
            groups.setdefault(best_outcomes(train[rows], y[rows, column], settings.largest), []).append(int(column))
        for kept, members in groups.items():
            fitted, cross = _ridge(settings, train[:, kept], test[:, kept], rows, y[:, members], families)
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
) -> tuple[KernelFit, np.ndarray]:
    """The fit, and the kernel between test and training rows; `rows` are rows with a known label."""
    unit_length = settings.form == "unit_length" or (settings.form == "auto" and train.shape[1] >= _UNIT_LENGTH_FROM)
    if unit_length:
        train, test = unit_rows(train), unit_rows(test)
        return fit_kernel(train @ train.T, y, families, settings.penalties), test @ train.T
    spread = train[rows].std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    gram, cross = linear_kernel(train / spread, test / spread)
    return fit_kernel(gram, y, families), cross


def unit_rows(predicted: np.ndarray) -> np.ndarray:
    """Centre each row and scale it to unit length."""
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1.0)


def best_outcomes(predicted: np.ndarray, y: np.ndarray, largest: int) -> tuple[int, ...]:
    """Positions of the source outcomes whose prediction, or its negative, has the smallest error."""
    if predicted.shape[1] <= largest:
        return tuple(range(predicted.shape[1]))
    spread = y.std()
    z = ((y - y.mean()) / (spread if spread > 0 else 1.0))[:, None]
    losses = np.minimum(((z - predicted) ** 2).sum(axis=0), ((z + predicted) ** 2).sum(axis=0))
    return tuple(sorted(np.argsort(losses, kind="stable")[:largest].tolist()))


def meta_matching(data: BaselineData) -> list[Baseline]:
    """One model of all tasks; none for a study without a source cohort."""
    source = data.source
    learner = calibrated(partial(solve, data.study.baseline_settings.meta_matching, source))
    return [Baseline(source.design, data.tasks, learner)] if source.there else []
