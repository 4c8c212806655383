"""THE loop for connectomes: one model, a loss of a batch, a fixed number of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.study import PARTS, Training

StepHook = Callable[[int, float], None]  # (epoch, loss); a pruner raises its own exception to stop


def train(
    model: OutcomeModel,
    loss_of: Callable[[Tensor | None], Tensor],
    n_rows: int,
    settings: Training,
    *,
    extra: Sequence[nn.Parameter] = (),
    hook: StepHook | None = None,
) -> np.ndarray:
    """Train in place for a fixed number of epochs.

    Args:
        loss_of: row numbers of a batch (None for all) to its loss; the mean is over labels seen, so an epoch's loss
            weighs batches by their rows.
        extra: parameters that the objective owns.

    Returns:
        Loss of each epoch, (n_epochs,).
    """
    groups = _parameter_groups(model, settings)
    if extra:
        groups.append({"params": list(extra), "lr": settings.learning_rate})
    moving = [parameter for group in groups for parameter in group["params"]]
    if not moving:
        raise DataError(
            "every part of the model is frozen or absent: nothing would be learned",
            remedy="Leave a part out of `freeze`.",
        )
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    start = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad] if settings.anchor else []
    size = settings.batch_size or n_rows
    curve = np.zeros(settings.epochs)
    model.train()
    for part in settings.freeze:
        _part(model, part).eval()  # frozen parts neither drop out nor move running statistics
    for epoch in range(settings.epochs):
        total = 0.0
        for index in _batches(n_rows, size):
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(index)
            objective = loss
            for parameter, origin in start:
                objective = objective + 0.5 * settings.anchor * (parameter - origin).square().sum()
            objective.backward()
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(moving, settings.clip_norm)
            optimiser.step()
            total += float(loss.detach()) * (n_rows if index is None else len(index))
        curve[epoch] = total / n_rows
        if hook is not None:
            hook(epoch, curve[epoch])
    model.eval()
    return curve


def _batches(n_rows: int, size: int) -> Sequence[Tensor | None]:
    """Row numbers of each batch of an epoch; None for all rows. No batch of one is left over at the end."""
    if size >= n_rows:
        return [None]
    batches = list(torch.randperm(n_rows).split(size))
    if len(batches[-1]) == 1 and size > 1:
        batches[-2:] = [torch.cat(batches[-2:])]  # batch statistics need two rows
    return batches


def _parameter_groups(model: OutcomeModel, settings: Training) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for part in PARTS:
        module = _part(model, part)
        parameters = list(module.parameters())
        if part in settings.freeze:
            for parameter in parameters:
                parameter.requires_grad_(False)
        elif parameters:
            rate = settings.learning_rate * settings.part_learning_rates.get(part, 1.0)
            groups.append({"params": parameters, "lr": rate})
    return groups


def _part(model: OutcomeModel, part: str) -> nn.Module:
    return getattr(model, part) or nn.Identity()
