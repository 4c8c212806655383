"""Settings of two-stage brain age."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class RankedLoss(Settings):
    """Squared error + `weight` x (rank error + `differences` x squared error of pairwise age differences).

    Args:
        weight, differences: 10 and 1 in the published code.
        temperature: temperature of the soft rank, in standard deviations of age; small values approach the true rank.
    """

    weight: NonNegative = 10.0
    differences: NonNegative = 1.0
    temperature: Positive = 0.1


class TwoStage(Settings):
    """A second network predicts the residual of the rounded estimate of a first network (TSAN, Cheng et al. 2021,
    doi:10.1109/TMI.2021.3085948).

    Args:
        rounding: the first estimate is rounded to multiples of this, in units of age (published: 5 years); `auto` is
            1/20 of the age range of the training rows.
        first_estimates: `out_of_fold` uses held-out predictions of the training rows; `in_sample` is the published
            method.
        folds: number of inner folds of `out_of_fold`; families are kept together.
    """

    rounding: Positive | Literal["auto"] = "auto"
    first_estimates: Literal["out_of_fold", "in_sample"] = "out_of_fold"
    folds: Annotated[int, Field(ge=2)] = 4
    loss: RankedLoss = RankedLoss()
    first: Descent = Descent(steps=300, learning_rate=1e-3, cosine=True)
    second: Descent = Descent(steps=150, learning_rate=3e-4, cosine=True)
