"""Blocks of features, their clipping and their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from connectome_tl.errors import DataError, InternalError
from connectome_tl.settings.core import CoreSettings

KernelKind = Literal["linear", "rbf", "both"]


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of one modality, already fitted and scaled by its feature steps.

    Attributes:
        name: unique in a fit: "tangent", "edges", "regional", "clinical", "image" ...
        values: (n_rows, n_columns), finite.
        kernel: "linear", "rbf" (a radial kernel, used from `CoreSettings.rbf_from` families on), or "both" of the
            same rows and a quadratic kernel of their leading components (from `CoreSettings.quadratic_from` on).
        relax: a slope beside the penalty in regressions (for tangent blocks).
        summed: False for a block that only enters the stack, on its own: raw edges beside their tangent form,
            which the sum and the average would count twice.
        penalised: False for columns that enter like the intercept, a covariate known to be strong.
    """

    name: str
    values: np.ndarray
    kernel: KernelKind = "linear"
    relax: bool = False
    summed: bool = True
    penalised: bool = True


@dataclass(frozen=True, eq=False)
class SourceScores:
    """What a source model predicts for the training rows.

    Attributes:
        block: (n_rows, n_source_outcomes) predictions, each in the unit of its outcome.
        own: (n_outcomes,), the column of the block with the same outcome, or None.
        covered: names of the blocks from which the predictions are computed.
        usable: (n_source_outcomes,), whether a column is used; None for all.
    """

    block: Block
    own: tuple[int | None, ...]
    covered: frozenset[str] = frozenset()
    usable: tuple[bool, ...] | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """Means and clipping limits of a block's columns, from training rows.

    Attributes:
        name: of the block.
        center, lower, upper: (n_columns,).
    """

    name: str
    center: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @staticmethod
    def fit(block: Block, clip: float | None) -> Columns:
        """Mean, and `clip` population standard deviations on either side of it.

        Raises:
            DataError: values are not a finite matrix.
        """
        values = _checked(block)
        center, spread = values.mean(axis=0), values.std(axis=0)
        reach = np.full_like(spread, np.inf) if clip is None else clip * spread
        return Columns(block.name, center, center - reach, center + reach)

    def apply(self, block: Block) -> np.ndarray:
        """Clipped and centred values (n_rows, n_columns), float64.

        Raises:
            DataError: other columns than in training, or values that are not finite.
        """
        values = _checked(block)
        if values.shape[1] != self.center.size:
            what = f"block {self.name} has other columns than in training"
            raise DataError(what, expected=str(self.center.size), got=str(values.shape[1]))
        return np.clip(values, self.lower, self.upper) - self.center


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel of a block; its Gram matrix over the training rows has mean eigenvalue 1 after centring.

    Attributes:
        block: its block's name.
        rows: (n_rows, n_columns) training rows, clipped and centred; of a quadratic kernel their leading components.
        scale: divisor of the raw kernel.
        gamma: of the radial kernel exp(-gamma * squared distance); None for the others.
        relax: whether a slope is fitted beside the penalty in regressions.
        summed: whether it is part of the sum and the average.
        full: (n_rows, n_rows) between all training rows, where it was computed.
        basis: of a quadratic kernel (c x)^2, (n_columns, n_components) from columns to the components c; or None.
    """

    block: str
    rows: np.ndarray
    scale: float
    gamma: float | None
    relax: bool
    summed: bool
    full: np.ndarray | None
    basis: np.ndarray | None = None

    def least(self, settings: CoreSettings) -> int:
        """Number of families from which it is used."""
        if self.basis is not None:
            return settings.quadratic_from
        return 0 if self.gamma is None else settings.rbf_from

    def between(self, at: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(len(at), len(landmarks)) of these training rows."""
        if self.full is not None:
            return self.full[np.ix_(at, landmarks)]
        rows, spanning = self.rows[at], self.rows[landmarks]
        if self.gamma is not None:
            return radial(rows, spanning, self.gamma) / self.scale
        products = rows @ spanning.T
        return (products if self.basis is None else products**2) / self.scale


