"""Settings of the tangent space of correlations or covariances."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from connectome_tl.settings.base import Settings, given_of


def _switched(value: object) -> object:
    """YAML reads off without quotes as false."""
    return "off" if value is False else value


class TangentSettings(Settings):
    """Edges as tangent-space projections at the mean of the training rows.

    `values` states the kind of matrix; the tangent space is not defined for counts, lengths and other non-covariances.
    Correlations C are first shrunk to (1 - s) C + s I, which is invertible even if a time series has fewer frames than
    regions. The arithmetic mean takes about a tenth of the time of the geometric one.
    """

    values: Annotated[Literal["off", "correlation", "covariance"], BeforeValidator(_switched)] = "off"
    shrinkage: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mean: Literal["arithmetic", "geometric"] = "arithmetic"

    @model_validator(mode="after")
    def _all_act(self) -> TangentSettings:
        unused = given_of(self, ("shrinkage", "mean")) if self.values == "off" else []
        if self.values == "covariance" and self.shrinkage:
            unused = given_of(self, ("shrinkage",))
        if unused:
            needed = "correlation" if "shrinkage" in unused else "correlation or covariance"
            raise ValueError(f"no effect without values: {needed}: {', '.join(unused)}")
        return self


CORRELATIONS = TangentSettings(values="correlation")
# Covariances are already shrunk (Ledoit-Wolf), with nilearn's geometric mean.
COVARIANCES = TangentSettings(values="covariance", shrinkage=0.0, mean="geometric")
