"""Simulate brain volumes of known age: ventricles, cortex, contrast inversion, lesions, scanners.

All age-related properties of a volume depend on one latent variable, the maturity of the brain: age plus an
individual deviation. The optimal prediction from a volume is therefore known (`oracle_age`). Ages are postnatal
months. Tissue contrast follows the literature on T1- and T2-weighted MRI in the first two years (white matter darker
than grey matter on T1 at birth, equal about the middle of the first year, brighter from the end of it; from the back
and the centre to the front and the rim); its parameters are chosen, not measured.

This simulator must not change, since benchmarks compare results on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from connectome_tl.errors import UsageError
from connectome_tl.simulation.brain_shapes import LABELS, Anatomy, Grid, draw_shape, paint

Contrast = Literal["T1w", "T2w", "ADC"]
Place = Literal["deep", "cortex", "ventricle_rim", "left", "random_side"]
PLACES: tuple[Place, ...] = ("deep", "cortex", "ventricle_rim", "left", "random_side")
FIELD_OF_VIEW = 160.0  # mm along each axis of the cube

# Intensity of each tissue, newborn and mature; white matter changes from one to the other with maturation.
_LEVELS: dict[str, dict[str, tuple[float, float]]] = {
    "T1w": {"csf": (0.20, 0.20), "cortex": (0.62, 0.58), "white": (0.48, 0.90), "deep": (0.66, 0.68)},
    "T2w": {"csf": (1.00, 1.00), "cortex": (0.52, 0.50), "white": (0.72, 0.32), "deep": (0.48, 0.45)},
    "ADC": {"csf": (1.00, 1.00), "cortex": (0.45, 0.36), "white": (0.60, 0.32), "deep": (0.42, 0.33)},
}
_LESION = {"T1w": 0.32, "T2w": -0.22, "ADC": -0.26}  # added intensity of an acute lesion
_LAG = 1.13  # months: standard deviation of the individual deviation; the optimal error is .9 months


@dataclass(frozen=True)
class Lesions:
    """Injury of the deep grey matter, and uninformative blobs of equal appearance elsewhere.

    Args:
        prevalence: share of injured subjects.
        radius: radius of a blob in mm. distractors: blobs elsewhere, in both classes, so that the number is
            uninformative.
        noise: share of flipped outcomes, which cannot be predicted.
    """

    prevalence: float = 0.4
    radius: float = 7.0
    distractors: bool = True
    noise: float = 0.01


@dataclass(frozen=True)
class VolumeSettings:
    """Settings of the simulation.

    Args:
        size: voxels along each axis of a cube of 160 mm.
        ages: lowest and highest age in months, uniform; `log_ages` for uniform on a logarithmic scale.
        site_effect: size of differences between scanners in gain, contrast, bias field, noise and sharpness; 0 for
            none.
        pose: standard deviation of head rotation (degrees / 10) and shift (mm / 4); 0 for registered volumes.
        skull: whether there is a bright rim around the brain.
        lesions: planted lesions, or None.
        place: region whose intensity is the only age effect; anatomy and contrast then do not depend on age.
    """

    size: int = 48
    contrast: Contrast = "T1w"
    ages: tuple[float, float] = (0.0, 24.0)
    log_ages: bool = False
    n_sites: int = 3
    site_effect: float = 1.0
    pose: float = 0.0
    skull: bool = False
    lesions: Lesions | None = None
    place: Place | None = None

    @property
    def voxel(self) -> float:
        """Edge of a voxel in mm."""
        return FIELD_OF_VIEW / self.size


@dataclass(frozen=True, eq=False)
class SimulatedVolume:
    """One scan and the truth.

    Attributes:
        volume: (size, size, size) float32 grey levels, axes to the right, the front and the top.
        labels: uint8, by the numbers of `brain_shapes.LABELS`; 0 is outside the head.
        age: months. oracle_age: optimal prediction of age from the image.
        site: name of the scanner.
        outcome: 1 injured, 0 not, NaN without lesions. oracle_risk: its probability, given the planted lesions.
        blobs: bool, all planted blobs; `lesion` those of the deep grey matter; `n_blobs` their number.
        region: bool, region of the age effect if a place is set, else None.
    """

    volume: np.ndarray
    labels: np.ndarray
    age: float
    oracle_age: float
    site: str
    outcome: float
    oracle_risk: float
    blobs: np.ndarray
    lesion: np.ndarray
    n_blobs: int
    region: np.ndarray | None


@dataclass(frozen=True, eq=False)
class SimulatedVolumes:
    """Volumes of many subjects; arrays have one row per subject, see `SimulatedVolume`."""

    settings: VolumeSettings
    ids: tuple[str, ...]
    volumes: np.ndarray
    labels: np.ndarray
    age: np.ndarray
    oracle_age: np.ndarray
    site: np.ndarray
    outcome: np.ndarray
    oracle_risk: np.ndarray
    n_blobs: np.ndarray
    lesion: np.ndarray
    region: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel to mm, RAS, centred."""
        return affine_of(self.settings)


