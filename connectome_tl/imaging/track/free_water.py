"""Free-water fraction and the anisotropy of tissue, by a two-compartment tensor model.

A thin call to dipy's free-water tensor (Hoy et al. 2014, doi:10.1016/j.neuroimage.2014.09.053; Henriques et al.
2017, doi:10.5281/zenodo.1069540). A single shell is refused, since fluid and tissue cannot be separated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi


@dataclass(frozen=True, eq=False)
class FreeWaterMaps:
    """Maps (x, y, z) float32, 0 outside the mask.

    Attributes:
        fraction: share of free water, 0 to 1.
        fa, md: anisotropy and mean diffusivity (mm2/s) of the tissue left.
    """

    fraction: np.ndarray
    fa: np.ndarray
    md: np.ndarray


def free_water_volumes(dwi: Dwi, *, max_b: float) -> np.ndarray:
    """Volumes of the unweighted and of all shells up to `max_b` s/mm2.

    Raises:
        DataError: fewer than two such shells.
    """
    shells = dwi.shells()
    low = [volumes for b, volumes in shells if b <= max_b]
    if len(low) < 2:
        raise DataError(
            "free water needs two weighted shells",
            expected=f"two up to {max_b:.0f} s/mm2 (reconstruction.tensor_max_b)",
            got=", ".join(f"{b:.0f}" for b, _ in shells) or "none",
            subject=dwi.subject,
            file=dwi.file,
            remedy="Set reconstruction.free_water: false.",
        )
    return np.sort(np.concatenate([np.flatnonzero(dwi.is_b0), *low]))


def fit_free_water(dwi: Dwi, *, max_b: float) -> FreeWaterMaps:
    """Fit every voxel of the mask (weighted linear search over the fraction; milliseconds a voxel).

    Raises:
        DataError: fewer than two shells up to `max_b`.
    """
    from dipy.core.gradients import gradient_table
    from dipy.reconst.fwdti import FreeWaterTensorModel

    chosen = free_water_volumes(dwi, max_b=max_b)
    table = gradient_table(dwi.bvals[chosen], bvecs=dwi.voxel_directions[chosen], b0_threshold=dwi.b0_max)
    signal = np.maximum(dwi.data[dwi.mask][:, chosen].astype(float), 1e-6)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # voxels of pure fluid have no tissue tensor
        fit = FreeWaterTensorModel(table, fit_method="WLS").fit(signal)
        found = (fit.f, fit.fa, fit.md)

    def image(values: np.ndarray) -> np.ndarray:
        whole = np.zeros(dwi.mask.shape, dtype=np.float32)
        whole[dwi.mask] = np.where(np.isfinite(values), values, 0.0)
        return whole

    return FreeWaterMaps(*(image(np.asarray(values)) for values in found))
