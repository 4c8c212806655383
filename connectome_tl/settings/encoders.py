"""What the settings of every encoder share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Norm = Literal["layer", "batch", "none"]


class EncoderSettings(Settings):
    """Settings of a branch: which modality it reads, and a sentence for the methods section."""

    modality: ClassVar[str] = "connectome"

    @property
    def is_atlas_bound(self) -> bool:
        """Whether the weights belong to one set of regions in one order."""
        return True

    def describe(self) -> str:
        """One sentence for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")
