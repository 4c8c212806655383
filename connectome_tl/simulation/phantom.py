"""Diffusion phantom with known bundles between labelled regions, crossings, noise and motion.

Bundles are tubes around smooth curves; where tubes overlap, fibres cross. Each fibre is an axially symmetric
tensor in tissue whose diffusivities and b-values are a newborn's (dHCP's shells 400, 1000 and 2600 s/mm2,
Hutter et al. 2018, doi:10.1002/mrm.26765); noise is Rician. Subjects differ in position, size and the strength of
known edges (the cross-section of a bundle), so that the truth is known for every edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.read.gradients import golden_spiral

ALONG, ACROSS, TISSUE, FLUID = 1.9e-3, 0.6e-3, 1.2e-3, 3.0e-3  # mm2/s
_SKULL, _SCALP = 3.0, 5.0  # mm thick


@dataclass(frozen=True)
class PhantomSettings:
    """Size, protocol and noise of a phantom; lengths in mm, `shells` pairs of b-value (s/mm2) and volumes.

    With `scalp` the anatomical image includes skull and scalp, otherwise only the brain. Diffusion data are
    fat-suppressed.
    """

    n_regions: int = 16
    n_edges: int = 20
    half_axes: tuple[float, float, float] = (38.0, 46.0, 34.0)
    voxel: float = 2.5
    anatomical_voxel: float = 1.5
    region_radius: float = 6.5
    bundle_radius: tuple[float, float] = (2.5, 6.0)
    shells: tuple[tuple[float, int], ...] = ((0.0, 6), (400.0, 10), (1000.0, 24), (2600.0, 32))
    snr: float = 25.0
    scalp: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Anatomy shared by all subjects, in template space.

    Attributes:
        centres: (n_regions, 3) mm.
        edges: (n_edges, 2) regions that each bundle connects.
        middles: (n_edges, 3) mm, control point of each bundle.
        radii: (n_edges,) mm.
    """

    settings: PhantomSettings
    centres: np.ndarray
    edges: np.ndarray
    middles: np.ndarray
    radii: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions: hemisphere and number."""
        return tuple(f"{'L' if x < 0 else 'R'}{i + 1:02d}" for i, x in enumerate(self.centres[:, 0]))


@dataclass(frozen=True, eq=False)
class Head:
    """One scan of one subject: images on two grids, and the truth.

    Attributes:
        dwi: (x, y, z, n_volumes); labels and mask have its grid.
        strengths: (n_edges,) cross-section of each bundle in mm2.
        fibre: (x, y, z) share of fibre in each voxel.
    """

    dwi: np.ndarray
    affine: np.ndarray
    bvals: np.ndarray
    directions: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    fibre: np.ndarray
    t2w: np.ndarray
    t2w_affine: np.ndarray
    strengths: np.ndarray


def make_anatomy(settings: PhantomSettings | None = None) -> Anatomy:
    """Regions distributed over a shell, connected by bundles that bend inwards; determined by the seed."""
    settings = settings or PhantomSettings()
    rng = np.random.default_rng([settings.seed, 1])
    axes = np.array(settings.half_axes)
    spots = golden_spiral(settings.n_regions) @ np.diag(axes - settings.region_radius - 2.0)
    pairs = [(i, j) for i in range(settings.n_regions) for j in range(i + 1, settings.n_regions)]
    apart = [p for p in pairs if np.linalg.norm(spots[p[0]] - spots[p[1]]) > 2.5 * settings.region_radius]
    # Choose pairs of the least connected regions first, so that every region has a bundle.
    degree = np.zeros(settings.n_regions)
    chosen: list[tuple[int, int]] = []
    for _ in range(settings.n_edges):
        free = [p for p in apart if p not in chosen and _clear(spots, p, settings.region_radius)]
        load = np.array([degree[i] + degree[j] for i, j in free]) + rng.uniform(0, 0.9, len(free))
        pick = free[int(load.argmin())]
        chosen.append(pick)
        degree[list(pick)] += 1
    edges = np.array(chosen)
    middles = np.array([_middle(spots[i], spots[j]) for i, j in chosen])
    low, high = settings.bundle_radius
    radii = np.sqrt(rng.permutation(np.linspace(low**2, high**2, settings.n_edges)))
    return Anatomy(settings, spots, edges, middles, radii)


def make_head(
    anatomy: Anatomy,
    strengths: np.ndarray | None = None,
    *,
    seed: int = 0,
    still: bool = False,
    poses: np.ndarray | None = None,
) -> Head:
    """Scan one subject.

    Args:
        strengths: (n_edges,) cross-sections in mm2; the anatomy's own by default.
        still: no difference in position and size from the template, and no noise.
        poses: (n_volumes, 4, 4) pose of the head in each volume, mm to mm; at rest by default. Labels, mask and
            anatomical image are those of the head at rest.
    """
    settings = anatomy.settings
    rng = np.random.default_rng([settings.seed, 2, seed])
    own = np.pi * anatomy.radii**2 if strengths is None else np.asarray(strengths, dtype=float)
    placing = np.eye(4) if still else _placing(rng)
    shape, affine = _grid(settings, settings.voxel)
    points = _back(shape, affine, placing)
    mask, fibre, parts = _fibres(anatomy, own, points)
    labels = _labels(anatomy, points, mask)
    bvals, directions = gradients(settings.shells, seed=settings.seed)
    # For a head rotated by R, a gradient g has the direction R^-1 g.
    seen = directions if poses is None else np.einsum("vji,vj->vi", poses[:, :3, :3], directions)
    dwi = _signal(mask, fibre, parts, placing, bvals, seen, _fluid(anatomy, points))
    if poses is not None:
        dwi = _moved(dwi, affine, poses)
    if not still:
        sigma = dwi[mask][:, bvals == 0].mean() / settings.snr
        noise = rng.normal(0, sigma, (2, *dwi.shape))
        dwi = np.sqrt((dwi + noise[0]) ** 2 + noise[1] ** 2)
    fine_shape, fine_affine = _grid(settings, settings.anatomical_voxel)
    t2w = _t2w(anatomy, own, _back(fine_shape, fine_affine, placing))
    if not still:
        t2w = np.abs(t2w + rng.normal(0, 15.0, t2w.shape))
    return Head(dwi.astype(np.float32), affine, bvals, directions, mask, labels, fibre.astype(np.float32),
                t2w.astype(np.float32), fine_affine, own)  # fmt: skip


def random_poses(n_volumes: int, size: float, *, seed: int = 0) -> np.ndarray:
    """Rigid poses; shifts (mm) and rotations (degrees) along each axis have the spread `size`, (n_volumes, 4, 4)."""
    rng = np.random.default_rng([seed, 6])
    poses = np.tile(np.eye(4), (n_volumes, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("xyz", rng.normal(0, size, (n_volumes, 3)), degrees=True).as_matrix()
    poses[:, :3, 3] = rng.normal(0, size, (n_volumes, 3))
    return poses


def gradients(
    shells: tuple[tuple[float, int], ...] = PhantomSettings.shells, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """b-values (s/mm2) and unit directions in world axes; each shell spread evenly over the sphere."""
    bvals, directions = [], []
    rng = np.random.default_rng([seed, 3])
    for bval, count in shells:
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        bvals += [bval] * count
        directions.append(np.zeros((count, 3)) if bval == 0 else golden_spiral(2 * count)[:count] @ turn)
    return np.array(bvals), np.concatenate(directions)


def template_labels(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Brain mask and label image on the grid of the template's T2w, each (x, y, z)."""
    shape, affine = _grid(anatomy.settings, anatomy.settings.anatomical_voxel)
    points = _back(shape, affine, np.eye(4))
    brain = ((points / anatomy.settings.half_axes) ** 2).sum(axis=-1) < 1
    return brain, _labels(anatomy, points, brain)


