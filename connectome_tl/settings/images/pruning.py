"""Settings of filter pruning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count, Probability
from connectome_tl.settings.images.descent import Descent


class TaylorPruning(Settings):
    """Remove the filters whose removal changes the loss least (Molchanov et al. 2019, arXiv:1906.10771).

    Args:
        target: share of the multiply-accumulates to remove.
        per_event: share of all filters that each removal step takes away.
        momentum: weight of the previous score after a removal step.
        order: 1 uses the gradient of each gate, 2 also its second derivative (one more backward pass per filter).
        per_cost: divide scores by the multiply-accumulates that the removal saves.
        keep: smallest number of removable units per layer (filters, or groups of filters with group normalisation).
        between: fine-tuning steps between removals; scores are averaged over these batches.
        after: fine-tuning steps after the last removal.
    """

    target: Annotated[float, Field(gt=0, lt=1)] = 0.4
    per_event: Annotated[float, Field(gt=0, le=1)] = 0.02
    momentum: Probability = 0.9
    order: Literal[1, 2] = 1
    per_cost: bool = True
    keep: Count = 1
    between: Descent = Descent(steps=10, learning_rate=1e-4)
    after: Descent = Descent(steps=100, learning_rate=1e-4)
