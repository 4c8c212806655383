"""Random contrasts of volumes without label maps: a smooth random map of intensities, constant within a head.

Ranges of intensities stand for tissues. The map assigns a new intensity to each range, in any order, so that contrasts
may be inverted or vanish. With label maps, `simulation.volumes.random_contrast` draws an intensity for each tissue
instead (Billot et al. 2023, doi:10.1016/j.media.2023.102789).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

_KNOTS = np.linspace(0.02, 0.98, 6)  # quantiles of the foreground with new intensities
_STEPS = 256  # entries of the lookup table of the map


@dataclass(eq=False)
class SoftContrast:
    """Randomly and partly replace the contrast of the foreground.

    Attributes:
        chance: probability that a volume is changed.
        strength: largest share of the new contrast; the share is uniform between 0 and this value.
    """

    chance: float
    strength: float = 1.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __call__(self, volume: Tensor) -> Tensor:
        """Transform a volume (n_channels, depth, height, width), preserving zeros and the foreground's mean and SD."""
        if self.rng.random() >= self.chance:
            return volume
        share, levels = self.rng.uniform(0, self.strength), self.rng.uniform(0, 1, len(_KNOTS))
        inside = volume != 0
        values = volume[inside].double().numpy()
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
        found[inside] = torch.from_numpy(mixed).to(volume.dtype)
        return found
