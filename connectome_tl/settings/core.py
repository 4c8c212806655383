"""Settings of the closed-form core."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from connectome_tl.settings.base import Settings

Positive = Annotated[float, Field(gt=0)]
PENALTIES: tuple[float, ...] = tuple(float(a) for a in np.logspace(-2, 3, 11))


class CoreSettings(Settings):
    """Settings of the closed-form core. Sizes are numbers of families with a known outcome.

    Penalties apply to Gram matrices with a mean eigenvalue of 1, so that they are comparable between blocks.
    """

    penalties: tuple[Positive, ...] = Field(default=PENALTIES, min_length=1, description="in increasing order")
    clip: Positive | None = Field(default=4.0, description="columns are cut at this many standard deviations")
    relax: bool = Field(default=True, description="a slope in addition to the penalty, for blocks that request it")
    stein: bool = Field(default=True, description="shrink the stacked part of a regression")
    average_below: int = Field(default=150, ge=0, description="the kernel average is used below this size")
    average_points: int = Field(default=256, ge=8, description="scale vectors of the kernel average")
    average_range: tuple[float, float] = Field(default=(-7.0, 3.0), description="log scale of a block, lowest, highest")
    average_slope: Positive = Field(default=3.0, ge=1, description="largest slope of the average, where relaxed")
    rbf_from: int = Field(default=100, ge=0, description="radial kernels are used from this size on")
    quadratic_from: int = Field(default=100, ge=0, description="quadratic kernels are used from this size on")
    quadratic_components: int = Field(
        default=16, ge=0, description="leading components of a block whose products a quadratic kernel uses; 0 for none"
    )
    risks_from: int = Field(default=100, ge=2, description="below this size risks are shrunk to the base rate")
    least_slope: Positive = Field(default=0.05, description="smallest slope of the risks on the standardised score")
    exact_up_to: int = Field(default=3000, ge=8, description="rows up to which nothing is approximated")
    unpenalised: tuple[str, ...] = Field(
        default=(), description="clinical covariates of the target known to be strong: they enter without a penalty"
    )
    landmarks: int = Field(default=2000, ge=8, description="rows that span the fit above that (Nystrom)")

    @model_validator(mode="after")
    def _in_order(self) -> CoreSettings:
        if tuple(sorted(set(self.penalties))) != self.penalties:
            raise ValueError("penalties must increase")
        if self.average_range[0] >= self.average_range[1]:
            raise ValueError("average_range is lowest, highest")
        if self.landmarks > self.exact_up_to:
            raise ValueError("landmarks cannot exceed exact_up_to")
        return self
