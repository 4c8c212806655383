"""Objective: voxel-wise contrastive learning, with classes of intensity or of label maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from connectome_tl.errors import InternalError, UsageError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.nn.voxel.contrast import VoxelContrastLoss, grey_classes
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.objectives import VolumeContrast
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class ContrastOfVoxels(Objective):
    """Contrastive loss that aligns features of one class over the volumes of a batch and a bank."""

    def __init__(self, settings: VolumeContrast, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.stage = settings.stage
        self.by_intensity = settings.classes != "labels"
        self.n_classes = sizes.labels if settings.classes == "labels" else settings.classes
        self.contrast = VoxelContrastLoss(None, self.n_classes + 1, settings.contrast)

    def begin(self, model: OutcomeModel) -> None:
        _resnet(model)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        batch = batches[TRAIN]
        there, labels = batch.present["image"], batch.image.labels
        volumes = batch.image.volumes[there]
        maps = _resnet(model).maps(volumes)[self.stage - 1]
        if not self.by_intensity and labels is None:
            raise InternalError("a batch for the contrast of labels has no label maps")
        classes = grey_classes(volumes, self.n_classes) if labels is None else labels[there]
        return {"contrast": self.contrast(maps, classes)}


def _resnet(model: OutcomeModel) -> VoxelResNet:
    branch = model.branches["image"]
    if not isinstance(branch, VolumeBranch) or not isinstance(branch.net, VoxelResNet):
        raise UsageError(
            "contrast between voxels needs the maps of a residual network",
            expected="an image encoder of kind resnet",
            remedy="Choose it, or another objective of adaptation (masked_volume).",
        )
    return branch.net
