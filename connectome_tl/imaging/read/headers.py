"""Check image headers against file contents before voxels are read.

NIfTI-1 and NIfTI-2 in one file (nifti.nimh.nih.gov), FreeSurfer's MGH. A missing orientation, lengths that are not in
mm, and files longer or shorter than stated in their header are errors, since defaults would give plausible but wrong
results.
"""

from __future__ import annotations

import gzip
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from connectome_tl.errors import DataError

_MAX_EXTRA = 64 << 20  # bytes in addition to the voxels: extensions of a NIfTI header, tags after an MGH
_BLOCK = 1 << 22
_UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units; mm without a code
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # one message per problem: ours, with subject and file
_HEADERS = (
    (nib.Nifti1Header, 348, nib.Nifti1Image),
    (nib.Nifti2Header, 540, nib.Nifti2Image),
)
_CIFTI = range(3000, 3100)  # intent codes
_GZIP = b"\x1f\x8b"
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_MGH_HEADER = 284
_MGH_SCAN = 20  # bytes of TR, flip angle, TE, TI, field of view
_MGH_LAST_TAG = 100  # FreeSurfer's go up to 51


@dataclass(frozen=True)
class OpenedImage:
    """A complete image.

    Attributes:
        voxels: voxels, read on access.
        affine: (4, 4) voxel indices to mm, RAS+.
        step: difference of neighbouring values for scaled integers; else 0.
    """

    voxels: ArrayProxy
    affine: np.ndarray
    step: float


def open_image(file: Path, max_bytes: int) -> OpenedImage:
    """Open a `.nii`, `.nii.gz`, `.mgh` or `.mgz`.

    Raises:
        DataError: another format; header and file disagree; larger than `max_bytes`; no orientation.
        Exception: whatever gzip and nibabel raise for a damaged file.
    """
    name = file.name.lower()
    if name.endswith((".mif", ".mif.gz", ".mih")):
        raise DataError("MRtrix images are not read here", file=file, remedy="Convert it: mrconvert IN.mif OUT.nii.gz")
    if name.endswith((".mgz", ".mgh")):
        return _open_mgh(file, max_bytes)
    if name.endswith((".nii", ".nii.gz")):
        return _open_nifti(file, max_bytes)
    is_pair = name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz"))
    raise DataError(
        "not an image format that is read here",
        file=file,
        expected=".nii, .nii.gz, .mgz or .mgh",
        remedy="Save the pair as one file: nibabel.save(nibabel.load(IN), 'OUT.nii.gz')." if is_pair else None,
    )


def shape_of(file: Path) -> tuple[int, ...]:
    """Shape of an image, from its header.

    Raises:
        Exception: whatever gzip and nibabel raise for a damaged file.
    """
    if file.name.lower().endswith((".nii", ".nii.gz")):
        header = _header(_start(file, 544, compressed=_compressed(file)), file)
        return tuple(int(n) for n in header.get_data_shape())
    return tuple(int(n) for n in nib.load(file).shape)


