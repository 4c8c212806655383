"""Training rows as kernels and unpenalised columns; joint fit of outcomes with equal missingness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.blocks import (
    Block,
    Columns,
    Kernel,
    SourceScores,
    choose_landmarks,
    kernels,
)
from connectome_tl.training.closed_form.fitted_core import QuadraticPart, RadialPart
from connectome_tl.training.closed_form.solve import Problem, Solution, mean_of
from connectome_tl.training.closed_form.spectrum import Design, Families

# Prior weights of fits with the source's scores; that without them has 1. A score of the same outcome at slope 1
# needs no number from these rows, which is what few of them can afford.
_ALL_SCORES, _SINGLE_SCORES, _OWN_SCORE = 1.0, 1.0, 2.0
# Errors of one set of rows are correlated; weights of the full likelihood would be too sure of the best fit.
_TEMPERED = 0.25


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows with a known outcome: their numbers, outcomes (n_rows, n_outcomes) and families, see `TrainingRows.solve`.

    `fixed` are the columns of `z` that enter without a penalty.
    """

    observed: np.ndarray
    y: np.ndarray
    shrunk: np.ndarray
    families: Families
    fixed: np.ndarray


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """All training rows, with or without missing outcomes.

    Attributes:
        columns: clipping and centring per block. values: block to clipped, centred (and scaled) rows.
        scale: block to (n_columns,) by which its columns were divided; 1 except for scores.
        kernels: linear, radial and quadratic, of the penalised blocks that vary.
        z: (n_rows, 1 + n_unpenalised), the intercept, unpenalised blocks, then the scores.
        families: (n_rows,) names.
        scores: name of the block of source scores, if there is one.
        covered: names of the blocks from which these scores are computed.
    """

    columns: tuple[Columns, ...]
    values: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    kernels: tuple[Kernel, ...]
    z: np.ndarray
    unpenalised: tuple[str, ...]
    families: np.ndarray
    scores: str | None
    covered: frozenset[str]
    settings: CoreSettings

    @staticmethod
    def of(
        blocks: Sequence[Block],
        families: Sequence[str],
        source: SourceScores | None,
        settings: CoreSettings,
    ) -> TrainingRows:
        """Fit clipping and centring, and compute the kernels.

        Args:
            blocks: those of the source's scores included.

        Raises:
            DataError: values that are not finite.
        """
        scores = None if source is None else source.block.name
        covered = frozenset() if source is None else source.covered
        columns = tuple(Columns.fit(block, settings.clip) for block in blocks)
        values = {block.name: fitted.apply(block) for block, fitted in zip(blocks, columns, strict=True)}
        scale = {name: np.ones(part.shape[1]) for name, part in values.items()}
        if scores is not None:
            assert source is not None
            spread = values[scores].std(axis=0)
            # Columns that are not used become 0, and their weights with them.
            used = np.ones(len(spread), dtype=bool) if source.usable is None else np.array(source.usable)
            scale[scores] = np.where(used, np.where(spread > 0, spread, 1.0), np.inf)
            values[scores] = values[scores] / scale[scores]
        n_rows = len(families)
        landmarks = choose_landmarks(list(values.values()), np.arange(n_rows), settings.exact_up_to, settings.landmarks)
        n_components = settings.quadratic_components if n_rows >= settings.quadratic_from else 0
        found = [
            kernel
            for block in blocks
            if block.penalised
            for kernel in kernels(block, values[block.name], landmarks, n_components)
        ]
        unpenalised = tuple(block.name for block in blocks if not block.penalised)
        names = (*unpenalised, *(() if scores is None else (scores,)))
        z = np.column_stack([np.ones(n_rows), *(values[name] for name in names)])
        names_of_rows = np.asarray(families, dtype=str)
        return TrainingRows(columns, values, scale, tuple(found), z, names, names_of_rows, scores, covered, settings)

    def solve(
        self, observed: np.ndarray, y: np.ndarray, spread: np.ndarray, shrunk: np.ndarray, own: int | None
    ) -> tuple[Solution, int]:
        """Fit outcomes that are known in the same rows.

        Args:
            observed: their row numbers.
            y: (n_observed, n_outcomes), standardised. spread: (n_outcomes,) by which it was divided.
            shrunk: see `Problem.solve`.
            own: the column of the scores with the same outcome.

        Returns:
            the solution with dual weights of all training rows (0 where a row does not count) and coefficients
            of all columns of `z`; the number of families.

        Raises:
            DataError: fewer than two families.
        """
        families = Families.of(self.families[observed])
        if families.n_families < 2:
            raise DataError(
                "too few training rows with a known outcome",
                expected="two families or more in every fold",
                got=str(families.n_families),
                remedy="Use fewer folds, or leave this outcome out.",
            )
        n_scores = 0 if self.scores is None else self.values[self.scores].shape[1]
        fixed = np.arange(self.z.shape[1] - n_scores)
        chosen = [
            k
            for k, kernel in enumerate(self.kernels)
            if kernel.block != self.scores and families.n_families >= kernel.least(self.settings)
        ]
        part = _Part(observed, y, shrunk, families, fixed)
        without = self._solve(part, chosen)
        if not n_scores:
            return without, families.n_families
        fits, priors = self._with_scores(part, chosen, spread, own)
        fits, priors = [without, *fits], [1.0, *priors]
        losses = np.array([((y - one.left_out) ** 2).mean(axis=0) for one in fits])
        return mean_of(fits, _shares(losses, np.array(priors), families.n_families)), families.n_families

    def _with_scores(
        self, part: _Part, chosen: list[int], spread: np.ndarray, own: int | None
    ) -> tuple[list[Solution], list[float]]:
        """Fits in which the source's scores replace the blocks from which they are computed, and their prior weights.

        These are ridge on all scores, one fit for each score with a free slope, and, for the score of the same
        outcome, slope 1. The other blocks, such as covariates, are in all of them.
        """
        assert self.scores is not None
        rest = [k for k in chosen if self.kernels[k].block not in self.covered]
        of_scores = [k for k, kernel in enumerate(self.kernels) if kernel.block == self.scores]
        first = len(part.fixed)
        used = np.isfinite(self.scale[self.scores])
        single = first + np.flatnonzero(used)
        fits = [self._solve(part, [*rest, *of_scores])] if of_scores else []
        priors = [_ALL_SCORES] * len(fits)
        fits += [self._solve(replace(part, fixed=np.append(part.fixed, column)), rest) for column in single]
        priors += [_SINGLE_SCORES / len(single)] * len(single)
        if own is not None and used[own]:
            slopes = self.scale[self.scores][own] / spread
            offset = self.values[self.scores][part.observed, own][:, None] * slopes
            # What is left of a label is not a label: it may be shrunk to nothing.
            left = self._solve(replace(part, y=part.y - offset, shrunk=np.ones_like(part.shrunk)), rest)
            coefficients = left.coefficients.copy()
            coefficients[first + own] += slopes
            fits.append(Solution(left.dual, coefficients, left.left_out + offset, left.steady + offset))
            priors.append(_OWN_SCORE)
        return fits, priors

    def _solve(self, part: _Part, chosen: list[int]) -> Solution:
        """The fit with these kernels and the unpenalised columns."""
        observed, y = part.observed, part.y
        design = Design.of(self.z[np.ix_(observed, part.fixed)], part.families)
        kernels = [self.kernels[k] for k in chosen]
        landmarks = self.landmarks(observed)
        crosses = [kernel.between(observed, landmarks) for kernel in kernels]
        places = np.searchsorted(observed, landmarks)
        found = Problem.of(kernels, crosses, places, design, self.settings).solve(y, part.shrunk)
        dual = [np.zeros((len(self.z), y.shape[1])) for _ in self.kernels]
        for k, weights in zip(chosen, found.dual, strict=True):
            dual[k][landmarks] = weights
        coefficients = np.zeros((self.z.shape[1], y.shape[1]))
        coefficients[part.fixed] = found.coefficients
        return Solution(dual, coefficients, found.left_out, found.steady)

    def landmarks(self, observed: np.ndarray) -> np.ndarray:
        """The rows that span a fit on the observed ones."""
        rows = list(self.values.values())
        return choose_landmarks(rows, observed, self.settings.exact_up_to, self.settings.landmarks)

    def form(self, observed: np.ndarray) -> str:
        """How a fit on the observed rows is computed."""
        n = len(self.landmarks(observed))
        return "exact" if n == len(observed) else f"nystrom {n}"

    def primal(
        self, dual: Sequence[np.ndarray], coefficients: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, RadialPart], dict[str, QuadraticPart]]:
        """Weights per linear block (n_columns, n_outcomes) on clipped, centred values, and the curved parts."""
        linear: dict[str, np.ndarray] = {}
        radial: dict[str, RadialPart] = {}
        quadratic: dict[str, QuadraticPart] = {}
        for kernel, weights in zip(self.kernels, dual, strict=True):
            rows = kernel.rows
            used = weights.any(axis=1)
            if kernel.basis is not None:
                if used.any():
                    products = np.einsum("ra,rb,ro->abo", rows, rows, weights / kernel.scale, optimize=True)
                    quadratic[kernel.block] = QuadraticPart(kernel.basis, products)
            elif kernel.gamma is None:
                linear[kernel.block] = rows.T @ weights / (kernel.scale * self.scale[kernel.block][:, None])
            elif used.any():
                kept = rows[used].astype(np.float32)
                radial[kernel.block] = RadialPart(kept, weights[used] / kernel.scale, kernel.gamma)
        start = 1
        for name in self.unpenalised:
            stop = start + self.values[name].shape[1]
            added = coefficients[start:stop] / self.scale[name][:, None]
            linear[name] = linear[name] + added if name in linear else added
            start = stop
        return linear, radial, quadratic


def _shares(losses: np.ndarray, priors: np.ndarray, n_families: int) -> np.ndarray:
    """Weights (n_fits, n_columns) of fits that sum to 1, by a tempered likelihood of leave-one-family-out errors.

    Args:
        losses: (n_fits, n_columns) mean squared errors. priors: (n_fits,).
    """
    least = losses.min(axis=0)
    relative = (losses - least) / np.where(least > 0, least, 1.0)
    weights = priors[:, None] * np.maximum(np.exp(-0.5 * _TEMPERED * n_families * relative), 1e-12)
    return np.asarray(weights / weights.sum(axis=0))
