"""Read and check gradient tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, Problem
from connectome_tl.imaging.read.text import read_number_rows
from connectome_tl.plurals import counted
from connectome_tl.settings.imaging import BvecLengths

B0_MAX = 50.0  # default largest b-value of an unweighted volume, s/mm2
_MAX_B = 20_000.0
_ROUNDING = 0.01  # s/mm2; b-values this little below 0 are 0
_MAX_LOW = 200.0  # s/mm2; larger b-values are not unweighted volumes
_ALIKE = 0.05  # relative tolerance of equal lengths and b-values
_SCALED = "b-values are scaled by the squared lengths of the b-vectors: shells at {} s/mm2"
_MIN_SHELL = 3  # smallest number of volumes of a shell


def read_bvals(path: str | Path, *, subject: str | None = None) -> np.ndarray:
    """b-values in s/mm2, (n,).

    Raises:
        MissingInputError, DataError: not there; not numbers; negative or beyond 20,000.
    """
    return checked_bvals(read_number_rows(path, subject=subject, joined=True), path, subject=subject)


def checked_bvals(rows: np.ndarray, path: str | Path, *, subject: str | None = None) -> np.ndarray:
    """b-values of a file as a vector, with those rounded below 0 set to 0.

    Raises:
        DataError: not numbers; negative or beyond 20,000.
    """
    bvals = np.where((rows < 0) & (rows > -_ROUNDING), 0.0, rows).ravel()
    wrong = ~(np.isfinite(bvals) & (bvals >= 0) & (bvals <= _MAX_B))
    if bvals.size == 0 or wrong.any():
        raise DataError(
            "b-values are not b-values",
            expected=f"numbers from 0 to {_MAX_B:.0f} s/mm2",
            got=f"{bvals[wrong][0]:g} among {bvals.size}" if bvals.size else "an empty file",
            subject=subject,
            file=path,
            remedy="Three rows: are these the b-vectors?" if rows.ndim == 2 and len(rows) == 3 else _unit_of(bvals),
        )
    return bvals


def _unit_of(bvals: np.ndarray) -> str | None:
    """What to do with b-values that are too large because of their unit."""
    positive = bvals[bvals > 0]
    if not np.isfinite(bvals).all() or (bvals < 0).any():
        return "Write 0 for volumes without weighting, and leave out volumes of unknown weighting, in image and table."
    if not positive.size or np.median(positive) <= _MAX_B:
        return None
    for unit, factor in (("s/m2", 1_000_000), ("s/cm2", 100)):
        if B0_MAX < bvals.max() / factor <= _MAX_B:
            return f"b-values are in s/mm2; these may be in {unit}: divide by {factor:,}."
    return None


def read_bvecs(path: str | Path, *, subject: str | None = None) -> np.ndarray:
    """Read a b-vector file with 3 rows (FSL) or n rows of 3; returns (n, 3).

    Raises:
        MissingInputError, DataError: not there; not numbers; neither 3 rows nor 3 columns.
    """
    table = read_number_rows(path, subject=subject)
    if table.ndim != 2 or 3 not in table.shape:
        raise DataError(
            "b-vectors have the wrong shape", expected="3 rows, as FSL writes them", got=f"{table.shape}",
            subject=subject, file=path, remedy=_fourth_of(table),
        )  # fmt: skip
    return finite_vectors(table.T if table.shape[0] == 3 else table)


def finite_vectors(vectors: np.ndarray) -> np.ndarray:
    """The vectors with NaN in place of infinite components, since a rotation of infinite vectors is not defined."""
    return np.where(np.isfinite(vectors), vectors, np.nan)


def _fourth_of(table: np.ndarray) -> str | None:
    """What to do with a table of four numbers per volume, of which three are a direction."""
    if table.ndim != 2 or 4 not in table.shape:
        return None
    name, rows = ("row", np.nan_to_num(table)) if len(table) == 4 else ("column", np.nan_to_num(table.T))
    for at, place in ((3, "last"), (0, "first")):
        norms = np.linalg.norm(np.delete(rows, at, axis=0), axis=0)
        if ((np.abs(norms - 1) < _ALIKE) | (norms < _ALIKE)).all():
            what = "numbers of volumes" if (np.diff(rows[at]) == 1).all() else "b-values"
            return f"The {place} {name} holds {what}: leave the three of directions; b-values belong in .bval."
    return None


def fsl_to_world(bvecs: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Convert FSL's b-vectors to world axes (RAS+), (n, 3).

    FSL uses the axes of the image, with the first one flipped if the affine has a positive determinant (FSL's
    documentation of b-vectors; also used by MRtrix3).
    """
    along = bvecs.copy()
    if np.linalg.det(affine[:3, :3]) > 0:
        along[:, 0] *= -1
    return image_to_world(along, affine)


