"""Result records of `explain`."""

from __future__ import annotations

import math
from typing import Literal

from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number

Method = Literal["pattern", "integrated gradients", "occlusion"]
ItemKind = Literal["edge", "region", "covariate", "cell", "group", "modality"]


class MapItem(Record):
    """One value of a map.

    `stability` is the share of test folds in which the item is among the `top` of its kind; `p` is corrected over
    all items of its kind in the map, NaN without a null distribution; `drop` is the drop in AUC, R2,
    concordance or macro AUC when the item is occluded. `first` and `second` are positions of regions, for edges.
    """

    name: str
    value: Number
    stability: Number = math.nan
    p: Number = math.nan
    drop: Number = math.nan
    first: int = -1
    second: int = -1


class Stability(Record):
    """Agreement of the maps of several folds, repeats or seeds.

    Means over pairs: Spearman correlation of the absolute values, and the share of common items among the `top`
    largest, with a 95 % jackknife interval over the units; `chance` is that share for unrelated maps. Items that are 0
    in all maps (edges that are absent in all subjects) are ignored.
    """

    kind: ItemKind
    over: Literal["folds", "repeats", "seeds"]
    n_units: int
    rank_correlation: Number
    overlap: Number
    low: Number
    high: Number
    top: int
    chance: Number


class NullResult(Record):
    """The map under permuted outcomes: `threshold` is the corrected 5 % limit of the studentised maximum."""

    kind: ItemKind
    n_permutations: int
    n_items: int
    threshold: Number
    largest: Number
    p_largest: Number
    n_beyond: int


class ExplanationMap(Record):
    """One map: a model, an outcome, a method.

    It contains all regions, covariates, cells of volumes, groups and modalities, and the strongest edges; `n_edges` is
    the total number of edges. `n_folds` is the number of folds of a repeat. `untested` is why there is no p value.
    `matrix` contains all edges as base64 of int8 (n_regions, n_regions), scaled so that 127 is `matrix_scale`;
    magnitudes of several measures are summed. `unit` is the unit of the values, `explained` the scale of the
    predictions; `gap` is the mean completeness error of attributions, in standard deviations.
    """

    task: str
    level: str = ""
    model: str
    method: Method
    unit: str
    explained: str
    n_rows: int
    n_subjects: int
    gap: Number = 0.0
    regions: tuple[MapItem, ...] = ()
    edges: tuple[MapItem, ...] = ()
    covariates: tuple[MapItem, ...] = ()
    cells: tuple[MapItem, ...] = ()
    groups: tuple[MapItem, ...] = ()
    modalities: tuple[MapItem, ...] = ()
    n_edges: int = 0
    matrix: str = ""
    matrix_scale: Number = math.nan
    stability: tuple[Stability, ...] = ()
    null: tuple[NullResult, ...] = ()
    n_folds: int = 0
    untested: str = ""
    note: str = ""


class Agreement(Record):
    """Spearman correlation of the absolute values of two maps of one model and outcome, item by item."""

    task: str
    level: str = ""
    model: str
    kind: ItemKind
    first: Method
    second: Method
    rank_correlation: Number
    overlap: Number
    top: int


class Withheld(Record):
    """A model that is not above chance for an outcome and has no map."""

    task: str
    model: str
    reason: str


class CellPlace(Record):
    """A cell of the volumes: its centre in mm, and its most frequent region, "" where no atlas is in their space."""

    name: str
    x: Number
    y: Number
    z: Number
    region: str = ""


class MapFile(Record):
    """A written table with its size in bytes, number of rows and hash."""

    name: str
    n_rows: int
    n_bytes: int


class ExplanationRecord(Record):
    """Results of `explain` for a run.

    `configuration` is the hash of that run's configuration, `predictions` that of its predictions. `space` is that of
    the regions' coordinates, `cell_space` that of the cells'.
    """

    configuration: str
    predictions: str = ""
    models: tuple[str, ...]
    atlas: str = ""
    space: str = ""
    regions: tuple[str, ...] = ()
    lobes: tuple[str, ...] = ()
    hemispheres: tuple[str, ...] = ()
    coordinates: tuple[tuple[Number, Number, Number], ...] = ()
    cells: tuple[CellPlace, ...] = ()
    cell_space: str = ""
    maps: tuple[ExplanationMap, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    files: tuple[MapFile, ...] = ()
    notes: tuple[str, ...] = ()