def kernels(block: Block, rows: np.ndarray, landmarks: np.ndarray, n_components: int = 0) -> list[Kernel]:
    """The kernels of a block; none where no column varies, since nothing can be learned from it.

    Args:
        rows: (n_rows, n_columns) clipped and centred training rows.
        landmarks: rows between which the width of the radial kernel and the components of the quadratic one are
            measured; all, and all pairs are kept.
        n_components: of the quadratic kernel; 0 for none.
    """
    norms = np.einsum("ij,ij->i", rows, rows)
    scale = float(norms.mean())
    if not scale > 0:
        return []
    whole = len(landmarks) == len(rows)
    spanning = rows[landmarks]
    gram = spanning @ spanning.T
    found = []
    if block.kernel != "rbf":
        found.append(Kernel(block.name, rows, scale, None, block.relax, block.summed, gram / scale if whole else None))
    if block.kernel != "linear":
        distances = np.maximum(norms[landmarks][:, None] + norms[landmarks] - 2 * gram, 0.0)
        others = distances[~np.eye(len(gram), dtype=bool)]
        middle = float(np.median(others)) or float(others.mean())
        values = np.exp(-distances / middle)
        scale = float(1.0 - values.mean())
        found.append(Kernel(block.name, rows, scale, 1.0 / middle, False, False, values / scale if whole else None))
    if block.kernel == "both" and n_components:
        found += _quadratic(block, rows, spanning, gram, n_components)
    return found


def _quadratic(
    block: Block, rows: np.ndarray, spanning: np.ndarray, gram: np.ndarray, n_components: int
) -> list[Kernel]:
    """Squared products of the leading components, each with variance 1, so that products of two of them count alike.

    Empty if all rows have the same squares, such as those of two rows.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > 1e-10 * values[-1])[-n_components:]
    basis = spanning.T @ (vectors[:, kept] * (np.sqrt(len(gram)) / values[kept]))
    components = rows @ basis
    among = components if len(spanning) == len(rows) else spanning @ basis
    products = (among @ among.T) ** 2
    whole = float(np.trace(products) / len(products))
    scale = whole - float(products.mean())
    if scale <= 1e-9 * whole:
        return []
    full = products / scale if len(spanning) == len(rows) else None
    return [Kernel(block.name, components, scale, None, False, False, full, basis)]


def radial(rows: np.ndarray, landmarks: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma d^2) of each row and landmark, (n_rows, n_landmarks)."""
    distances = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", landmarks, landmarks)
    return np.exp(-gamma * np.maximum(distances - 2 * rows @ landmarks.T, 0.0))


def choose_landmarks(rows: Sequence[np.ndarray], at: np.ndarray, exact_up_to: int, n_landmarks: int) -> np.ndarray:
    """All rows `at`, or if they exceed `exact_up_to` some of them at regular intervals along a fixed random direction.

    The choice depends on the content of the rows, not on their positions.

    Args:
        rows: (n_rows, n_columns) of each block.
        at: sorted row numbers.
    """
    if len(at) <= exact_up_to:
        return at
    key = np.zeros(len(at))
    for part in rows:
        along = part[at] @ np.random.default_rng(0).normal(size=part.shape[1])
        spread = along.std()
        key += along / (spread if spread > 0 else 1.0)
    places = ((np.arange(n_landmarks) + 0.5) * len(at) / n_landmarks).astype(int)
    return np.sort(at[np.argsort(key, kind="stable")[places]])


def matched(blocks: Sequence[Block], names: Sequence[str]) -> dict[str, Block]:
    """The blocks by name.

    Raises:
        InternalError: other blocks than in training, or blocks of different length.
    """
    found = {block.name: block for block in blocks}
    if set(found) != set(names) or len(found) != len(blocks):
        got = ", ".join(block.name for block in blocks)
        raise InternalError("blocks differ from those in training", expected=", ".join(names), got=got)
    if len({len(block.values) for block in blocks}) > 1:
        raise InternalError("blocks have different numbers of rows")
    return found


def _checked(block: Block) -> np.ndarray:
    values = np.asarray(block.values, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        what = f"block {block.name} is not a matrix of finite numbers"
        raise DataError(what, got=f"shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite")
    return values
