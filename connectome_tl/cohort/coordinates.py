"""Coordinates of a cohort's regions that are comparable between atlases."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from connectome_tl.atlas import load_atlas
from connectome_tl.errors import UsageError

LOBES = ("Frontal", "Parietal", "Temporal", "Occipital", "Limbic", "Insula", "Subcortical", "Cerebellum")
PLACE_COLUMNS = ("x", "y", "z", "side", *(f"lobe {name}" for name in LOBES), "lobe other")
_CORTICAL, _FEWEST = 6, 10  # number of cortical lobes; smallest number of regions for centre and spread
_SIDES = {"L": -1.0, "R": 1.0, "M": 0.0}


@lru_cache(maxsize=32)
def region_places(atlas: str, regions: tuple[str, ...]) -> np.ndarray | None:
    """(n_regions, 13) float32: centroid, hemisphere and lobe of each region (`PLACE_COLUMNS`).

    Coordinates are standardised by the centre and spread of the atlas's cortical regions along each axis, so that
    neonatal and adult atlases, with or without cerebellum, are comparable. Left is -1, right is 1.

    Returns:
        None if the atlas is unknown, has no centroids or cortex, or lacks one of the regions.
    """
    try:
        table = load_atlas(atlas)
    except UsageError:
        return None
    position = {name: i for i, name in enumerate(table.names)}
    names = table.resolved(regions)
    if not regions or not table.has_centroids or not set(names) <= set(position):
        return None
    at = [position[name] for name in names]
    cortex = table.coordinates[[region.lobe in LOBES[:_CORTICAL] for region in table.regions]]
    if len(cortex) < _FEWEST:
        return None
    centred = (table.coordinates - cortex.mean(axis=0)) / cortex.std(axis=0)
    sides = [_SIDES[table.regions[i].hemisphere] for i in at]
    lobes = [LOBES.index(lobe) if (lobe := table.regions[i].lobe) in LOBES else len(LOBES) for i in at]
    found = np.column_stack([centred[at], sides, np.eye(len(LOBES) + 1)[lobes]]).astype(np.float32)
    found.flags.writeable = False
    return found
