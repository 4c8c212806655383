"""`Dwi`: diffusion volumes with their gradient table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, raise_all
from connectome_tl.imaging.read.gradient_files import read_gradients
from connectome_tl.imaging.read.gradients import (
    B0_MAX,
    fsl_to_world,
    gradient_problems,
    image_to_world,
    normalised,
    read_bvals,
    read_bvecs,
)
from connectome_tl.imaging.read.images import grid_problem, read_mask, read_volume, same_grid
from connectome_tl.settings.imaging import BvecLengths

__all__ = [
    "B0_MAX",
    "Dwi",
    "fsl_to_world",
    "gradient_problems",
    "image_to_world",
    "normalised",
    "numbered",
    "read_bvals",
    "read_bvecs",
    "read_dwi",
    "signal_problem",
]
_AGAIN = "Convert the data again, in floating point or unsigned 16 bits, with a background of 0."
_SHEAR = 0.02  # cosine of the angle between axes, at most
_SHELL_GAP = 100.0  # s/mm2; b-values nearer than this are one shell
_FAR_BELOW, _MANY_BELOW = 0.1, 20  # of the largest signal; voxels
_MAX_BELOW, _LITTLE_BELOW = 0.2, 0.01  # share of the unweighted signal that may be negative, with and without a warning


@dataclass(frozen=True, eq=False)
class Dwi:
    """Diffusion-weighted volumes.

    Attributes:
        data: (x, y, z, n_volumes) float32.
        affine: (4, 4) voxel indices to mm, RAS+.
        bvals: (n_volumes,) s/mm2.
        directions: (n_volumes, 3) unit vectors in the world's axes (RAS+), or zero where not weighted.
        mask: (x, y, z) bool.
        subject, file: subject and file, for messages.
        warnings: warnings for the user.
        b0_max: largest b-value of an unweighted volume, s/mm2.
        runs: (n_volumes,) number of the run of each volume, from 0; None with a single run.
    """

    data: np.ndarray
    affine: np.ndarray
    bvals: np.ndarray
    directions: np.ndarray
    mask: np.ndarray
    subject: str | None = None
    file: str | None = None
    warnings: tuple[str, ...] = ()
    b0_max: float = B0_MAX
    runs: np.ndarray | None = None

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return len(self.bvals)

    @property
    def is_b0(self) -> np.ndarray:
        """(n_volumes,) bool, True where the volume is not diffusion weighted."""
        return self.bvals <= self.b0_max

    @property
    def zooms(self) -> np.ndarray:
        """Voxel edge lengths in mm, (3,)."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm^3, also with sheared axes."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def voxel_directions(self) -> np.ndarray:
        """Directions in the image's axes, as used by dipy, (n_volumes, 3)."""
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
        """Copy with this mask (x, y, z) of the brain."""
        return replace(self, mask=mask)

    def part(self, volumes: np.ndarray) -> Dwi:
        """Some of the volumes: indices, or (n_volumes,) bool."""
        runs = None if self.runs is None else self.runs[volumes]
        return replace(
            self,
            data=self.data[..., volumes],
            bvals=self.bvals[volumes],
            directions=self.directions[volumes],
            runs=runs,
        )


