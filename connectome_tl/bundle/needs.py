"""Covariates that the feature steps of a model require."""

from __future__ import annotations

from collections.abc import Iterator

from connectome_tl.bundle.members import Members
from connectome_tl.features.confounds import ConfoundModel, confound_column
from connectome_tl.features.harmonise import Harmoniser
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.steps import Features
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel


def needed_covariates(members: Members) -> tuple[str, ...]:
    """Columns of the clinical encoder, of confounds, and protected by site correction, without `age`."""
    found: dict[str, None] = {}
    for features in _all_features(members):
        for steps in features.steps.values():
            if isinstance(steps, ClinicalSteps):
                found |= dict.fromkeys(steps.encoder.columns)
            elif isinstance(steps, ConnectomeSteps):
                for step in steps.edge_steps:
                    if isinstance(step, ConfoundModel):
                        found |= dict.fromkeys(confound_column(name)[0] for name in step.names)
                    elif isinstance(step, Harmoniser):
                        found |= dict.fromkeys(step.protect)
    found.pop("age", None)
    return tuple(found)


def _all_features(members: Members) -> Iterator[Features]:
    """Features of the fits, and of source cores whose scores they use."""
    yield from members.features()
    for model in members.models:
        core = model.core if isinstance(model, MixtureModel) else model
        if isinstance(core, CoreModel) and core.source is not None:
            yield core.source.features
