"""Images from disk with their faults found first: size before memory, checksum before numbers, left before right.

NIfTI readers accept a wrong checksum, a missing orientation and a NaN scale without a word, and try to
allocate whatever a header claims. Each of these is one error here, naming subject and file.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import FileBasedImage

from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, OutputError, Problem
from connectome_tl.provenance import write_bytes

MAX_BYTES = 16 << 30  # of one image in memory; a 3 h multi-shell scan at 1.5 mm takes about 4 GB
_MAX_EXTRA = 64 << 20  # bytes of header extensions before the voxels
_BLOCK = 1 << 22
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # one message per fault: ours, with subject and file
_HEADERS = (
    (nib.Nifti1Header, 348, nib.Nifti1Image),
    (nib.Nifti2Header, 540, nib.Nifti2Image),
)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they lie.

    Attributes:
        data: (x, y, z) or (x, y, z, n).
        affine: (4, 4) voxel indices to mm, RAS+.
        subject, file: whose it is, for messages.
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
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)


def read_volume(
    path: str | Path,
    *,
    subject: str | None = None,
    n_dimensions: tuple[int, ...] = (3,),
    dtype: type[np.generic] | None = np.float32,
    max_bytes: int = MAX_BYTES,
) -> Volume:
    """Read a NIfTI (or FreeSurfer MGH) image, whole and checked.

    Args:
        n_dimensions: how many axes are allowed; trailing axes of length 1 do not count.
        dtype: of the result; None keeps what the file holds.
        max_bytes: what the uncompressed voxels may take; asked of the header before any memory is taken.

    Raises:
        MissingInputError: no such file.
        DataError: truncated, damaged, wrong checksum, too large, no orientation, a scale that is not a
            number, a singular affine or the wrong number of axes.
    """
    file = Path(path)
    try:
        image = _open(file, max_bytes)
        data = np.asarray(image.dataobj) if dtype is None else np.asarray(image.dataobj, dtype=dtype)
    except ConnectomeTLError as error:
        raise _for_subject(error, subject) from error
    except FileNotFoundError as error:
        raise MissingInputError("image not found", subject=subject, file=file) from error
    except IsADirectoryError as error:
        raise MissingInputError("a folder stands where the image should be", subject=subject, file=file) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the compressed file is damaged: {error}",
            subject=subject,
            file=file,
            remedy="It was probably cut off or changed while being copied; copy it again.",
        ) from error
    except Exception as error:  # a damaged header makes nibabel and numpy raise almost anything
        raise DataError(f"cannot be read as an image: {error}", subject=subject, file=file) from error
    while data.ndim > max(n_dimensions) and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim not in n_dimensions:
        wanted = " or ".join(f"{n}-dimensional" for n in n_dimensions)
        raise DataError(
            "the image has the wrong number of axes", expected=wanted, got=f"{data.shape}", subject=subject, file=file
        )
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError("the affine cannot be inverted", got=str(affine.tolist()), subject=subject, file=file)
    return Volume(data, affine, subject, str(path))


def read_labels(path: str | Path, *, subject: str | None = None) -> Volume:
    """Read a parcellation: (x, y, z) int32, 0 is background.

    Raises:
        MissingInputError, DataError: as `read_volume`; fractional, negative or NaN labels; no label at all.
    """
    volume = read_volume(path, subject=subject, dtype=None)
    data = volume.data
    if not np.issubdtype(data.dtype, np.integer):
        rounded = np.rint(data)
        if not np.array_equal(rounded, data):
            raise DataError(
                "labels are not whole numbers",
                got=f"for example {data[rounded != data].flat[0]:g}",
                subject=subject,
                file=path,
                remedy="Was it resampled with interpolation? Labels need nearest neighbours.",
            )
        data = rounded
    low, high = data.min(initial=0), data.max(initial=0)
    if low < 0 or high > 2**31 - 1:
        raise DataError("labels lie outside 0 .. 2147483647", got=f"{low:g} .. {high:g}", subject=subject, file=path)
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
        raise DataError(
            "the mask is empty", subject=subject, file=path, remedy="Delete it to have one made, or mend it."
        )
    return Volume(data, volume.affine, subject, volume.file)


def with_contrast(image: Volume) -> Volume:
    """The image, with 0 where it holds no numbers.

    Raises:
        DataError: it holds no number at all, or one value everywhere.
    """
    known = np.isfinite(image.data)
    values = image.data[known]
    if not values.size or values.min() == values.max():
        what = f"the image holds nothing but {values[0]:g}" if values.size else "the image holds no number at all"
        raise DataError(what, expected="an image of a head", subject=image.subject, file=image.file)
    return Volume(np.where(known, image.data, 0), image.affine, image.subject, image.file)


def same_grid(a: Volume, b: Volume, *, tolerance_mm: float = 1e-2) -> bool:
    """Whether two images have the same voxels in the same places."""
    if a.shape[:3] != b.shape[:3]:
        return False
    corners = np.array([(i, j, k, 1.0) for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
    corners[:3] *= np.array(a.shape[:3], dtype=float)[:, None]
    return bool(np.abs((a.affine - b.affine) @ corners).max() <= tolerance_mm)


def write_volume(path: str | Path, data: np.ndarray, affine: np.ndarray) -> Path:
    """Write a NIfTI from a fresh header, atomically, with the same bytes every time.

    Nothing of the source's header is kept: free text there may name a patient. The gzip stream holds
    no time and no name.
    """
    array = data.astype(np.uint8) if data.dtype == bool else data
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    raw = image.to_bytes()
    return write_bytes(path, gzip.compress(raw, compresslevel=5, mtime=0) if str(path).endswith(".gz") else raw)


def _open(file: Path, max_bytes: int) -> FileBasedImage:
    """An image whose bytes are all there; voxels are still where they were."""
    name = file.name.lower()
    if name.endswith((".mif", ".mif.gz", ".mih")):
        raise DataError("MRtrix images are not read here", file=file, remedy="Convert it: mrconvert IN.mif OUT.nii.gz")
    if not name.endswith((".nii", ".nii.gz")):
        if not name.endswith((".mgz", ".mgh")):
            raise DataError("not an image format that is read here", file=file, expected=".nii, .nii.gz, .mgz or .mgh")
        return _open_mgh(file, max_bytes)
    compressed = name.endswith(".gz")
    with gzip.open(file, "rb") if compressed else file.open("rb") as stream:
        start = stream.read(544)
    header = _header(start, file)
    shape = [int(n) for n in header.get_data_shape()]
    if not shape or min(shape) < 1:
        raise DataError("the header gives an image without voxels", got=str(tuple(shape)), file=file)
    n_bytes = header["bitpix"].item() // 8
    for n in shape:  # Python integers: no overflow
        n_bytes *= n
    if n_bytes > max_bytes:
        raise DataError(
            "the header claims more than can be held",
            expected=f"at most {max_bytes / 1e9:.1f} GB",
            got=f"{tuple(shape)}, {n_bytes / 1e9:.1f} GB",
            file=file,
            remedy="The header is probably damaged.",
        )
    _check_header(header, file)
    limit = n_bytes + _MAX_EXTRA
    raw = _inflate(file, limit) if compressed else _read(file, limit)
    needed = int(header["vox_offset"]) + n_bytes
    if len(raw) < needed:
        raise DataError(
            "the file ends before its voxels do",
            expected=f"{needed} bytes",
            got=str(len(raw)),
            file=file,
            remedy="It was probably cut off while being copied; copy it again.",
        )
    image_class = next(image for kind, _, image in _HEADERS if type(header) is kind)
    return image_class.from_bytes(raw)


def _header(start: bytes, file: Path) -> nib.Nifti1Header:
    size = np.frombuffer(start[:4], dtype="<i4") if len(start) >= 4 else np.array([0])
    for kind, length, _ in _HEADERS:
        if size[0] in (length, np.int32(length).byteswap()) and len(start) >= length:
            return kind(start[:length], check=False)  # the fixed part alone: extensions may be longer than `start`
    raise DataError("not a NIfTI file", file=file, got=f"{len(start)} bytes that do not start with a NIfTI header")


def _check_header(header: nib.Nifti1Header, file: Path) -> None:
    if header.get_data_dtype().kind not in "iuf":
        raise DataError(
            "voxels are no single real numbers",
            expected="integers or floating point",
            got=header.get_value_label("datatype"),
            file=file,
            remedy="Take the magnitude of a complex image, one channel of a coloured one.",
        )
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise DataError(
            "the intensity scale is not a number",
            got=f"scl_slope {slope}, scl_inter {inter}",
            file=file,
            remedy="What the stored numbers mean is unknown; export the image again.",
        )
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        raise DataError(
            "the image has no orientation (sform and qform codes are 0)",
            expected="a scanner or template space",
            file=file,
            remedy="Left and right cannot be told apart; convert it again from the original.",
        )
    _check_two_orientations(header, file)


def _check_two_orientations(header: nib.Nifti1Header, file: Path) -> None:
    """sform and qform of one space must be one place; those of two spaces, at least one handedness."""
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if sform is None or qform is None or not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return
    square = nib.Nifti1Header()  # a qform holds no shear: compare with the sform less its own
    square.set_qform(sform, code=1, strip_shears=True)
    corners = np.array([(i, j, k, 1.0) for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
    corners[:3] *= np.array((*header.get_data_shape(), 1, 1)[:3], dtype=float)[:, None]
    apart = float(np.linalg.norm(((square.get_qform() - qform) @ corners)[:3], axis=0).max())
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    if mirrored or (s_code == q_code and apart > np.sqrt((sform[:3, :3] ** 2).sum(axis=0)).min()):
        raise DataError(
            "sform and qform disagree" + (" about left and right" if mirrored else ""),
            expected="one orientation",
            got=f"two that put a corner {apart:.1f} mm apart",
            file=file,
            remedy="Find out which is right and copy it over the other (fslorient -copysform2qform, -copyqform2sform).",
        )


def _inflate(file: Path, limit: int) -> bytes:
    """The whole stream, its checksum verified; never more than `limit` bytes."""
    parts: list[bytes] = []
    total = 0
    with gzip.open(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            total += len(block)
            if total > limit:
                raise DataError("the file holds far more than its header says", expected=f"{limit} bytes", file=file)
            parts.append(block)
    return b"".join(parts)


def _read(file: Path, limit: int) -> bytes:
    if file.stat().st_size > limit:
        raise DataError("the file holds far more than its header says", expected=f"{limit} bytes", file=file)
    return file.read_bytes()


def _open_mgh(file: Path, max_bytes: int) -> FileBasedImage:
    image = nib.load(file)
    n_bytes = int(image.header.get_data_dtype().itemsize)
    for n in image.shape:
        n_bytes *= int(n)
    if n_bytes > max_bytes:
        raise DataError("the header claims more than can be held", got=str(image.shape), file=file)
    return image


def _for_subject(error: ConnectomeTLError, subject: str | None) -> ConnectomeTLError:
    if isinstance(error, OutputError) or subject is None:
        return error
    first = error.problems[0]
    return type(error)(
        first.what, expected=first.expected, got=first.got, subject=subject, file=first.file, remedy=first.remedy
    )


def grid_problem(what: str, a: Volume, b: Volume) -> Problem:
    """What to say when two images that belong together do not lie on one grid."""
    return Problem(
        f"{what} does not lie on the same grid",
        expected=f"{b.shape[:3]} voxels as in {b.file}",
        got=f"{a.shape[:3]} voxels, affine {np.round(a.affine[:3], 3).tolist()}",
        subject=a.subject or b.subject,
        file=a.file,
    )