def image_to_world(vectors: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Convert vectors in the image's axes (as in QSIPrep's `.bvec`) to world axes, (n, 3)."""
    return vectors @ (affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))).T


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, (n, 3); those shorter than 0.5 become 0."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0.5)


def unit_directions(
    bvals: np.ndarray, vectors: np.ndarray, b0_max: float = B0_MAX, lengths: BvecLengths = "auto"
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Convert vectors of any length to unit vectors and, if lengths encode the weighting, scale the b-values.

    Vectors of equal length are directions. With a single b-value, lengths that form shells up to 1 encode several
    shells: the weighting is proportional to the squared length, as in MRtrix3. Lengths proportional to the root of
    the b-values are redundant.

    Args:
        bvals: (n,) s/mm2.
        vectors: (n, 3).
        lengths: interpretation: `auto` as above; `ignore` for directions only; `scale` always scales the b-values by
            the squared length, for scanners that write the largest b-value and shorter vectors.

    Returns:
        b-values, (n,); vectors, (n, 3), unchanged without such a pattern; a note or None.
    """
    weighted = bvals > b0_max
    norms = np.linalg.norm(vectors, axis=1)
    if not weighted.any() or len(vectors) != len(bvals):
        return bvals, vectors, None
    used, b = norms[weighted], bvals[weighted]
    if not (np.isfinite(used) & (used > 0)).all() or (lengths != "scale" and (np.abs(used - 1) < _ALIKE).all()):
        return bvals, vectors, None
    unit = vectors.copy()
    unit[weighted] /= used[:, None]
    if lengths == "ignore":
        return bvals, unit, "b-vectors are taken as directions, whatever their lengths (bvec_lengths: ignore)"
    if lengths == "scale":
        scaled = _scaled(bvals, weighted, used)
        return scaled, unit, _SCALED.format(_shells_of(scaled[weighted]))
    if _all_alike(used):
        return bvals, unit, f"b-vectors of length {np.median(used):.3g} are taken as directions"
    if _all_alike(used**2 / b):
        return bvals, unit, "b-vectors whose lengths go with the b-values are taken as directions"
    if _all_alike(b) and abs(used.max() - 1) < _ALIKE and _shells(used):
        scaled = _scaled(bvals, weighted, used)
        return scaled, unit, _SCALED.format(_shells_of(scaled[weighted]))
    return bvals, vectors, None


def _scaled(bvals: np.ndarray, weighted: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    scaled = bvals.astype(float)
    scaled[weighted] *= lengths**2
    return scaled


def _shells_of(bvals: np.ndarray) -> str:
    return ", ".join(f"{value:.0f}" for value in sorted(set(np.round(bvals, -1)))[:6])


def _all_alike(values: np.ndarray) -> bool:
    return bool((np.abs(values / np.median(values) - 1) < _ALIKE).all())


def _shells(lengths: np.ndarray) -> bool:
    """Whether every length is shared by some volumes."""
    near = np.abs(lengths[:, None] / lengths[None, :] - 1) < _ALIKE
    return bool((near.sum(axis=1) >= _MIN_SHELL).all())


def gradient_problems(
    bvals: np.ndarray,
    directions: np.ndarray,
    n_volumes: int,
    *,
    subject: str | None,
    files: tuple[str | Path | None, str | Path | None],
    b0_max: float = B0_MAX,
) -> list[Problem]:
    """Problems of a gradient table: counts, norms, too few directions.

    Args:
        files: files of the b-values and of the b-vectors.
        b0_max: largest b-value of an unweighted volume, s/mm2.
    """

    def problem(
        what: str,
        *,
        file: str | Path | None = files[1],
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> Problem:
        return Problem(what, expected, got, subject, file, remedy)

    found = []
    for name, count, file in (("b-values", len(bvals), files[0]), ("b-vectors", len(directions), files[1])):
        if count != n_volumes:
            found.append(
                problem(
                    f"the number of {name} is not the number of volumes",
                    file=file,
                    expected=str(n_volumes),
                    got=str(count),
                    remedy="Were volumes removed from the image alone, or is it another scan's table?",
                )
            )
    if found:
        return found
    weighted = bvals > b0_max
    if not weighted.any():
        scaled = {"remedy": "b-values are in s/mm2; these may be in ms/um2: times 1000."} if bvals.max() >= 0.1 else {}
        what = f"no volume is diffusion weighted (b above {b0_max:g} s/mm2)"
        return [problem(what, file=files[0], got=f"at most {bvals.max():g}", **scaled)]
    norms = np.linalg.norm(directions, axis=1)
    with np.errstate(invalid="ignore"):
        wrong = weighted & ~(np.abs(norms - 1) < 0.05)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        lowest = float(bvals[wrong].max())
        low = lowest <= _MAX_LOW and (norms[wrong] < 0.05).all()
        if low and (bvals[weighted & ~wrong] > lowest).all():
            what = f"{counted(int(wrong.sum()), 'volume has', 'volumes have')} a low b-value and no direction"
            return [
                problem(
                    what,
                    expected=f"b up to {b0_max:g} s/mm2 without weighting",
                    got=f"{lowest:g}",
                    **_b0_remedy(lowest),
                )
            ]
        found.append(
            problem(
                f"{counted(int(wrong.sum()), 'b-vector')} of weighted volumes not of length 1",
                got=f"{norms[first]:.3g} at volume {first + 1}",
                remedy="Check that the file is not transposed and that b-values do not sit in the vectors."
                if np.isfinite(norms[wrong]).all() and (norms[wrong] > 0).all()
                else "Write the direction of each weighted volume; leave out volumes without one, in image and table.",
            )
        )
        return found
    unique = directions[weighted]
    design = np.stack([unique[:, i] * unique[:, j] for i in range(3) for j in range(i, 3)], axis=1)
    if np.linalg.matrix_rank(design, tol=1e-2) < 6:
        found.append(problem("fewer than six independent directions", got=f"{len(unique)} weighted volumes"))
    if not (~weighted).any():
        found.append(
            problem(
                f"no volume without diffusion weighting (b up to {b0_max:g} s/mm2)",
                file=files[0],
                got=f"at least {bvals.min():g}",
                **(_b0_remedy(float(bvals.min())) if bvals.min() <= _MAX_LOW else {}),
            )
        )
    return found


def _b0_remedy(b: float) -> dict[str, str]:
    return {"remedy": f"If they are the unweighted ones, set b0_max: {math.ceil(b)} in the configuration."}


def golden_spiral(count: int) -> np.ndarray:
    """Points spread evenly over the unit sphere (a golden spiral), (count, 3)."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
