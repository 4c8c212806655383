"""Every knob of the imaging half. Units are in the names; defaults are for neonates, with their sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectome_tl.settings.base import Settings


class AssemblySettings(Settings):
    """Which region a streamline's end belongs to."""

    assignment: Literal["radial", "endvoxel"] = "radial"
    radius_mm: float = Field(default=4.0, gt=0, le=50)
    diagonal: Literal["zero", "keep"] = "zero"
