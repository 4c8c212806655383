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


class ReconstructionSettings(Settings):
    """Tensor and fibre orientations.

    A response is estimated from the voxels of highest anisotropy, by rank: adult cut-offs (FA above 0.7)
    find nothing in newborns, whose white matter lies at about 0.1 to 0.35.
    """

    tensor_max_b: float = Field(default=1500.0, gt=0, description="s/mm2; beyond it the signal is not a tensor's")
    sh_order: Literal[2, 4, 6, 8, 10] = 8
    tissues: Literal["auto", "one", "two"] = Field(
        default="auto", description="two (white matter and fluid) need two shells; auto takes what the shells allow"
    )
    response_voxels: int = Field(default=300, ge=10, description="as MRtrix3's dwi2response fa")
    response_file: str | None = Field(default=None, description="JSON of a group response; per subject without it")


class TrackingSettings(Settings):
    """Seeds to streamlines.

    Steps of half a voxel are MRtrix3's default (Tournier et al. 2019, doi:10.1016/j.neuroimage.2019.116137).
    Grey matter leaves amplitudes of 1/(4 pi) = 0.08 and its noise in a fibre density of two tissues, so the
    cut lies above; with it, 12 degrees per step gave the fewest false edges on the phantom at all true ones
    found (`benchmarks/tracking.py`). Lengths are neonatal: the term brain measures about 110 mm front to
    back, an adult's 170.
    """

    algorithm: Literal["probabilistic", "deterministic"] = "probabilistic"
    n_streamlines: int = Field(default=100_000, ge=10)
    step_voxels: float = Field(default=0.5, gt=0, le=2)
    max_angle_deg: float = Field(default=12.0, gt=0, lt=90)
    min_length_mm: float = Field(default=10.0, ge=0)
    max_length_mm: float = Field(default=150.0, gt=0)
    fod_cutoff: float = Field(default=0.2, ge=0, description="amplitude below which there is no fibre")
    max_seeds_per_streamline: int = Field(default=20, ge=1)
    seed: int = 0
