"""Random smooth functions of position in the brain, comparable between atlases."""

from __future__ import annotations

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.cohort.coordinates import region_places
from connectome_tl.errors import UsageError


def smooth_field(rng: np.random.Generator, atlas: Atlas) -> np.ndarray:
    """(n_regions,) values of a random smooth function, a sum of four plane waves, with mean 0 and variance 1.

    Equal draws give the same function for every atlas, up to the mean and the variance over its regions.

    Raises:
        UsageError: the atlas has no coordinates of its regions.
    """
    waves, phases = rng.normal(0, 1.2, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
    places = region_places(atlas.name, atlas.names)
    if places is None:
        raise UsageError(f"atlas {atlas.name} has no coordinates of its regions")
    values = np.sin(places[:, :3] @ waves.T + phases).sum(axis=1)
    return (values - values.mean()) / values.std()
