"""Read GIFTI surfaces with region labels, and project them to voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.files import regular_file
from connectome_tl.imaging.read.images import Volume

_FAR_MM = 5.0  # voxels of the ribbon farther from all vertices get no label
_INSIDE = 0.8  # smallest fraction of vertices inside the head
_NEXT = 1000  # the offset of the right hemisphere's numbers is a multiple of this
_MAX_BYTES = 500_000_000


@dataclass(frozen=True, eq=False)
class Cortex:
    """One hemisphere.

    Attributes:
        white, pial: (n_vertices, 3) mm, RAS+.
        faces: (n_faces, 3) vertices of each triangle.
        labels: (n_vertices,) number of the region of each vertex; 0 and below are no region.
        names: names of the regions, by number.
    """

    white: np.ndarray
    pial: np.ndarray
    faces: np.ndarray
    labels: np.ndarray
    names: Mapping[int, str]


def read_cortex(white: Path, pial: Path, labels: Path, *, subject: str | None = None) -> Cortex:
    """Read the files of one hemisphere.

    Raises:
        MissingInputError, DataError: no such file, not a GIFTI file of this type, or different meshes.
    """
    inner, faces = _mesh(white, subject)
    outer, _ = _mesh(pial, subject)
    values, names = read_surface_labels(labels, subject=subject)
    for other, file in ((outer, pial), (values, labels)):
        if len(other) != len(inner):
            raise DataError(
                "files of one hemisphere belong to different meshes",
                expected=f"{len(inner)} vertices, as in {white.name}",
                got=str(len(other)),
                subject=subject,
                file=file,
            )
    return Cortex(inner, outer, faces, values, names)


def read_surface_labels(file: Path, *, subject: str | None = None) -> tuple[np.ndarray, dict[int, str]]:
    """Numbers of the vertices, (n_vertices,), and names by number, without the background.

    Raises:
        MissingInputError, DataError: as `read_cortex`.
    """
    image = _gifti(file, subject)
    arrays = image.get_arrays_from_intent("NIFTI_INTENT_LABEL")
    if len(arrays) != 1 or arrays[0].data.ndim != 1:
        raise DataError("not regions of a surface", expected="one array of labels", subject=subject, file=file)
    names = {int(one.key): str(one.label or one.key) for one in image.labeltable.labels if int(one.key) > 0}
    wrong = arrays[0].data[~np.equal(arrays[0].data, np.rint(arrays[0].data))]
    if wrong.size:
        remedy = "Was the map resampled with interpolation? Labels need nearest neighbours."
        got = f"for example {wrong[0]:g}"
        raise DataError("labels are not whole numbers", got=got, subject=subject, file=file, remedy=remedy)
    values = np.asarray(arrays[0].data, dtype=np.int64)
    for number in np.unique(values[values > 0]):
        names.setdefault(int(number), str(number))
    return values, names


def _gifti(file: Path, subject: str | None) -> Any:
    regular_file(file, what="surface", subject=subject)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError("too large for a surface")
        image = nib.load(file)
    except Exception as error:  # nibabel and the XML parser raise many types for a damaged file
        annot = file.suffix == ".annot"
        remedy = "Convert FreeSurfer's file: mris_convert --annot IN.annot WHITE OUT.label.gii." if annot else None
        raise DataError(f"cannot be read as GIFTI: {error}", subject=subject, file=file, remedy=remedy) from error
    if not isinstance(image, nib.gifti.GiftiImage):
        raise DataError("not a GIFTI file", subject=subject, file=file)
    return image


def _mesh(file: Path, subject: str | None) -> tuple[np.ndarray, np.ndarray]:
    image = _gifti(file, subject)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    faces = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(faces) != 1:
        raise DataError("not a surface", expected="points and triangles", subject=subject, file=file)
    places, corners = np.asarray(points[0].data, dtype=float), np.asarray(faces[0].data, dtype=np.int64)
    whole = places.ndim == 2 and corners.ndim == 2 and places.shape[1] == corners.shape[1] == 3 and corners.size
    if not whole or not np.isfinite(places).all() or corners.min() < 0 or corners.max() >= len(places):
        raise DataError("the surface is damaged", subject=subject, file=file)
    return places, corners


def numbers_apart(left: Mapping[int, str], right: Mapping[int, str]) -> int:
    """Offset of the right hemisphere's numbers: 0, or the next thousand if the numbers overlap."""
    return -(-(max(left) + 1) // _NEXT) * _NEXT if set(left) & set(right) else 0


def voxels_of(cortex: Cortex, image: Volume, ribbon: np.ndarray | None) -> np.ndarray:
    """Region number of each voxel of the cortical ribbon, (x, y, z) int32, from the nearest midthickness vertex.

    Args:
        image: the anatomical image, 0 outside the head.
        ribbon: (x, y, z) bool, grey matter of this hemisphere; default: voxels between the surfaces.

    Raises:
        DataError: surfaces and image are in different spaces.
    """
    from scipy.spatial import cKDTree

    middle = (cortex.white + cortex.pial) / 2
    _check_place(middle, image)
    inside = _between(cortex, image) if ribbon is None else ribbon
    voxels = np.argwhere(inside)
    places = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    distance, nearest = cKDTree(middle).query(places, distance_upper_bound=_FAR_MM)
    found = np.zeros(inside.shape, dtype=np.int32)
    near = np.isfinite(distance)
    found[tuple(voxels[near].T)] = np.maximum(cortex.labels[nearest[near]], 0)
    return found


def _check_place(points: np.ndarray, image: Volume) -> None:
    inverse = np.linalg.inv(image.affine)
    voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    within = ((voxels >= 0) & (voxels < image.shape[:3])).all(axis=1)
    share = float((image.data[tuple(voxels[within].T)] > 0).sum() / len(points))
    if share < _INSIDE:
        raise DataError(
            "the surfaces are not aligned with the anatomical image",
            expected=f"at least {_INSIDE:.0%} of the vertices in the brain",
            got=f"{share:.0%}",
            subject=image.subject,
            file=image.file,
            remedy="Convert FreeSurfer's coordinates to scanner space with `mris_convert --to-scanner`.",
        )


def _between(cortex: Cortex, image: Volume) -> np.ndarray:
    """Voxels between the two surfaces, found by sampling prisms at less than half a voxel."""
    inverse = np.linalg.inv(image.affine)
    half = float(image.zooms.min()) / 2
    edges = np.linalg.norm(cortex.pial[cortex.faces] - cortex.pial[np.roll(cortex.faces, 1, axis=1)], axis=2)
    n = int(max(np.ceil(np.quantile(edges, 0.99) / half), 1))
    thickness = np.linalg.norm(cortex.pial - cortex.white, axis=1)
    n_depths = int(max(np.ceil(np.quantile(thickness, 0.99) / half), 1)) + 1
    corners = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    inside = np.zeros(image.shape[:3], dtype=bool)
    for depth in np.linspace(0, 1, n_depths):
        surface = cortex.white + depth * (cortex.pial - cortex.white)
        for corner in corners:
            points = np.einsum("c,fcx->fx", corner, surface[cortex.faces])
            voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
            voxels = voxels[((voxels >= 0) & (voxels < inside.shape)).all(axis=1)]
            inside[tuple(voxels.T)] = True
    return inside
