"""Registration engine `ants`: affine and SyN by antspyx, seeded and single-threaded.

Avants et al. 2011 (doi:10.1016/j.neuroimage.2010.09.025). The affine step uses mutual information; SyN uses it, too, or
local correlation (Avants et al. 2008, doi:10.1016/j.media.2007.06.004) in windows of 3 voxels, since larger ones are
slower and not more accurate (`benchmarks/registration.py`).
"""

from __future__ import annotations

import random
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from connectome_tl.errors import DataError, MissingInputError, OutputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes


def ants_is_installed() -> bool:
    """Whether antspyx can be imported."""
    return find_spec("ants") is not None


def has_right_angles(volume: Volume) -> bool:
    """Whether the axes of an image are orthogonal, as ITK requires."""
    direction = volume.affine[:3, :3] / volume.zooms
    return bool(np.abs(direction.T @ direction - np.eye(3)).max() <= 1e-3)


def n4_field(image: Volume, mask: np.ndarray, iterations: list[int], tolerance: float) -> np.ndarray:
    """Bias field, (x, y, z), of an image within a mask, by N4."""
    ants = _ants()
    plain = np.diag([*image.zooms, 1.0])  # the field does not depend on the orientation of the axes
    field = ants.n4_bias_field_correction(
        _image(ants, Volume(image.data, plain)),
        mask=_image(ants, Volume(mask.astype(np.float32), plain)),
        shrink_factor=1,
        convergence={"iters": iterations, "tol": tolerance},
        return_bias_field=True,
    )
    return np.asarray(field.numpy(), dtype=np.float64)


def register_with_ants(
    fixed: Volume,
    moving: Volume,
    steps: tuple[int, ...],
    *,
    lesion: np.ndarray | None = None,
    metric: Literal["mutual", "local"] = "mutual",
    radius: int = 1,
) -> Warp:
    """Register `moving` to `fixed`; the map is defined on the voxels of `fixed`.

    Args:
        steps: iterations of SyN from the coarsest to the finest of its grids.
        lesion: (x, y, z) bool of the fixed image; excluded from the cost of all stages.
        metric: metric of SyN: mutual information, or local correlation.
        radius: of the windows of local correlation, in voxels.

    Raises:
        MissingInputError: antspyx is not installed.
        DataError: an image with oblique axes, which ITK does not support.
        OutputError: temporary files cannot be written.
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
            syn_metric="mattes" if metric == "mutual" else "CC",
            syn_sampling=32 if metric == "mutual" else radius,  # bins of the histogram
            outprefix=f"{folder}/",
            mask=mask,
            mask_all_stages=mask is not None,
        )
        _require_whole(found["fwdtransforms"])
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
            remedy="pip install 'connectome-tl[ants]', or use registration.engine: dipy.",
        ) from error
    # One seed and one thread (the order of summation depends on threads). antspyx also seeds Python and numpy; this is
    # undone.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    ants.config.set_ants_deterministic(True, 1)
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    return ants


def _image(ants: Any, volume: Volume) -> Any:
    affine = _TO_LPS @ volume.affine
    if not has_right_angles(volume):
        raise DataError(
            "the axes of the image are not at right angles",
            subject=volume.subject,
            file=volume.file,
            remedy="ANTs cannot represent it: resample it, or use registration.engine: dipy.",
        )
    return ants.from_numpy(
        np.asarray(volume.data, dtype=np.float32),
        origin=affine[:3, 3].tolist(),
        spacing=volume.zooms.tolist(),
        direction=affine[:3, :3] / volume.zooms,
    )


def _require_whole(transforms: list[str]) -> None:
    """Refuse files of transforms that ANTs could not write to their end, which it reads as other transforms."""
    import nibabel as nib

    for name in transforms:
        try:
            whole = Path(name).stat().st_size > 0
            if whole and not name.endswith(".mat"):
                np.asarray(nib.load(name).dataobj)
        except Exception as error:
            raise _not_written(name) from error
        if not whole:
            raise _not_written(name)


def _not_written(name: str) -> OutputError:
    return OutputError(
        "ANTs could not write its temporary files",
        file=Path(name).parent.parent,
        remedy="Free space there, or set TMPDIR to a folder on another disk.",
    )


def _moved(ants: Any, points: np.ndarray, transforms: list[str]) -> np.ndarray:
    """Points (n, 3) in LPS mm of the fixed image to LPS mm of the moving one."""
    import pandas as pd

    table = pd.DataFrame(points, columns=["x", "y", "z"])
    return np.asarray(ants.apply_transforms_to_points(3, table, transforms)[["x", "y", "z"]], dtype=float)


def _affine(ants: Any, transforms: list[str]) -> np.ndarray:
    """(4, 4) map of the affine stages, fixed mm to moving mm, RAS+, which is used outside the fixed image."""
    corners = np.vstack([np.zeros(3), 100 * np.eye(3)])
    moved = _moved(ants, corners, transforms)
    affine = np.eye(4)
    affine[:3, :3] = ((moved[1:] - moved[0]) / 100).T
    affine[:3, 3] = moved[0]
    return _TO_LPS @ affine @ _TO_LPS
