"""The model: encoder, clinical branch, fusion, one head per task, put together in one visible place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from connectome_tl.nn.graph_encoder import build_encoder
from connectome_tl.nn.layers import Inputs, SharedDropout, norm_layer
from connectome_tl.settings.study import ModelSettings


@dataclass(frozen=True)
class Sizes:
    """What a model must know of its data; `tasks` are names, one head each."""

    n_regions: int
    n_measures: int
    n_features: int
    n_clinical: int
    tasks: tuple[str, ...]


class OutcomeModel(nn.Module):
    """Inputs to one number per task: a logit for a binary task, a scaled value for a regression.

    The fused layer is the dense layer on the concatenated embeddings of He et al. 2020, written as
    one linear map per modality, so that a stage without clinical covariates can hand its part on.
    Named parts (`encoder`, `clinical`, `fusion`, `heads`) are what learning rates and freezing refer to.
    """

    def __init__(self, settings: ModelSettings, sizes: Sizes) -> None:
        super().__init__()
        self.encoder, width = build_encoder(settings.encoder, sizes.n_regions, sizes.n_measures, sizes.n_features)
        self.clinical = (
            nn.Sequential(
                nn.Linear(sizes.n_clinical, settings.clinical_width, bias=False),
                norm_layer(settings.norm, settings.clinical_width),
                nn.ReLU(),
            )
            if sizes.n_clinical
            else None
        )
        fused = settings.fused_width
        self.fusion = nn.ModuleDict({"connectome": nn.Linear(width, fused, bias=False)})
        if sizes.n_clinical:
            self.fusion["clinical"] = nn.Linear(settings.clinical_width, fused, bias=False)
        self.fusion["norm"] = norm_layer(settings.norm, fused)
        self.dropout = SharedDropout(settings.dropout)
        self.heads = nn.ModuleDict({task: nn.Linear(fused, 1) for task in sizes.tasks})

    def forward(self, inputs: Inputs) -> Tensor:
        """(batch, n_tasks)."""
        fused = self.fusion["connectome"](self.encoder(inputs))
        if self.clinical is not None:
            fused = fused + self.fusion["clinical"](self.clinical(inputs.clinical))
        fused = self.dropout(torch.relu(self.fusion["norm"](fused)))
        return torch.cat([head(fused) for head in self.heads.values()], dim=1)


def build_model(settings: ModelSettings, sizes: Sizes) -> OutcomeModel:
    """A model with fresh weights from torch's current random state."""
    return OutcomeModel(settings, sizes)
