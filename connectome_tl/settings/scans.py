"""The `scans:` block of a cohort: a BIDS folder from which `run` makes connectomes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from connectome_tl.settings.base import Settings
from connectome_tl.settings.imaging import ConnectomesSettings

MOTION = "mean_fd"  # covariate of connectomes from scans: mean framewise displacement in mm
EdgeTransform = Literal["none", "log1p"]
ScanVolume = Literal["T1w", "T2w", "FA", "MD"]


class ScanFolder(Settings):
    """Scans of the subjects of the participants table. Paths are relative to `cohort.yaml`.

    Only subjects of the table are processed. If a scan fails or is absent, the connectome of the subject is missing. If
    the cohort's id is one column, each subject must have one scan in the folder.
    """

    bids: str = Field(description="raw BIDS folder, QSIPrep's derivatives, or a dHCP release")
    settings: Annotated[
        Annotated[str, Tag("file")] | Annotated[ConnectomesSettings, Tag("settings")],
        Discriminator(lambda value: "file" if isinstance(value, str) else "settings"),
    ] = Field(default=ConnectomesSettings(), description="those of `connectomes`, or a file with them")
    out: str | None = Field(default=None, description="folder for the connectomes; default: in the folder of the run")
    transform: EdgeTransform | tuple[EdgeTransform, ...] = Field(
        default="none", description="none or log1p (counts); several: one per measure"
    )
    regional: bool = Field(default=True, description="volume, FA and MD of each region in addition to the connectome")
    volumes: ScanVolume | None = Field(
        default=None, description="image of the voxel pathway: T1w or T2w of the folder, or the map FA or MD"
    )
