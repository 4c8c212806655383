"""Read images with checks of size, checksum and orientation.

NIfTI readers silently accept a wrong checksum, a missing orientation and a NaN scale, and try to allocate any size that
a header states. Here, each of these is an error with subject and file.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from connectome_tl.errors import ConnectomeTLError, DataError, OutputError, Problem
from connectome_tl.files import regular_file
from connectome_tl.imaging.read.headers import OpenedImage, open_image
from connectome_tl.provenance import write_bytes

MAX_BYTES = 16 << 30  # of one image in memory; a 3 h multi-shell scan at 1.5 mm takes about 4 GB
_MAX_LABEL_BYTES = 1 << 30  # 0.25 mm voxels of a whole head
_LARGEST_EXACT = 1 << 24  # whole number in float32
_SIZES_MM = (0.009, 100.0)  # of voxels
_WHOLE = 1e-4  # a label may be this far from a whole number: round-off of the arithmetic before it
_MAX_STEP = 0.25  # with a coarser scale of stored integers, neighbouring labels cannot be distinguished


@dataclass(frozen=True, eq=False)
class Volume:
    """An image: voxels and affine.

    Attributes:
        data: (x, y, z) or (x, y, z, n).
        affine: (4, 4) voxel indices to mm, RAS+.
        subject, file: subject and file, for messages.
    """

    data: np.ndarray
    affine: np.ndarray
    subject: str | None = None
    file: str | None = None

    @property
    def zooms(self) -> np.ndarray:
        """Voxel edge lengths in mm, (3,)."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm^3, also with sheared axes."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(n) for n in self.data.shape)


def read_volume(
    path: str | Path,
    *,
    subject: str | None = None,
    n_dimensions: tuple[int, ...] = (3,),
    dtype: type[np.generic] | None = np.float32,
    max_bytes: int = MAX_BYTES,
) -> Volume:
    """Read and check a NIfTI (or FreeSurfer MGH) image.

    Args:
        n_dimensions: allowed numbers of axes, without trailing axes of length 1.
        dtype: type of the result; None for that of the file.
        max_bytes: largest size of the uncompressed voxels, checked in the header before allocation.

    Raises:
        MissingInputError: no such file.
        DataError: truncated, damaged, wrong checksum, too large, no orientation, a scale that is not a
            number, a singular affine or the wrong number of axes.
    """
    return _read(path, subject, n_dimensions, dtype, max_bytes)[0]


def read_with_stored(path: str | Path, *, subject: str | None = None) -> tuple[Volume, np.ndarray, bool]:
    """A three-dimensional volume, its voxels as they are stored, and whether these are integers with a scale.

    Raises:
        MissingInputError, DataError: as `read_volume`.
    """
    volume, opened = _read(path, subject)
    return volume, np.asarray(opened.voxels.get_unscaled()).reshape(volume.shape), opened.step > 0


def _read(
    path: str | Path,
    subject: str | None,
    n_dimensions: tuple[int, ...] = (3,),
    dtype: type[np.generic] | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[Volume, OpenedImage]:
    """A volume, and the image that it is read from."""
    file = regular_file(path, what="image", subject=subject)
    try:
        image = open_image(file, max_bytes)
        data = np.asarray(image.voxels) if dtype is None else np.asarray(image.voxels, dtype=dtype)
    except ConnectomeTLError as error:
        raise _for_subject(error, subject) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the compressed file is damaged: {error}",
            subject=subject,
            file=file,
            remedy="It was probably cut off or changed while being copied; copy it again.",
        ) from error
    except Exception as error:  # a damaged header makes nibabel and numpy raise almost anything
        raise DataError(f"cannot be read as an image: {error}", subject=subject, file=file) from error
    while data.ndim > 5 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim == 5 and max(n_dimensions) == 4 and data.shape[3] == 1:  # volumes on NIfTI's fifth axis, as of vectors
        data = data[:, :, :, 0]
    while data.ndim > max(n_dimensions) and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim not in n_dimensions:
        wanted = " or ".join(f"{n}-dimensional" for n in n_dimensions)
        raise DataError(
            "the image has the wrong number of axes",
            expected=wanted,
            got=f"{data.shape}",
            subject=subject,
            file=file,
            remedy="Use one volume of it, or merge one volume per label into a label image."
            if data.ndim > max(n_dimensions)
            else None,
        )
    affine = image.affine
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-9 * sizes.prod():
        raise DataError(
            "the affine cannot be inverted",
            got=str(affine.tolist()),
            subject=subject,
            file=file,
            remedy="Convert the image again from the original, or copy a valid qform (fslorient -copyqform2sform).",
        )
    if sizes.min() < _SIZES_MM[0] or sizes.max() > _SIZES_MM[1]:
        raise DataError(
            "voxels are not of the size of a head's",
            expected=f"edges of {_SIZES_MM[0]:.2f} to {_SIZES_MM[1]:g} mm",
            got=" x ".join(f"{size:g}" for size in sizes),
            subject=subject,
            file=file,
            remedy="The affine may be in metres or micrometres: scale it to mm.",
        )
    return Volume(data, affine, subject, str(path)), image


