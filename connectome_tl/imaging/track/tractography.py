"""Tractography from seeds. Results depend on the seed only, not on threads or image size.

A streamline ends where the density falls below the cutoff, or at the mask. With tissue maps, only streamlines with
both ends in grey matter are kept (anatomically constrained tracking, Smith et al. 2012,
doi:10.1016/j.neuroimage.2012.06.005).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, in_usual_order
from connectome_tl.imaging.track.orientation_field import GridValues, grid_values, peak_amplitudes, polynomials
from connectome_tl.imaging.track.propagation import Front, Step, deterministic, probabilistic, seeds, seeds_on_peaks
from connectome_tl.imaging.track.reconstruction import Orientations
from connectome_tl.plurals import counted
from connectome_tl.settings.imaging import TrackingSettings

_BATCH = 1_000  # seeds per batch; affects the result, since each batch has its own random numbers


@dataclass(frozen=True, eq=False)
class Tracking:
    """Result of tracking.

    Attributes:
        streamlines: arrays (n_points, 3) in mm, RAS+.
        n_seeds: seeds tried.
    """

    streamlines: list[np.ndarray]
    n_seeds: int


@dataclass(frozen=True, eq=False)
class _Ground:
    """Densities and tissues that constrain streamlines.

    Attributes:
        field: polynomials of the densities inside the mask.
        tissues: columns of `_tissues`, or None.
    """

    field: GridValues
    tissues: GridValues | None

    def ended(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether points end their streamline, and whether these are valid ends, two (n,) bool."""
        if self.tissues is None:
            nothing = np.zeros(len(points), dtype=bool)
            return nothing, nothing
        barred, fluid = self.tissues.at(points).T
        valid = barred < 0.5
        return valid | (fluid > 0.5), valid


