"""Fit columns with equal missingness: mean of the summed, stacked and averaged kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.average import kernel_average, sobol_points
from connectome_tl.training.closed_form.blocks import Kernel
from connectome_tl.training.closed_form.combine import best_fit, slope, stack
from connectome_tl.training.closed_form.spectrum import Design, Spectrum

_COLUMNS_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Solution:
    """A fit of some columns.

    Attributes:
        dual: one (n_landmarks, n_columns) per kernel.
        coefficients: (n_unpenalised, n_columns).
        left_out: (n_rows, n_columns), predictions without the row's family.
        steady: the same, moved by the difference between the mean of all rows and that of the other families.
    """

    dual: list[np.ndarray]
    coefficients: np.ndarray
    left_out: np.ndarray
    steady: np.ndarray


def mean_of(solutions: Sequence[Solution], shares: np.ndarray) -> Solution:
    """Weighted mean of fits of the same kernels and columns, in which all of them are linear.

    Args:
        shares: (n_solutions, n_columns), summing to 1.
    """
    return Solution(
        [_sum(duals, shares) for duals in zip(*(one.dual for one in solutions), strict=True)],
        _sum([one.coefficients for one in solutions], shares),
        _sum([one.left_out for one in solutions], shares),
        _sum([one.steady for one in solutions], shares),
    )


def _sum(parts: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Sum of (n_rows, n_columns) arrays times shares (n_parts, n_columns)."""
    return np.asarray(np.sum([part * share for part, share in zip(parts, shares, strict=True)], axis=0))


@dataclass(frozen=True, eq=False)
class _Part:
    dual: list[np.ndarray]
    added: np.ndarray  # to predictions that leave out the family


@dataclass(frozen=True, eq=False)
class Problem:
    """Kernels of the observed rows, decomposed once, for any number of outcomes.

    Attributes:
        kernels: radial ones and linear ones.
        crosses: one (n_rows, n_landmarks) per kernel, of the observed rows.
        spectra: one per kernel, and one of the sum of the summed kernels where there are any.
        design: the unpenalised columns.
    """

    kernels: Sequence[Kernel]
    crosses: list[np.ndarray]
    spectra: list[Spectrum]
    design: Design
    settings: CoreSettings

    @staticmethod
    def of(
        kernels: Sequence[Kernel],
        crosses: list[np.ndarray],
        landmarks: np.ndarray,
        design: Design,
        settings: CoreSettings,
    ) -> Problem:
        """Decompose each kernel and the sum of the summed ones; `landmarks` are places among the observed rows."""
        spectra = [Spectrum.of(cross, landmarks, design) for cross in crosses]
        summed = [k for k, kernel in enumerate(kernels) if kernel.summed]
        if len(summed) == 1:
            spectra.append(spectra[summed[0]])
        elif summed:
            total = np.sum([crosses[k] for k in summed], axis=0)
            spectra.append(Spectrum.of(total, landmarks, design))
        return Problem(kernels, crosses, spectra, design, settings)

    def solve(self, y: np.ndarray, shrunk: np.ndarray) -> Solution:
        """Fit all columns.

        Args:
            y: (n_rows, n_columns), no value missing, standardised.
            shrunk: (n_columns,) bool: relaxed, and shrunk towards the mean; False for labels.
        """
        starts = range(0, y.shape[1], _COLUMNS_AT_ONCE)
        cuts = [slice(start, start + _COLUMNS_AT_ONCE) for start in starts]
        found = [self._solve(y[:, cut], shrunk[cut]) for cut in cuts]
        return Solution(
            [np.concatenate([one.dual[k] for one in found], axis=1) for k in range(len(self.kernels))],
            np.concatenate([one.coefficients for one in found], axis=1),
            np.concatenate([one.left_out for one in found], axis=1),
            np.concatenate([one.steady for one in found], axis=1),
        )

    def _solve(self, y: np.ndarray, shrunk: np.ndarray) -> Solution:
        errors = self.design.residuals(y)
        parts = self._parts(y, errors, shrunk)
        dual = [np.mean([part.dual[k] for part in parts], axis=0) for k in range(len(self.kernels))]
        added = np.mean([part.added for part in parts], axis=0) if parts else np.zeros_like(y)
        fitted = np.zeros_like(y)
        for cross, weights in zip(self.crosses, dual, strict=True):
            fitted += cross @ weights
        left_out = y - errors + added
        steady = left_out + y.mean(axis=0) - self.design.families.means_of_others(y)
        return Solution(dual, self.design.coefficients(y - fitted), left_out, steady)

    def _parts(self, y: np.ndarray, errors: np.ndarray, shrunk: np.ndarray) -> list[_Part]:
        if not self.kernels:
            return []
        penalties = np.asarray(self.settings.penalties)
        paths = [spectrum.path(y, errors, penalties) for spectrum in self.spectra]
        found = [self._stacked(y, errors, paths, shrunk)]
        summed = [kernel for kernel in self.kernels if kernel.summed]
        if summed:
            relax = shrunk & self.settings.relax & any(kernel.relax for kernel in summed)
            shares, added = best_fit(paths[-1], errors, relax)
            found.append(self._of_sum(self.spectra[-1].dual(y, penalties, shares), added))
        exact = all(cross.shape[0] == cross.shape[1] for cross in self.crosses)
        if summed and exact and self.design.families.n_families < self.settings.average_below:
            found.append(self._averaged(y, errors, len(summed), relax))
        return found

    def _stacked(self, y: np.ndarray, errors: np.ndarray, paths: list[np.ndarray], shrunk: np.ndarray) -> _Part:
        penalties = np.asarray(self.settings.penalties)[::2]
        shares, added = stack([path[::2] for path in paths], errors, shrunk & self.settings.stein, len(paths) - 1)
        duals = [spectrum.dual(y, penalties, share) for spectrum, share in zip(self.spectra, shares, strict=True)]
        if len(duals) == len(self.kernels):
            return _Part(duals, added)
        summed = self._of_sum(duals.pop(), added)
        return _Part([a + b for a, b in zip(duals, summed.dual, strict=True)], added)

    def _averaged(self, y: np.ndarray, errors: np.ndarray, n_summed: int, relax: np.ndarray) -> _Part:
        grams = [cross for kernel, cross in zip(self.kernels, self.crosses, strict=True) if kernel.summed]
        points = sobol_points(self.settings.average_points, n_summed, *self.settings.average_range)
        dual, added = kernel_average(grams, y, errors, self.design, points)
        slopes = np.where(relax, np.clip(slope(added, errors), 1.0, self.settings.average_slope), 1.0)
        found = iter(dual)
        nothing = np.zeros_like(y)
        scaled = [next(found) * slopes if kernel.summed else nothing for kernel in self.kernels]
        return _Part(scaled, added * slopes)

    def _of_sum(self, dual: np.ndarray, added: np.ndarray) -> _Part:
        """The same dual weights for every summed kernel, as the kernels' sum has them."""
        nothing = np.zeros_like(dual)
        return _Part([dual if kernel.summed else nothing for kernel in self.kernels], added)
