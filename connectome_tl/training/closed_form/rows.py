"""Training rows as kernels and unpenalised columns; joint fit of outcomes with equal missingness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.blocks import Block, Columns, Kernel, choose_landmarks, kernels
from connectome_tl.training.closed_form.fitted import RadialPart
from connectome_tl.training.closed_form.solve import Problem, Solution
from connectome_tl.training.closed_form.spectrum import Design, Families

# Of the fits without the score, with a free slope (one number more is fitted) and with slope 1.
_PRIOR = np.array([[1.0], [0.5], [1.0]])
# Errors of one set of rows go together; weights of the full likelihood would be too sure of the best fit.
_TEMPERED = 0.25


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """All training rows, whatever outcomes they miss.

    Attributes:
        columns: clipping and centring per block. values: block to clipped, centred (and scaled) rows.
        scale: block to (n_columns,) by which its columns were divided; 1 except for scores.
        kernels: linear and radial, of the penalised blocks that vary.
        z: (n_rows, 1 + n_unpenalised), the intercept, unpenalised blocks, then the scores.
        families: (n_rows,) names.
        scores: name of the block of source scores, if there is one.
    """

    columns: tuple[Columns, ...]
    values: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    kernels: tuple[Kernel, ...]
    z: np.ndarray
    unpenalised: tuple[str, ...]
    families: np.ndarray
    scores: str | None
    settings: CoreSettings

    @staticmethod
    def of(
        blocks: Sequence[Block], families: Sequence[str], scores: str | None, settings: CoreSettings
    ) -> TrainingRows:
        """Fit clipping and centring, and compute the kernels.

        Raises:
            DataError: values that are not finite.
        """
        columns = tuple(Columns.fit(block, settings.clip) for block in blocks)
        values = {block.name: fitted.apply(block) for block, fitted in zip(blocks, columns, strict=True)}
        scale = {name: np.ones(part.shape[1]) for name, part in values.items()}
        if scores is not None:
            spread = values[scores].std(axis=0)
            scale[scores] = np.where(spread > 0, spread, 1.0)
            values[scores] = values[scores] / scale[scores]
        n_rows = len(families)
        landmarks = choose_landmarks(list(values.values()), np.arange(n_rows), settings.exact_up_to, settings.landmarks)
        found = [
            kernel for block in blocks if block.penalised for kernel in kernels(block, values[block.name], landmarks)
        ]
        unpenalised = tuple(block.name for block in blocks if not block.penalised)
        names = (*unpenalised, *(() if scores is None else (scores,)))
        z = np.column_stack([np.ones(n_rows), *(values[name] for name in names)])
        names_of_rows = np.asarray(families, dtype=str)
        return TrainingRows(columns, values, scale, tuple(found), z, names, names_of_rows, scores, settings)

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
            if kernel.block != self.scores and (kernel.gamma is None or families.n_families >= self.settings.rbf_from)
        ]
        if own is not None:
            return self._with_own(observed, y, spread, shrunk, families, chosen, fixed, own), families.n_families
        solution = self._solve(observed, y, shrunk, families, chosen, fixed)
        of_scores = [k for k, kernel in enumerate(self.kernels) if kernel.block == self.scores]
        if of_scores:
            with_scores = self._solve(observed, y, shrunk, families, [*chosen, *of_scores], fixed)
            solution = solution.mean_with(with_scores)
        return solution, families.n_families

    def _with_own(
        self,
        observed: np.ndarray,
        y: np.ndarray,
        spread: np.ndarray,
        shrunk: np.ndarray,
        families: Families,
        chosen: list[int],
        fixed: np.ndarray,
        own: int,
    ) -> Solution:
        """The mean of three fits: without the score, with slope 1, and with a free slope.

        With slope 1 the blocks learn what is left, in which "nothing" is allowed: a few rows know less than the
        source. A free slope serves where the source's unit is another one. No score serves where the source does not
        carry over (ages outside its range). Weights follow the errors without the family, see `_shares`.
        """
        assert self.scores is not None
        column = len(fixed) + own
        without = self._solve(observed, y, shrunk, families, chosen, fixed)
        free = self._solve(observed, y, shrunk, families, chosen, np.append(fixed, column))
        slopes = self.scale[self.scores][own] / spread
        offset = self.values[self.scores][observed, own][:, None] * slopes
        rest = self._solve(observed, y - offset, np.ones_like(shrunk), families, chosen, fixed)
        coefficients = rest.coefficients.copy()
        coefficients[column] += slopes
        whole = Solution(rest.dual, coefficients, rest.left_out + offset, rest.steady + offset)
        losses = np.array([((y - one.left_out) ** 2).mean(axis=0) for one in (without, free, whole)])
        shares = _shares(losses, families.n_families)
        return without.mean_with(free.mean_with(whole, shares[2] / (shares[1] + shares[2])), 1.0 - shares[0])

    def _solve(
        self,
        observed: np.ndarray,
        y: np.ndarray,
        shrunk: np.ndarray,
        families: Families,
        chosen: list[int],
        fixed: np.ndarray,
    ) -> Solution:
        design = Design.of(self.z[np.ix_(observed, fixed)], families)
        kernels = [self.kernels[k] for k in chosen]
        landmarks = self.landmarks(observed)
        crosses = [kernel.between(observed, landmarks) for kernel in kernels]
        places = np.searchsorted(observed, landmarks)
        part = Problem.of(kernels, crosses, places, design, self.settings).solve(y, shrunk)
        dual = [np.zeros((len(self.z), y.shape[1])) for _ in self.kernels]
        for k, weights in zip(chosen, part.dual, strict=True):
            dual[k][landmarks] = weights
        coefficients = np.zeros((self.z.shape[1], y.shape[1]))
        coefficients[fixed] = part.coefficients
        return Solution(dual, coefficients, part.left_out, part.steady)

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
    ) -> tuple[dict[str, np.ndarray], dict[str, RadialPart]]:
        """Weights per linear block (n_columns, n_outcomes) on clipped, centred values, and the radial parts."""
        linear: dict[str, np.ndarray] = {}
        radial: dict[str, RadialPart] = {}
        for kernel, weights in zip(self.kernels, dual, strict=True):
            rows = kernel.rows
            used = weights.any(axis=1)
            if kernel.gamma is None:
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
        return linear, radial


def _shares(losses: np.ndarray, n_families: int) -> np.ndarray:
    """Weights (n_fits, n_columns) of fits that sum to 1, by a tempered likelihood of errors without the family.

    Args:
        losses: (n_fits, n_columns) mean squared errors.
    """
    least = losses.min(axis=0)
    relative = (losses - least) / np.where(least > 0, least, 1.0)
    weights = _PRIOR * np.maximum(np.exp(-0.5 * _TEMPERED * n_families * relative), 1e-12)
    return np.asarray(weights / weights.sum(axis=0))