def track(
    orientations: Orientations,
    mask: np.ndarray,
    settings: TrackingSettings,
    *,
    seed_mask: np.ndarray | None = None,
    tissues: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    n_threads: int = 1,
    subject: str | None = None,
) -> Tracking:
    """Track until enough streamlines of the allowed lengths are found, or the seeds are used up.

    Memory in addition to the input: 4 bytes per coefficient of each non-empty voxel, and about 100 MB per thread.

    Args:
        mask: (x, y, z) bool; streamlines end at its border.
        seed_mask: voxels of the seeds; the mask by default.
        tissues: white matter, grey matter, fluid, each (x, y, z) in 0 to 1.

    Raises:
        DataError: no voxels for seeds, or no streamlines.
    """
    if not mask.any():
        raise DataError("the tracking mask is empty", subject=subject)

    def ordered(data: np.ndarray) -> Volume:
        return in_usual_order(Volume(data, orientations.affine))

    usual = ordered(orientations.coefficients)
    affine, mask = usual.affine, ordered(mask).data
    filled = mask & usual.data.any(axis=-1)
    inside = usual.data[filled]
    del usual
    strong = np.zeros(mask.shape, dtype=bool)
    strong[filled] = peak_amplitudes(inside) >= max(settings.seed_amplitude, settings.fod_cutoff)
    seeds_from = np.argwhere(strong if seed_mask is None else strong & ordered(seed_mask).data)
    if not len(seeds_from):
        raise DataError(
            "there are no voxels to seed",
            expected=f"amplitudes of {max(settings.seed_amplitude, settings.fod_cutoff)} inside the mask",
            subject=subject,
        )
    ground = _Ground(
        grid_values(polynomials(inside), filled, affine, empty=mask & ~filled),
        None if tissues is None else _tissues([ordered(tissue).data for tissue in tissues], affine),
    )
    del inside
    step_mm = settings.step_voxels * float(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).min())
    random = settings.algorithm == "probabilistic"
    begin, propagate = (seeds, probabilistic) if random else (seeds_on_peaks, deterministic)
    step = propagate(ground.field, step_mm, np.radians(settings.max_angle_deg), settings.fod_cutoff)
    most_steps = int(settings.max_length_mm / step_mm)
    limit = settings.max_seeds_per_streamline * settings.n_streamlines

    def batch(number: int) -> tuple[list[np.ndarray], int]:
        n = min(_BATCH, limit - number * _BATCH)
        rng = np.random.default_rng((settings.seed, number))
        voxels = seeds_from[rng.integers(0, len(seeds_from), n)] + rng.uniform(-0.5, 0.5, (n, 3))
        start = begin(ground.field, voxels @ affine[:3, :3].T + affine[:3, 3], settings.fod_cutoff, rng)
        found = _both_ways(ground, step, start, most_steps, rng)
        return [line for line in found if settings.min_length_mm <= _length(line) <= settings.max_length_mm], n

    kept: list[np.ndarray] = []
    n_seeds = 0
    for lines, n in _in_order(batch, -(-limit // _BATCH), n_threads):
        kept.extend(lines)
        n_seeds += n
        if len(kept) >= settings.n_streamlines:
            break
    if not kept:
        raise DataError(
            "no streamline was found", got=counted(n_seeds, "seed"), subject=subject,
            remedy="Check the orientation map, the mask and the gradient table.",
        )  # fmt: skip
    return Tracking(kept[: settings.n_streamlines], n_seeds)


def _in_order(
    batch: Callable[[int], tuple[list[np.ndarray], int]], n_batches: int, n_threads: int
) -> Iterator[tuple[list[np.ndarray], int]]:
    """Yield batches in order, computed in parallel threads."""
    with ThreadPoolExecutor(max(n_threads, 1)) as pool:
        waiting = deque(pool.submit(batch, number) for number in range(min(max(n_threads, 1), n_batches)))
        try:
            for number in range(len(waiting), n_batches + len(waiting)):
                if not waiting:
                    return
                yield waiting.popleft().result()
                if number < n_batches:
                    waiting.append(pool.submit(batch, number))
        finally:
            for unused in waiting:
                unused.cancel()


def _both_ways(
    ground: _Ground, step: Step, start: Front, most_steps: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Streamlines through each starting point, (n_points, 3) float32; only with valid ends."""
    start = start.part(start.density > 0)
    back = Front(start.points, -start.directions, start.density)
    onward, n_onward, valid_onward = _one_way(ground, step, start, most_steps, rng)
    behind, n_behind, valid_behind = _one_way(ground, step, back, most_steps, rng)
    for at in np.flatnonzero(valid_onward & valid_behind):
        yield np.concatenate([behind[1 : n_behind[at], at][::-1], onward[: n_onward[at], at]])


def _one_way(
    ground: _Ground, step: Step, front: Front, most_steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow until all have ended: points (most_steps + 1, n, 3) float32, how many of each, and which ends are valid.

    Without tissue maps all ends are valid, except those of streamlines that reach `most_steps` steps.
    """
    n = len(front.points)
    points = np.zeros((most_steps + 1, n, 3), dtype=np.float32)
    points[0] = front.points
    n_points = np.ones(n, dtype=np.int64)
    valid = np.full(n, ground.tissues is None)
    moving = np.arange(n)
    for at in range(1, most_steps + 1):
        front = step(front, rng)
        going = front.density > 0
        front, moving = front.part(going), moving[going]
        ended, good = ground.ended(front.points)
        there = ended | ground.field.inside(front.points)
        points[at, moving[there]] = front.points[there]
        n_points[moving[there]] += 1
        valid[moving[good]] = True
        going = there & ~ended
        front, moving = front.part(going), moving[going]
        if not len(moving):
            break
    valid[moving] = False
    return points, n_points, valid


def _length(line: np.ndarray) -> float:
    return float(np.sqrt((np.diff(line, axis=0) ** 2).sum(axis=1)).sum()) if len(line) > 1 else -1.0


def _tissues(tissues: list[np.ndarray], affine: np.ndarray) -> GridValues:
    """What is not a valid end, and fluid; outside the image and where no tissue is, streamlines end validly."""
    white, grey, fluid = (np.asarray(tissue, dtype=np.float32) for tissue in tissues)
    barred = np.where(white + grey + fluid > 0, 1 - grey, 0)
    return grid_values(np.stack([barred, fluid], axis=-1).reshape(-1, 2), np.ones(white.shape, dtype=bool), affine)


def density_map(streamlines: list[np.ndarray], shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Number of streamlines through each voxel, (x, y, z) int32."""
    inverse = np.linalg.inv(affine)
    counts = np.zeros(int(np.prod(shape)), dtype=np.int32)
    for line in streamlines:
        voxels = np.floor(line @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(np.int64)
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        counts[np.unique(np.ravel_multi_index(tuple(voxels.T), shape))] += 1
    return counts.reshape(shape)
