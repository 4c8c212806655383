"""Streamlines as flat arrays of points and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError

MAX_POINTS = 10_000_000  # of one streamline; longer ones indicate a damaged file


@dataclass(frozen=True, eq=False)
class Streamlines:
    """The streamlines of a file, or of one block of it.

    Attributes:
        points: (n_points, 3) mm, RAS+; rows outside every streamline (separators) may lie in between.
        first: (n_streamlines,) row of the first point.
        n_points: (n_streamlines,) number of points of each; may be 0.
        file: file of the streamlines, for messages.
        notes: notes on the file, given with its last block.
    """

    points: np.ndarray
    first: np.ndarray
    n_points: np.ndarray
    file: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_streamlines(self) -> int:
        """Number of streamlines."""
        return len(self.first)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last points, two (n_streamlines, 3) float64; NaN for an empty streamline."""
        empty = self.n_points == 0
        safe = np.where(empty, 0, self.first)
        last = np.where(empty, 0, self.first + self.n_points - 1)
        if len(self.points) == 0:
            nothing = np.full((self.n_streamlines, 3), np.nan)
            return nothing, nothing.copy()
        head, tail = self.points[safe].astype(float), self.points[last].astype(float)
        head[empty] = np.nan
        tail[empty] = np.nan
        return head, tail

    def steps(self) -> np.ndarray:
        """Distance in mm from each row of `points` to the next; (n_points - 1,), meaningless between streamlines."""
        return _norms(self.points)

    def lengths(self) -> np.ndarray:
        """Length in mm of each streamline, (n_streamlines,) float64."""
        return self.sums(self.steps(), self.n_points - 1)

    def sums(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """For each streamline, the sum of `values` over `counts` rows from its first, (n_streamlines,) float64."""
        totals = np.zeros(self.n_streamlines)
        some = np.flatnonzero(counts > 0)
        if some.size:
            # Pairs of borders: reduceat sums [start, stop), the odd results lie between streamlines.
            borders = np.empty(2 * some.size, dtype=np.int64)
            borders[0::2] = self.first[some]
            borders[1::2] = self.first[some] + counts[some]
            closed = borders[-1] == len(values)
            sums = np.add.reduceat(values, borders[:-1] if closed else borders, dtype=np.float64)
            totals[some] = sums[0::2]
        return totals


def _norms(points: np.ndarray) -> np.ndarray:
    """|p[i+1] - p[i]| in blocks that stay in cache."""
    n_steps = max(len(points) - 1, 0)
    steps = np.empty(n_steps, dtype=points.dtype)
    block = 1 << 15
    with np.errstate(invalid="ignore"):  # separators are NaN or Inf on purpose
        for start in range(0, n_steps, block):
            stop = min(start + block, n_steps)
            difference = points[start + 1 : stop + 1] - points[start:stop]
            np.einsum("ij,ij->i", difference, difference, out=steps[start:stop])
        np.sqrt(steps, out=steps)
    return steps


def from_list(streamlines: Sequence[np.ndarray]) -> Streamlines:
    """A flat buffer from (n, 3) arrays in mm."""
    n_points = np.array([len(s) for s in streamlines], dtype=np.int64)
    nothing = np.zeros((0, 3), dtype=np.float32)
    return packed(np.concatenate([nothing, *streamlines]).astype(np.float32, copy=False), n_points)


def too_long(file: Path) -> DataError:
    """Error for a streamline that is too long."""
    return DataError("a streamline is too long", expected=f"at most {MAX_POINTS} points", file=file)


def packed(points: np.ndarray, n_points: np.ndarray) -> Streamlines:
    """Streamlines stored contiguously without separators."""
    return Streamlines(points, np.cumsum(n_points) - n_points, n_points)


def finite(streamlines: Streamlines, file: Path) -> Streamlines:
    """Check that all coordinates are finite.

    Raises:
        DataError: a coordinate is not finite.
    """
    if not np.isfinite(streamlines.points).all():
        raise DataError("a coordinate is not a finite number", file=file)
    return replace(streamlines, file=str(file))
