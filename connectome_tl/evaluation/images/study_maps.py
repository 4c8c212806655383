"""Voxel maps of the networks of a finished study, on subjects not used for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.images.map_checks import agreement, area, deletion_curve, insertion_curve, randomised
from connectome_tl.evaluation.images.voxel_maps import gradient_maps, occlusion_maps
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.features.volumes import Grid, read_volumes
from connectome_tl.imaging.volumes.grids import head_on
from connectome_tl.settings.images.importance import ComparedMaps, NoiseMap
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.volume_maps import MapKind
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.images.importance import fit_noise_map
from connectome_tl.training.images.lazy import read_lazily
from connectome_tl.training.images.predictor import VolumePredictor
from connectome_tl.training.images.rows import VolumeRows

KINDS: tuple[MapKind, ...] = ("noise", "occlusion", "gradients")
N_REFERENCES = 2  # training subjects whose voxels replace those of a mapped subject


@dataclass(frozen=True, eq=False)
class FoldMaps:
    """Maps of one kind in one fold.

    Attributes:
        maps: (n_subjects, depth, height, width) of held-out subjects.
        affines: (n_subjects, 4, 4) from voxels of each map to mm of the subject's image.
        background: (depth, height, width) mean volume of the subjects.
        inside: (depth, height, width) voxels of the head in all subjects.
        subjects: one row per subject: subject, deletion, insertion, random_deletion, random_insertion.
        likeness: rank correlation with the mean map of a network with random weights; NaN if not requested.
    """

    maps: np.ndarray
    affines: np.ndarray
    background: np.ndarray
    inside: np.ndarray
    subjects: pd.DataFrame
    likeness: float

    @property
    def mean(self) -> np.ndarray:
        """(depth, height, width) mean map of the subjects."""
        found: np.ndarray = self.maps.mean(axis=0)
        return found


def fold_maps(
    planned: PlannedFold,
    cohort: Cohort,
    image: ImageSettings,
    store: FitStore,
    task: str,
    kinds: Sequence[MapKind] | None,
    noise: NoiseMap,
    *,
    n_subjects: int,
    seed: int,
    check_random: bool,
    device: torch.device,
) -> Mapping[MapKind, FoldMaps]:
    """Maps of the first held-out subjects of a fold that have a volume; the noise network is trained on training rows.

    Raises:
        UsageError: not a network with volumes; `noise` of a network with further modalities.
        MissingInputError: the fit is not stored.
    """
    predictor = VolumePredictor(stored_model(store, planned.plans[0].key), task).eval().to(device)
    train = rows_of(cohort, planned.fold.train, image, device)
    test = rows_of(cohort, planned.fold.test, image, device)
    test = test.at(range(min(n_subjects, len(test))))
    mapped = test.loaded()
    kinds = kinds or [kind for kind in KINDS if kind != "noise" or not predictor.is_fused]
    if predictor.is_fused and "noise" in kinds:
        raise UsageError(
            "maps by learned noise need a network on volumes alone", remedy="Ask for occlusion and gradients."
        )
    if not len(test) or not len(train):
        return {}
    affines = np.reshape([grid.affine for grid in grids_of(cohort, test.ids, image)], (-1, 4, 4))
    inside = np.array([head_on(v[0].numpy(), a, image) for v, a in zip(mapped, affines, strict=True)])
    references = train.batch(np.random.default_rng(seed).permutation(len(train))[:N_REFERENCES])
    subjects = pd.Series(test.ids, name="subject")
    random = _areas(
        predictor, test.ids, mapped, np.random.default_rng(seed).random(inside.shape), inside, references, cohort
    )
    found: dict[MapKind, FoldMaps] = {}
    for kind in kinds:
        maps = _maps(kind, predictor, train, test.ids, mapped, noise, seed, cohort)
        everywhere: np.ndarray = np.all(inside, axis=0)
        likeness = float("nan")
        if check_random:
            other = randomised(predictor, seed)
            assert isinstance(other, VolumePredictor)
            shown = _maps(kind, other.eval(), train, test.ids, mapped, noise, seed, cohort).mean(axis=0)
            likeness = agreement([maps.mean(axis=0), shown], everywhere)
        areas = _areas(predictor, test.ids, mapped, maps, inside, references, cohort)
        measures = pd.concat([subjects, areas, random.add_prefix("random_")], axis=1)
        found[kind] = FoldMaps(maps, affines, mapped.mean(dim=(0, 1)).numpy(), everywhere, measures, likeness)
    return found


def rows_of(cohort: Cohort, ids: Sequence[str], image: ImageSettings, device: torch.device) -> VolumeRows:
    """Volumes of the subjects that have one, read on access."""
    reader, _, present = read_volumes(cohort, ids, image)
    at = np.flatnonzero(present)
    volumes = read_lazily(reader, at.tolist(), reader.shape)
    return VolumeRows(tuple(ids[i] for i in at), volumes, np.full(len(at), np.nan), device=device)


def grids_of(cohort: Cohort, ids: Sequence[str], image: ImageSettings) -> list[Grid]:
    """The grids of subjects that have a volume."""
    return [grid for grid in read_volumes(cohort, ids, image)[0].grids if grid is not None]


def _maps(
    kind: MapKind,
    predictor: VolumePredictor,
    train: VolumeRows,
    test: Sequence[str],
    volumes: Tensor,
    noise: NoiseMap,
    seed: int,
    cohort: Cohort,
) -> np.ndarray:
    if kind == "noise":
        return fit_noise_map(predictor, train, train.ids, noise, seed).maps(volumes)
    make = occlusion_maps if kind == "occlusion" else gradient_maps
    if not predictor.is_fused:
        return make(predictor, volumes, ComparedMaps())
    rows = zip(test, volumes.split(1), strict=True)
    return np.concatenate([make(predictor.beside(cohort, one), volume, ComparedMaps()) for one, volume in rows])


def _areas(
    predictor: VolumePredictor,
    test: Sequence[str],
    volumes: Tensor,
    maps: np.ndarray,
    inside: np.ndarray,
    references: Tensor,
    cohort: Cohort,
) -> pd.DataFrame:
    rows = []
    for subject, volume, found, head in zip(test, volumes, maps, inside, strict=True):
        predictor.beside(cohort, subject)
        deletion = area(deletion_curve(predictor, volume, found, head, references))
        insertion = area(insertion_curve(predictor, volume, found, head, references))
        rows.append({"deletion": deletion, "insertion": insertion})
    return pd.DataFrame(rows)
