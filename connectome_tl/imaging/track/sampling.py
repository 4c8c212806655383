"""Ends, lengths and mean image values of streamlines, for the assembly of connectomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.track.flat import Streamlines

_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Ends:
    """Properties of streamlines that a connectome needs.

    Attributes:
        head, tail: (n_streamlines, 3) mm, NaN for an empty streamline.
        n_points: (n_streamlines,).
        lengths: (n_streamlines,) mm; None if not requested.
        means: mean of an image along each streamline, (n_streamlines,), by name; NaN outside the image.
        file, sources: the tractogram, and the image of each mean, for messages.
        notes: notes of the reader of the tractogram.
    """

    head: np.ndarray
    tail: np.ndarray
    n_points: np.ndarray
    lengths: np.ndarray | None = None
    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    file: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_streamlines(self) -> int:
        """Number of streamlines."""
        return len(self.n_points)


def reduce_streamlines(
    blocks: Iterable[Streamlines],
    *,
    lengths: bool = False,
    images: Mapping[str, Volume] | None = None,
    precise: bool = False,
) -> Ends:
    """Reduce streamlines in one pass, block by block.

    Args:
        images: whose means are taken along each streamline, by name.
        precise: means as `precise_mean_along`, else as `mean_along`.
    """
    along = precise_mean_along if precise else mean_along
    images = images or {}
    heads, tails, counts, long = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    means: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in images}
    file = None
    notes: list[str] = []
    for block in blocks:
        head, tail = block.ends()
        heads.append(head)
        tails.append(tail)
        counts.append(block.n_points)
        if lengths:
            long.append(block.lengths())
        for name, image in images.items():
            means[name].append(along(block, image))
        file = block.file
        notes += block.notes
    return Ends(
        np.concatenate(heads),
        np.concatenate(tails),
        np.concatenate(counts),
        np.concatenate(long) if lengths else None,
        {name: np.concatenate(parts) for name, parts in means.items()},
        file,
        {name: image.file for name, image in images.items() if image.file is not None},
        tuple(notes),
    )


def mean_along(streamlines: Streamlines, image: Volume) -> np.ndarray:
    """Mean of the image along each streamline, (n_streamlines,) float64, as `tcksample -stat_tck mean` takes it.

    Values are interpolated at every point and weighted by half the length of the adjacent steps. Points outside the
    image or with non-finite values are ignored; NaN if none remains.
    """
    values = np.zeros(len(streamlines.points))
    step = np.append(streamlines.steps().astype(float), 0.0)
    # Half the step before and half the step after a point; the steps across a separator do not exist.
    inner = np.zeros(len(streamlines.points), dtype=bool)
    some = np.flatnonzero(streamlines.n_points > 1)
    starts, ends = streamlines.first[some], streamlines.first[some] + streamlines.n_points[some] - 1
    change = np.zeros(len(streamlines.points) + 1, dtype=np.int8)
    change[starts] += 1
    change[ends] -= 1  # the last point has no step; two streamlines never share a row
    inner = np.cumsum(change[:-1], dtype=np.int8) > 0
    step[~inner] = 0.0
    share = 0.5 * step
    share[1:] += 0.5 * step[:-1]
    used = np.flatnonzero(share > 0)
    for start in range(0, len(used), _BLOCK):
        rows = used[start : start + _BLOCK]
        values[rows] = trilinear(streamlines.points[rows], image)
    lost = ~np.isfinite(values)
    share[lost] = 0.0
    values[lost] = 0.0
    total = streamlines.sums(share, streamlines.n_points)
    weighted = streamlines.sums(values * share, streamlines.n_points)
    return np.divide(weighted, total, out=np.full(streamlines.n_streamlines, np.nan), where=total > 0)


def precise_mean_along(streamlines: Streamlines, image: Volume) -> np.ndarray:
    """Mean of the voxels that each streamline crosses, by the length within each, (n_streamlines,) float64.

    As in `tcksample -precise -stat_tck mean`: voxels are weighted by the length within them. Voxels outside the image
    or with non-finite values are ignored; NaN if none remains.
    """
    sums, total = np.zeros(streamlines.n_streamlines), np.zeros(streamlines.n_streamlines)
    counts = np.maximum(streamlines.n_points - 1, 0)
    of_step = np.repeat(np.arange(streamlines.n_streamlines), counts)
    rows = np.arange(len(of_step)) - np.repeat(np.cumsum(counts) - counts, counts) + streamlines.first[of_step]
    inverse = np.linalg.inv(image.affine)
    for start in range(0, len(rows), _BLOCK):
        which, row = of_step[start : start + _BLOCK], rows[start : start + _BLOCK]
        a, b = streamlines.points[row].astype(float), streamlines.points[row + 1].astype(float)
        step, share, voxel = _cut_at_faces(*((p @ inverse[:3, :3].T + inverse[:3, 3] + 0.5) for p in (a, b)))
        length = share * np.linalg.norm(b - a, axis=1)[step]
        inside = ((voxel >= 0) & (voxel < image.shape[:3])).all(axis=1)
        step, length, voxel = step[inside], length[inside], voxel[inside]
        values = image.data[tuple(voxel.T)].astype(float)
        known = np.isfinite(values)
        total += np.bincount(which[step[known]], length[known], minlength=len(total))
        sums += np.bincount(which[step[known]], (values * length)[known], minlength=len(total))
    return np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0)


def _cut_at_faces(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Straight steps from `a` to `b`, (n, 3) in voxels with faces at integers, cut where they cross a face.

    Returns:
        For each piece: its step, its share of that step, and its voxel (3).
    """
    steps, cuts = [np.arange(len(a)), np.arange(len(a))], [np.zeros(len(a)), np.ones(len(a))]
    for axis in range(3):
        low, high = (edge(a[:, axis], b[:, axis]) for edge in (np.minimum, np.maximum))
        first = np.floor(low) + 1
        n = np.maximum(np.ceil(high) - first, 0).astype(int)
        step = np.repeat(np.arange(len(a)), n)
        face = first[step] + np.arange(len(step)) - np.repeat(np.cumsum(n) - n, n)
        steps.append(step)
        cuts.append((face - a[step, axis]) / (b[step, axis] - a[step, axis]))
    step, cut = np.concatenate(steps), np.concatenate(cuts)
    order = np.lexsort((cut, step))
    step, cut = step[order], cut[order]
    same = step[1:] == step[:-1]
    step, share, middle = step[1:][same], np.diff(cut)[same], ((cut[1:] + cut[:-1]) / 2)[same]
    voxel = np.floor(a[step] + middle[:, None] * (b - a)[step]).astype(int)
    return step, share, voxel


def trilinear(points: np.ndarray, image: Volume) -> np.ndarray:
    """Values of an image at points in mm, (n,) float64; NaN outside its voxels."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(image.affine)
    voxels = points.astype(float) @ inverse[:3, :3].T + inverse[:3, 3]
    values = map_coordinates(image.data, voxels.T, order=1, mode="nearest", output=np.float64)
    outside = ((voxels < -0.5) | (voxels >= np.array(image.shape) - 0.5)).any(axis=1)
    values[outside] = np.nan
    return values
