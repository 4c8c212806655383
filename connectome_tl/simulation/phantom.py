"""A head whose fibres are known: bundles between labelled regions, crossing, with noise, written as a BIDS folder.

Bundles are tubes around smooth curves; where tubes overlap, fibres cross. Each fibre is an axially symmetric
tensor in tissue whose diffusivities and b-values are a newborn's (dHCP's shells 400, 1000 and 2600 s/mm2,
Hutter et al. 2018, doi:10.1002/mrm.26765); noise is Rician. A subject differs from the next in place, size and
the strength of known edges (the cross-section of a bundle), so truth is known for every edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.imaging.images import write_volume
from connectome_tl.provenance import write_json, write_table, write_text

ALONG, ACROSS, TISSUE, FLUID = 1.9e-3, 0.6e-3, 1.2e-3, 3.0e-3  # mm2/s
_PER_SHELL = {0.0: 6, 400.0: 10, 1000.0: 24, 2600.0: 32}


@dataclass(frozen=True)
class PhantomSettings:
    """Size and noise of a phantom; lengths in mm."""

    n_regions: int = 16
    n_edges: int = 20
    half_axes: tuple[float, float, float] = (38.0, 46.0, 34.0)
    voxel: float = 2.5
    anatomical_voxel: float = 1.5
    region_radius: float = 6.5
    bundle_radius: tuple[float, float] = (2.5, 6.0)
    snr: float = 25.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What all subjects share, in template space.

    Attributes:
        centres: (n_regions, 3) mm.
        edges: (n_edges, 2) regions that each bundle joins.
        middles: (n_edges, 3) mm, where each bundle bends to.
        radii: (n_edges,) mm.
    """

    settings: PhantomSettings
    centres: np.ndarray
    edges: np.ndarray
    middles: np.ndarray
    radii: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{'L' if x < 0 else 'R'}{i + 1:02d}" for i, x in enumerate(self.centres[:, 0]))


