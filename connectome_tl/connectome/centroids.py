"""Compare region centroids of a label image with those of its atlas, in any space.

An affine map accounts for position, size and shape of the head. After it, images of the right atlas agree to a few
mm, also between a newborn and an adult. Images of another atlas or numbering differ by a fifth of the head or more.
A best map with a reflection shows that left and right are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

MAX_MISPLACED = 0.10  # fraction of the regions
_MIN_REGIONS, _MIN_SHARE = 20, 0.5  # regions and fraction of the atlas that a fit requires
_MIN_SPREAD_MM = 20.0  # root mean square distance from the centre; phantoms and cropped images have less
_FAR = 0.25  # fraction of the table's root mean square distance: 15 mm in an adult, 8 in a newborn


@dataclass(frozen=True)
class Fit:
    """Fit of the centroids of an image to an atlas.

    Attributes:
        distances: (n,) mm in the table's space, after the best affine map.
        apart: median distance in mm without a map; large for an image in another space.
        far: distance in mm above which a region is misplaced.
    """

    distances: np.ndarray
    apart: float
    far: float
    mirrored: bool
    worst: str

    @property
    def misplaced(self) -> int:
        """Number of regions whose centroid is too far from the atlas."""
        return int((self.distances > self.far).sum())


def centroids(labels: Volume) -> dict[int, np.ndarray]:
    """Mean position of each label in mm, RAS+."""
    voxels = np.argwhere(labels.data > 0)
    numbers, of_voxel = np.unique(labels.data[labels.data > 0], return_inverse=True)
    size = np.bincount(of_voxel)
    mean = np.stack([np.bincount(of_voxel, voxels[:, axis]) / size for axis in range(3)], axis=1)
    world = mean @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    return dict(zip(numbers.tolist(), world, strict=True))


def fit_places(labels: Volume, atlas: Atlas) -> Fit | None:
    """Compare an image with an atlas; None without centroids in the atlas, or with too few or too close regions."""
    if not atlas.has_centroids:
        return None
    found = centroids(labels)
    rows = [region for region in atlas.regions if region.index in found]
    if len(rows) < max(_MIN_REGIONS, _MIN_SHARE * atlas.n_regions):
        return None
    here = np.array([found[region.index] for region in rows])
    there = np.array([(region.x, region.y, region.z) for region in rows])
    centred = here - here.mean(axis=0)
    if np.sqrt((centred**2).sum(axis=1).mean()) < _MIN_SPREAD_MM or np.linalg.matrix_rank(centred, tol=1.0) < 3:
        return None
    design = np.column_stack([here, np.ones(len(here))])
    moved, *_ = np.linalg.lstsq(design, there, rcond=None)
    distances = np.linalg.norm(design @ moved - there, axis=1)
    spread = float(np.sqrt(((there - there.mean(axis=0)) ** 2).sum(axis=1).mean()))
    worst = rows[int(distances.argmax())]
    apart = float(np.median(np.linalg.norm(here - there, axis=1)))
    return Fit(distances, apart, _FAR * spread, bool(np.linalg.det(moved[:3]) < 0), f"{worst.name} ({worst.index})")


def check_places(labels: Volume, atlas: Atlas, *, max_misplaced: float = MAX_MISPLACED) -> Fit | None:
    """Refuse an image whose regions are misplaced relative to its atlas; return the fit, or None if not possible.

    Args:
        max_misplaced: largest allowed fraction of misplaced regions; 1 disables the check.

    Raises:
        DataError: more regions are misplaced, or left and right are exchanged.
    """
    fit = None if max_misplaced >= 1 else fit_places(labels, atlas)
    if fit is None:
        return None
    if fit.misplaced > max_misplaced * len(fit.distances):
        raise DataError(
            f"the image is not one of {atlas.name}: its regions have other positions",
            expected=f"centroids as in the atlas's table, within {fit.far:.0f} mm after an affine map",
            got=f"{fit.misplaced} of {len(fit.distances)} farther off, {fit.worst} by {fit.distances.max():.0f} mm",
            subject=labels.subject,
            file=labels.file,
            remedy="Another atlas, another release or another numbering? Give a table of its labels with --labels.",
        )
    if fit.mirrored:
        raise DataError(
            "left and right are exchanged: labels of the left hemisphere are on the right",
            expected=f"the sides of {atlas.name}",
            subject=labels.subject,
            file=labels.file,
            remedy="The image's orientation (sform, qform) is wrong or missing; do not use it before that is fixed.",
        )
    return fit
