"""Training loop of the image methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor, nn

from connectome_tl.errors import DivergedError
from connectome_tl.nn.devices import exact_on_gpu
from connectome_tl.settings.images.descent import Descent
from connectome_tl.training.networks.loop import batches
from connectome_tl.training.networks.optimisers import AdamW

LossOf = Callable[[np.ndarray], Tensor]  # row numbers of a batch to its loss


@exact_on_gpu()
def descend(
    parameters: Iterable[nn.Parameter],
    loss_of: LossOf,
    n_rows: int,
    settings: Descent,
    rng: np.random.Generator,
    *,
    before: Callable[[np.ndarray], None] | None = None,
    after: Callable[[], None] | None = None,
) -> np.ndarray:
    """Minimise the mean loss of batches, in place, on the device of the parameters.

    Args:
        loss_of: called with the row numbers of a batch.
        before: called with the row numbers of a batch before its step (a critic's own steps).
        after: called after the backward pass and before the update of the weights.

    Returns:
        The loss of each step.

    Raises:
        DivergedError: a loss is not finite.
    """
    moving = [parameter for parameter in parameters if parameter.requires_grad]
    optimiser = AdamW(moving, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    draws, losses = batches(n_rows, min(settings.batch_size, n_rows), rng), np.zeros(settings.steps)
    for step in range(settings.steps):
        drawn = next(draws)
        index = np.arange(n_rows) if drawn is None else drawn
        if before is not None:
            before(index)
        if settings.cosine:
            rate = 0.5 * settings.learning_rate * (1 + math.cos(math.pi * step / settings.steps))
            optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(index)
        loss.backward()
        losses[step] = float(loss.detach())
        if not math.isfinite(losses[step]):
            raise DivergedError(
                f"training diverged, the loss is not finite at step {step}",
                got=str(losses[step]),
                remedy=f"Lower learning_rate (now {settings.learning_rate:g}) of the method's settings, and check the "
                "intensities of the volumes.",
            )
        if after is not None:
            after()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(moving, settings.clip_norm)
        optimiser.step()
    return losses
