"""Table of the adaptation objectives and their settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectome_tl.errors import InternalError
from connectome_tl.settings import objectives as kinds
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.training.objectives.age import AgePrediction
from connectome_tl.training.objectives.alignment import AdversarialAlignment, Coral, Mmd
from connectome_tl.training.objectives.contrast import ContrastOfViews
from connectome_tl.training.objectives.objective import Objective, ObjectiveSizes
from connectome_tl.training.objectives.reconstruction import (
    DenoisingReconstruction,
    MaskedEdgeReconstruction,
    MaskedNodeReconstruction,
)
from connectome_tl.training.objectives.self_training import SoftPseudoLabels
from connectome_tl.training.objectives.volumes import MaskedVolumeReconstruction
from connectome_tl.training.objectives.voxels import ContrastOfVoxels

ObjectiveFactory = Callable[[Any, ObjectiveSizes], Objective]
OBJECTIVES: dict[type[ObjectiveSettings], ObjectiveFactory] = {
    kinds.MaskedEdges: MaskedEdgeReconstruction,
    kinds.MaskedNodes: MaskedNodeReconstruction,
    kinds.DenoisingAutoencoder: DenoisingReconstruction,
    kinds.GraphContrast: ContrastOfViews,
    kinds.Coral: Coral,
    kinds.Mmd: Mmd,
    kinds.Adversarial: AdversarialAlignment,
    kinds.SelfTraining: SoftPseudoLabels,
    kinds.ScanAge: AgePrediction,
    kinds.MaskedVolume: MaskedVolumeReconstruction,
    kinds.VolumeContrast: ContrastOfVoxels,
}


def register_objective(settings: type[ObjectiveSettings], factory: ObjectiveFactory) -> None:
    """Register the objective of a settings class."""
    OBJECTIVES[settings] = factory


def build_objective(settings: ObjectiveSettings, sizes: ObjectiveSizes) -> Objective:
    """The objective of these settings.

    Raises:
        InternalError: none is registered for them.
    """
    if type(settings) not in OBJECTIVES:
        raise InternalError(f"no objective is registered for {type(settings).__name__}")
    return OBJECTIVES[type(settings)](settings, sizes)
