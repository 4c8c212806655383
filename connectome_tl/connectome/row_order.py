"""A tripwire for unnamed rows: do they stand in the order of the atlas table, or of its label numbers?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.naming import RowNames
from connectome_tl.errors import DataError

_CLEAR = 0.15  # by how much one order must fit better, in rank correlation


def check_row_order(edges: np.ndarray, known: RowNames, file: str | Path) -> None:
    """Refuse unnamed rows that plainly stand in the order of the label numbers and not of the table.

    Near regions are connected more strongly than far ones, in counts as in correlations; the order in
    which that holds far better is the right one. Where both orders are the same, or one was declared,
    there is nothing to check.

    Args:
        edges: (n_edges,) mean upper triangle of the rows as they stand in the file.

    Raises:
        DataError: the rows look like label numbers.
    """
    atlas = known.atlas
    if atlas is None or not atlas.has_centroids or known.table is not None or known.order is not None:
        return
    if np.array_equal(atlas.label_order, np.arange(atlas.n_regions)):
        return
    first, second = upper_indices(atlas.n_regions)
    if edges.shape != first.shape or not np.isfinite(edges).all() or np.ptp(edges) == 0:
        return
    by_table, by_label = (
        float(spearmanr(edges, np.linalg.norm(at[first] - at[second], axis=1)).statistic)
        for at in (atlas.coordinates, atlas.coordinates[atlas.label_order])
    )
    if by_label < -_CLEAR and by_label < by_table - _CLEAR:
        raise DataError(
            f"the unnamed rows look like the label numbers of {atlas.name}, not like its table",
            file=file,
            got=f"edge weight against distance: {by_label:.2f} by label, {by_table:.2f} by table",
            remedy="Say order: label (or --format mrtrix), or order: table if that is so; best of all give labels.",
        )