@dataclass(frozen=True, eq=False)
class Head:
    """One scan of one subject: images on two grids, and the truth.

    Attributes:
        dwi: (x, y, z, n_volumes); labels and mask lie on its grid.
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
    """Regions spread over a shell, joined by bundles that bend inwards; the same for the same seed."""
    settings = settings or PhantomSettings()
    rng = np.random.default_rng([settings.seed, 1])
    axes = np.array(settings.half_axes)
    spots = _spread(settings.n_regions) @ np.diag(axes - settings.region_radius - 2.0)
    pairs = [(i, j) for i in range(settings.n_regions) for j in range(i + 1, settings.n_regions)]
    apart = [p for p in pairs if np.linalg.norm(spots[p[0]] - spots[p[1]]) > 2.5 * settings.region_radius]
    # Every region has a bundle before any has many: take pairs of the least joined regions first.
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


def make_head(anatomy: Anatomy, strengths: np.ndarray | None = None, *, seed: int = 0, still: bool = False) -> Head:
    """Scan one subject.

    Args:
        strengths: (n_edges,) cross-sections in mm2; the anatomy's own by default.
        still: no difference in place and size from the template, and no noise.
    """
    settings = anatomy.settings
    rng = np.random.default_rng([settings.seed, 2, seed])
    own = np.pi * anatomy.radii**2 if strengths is None else np.asarray(strengths, dtype=float)
    placing = np.eye(4) if still else _placing(rng)
    shape, affine = _grid(settings, settings.voxel)
    points = _back(shape, affine, placing)
    mask, fibre, parts = _fibres(anatomy, own, points)
    labels = _labels(anatomy, points, mask)
    bvals, directions = gradients(seed=settings.seed)
    dwi = _signal(mask, fibre, parts, placing, bvals, directions, _fluid(anatomy, points))
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


def gradients(*, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """b-values (s/mm2) and unit directions in world axes; each shell spread evenly over the sphere."""
    bvals, directions = [], []
    rng = np.random.default_rng([seed, 3])
    for bval, count in _PER_SHELL.items():
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        bvals += [bval] * count
        directions.append(np.zeros((count, 3)) if bval == 0 else _spread(2 * count)[:count] @ turn)
    return np.array(bvals), np.concatenate(directions)


def strengths_of(anatomy: Anatomy, subject: int) -> np.ndarray:
    """Cross-sections of one subject's bundles: the anatomy's, each times 0.5 to 1.5, the same in every session."""
    rng = np.random.default_rng([anatomy.settings.seed, 4, subject])
    return np.pi * anatomy.radii**2 * rng.uniform(0.5, 1.5, len(anatomy.edges))


def write_phantom(
    folder: str | Path, *, n_subjects: int = 4, n_sessions: int = 2, settings: PhantomSettings | None = None
) -> Path:
    """Write a raw BIDS folder with a template, its atlas and the truth.

    `sub-*/ses-*/{dwi,anat}` is what a scanner leaves; `template/` holds a T2w template with label image and
    table; `derivatives/truth/` the labels in each subject's space and `edges.tsv` with every edge's strength.

    Raises:
        OutputError: the folder cannot be written.
    """
    root = Path(folder)
    anatomy = make_anatomy(settings)
    write_json(root / "dataset_description.json", {"Name": "Phantom", "BIDSVersion": "1.10.1", "DatasetType": "raw"})
    write_text(root / "README", "Simulated heads with known fibres. Nobody was scanned.\n")
    template = make_head(anatomy, still=True)
    _write_template(root / "template", anatomy, template)
    rows, truth = [], []
    for subject in range(n_subjects):
        label = f"{subject + 1:02d}"
        strengths = strengths_of(anatomy, subject)
        rows.append({"participant_id": f"sub-{label}", "sex": "FM"[subject % 2]})
        truth += [
            {"participant_id": f"sub-{label}", "a": anatomy.names[i], "b": anatomy.names[j], "strength_mm2": s}
            for (i, j), s in zip(anatomy.edges, strengths, strict=True)
        ]
        weeks = []
        for session in range(n_sessions):
            head = make_head(anatomy, strengths, seed=100 * subject + session)
            name = f"sub-{label}_ses-{session + 1:02d}"
            _write_session(root, f"sub-{label}/ses-{session + 1:02d}", name, head)
            weeks.append({"session_id": f"ses-{session + 1:02d}", "scan_age": 38.0 + 2 * session + 0.5 * subject})
        write_table(root / f"sub-{label}" / f"sub-{label}_sessions.tsv", pd.DataFrame(weeks))
    write_json(root / "sessions.json", {"scan_age": {"Description": "postmenstrual age at scan", "Units": "week"}})
    write_table(root / "participants.tsv", pd.DataFrame(rows))
    write_table(root / "derivatives" / "truth" / "edges.tsv", pd.DataFrame(truth))
    return root


def _write_template(folder: Path, anatomy: Anatomy, head: Head) -> None:
    settings = anatomy.settings
    shape, affine = _grid(settings, settings.anatomical_voxel)
    points = _back(shape, affine, np.eye(4))
    brain = ((points / settings.half_axes) ** 2).sum(axis=-1) < 1
    write_volume(folder / "tpl-Phantom_T2w.nii.gz", head.t2w, head.t2w_affine)
    write_volume(folder / "tpl-Phantom_desc-brain_mask.nii.gz", brain, affine)
    write_volume(folder / "tpl-Phantom_atlas-Phantom_dseg.nii.gz", _labels(anatomy, points, brain), affine)
    table = pd.DataFrame({"index": range(1, settings.n_regions + 1), "name": list(anatomy.names)})
    write_table(folder / "tpl-Phantom_atlas-Phantom_dseg.tsv", table)


def _write_session(root: Path, place: str, name: str, head: Head) -> None:
    folder = root / place
    write_volume(folder / "dwi" / f"{name}_dwi.nii.gz", head.dwi, head.affine)
    write_text(folder / "dwi" / f"{name}_dwi.bval", " ".join(f"{b:.0f}" for b in head.bvals) + "\n")
    # FSL counts along the image's axes, the first one turned where the determinant is positive.
    axes = head.affine[:3, :3] / np.sqrt((head.affine[:3, :3] ** 2).sum(axis=0))
    vectors = head.directions @ axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]
    write_text(
        folder / "dwi" / f"{name}_dwi.bvec", "".join(" ".join(f"{v:.6f}" for v in row) + "\n" for row in vectors.T)
    )
    write_json(folder / "dwi" / f"{name}_dwi.json", {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05})
    write_volume(folder / "anat" / f"{name}_T2w.nii.gz", head.t2w, head.t2w_affine)
    truth = root / "derivatives" / "truth" / place
    write_volume(truth / f"{name}_space-dwi_atlas-Phantom_dseg.nii.gz", head.labels, head.affine)
    write_volume(truth / f"{name}_space-dwi_desc-brain_mask.nii.gz", head.mask, head.affine)


def _spread(count: int) -> np.ndarray:
    """Points spread evenly over the unit sphere (a golden spiral), (count, 3)."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)


def _middle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 0.45 * (a + b)  # half way, drawn a little to the centre


def _curve(a: np.ndarray, middle: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A parabola through three points, (200, 3)."""
    t = np.linspace(0, 1, 200)[:, None]
    control = 2 * middle - 0.5 * (a + b)
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b


def _clear(spots: np.ndarray, pair: tuple[int, int], radius: float) -> bool:
    """Whether a bundle between two regions keeps away from all others."""
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
    affine = np.diag([-voxel, voxel, voxel, 1.0])  # radiological, as FSL likes it
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
    """Brain mask, share of fibre per voxel, and for each bundle its voxels, shares and directions."""
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


def _t2w(anatomy: Anatomy, strengths: np.ndarray, points: np.ndarray) -> np.ndarray:
    """T2w: bright unmyelinated white matter, darker cortex and regions, brightest fluid (a newborn's contrast)."""
    mask, fibre, _ = _fibres(anatomy, strengths, points)
    rng = np.random.default_rng([anatomy.settings.seed, 5])
    fluid = _fluid(anatomy, points)
    cortex = ((points / np.array(anatomy.settings.half_axes)) ** 2).sum(axis=-1) > 0.72
    texture = np.zeros(mask.shape)
    for _ in range(24):  # smooth structure that all subjects share, as folds and deep grey matter are
        wave = rng.normal(0, 0.18, 3)
        texture += np.cos(points @ wave + rng.uniform(0, 2 * np.pi))
    image = 600.0 + 12.0 * texture - 60.0 * fibre - 180.0 * cortex - 90.0 * (_labels(anatomy, points, mask) > 0)
    return np.where(mask, image * (1 - fluid) + 1100.0 * fluid, 0.0)
