"""Dwi: volumes with their gradient table, checked before anything is computed from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.read.images import grid_problem, read_mask, read_volume, same_grid
from connectome_tl.imaging.read.text import read_number_rows

B0_MAX = 50.0  # s/mm2; up to here a volume counts as not weighted
_SHELL_GAP = 100.0  # s/mm2; b-values nearer than this are one shell
_MAX_B = 20_000.0
_MAX_BELOW, _LITTLE_BELOW = 0.2, 0.01  # share of the unweighted signal that may be negative, and may so in silence


@dataclass(frozen=True, eq=False)
class Dwi:
    """Diffusion-weighted volumes.

    Attributes:
        data: (x, y, z, n_volumes) float32.
        affine: (4, 4) voxel indices to mm, RAS+.
        bvals: (n_volumes,) s/mm2.
        directions: (n_volumes, 3) unit vectors in the world's axes (RAS+), or zero where not weighted.
        mask: (x, y, z) bool.
        subject, file: whose it is, for messages.
        warnings: what a reader should know.
    """

    data: np.ndarray
    affine: np.ndarray
    bvals: np.ndarray
    directions: np.ndarray
    mask: np.ndarray
    subject: str | None = None
    file: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def n_volumes(self) -> int:
        return len(self.bvals)

    @property
    def is_b0(self) -> np.ndarray:
        """(n_volumes,) bool, True where the volume is not diffusion weighted."""
        return self.bvals <= B0_MAX

    @property
    def zooms(self) -> np.ndarray:
        """Voxel edge lengths in mm, (3,)."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def voxel_directions(self) -> np.ndarray:
        """Directions along the image's own axes, as dipy takes them, (n_volumes, 3)."""
        return self.directions @ (self.affine[:3, :3] / self.zooms)

    def shells(self) -> tuple[tuple[float, np.ndarray], ...]:
        """Mean b-value and volume indices of each weighted shell, rising."""
        weighted = np.flatnonzero(~self.is_b0)
        order = weighted[np.argsort(self.bvals[weighted], kind="stable")]
        if order.size == 0:
            return ()
        cuts = np.flatnonzero(np.diff(self.bvals[order]) > _SHELL_GAP) + 1
        return tuple((float(self.bvals[part].mean()), np.sort(part)) for part in np.split(order, cuts))

    def with_mask(self, mask: np.ndarray) -> Dwi:
        return replace(self, mask=mask)


def read_bvals(path: str | Path, *, subject: str | None = None) -> np.ndarray:
    """b-values in s/mm2, (n,).

    Raises:
        MissingInputError, DataError: not there; not numbers; negative or beyond 20,000.
    """
    rows = read_number_rows(path, subject=subject)
    bvals = rows.ravel()
    wrong = ~(np.isfinite(bvals) & (bvals >= 0) & (bvals <= _MAX_B))
    if bvals.size == 0 or wrong.any():
        three = rows.ndim == 2 and rows.shape[0] == 3
        raise DataError(
            "b-values are not b-values",
            expected=f"numbers from 0 to {_MAX_B:.0f} s/mm2",
            got=f"{bvals[wrong][0]:g} among {bvals.size}" if bvals.size else "an empty file",
            subject=subject,
            file=path,
            remedy="Three rows: are these the b-vectors?" if three else None,
        )
    return bvals


def read_bvecs(path: str | Path, *, subject: str | None = None) -> np.ndarray:
    """Rows of a b-vector file as they stand, (n, 3), from 3 rows (FSL) or n rows of 3.

    Raises:
        MissingInputError, DataError: not there; not numbers; neither 3 rows nor 3 columns.
    """
    table = read_number_rows(path, subject=subject)
    if table.ndim != 2 or 3 not in table.shape:
        raise DataError(
            "b-vectors have the wrong shape", expected="3 rows, as FSL writes them", got=f"{table.shape}",
            subject=subject, file=path,
        )  # fmt: skip
    return table.T if table.shape[0] == 3 else table


