"""Settings of cortical surface regions (GIFTI files of each hemisphere)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.placeholders import of_scan

FileOfScan = Annotated[str, AfterValidator(of_scan)]


class Hemisphere(Settings):
    """Files of one hemisphere, relative to the BIDS folder, with `{subject}` and `{session}` in their names."""

    white: FileOfScan = Field(description="inner surface (.surf.gii)")
    pial: FileOfScan = Field(description="outer surface (.surf.gii)")
    labels: FileOfScan = Field(description="regions of its vertices (.label.gii)")


class SurfaceFiles(Settings):
    """Surfaces whose regions are converted to voxels of the anatomical image.

    Voxels are those of `ribbon` (FreeSurfer's numbers of the grey ribbon by default), else those between the surfaces.
    If both hemispheres share numbers, those of the right one are shifted to the next thousand.
    """

    left: Hemisphere | None = None
    right: Hemisphere | None = None
    ribbon: FileOfScan | None = Field(default=None, description="label image; relative to the BIDS folder, as above")
    ribbon_left: int = Field(default=3, ge=1)
    ribbon_right: int = Field(default=42, ge=1)

    @model_validator(mode="after")
    def _not_empty(self) -> SurfaceFiles:
        if self.left is None and self.right is None:
            raise ValueError("surfaces needs left, right or both: {white, pial, labels} each")
        return self
