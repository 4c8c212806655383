"""Objective: supervised masked loss on the outcomes of one cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from connectome_tl.errors import InternalError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes, summed_losses
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.training import Training
from connectome_tl.training.objectives.mixup import partners, shares
from connectome_tl.training.objectives.objective import TRAIN, Objective
from connectome_tl.training.objectives.task_weights import weighting


class Supervised(Objective):
    """Masked multi-task loss of the heads, optionally with edge noise, mixup, and weights of outcomes and classes.

    Args:
        positives: share of class 1 for each binary outcome with class weights. The weighted loss is minimised by
            logits that are shifted by the logarithm of the ratio of the weights. This shift is added to the outputs
            before the loss, so that the outputs themselves are logits of the true risk.
    """

    decayed = False

    def __init__(
        self, outcomes: Outcomes, training: Training | None = None, positives: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        asked = training or Training()
        self.outcomes, self.edge_noise, self.mixup = outcomes, asked.edge_noise, asked.mixup
        self.positives = dict(positives or {})
        self.unchanged = frozenset() if self.edge_noise or self.mixup is not None else frozenset({TRAIN})
        self.weigh = weighting(asked.task_weights, len(outcomes.kinds))

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        batch, goal = batches[TRAIN], targets[TRAIN]
        if goal is None:
            raise InternalError("a supervised objective needs targets")
        if self.edge_noise and "connectome" in batch.modalities:
            rows = batch.connectome
            noise = torch.randn_like(rows.edges).triu(1) * self.edge_noise
            noisy = rows.edges + (noise + noise.transpose(2, 3)) * (rows.edges != 0)
            batch = batch.with_connectome(rows.with_edges(noisy))
        goals: list[tuple[Tensor, Tensor | None]] = [(goal, None)]
        if self.mixup is not None and len(batch) > 1:
            other = partners(goal, self.mixup.neighbours)
            share = shares(batch, other, self.mixup.alpha)
            batch = batch.mixed(other, share)
            goals = [(goal, share), (goal[other], 1 - share)]
        fused = model.embed(batch)
        outputs = model.outputs(fused)
        if self.positives:
            outputs = outputs + self._shift(outputs)
            goals = [(one, self._class_weights(one) * (1.0 if of is None else of[:, None])) for one, of in goals]
        total, count = self._summed(model, fused, outputs, *goals[0])
        for one in goals[1:]:
            more, others = self._summed(model, fused, outputs, *one)
            total, count = total + more, count + others
        least = 1.0 if len(goals) == 1 and not self.positives else 1e-6
        return {"outcomes": self.weigh(total / count.clamp_min(least), count > 0, fused)}

    def _summed(
        self, model: OutcomeModel, fused: Tensor, outputs: Tensor, goal: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`summed_losses`, with soft-label losses for heads that are distributions."""
        places = {task: t for t, task in enumerate(self.outcomes.kinds)}
        soft = {task: head.losses(fused, goal[:, places[task]]) for task, head in model.soft_heads.items()}
        return summed_losses(outputs, goal, weights, self.outcomes, soft)

    def _shift(self, outputs: Tensor) -> Tensor:
        """Shift of the logits by the class weights, (n_outputs,)."""
        shift = outputs.new_zeros(outputs.shape[1])
        for task, share in self.positives.items():
            shift[self.outcomes.places[task]] = math.log((1 - share) / share)
        return shift

    def _class_weights(self, goal: Tensor) -> Tensor:
        """Inverse class frequencies, (batch, n_tasks); 1 for outcomes without class weights."""
        weights = torch.ones_like(goal)
        for t, task in enumerate(self.outcomes.kinds):
            if task in self.positives:
                share = self.positives[task]
                weights[:, t] = torch.where(goal[:, t] > 0.5, 0.5 / share, 0.5 / (1 - share))
        return weights
