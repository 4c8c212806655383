"""Interface of all objectives and of their inputs.

An objective maps the model, a batch per role and its targets to named terms whose sum is minimised. It may have
parameters and does not access subjects, files or cohorts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import OutcomeModel

TRAIN, SOURCE, PROBE = "train", "source", "probe"
"""Roles of rows. Batches are drawn of the first two; the third is looked at before and after training."""


class Objective(nn.Module):
    """Base of all objectives.

    Attributes:
        decayed: whether weight decay applies to the objective's own parameters.
        unchanged: roles whose rows are only passed to the model, as they are, so that the model may prepare them
            once.
    """

    decayed = True
    unchanged: frozenset[str] = frozenset()

    def begin(self, model: OutcomeModel) -> None:
        """Called once, before the first step."""

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Named terms, each () scalar; their sum is minimised."""
        raise NotImplementedError


@dataclass(frozen=True)
class ObjectiveSizes:
    """Sizes that an objective needs before its first batch.

    Attributes:
        modalities: sizes by modality (`Modality.sizes`). widths: width of each branch's embedding.
        outcomes: outcomes of the previous stage, which have heads.
        labels: number of labels of the training rows' label maps.
    """

    modalities: Mapping[str, Mapping[str, int]]
    widths: Mapping[str, int]
    outcomes: Outcomes
    labels: int = 0