def strengths_of(anatomy: Anatomy, subject: int) -> np.ndarray:
    """Cross-sections of one subject's bundles: the anatomy's, each times 0.5 to 1.5, the same in every session."""
    rng = np.random.default_rng([anatomy.settings.seed, 4, subject])
    return np.pi * anatomy.radii**2 * rng.uniform(0.5, 1.5, len(anatomy.edges))


def _middle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 0.45 * (a + b)  # half way, drawn a little to the centre


def _curve(a: np.ndarray, middle: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A parabola through three points, (200, 3)."""
    t = np.linspace(0, 1, 200)[:, None]
    control = 2 * middle - 0.5 * (a + b)
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b


def _clear(spots: np.ndarray, pair: tuple[int, int], radius: float) -> bool:
    """Whether a bundle between two regions avoids all other regions."""
    curve = _curve(spots[pair[0]], _middle(spots[pair[0]], spots[pair[1]]), spots[pair[1]])
    others = np.delete(spots, pair, axis=0)
    return bool(np.linalg.norm(curve[:, None] - others, axis=2).min() > radius + 5.0)


def _placing(rng: np.random.Generator) -> np.ndarray:
    """Template to subject: up to 6 degrees, 6 percent and 3 mm."""
    angles = np.radians(rng.uniform(-6, 6, 3))
    out = np.eye(4)
    for axis, angle in enumerate(angles):
        turn = np.eye(4)
        i, j = [k for k in range(3) if k != axis]
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        out = turn @ out
    out[:3, :3] = out[:3, :3] @ np.diag(rng.uniform(0.94, 1.06, 3))
    out[:3, 3] = rng.uniform(-3, 3, 3)
    return out


def _grid(settings: PhantomSettings, voxel: float) -> tuple[tuple[int, ...], np.ndarray]:
    size = 2 * (np.array(settings.half_axes) + 9.0)
    shape = np.ceil(size / voxel).astype(int)
    affine = np.diag([-voxel, voxel, voxel, 1.0])  # radiological orientation, as preferred by FSL
    affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
    return tuple(int(n) for n in shape), affine


def _back(shape: tuple[int, ...], affine: np.ndarray, placing: np.ndarray) -> np.ndarray:
    """Template coordinates of every voxel of a subject's grid, (x, y, z, 3)."""
    whole = np.linalg.inv(placing) @ affine
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return grid @ whole[:3, :3].T + whole[:3, 3]


def _fibres(
    anatomy: Anatomy, strengths: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Brain mask, fraction of fibre per voxel, and for each bundle its voxels, fractions and directions."""
    from scipy.spatial import cKDTree

    mask = ((points / np.array(anatomy.settings.half_axes)) ** 2).sum(axis=-1) < 1
    voxels = np.argwhere(mask)
    inside = points[mask]
    total = np.zeros(len(inside))
    found = []
    soft = anatomy.settings.voxel
    for (i, j), middle, strength in zip(anatomy.edges, anatomy.middles, strengths, strict=True):
        curve = _curve(anatomy.centres[i], middle, anatomy.centres[j])
        tangent = np.gradient(curve, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        radius = np.sqrt(strength / np.pi)
        distance, nearest = cKDTree(curve).query(inside, distance_upper_bound=radius + soft)
        rows = np.flatnonzero(np.isfinite(distance))
        share = 0.75 * np.clip((radius - distance[rows]) / soft + 0.5, 0, 1)
        rows, share = rows[share > 0], share[share > 0]
        total[rows] += share
        found.append((rows, share, tangent[nearest[rows]]))
    squeeze = np.where(total > 0.9, 0.9 / np.maximum(total, 1e-9), 1.0)
    fibre = np.zeros(mask.shape)
    fibre[mask] = total * squeeze
    return mask, fibre, [(voxels[rows], share * squeeze[rows], along) for rows, share, along in found]


def _labels(anatomy: Anatomy, points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(points[..., None, :] - anatomy.centres, axis=-1)
    nearest = distance.argmin(axis=-1)
    return np.where((distance.min(axis=-1) < anatomy.settings.region_radius) & mask, nearest + 1, 0).astype(np.int16)


def _fluid(anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    """Share of fluid: a thin layer around the brain and a ventricle at each side, (x, y, z)."""
    edge = ((points / np.array(anatomy.settings.half_axes)) ** 2).sum(axis=-1)
    ventricles = np.zeros(edge.shape)
    for side in (-1, 1):
        off = (points - np.array([side * 9.0, -4.0, 4.0])) / np.array([3.0, 9.0, 4.0])
        ventricles = np.maximum(ventricles, (off**2).sum(axis=-1) < 1)
    return np.clip(ventricles + np.clip((edge - 0.92) / 0.08, 0, 1) * (edge < 1), 0, 1)


def _signal(
    mask: np.ndarray,
    fibre: np.ndarray,
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    placing: np.ndarray,
    bvals: np.ndarray,
    directions: np.ndarray,
    fluid: np.ndarray,
) -> np.ndarray:
    wet = np.minimum(fluid, 1 - fibre) * mask
    rest = (1 - fibre - wet) * mask
    dwi = 700.0 * rest[..., None] * np.exp(-bvals * TISSUE) + 1600.0 * wet[..., None] * np.exp(-bvals * FLUID)
    for voxels, share, along in parts:
        turned = along @ placing[:3, :3].T
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        decay = np.exp(-bvals * (ACROSS + (ALONG - ACROSS) * (turned @ directions.T) ** 2))
        dwi[tuple(voxels.T)] += 700.0 * share[:, None] * decay
    return dwi


def _moved(dwi: np.ndarray, affine: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Each volume as a head in its pose gives it."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in dwi.shape[:3]), indexing="ij")).reshape(3, -1)
    out = np.empty_like(dwi)
    for volume, pose in enumerate(poses):
        whole = np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine
        places = whole[:3, :3] @ grid + whole[:3, 3:]
        out[..., volume] = map_coordinates(dwi[..., volume], places, order=1).reshape(dwi.shape[:3])
    return out


def _t2w(anatomy: Anatomy, strengths: np.ndarray, points: np.ndarray) -> np.ndarray:
    """T2w: bright unmyelinated white matter, darker cortex and regions, brightest fluid (a newborn's contrast)."""
    mask, fibre, _ = _fibres(anatomy, strengths, points)
    rng = np.random.default_rng([anatomy.settings.seed, 5])
    fluid = _fluid(anatomy, points)
    cortex = ((points / np.array(anatomy.settings.half_axes)) ** 2).sum(axis=-1) > 0.72
    texture = np.zeros(mask.shape)
    for _ in range(24):  # smooth structure common to all subjects, like folds and deep grey matter
        wave = rng.normal(0, 0.18, 3)
        texture += np.cos(points @ wave + rng.uniform(0, 2 * np.pi))
    image = 600.0 + 12.0 * texture - 60.0 * fibre - 180.0 * cortex - 90.0 * (_labels(anatomy, points, mask) > 0)
    around = np.zeros(mask.shape)
    if anatomy.settings.scalp:
        axes = np.array(anatomy.settings.half_axes)
        outside = (np.sqrt(((points / axes) ** 2).sum(axis=-1)) - 1) * axes.mean()
        around = np.where(outside < _SKULL, 80.0, np.where(outside < _SKULL + _SCALP, 900.0, 0.0))
    return np.where(mask, image * (1 - fluid) + 1100.0 * fluid, around)
