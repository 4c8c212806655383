"""Real heads and known warps of them, for the benchmarks of registration and its gate; read from CONNECTOME_TL_DATA."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from connectome_tl.imaging.read.images import Volume, read_labels, read_volume
from connectome_tl.imaging.register.registration import coarse
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels

DATA = Path(os.environ.get("CONNECTOME_TL_DATA", Path(__file__).parents[2] / "shared" / "data"))
FETAL = DATA / "fetal_atlases" / "SpinaBifida_Fidon2021"
IXI = DATA / "ixi_10"
GRID_MM = 1.5


@dataclass(frozen=True, eq=False)
class Head:
    """An image (0 outside the brain) and labels on its grid."""

    name: str
    image: Volume
    labels: Volume


@cache
def adult(number: int) -> Head:
    """One of ten whole heads of IXI, T1w, cut to the brain by its 145 labels."""
    file = sorted((IXI / "T1w").glob("*.nii.gz"))[number]
    image, labels = read_volume(file), read_labels(IXI / "labels" / file.name.replace("T1w", "labels"))
    return Head(f"adult {number}", Volume(np.where(labels.data > 0, image.data, 0), image.affine), labels)


@cache
def fetus(week: int) -> Head:
    """A T2w atlas of one week of gestation, with 8 tissues, on voxels of 1.5 mm."""
    folder = sorted(FETAL.glob(f"*GA{week}*"))[0]
    image, mask = read_volume(folder / "srr.nii.gz"), read_volume(folder / "mask.nii.gz")
    labels = read_labels(folder / "parcellation.nii.gz")
    small = coarse(Volume(np.where(mask.data > 0, np.maximum(image.data, 0), 0), image.affine), GRID_MM)
    tissue = carry_labels(Warp(np.eye(4)), labels, small)
    brain = (tissue.data > 0) & (small.data > 0)
    return Head(
        f"week {week}",
        Volume(np.where(brain, small.data, 0).astype(np.float32), small.affine),
        Volume(np.where(brain, tissue.data, 0), small.affine),
    )


@cache
def newborn(contrast: str) -> Head:
    """The UNC template of newborns, with the labels of the UNC-AAL atlas fitted to its outline."""
    file = DATA / "infant_templates" / f"tpl-UNCBCP4DInfant_cohort-00_desc-brain_{contrast}.nii.gz"
    image = coarse(read_volume(file), GRID_MM)
    image = Volume(np.where(image.data > 5, image.data, 0).astype(np.float32), image.affine)
    labels = read_labels(DATA / "neonatal_atlases" / "AAL_UNCneo_in_extdhcp40wk.nii.gz")
    return Head(f"newborn {contrast}", image, laid_into(labels, image))


def laid_into(labels: Volume, image: Volume) -> Volume:
    """Labels scaled along the axes to the outline of the brain; the exact positions of regions matter little here."""
    ends = []
    for volume in (labels, image):
        at = np.argwhere(volume.data > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        ends.append((at.mean(axis=0), at.std(axis=0)))
    (here, spread), (there, wide) = ends
    scale = spread / wide
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.diag(scale), here - scale * there
    carried = carry_labels(Warp(affine), labels, image)
    return Volume(np.where(image.data > 0, carried.data, 0), image.affine)


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice over the labels of the truth."""
    numbers = np.unique(truth[truth > 0])
    both = np.bincount(found[found == truth], minlength=numbers.max() + 1)[numbers]
    one, two = (np.bincount(image.ravel(), minlength=numbers.max() + 1)[numbers] for image in (found, truth))
    return float(np.mean(2 * both / (one + two)))


def places_of(image: Volume) -> np.ndarray:
    """Position of every voxel in mm, (x, y, z, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in image.shape), indexing="ij"), axis=-1)
    return np.asarray(grid @ image.affine[:3, :3].T + image.affine[:3, 3])


def bend(image: Volume, seed: int) -> Warp:
    """A rotation of a few degrees, a scaling of a few percent, and smooth waves."""
    rng = np.random.default_rng(seed)
    brain = image.data > 0
    points = places_of(image)
    middle = points[brain].mean(axis=0)
    angles = np.deg2rad(rng.uniform(-6, 6, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    linear = turn @ np.diag(rng.uniform(0.94, 1.06, 3))
    waves = np.stack(
        [gaussian_filter(rng.normal(size=image.shape), 18.0 / image.zooms, mode="nearest") for _ in range(3)], axis=-1
    )
    waves *= 4.0 / np.linalg.norm(waves, axis=-1)[brain].mean()
    moved = (points - middle) @ linear.T + middle + rng.uniform(-4, 4, 3) + waves
    return Warp(np.eye(4), moved, image.affine)


def bent(head: Head, seed: int, noise: float = 0.05) -> Head:
    """Another head, made from this one by a known warp, with noise as a fraction of its mean."""
    warp = bend(head.image, seed)
    clean = carry_image(warp, head.image, head.image).data
    brain = clean > 0.05 * clean.max()
    drawn = np.random.default_rng(seed).normal(0, noise * clean[brain].mean(), clean.shape)
    image = np.where(brain, np.maximum(clean + drawn, 1e-3 * clean.max()), 0).astype(np.float32)
    labels = np.where(brain, carry_labels(warp, head.labels, head.image).data, 0)
    affine = head.image.affine
    return Head(f"{head.name} bent {seed}", Volume(image, affine), Volume(labels, affine))


def bias_field(image: Volume, seed: int, ratio: float) -> np.ndarray:
    """A smooth gain, quadratic in position; `ratio` is its 98th over its 2nd percentile in the brain."""
    rng = np.random.default_rng(seed)
    brain = image.data > 0
    place = places_of(image)
    place = (place - place[brain].mean(axis=0)) / (2 * place[brain].std(axis=0).mean())
    log = place @ rng.normal(size=3) + 0.25 * np.einsum("...i,ij,...j->...", place, rng.normal(size=(3, 3)), place)
    low, high = np.percentile(log[brain], [2, 98])
    return np.asarray(np.exp((log - log[brain].mean()) / (high - low) * np.log(ratio)))
