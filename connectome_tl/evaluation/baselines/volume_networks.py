"""Baselines of regressions on volumes: two-stage brain age, and training with and without synthetic volumes.

Encoder, weight file, dropout and augmentation are those of the study's network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Learner, VolumeFit
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.features.volumes import read_volumes
from connectome_tl.nn.batch import ImageRows
from connectome_tl.nn.branch import build_branch
from connectome_tl.settings.images.baselines import SynthesisSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.images.cascade import fit_two_stage
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.lazy import read_lazily
from connectome_tl.training.images.rows import VolumeRows, in_batches, refuse_seen, seeded
from connectome_tl.training.images.synthesis import fit_synthesiser, joined, nearness, synthesise
from connectome_tl.training.networks.augmentation import augmentation
from connectome_tl.training.networks.volumes import device_of
from connectome_tl.training.networks.weights import start_branch


@dataclass(frozen=True, eq=False)
class _Made:
    """Results of a method: values (n_test,), out-of-fold values (n_train,) of its training rows if there are any, and
    the distances of synthetic volumes to training volumes."""

    values: np.ndarray
    held_out: np.ndarray | None = None
    nearness: float = float("nan")


# from training and test rows
Method = Callable[[StudySettings, VolumeRows, VolumeRows], _Made]
_SEX = "sex"


def two_stage(data: BaselineData) -> list[Baseline]:
    """The two-stage age network, on every regression of the study."""
    return _on_volumes(data, "two_stage", _two_stage)


def synthetic_volumes(data: BaselineData) -> list[Baseline]:
    """A network on volumes, trained with additional synthetic volumes, on every regression of the study."""
    return _on_volumes(data, "synthetic_volumes", _with_synthetic)


def mixed_volumes(data: BaselineData) -> list[Baseline]:
    """The same network with as many volumes that are mixed voxel by voxel, the inexpensive control of a generator."""
    return _on_volumes(data, "mixed_volumes", _with_mixed)


def real_volumes(data: BaselineData) -> list[Baseline]:
    """The same network with the same number of steps, trained without synthetic volumes."""
    return _on_volumes(data, "real_volumes", _without_synthetic)


def _on_volumes(data: BaselineData, model: str, method: Method) -> list[Baseline]:
    tasks = tuple(task for task in data.tasks if task.form == "value")
    if not data.study.model.reads_volumes or not any(data.target.volumes):
        return []
    return [
        Baseline(lambda fold: _positions(data, fold), (task,), Learner(_Volumes(data, model, task.name, method)))
        for task in tasks
    ]


def _positions(data: BaselineData, fold: Fold) -> Design:
    """Row numbers instead of features: volumes are read when the method runs."""
    train, test = (data.target.positions(ids).astype(float)[:, None] for ids in (fold.train, fold.test))
    return Design(train, test, fold.train, data.families(fold))


@dataclass(frozen=True, eq=False)
class _Volumes:
    """Predictions of a method; a test subject without a volume gets the mean of the training outcomes."""

    data: BaselineData
    model: str
    task: str
    method: Method

    def __call__(self, design: Design, y: np.ndarray, binary: bool) -> np.ndarray:
        assert not binary
        known = np.isfinite(y)
        train = self._rows(design.train[known, 0].astype(int), y[known])
        test = self._rows(design.test[:, 0].astype(int), np.full(len(design.test), np.nan))
        refuse_seen(train.ids, test.ids, "a network on volumes")
        found = np.full(len(design.test), y[known].mean())
        tested = self._ids(design.test[:, 0].astype(int))
        there = [subject in set(test.ids) for subject in tested]
        if len(train) and any(there):
            made = self.method(self.data.study, train, test)
            found[there] = made.values
            if self.data.fits is not None:
                held = {} if made.held_out is None else dict(zip(train.ids, made.held_out.tolist(), strict=True))
                known = dict(zip(test.ids, made.values.tolist(), strict=True))
                self.data.fits.append(VolumeFit(self.model, self.task, tested, known, held, made.nearness))
        return found

    def _ids(self, at: np.ndarray) -> tuple[str, ...]:
        return tuple(self.data.target.ids[i] for i in at)

    def _rows(self, at: np.ndarray, values: np.ndarray) -> VolumeRows:
        """The rows that have a volume."""
        ids, cohort, study = self._ids(at), self.data.target, self.data.study
        reader, _, present = read_volumes(cohort, ids, study.image)
        kept = np.flatnonzero(present)
        volumes = read_lazily(reader, kept.tolist(), reader.shape)
        family = cohort.family
        families = tuple(str(family[at[i]]) or f"alone {ids[i]}" for i in kept)
        return VolumeRows(
            tuple(ids[i] for i in kept),
            volumes,
            values[kept],
            _sex(cohort, at[kept]),
            families,
            device=torch.device(device_of(study.device)),
        )


def _sex(cohort: Cohort, at: np.ndarray) -> np.ndarray | None:
    """Sex as 0 and 1 if it is a clinical covariate with two values, NaN if unknown."""
    if _SEX not in {spec.column for spec in clinical_specs(cohort.covariate_specs)}:
        return None
    column = cohort.covariates[_SEX]
    values = sorted(column.dropna().unique())
    if len(values) != 2:
        return None
    return np.where(column.isna(), np.nan, (column == values[1]).fillna(False).astype(float)).astype(float)[at]


class _Encoder(nn.Module):
    """The volume encoder of the study, with its dropout, from its weight file or with new weights."""

    def __init__(self, study: StudySettings) -> None:
        super().__init__()
        settings = study.model.branches.get("image", study.model.encoder)
        self.branch = build_branch(settings, {"n_channels": 1})
        self.width = self.branch.width
        start_branch(self.branch, settings)

    def forward(self, volumes: Tensor) -> Tensor:
        embedding: Tensor = self.branch(ImageRows(volumes)).embedding
        return embedding


def _two_stage(study: StudySettings, train: VolumeRows, test: VolumeRows) -> _Made:
    settings, change = study.baseline_settings.two_stage, augmentation(study.image.augment, study.seed)
    fitted = fit_two_stage(train, train.ids, lambda: _Encoder(study), settings, study.seed, change)
    held = fitted.estimates[:, 1] if settings.first_estimates == "out_of_fold" else None
    return _Made(fitted.predict(test)[:, 1], held)


def _without_synthetic(study: StudySettings, train: VolumeRows, test: VolumeRows) -> _Made:
    return _Made(_trained(study, study.baseline_settings.synthetic_volumes, train, test))


def _with_mixed(study: StudySettings, train: VolumeRows, test: VolumeRows) -> _Made:
    return _enlarged(study, study.baseline_settings.synthetic_volumes.mixed, train, test)


def _with_synthetic(study: StudySettings, train: VolumeRows, test: VolumeRows) -> _Made:
    return _enlarged(study, study.baseline_settings.synthetic_volumes, train, test)


def _enlarged(study: StudySettings, settings: SynthesisSettings, train: VolumeRows, test: VolumeRows) -> _Made:
    """Predictions of a network that is trained with synthetic volumes made from the training rows."""
    model = None
    if settings.synthesis.source == "gan":
        model = fit_synthesiser(train, train.ids, settings.synthesis, study.seed)
    made = synthesise(train, train.ids, settings.synthesis, study.seed, model).rows
    near = nearness(made.volumes, train.volumes).ratio
    return _Made(_trained(study, settings, joined(train, made), test), nearness=near)


def _trained(study: StudySettings, settings: SynthesisSettings, train: VolumeRows, test: VolumeRows) -> np.ndarray:
    """Predictions of the encoder with a linear head, outcomes standardised by the training rows."""
    centre, scale = float(train.ages.mean()), float(train.ages.std()) or 1.0
    target = torch.tensor((train.ages - centre) / scale, dtype=torch.float32, device=train.device)
    change = augmentation(study.image.augment, study.seed)
    with seeded(study.seed) as rng:
        encoder = _Encoder(study)
        network = nn.Sequential(encoder, nn.Linear(encoder.width, 1), nn.Flatten(0)).to(train.device)

        def loss_of(index: np.ndarray) -> Tensor:
            volumes = train.batch(index) if change is None else change(train.batch(index))
            return (network(volumes) - target[index]).square().mean()

        descend(network.parameters(), loss_of, len(train), settings.training, rng)
    return centre + scale * in_batches(network.eval(), test.volumes, device=train.device).double().numpy()