def simulate_volumes(n_subjects: int, settings: VolumeSettings | None = None, *, seed: int = 0) -> SimulatedVolumes:
    """Simulate a cohort. A subject does not depend on how many there are; equal arguments give equal volumes."""
    settings = settings or VolumeSettings()
    found = list(each_volume(n_subjects, settings, seed=seed))

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(one, name) for one in found], dtype=dtype)

    return SimulatedVolumes(
        settings,
        tuple(f"sim{seed}x{i + 1:04d}" for i in range(n_subjects)),
        np.stack([one.volume for one in found]),
        np.stack([one.labels for one in found]),
        column("age", float),
        column("oracle_age", float),
        column("site", object),
        column("outcome", float),
        column("oracle_risk", float),
        column("n_blobs", int),
        np.stack([one.lesion for one in found]),
        None if settings.place is None else np.stack([one.region for one in found if one.region is not None]),
    )


def each_volume(n_subjects: int, settings: VolumeSettings, *, seed: int = 0) -> Iterator[SimulatedVolume]:
    """Iterate over the subjects of `simulate_volumes`, for cohorts that do not fit into memory."""
    if n_subjects < 1 or settings.size < 8 or settings.ages[0] < 0 or settings.ages[1] <= settings.ages[0]:
        raise UsageError("volumes need subjects, a size of at least 8 and rising ages", got=repr(settings))
    grid = Grid(settings.size, FIELD_OF_VIEW)
    for i in range(n_subjects):
        yield _subject(grid, settings, np.random.default_rng([seed, 77, i]))


def affine_of(settings: VolumeSettings) -> np.ndarray:
    """(4, 4) voxel to mm of all volumes of these settings."""
    affine = np.diag([settings.voxel] * 3 + [1.0])
    affine[:3, 3] = -settings.voxel * (settings.size - 1) / 2
    return affine


def random_contrast(labels: np.ndarray, rng: np.random.Generator, *, blur: float = 0.6) -> np.ndarray:
    """A volume of random contrast from a label map: random mean and spread of intensity for each label, then blur.

    Domain randomisation as in SynthSeg (Billot et al. 2023, doi:10.1016/j.media.2023.102789): models trained on such
    volumes cannot depend on one contrast. Label 0 stays dark.
    """
    n_labels = int(labels.max()) + 1
    level, spread = rng.uniform(0.1, 1.0, n_labels), rng.uniform(0.01, 0.08, n_labels)
    level[0], spread[0] = 0.0, 0.01
    volume = level[labels] + spread[labels] * rng.normal(size=labels.shape)
    return gaussian_filter(volume, blur * rng.uniform(0.5, 1.5)).astype(np.float32)


def _subject(grid: Grid, settings: VolumeSettings, rng: np.random.Generator) -> SimulatedVolume:
    low, high = settings.ages
    if settings.log_ages:
        age = float(np.expm1(rng.uniform(np.log1p(low), np.log1p(high))))
    else:
        age = float(rng.uniform(low, high))
    # The deviation increases with age on the lifespan scale.
    sd = _LAG * max(1.0, age / 24) if settings.log_ages else _LAG
    maturity = age + sd * float(rng.normal())
    shape = draw_shape(rng, maturity if settings.place is None else 12.0)
    anatomy = grid.anatomy(shape, rng, settings.pose, skull=settings.skull)
    site = int(rng.integers(settings.n_sites))
    volume = _grey_levels(anatomy, settings, 12.0 if settings.place is not None else maturity, rng)
    region: np.ndarray | None = None
    if settings.place is not None:
        region = _region(anatomy, settings.place, rng)
        volume = volume + 0.22 * (maturity - (low + high) / 2) / (high - low) * gaussian_filter(
            region.astype(np.float32), 0.5
        )
    blobs, lesion, n_blobs, outcome, risk = _plant(anatomy, settings, rng)
    volume = volume + _LESION[settings.contrast] * gaussian_filter(blobs.astype(np.float32), 0.6)
    volume = _scan(volume, anatomy, site, settings.site_effect, rng)
    return SimulatedVolume(
        volume, anatomy.labels, age, _best_age(maturity, sd, settings), f"site{site + 1}",
        outcome, risk, blobs, lesion, n_blobs, region,
    )  # fmt: skip


