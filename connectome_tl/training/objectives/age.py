"""Objective: predict the age at scan."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from connectome_tl.errors import InternalError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes, multi_task_loss
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import ScanAge
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes

_AGE = Outcomes({"age": "regression"}, {"age": 1})


class AgePrediction(Objective):
    """Squared error of the scaled age, predicted linearly from the embedding; unknown ages are masked."""

    unchanged = frozenset({TRAIN})

    def __init__(self, settings: ScanAge, sizes: ObjectiveSizes) -> None:
        super().__init__()
        del settings
        self.head = nn.Linear(sizes.widths["connectome"], 1)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        ages = targets[TRAIN]
        if ages is None:
            raise InternalError("prediction of the age needs the ages of the pool")
        predicted = self.head(model.branches["connectome"](batches[TRAIN].connectome).embedding)
        return {"age": multi_task_loss(predicted, ages, _AGE)}