def read_labels(path: str | Path, *, subject: str | None = None) -> Volume:
    """Read a parcellation: (x, y, z) int32, 0 is background.

    Scaled integers are converted to labels if the scale separates neighbouring labels.

    Raises:
        MissingInputError, DataError: as `read_volume`; fractional, negative or NaN labels; no label at all.
    """
    volume, opened = _read(path, subject, max_bytes=_MAX_LABEL_BYTES)
    data, step = volume.data, opened.step
    if not np.issubdtype(data.dtype, np.integer):
        rounded = np.rint(data)
        # Scaled integers (MINC, SPM) are within half a step of their original values.
        tolerance = _WHOLE + (0.5 * step if step <= _MAX_STEP else 0.0)
        wrong = ~(np.abs(data - rounded) <= tolerance)
        if wrong.any():
            unknown = bool(np.isnan(data[wrong]).all())
            raise DataError(
                "labels are not whole numbers",
                got=f"for example {data[wrong].flat[0]:g}",
                subject=subject,
                file=path,
                remedy="If NaN is the background, set it to 0."
                if unknown
                else "Was it resampled with interpolation? Labels need nearest neighbours.",
            )
        if data.dtype == np.float32 and rounded.max(initial=0) > _LARGEST_EXACT:
            raise DataError(
                "neighbouring labels become equal in single precision",
                expected=f"labels up to {_LARGEST_EXACT}, or integers",
                got=f"{rounded.max():.0f} in floating point of 32 bits",
                subject=subject,
                file=path,
                remedy="Save the original labels as integers.",
            )
        data = rounded
    low, high = data.min(initial=0), data.max(initial=0)
    if low < 0 or high > 2**31 - 1:
        raise DataError(
            "labels are outside 0 .. 2147483647",
            got=f"{low:g} .. {high:g}",
            subject=subject,
            file=path,
            remedy="Numbers too large for 16 bits become negative: save it again with 32 bits; set others below 0 to 0."
            if low < 0
            else None,
        )
    if high == 0:
        raise DataError("the parcellation is empty: every voxel is background", subject=subject, file=path)
    return Volume(data.astype(np.int32), volume.affine, subject, volume.file)


def read_mask(path: str | Path, *, subject: str | None = None) -> Volume:
    """Read a mask: (x, y, z) bool, True where the value is above 0.5.

    Raises:
        MissingInputError, DataError: as `read_volume`; an empty mask.
    """
    volume = read_volume(path, subject=subject)
    data = volume.data > 0.5
    if not data.any():
        raise DataError("the mask is empty", subject=subject, file=path, remedy="Correct it, or give none.")
    return Volume(data, volume.affine, subject, volume.file)


def with_contrast(image: Volume) -> Volume:
    """The image, with NaN and infinity replaced by 0.

    Raises:
        DataError: it contains no finite value, or is constant.
    """
    known = np.isfinite(image.data)
    values = image.data[known]
    if not values.size or values.min() == values.max():
        what = f"the image contains only {values[0]:g}" if values.size else "the image contains no number"
        raise DataError(what, expected="an image of a head", subject=image.subject, file=image.file)
    return Volume(np.where(known, image.data, 0), image.affine, image.subject, image.file)


def in_usual_order(image: Volume) -> Volume:
    """The same image with its voxels stored from right to left, back to front and bottom to top, as by FSL.

    Grids and random numbers follow the order of storage, which differs between converters; in one order, results do
    not depend on it.
    """
    now = nib.orientations.io_orientation(image.affine)
    order = nib.orientations.ornt_transform(now, nib.orientations.axcodes2ornt("LAS"))
    affine = image.affine @ nib.orientations.inv_ornt_aff(order, image.shape[:3])
    data = np.ascontiguousarray(nib.orientations.apply_orientation(image.data, order))
    return Volume(data, affine, image.subject, image.file)


def same_grid(a: Volume, b: Volume, *, tolerance_mm: float = 1e-2) -> bool:
    """Whether two images have the same voxels in the same places."""
    if a.shape[:3] != b.shape[:3]:
        return False
    corners = np.array([(i, j, k, 1.0) for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
    corners[:3] *= np.array(a.shape[:3], dtype=float)[:, None]
    return bool(np.abs((a.affine - b.affine) @ corners).max() <= tolerance_mm)


def write_volume(path: str | Path, data: np.ndarray, affine: np.ndarray, *, intent: str | None = None) -> Path:
    """Write a NIfTI file with a new header, atomically and reproducibly.

    The source's header is not copied, since its text fields may contain a patient's name. The gzip stream contains no
    time and no name.

    Args:
        intent: NIfTI intent code, such as `vector`; none by default.
    """
    array = data.astype(np.uint8) if data.dtype == bool else data
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm", "sec" if array.ndim == 4 else None)
    if intent is not None:
        image.header.set_intent(intent)
    raw = image.to_bytes()
    return write_bytes(path, gzip.compress(raw, compresslevel=5, mtime=0) if str(path).endswith(".gz") else raw)


def _for_subject(error: ConnectomeTLError, subject: str | None) -> ConnectomeTLError:
    if isinstance(error, OutputError) or subject is None:
        return error
    first = error.problems[0]
    return type(error)(
        first.what, expected=first.expected, got=first.got, subject=subject, file=first.file, remedy=first.remedy
    )


def grid_problem(what: str, a: Volume, b: Volume) -> Problem:
    """Problem text for two related images with different grids; affines are shown if only they differ."""
    moved = a.shape[:3] == b.shape[:3]
    theirs, own = (f", affine {np.round(one.affine[:3], 3).tolist()}" if moved else "" for one in (b, a))
    return Problem(
        f"{what} does not have the same grid",
        expected=f"{b.shape[:3]} voxels{theirs} as in {b.file}",
        got=f"{a.shape[:3]} voxels{own}",
        subject=a.subject or b.subject,
        file=a.file,
    )
