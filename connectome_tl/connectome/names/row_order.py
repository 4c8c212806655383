"""Check unnamed rows: does another order or the other triangle fit the atlas much better?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.matrix_file import Layout, RowNames
from connectome_tl.connectome.names.naming import from_triangle
from connectome_tl.errors import DataError

_CLEAR = 0.15  # least improvement by another order, in rank correlation with distance
_CLEAR_PAIRS = 0.4  # the same for the rank advantage of homotopic edges, of which there are few
_LEAST = 10  # regions
_NAMES = "Write region names, or label numbers of the atlas."
_OTHER: dict[Layout, Layout] = {"upper": "lower", "lower": "upper"}


@dataclass(frozen=True)
class Fit:
    """Fit of an order: rank correlation of edges with proximity, and rank advantage of homotopic edges.

    Each is from -1 to 1, and 0 where the atlas lacks the information."""

    near: float
    pairs: float

    def clearly_better(self, other: Fit) -> bool:
        """Whether an order fits better than another by a wide margin."""
        near, pairs = self.near - other.near, self.pairs - other.pairs
        by_distance = self.near > _CLEAR and near > _CLEAR
        by_pairs = self.pairs > _CLEAR_PAIRS and pairs > _CLEAR_PAIRS and near > -_CLEAR
        return (by_distance and pairs > -_CLEAR_PAIRS) or by_pairs


def check_row_order(
    values: np.ndarray,
    names: tuple[str, ...],
    known: RowNames,
    file: str | Path,
    *,
    layout: Layout = "full",
    assumed_order: bool = True,
    otherwise: tuple[str, ...] = (),
) -> str:
    """Refuse unnamed rows that clearly have another order than assumed, or triangles of the wrong layout.

    In counts and in correlations, edges between near regions and between homotopic regions are stronger than others.
    An order that fits this pattern far better than the assumed one is taken as the true order. For rows with known
    names only the layout of the triangle is checked.

    Args:
        values: (n_rows, n_rows), or a triangle (n_values,), mean over subjects, in the order of the file. An empty half
            is filled from the other one, and missing regions (NaN) are left out.
        names: (n_rows,) regions of the rows.
        layout: how a triangle was read.
        assumed_order: False where the file names its rows, so that only the layout is checked.
        otherwise: (n_rows,) the regions if label numbers were positions from 0, or the reverse; '' for none.

    Returns:
        A note where the atlas does not support the assumed order; else "".

    Raises:
        DataError: another order, or the other triangle, fits far better.
    """
    atlas = known.atlas
    known_values = values[np.isfinite(values)]
    if atlas is None or len(names) < _LEAST or not known_values.size or np.ptp(known_values) == 0:
        return ""
    if not set(names) <= set(atlas.names):
        return ""
    place = np.array([atlas.names.index(name) for name in names])
    square = _mirrored(values) if values.ndim == 2 else from_triangle(values, len(names), layout)
    assumed = fit_of(square, place, atlas)
    orders = list(other_orders(known, place)) if assumed_order else []
    if otherwise:
        numbers = np.array([atlas.names.index(name) if name else -1 for name in otherwise])
        orders.append(("rows numbered from another origin", _NAMES, numbers))
    others = [(what, remedy, fit_of(square, order, atlas)) for what, remedy, order in orders]
    if values.ndim == 1 and layout in _OTHER:
        other = _OTHER[layout]
        turned = fit_of(from_triangle(values, len(names), other), place, atlas)
        others.append((f"the {other} triangle, row by row,", f"Set layout: {other} (--layout {other}).", turned))
    clear = [one for one in others if one[2].clearly_better(assumed)]
    if clear:
        what, remedy, fit = max(clear, key=lambda one: one[2].near + one[2].pairs)
        raise DataError(
            f"the values look like {what} of {atlas.name}, not as they were read",
            file=file,
            got=f"edge weight against closeness {fit.near:.2f} so and {assumed.near:.2f} as read, "
            f"advantage of homotopic edges {fit.pairs:.2f} so and {assumed.pairs:.2f} as read",
            remedy=remedy,
        )
    supported = assumed.near > _CLEAR or assumed.pairs > _CLEAR_PAIRS
    if supported or not (atlas.has_centroids or _pairs(atlas, place).any()):
        return ""
    if otherwise and not assumed_order:
        return (
            "numbers of the rows were read as label numbers, and edge weights do not show whether they are positions "
            "from 0: write region names"
        )
    return (
        "edge weights neither fall with distance nor favour homotopic pairs in the assumed order of rows: "
        "check that it is right"
    )


def other_orders(known: RowNames, place: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Other row orders written by common tools: description, advice, and the atlas row of each row."""
    atlas = known.atlas
    if atlas is None or known.table is not None or known.order is not None or len(place) != atlas.n_regions:
        return
    table = np.arange(atlas.n_regions)
    if not np.array_equal(place, table):
        yield "the table", "Set order: table if that is so; best of all give labels.", table
    if not np.array_equal(place, atlas.label_order):
        remedy = "Set order: label (or --format mrtrix), or order: table if that is so; best of all give labels."
        yield "the label numbers", remedy, atlas.label_order
    side = np.array(["LRM".index(region.hemisphere) for region in atlas.regions])
    pair = np.minimum(table, atlas.partners)
    give = "Give a label table of the rows (labels), or order: table if they are as read."
    for what, order in (
        ("the left hemisphere, then the right,", np.lexsort((table, side))),
        ("left and right alternating", np.lexsort((side, pair))),
    ):
        if not any(np.array_equal(order, one) for one in (place, table, atlas.label_order)):
            yield what, give, order


def fit_of(square: np.ndarray, place: np.ndarray, atlas: Atlas) -> Fit:
    """Fit of a matrix (n_rows, n_rows) to an atlas if row i is its region `place[i]`, or none where that is -1."""
    first, second = upper_indices(len(place))
    used = np.isfinite(square[first, second]) & (place[first] >= 0) & (place[second] >= 0)
    first, second = first[used], second[used]
    edges = square[first, second]
    near = pairs = 0.0
    if not edges.size or np.ptp(edges) == 0:
        return Fit(near, pairs)
    if atlas.has_centroids:
        at = atlas.coordinates[place]
        near = -float(spearmanr(edges, np.linalg.norm(at[first] - at[second], axis=1)).statistic)
    homotopic = _pairs(atlas, place)[first, second]
    n_pairs, n_others = int(homotopic.sum()), int((~homotopic).sum())
    if n_pairs >= _LEAST:
        ranks = rankdata(edges)
        auc = (ranks[homotopic].sum() - n_pairs * (n_pairs + 1) / 2) / (n_pairs * n_others)
        pairs = 2 * float(auc) - 1
    return Fit(near, pairs)


def _mirrored(square: np.ndarray) -> np.ndarray:
    """The whole of a square with one empty half."""
    for half, other in ((np.tril(square, -1), np.triu(square, 1)), (np.triu(square, 1), np.tril(square, -1))):
        if not np.nan_to_num(other).any():
            return half + half.T
    return square


def _pairs(atlas: Atlas, place: np.ndarray) -> np.ndarray:
    """(n_rows, n_rows) bool: homotopic pairs of regions."""
    partner = atlas.partners[place]
    return (partner[:, None] == place[None, :]) & (partner != place)[:, None]
