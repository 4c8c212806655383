"""Read GIFTI surfaces with region labels, and project them to voxels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.files import regular_file
from connectome_tl.imaging.read.cortex import Cortex, check_mesh, check_place
from connectome_tl.imaging.read.images import Volume

_FAR_MM = 5.0  # voxels of the ribbon farther from all vertices get no label
_NEAR = 0.25  # smallest fraction of the ribbon that is near the surfaces
_NEXT = 1000  # the offset of the right hemisphere's numbers is a multiple of this
_MAX_BYTES = 500_000_000


def read_cortex(
    white: Path, pial: Path, labels: Path, *, side: str | None = None, subject: str | None = None
) -> Cortex:
    """Read the files of one hemisphere.

    Args:
        side: left or right; a file that states the other side is refused.

    Raises:
        MissingInputError, DataError: no such file, not a GIFTI file of this type, of the other side, or different
            meshes.
    """
    images = {file: _gifti(file, subject) for file in (white, pial, labels)}
    for file, image in images.items():
        stated = _stated_side(image)
        if side is not None and stated not in (None, side):
            raise DataError(
                "the file is of the other hemisphere",
                expected=f"{side}, as in the configuration",
                got=f"{stated}, by its AnatomicalStructurePrimary",
                subject=subject,
                file=file,
            )
    inner, faces = _mesh(images[white], white, subject)
    outer, others = _mesh(images[pial], pial, subject)
    values, names = _labels(images[labels], labels, subject)
    for other, file in ((outer, pial), (values, labels)):
        if len(other) != len(inner):
            raise _unlike(f"{len(inner)} vertices, as in {white.name}", str(len(other)), subject, file)
    if not np.array_equal(faces, others):
        raise _unlike(f"the triangles of {white.name}", "others", subject, pial)
    cortex = Cortex(inner, outer, faces, values, names, side, _offset(images[white]))
    check_mesh(cortex, pial, labels, subject=subject)
    return cortex


def _unlike(expected: str, got: str, subject: str | None, file: Path) -> DataError:
    what = "files of one hemisphere belong to different meshes"
    return DataError(what, expected=expected, got=got, subject=subject, file=file)


def read_surface_labels(file: Path, *, subject: str | None = None) -> tuple[np.ndarray, dict[int, str]]:
    """Numbers of the vertices, (n_vertices,), and names by number, without the background.

    Raises:
        MissingInputError, DataError: as `read_cortex`.
    """
    return _labels(_gifti(file, subject), file, subject)


def _labels(image: Any, file: Path, subject: str | None) -> tuple[np.ndarray, dict[int, str]]:
    arrays = image.get_arrays_from_intent("NIFTI_INTENT_LABEL")
    if len(arrays) != 1 or arrays[0].data.ndim != 1:
        raise DataError(
            "not regions of a surface",
            expected="one array of labels",
            got=_content(image),
            subject=subject,
            file=file,
            remedy="Keep one map: wb_command -label-merge ONE.label.gii -label ALL.label.gii -column 1."
            if len(arrays) > 1
            else None,
        )
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
        cifti = file.name.endswith((".dlabel.nii", ".dscalar.nii"))
        remedy = "Separate the hemispheres with `wb_command -cifti-separate`." if cifti else None
        raise DataError("not a GIFTI file", subject=subject, file=file, remedy=remedy)
    return image


def _stated_side(image: Any) -> str | None:
    """The side that a file states in its metadata; None if it states none."""
    for meta in (image.meta, *(array.meta for array in image.darrays)):
        stated = str(meta.get("AnatomicalStructurePrimary", "")).lower()
        for side in ("left", "right"):
            if side in stated:
                return side
    return None


def _offset(image: Any) -> np.ndarray:
    """Scanner coordinates minus coordinates, (3,) mm, by the metadata that FreeSurfer writes; else 0."""
    meta: Any = next((array.meta for array in image.darrays if "VolGeomC_R" in array.meta), {})
    try:
        return np.array([float(meta.get(f"VolGeomC_{axis}", 0.0)) for axis in "RAS"])
    except ValueError:
        return np.zeros(3)


def _content(image: Any) -> str:
    kinds = [nib.nifti1.intent_codes.niistring[array.intent] for array in image.darrays]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)) or "no array"


def _mesh(image: Any, file: Path, subject: str | None) -> tuple[np.ndarray, np.ndarray]:
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    faces = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(faces) != 1:
        expected = "one array of points and one of triangles"
        raise DataError("not a surface", expected=expected, got=_content(image), subject=subject, file=file)
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

    check_place(cortex, image)
    inside = _between(cortex, image) if ribbon is None else ribbon
    voxels = np.argwhere(inside)
    places = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
    distance, nearest = cKDTree(cortex.middle).query(places, distance_upper_bound=_FAR_MM)
    found = np.zeros(inside.shape, dtype=np.int32)
    near = np.isfinite(distance)
    if ribbon is not None and near.mean() < _NEAR:
        raise DataError(
            "the ribbon does not lie along the surfaces",
            expected=f"at least {_NEAR:.0%} of its voxels within {_FAR_MM:g} mm of them",
            got=f"{near.mean():.0%}",
            subject=image.subject,
            remedy="Are ribbon and surfaces of one subject and one hemisphere, and ribbon_left and ribbon_right right?",
        )
    found[tuple(voxels[near].T)] = np.maximum(cortex.labels[nearest[near]], 0)
    return found


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
