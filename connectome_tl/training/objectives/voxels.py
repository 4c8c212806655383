"""Objective: voxel-wise contrastive learning with grey-level classes instead of label maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.nn.voxel.contrast import VoxelContrastLoss, grey_classes
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.objectives import VolumeContrast
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class ContrastOfVoxels(Objective):
    """Contrastive loss that aligns features of one intensity class over the volumes of a batch and a bank."""

    def __init__(self, settings: VolumeContrast, sizes: ObjectiveSizes) -> None:
        super().__init__()
        del sizes
        self.stage, self.n_classes = settings.stage, settings.classes
        self.contrast = VoxelContrastLoss(None, settings.classes + 1, settings.contrast)

    def begin(self, model: OutcomeModel) -> None:
        _resnet(model)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        batch = batches[TRAIN]
        volumes = batch.image.volumes[batch.present["image"]]
        maps = _resnet(model).maps(volumes)[self.stage - 1]
        return {"contrast": self.contrast(maps, grey_classes(volumes, self.n_classes))}


def _resnet(model: OutcomeModel) -> VoxelResNet:
    branch = model.branches["image"]
    if not isinstance(branch, VolumeBranch) or not isinstance(branch.net, VoxelResNet):
        raise UsageError(
            "contrast between voxels needs the maps of a residual network",
            expected="an image encoder of kind resnet",
            remedy="Choose it, or another objective of adaptation (masked_volume).",
        )
    return branch.net
