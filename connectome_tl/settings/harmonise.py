"""How site effects are removed: by which model, what is protected, what an unseen site means."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Settings

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


NO_HARMONISATION = HarmoniseSettings()