def fsl_to_world(bvecs: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """FSL's b-vectors to world axes (RAS+), (n, 3).

    FSL counts along the image's axes, with the first one turned around where the affine has a positive
    determinant (FSL's documentation of b-vectors; MRtrix3 reads them alike).
    """
    along = bvecs.copy()
    if np.linalg.det(affine[:3, :3]) > 0:
        along[:, 0] *= -1
    return image_to_world(along, affine)


def image_to_world(vectors: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Vectors along the image's own axes (as QSIPrep's `.bvec` holds them) to world axes, (n, 3)."""
    return vectors @ (affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))).T


def read_dwi(
    image: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    *,
    table: str | Path | None = None,
    bvec_axes: str = "fsl",
    mask: str | Path | None = None,
    subject: str | None = None,
) -> Dwi:
    """Read diffusion volumes with their gradients, and list everything that is wrong with them.

    Args:
        bval, bvec: FSL files; not needed with `table`.
        table: MRtrix's gradient table (`.b`): x y z b in world axes, one row per volume.
        bvec_axes: `fsl`, or `image` for QSIPrep's files.
        mask: brain mask on the same grid; all of the image without it.

    Raises:
        MissingInputError, DataError: as the readers, or every fault of the table at once.
    """
    volume = read_volume(image, subject=subject, n_dimensions=(4,))
    if table is not None:
        rows = read_number_rows(table, subject=subject)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise DataError("not a gradient table", expected="x y z b in rows", subject=subject, file=table)
        bvals, directions, sources = rows[:, 3], rows[:, :3], (table, table)
    elif bval is not None and bvec is not None:
        bvals, vectors, sources = read_bvals(bval, subject=subject), read_bvecs(bvec, subject=subject), (bval, bvec)
        convert = fsl_to_world if bvec_axes == "fsl" else image_to_world
        directions = convert(vectors, volume.affine)
    else:
        raise DataError("the gradient table is missing", expected="bval and bvec, or .b", subject=subject, file=image)
    problems = gradient_problems(bvals, directions, volume.shape[3], subject=subject, files=sources)
    region = np.ones(volume.shape[:3], dtype=bool)
    if mask is not None:
        given = read_mask(mask, subject=subject)
        if same_grid(given, volume):
            region = given.data
        else:
            problems.append(grid_problem("the mask", given, volume))
    raise_all("the diffusion data cannot be used", problems)
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.divide(directions, norms, out=np.zeros_like(directions), where=norms > 0.5)
    bad = ~np.isfinite(volume.data).all(axis=3)
    warnings = []
    if bad.any():
        volume.data[bad] = 0.0
        region &= ~bad
        warnings.append(f"{int(bad.sum())} voxels hold values that are not numbers and are left out")
    problem, warning = _signal_problem(volume.data[..., bvals <= B0_MAX].mean(axis=3), region)
    if problem is not None:
        raise DataError(
            problem, expected="diffusion-weighted volumes as a scanner makes them", subject=subject, file=image
        )
    warnings += [warning] if warning else []
    return Dwi(volume.data, volume.affine, bvals, directions, region, subject, str(image), tuple(warnings))


def _signal_problem(unweighted: np.ndarray, region: np.ndarray) -> tuple[str | None, str | None]:
    """What makes the image unusable, and what a reader should know, from the mean unweighted volume."""
    values = unweighted[region].astype(float)
    if not values.size:
        return "no voxel holds a number in every volume", None
    if values.size > 1 and values.min() == values.max():
        return f"the unweighted volumes hold nothing but {values[0]:g}", None
    below = float(-values[values < 0].sum() / np.abs(values).sum())
    said = f"{below:.0%} of the unweighted signal is negative: numbers too large for their type, or a wrong scale"
    if below > _MAX_BELOW:
        return said, None
    return None, f"{said}?" if below > _LITTLE_BELOW else None


def gradient_problems(
    bvals: np.ndarray,
    directions: np.ndarray,
    n_volumes: int,
    *,
    subject: str | None,
    files: tuple[str | Path | None, str | Path | None],
) -> list[Problem]:
    """Everything that is wrong with a gradient table: counts, norms, too few directions.

    Args:
        files: of the b-values and of the b-vectors.
    """

    def problem(what: str, *, file: str | Path | None = files[1], **more: str) -> Problem:
        return Problem(what, subject=subject, file=file, **more)

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
    weighted = bvals > B0_MAX
    if not weighted.any():
        scaled = {"remedy": "b-values are in s/mm2; these may be in ms/um2: times 1000."} if bvals.max() >= 0.1 else {}
        what = f"no volume is diffusion weighted (b above {B0_MAX:.0f} s/mm2)"
        return [problem(what, file=files[0], got=f"at most {bvals.max():g}", **scaled)]
    norms = np.linalg.norm(directions, axis=1)
    with np.errstate(invalid="ignore"):
        wrong = weighted & ~(np.abs(norms - 1) < 0.05)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        found.append(
            problem(
                f"{int(wrong.sum())} b-vectors of weighted volumes are not of length 1",
                got=f"{norms[first]:.3g} at volume {first + 1}",
                remedy="Check that the file is not transposed and that b-values do not sit in the vectors.",
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
                f"no volume without diffusion weighting (b up to {B0_MAX:.0f} s/mm2)",
                file=files[0],
                got=f"at least {bvals.min():g}",
            )
        )
    return found