def _best_age(maturity: float, sd: float, settings: VolumeSettings) -> float:
    """Posterior mean of a uniform age given its maturity (on the lifespan scale: the maturity itself)."""
    low, high = settings.ages
    if settings.log_ages:
        return float(np.clip(maturity, low, high))
    ages = np.linspace(low, high, 481)
    weight = np.exp(-0.5 * ((maturity - ages) / sd) ** 2)
    return float((weight * ages).sum() / weight.sum())


def _grey_levels(anatomy: Anatomy, settings: VolumeSettings, maturity: float, rng: np.random.Generator) -> np.ndarray:
    levels = _LEVELS[settings.contrast]
    ripe = 1 - np.exp(-max(maturity, 0.0) / 10.0)
    # Progress of maturation: from the back and the centre at birth to the front and the rim in the second year.
    onset = 1.5 + 11.0 * np.clip(0.5 * anatomy.depth_to_rim + 0.5 * anatomy.to_the_front, 0, 1)
    front = 1 / (1 + np.exp(-(maturity - onset) / 1.8))
    jitter = 0.025 * rng.normal(size=4)

    def at(tissue: str, share: float | np.ndarray, i: int) -> float | np.ndarray:
        newborn, mature = levels[tissue]
        return newborn + (mature - newborn) * share + jitter[i]

    return paint(
        anatomy,
        {
            "csf": at("csf", ripe, 0),
            "cortex": at("cortex", ripe, 1),
            "white": at("white", front, 2),
            "deep": at("deep", ripe, 3),
        },
    )


def _region(anatomy: Anatomy, place: Place, rng: np.random.Generator) -> np.ndarray:
    """Region of the age effect: a part of the anatomy, or a ball in the deep white matter of a random side."""
    x, y, z = anatomy.points
    labels = anatomy.labels
    if place == "deep":
        return labels == LABELS["deep"]
    if place == "cortex":
        return (labels == LABELS["cortex"]) & (z > 0.1)
    if place == "ventricle_rim":
        return anatomy.ventricle_rim & (labels != LABELS["ventricles"])
    if place == "left":
        return (x < -0.05) & ((labels == LABELS["white"]) | (labels == LABELS["deep"]))
    side = 1.0 if rng.random() < 0.5 else -1.0
    inside = (x - 0.34 * side) ** 2 + (y - 0.1) ** 2 + (z - 0.18) ** 2 < 0.19**2
    return inside & (labels > 0)


def _plant(
    anatomy: Anatomy, settings: VolumeSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int, float, float]:
    """All blobs, those of the deep grey matter, their number, the outcome and its probability."""
    nothing = np.zeros(anatomy.labels.shape, dtype=bool)
    plan = settings.lesions
    if plan is None:
        return nothing, nothing, 0, float("nan"), float("nan")
    injured = bool(rng.random() < plan.prevalence)
    turned = bool(rng.random() < plan.noise)
    # Equal mean number of blobs in both classes: injured subjects have one fewer elsewhere.
    elsewhere = int(rng.integers(0, 3)) + (0 if injured else 1) if plan.distractors else 0
    blobs, lesion = nothing.copy(), nothing.copy()
    radius = plan.radius * rng.uniform(0.85, 1.15, 1 + elsewhere)
    if injured:
        lesion |= anatomy.ball("deep", radius[0], rng)
    for i in range(elsewhere):
        blobs |= anatomy.ball("elsewhere", radius[1 + i], rng)
    outcome = float(injured != turned)
    risk = 1 - plan.noise if injured else plan.noise
    return blobs | lesion, lesion, elsewhere + injured, outcome, risk


def _scan(volume: np.ndarray, anatomy: Anatomy, site: int, effect: float, rng: np.random.Generator) -> np.ndarray:
    """Apply scanner effects: contrast, bias field, sharpness, noise, gain."""
    own = np.random.default_rng([4242, site])  # of the scanner, the same in every cohort
    gamma = np.exp(effect * (0.18 * own.normal() + 0.05 * rng.normal()))
    slope = effect * (0.10 * own.normal(size=3) + 0.05 * rng.normal(size=3))
    sharp = 0.35 + effect * 0.25 * own.random()
    noise = 0.02 + effect * 0.02 * own.random()
    gain = np.exp(effect * (0.3 * own.normal() + 0.15 * rng.normal()))
    found = np.clip(volume, 0, None) ** gamma
    x, y, z = anatomy.points
    found = found * np.exp(slope[0] * x + slope[1] * y + slope[2] * z)
    found = gaussian_filter(found, sharp)
    found = np.hypot(found + noise * rng.normal(size=found.shape), noise * rng.normal(size=found.shape))
    return np.asarray(gain * found, dtype=np.float32)


def easy(settings: VolumeSettings) -> VolumeSettings:
    """Settings with lesions twice as large and no other blobs."""
    plan = settings.lesions or Lesions()
    return replace(settings, lesions=replace(plan, radius=2 * plan.radius, distractors=False))
