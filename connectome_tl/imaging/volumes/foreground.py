"""The foreground of a volume: the head above the neck, or the brain of a skull-stripped image.

The method has no trained parameters. The background of a skull-stripped image has one value, so that its foreground is
exact. Otherwise, head and air are separated by local means and standard deviations on a coarse grid: for noise they are
similar, for tissue the mean is larger. The mask is solid and includes bone, air in the sinuses, and ventricles.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_UNIT, _ACROSS = 4.0, 40  # mm of a voxel of the coarse grid, about; less where the longest edge has not 40 of them
_BLUR = 0.8  # voxels: least standard deviation of the neighbourhood whose mean and spread are taken; else a unit
_PART = 0.25  # fraction of the way from the intensity of air to that of tissue, on a square-root scale
_CLOSE = 3.0  # units: openings of sinuses and ear canals that are closed
_REACH = 3.0  # units around the head in which a stripped image may contain faint voxels
_STRAY = 0.05  # of the head's volume: other voxels that the surroundings of a stripped image may contain
_FACES = 0.3  # share of the outer faces from which their most frequent value counts as the background
_ASPECT = 1.1  # height of a head above the neck over its width: 170 mm and 155 mm in adults
_CROWN = 0.8  # of that height, from the vertex: where the width is taken, above the shoulders
_SPIKE = 10.0  # times the 99th percentile: larger intensities are limited to it
_VERTEX = 0.25  # of the largest width, which the vertex has at least


@dataclass(frozen=True, eq=False)
class Foreground:
    """Foreground of a volume.

    Attributes:
        mask: (x, y, z) bool.
        is_stripped: whether the background has one value, as after skull stripping; the foreground is then the brain.
        background: intensity of the background.
        second: volume of the next largest object of the image, relative to the head.
    """

    mask: np.ndarray
    is_stripped: bool
    background: float
    second: float = 0.0


def find_foreground(data: np.ndarray, zooms: np.ndarray) -> Foreground:
    """The head without the neck, or the whole foreground of a skull-stripped image.

    Args:
        data: (x, y, z) intensities, RAS axes. zooms: (3,) voxel size in mm.

    Returns:
        The foreground; its mask is empty if nothing differs from the background.
    """
    level, is_frequent = _background(data)
    contrast = _scaled(np.abs(data.astype(np.float32) - np.float32(level)))
    unit = min(_UNIT, float((zooms * data.shape).max()) / _ACROSS)
    step = np.maximum(1, np.round(unit / zooms)).astype(int)
    edges = zooms * step / unit
    largest, second = _largest(_tissue(*_blocks(contrast, step), edges))
    head = _solid(largest, edges)
    if is_frequent:
        around = _repeated(_dilated(head, _REACH, edges), step, data.shape)
        differs = data != level
        if (differs & ~around).sum() <= _STRAY * (differs & around).sum():
            mask, second = _largest(differs)
            return Foreground(_filled(mask), True, level, second)
    return Foreground(_enlarged(_above_the_neck(head, edges), step, data.shape), False, level, second)


def mixed_backgrounds(is_stripped: Collection[bool]) -> str:
    """Note on volumes of which only some are skull-stripped, else an empty text."""
    empty, n = sum(is_stripped), len(is_stripped)
    if empty in (0, n):
        return ""
    return (
        f"{empty} of {n} volumes have an empty background, as after skull stripping, and the others do not: head "
        "volumes and grey levels of heads and brains are not comparable"
    )


def _background(data: np.ndarray) -> tuple[float, bool]:
    """The intensity of air, and whether many voxels of the outer faces have exactly this value."""
    faces = np.concatenate([np.take(data, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)])
    levels, counts = np.unique(faces, return_counts=True)
    if counts.max() >= _FACES * len(faces):
        return float(levels[counts.argmax()]), True
    return float(np.quantile(data, 0.01)), False


def _scaled(contrast: np.ndarray) -> np.ndarray:
    """Contrast relative to its high values, without spikes, so that its squares are within single precision."""
    there = contrast[contrast > 0]
    if not there.size:
        return contrast
    top = np.quantile(there, 0.99, method="lower")
    return np.asarray(np.minimum(contrast / top, np.float32(_SPIKE)))


def _blocks(values: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and mean squares over blocks of voxels."""
    padded = np.pad(values, [(0, int(-n % s)) for n, s in zip(values.shape, step, strict=True)], mode="edge")
    shape = [size for n, s in zip(padded.shape, step, strict=True) for size in (n // s, s)]
    blocks = padded.reshape(shape)
    return blocks.mean(axis=(1, 3, 5)), np.square(blocks).mean(axis=(1, 3, 5))


def _tissue(means: np.ndarray, squares: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mask of voxels whose local mean sufficiently exceeds the local standard deviation. `edges` in units, as below."""
    blur = np.maximum(1 / edges, _BLUR)
    mean = ndimage.gaussian_filter(means, blur)
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter(squares, blur) - mean**2, 0))
    score = np.sqrt(np.maximum(mean - spread, 0))
    score = np.minimum(score, np.quantile(score, 0.995))  # limit the influence of vessels and fat
    if score.min() == score.max():
        return np.zeros(score.shape, dtype=bool)
    bright = score > _otsu(score)
    air, tissue = np.median(score[~bright]), np.median(score[bright])
    return np.asarray(score > air + _PART * (tissue - air))


def _otsu(values: np.ndarray) -> float:
    """The threshold between two classes of least spread (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    from dipy.segment.threshold import otsu

    return float(otsu(values))


def _solid(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Openings closed, holes filled in space and in every slice."""
    margin = int(np.ceil(_CLOSE / edges.min())) + 1
    found = ndimage.binary_closing(np.pad(mask, margin), _ball(_CLOSE, edges))
    found = _filled(found[(slice(margin, -margin),) * 3])
    for axis in range(3):
        flat = np.zeros((3, 3, 3), dtype=bool)
        flat[tuple(1 if a == axis else slice(None) for a in range(3))] = True
        found = ndimage.binary_fill_holes(found, flat & ndimage.generate_binary_structure(3, 1))
    return np.asarray(found)


def _above_the_neck(head: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The head without the part that is further below the vertex than the height of a head of this width."""
    widths = head.any(axis=1).sum(axis=0) * edges[0]
    if not widths.any():
        return head
    vertex = int(np.flatnonzero(widths >= _VERTEX * widths.max())[-1])  # structures above the vertex are thinner
    height = 0.0
    for level in range(vertex, -1, -1):
        height = max(height, _ASPECT * float(widths[level]))
        if (vertex + 1 - level) * edges[2] > _CROWN * height:
            break  # stop below the widest part, before the shoulders
    found = head.copy()
    found[:, :, : max(0, vertex + 1 - round(height / edges[2]))] = False
    return found


def _largest(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest object of a mask, and the size of the next one relative to it."""
    pieces, n = ndimage.label(mask)
    if n < 2:
        return mask, 0.0
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    second, first = np.sort(sizes)[-2:]
    return np.asarray(pieces == sizes.argmax()), float(second / first)


def _filled(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=bool)


def _dilated(mask: np.ndarray, radius: float, edges: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_dilation(mask, _ball(radius, edges)))


def _ball(radius: float, edges: np.ndarray) -> np.ndarray:
    reach = [int(np.ceil(radius / edge)) for edge in edges]
    points = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    square = sum((p * edge / radius) ** 2 for p, edge in zip(points, edges, strict=True))
    return np.asarray(square <= 1.0 + 1e-9)


def _repeated(mask: np.ndarray, step: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A coarse mask on the original voxels, with blocky edges."""
    for axis in range(3):
        mask = np.repeat(mask, step[axis], axis=axis)
    return mask[tuple(slice(n) for n in shape)]


def _enlarged(mask: np.ndarray, step: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A coarse mask on the original voxels, with interpolated edges."""
    offset = -(step - 1) / (2.0 * step)
    found = ndimage.affine_transform(
        mask.astype(np.float32), np.diag(1.0 / step), offset, shape, order=1, mode="nearest"
    )
    return np.asarray(found > 0.5)
