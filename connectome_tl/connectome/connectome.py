"""`Connectome`: weights of one subject, names of its rows, and a mask of present regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.atlas import order_of
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.plurals import counted

_ROUNDING = 1e-3  # relative difference of the halves of a matrix that rounding may explain


@dataclass(frozen=True, eq=False)
class Connectome:
    """Symmetric, weighted, undirected; several measures over one set of regions.

    Attributes:
        weights: (n_measures, n_regions, n_regions), symmetric, finite; rows and columns of a
            missing region are 0 and carry no information (see `node_mask`).
        regions: region names in row order, (n_regions,).
        measures: names of the measures, (n_measures,).
        node_mask: (n_regions,) bool, False where the subject lacks the region. A missing region
            is not a region without connections.
        subject, file: identifier and source file, for messages.
    """

    weights: np.ndarray
    regions: tuple[str, ...]
    measures: tuple[str, ...]
    node_mask: np.ndarray
    subject: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("weights", real_array(self.weights, "weights", subject=self.subject, file=self.file)),
            ("node_mask", np.asarray(self.node_mask)),
            ("regions", (self.regions,) if isinstance(self.regions, str) else tuple(map(str, self.regions))),
            ("measures", (self.measures,) if isinstance(self.measures, str) else tuple(map(str, self.measures))),
        ):
            object.__setattr__(self, name, value)
        raise_all("the connectome is not usable", matrix_problems(self))

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.regions)

    @property
    def n_measures(self) -> int:
        """Number of edge measures."""
        return len(self.measures)

    def aligned_to(self, names: Sequence[str]) -> Connectome:
        """The same connectome in the order of `names`; a region it lacks becomes a masked node.

        Raises:
            DataError: it has a region that is not among `names`.
        """
        position = order_of(self.regions, names, where="the atlas")
        n_regions = len(names)
        weights = np.zeros((self.n_measures, n_regions, n_regions), dtype=self.weights.dtype)
        weights[:, position[:, None], position[None, :]] = self.weights
        node_mask = np.zeros(n_regions, dtype=bool)
        node_mask[position] = self.node_mask
        return replace(self, weights=weights, regions=tuple(names), node_mask=node_mask)


def real_array(values: object, what: str, *, subject: str | None = None, file: str | None = None) -> np.ndarray:
    """Values as an array of real numbers: of a list, a data frame, a tensor, or an array.

    Raises:
        DataError: complex numbers, texts, or objects that are no numbers.
    """
    try:
        array = np.asarray(values)
        array = array.astype(float) if array.dtype.kind in "bO" else array
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{what} cannot be read as an array of numbers: {error}",
            got=type(values).__name__,
            subject=subject,
            file=file,
        ) from error
    if array.dtype.kind not in "iuf":
        remedy = "Give the real part." if array.dtype.kind == "c" else "Convert it by numpy.asarray(..., dtype=float)."
        raise DataError(
            f"{what} does not hold real numbers", got=str(array.dtype), remedy=remedy, subject=subject, file=file
        )
    return array


def matrix_problems(connectome: Connectome, *, symmetry_tolerance: float = 1e-6) -> list[Problem]:
    """Find all reasons that make a matrix unusable, with subject and regions."""
    subject, file = connectome.subject, connectome.file
    weights, n_regions = connectome.weights, connectome.n_regions

    def problem(
        what: str, *, expected: str | None = None, got: str | None = None, remedy: str | None = None
    ) -> Problem:
        return Problem(what, expected, got, subject, file, remedy)

    expected = (connectome.n_measures, n_regions, n_regions)
    if weights.shape != expected:
        return [
            problem(
                "the matrix has the wrong size",
                expected=f"{expected} (measures, regions, regions)",
                got=f"{weights.shape}",
                remedy="Write weights[None] for the only measure."
                if weights.ndim == 2
                else "Check the atlas: tools that drop the last region write a smaller matrix.",
            )
        ]
    mask = connectome.node_mask
    if mask.shape != (n_regions,) or mask.dtype != bool:
        got = f"{mask.dtype} {mask.shape}"
        return [problem("the node mask has the wrong size or type", expected=f"bool ({n_regions},)", got=got)]
    twice = sorted({name for name in connectome.regions if connectome.regions.count(name) > 1})
    if twice:
        return [problem("region names occur twice", got=", ".join(twice[:6]), remedy="Each row needs its own name.")]
    found: list[Problem] = []
    bad = ~np.isfinite(weights)
    if bad.any():
        first = np.argwhere(bad)[0]
        found.append(
            problem(
                f"{counted(int(bad.sum()), 'entry is', 'entries are')} NaN or infinite",
                got=f"first at {connectome.regions[first[1]]} - {connectome.regions[first[2]]}",
                remedy="Is -inf the logarithm of 0? Give weights before the logarithm; transform: log1p follows."
                if np.isneginf(weights[bad]).all()
                else "A region without data is left out or masked, not filled with NaN.",
            )
        )
        return found
    scale = max(float(np.abs(weights).max(initial=0.0)), 1e-300)
    error = np.abs(weights - weights.swapaxes(1, 2))
    if error.max(initial=0.0) > symmetry_tolerance * scale:
        _, i, j = np.unravel_index(int(error.argmax()), error.shape)
        found.append(
            problem(
                "the matrix is not symmetric",
                got=f"a difference of {error.max():.3g} between {connectome.regions[i]} and {connectome.regions[j]}",
                remedy=symmetry_remedy(float(error.max()) / scale),
            )
        )
    return found


def symmetry_remedy(error: float) -> str:
    """What to do about a matrix whose halves have this relative difference."""
    if error < _ROUNDING:
        return "If the difference is due to rounding, write the mean of the matrix and its transpose."
    return "Directed connectomes are not supported; if the matrix is symmetric but for an error, export it again."


def upper_indices(n_regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column positions of the upper triangle without diagonal, in the order of stacked files."""
    rows, columns = np.triu_indices(n_regions, 1)
    return rows, columns


def from_upper(values: np.ndarray, *, subject: str | None = None, file: str | None = None) -> np.ndarray:
    """(..., n_edges) upper triangles to (..., n_regions, n_regions) symmetric matrices.

    Raises:
        DataError: the number of edges is not n (n - 1) / 2 for any integer n.
    """
    n_edges = values.shape[-1]
    n_regions = int((1 + np.sqrt(1 + 8 * n_edges)) // 2)
    if n_regions * (n_regions - 1) // 2 != n_edges:
        raise DataError(
            "not an upper triangle", expected="n (n - 1) / 2 values", got=str(n_edges), subject=subject, file=file
        )
    rows, columns = upper_indices(n_regions)
    matrices = np.zeros((*values.shape[:-1], n_regions, n_regions), dtype=values.dtype)
    matrices[..., rows, columns] = values
    matrices[..., columns, rows] = values
    return matrices