def _open_nifti(file: Path, max_bytes: int) -> OpenedImage:
    compressed = _compressed(file)
    header = _header(_start(file, 544, compressed=compressed), file)
    shape = [int(n) for n in header.get_data_shape()]
    _check_header(header, file)
    n_bytes = _claimed(shape, header.get_data_dtype().itemsize, max_bytes, file)
    raw = _content(file, n_bytes + _MAX_EXTRA, compressed=compressed)
    _check_length(raw, int(header["vox_offset"]), n_bytes, shape, file)
    image_class = next(image for kind, _, image in _HEADERS if type(header) is kind)
    image = image_class.from_bytes(raw)
    stored_whole = np.issubdtype(header.get_data_dtype(), np.integer)
    scaled = stored_whole and (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    step = abs(float(image.dataobj.slope)) if scaled else 0.0
    return OpenedImage(image.dataobj, np.asarray(header.get_best_affine(), dtype=float), step)


def _compressed(file: Path) -> bool:
    """Whether a file is compressed, by its content; the name decides where that is neither gzip nor NIfTI."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if start[:2] == _GZIP:
        return True
    plain = {length.to_bytes(4, order) for _, length, _ in _HEADERS for order in _ORDERS}
    return file.name.lower().endswith(".gz") and start not in plain


def _start(file: Path, n_bytes: int, *, compressed: bool) -> bytes:
    with gzip.open(file, "rb") if compressed else file.open("rb") as stream:
        return stream.read(n_bytes)


def _claimed(shape: list[int], itemsize: int, max_bytes: int, file: Path) -> int:
    """Size of the voxels in bytes, according to the header."""
    if not shape or min(shape) < 1:
        raise DataError("the image has no voxels according to its header", got=str(tuple(shape)), file=file)
    n_bytes = int(itemsize)
    for n in shape:  # Python integers: no overflow
        n_bytes *= n
    if n_bytes > max_bytes:
        raise DataError(
            "the image is too large according to its header",
            expected=f"at most {max_bytes / 1e9:.1f} GB",
            got=f"{tuple(shape)}, {n_bytes / 1e9:.1f} GB",
            file=file,
            remedy="The header is probably damaged.",
        )
    return n_bytes


def _check_length(raw: bytes, offset: int, n_bytes: int, shape: list[int], file: Path) -> None:
    """Check that header and file size agree; trailing zeros of a block are ignored."""
    needed = offset + n_bytes
    _check_cut(raw, needed, file)
    extra = len(raw) - needed
    if extra and (extra >= n_bytes // max(shape) or raw[needed:].strip(b"\0")):
        raise DataError(
            "the file is longer than stated in its header",
            expected=f"{needed} bytes for {tuple(shape)} voxels",
            got=str(len(raw)),
            file=file,
            remedy="Header and voxels do not belong together; export the image again.",
        )


def _check_cut(raw: bytes, needed: int, file: Path) -> None:
    if len(raw) < needed:
        raise DataError(
            "the file ends before its last voxel",
            expected=f"{needed} bytes",
            got=str(len(raw)),
            file=file,
            remedy="It was probably cut off while being copied; copy it again.",
        )


def _check_footer(footer: bytes, smallest: int, file: Path) -> None:
    """Check that the voxels of an MGH file are followed only by scan parameters and tagged blocks."""
    tag = int.from_bytes(footer[_MGH_SCAN : _MGH_SCAN + 4], "big")
    blank = not footer[_MGH_SCAN:].strip(b"\0") and len(footer) < smallest + _MGH_SCAN
    if len(footer) > _MGH_SCAN and not (1 <= tag <= _MGH_LAST_TAG or blank):
        raise DataError(
            "the file is longer than stated in its header",
            expected="voxels and a footer",
            got=f"{len(footer)} bytes more",
            file=file,
            remedy="Header and voxels do not belong together; export the image again.",
        )


def _header(start: bytes, file: Path) -> nib.Nifti1Header:
    size = np.frombuffer(start[:4], dtype="<i4") if len(start) >= 4 else np.array([0])
    for kind, length, _ in _HEADERS:
        if size[0] in (length, np.int32(length).byteswap()) and len(start) >= length:
            return kind(start[:length], check=False)  # the fixed part alone: extensions may be longer than `start`
    if not start:
        raise DataError("not a NIfTI file", file=file, got="an empty file", remedy="Copy it again.")
    raise DataError("not a NIfTI file", file=file, got=f"{len(start)} bytes that do not start with a NIfTI header")


def _check_header(header: nib.Nifti1Header, file: Path) -> None:
    if int(header["intent_code"]) in _CIFTI:
        raise DataError(
            "a CIFTI file is no image",
            expected="a NIfTI image of voxels",
            file=file,
            remedy="Export its parts: wb_command -cifti-separate.",
        )
    if header.get_data_dtype().kind not in "iuf":
        raise DataError(
            "voxels are not real numbers",
            expected="integers or floating point",
            got=header.get_value_label("datatype"),
            file=file,
            remedy="Take the magnitude of a complex image, one channel of a coloured one.",
        )
    if header.get_data_dtype().itemsize * 8 != int(header["bitpix"]):
        raise DataError(
            "the header has contradictory voxel sizes",
            expected=f"{header.get_data_dtype().itemsize * 8} bits for {header.get_value_label('datatype')}",
            got=str(int(header["bitpix"])),
            file=file,
        )
    unit = _UNITS.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        raise DataError(
            f"the header gives lengths in {unit}",
            expected="mm",
            file=file,
            remedy="If they are mm, correct the header: "
            "i = nibabel.load(IN); i.header.set_xyzt_units('mm'); nibabel.save(i, OUT).",
        )
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise DataError(
            "the intensity scale is not a number",
            got=f"scl_slope {slope}, scl_inter {inter}",
            file=file,
            remedy="What the stored numbers mean is unknown; export the image again.",
        )
    if _zeroed(header):
        header["sform_code"] = 0
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        raise DataError(
            "the image has no orientation (sform and qform codes are 0)",
            expected="a scanner or template space",
            file=file,
            remedy="Left and right cannot be distinguished; convert it again from the original.",
        )
    _make_sizes_positive(header, file)
    _ignore_unusable_qform(header)
    _check_two_orientations(header, file)


def _make_sizes_positive(header: nib.Nifti1Header, file: Path) -> None:
    """Handle negative voxel sizes: ignored with an sform; an error with a qform, whose reading differs between
    tools.
    """
    sizes = header["pixdim"][1:4]
    if not (sizes < 0).any():
        return
    if int(header["sform_code"]) <= 0:
        raise DataError(
            "the header gives negative voxel sizes",
            expected="sizes above 0, or an sform",
            got=", ".join(f"{size:g}" for size in sizes),
            file=file,
            remedy="Which way its axes point is unknown; convert it again from the original.",
        )
    header["pixdim"][1:4] = np.abs(sizes)


def _ignore_unusable_qform(header: nib.Nifti1Header) -> None:
    """Handle a first pixdim of 0, which means 1, and a quaternion that is no rotation beside an sform."""
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return
    try:
        usable = np.isfinite(header["pixdim"][1:4]).all() and np.isfinite(header.get_qform()).all()
    except (ValueError, HeaderDataError):
        usable = False
    if not usable:
        header["qform_code"] = 0


def _zeroed(header: nib.Nifti1Header) -> bool:
    """Whether the sform has a code but is zero, while the qform is valid (ANTs, QSIPrep)."""
    rows = np.array([header[row] for row in ("srow_x", "srow_y", "srow_z")])
    return int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0 and not rows.any()


def _check_two_orientations(header: nib.Nifti1Header, file: Path) -> None:
    """Check that sform and qform of one space agree; those of different spaces must have the same handedness."""
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if sform is None or qform is None or not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return
    square = nib.Nifti1Header()  # a qform has no shear: compare with the sform without shear
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


def _content(file: Path, limit: int, *, compressed: bool) -> bytes:
    """Read all bytes of a file, at most `limit`, and verify its checksum."""
    too_long = DataError("the file is much longer than stated in its header", expected=f"{limit} bytes", file=file)
    if not compressed:
        if file.stat().st_size > limit:
            raise too_long
        return file.read_bytes()
    parts: list[bytes] = []
    total = 0
    with gzip.open(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            total += len(block)
            if total > limit:
                raise too_long
            parts.append(block)
    return b"".join(parts)


def _open_mgh(file: Path, max_bytes: int) -> OpenedImage:
    compressed = file.name.lower().endswith(".mgz")
    start = _start(file, _MGH_HEADER, compressed=compressed)
    if len(start) < _MGH_HEADER:
        raise DataError("not an MGH file", got=f"{len(start)} bytes", file=file)
    header = nib.MGHImage.header_class(start, check=False)
    if int(header["version"]) != 1:
        raise DataError("not an MGH file", expected="version 1", got=str(int(header["version"])), file=file)
    if int.from_bytes(start[28:30], "big") != 1:  # nibabel replaces a missing orientation by a default
        raise DataError(
            "the image has no orientation (goodRASFlag is 0)",
            expected="a scanner or template space",
            file=file,
            remedy="Left and right cannot be distinguished; convert it again from the original.",
        )
    shape = [int(n) for n in header["dims"]]
    n_bytes = _claimed(shape, header.get_data_dtype().itemsize, max_bytes, file)
    raw = _content(file, n_bytes + _MAX_EXTRA, compressed=compressed)
    _check_cut(raw, _MGH_HEADER + n_bytes, file)
    _check_footer(raw[_MGH_HEADER + n_bytes :], n_bytes // max(shape), file)
    image = nib.MGHImage.from_bytes(raw)
    return OpenedImage(image.dataobj, np.asarray(image.affine, dtype=float), 0.0)
