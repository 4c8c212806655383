"""Masked multi-task loss: a missing outcome is NaN in the data, a mask here, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs (n, n_outputs) and known targets (n,) to the loss of each row (n,)."""


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    # Twice the cross-entropy is about as steep as a squared error in units of the standard deviation.
    return 2.0 * functional.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")


def _regression(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets) ** 2


def _ordinal(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of "above level k" for every k (Frank and Hall 2001, doi:10.1007/3-540-44795-4_13)."""
    levels = torch.arange(outputs.shape[1], device=outputs.device)
    above = (targets[:, None] > levels).to(outputs.dtype)
    return 2.0 * functional.binary_cross_entropy_with_logits(outputs, above, reduction="none").mean(dim=1)


def _multiclass(outputs: Tensor, targets: Tensor) -> Tensor:
    return 2.0 * functional.cross_entropy(outputs, targets.long(), reduction="none")


LOSSES: dict[str, RowLoss] = {
    "binary": _binary,
    "regression": _regression,
    "ordinal": _ordinal,
    "multiclass": _multiclass,
}


def multi_task_loss(
    outputs: Mapping[str, Tensor], targets: Tensor, kinds: Mapping[str, str]
) -> Tensor:
    """Mean over outcomes of each one's mean loss over its observed rows, () scalar.

    An outcome without an observed row adds 0 and has zero, finite gradients.

    Args:
        outputs: (batch, n_outputs) by outcome.
        targets: (batch, n_tasks) scaled, NaN where missing, in the order of `kinds`.
        kinds: kind of each outcome.
    """
    seen = torch.isfinite(targets)
    total = targets.new_zeros(())
    for t, (task, kind) in enumerate(kinds.items()):
        known = torch.where(seen[:, t], targets[:, t], torch.zeros_like(targets[:, t]))
        loss = LOSSES[kind](outputs[task], known)
        total = total + (loss * seen[:, t]).sum() / seen[:, t].sum().clamp_min(1)
    return total / seen.any(dim=0).sum().clamp_min(1)


def row_losses(outputs: Mapping[str, Tensor], targets: Tensor, kinds: Mapping[str, str]) -> Tensor:
    """(batch, n_tasks) loss of every row and outcome, NaN where the outcome is missing."""
    columns = []
    for t, (task, kind) in enumerate(kinds.items()):
        seen = torch.isfinite(targets[:, t])
        known = torch.where(seen, targets[:, t], torch.zeros_like(targets[:, t]))
        columns.append(torch.where(seen, LOSSES[kind](outputs[task], known), torch.nan))
    return torch.stack(columns, dim=1)
