"""Settings of the feature steps that are fitted on training rows, and their order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.tangent import CORRELATIONS, COVARIANCES, TangentSettings

UnseenSite = Literal["refuse", "reference", "none"]


class HarmoniseSettings(Settings):
    """Site effects of edges, fitted on training rows only.

    `combat` adjusts mean and spread of real-valued edges (Johnson et al. 2007, Fortin et al. 2018);
    `gamma` adjusts the mean of positive edges through a log link and keeps zeros zero. `protect` names
    covariates (and `age`) whose effect is kept; an outcome can never be one, since its value in a
    test row is not known. A test row of a site that training has not seen is refused, adjusted as if
    it came from the reference site, or left as it is.
    """

    method: Literal["none", "combat", "gamma"] = "none"
    protect: tuple[str, ...] = ()
    unseen: UnseenSite = "refuse"
    reference: str | None = Field(default=None, description="site that stands in for unseen ones; default: the largest")
    prior: Literal["edges", "sites"] = Field(
        default="edges", description="whose spread shrinks a site's effects: that over edges, or that over sites"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> HarmoniseSettings:
        if len(set(self.protect)) != len(self.protect):
            raise ValueError("protect names a covariate twice")
        return self


class EdgeSettings(Settings):
    """Which edges are learned from, decided on training rows without their outcomes; the others are set to 0.

    `consensus` keeps an edge that at least this share of the training rows has; `n_edges` then keeps those
    that vary most among them (after site effects and confounds are removed). `tangent` first turns
    correlations or covariances into displacements from the mean of the training rows (`true` means
    covariances of time series); it makes no sense for counts and is off by default.
    """

    consensus: Annotated[float, Field(gt=0, le=1)] | None = None
    n_edges: Annotated[int, Field(ge=1)] | None = None
    tangent: TangentSettings | None = None

    @field_validator("tangent", mode="after")
    @classmethod
    def _off_is_none(cls, value: TangentSettings | None) -> TangentSettings | None:
        return None if value is None or value.values == "off" else value

    @field_validator("tangent", mode="before")
    @classmethod
    def _a_switch_is_enough(cls, value: object) -> object:
        if isinstance(value, bool):
            return COVARIANCES if value else None
        return value


class Confounds(Settings):
    """Covariates whose linear part is taken out of every edge, fitted on training rows.

    A column written `log(column)` is taken as its natural logarithm.
    """

    columns: tuple[str, ...] = Field(min_length=1)


class FeatureSettings(Settings):
    """Everything that is fitted on training rows before a model sees them, applied in this order:
    tangent space, site effects, confounds, choice of edges, scaling. `image` says how volumes become grids."""

    harmonise: HarmoniseSettings = HarmoniseSettings()
    confounds: Confounds | None = None
    edges: EdgeSettings = EdgeSettings()
    image: ImageSettings = ImageSettings()

    def in_tangent_space(self) -> FeatureSettings:
        """The same steps on displacements in tangent space, of correlations where nothing else is said."""
        return self.model_copy(update={"edges": EdgeSettings(tangent=self.edges.tangent or CORRELATIONS)})
