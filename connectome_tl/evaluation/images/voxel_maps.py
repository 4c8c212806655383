"""Voxel maps of a predictor by occlusion and by integrated gradients (captum)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from connectome_tl.nn.devices import device_of_network, exact_on_gpu
from connectome_tl.settings.images.importance import ComparedMaps


@exact_on_gpu()
def occlusion_maps(predictor: nn.Module, volumes: Tensor, settings: ComparedMaps) -> np.ndarray:
    """Absolute change of the prediction, (n, depth, height, width), when a patch around a voxel is set to 0.

    Args:
        predictor: maps volumes (n, n_channels, ...) to (n,) or (n, 1). The grid is divided into `patches` per axis.
    """
    from captum.attr import Occlusion

    window = (volumes.shape[1], *(-(-n // settings.patches) for n in volumes.shape[2:]))
    with torch.no_grad():
        found = Occlusion(_Single(predictor)).attribute(
            volumes.to(device_of_network(predictor)), sliding_window_shapes=window, strides=window, baselines=0.0
        )
    return found.abs().amax(dim=1).cpu().numpy()


@exact_on_gpu()
def gradient_maps(predictor: nn.Module, volumes: Tensor, settings: ComparedMaps) -> np.ndarray:
    """(n, depth, height, width) absolute integrated gradients from the zero volume (Sundararajan et al. 2017,
    arXiv:1703.01365), smoothed by a Gaussian."""
    from captum.attr import IntegratedGradients

    given = volumes.to(device_of_network(predictor))
    found = IntegratedGradients(_Single(predictor)).attribute(
        given, baselines=0.0, n_steps=settings.steps, internal_batch_size=max(2, len(volumes))
    )
    maps = found.detach().abs().sum(dim=1).cpu().numpy()
    if settings.smoothing == 0:
        return maps
    return np.stack([gaussian_filter(one, settings.smoothing) for one in maps])


class _Single(nn.Module):
    """Wrapper that returns one number per volume, (n,)."""

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, volumes: Tensor) -> Tensor:
        outputs = self.predictor(volumes)
        return outputs if outputs.ndim == 1 else outputs[:, 0]
