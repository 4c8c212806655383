"""The network: branches, fusion, and one head per outcome."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.batch import Batch, Modality
from connectome_tl.nn.branch import Branch, Encoded, Sizes, build_branch

# Importing an encoder's module registers it.
from connectome_tl.nn.encoders import brainnetcnn, components, dual, flat, graph, low_rank, volumes  # noqa: F401
from connectome_tl.nn.fusion import build_fusion, hidden
from connectome_tl.nn.heads import SoftLabelHead, head_of
from connectome_tl.settings.model import DistributionHead, ModelSettings


def _of_present(branch: Branch, rows: Modality, present: Tensor) -> Encoded:
    """Embeddings of the rows that have the modality; 0 for the others, which the fusion replaces."""
    at = torch.nonzero(present).flatten()
    if len(at) == 0:
        return Encoded(torch.zeros((len(present), branch.width), device=present.device))
    alone = branch.training and len(at) == 1  # too few for a batch normalisation of rows or of maps of one voxel
    if alone:
        branch.eval()
    embedding = branch(rows.rows(at)).embedding
    branch.train(branch.training or alone)
    return Encoded(embedding.new_zeros((len(present), branch.width)).index_copy(0, at, embedding))


class OutcomeModel(nn.Module):
    """Network with branches, fusion and one head per outcome.

    Named parts are the modalities of `branches`, `fusion` and `heads`; learning rates and freezing refer to them.

    Args:
        regressions: outcomes whose heads may give distributions.
    """

    def __init__(
        self,
        settings: ModelSettings,
        sizes: Mapping[str, Sizes],
        heads: Mapping[str, int],
        regressions: Collection[str] = (),
    ) -> None:
        super().__init__()
        asked = settings.branches
        self.branches = nn.ModuleDict({name: build_branch(asked[name], sizes[name]) for name in sizes})
        widths = {name: branch.width for name, branch in self.branches.items() if isinstance(branch, Branch)}
        self.fusion = build_fusion(settings, widths)
        self.modality_dropout = settings.modality_dropout
        self.fused_width = settings.fused_width
        soft = settings.regression if isinstance(settings.regression, DistributionHead) else None
        self.heads = nn.ModuleDict(
            {task: head_of(settings.fused_width, n, soft if task in regressions else None) for task, n in heads.items()}
        )

    def encode(self, batch: Batch) -> dict[str, Encoded]:
        """Embeddings by modality, without modalities that the whole batch lacks."""
        found = {}
        for name, branch in self.branches.items():
            if name in batch.present:
                assert isinstance(branch, Branch)
                rows, present = batch.modalities[name], batch.present[name]
                alone = branch.skips_absent and not bool(present.all())
                found[name] = _of_present(branch, rows, present) if alone else branch(rows)
        return found

    def start(self, batch: Batch) -> None:
        """Set initial weights that depend on the training rows, see `Branch.start`."""
        for name, branch in self.branches.items():
            if name in batch.present and bool(batch.present[name].any()):
                assert isinstance(branch, Branch)
                branch.start(batch.modalities[name].rows(torch.nonzero(batch.present[name]).flatten()))

    def prepared(self, batch: Batch) -> Batch:
        """A batch for many steps of this model, see `Branch.prepared`."""
        changed = dict(batch.modalities)
        for name, branch in self.branches.items():
            if name in changed:
                assert isinstance(branch, Branch)
                changed[name] = branch.prepared(changed[name])
        return replace(batch, modalities=changed)

    def embed(self, batch: Batch) -> Tensor:
        """(batch, fused_width) fused embedding."""
        return self.fuse(self.encode(batch), batch.present)

    def fuse(self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor]) -> Tensor:
        """(batch, fused_width) from the embeddings by modality; during training some modalities are hidden."""
        seen = {name: present[name] for name in encoded}
        if self.training and self.modality_dropout:
            seen = hidden(seen, self.modality_dropout)
        fused = self.fusion(encoded, seen)
        assert isinstance(fused, Tensor)
        return fused

    def forward(self, batch: Batch) -> Tensor:
        """(batch, n_outputs) of all heads, in their order."""
        return self.outputs(self.embed(batch))

    def outputs(self, fused: Tensor) -> Tensor:
        """(batch, n_outputs) of all heads from the fused embedding (batch, fused_width)."""
        heads = list(self.heads.values())
        if not heads:
            return fused.new_zeros((len(fused), 0))
        if self.soft_heads:
            return torch.cat([head(fused) for head in heads], dim=1)
        weight, bias = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
        return functional.linear(fused, weight, bias)

    @property
    def soft_heads(self) -> dict[str, SoftLabelHead]:
        """Heads that give distributions, by outcome."""
        return {task: head for task, head in self.heads.items() if isinstance(head, SoftLabelHead)}


def part_of(parameter: str) -> str:
    """The named part that a parameter of an `OutcomeModel` belongs to."""
    first, second, *_ = parameter.split(".")
    return second if first == "branches" else first


def build_model(
    settings: ModelSettings,
    sizes: Mapping[str, Sizes],
    heads: Mapping[str, int],
    regressions: Collection[str] = (),
) -> OutcomeModel:
    """A model with weights initialised from torch's current random state.

    Args:
        sizes: sizes by modality, from `Modality.sizes`. heads: number of outputs by outcome.
        regressions: regression outcomes, whose heads may be distributions.
    """
    return OutcomeModel(settings, sizes, heads, regressions)
