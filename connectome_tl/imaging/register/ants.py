"""Engine `ants`: affine and SyN of ANTs through antspyx, seeded and on one thread: equal images give equal maps.

Avants et al. 2011 (doi:10.1016/j.neuroimage.2010.09.025). Both steps take mutual information, which does not
mind an inverted contrast; on one thread its local correlation takes many times as long.
"""

from __future__ import annotations

import random
import tempfile
from typing import Any

import numpy as np

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes


def register_with_ants(
    fixed: Volume, moving: Volume, steps: tuple[int, ...], *, lesion: np.ndarray | None = None
) -> Warp:
    """The map that brings `moving` onto `fixed`, on the voxels of `fixed`.

    Args:
        steps: iterations of SyN from the coarsest to the finest of its grids.
        lesion: (x, y, z) bool of the fixed image; left out of the cost of all stages.

    Raises:
        MissingInputError: antspyx is not installed.
        DataError: an image whose axes are not at right angles, which ITK cannot hold.
    """
    ants = _ants()
    f, m = _image(ants, fixed), _image(ants, moving)
    mask = None if lesion is None else _image(ants, Volume((~lesion).astype(np.float32), fixed.affine))
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            f,
            m,
            type_of_transform="SyN",
            reg_iterations=steps,
            outprefix=f"{folder}/",
            mask=mask,
            mask_all_stages=mask is not None,
        )
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in fixed.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        to_lps = _TO_LPS @ fixed.affine
        places = _moved(ants, grid @ to_lps[:3, :3].T + to_lps[:3, 3], found["fwdtransforms"])
        affine = _affine(ants, [name for name in found["fwdtransforms"] if name.endswith(".mat")])
    return Warp(affine, (places @ _TO_LPS[:3, :3]).reshape(*fixed.shape, 3), fixed.affine)


def _ants() -> Any:
    try:
        import ants
    except ImportError as error:
        raise MissingInputError(
            "registration.engine: ants needs antspyx",
            remedy="pip install 'connectome-tl[ants]', or take registration.engine: dipy.",
        ) from error
    # One seed and one thread (more add up in another order); that it also seeds Python and numpy is undone.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    ants.config.set_ants_deterministic(True, 1)
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    return ants


def _image(ants: Any, volume: Volume) -> Any:
    affine = _TO_LPS @ volume.affine
    direction = affine[:3, :3] / volume.zooms
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise DataError(
            "the axes of the image are not at right angles",
            subject=volume.subject,
            file=volume.file,
            remedy="ANTs cannot hold it: resample it, or take registration.engine: dipy.",
        )
    return ants.from_numpy(
        np.asarray(volume.data, dtype=np.float32),
        origin=affine[:3, 3].tolist(),
        spacing=volume.zooms.tolist(),
        direction=direction,
    )


def _moved(ants: Any, points: np.ndarray, transforms: list[str]) -> np.ndarray:
    """Points (n, 3) in LPS mm of the fixed image to LPS mm of the moving one."""
    import pandas as pd

    table = pd.DataFrame(points, columns=["x", "y", "z"])
    return np.asarray(ants.apply_transforms_to_points(3, table, transforms)[["x", "y", "z"]], dtype=float)


def _affine(ants: Any, transforms: list[str]) -> np.ndarray:
    """(4, 4) fixed mm to moving mm, RAS+, of the affine stages: beyond the fixed image nothing else is known."""
    corners = np.vstack([np.zeros(3), 100 * np.eye(3)])
    moved = _moved(ants, corners, transforms)
    affine = np.eye(4)
    affine[:3, :3] = ((moved[1:] - moved[0]) / 100).T
    affine[:3, 3] = moved[0]
    return _TO_LPS @ affine @ _TO_LPS
