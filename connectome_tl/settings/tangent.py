"""Settings of the tangent space of correlations or covariances."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings


class TangentSettings(Settings):
    """Edges as displacements from the mean of the training rows.

    `values` says what the matrices hold; it is off for counts, lengths and anything else that is not a
    covariance. Correlations C become (1 - s) C + s I first, which makes them invertible even where a series
    has fewer frames than regions. The arithmetic mean costs about a tenth of the geometric one.
    """

    values: Literal["off", "correlation", "covariance"] = "off"
    shrinkage: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mean: Literal["arithmetic", "geometric"] = "arithmetic"


CORRELATIONS = TangentSettings(values="correlation")
# Covariances come from a shrinkage estimator already (Ledoit-Wolf), with nilearn's geometric mean.
COVARIANCES = TangentSettings(values="covariance", shrinkage=0.0, mean="geometric")
