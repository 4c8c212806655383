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
        source: origin of the weights; kept beside them in the run folder.
        image: keys of `image` that determine grids, such as voxel size and normalisation, with the values that a study
            with these weights must have.
    """

    source: str = ""
    image: dict[str, Any]

    @field_validator("image")
    @classmethod
    def _are_image_settings(cls, image: dict[str, Any]) -> dict[str, Any]:
        known = set(ImageSettings.model_fields) - ImageSettings.TRAINING
        unknown = sorted(set(image) - known)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not settings of a grid, which are {', '.join(sorted(known))}")
        ImageSettings.model_validate(image)
        return image

    def differences(self, used: ImageSettings) -> list[str]:
        """Keys whose values differ, as `key: value, not value`."""
        wanted = ImageSettings.model_validate(self.image)
        names = {key: "shape3" if key == "size" else key for key in self.image}
        pairs = [(key, getattr(wanted, name), getattr(used, name)) for key, name in names.items()]
        return [f"{key}: {asked}, not {given}" for key, asked, given in pairs if asked != given]