def read_dwi(
    image: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    *,
    table: str | Path | None = None,
    bvec_axes: str = "fsl",
    mask: str | Path | None = None,
    subject: str | None = None,
    b0_max: float = B0_MAX,
    lengths: BvecLengths = "auto",
) -> Dwi:
    """Read diffusion volumes with their gradient table, and report all problems.

    Args:
        bval, bvec: FSL files; not needed with `table`, with which they must agree if given.
        table: MRtrix's gradient table (`.b`): x y z b in world axes, one row per volume; preferred.
        bvec_axes: `fsl`, or `image` for QSIPrep's files.
        mask: brain mask on the same grid; default: the whole image.
        b0_max: largest b-value of an unweighted volume, s/mm2.
        lengths: treatment of the lengths of b-vectors, see `unit_directions`.

    Raises:
        MissingInputError, DataError: as the readers, or every fault of the table at once.
    """
    volume = read_volume(image, subject=subject, n_dimensions=(4,))
    bvals, directions, sources, note = read_gradients(
        image, volume.affine, bval, bvec, table, bvec_axes=bvec_axes, subject=subject, b0_max=b0_max, lengths=lengths
    )
    directions_of_axes = volume.affine[:3, :3] / volume.zooms
    if np.abs(directions_of_axes.T @ directions_of_axes - np.eye(3)).max() > _SHEAR:
        raise DataError(
            "the axes of the diffusion data are not at right angles, so that b-vectors are ambiguous",
            subject=subject,
            file=image,
            remedy="Use the data as converted from the scanner, or resample images and vectors together.",
        )
    problems = gradient_problems(bvals, directions, volume.shape[3], subject=subject, files=sources, b0_max=b0_max)
    region = np.ones(volume.shape[:3], dtype=bool)
    if mask is not None:
        given = read_mask(mask, subject=subject)
        if same_grid(given, volume):
            region = given.data
        else:
            problems.append(grid_problem("the mask", given, volume))
    raise_all("the diffusion data cannot be used", problems)
    directions = normalised(directions)
    warnings = [] if note is None else [note]
    finite = np.isfinite(volume.data)
    usual = region & (finite.mean(axis=3) > 0.5)
    if usual.any():  # a volume without numbers is empty, and costs the others nothing
        empty = finite[usual].mean(axis=0) < 0.5
        if empty[bvals <= b0_max].all():
            raise DataError("the unweighted volumes contain no numbers", subject=subject, file=image, remedy=_AGAIN)
        volume.data[..., empty] = 0.0
        finite[..., empty] = True
    bad = ~finite.all(axis=3)
    if bad.any():
        of = numbered(~finite.all(axis=(0, 1, 2)))
        volume.data[bad] = 0.0
        region &= ~bad
        warnings.append(f"{int(bad.sum())} voxels contain values that are not numbers (volume {of}) and are excluded")
    problem, warning = signal_problem(volume.data[..., bvals <= b0_max].mean(axis=3), region)
    if problem is not None:
        raise DataError(
            problem,
            expected="diffusion-weighted volumes as a scanner makes them",
            subject=subject,
            file=image,
            remedy=_AGAIN,
        )
    warnings += [warning] if warning else []
    return Dwi(volume.data, volume.affine, bvals, directions, region, subject, str(image), tuple(warnings), b0_max)


def numbered(volumes: np.ndarray, longest: int = 10) -> str:
    """The first of some volumes, counted from 1, and the number of the others."""
    rest = int(volumes.sum()) - longest
    return ", ".join(str(v + 1) for v in np.flatnonzero(volumes)[:longest]) + (f" and {rest} more" if rest > 0 else "")


def signal_problem(unweighted: np.ndarray, region: np.ndarray) -> tuple[str | None, str | None]:
    """Error and warning from the mean unweighted volume, each or None."""
    values = unweighted[region].astype(float)
    if not values.size:
        return "no voxel has a number in every volume", None
    if values.size > 1 and values.min() == values.max():
        return f"the unweighted volumes contain only {values[0]:g}", None
    below = float(-values[values < 0].sum() / np.abs(values).sum())
    said = f"{below:.0%} of the unweighted signal is negative: numbers too large for their type, or a wrong scale"
    # Large numbers that turned negative may be few, but unlike noise all of them are far below 0.
    negative = values[values < 0]
    wrapped = negative.size >= _MANY_BELOW and negative.max() < -_FAR_BELOW * values.max()
    if below > _MAX_BELOW or (wrapped and below > _LITTLE_BELOW):
        return said, None
    return None, f"{said}?" if below > _LITTLE_BELOW else None
