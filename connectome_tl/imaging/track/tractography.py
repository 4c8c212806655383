"""Seeds to streamlines with dipy's threaded trackers: the same seed gives the same streamlines, whatever the threads.

Orientation densities are sampled on a sphere, cut at an absolute amplitude (no fibre below it, so a streamline
ends there), and followed within a mask; where tissue maps exist, streamlines that end in fluid are dropped
(anatomically constrained tracking, Smith et al. 2012, doi:10.1016/j.neuroimage.2012.06.005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.reconstruction import Orientations, harmonics
from connectome_tl.settings.imaging import TrackingSettings

_SPHERE = "repulsion724"
_MAX_SAMPLED = 1_500_000_000  # bytes of densities on the sphere before a coarser one is taken
_BATCH = 50_000


@dataclass(frozen=True, eq=False)
class Tracking:
    """Streamlines and how they came about.

    Attributes:
        streamlines: arrays (n_points, 3) in mm, RAS+.
        n_seeds: seeds tried.
    """

    streamlines: list[np.ndarray]
    n_seeds: int


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

    Args:
        mask: (x, y, z) bool; streamlines end where they leave it.
        seed_mask: where seeds fall; the mask by default.
        tissues: white matter, grey matter, fluid, each (x, y, z) in 0 to 1.

    Raises:
        DataError: nowhere to seed, or no streamline at all.
    """
    from dipy.data import get_sphere
    from dipy.tracking.tracker import deterministic_tracking, probabilistic_tracking

    where = np.nonzero(mask)
    if not len(where[0]):
        raise DataError("the tracking mask is empty", subject=subject)
    # Only the box around the mask: memory goes with its volume.
    low = np.array([axis.min() for axis in where])
    high = np.array([axis.max() + 1 for axis in where])
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    affine = orientations.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    sphere = get_sphere(name=_sphere_for(int(np.prod(high - low))))
    density = _density(orientations.coefficients[box], mask[box], affine, sphere.vertices, settings.fod_cutoff)
    inside = mask[box] & (density.max(axis=3) > 0)
    strong = inside & (density.max(axis=3) >= settings.seed_amplitude)
    seeds_from = np.argwhere(strong if seed_mask is None else strong & seed_mask[box])
    if not len(seeds_from):
        raise DataError(
            "there is nowhere to seed",
            expected=f"amplitudes of {settings.seed_amplitude} inside the mask",
            subject=subject,
        )
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    step = settings.step_voxels * float(zooms.min())
    shortest, longest = max(settings.min_length_mm / step, 1), settings.max_length_mm / step  # in steps
    rng = np.random.default_rng(settings.seed)
    follow = probabilistic_tracking if settings.algorithm == "probabilistic" else deterministic_tracking
    criterion = _criterion(inside, None if tissues is None else tuple(tissue[box] for tissue in tissues))
    kept: list[np.ndarray] = []
    n_seeds = 0
    limit = settings.max_seeds_per_streamline * settings.n_streamlines
    while len(kept) < settings.n_streamlines and n_seeds < limit:
        n = min(_BATCH, max(2_000, 2 * (settings.n_streamlines - len(kept))), limit - n_seeds)
        voxels = seeds_from[rng.integers(0, len(seeds_from), n)] + rng.uniform(-0.5, 0.5, (n, 3))
        found = follow(
            voxels @ affine[:3, :3].T + affine[:3, 3],
            criterion,
            affine,
            sf=density,
            sphere=sphere,
            min_len=2,
            max_len=int(longest) + 1,
            step_size=step,
            voxel_size=zooms,
            max_angle=settings.max_angle_deg,
            pmf_threshold=0.0 if settings.algorithm == "probabilistic" else 0.1,
            nbr_threads=n_threads,
            random_seed=1 + settings.seed * 1000 + n_seeds // 1000,
            return_all=tissues is None,
        )
        kept.extend(np.asarray(line, dtype=np.float32) for line in found if shortest <= len(line) - 1 <= longest)
        n_seeds += n
    if not kept:
        raise DataError(
            "no streamline was found", got=f"{n_seeds} seeds", subject=subject,
            remedy="Check the orientation map, the mask and the gradient table.",
        )  # fmt: skip
    return Tracking(kept[: settings.n_streamlines], n_seeds)


def _sphere_for(n_voxels: int) -> str:
    return _SPHERE if n_voxels * 724 * 8 <= _MAX_SAMPLED else "repulsion200"


def _density(
    coefficients: np.ndarray, mask: np.ndarray, affine: np.ndarray, vertices: np.ndarray, cutoff: float
) -> np.ndarray:
    """Amplitudes on the sphere, (x, y, z, n_vertices); 0 below the cut and outside the mask."""
    order = next(order for order in range(0, 20, 2) if (order + 1) * (order + 2) // 2 == coefficients.shape[-1])
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    basis = harmonics(vertices @ axes.T, order).T  # the tracker moves along the image's axes
    out = np.zeros((*coefficients.shape[:3], len(vertices)))
    amplitude = coefficients[mask].astype(float) @ basis
    amplitude[amplitude < cutoff] = 0.0
    out[mask] = amplitude
    return out


def _criterion(inside: np.ndarray, tissues: tuple[np.ndarray, ...] | None) -> object:
    from dipy.tracking.stopping_criterion import ActStoppingCriterion, BinaryStoppingCriterion

    if tissues is None:
        return BinaryStoppingCriterion(inside.astype(np.uint8))
    white, grey, fluid = (np.ascontiguousarray(tissue, dtype=float) for tissue in tissues)
    return ActStoppingCriterion.from_pve(white, grey, fluid)


def density_map(streamlines: list[np.ndarray], shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """How many streamlines pass each voxel, (x, y, z) int32."""
    inverse = np.linalg.inv(affine)
    counts = np.zeros(int(np.prod(shape)), dtype=np.int32)
    for line in streamlines:
        voxels = np.floor(line @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(np.int64)
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        counts[np.unique(np.ravel_multi_index(tuple(voxels.T), shape))] += 1
    return counts.reshape(shape)
