"""Objective: self-training on predictions for the pool."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import soft_loss
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import SelfTraining
from connectome_tl.training.objectives.hiding import random_edges, without_edges
from connectome_tl.training.objectives.objective import ObjectiveSizes
from connectome_tl.training.objectives.replay import Seen, WithReplay


class SoftPseudoLabels(WithReplay):
    """The network before the first step (the teacher) predicts the outcomes of stage 1 for the pool from whole
    connectomes; the network is trained on these predictions from connectomes with a share of edges removed
    (noisy student, Xie et al. 2020, arXiv:1911.04252). Targets are probabilities, not hard classes."""

    def __init__(self, settings: SelfTraining, sizes: ObjectiveSizes) -> None:
        super().__init__(settings, sizes)
        self.drop = settings.drop
        self._teacher: list[OutcomeModel] = []  # in a list, so that its parameters are not registered

    def begin(self, model: OutcomeModel) -> None:
        self._teacher = [deepcopy(model).eval().requires_grad_(False)]

    def added(self, model: OutcomeModel, pool: Batch, source: Seen) -> tuple[str, Tensor]:
        del source
        if not self._teacher:
            self.begin(model)
        with torch.no_grad():
            taught = self._teacher[0](pool)
        rows = pool.connectome
        noisy = pool.with_connectome(without_edges(rows, random_edges(rows, self.drop)))
        return "pseudo-labels", soft_loss(model(noisy), taught, self.outcomes)
