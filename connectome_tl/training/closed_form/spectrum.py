"""Kernel ridge for all penalties, with leave-one-family-out predictions.

With Z the unpenalised columns (the intercept among them) and K the kernel, ridge solves
(K + a I) d + Z b = y, Z' d = 0, so d = G y. Leaving out the rows F of a family changes their residual to
G_FF^-1 (G y)_F, in closed form (for single rows: Allen 1974, doi:10.1080/00401706.1974.10489157).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SINGULAR = 1e-9


@dataclass(frozen=True, eq=False)
class Families:
    """Rows of the same family, families of the same size stacked.

    Attributes:
        stacks: one (n_families, size) array of row numbers per size.
        n_rows, n_families: their numbers.
    """

    stacks: tuple[np.ndarray, ...]
    n_rows: int
    n_families: int

    @staticmethod
    def of(names: Sequence[str]) -> Families:
        """From one family name per row."""
        _, which = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        order = np.argsort(which, kind="stable")
        sizes = np.bincount(which)
        starts = np.cumsum(sizes) - sizes
        stacks = tuple(order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes))
        return Families(stacks, len(which), len(sizes))

    def means_of_others(self, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Mean of y (n_rows, n_columns) over all rows of other families, for each row; weights are (n_rows, 1)."""
        weights = np.ones((self.n_rows, 1)) if weights is None else weights
        means, weighted = np.empty_like(y), weights * y
        for stack in self.stacks:
            others = weighted.sum(axis=0) - weighted[stack].sum(axis=1)
            means[stack] = (others / (weights.sum() - weights[stack].sum(axis=1)))[:, None]
        return means

    def left_out(
        self, solved: np.ndarray, blocks: Sequence[np.ndarray], fallback: np.ndarray, least: float | np.ndarray
    ) -> np.ndarray:
        """Residuals (..., n_rows, n_columns) of fits without the row's family.

        Args:
            solved: G y, (..., n_rows, n_columns).
            blocks: G_FF of each stack, (..., n_families, size, size).
            fallback: residuals (n_rows, n_columns) where the other families do not determine the unpenalised
                columns.
            least: eigenvalue of G_FF below which they do not, or (..., 1, 1) of them.
        """
        residuals = np.empty_like(solved)
        for stack, block in zip(self.stacks, blocks, strict=True):
            if stack.shape[1] == 1:
                at, pivot = stack[:, 0], block[..., 0]
                known = pivot > least
                own = solved[..., at, :] / np.where(known, pivot, 1.0)
                residuals[..., at, :] = np.where(known, own, fallback[at])
                continue
            values, vectors = np.linalg.eigh(block)
            known = (values[..., :1] > least)[..., None]
            inverse = (vectors / np.where(known, values[..., None, :], 1.0)) @ vectors.swapaxes(-1, -2)
            residuals[..., stack, :] = np.where(known, inverse @ solved[..., stack, :], fallback[stack])
        return residuals


