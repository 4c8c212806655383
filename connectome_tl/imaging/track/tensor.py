"""Diffusion tensor by iteratively reweighted least squares.

Weights are the signals predicted in the previous step, starting from the measured ones (Veraart et al. 2013,
doi:10.1016/j.neuroimage.2013.05.028). Two steps, with the same results as MRtrix3's `dwi2tensor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.imaging.read.dwi import Dwi

_BLOCK = 20_000
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@dataclass(frozen=True, eq=False)
class TensorMaps:
    """Scalar maps of the tensor, each (x, y, z) float32, 0 outside the mask.

    Attributes:
        fa: fractional anisotropy, 0 to 1.
        md, ad, rd: mean, axial and radial diffusivity, mm2/s.
        principal: (x, y, z, 3) main direction in world axes.
    """

    fa: np.ndarray
    md: np.ndarray
    ad: np.ndarray
    rd: np.ndarray
    principal: np.ndarray


def tensor_volumes(dwi: Dwi, *, max_b: float) -> np.ndarray:
    """Volumes a tensor is fitted to: up to `max_b` where that leaves six directions, else the lowest shell too."""
    use = dwi.bvals <= max_b
    shells = dwi.shells()
    if (use & ~dwi.is_b0).sum() < 6 and shells:
        use |= dwi.is_b0
        for _, volumes in shells:
            use[volumes] = True
            if (use & ~dwi.is_b0).sum() >= 6:
                break
    return np.flatnonzero(use)


def fit_tensor(dwi: Dwi, volumes: np.ndarray | None = None, *, n_steps: int = 2) -> np.ndarray:
    """Tensor of every voxel of the mask, (n_voxels, 6): xx, yy, zz, xy, xz, yz in world axes, mm2/s.

    Args:
        volumes: indices of the volumes to fit; all by default.
    """
    chosen = np.arange(dwi.n_volumes) if volumes is None else volumes
    g, b = dwi.directions[chosen], dwi.bvals[chosen]
    design = np.empty((len(chosen), 7))
    for column, (i, j) in enumerate(_PAIRS):
        design[:, column] = -b * g[:, i] * g[:, j] * (1 if i == j else 2)
    design[:, 6] = 1.0
    design[:, :6] /= 1000.0  # so that both kinds of unknown are of one size
    products = (design[:, :, None] * design[:, None, :]).reshape(len(chosen), 49)
    voxels = np.argwhere(dwi.mask)
    out = np.zeros((len(voxels), 6))
    for start in range(0, len(voxels), _BLOCK):
        part = voxels[start : start + _BLOCK]
        signal = dwi.data[part[:, 0], part[:, 1], part[:, 2]][:, chosen].astype(float)
        # Non-positive values have no logarithm and get a very small weight.
        floor = np.maximum(1e-6 * signal.max(axis=1, keepdims=True), 1e-12)
        signal = np.maximum(signal, floor)
        logs, weight = np.log(signal), signal
        for step in range(n_steps + 1):
            squared = weight**2
            squared /= squared.mean(axis=1, keepdims=True)
            normal = (squared @ products).reshape(-1, 7, 7)
            # The smallest ridge that keeps a voxel without information from being singular.
            normal += 1e-10 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(7)
            solution = np.linalg.solve(normal, ((squared * logs) @ design)[..., None])[..., 0]
            if step < n_steps:
                fitted = solution @ design.T
                weight = np.exp(fitted - fitted.max(axis=1, keepdims=True))
        out[start : start + len(part)] = solution[:, :6] / 1000.0
    return out


def tensor_maps(dwi: Dwi, tensor: np.ndarray) -> TensorMaps:
    """Maps of a fitted tensor, as `tensor2metric` makes them: noise may leave an eigenvalue below 0, and FA above 1,
    which is limited to 1.
    """
    full = np.empty((len(tensor), 3, 3))
    for column, (i, j) in enumerate(_PAIRS):
        full[:, i, j] = full[:, j, i] = tensor[:, column]
    values, vectors = np.linalg.eigh(full)
    mean = values.mean(axis=1)
    spread = np.sqrt(((values - mean[:, None]) ** 2).sum(axis=1))
    norm = np.sqrt((values**2).sum(axis=1))
    fa = np.sqrt(1.5) * np.divide(spread, norm, out=np.zeros_like(norm), where=norm > 0)

    def image(numbers: np.ndarray) -> np.ndarray:
        whole = np.zeros((*dwi.mask.shape, *numbers.shape[1:]), dtype=np.float32)
        whole[dwi.mask] = numbers
        return whole

    return TensorMaps(
        image(np.clip(fa, 0, 1)),
        image(mean),
        image(values[:, 2]),
        image(values[:, :2].mean(axis=1)),
        image(vectors[:, :, 2]),
    )
