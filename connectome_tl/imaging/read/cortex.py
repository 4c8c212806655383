"""One hemisphere of the cortex, and checks that its files belong together and to an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

_INSIDE = 0.8  # smallest fraction of vertices inside the head
_THICK_MM = 10.0  # largest median distance between white and pial surface
_SCATTERED = 0.75  # largest share of edges between regions, relative to that of labels in random order
_OTHER_SIDE = 0.1  # of the brain's width: how far a hemisphere may reach to the other side
_BETTER = 1.5  # factor by which an edge is clearer in FreeSurfer's coordinates
_CLEAR = 0.2  # smallest edge, relative to its spread, that counts
_TO_SCANNER = "Convert FreeSurfer's coordinates to scanner space with `mris_convert --to-scanner`."


@dataclass(frozen=True, eq=False)
class Cortex:
    """One hemisphere.

    Attributes:
        white, pial: (n_vertices, 3) mm, RAS+.
        faces: (n_faces, 3) vertices of each triangle.
        labels: (n_vertices,) number of the region of each vertex; 0 and below are no region.
        names: names of the regions, by number.
        side: left or right; None if unknown.
        offset: (3,) mm to add to FreeSurfer's coordinates for those of the scanner; 0 if unknown.
    """

    white: np.ndarray
    pial: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    names: Mapping[int, str]
    side: str | None = None
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def middle(self) -> np.ndarray:
        """Midway between the two surfaces, (n_vertices, 3) mm."""
        return (self.white + self.pial) / 2


def check_mesh(cortex: Cortex, pial: Path, labels: Path, *, subject: str | None = None) -> None:
    """Check that the two surfaces are neighbours, and that regions are patches of the mesh.

    Raises:
        DataError: they are far apart, as for files of two hemispheres; or the labels are scattered, as for another mesh
            with the same number of vertices.
    """
    apart = float(np.median(np.linalg.norm(cortex.pial - cortex.white, axis=1)))
    if apart > _THICK_MM:
        raise DataError(
            "white and pial surface do not belong together",
            expected=f"at most {_THICK_MM:g} mm between them",
            got=f"{apart:.1f} mm",
            subject=subject,
            file=pial,
            remedy="Give two surfaces of one hemisphere of one subject, in the same coordinates.",
        )
    edges = cortex.labels[np.concatenate([cortex.faces[:, [0, 1]], cortex.faces[:, [1, 2]], cortex.faces[:, [2, 0]]])]
    counts = np.unique(cortex.labels[np.unique(cortex.faces)], return_counts=True)[1]
    by_chance = 1 - float(np.square(counts / counts.sum()).sum())
    share = float((edges[:, 0] != edges[:, 1]).mean())
    if len(counts) > 1 and share > _SCATTERED * by_chance:
        raise DataError(
            "the labels belong to another mesh: neighbouring vertices have different regions",
            expected=f"{len(counts)} patches of neighbouring vertices",
            got=f"different labels at the ends of {share:.0%} of the edges",
            subject=subject,
            file=labels,
            remedy="Give labels of the mesh of these surfaces (same space-, den- and hemi- in their names).",
        )


def check_place(cortex: Cortex, image: Volume) -> None:
    """Check that a hemisphere lies in the brain, on its side, in scanner coordinates.

    Args:
        image: the anatomical image, 0 outside the head.

    Raises:
        DataError: it does not.
    """

    def refused(what: str, expected: str, got: str, remedy: str) -> DataError:
        return DataError(what, expected=expected, got=got, subject=image.subject, file=image.file, remedy=remedy)

    used = np.unique(cortex.faces)
    places = cortex.middle[used]
    inside = float((_sampled(image, places) > 0).mean())
    if inside < _INSIDE:
        what = "the surfaces are not aligned with the anatomical image"
        raise refused(what, f"at least {_INSIDE:.0%} of the vertices in the brain", f"{inside:.0%}", _TO_SCANNER)
    head = np.argwhere(image.data > 0) @ image.affine[0, :3] + image.affine[0, 3]
    beyond = float(places[:, 0].mean() - head.mean()) * (1 if cortex.side == "left" else -1)
    if cortex.side is not None and beyond > _OTHER_SIDE * float(np.ptp(head)):
        what = f"the surfaces of the {cortex.side} hemisphere lie in the other one"
        remedy = "Are the files of left and right exchanged, in the configuration or by their names?"
        raise refused(what, f"most vertices on the {cortex.side}", f"{beyond:.0f} mm beyond the middle", remedy)
    if np.linalg.norm(cortex.offset) < float(image.zooms.min()):
        return
    here, there = (_edge(cortex, image, used, shift) for shift in (np.zeros(3), cortex.offset))
    if there > max(_BETTER * here, _CLEAR):
        got = f"an edge clearer by a factor of {there / max(here, 1e-3):.1f} after a shift by VolGeomC_R, _A, _S"
        raise refused("the surfaces are in FreeSurfer's coordinates", "coordinates of the scanner", got, _TO_SCANNER)


def _edge(cortex: Cortex, image: Volume, used: np.ndarray, shift: np.ndarray) -> float:
    """Mean difference of intensity across the white surface, over its spread."""
    white, across = cortex.white[used] + shift, cortex.middle[used] - cortex.white[used]
    step = _sampled(image, white + across) - _sampled(image, white - across)
    return abs(float(step.mean())) / max(float(step.std()), 1e-9)


def _sampled(image: Volume, places: np.ndarray) -> np.ndarray:
    """Intensities of the nearest voxels at places in mm, (n,); 0 outside the image."""
    inverse = np.linalg.inv(image.affine)
    voxels = places @ inverse[:3, :3].T + inverse[:3, 3]
    return np.asarray(map_coordinates(image.data, voxels.T, output=float, order=0, mode="grid-constant"))
