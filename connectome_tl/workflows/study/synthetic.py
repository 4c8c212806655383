"""Distances of the synthetic volumes of a study to its training volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.evaluation.baselines.design import VolumeFit
from connectome_tl.settings.model_table import in_order, model_named
from connectome_tl.settings.records.results import ResultTable

COPIED = 0.2  # below this ratio synthetic volumes are hardly more than training volumes
_NOTE = (
    "Median distance of a synthetic volume to the nearest training volume, divided by that of training volumes to each "
    "other. Values near 0 indicate copies. Mixing voxels stays near both parents by construction."
)


def synthetic_tables(fits: Sequence[VolumeFit]) -> tuple[ResultTable, ...]:
    """One table with a row per baseline that is trained with synthetic volumes; none without such a baseline."""
    rows = tuple(
        (model_named(model).label, str(len(found)), f"{np.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}")
        for model, found in _by_model(fits).items()
    )
    columns = ("Model", "Fits", "Median ratio", "Range")
    title = "Distance of synthetic volumes to the nearest training volume"
    return (ResultTable(section="adequacy", title=title, columns=columns, rows=rows, note=_NOTE),) if rows else ()


def copies(fits: Sequence[VolumeFit]) -> tuple[str, ...]:
    """A warning per baseline whose synthetic volumes are near copies in some fold."""
    return tuple(
        f"{model_named(model).label}: synthetic volumes are near copies of training volumes in "
        f"{sum(r < COPIED for r in found)} of {len(found)} fits (smallest distance: "
        f"{min(found):.2f} of that between training volumes)."
        for model, found in _by_model(fits).items()
        if min(found) < COPIED
    )


def _by_model(fits: Sequence[VolumeFit]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for fit in fits:
        if np.isfinite(fit.nearness):
            found.setdefault(fit.model, []).append(fit.nearness)
    return {model: found[model] for model in in_order(set(found))}
