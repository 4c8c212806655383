"""Masked multi-task loss. Missing outcomes (NaN) contribute nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and known targets to the loss of each row: (n, n_outputs) and (n,) to (n,), or column by column."""


@dataclass(frozen=True)
class KindLoss:
    """Losses of one kind of outcome. A cross-entropy has the factor 2, so that it is about as steep as a squared error
    in units of the standard deviation.

    Attributes:
        rows: loss of each row.
        soft: mean loss of outputs with respect to those of a teacher, () scalar.
        columnwise: whether outcomes have one output each and `rows` takes several of them at once, (n, n_tasks).
    """

    rows: RowLoss
    soft: Callable[[Tensor, Tensor], Tensor]
    columnwise: bool = False


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return 2.0 * functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")


def _soft_binary(outputs: Tensor, taught: Tensor) -> Tensor:
    return 2.0 * functional.binary_cross_entropy_with_logits(outputs, torch.sigmoid(taught))


def _ordinal(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of "above level k" for every k (Frank and Hall 2001, doi:10.1007/3-540-44795-4_13)."""
    levels = torch.arange(outputs.shape[1], device=outputs.device)
    above = (targets[:, None] > levels).to(outputs.dtype)
    return _binary(outputs, above).mean(dim=1)


LOSSES: dict[str, KindLoss] = {
    "binary": KindLoss(_binary, _soft_binary, columnwise=True),
    "regression": KindLoss(
        lambda outputs, targets: (outputs - targets) ** 2,
        lambda outputs, taught: (outputs - taught).square().mean(),
        columnwise=True,
    ),
    "ordinal": KindLoss(_ordinal, _soft_binary),
    "multiclass": KindLoss(
        lambda outputs, targets: 2.0 * functional.cross_entropy(outputs, targets.long(), reduction="none"),
        lambda outputs, taught: 2.0 * functional.cross_entropy(outputs, torch.softmax(taught, dim=1)),
    ),
}


def register_loss(kind: str, loss: KindLoss) -> None:
    """Register the losses of the outcomes of an extension."""
    LOSSES[kind] = loss


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of a model in order, with their kinds and numbers of outputs.

    Attributes:
        kinds: kind by outcome. sizes: number of outputs by outcome.
    """

    kinds: Mapping[str, str]
    sizes: Mapping[str, int]

    @cached_property
    def places(self) -> dict[str, slice]:
        """Columns of the outputs by outcome."""
        ends = np.cumsum(list(self.sizes.values()))
        return {task: slice(int(end) - n, int(end)) for (task, n), end in zip(self.sizes.items(), ends, strict=True)}

    @cached_property
    def alike(self) -> list[tuple[str, list[int], list[int]]]:
        """Groups (kind, numbers of the outcomes, columns of their outputs) for one call each: outcomes of a columnwise
        kind are grouped, others are separate."""
        groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
        for t, (task, kind) in enumerate(self.kinds.items()):
            tasks, columns = groups.setdefault((kind, -1 if LOSSES[kind].columnwise else t), ([], []))
            tasks.append(t)
            columns.extend(range(self.places[task].start, self.places[task].stop))
        return [(kind, *found) for (kind, _), found in groups.items()]


def row_losses(outputs: Tensor, targets: Tensor, outcomes: Outcomes) -> Tensor:
    """(batch, n_tasks) loss of every row and outcome, 0 where the outcome is missing.

    Args:
        outputs: (batch, n_outputs). targets: (batch, n_tasks) scaled, NaN where missing.
    """
    known = torch.nan_to_num(targets, nan=0.0)
    parts: list[Tensor] = [outputs.new_zeros(0)] * targets.shape[1]
    for kind, tasks, columns in outcomes.alike:
        loss = LOSSES[kind]
        if not loss.columnwise:
            parts[tasks[0]] = loss.rows(outputs[:, columns], known[:, tasks[0]])
        elif len(outcomes.alike) == 1:
            return loss.rows(outputs, known)
        else:
            found = loss.rows(outputs[:, columns], known[:, tasks])
            for i, t in enumerate(tasks):
                parts[t] = found[:, i]
    return torch.stack(parts, dim=1)


def summed_losses(
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    outcomes: Outcomes,
    instead: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of each outcome's losses over its observed rows, and the number of these; both (n_tasks,).

    Args:
        weights: weights of the rows, (batch,) or (batch, n_tasks), applied in both sums; None for 1. Other
            arguments as in `row_losses`.
        instead: losses (batch,) of some outcomes, used instead of those computed from their outputs.
    """
    seen = torch.isfinite(targets)
    losses = row_losses(outputs, targets, outcomes)
    if instead:
        columns = [instead.get(task, losses[:, t]) for t, task in enumerate(outcomes.kinds)]
        losses = torch.stack(columns, dim=1)
    losses = losses * seen
    if weights is None:
        return losses.sum(dim=0), seen.sum(dim=0)
    of_each = weights[:, None] if weights.dim() == 1 else weights
    return (losses * of_each).sum(dim=0), (seen * of_each).sum(dim=0)


def multi_task_loss(outputs: Tensor, targets: Tensor, outcomes: Outcomes) -> Tensor:
    """Mean over outcomes of each one's mean loss over its observed rows, () scalar.

    An outcome without an observed row adds 0 and has zero, finite gradients. Shapes as in `row_losses`.
    """
    total, count = summed_losses(outputs, targets, None, outcomes)
    return (total / count.clamp_min(1)).sum() / (count > 0).sum().clamp_min(1)


def soft_loss(outputs: Tensor, taught: Tensor, outcomes: Outcomes) -> Tensor:
    """Mean over outcomes of the loss of outputs with respect to those of a teacher, () scalar.

    Targets are the probabilities of the teacher: cross-entropy for binary, ordinal (per level) and multiclass
    outcomes, squared error for regressions.

    Args:
        outputs, taught: (batch, n_outputs).
    """
    parts = [
        LOSSES[kind].soft(outputs[:, outcomes.places[task]], taught[:, outcomes.places[task]])
        for task, kind in outcomes.kinds.items()
    ]
    return torch.stack(parts).mean() if parts else outputs.sum() * 0.0