@dataclass(frozen=True, eq=False)
class Design:
    """The unpenalised columns of some rows and their predictions alone.

    Attributes:
        z: (n_rows, n_unpenalised). The first column is 1, or the square root of the rows' weights, by which kernel,
            outcomes and other columns are then multiplied as well.
        basis: (n_rows, rank), orthonormal.
        families: of the rows.
    """

    z: np.ndarray
    basis: np.ndarray
    families: Families

    @staticmethod
    def of(z: np.ndarray, families: Families) -> Design:
        """Decompose the unpenalised columns (n_rows, n_columns)."""
        vectors, values, _ = np.linalg.svd(z, full_matrices=False)
        return Design(z, vectors[:, values > 1e-10 * values[0]], families)

    def project(self, values: np.ndarray) -> np.ndarray:
        """Without the part explained by the unpenalised columns."""
        return values - self.basis @ (self.basis.T @ values)

    def residuals(self, y: np.ndarray) -> np.ndarray:
        """y less its prediction from the unpenalised columns of other families, (n_rows, n_columns)."""
        root = self.z[:, :1]
        fallback = y - root * self.families.means_of_others(y / root, root**2)
        if self.basis.shape[1] == 1:
            return fallback
        return self.families.left_out(self.project(y), self.diagonal_blocks(), fallback, _SINGULAR)

    def diagonal_blocks(self) -> list[np.ndarray]:
        """(I - Z Z^+)_FF of each stack of families, (n_families, size, size)."""
        parts = [self.basis[stack] for stack in self.families.stacks]
        return [np.eye(part.shape[1]) - part @ part.swapaxes(1, 2) for part in parts]

    def coefficients(self, y: np.ndarray) -> np.ndarray:
        """Least squares of y on the unpenalised columns, (n_unpenalised, n_columns)."""
        return np.linalg.lstsq(self.z, y, rcond=1e-10)[0]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues (rank,) and vectors (n_rows, rank) of a kernel after projection off the unpenalised columns.

    `to_landmarks` turns dual weights of rows into those of landmarks; None in the exact form.
    """

    values: np.ndarray
    vectors: np.ndarray
    design: Design
    to_landmarks: np.ndarray | None = None

    @staticmethod
    def of(cross: np.ndarray, landmarks: np.ndarray, design: Design) -> Spectrum:
        """From a kernel between all rows and the landmarks (n_rows, n_landmarks)."""
        n = len(cross)
        if cross.shape[1] == n:
            inner = design.project(design.project(cross).T)
            # Lifted far above the rest, the unpenalised directions come out last.
            lift = np.trace(inner) + 1.0
            values, vectors = np.linalg.eigh((inner + inner.T) / 2 + lift * design.basis @ design.basis.T)
            rank = n - design.basis.shape[1]
            return Spectrum(np.maximum(values[:rank], 0.0), vectors[:, :rank], design)
        among, turn = np.linalg.eigh((cross[landmarks] + cross[landmarks].T) / 2)
        kept = among > 1e-10 * among[-1]
        to_features = turn[:, kept] / np.sqrt(among[kept])
        features = cross @ to_features
        inside = design.project(features)
        values, turn = np.linalg.eigh(inside.T @ inside)
        kept = values > 1e-10 * max(values[-1], 1e-300)
        vectors = inside @ (turn[:, kept] / np.sqrt(values[kept]))
        return Spectrum(values[kept], vectors, design, to_features @ features.T)

    def path(self, y: np.ndarray, errors: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Contribution of the kernel to leave-one-family-out predictions, (n_penalties, n_rows, n_columns).

        Args:
            y: (n_rows, n_columns).
            errors: of the unpenalised columns alone, `Design.residuals(y)`.
        """
        # For all penalties at once, so that the vectors are read once.
        weights = 1.0 / (self.values + penalties[:, None]) - 1.0 / penalties[:, None]
        rotated, rest = self.vectors.T @ y, self.design.project(y)
        turned = weights.T[:, :, None] * rotated[:, None]
        flat = turned.reshape(len(rotated), len(penalties) * y.shape[1])  # a kernel of rank 0 has no rows
        solved = np.moveaxis((self.vectors @ flat).reshape(len(y), *turned.shape[1:]), 1, 0)
        solved += rest / penalties[:, None, None]
        blocks = [
            block / penalties[:, None, None, None] + self._weighted(stack, weights)
            for stack, block in zip(self.design.families.stacks, self.design.diagonal_blocks(), strict=True)
        ]
        left_out = self.design.families.left_out(solved, blocks, errors, _SINGULAR / penalties[:, None, None])
        return np.subtract(errors, left_out, out=left_out)

    def _weighted(self, stack: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """V_F diag(w) V_F' of families F (n_families, size) for weights (n_penalties, rank); (n_penalties, n_families,
        size, size)."""
        part = self.vectors[stack]
        found = [(part * part[:, [row]]) @ weights.T for row in range(stack.shape[1])]
        return np.moveaxis(np.stack(found, axis=1), 3, 0)

    def dual(self, y: np.ndarray, penalties: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Dual weights (n_landmarks, n_columns) of a sum of ridge fits.

        Args:
            shares: (n_penalties, n_columns), the factor of each penalty's fit.
        """
        weights = (1.0 / (self.values[:, None] + penalties) - 1.0 / penalties) @ shares
        solved = self.design.project(y) * (shares / penalties[:, None]).sum(axis=0)
        solved += self.vectors @ (weights * (self.vectors.T @ y))
        return solved if self.to_landmarks is None else self.to_landmarks @ solved
