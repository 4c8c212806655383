"""Check images before they are resampled; one message per fault with subject and file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_with_stored
from connectome_tl.settings.images.volumes import ImageSettings

CONTRASTS = ("T1w", "T2w", "FLAIR", "PDw", "ADC", "FA", "MD", "T2star")
_SATURATED = 0.005  # share of voxels at the largest whole number from which values were cut off
_BITS = (7, 8, 10, 12, 14, 15, 16, 31, 32)  # of integers, of converters and files; values beyond are cut off
_SCANNER_BITS = (10, 12, 14)  # of unsigned integers that are stored in more bits
_REACHED = 0.02  # of the range of integers: how near both limits values are that were stored in fewer bits
_JUMP = 0.75  # of the range of integers, between neighbours of which one has wrapped around
_JUMPS = 0.01  # share of such pairs; real images windowed to 8 bits have up to 0.008
_ENOUGH, _OUTLYING = 5, 5  # volumes that are compared; median absolute deviations of their likeness
_OFFSET = 1e-4  # range over largest intensity, below which single precision is too coarse
_LARGEST = 1e30  # whose square is far beyond single precision, and sums of voxels are within it
_OBLIQUE = 2.0  # degrees between two axes and a right angle from which an affine is sheared
_NARROW, _LOW = 0.52, 0.55  # width and height of a head over its length; heads have 0.63 to 0.95
_WIDE, _HIGH = 1.15, 1.35  # the same, largest
_ML = 20, 6000  # volume of a head: of a fetal brain, and well above that of adult heads with hydrocephalus
_FLAT, _CUT = 0.5, 0.8  # area of an end over the largest section: noted, refused; ends of heads have up to 0.2
_END_MM = 5.0  # thickness of an end
_FULL = 0.9  # share of the axial slices that a head does not fill; a circle fills 0.79 of the square around it


def checked_volume(path: str, subject: str, settings: ImageSettings) -> tuple[Volume, tuple[str, ...]]:
    """Read an image and check that it can be converted to a grid; returns it with notes on accepted irregularities.

    Raises:
        MissingInputError: no such file.
        DataError: not three-dimensional, a single slice, NaN, constant, overflowed integers, intensities beyond single
            precision, or a sheared affine if the grid keeps the native axes.
    """
    raw, stored, is_scaled = read_with_stored(path, subject=subject)
    if min(raw.shape) < 4:
        raise _wrong(raw, "the image is a slice, not a volume", got=" x ".join(map(str, raw.shape)))
    notes = []
    if overflow := _overflow(stored, is_scaled=is_scaled):
        if settings.overflow == "refuse":
            raise _wrong(
                raw,
                "grey levels overflowed the integers in which they are stored",
                got=overflow,
                remedy="Export the image again as float, or with a scale; or set image.overflow: note.",
            )
        notes.append(f"grey levels may have overflowed: {overflow}")
    unknown = ~np.isfinite(raw.data)
    if (np.abs(raw.data) > _LARGEST).any(where=~unknown):
        raise _wrong(
            raw,
            "grey levels are too large",
            expected=f"at most {_LARGEST:g}",
            remedy="Divide the intensities of all images by one number.",
        )
    data = _single(raw.data)
    if unknown.all():
        raise _wrong(raw, "the image contains no number")
    if unknown.any():
        if settings.nan == "refuse":
            raise _wrong(
                raw,
                "voxels are not numbers",
                got=f"{unknown.sum()} of {unknown.size}",
                remedy="Fix the image, or set image.nan: zero.",
            )
        data = np.where(unknown, np.float32(0), data)
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise _wrong(raw, f"the image contains only {low:g}", expected="an image of a head")
    if settings.window is not None:
        data = np.clip(data, np.float32(settings.window[0]), np.float32(settings.window[1]))
        if data.min() == data.max():
            raise _wrong(
                raw,
                "all grey levels are on one side of image.window",
                expected=f"levels between {settings.window[0]:g} and {settings.window[1]:g}",
                got=f"{low:g} to {high:g}",
            )
    elif _is_hounsfield(data):
        raise _wrong(
            raw,
            "grey levels seem to be Hounsfield units (CT), in which bone would hide the contrast of the brain",
            remedy="Set image.window, for example [0, 80] for the brain.",
        )
    shear = _shear(raw.affine)
    if shear > _OBLIQUE:
        if settings.grid != "isotropic":
            raise _wrong(
                raw,
                "the axes of the affine are not at right angles",
                got=f"{shear:.1f} degrees off",
                remedy="Resample it, or set image.grid: isotropic, which resamples.",
            )
        notes.append(f"the axes of the affine are {shear:.1f} degrees off right angles")
    return Volume(data, raw.affine, subject, path), tuple(notes)


def check_contrast(path: str, subject: str, contrast: str) -> None:
    """Check that the name of a file does not contradict the contrast of the cohort.

    Raises:
        DataError: the name states another contrast.
    """
    named = _named(path)
    if named and contrast not in named:
        raise DataError(
            "the name of the image implies another contrast",
            expected=contrast,
            got=", ".join(sorted(named)),
            subject=subject,
            file=path,
            remedy="Name the right files in `volumes`, or correct its contrast.",
        )


def named_contrast(paths: Iterable[str]) -> str:
    """The common contrast in the names of all files; "" if it is missing in a name, or contrasts differ."""
    found = {frozenset(_named(path)) for path in paths}
    one = next(iter(found)) if len(found) == 1 else frozenset()
    return next(iter(one)) if len(one) == 1 else ""


def _named(path: str) -> set[str]:
    stem = path.rsplit("/", 1)[-1].split(".")[0]
    words = [word for word in stem.replace("-", "_").split("_") if word]
    return {known for known in CONTRASTS for word in words if word.lower() == known.lower()}


def head_problem(volume: Volume, foreground: np.ndarray, side: str, flat: float) -> str:
    """Problem of size, extent or place of the head, or an empty text.

    Args:
        foreground: (x, y, z) bool, RAS axes.
        side, flat: as from `flattest_side`.
    """
    size = float(foreground.sum() * volume.voxel_mm3 / 1000)
    if not _ML[0] <= size <= _ML[1]:
        return f"the head has {size:.3g} ml: its voxel sizes may not be in mm"
    filled = foreground.mean(axis=(0, 1))
    if np.median(filled[filled > 0]) > _FULL:
        return "the head fills the field of view: it may be noise, or have no background"
    width, length, height = head_extent(volume, foreground)
    if width < _NARROW * length:
        return f"the head is {width:.0f} mm wide and {length:.0f} mm long: it may be half a brain"
    if height < _LOW * length:
        return f"the head is {height:.0f} mm high and {length:.0f} mm long: it may be cut off"
    if width > _WIDE * length or height > _HIGH * length:
        return f"the head is only {length:.0f} mm long, {width:.0f} mm wide, {height:.0f} mm high: cut off at one end"
    return cut_side(side, flat) if flat > _CUT else ""


def head_extent(volume: Volume, foreground: np.ndarray) -> tuple[float, float, float]:
    """Width, length and height of the head in mm, without thin protrusions."""
    extent = []
    for axis in range(3):
        area = foreground.sum(axis=tuple(i for i in range(3) if i != axis))
        seen = np.flatnonzero(area > 0.02 * area.max())
        extent.append(float((seen[-1] - seen[0] + 1) * volume.zooms[axis]))
    return extent[0], extent[1], extent[2]


def flattest_side(volume: Volume, foreground: np.ndarray, *, is_stripped: bool) -> tuple[str, float]:
    """The side at which the head ends most abruptly, and the area of that end over the largest parallel section.

    The lower end is left out, unless the image is skull-stripped: there is the neck.
    """
    found = {}
    for axis, sides in enumerate((("left", "right"), ("back", "front"), ("bottom", "top"))):
        area = foreground.sum(axis=tuple(i for i in range(3) if i != axis))
        area = np.trim_zeros(area)
        n = max(1, round(_END_MM / float(volume.zooms[axis])))
        for side, end in zip(sides, (area[:n], area[-n:]), strict=True):
            found[side] = float(end.mean() / area.max())
    if not is_stripped:
        del found["bottom"]
    side = max(found, key=found.__getitem__)
    return side, found[side]


def cut_side(side: str, flat: float) -> str:
    """A note on a side at which the head seems to be cut off; empty if it is not."""
    return f"the head ends abruptly at the {side}: it may be cut off" if flat > _FLAT else ""


def _single(data: np.ndarray) -> np.ndarray:
    """The volume in single precision, without an offset that would leave few distinct intensities in it."""
    known = data[np.isfinite(data)].astype(np.float64) if data.dtype.kind == "f" else data
    if not known.size:
        return data.astype(np.float32)
    low, high = float(known.min()), float(known.max())
    if 0 < high - low < _OFFSET * max(abs(low), abs(high)):
        return (data.astype(np.float64) - low).astype(np.float32)
    return data.astype(np.float32)


def unlike_others(coarse: np.ndarray) -> list[int]:
    """Rows of volumes that resemble the inverse of the others, as of another contrast; none among fewer than five.

    Args:
        coarse: (n_subjects, n) means over blocks of voxels on one grid, 0 outside the head.
    """
    used = np.median(np.abs(coarse), axis=0) > 0
    values = coarse[:, used].astype(np.float64)
    if len(values) < _ENOUGH or values.shape[1] < _ENOUGH:
        return []
    others = values.sum(axis=0) - values
    centred = [one - one.mean(axis=1, keepdims=True) for one in (values, others)]
    size = np.prod([np.linalg.norm(one, axis=1) for one in centred], axis=0)
    r = (centred[0] * centred[1]).sum(axis=1) / np.maximum(size, np.finfo(float).tiny)
    typical = np.median(r)
    spread = 1.4826 * float(np.median(np.abs(r - typical)))
    # In a cohort of infants around the inversion of contrast the spread is large.
    return [int(i) for i in np.flatnonzero((r < 0) & (r < typical - _OUTLYING * spread))]


def _is_hounsfield(data: np.ndarray) -> bool:
    """Whether grey levels are air, soft tissue and bone on the scale of CT."""
    shares = [float(((data > low) & (data < high)).mean()) for low, high in ((-1050, -950), (-20, 100), (300, 4000))]
    return all(share > least for share, least in zip(shares, (0.1, 0.03, 0.001), strict=True))


def _overflow(data: np.ndarray, *, is_scaled: bool) -> str:
    """What shows that stored integers overflowed, or an empty text.

    Values that wrapped around lie beside values near the other limit. Voxels at the limits do not count, since
    saturated fat may lie beside black bone. Real numbers that were stored as integers with a scale may have the whole
    range, as nibabel writes them; values below half of it are then no sign.
    """
    if data.dtype.kind == "f" and not (np.isfinite(data).all() and np.array_equal(data, np.rint(data))):
        return ""
    largest = int(data.max())
    top = float((data == largest).mean())
    if top > _SATURATED and largest + 1 in {2**n for n in _BITS}:
        return f"{top:.1%} of the voxels at {largest}"
    limits = _limits(data)
    if limits is None:
        return ""
    low, high = limits
    is_stretched = is_scaled and data.min() == low and data.max() == high
    if low < 0 and not is_stretched and bool((data < low // 2).any() and (data > high // 2).any()):
        return f"values from {low // 2} up and from {high // 2} up"
    within, jumps = (data > low) & (data < high), 0
    for axis in range(3):
        values, counted = (np.moveaxis(one, axis, 0) for one in (data, within))
        steps = np.abs(np.diff(values.astype(np.float64), axis=0))
        jumps += int(((steps > _JUMP * (high - low)) & counted[1:] & counted[:-1]).sum())
    share = jumps / max(int(within.sum()), 1)
    return f"neighbours that differ by {_JUMP:.0%} of the range {low} to {high}, {share:.1%}" if share > _JUMPS else ""


def _limits(data: np.ndarray) -> tuple[int, int] | None:
    """Limits of the integers in which whole numbers are, or once were, stored; None if they are unknown."""
    lowest, largest = float(data.min()), float(data.max())
    types = [np.iinfo(narrow) for narrow in (np.uint8, np.int8, np.uint16, np.int16)]
    # Stored in more bits later, or as floating point.
    for low, high in [*((int(one.min), int(one.max)) for one in types), *((0, 2**n - 1) for n in _SCANNER_BITS)]:
        margin = _REACHED * (high - low)
        if low <= lowest <= low + margin and high - margin <= largest <= high:
            return low, high
    if data.dtype.kind not in "iu" or data.dtype.itemsize > 4:
        return None
    return int(np.iinfo(data.dtype).min), int(np.iinfo(data.dtype).max)


def _shear(affine: np.ndarray) -> float:
    """Largest deviation of an angle between two axes from a right angle, in degrees."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(np.triu(axes.T @ axes, 1)).max()
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))))


def _wrong(
    raw: Volume, what: str, *, expected: str | None = None, got: str | None = None, remedy: str | None = None
) -> DataError:
    return DataError(what, expected=expected, got=got, subject=raw.subject, file=raw.file, remedy=remedy)
