"""Masked multi-task loss: a missing outcome is NaN in the data, a mask here, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def multi_task_loss(outputs: Tensor, targets: Tensor, kinds: Sequence[str]) -> Tensor:
    """Mean over tasks of each task's mean loss over its observed rows, () scalar.

    Binary tasks: cross-entropy of logits; regression: squared error in units of the training
    standard deviation. A task without an observed row adds 0 and has zero, finite gradients.

    Shapes: outputs (batch, n_tasks), targets (batch, n_tasks) with NaN where missing.
    """
    seen = torch.isfinite(targets)
    known = torch.where(seen, targets, torch.zeros_like(targets))
    total = outputs.new_zeros(())
    for t, kind in enumerate(kinds):
        if kind == "binary":
            loss = functional.binary_cross_entropy_with_logits(outputs[:, t], known[:, t], reduction="none")
        else:
            loss = (outputs[:, t] - known[:, t]) ** 2
        total = total + (loss * seen[:, t]).sum() / seen[:, t].sum().clamp_min(1)
    n_seen = seen.any(dim=0).sum().clamp_min(1)
    return total / n_seen
