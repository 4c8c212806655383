"""Cards beside weight files: how volumes were prepared for the weights."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.volumes import ImageSettings

CARD = ".card.yaml"  # replaces the ending of the weight file


class WeightsCard(Settings):
    """Contents of `NAME.card.yaml` beside the weight file `NAME.pth` or `NAME.safetensors`.

    Args:
        source: origin of the weights, for the methods section of a paper.
        image: keys of `image` that a study with these weights must have, such as voxel size and normalisation.
    """

    source: str = ""
    image: dict[str, Any]

    @field_validator("image")
    @classmethod
    def _are_image_settings(cls, image: dict[str, Any]) -> dict[str, Any]:
        ImageSettings.model_validate(image)
        return image

    def differences(self, used: ImageSettings) -> list[str]:
        """Keys whose values differ, as `key: value, not value`."""
        wanted = ImageSettings.model_validate(self.image)
        pairs = [(key, getattr(wanted, key), getattr(used, key)) for key in self.image]
        return [f"{key}: {asked}, not {given}" for key, asked, given in pairs if asked != given]
