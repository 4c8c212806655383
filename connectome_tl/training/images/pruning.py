"""Filter pruning by Taylor scores of gates (Molchanov et al. 2019, arXiv:1906.10771)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError, InternalError
from connectome_tl.nn.voxel.channels import Costs, channel_groups
from connectome_tl.nn.voxel.gates import Gates
from connectome_tl.nn.voxel.shrinking import Cost, cost, removable, shrink
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.training.images.descent import descend

_OVERSHOOT = 0.1  # share of all multiply-accumulates by which a removal may exceed the target
BatchLoss = Callable[[nn.Module, np.ndarray], Tensor]  # network and row numbers to the mean loss of these rows


@dataclass(frozen=True)
class Removal:
    """One removal step: loss, score threshold, removed units, remaining cost.

    Attributes:
        removed: units by the name of their group's root. macs: multiply-accumulates afterwards.
    """

    loss: float
    removed: dict[str, tuple[int, ...]]
    macs: float


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Attributes:
        network: smaller, in evaluation mode; equal to the masked one.
        removed: removed channels, by layer.
        removals: all removal steps.
        left_alone: reasons why layers were not pruned, by name.
        before, after: cost of one volume.
    """

    network: nn.Module
    removed: dict[str, tuple[int, ...]]
    removals: tuple[Removal, ...]
    left_alone: dict[str, str]
    before: Cost
    after: Cost


@dataclass
class GateScores:
    """Scores of all units, averaged over batches and smoothed over removals.

    An instance can also be used as an importance by torch-pruning's pruners: called with one of their groups, it
    returns scores (n_channels,).
    """

    gates: Gates
    order: int = 1
    momentum: float = 0.0
    smoothed: list[Tensor] = field(default_factory=list)
    _sums: list[Tensor] = field(default_factory=list)
    _curvature: list[Tensor] = field(default_factory=list)
    _n: int = 0

    def bend(self, loss: Tensor) -> Tensor:
        """Add the second derivatives of a batch's loss if `order` is 2; returns the loss."""
        if self.order == 2:
            values = list(self.gates.values)
            gradients = torch.autograd.grad(loss, values, create_graph=True)
            self._curvature = [_diagonal(g, v).detach() for g, v in zip(gradients, values, strict=True)]
        return loss

    def see(self) -> None:
        """After a backward pass, add the squared estimate of the change of the loss without each unit."""
        changes = []
        for i, value in enumerate(self.gates.values):
            assert value.grad is not None
            change = -value.detach() * value.grad
            if self.order == 2:
                change = change + 0.5 * value.detach().square() * self._curvature[i]
            changes.append(change.square())
            value.grad = None
        self._sums = [a + b for a, b in zip(self._sums, changes, strict=True)] if self._sums else changes
        self._n += 1

    def settle(self) -> list[Tensor]:
        """Finish an average, smooth it with the previous one, and reset."""
        if self._n == 0:
            raise InternalError("no batch was scored")
        new = [total / self._n for total in self._sums]
        m = self.momentum
        self.smoothed = [m * a + (1 - m) * b for a, b in zip(self.smoothed, new, strict=True)] if self.smoothed else new
        self._sums, self._n = [], 0
        return self.smoothed

    def __call__(self, group: Any) -> Tensor:
        root = group._DG._module2name[group[0].dep.target.module]
        for known, scores in zip(self.gates.groups, self.smoothed, strict=True):
            if known.root == root:
                return scores.repeat_interleave(known.unit)[torch.tensor(group[0].root_idxs)]
        return torch.full((len(group[0].idxs),), float("inf"))


def _diagonal(gradient: Tensor, value: Tensor) -> Tensor:
    rows = [torch.autograd.grad(gradient[i], value, retain_graph=True)[0][i] for i in range(len(value))]
    return torch.stack(rows)


def removal_oracle(network: nn.Module, gates: Gates, loss: BatchLoss, index: Sequence[np.ndarray]) -> list[Tensor]:
    """Exact value of the scores: squared change of the loss when each unit is closed, averaged over batches.

    Args:
        index: row numbers of each batch.
    """
    found = []
    with torch.no_grad(), gates.on(network):
        full = [float(loss(network, rows)) for rows in index]
        for group in range(len(gates.groups)):
            changes = torch.zeros(gates.groups[group].n_units)
            for unit in range(len(changes)):
                is_open = gates.open[group][unit].clone()
                gates.open[group][unit] = 0.0
                without = [float(loss(network, rows)) for rows in index]
                gates.open[group][unit] = is_open
                changes[unit] = float(np.mean([(a - b) ** 2 for a, b in zip(without, full, strict=True)]))
            found.append(changes)
    return found


