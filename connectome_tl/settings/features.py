"""Settings of the feature steps that are fitted on training rows, and their order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings, given_of
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.tangent import CORRELATIONS, COVARIANCES, TangentSettings

UnseenSite = Literal["refuse", "reference", "none"]


class HarmoniseSettings(Settings):
    """Site effects of edges, fitted on training rows only.

    `combat` adjusts mean and spread of real-valued edges (Johnson et al. 2007, Fortin et al. 2018);
    `gamma` adjusts the mean of positive edges through a log link and keeps zeros at zero. `protect` names
    covariates (and `age`) whose effect is preserved; an outcome is not allowed, since its value is unknown in
    test rows. A test row of a site that is not in the training rows is refused, adjusted as if it came from the
    reference site, or not adjusted.
    """

    method: Literal["none", "combat", "gamma"] = "none"
    protect: tuple[str, ...] = ()
    unseen: UnseenSite = "refuse"
    reference: str | None = Field(default=None, description="site that replaces unseen ones; default: the largest")
    prior: Literal["edges", "sites"] = Field(
        default="edges", description="whose spread shrinks a site's effects: that over edges, or that over sites"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> HarmoniseSettings:
        if len(set(self.protect)) != len(self.protect):
            raise ValueError("protect names a covariate twice")
        return self

    @model_validator(mode="after")
    def _all_act(self) -> HarmoniseSettings:
        idle = given_of(self, ("protect", "unseen", "reference", "prior")) if self.method == "none" else []
        if idle:
            raise ValueError(f"no effect without method: combat or gamma: {', '.join(idle)}")
        if self.reference is not None and self.unseen != "reference":
            raise ValueError("reference has no effect without unseen: reference")
        return self


class EdgeSettings(Settings):
    """Edge selection, fitted on training rows without their outcomes; other edges are set to 0.

    `consensus` keeps edges that are present in at least this share of the training rows; `n_edges` then keeps those of
    highest variance (after removal of site effects and confounds). `tangent` first projects correlations or covariances
    to the tangent space at the mean of the training rows (`true` stands for covariances of time series); it is not
    defined for counts. By default edges are not projected, but the closed-form core and some baselines use the tangent
    space of correlations beside them, unless it is `false`.
    """

    consensus: Annotated[float, Field(gt=0, le=1)] | None = None
    n_edges: Annotated[int, Field(ge=1)] | None = None
    tangent: TangentSettings | None = None

    @field_validator("tangent", mode="before")
    @classmethod
    def _a_switch_is_enough(cls, value: object) -> object:
        if isinstance(value, bool):
            return COVARIANCES if value else TangentSettings()
        return value

    @property
    def projected(self) -> TangentSettings | None:
        """The tangent space that replaces the edges, if there is one."""
        return None if self.tangent is None or self.tangent.values == "off" else self.tangent


class Confounds(Settings):
    """Covariates that are regressed out of every edge, fitted on training rows.

    `log(column)` stands for the natural logarithm of a column.
    """

    columns: tuple[str, ...] = Field(min_length=1)


class FeatureSettings(Settings):
    """Feature steps that are fitted on training rows, applied in this order: tangent space, site effects, confounds,
    edge selection, scaling. `image` describes the conversion of volumes to grids."""

    harmonise: HarmoniseSettings = HarmoniseSettings()
    confounds: Confounds | None = None
    edges: EdgeSettings = EdgeSettings()
    image: ImageSettings = ImageSettings()

    def in_tangent_space(self) -> FeatureSettings:
        """The same steps in tangent space, by default of correlations."""
        return self.model_copy(update={"edges": EdgeSettings(tangent=self.edges.projected or CORRELATIONS)})
