"""Random contrasts of volumes without label maps: a smooth random map of intensities, constant within a head.

Ranges of intensities stand for tissues. The map assigns a new intensity to each range, in any order, so that contrasts
may be inverted or vanish. With label maps, `simulation.volumes.random_contrast` draws an intensity for each tissue
instead (Billot et al. 2023, doi:10.1016/j.media.2023.102789).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

_KNOTS = np.linspace(0.02, 0.98, 6)  # quantiles of the foreground with new intensities
_STEPS = 256  # entries of the lookup table of the map


def soft_contrasts(volumes: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """`soft_contrast` for each volume of a batch (n, n_channels, depth, height, width)."""
    return torch.stack([soft_contrast(volume, rng, strength) for volume in volumes])


def soft_contrast(volume: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Partly replace the contrast of the foreground of a volume, preserving zeros and the foreground's mean and SD.

    Args:
        volume: (n_channels, depth, height, width).
        strength: largest share of the new contrast; the share is uniform between 0 and this value.
    """
    share, levels = rng.uniform(0, strength), rng.uniform(0, 1, len(_KNOTS))
    inside = volume != 0
    values = volume[inside].double().cpu().numpy()
    knots = np.unique(np.quantile(values, _KNOTS)) if len(values) else np.zeros(0)
    if len(knots) < 3:
        return volume
    table = np.linspace(knots[0], knots[-1], _STEPS)
    drawn = np.interp(values, table, PchipInterpolator(knots, levels[: len(knots)])(table))
    spread, new_spread = values.std(), drawn.std()
    if new_spread < 1e-6:
        return volume
    drawn = (drawn - drawn.mean()) * (spread / new_spread) + values.mean()
    mixed = (1 - share) * values + share * drawn
    mixed = (mixed - mixed.mean()) * (spread / max(float(mixed.std()), 1e-12)) + values.mean()
    found = volume.clone()
    found[inside] = torch.from_numpy(mixed).to(volume)
    return found