def prune(
    network: nn.Module,
    loss: BatchLoss,
    n_rows: int,
    settings: TaylorPruning,
    rng: np.random.Generator,
    example: Tensor,
) -> Pruned:
    """Remove filters in small steps with fine-tuning between, then shrink the network.

    Args:
        network: trained, with its head; it is not changed.
        loss: mean loss of training rows. n_rows: number of training rows.
        rng: draws the batches.
        example: (1, n_channels, depth, height, width) of the size that costs are counted for, on the device of the
            network.

    Raises:
        DataError: no layer can be pruned, or the target cannot be reached.
    """
    network = copy.deepcopy(network)
    found = channel_groups(network, example)
    left_alone = removable(network, found, example)
    groups = tuple(group for group in found if group.root not in left_alone)
    if not groups:
        raise DataError(
            "no layer of this network can be pruned",
            got="; ".join(f"{name}: {reason}" for name, reason in left_alone.items()),
            remedy="Prune a network of convolutions with batch or group normalisation and a head.",
        )
    before, costs = cost(network, example), Costs(network, example)
    gates = Gates(groups).to(example.device)
    scores = GateScores(gates, settings.order, settings.momentum)
    goal, removals = (1 - settings.target) * costs.total, []
    network.train()
    with gates.on(network):

        def loss_of(index: np.ndarray) -> Tensor:
            return loss(network, index)

        def scored(index: np.ndarray) -> Tensor:
            return scores.bend(loss_of(index))

        while costs.total > goal:
            losses = descend(network.parameters(), scored, n_rows, settings.between, rng, after=scores.see)
            removed = _remove(gates, scores.settle(), costs, settings, goal)
            if not removed:
                raise DataError(
                    "all layers reached their minimum width before the target",
                    expected=f"{settings.target:.0%} of the multiply-accumulates removed",
                    remedy="Lower `target` or `keep`.",
                )
            removals.append(Removal(float(losses.mean()), removed, costs.total))
        gates.requires_grad_(False)
        descend(network.parameters(), loss_of, n_rows, settings.after, rng)
    network.eval()
    small = shrink(network, gates.closed, example)
    _check_equal(network, gates, small, example)
    removed_channels = {root: tuple(channels.tolist()) for root, channels in gates.closed.items()}
    return Pruned(small, removed_channels, tuple(removals), left_alone, before, cost(small, example))


def _remove(
    gates: Gates, scores: Sequence[Tensor], costs: Costs, settings: TaylorPruning, goal: float
) -> dict[str, tuple[int, ...]]:
    """Close the gates of the lowest scores, as many as one removal takes."""
    n_units = sum(group.n_units for group in gates.groups)
    left = max(1, round(settings.per_event * n_units))
    ranked = _ranking(gates, scores, costs if settings.per_cost else None)
    removed: dict[str, list[int]] = {}
    for group, unit in ranked:
        if left == 0 or costs.total <= goal:
            break
        if int(gates.open[group].sum()) <= settings.keep or _too_much(gates, group, costs, settings, goal):
            continue
        which = torch.tensor([unit])
        gates.close(group, which)
        costs.remove(gates.groups[group], which)
        removed.setdefault(gates.groups[group].root, []).append(unit)
        left -= 1
    return {root: tuple(units) for root, units in removed.items()}


def _too_much(gates: Gates, group: int, costs: Costs, settings: TaylorPruning, goal: float) -> bool:
    """Whether removing a unit of this group would far exceed the target, and another unit would not.

    A single unit of large maps, particularly of the stem, can be more expensive than the remaining target.
    """
    most = costs.total - goal + _OVERSHOOT * goal / (1 - settings.target)
    if costs.saved(gates.groups[group]) <= most:
        return False
    others = (one for one, is_open in zip(gates.groups, gates.open, strict=True) if int(is_open.sum()) > settings.keep)
    return any(costs.saved(one) <= most for one in others)


def _ranking(gates: Gates, scores: Sequence[Tensor], costs: Costs | None) -> list[tuple[int, int]]:
    """(group, unit) of all open units, the lowest score first."""
    rows = []
    for i, (group, values, is_open) in enumerate(zip(gates.groups, scores, gates.open, strict=True)):
        saved = 1.0 if costs is None else max(costs.saved(group), 1.0)
        rows += [(float(values[unit]) / saved, i, unit) for unit in torch.nonzero(is_open).flatten().tolist()]
    return [(group, unit) for _, group, unit in sorted(rows)]


def _check_equal(network: nn.Module, gates: Gates, small: nn.Module, example: Tensor) -> None:
    volume = torch.randn(example.shape, generator=torch.Generator().manual_seed(1)).to(example)
    with torch.no_grad():
        with gates.on(network):
            masked = network(volume)
        found = small(volume)
    if not torch.allclose(masked, found, rtol=1e-3, atol=1e-4):
        difference = float((masked - found).abs().max())
        raise InternalError(f"the pruned network differs from the masked one by {difference:.2g}")
