"""Definition of a mutant, and connectomes with realistic structure for mutants."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, load_atlas

ATLASES = ("aal90", "dk68", "unc_aal90", "dk82")


@dataclass
class Mutant:
    """A file, the options for reading it, and the correct matrix over the atlas, NaN where a region is missing."""

    what: str
    path: Path
    atlas: str
    expected: np.ndarray | None
    options: dict[str, str] = field(default_factory=dict)


@lru_cache
def closeness(name: str) -> np.ndarray:
    """Weights that fall with distance and favour homotopic pairs, as real connectomes do."""
    at = load_atlas(name).coordinates
    near = np.exp(-np.linalg.norm(at[:, None] - at[None], axis=-1) / 30)
    partners = load_atlas(name).partners
    near[np.arange(len(near)), partners] += 0.5
    return (near + near.T) / 2


def truth(atlas: Atlas, rng: np.random.Generator) -> np.ndarray:
    """(n, n) weights with every kind of size, in the order of the atlas; symmetric, diagonal 0."""
    values = closeness(atlas.name) * rng.gamma(3, 1, (atlas.n_regions,) * 2) * 10.0 ** rng.integers(0, 5)
    values = np.round(values, int(rng.integers(0, 4)))
    values[rng.random(values.shape) < 0.1] = 0
    upper = np.triu(values, 1)
    upper[0, 1:] += 1  # no region without an edge, which some formats cannot distinguish from a missing one
    return upper + upper.T
