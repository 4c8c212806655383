"""Settings of two-stage brain age."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class RankedLoss(Settings):
    """Squared error + `weight` x (rank error + `differences` x squared error of pairwise age differences).

    Args:
        weight, differences: the published code has 10 and 1.
        temperature: of the soft rank, in standard deviations of age; small is near to the true rank.
    """

    weight: NonNegative = 10.0
    differences: NonNegative = 1.0
    temperature: Positive = 0.1


class TwoStage(Settings):
    """A second network predicts what the rounded estimate of the first leaves over (TSAN, Cheng et al. 2021,
    doi:10.1109/TMI.2021.3085948).

    Args:
        rounding: the first estimate is rounded to multiples of this, in units of age (published: 5 years); `auto` is
            a twentieth of the range of age in the training rows.
        first_estimates: `out_of_fold` makes those of the training rows by networks that did not see them;
            `in_sample` is the published way.
        folds: inner folds of `out_of_fold`; families stay together.
        bias_correction: of the age gap, fitted on training rows (see `training.images.age_gap`).
    """

    rounding: Positive | Literal["auto"] = "auto"
    first_estimates: Literal["out_of_fold", "in_sample"] = "out_of_fold"
    folds: Annotated[int, Field(ge=2)] = 4
    loss: RankedLoss = RankedLoss()
    first: Descent = Descent(steps=300, learning_rate=1e-3, cosine=True)
    second: Descent = Descent(steps=150, learning_rate=3e-4, cosine=True)
    bias_correction: Literal["none", "gap", "prediction"] = "gap"
