"""Base of objectives that also use labelled source rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import multi_task_loss
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import ReplaySettings
from connectome_tl.training.objectives.objective import SOURCE, TRAIN, Objective, ObjectiveSizes
from connectome_tl.training.objectives.reconstruction import MaskedEdgeReconstruction


@dataclass(frozen=True)
class Seen:
    """Embedding of the connectomes (batch, width) and outputs of all heads (batch, n_outputs) of a batch."""

    embedding: Tensor
    outputs: Tensor


class WithReplay(Objective):
    """Masked-edge reconstruction of the pool, supervised loss on the source, and the term of a subclass.

    Without a source (the control without stage 1) only the reconstruction is used.
    """

    unchanged = frozenset({SOURCE})

    def __init__(self, settings: ReplaySettings, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.outcomes, self.weight, self.replay = sizes.outcomes, settings.weight, settings.replay
        self.reconstruct = MaskedEdgeReconstruction(settings.reconstruct, sizes)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = dict(self.reconstruct(model, batches, targets))
        if SOURCE not in batches:
            return terms
        source, goal = seen(model, batches[SOURCE]), targets.get(SOURCE)
        if goal is not None and self.replay:
            terms["replay"] = self.replay * multi_task_loss(source.outputs, goal, self.outcomes)
        if len(source.embedding):
            name, term = self.added(model, batches[TRAIN], source)
            terms[name] = self.weight * term
        return terms

    def added(self, model: OutcomeModel, pool: Batch, source: Seen) -> tuple[str, Tensor]:
        """Name and value of the further term."""
        raise NotImplementedError


def seen(model: OutcomeModel, batch: Batch) -> Seen:
    """Embedding and outputs of a batch, with one pass through each branch."""
    encoded = model.encode(batch)
    embedding = encoded["connectome"].embedding[batch.present["connectome"]]
    return Seen(embedding, model.outputs(model.fuse(encoded, batch.present)))
