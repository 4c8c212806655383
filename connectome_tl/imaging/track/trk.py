"""Read TrackVis files (.trk, trackvis.org/docs/?subsect=fileformat).

nibabel uses the identity for a missing affine and LPS for a missing order of axes, and does not check the number of
streamlines; all three are checked here. The transformation itself is nibabel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.streamlines.trk import get_affine_trackvis_to_rasmm, header_2_dtype

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.flat import MAX_POINTS, Streamlines, finite, packed, too_long

_SIZE = 1000  # bytes of the header
_POINTS = 1 << 16  # of one block
_AXES = ({"R", "L"}, {"A", "P"}, {"S", "I"})
_EXPORT = "Export it again with the affine of its image (header version 2), or as .tck."


def read_trk(file: Path) -> Iterator[Streamlines]:
    """Streamlines of a `.trk`, block by block.

    Raises:
        DataError: the header lacks affine, order of axes or voxel size, or does not match the length of the file.
    """
    header, order = _header(file)
    affine = np.asarray(get_affine_trackvis_to_rasmm(header), dtype=float)
    n_scalars, n_properties = int(header["nb_scalars_per_point"]), int(header["nb_properties_per_streamline"])
    promised, found = int(header["nb_streamlines"]), 0
    if min(n_scalars, n_properties, promised) < 0:
        raise DataError("the header has a negative number of streamlines", file=file)
    with file.open("rb") as stream:
        stream.seek(_SIZE)
        for points in _batches(stream, file, order, n_scalars, n_properties):
            n_points = np.array([len(part) for part in points], dtype=np.int64)
            flat = np.concatenate([np.zeros((0, 3), dtype=np.float32), *points])
            moved = (flat @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
            yield finite(packed(moved, n_points), file)
            found += len(points)
    if not promised:
        note = f"the header of {file.name} states no number of streamlines: a truncated file cannot be recognised"
        nothing = np.zeros(0, dtype=np.int64)
        yield Streamlines(np.zeros((0, 3), dtype=np.float32), nothing, nothing, str(file), (note,))
    elif promised != found:
        raise DataError(
            "the number of streamlines differs from the header",
            expected=str(promised),
            got=str(found),
            file=file,
            remedy="It was probably cut off while being copied; copy it again." if found < promised else None,
        )


def _batches(
    stream: BufferedReader, file: Path, order: str, n_scalars: int, n_properties: int
) -> Iterator[list[np.ndarray]]:
    """Points in the file's own space, one (n_points, 3) array for each streamline."""
    left = file.stat().st_size - _SIZE
    batch: list[np.ndarray] = []
    n = 0
    while count := stream.read(4):
        n_points = int(np.frombuffer(count, f"{order}i4")[0]) if len(count) == 4 else -1
        n_bytes = 4 * (n_points * (3 + n_scalars) + n_properties)
        left -= 4 + n_bytes
        if n_points < 0 or left < 0:
            raise DataError(
                "the file ends within a streamline",
                file=file,
                remedy="It was probably cut off while being copied; copy it again.",
            )
        if n_points > MAX_POINTS:
            raise too_long(file)
        numbers = np.frombuffer(stream.read(n_bytes), f"{order}f4")
        rows = numbers[: len(numbers) - n_properties].reshape(n_points, 3 + n_scalars)
        batch.append(rows[:, :3].astype(np.float32))
        n += n_points
        if n >= _POINTS or len(batch) >= _POINTS:
            yield batch
            batch, n = [], 0
    yield batch


def _header(file: Path) -> tuple[np.void, str]:
    """The raw header and its order of bytes."""
    with file.open("rb") as stream:
        raw = stream.read(_SIZE)
    if len(raw) < _SIZE or not raw.startswith(b"TRACK"):
        raise DataError("not a TrackVis file", expected="1000 bytes that begin with TRACK", file=file)
    for order in "<>":
        header = np.frombuffer(raw, header_2_dtype.newbyteorder(order)).copy()[0]
        if int(header["hdr_size"]) == _SIZE:
            header["voxel_order"] = bytes(header["voxel_order"]).rstrip(b"\0 ")
            _check(header, file)
            return header, order
    raise DataError("the header is damaged", expected="hdr_size 1000", file=file)


def _check(header: np.void, file: Path) -> None:
    affine, sizes = header["voxel_to_rasmm"].astype(float), header["voxel_sizes"].astype(float)
    if int(header["version"]) not in (2, 3) or affine[3, 3] == 0:
        raise DataError(
            "the header has no affine (vox_to_ras)",
            expected="positions of the voxels in mm",
            got=f"a header of version {int(header['version'])} without it",
            file=file,
            remedy=_EXPORT,
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError("the affine cannot be inverted", got=str(affine.tolist()), file=file)
    axes = bytes(header["voxel_order"]).decode("ascii", "replace").upper()
    if len(axes) != 3 or any(sum(letter in pair for letter in axes) != 1 for pair in _AXES):
        raise DataError(
            "the header does not give the order of the axes (voxel_order)",
            expected="LPS or the like",
            got=axes or "nothing",
            file=file,
            remedy=_EXPORT,
        )
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not (np.isfinite(sizes).all() and (sizes > 0).all() and np.allclose(np.sort(sizes), np.sort(zooms), rtol=0.01)):
        raise DataError(
            "the header has contradictory voxel sizes",
            expected=f"{np.round(zooms, 3).tolist()} mm, as its affine",
            got=str(np.round(sizes, 3).tolist()),
            file=file,
            remedy=_EXPORT,
        )
    turned = "".join(nib.aff2axcodes(affine)) != axes
    if turned and (header["dimensions"] < 1).any():
        raise DataError("the header lacks the image's size (dim)", got=str(header["dimensions"].tolist()), file=file)
