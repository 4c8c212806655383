"""Settings of the brain-age gap."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectome_tl.settings.base import Settings


class BrainAge(Settings):
    """Brain-age gap, predicted minus true age, of every tested subject, optionally compared between cases and controls.

    Args:
        task: a regression of the study whose unit is one of age (years, months, weeks, days).
        correction: linear correction of the gap's dependence on age, fitted on out-of-fold predictions of each fold's
            training rows: `gap` (gap on age; uses the true age), `prediction` (predicted age on age) or `none`.
        case: a binary outcome of the target cohort, 1 for a case; null for no comparison.
    """

    task: str = Field(default="age", min_length=1)
    correction: Literal["none", "gap", "prediction"] = "gap"
    case: str | None = None
