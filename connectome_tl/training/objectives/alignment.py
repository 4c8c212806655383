"""Objective: align the distribution of pool embeddings with that of the source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import Adversarial
from connectome_tl.training.objectives.objective import ObjectiveSizes
from connectome_tl.training.objectives.replay import Seen, WithReplay

_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the median squared distance (Long et al. 2015, arXiv:1502.02791)


class Coral(WithReplay):
    """Equal covariances (Sun and Saenko 2016, doi:10.1007/978-3-319-49409-8_35)."""

    def added(self, model: OutcomeModel, pool: Batch, source: Seen) -> tuple[str, Tensor]:
        return "alignment", coral(_embedding(model, pool), source.embedding)


class Mmd(WithReplay):
    """Equal means in the space of a sum of Gaussian kernels (maximum mean discrepancy, Gretton et al. 2012)."""

    def added(self, model: OutcomeModel, pool: Batch, source: Seen) -> tuple[str, Tensor]:
        return "alignment", mmd(_embedding(model, pool), source.embedding)


class AdversarialAlignment(WithReplay):
    """A classifier of the cohort whose reversed gradient trains the encoder to make the cohorts indistinguishable
    (Ganin et al. 2016, arXiv:1505.07818)."""

    def __init__(self, settings: Adversarial, sizes: ObjectiveSizes) -> None:
        super().__init__(settings, sizes)
        width = sizes.widths["connectome"]
        self.classify = nn.Sequential(nn.Linear(width, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 1))
        self.reversal, self.weight = settings.weight, 1.0  # the classifier itself is trained at the full rate

    def added(self, model: OutcomeModel, pool: Batch, source: Seen) -> tuple[str, Tensor]:
        losses = []
        for embedding, label in ((_embedding(model, pool), 0.0), (source.embedding, 1.0)):
            logit = self.classify(reverse_gradient(embedding, self.reversal))[:, 0]
            goal = torch.full_like(logit, label)
            losses.append(functional.binary_cross_entropy_with_logits(logit, goal))
        return "cohort", torch.stack(losses).mean()


def coral(one: Tensor, other: Tensor) -> Tensor:
    """Squared distance of the covariances of two batches (n, width) by 4 width^2, () scalar."""
    difference = _covariance(one) - _covariance(other)
    return difference.square().sum() / (4 * one.shape[1] ** 2)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0)
    return centred.T @ centred / max(len(x) - 1, 1)


def mmd(one: Tensor, other: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two batches (n, width), () scalar, at least 0.

    The kernel is the mean of Gaussians with widths around the median squared distance of all pairs, which is
    detached from the gradient.
    """
    both = torch.cat([one, other])
    distance = (both[:, None] - both[None]).square().sum(dim=2)
    pairs = torch.triu_indices(len(both), len(both), offset=1, device=both.device)
    median = distance.detach()[pairs[0], pairs[1]].median().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-distance / (scale * median)) for scale in _SCALES]).mean(dim=0)
    n = len(one)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """Identity whose gradient is multiplied by `-factor`."""
    found: Tensor = _Reversal.apply(x, factor)
    return found


def _embedding(model: OutcomeModel, batch: Batch) -> Tensor:
    embedding: Tensor = model.branches["connectome"](batch.connectome).embedding
    return embedding
