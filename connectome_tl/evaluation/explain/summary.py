"""Summarise the maps of single fits as the records that are saved and shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import numpy as np

from connectome_tl.evaluation.explain.items import Items, Values
from connectome_tl.evaluation.explain.null import NullMaps, beyond_largest
from connectome_tl.evaluation.explain.stability import overlap, rank_correlation, shares_in_top, stabilities, top_of
from connectome_tl.evaluation.explain.targets import Target
from connectome_tl.evaluation.explain.units import METHODS, UnitMap, drops, pooled, standardised
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.records.explanations import Agreement, ExplanationMap, ItemKind, MapItem, Method, NullResult

DRAWN_EDGES = 150  # number of strongest edges in the summary; the tables contain all
FullMap = dict[str, list[MapItem]]
"""All items of one map by kind."""

_UNITS: dict[Method, str] = {
    "pattern": "standard deviations of the item per standard deviation of the prediction",
    "integrated gradients": "standard deviations of the prediction that the item adds, where it is above the mean",
    "occlusion": "standard deviations of the prediction that are lost at the mean of the training rows",
}
_NOTES: dict[Method, str] = {
    "pattern": "Positive: the item is larger where the prediction is higher. A pattern shows what is associated "
    "with the prediction, whether or not the model uses it. It is the covariance of the held-out subjects of all folds "
    "times the weights of each fit.",
    "integrated gradients": "What the model uses. Values of regions are half the sum of the magnitudes of their "
    "edges, plus that of their own measures; those of cells are sums over their voxels.",
    "occlusion": "All edges of a region are occluded with it. `drop` is the decrease of {metric} over all folds.",
}


def summaries(
    units: Sequence[UnitMap], items: Items, model: str, nulls: NullMaps, untested: Mapping[str, str] | None = None
) -> list[tuple[ExplanationMap, FullMap]]:
    """One summary, and all its items, per outcome, class and method.

    Args:
        units: maps of all fits of one model. nulls: empty for models without a null.
        untested: why there is no null, by outcome.
    """
    found = []
    targets = list(dict.fromkeys(unit.target for unit in units))
    for target in targets:
        for method in METHODS:
            mine = standardised([unit for unit in units if unit.target == target and unit.method == method])
            if mine:
                null = nulls.get((target.task.name, target.level, method), {})
                record, full = _summary(mine, target, method, items, model, null)
                why = "" if null else (untested or {}).get(target.task.name, "")
                found.append((record.model_copy(update={"untested": why}), full))
    return found


def _summary(
    units: Sequence[UnitMap], target: Target, method: Method, items: Items, model: str, null: Values
) -> tuple[ExplanationMap, FullMap]:
    values, fallen = pooled(units, items), drops(units, items)
    shares = shares_in_top(units, items)
    full: FullMap = {}
    tests: list[NullResult] = []
    for kind, own in values.items():
        p = np.full(len(own), np.nan)
        if kind in null and len(own):
            p, threshold, largest = beyond_largest(null[kind])
            tests.append(_test(kind, null[kind], p, threshold, largest))
        full[kind] = _items(kind, own, shares[kind], p, fallen.get(kind), items)
    edges = sorted(full.get("edge", []), key=lambda item: -abs(item.value))
    matrix, scale = _matrix(values["edge"], items) if "edge" in values and items.n_regions else ("", float("nan"))
    record = ExplanationMap(
        task=target.task.name,
        level=target.level,
        model=model,
        method=method,
        unit=_UNITS[method],
        explained=target.unit,
        n_rows=sum(unit.n_rows for unit in units),
        n_subjects=sum(unit.n_rows for unit in units if unit.repeat == 0 and unit.seed == 0),
        gap=float(np.mean([unit.gap for unit in units])),
        regions=tuple(full.get("region", ())),
        edges=tuple(edges[:DRAWN_EDGES]),
        covariates=tuple(full.get("covariate", ())),
        cells=tuple(full.get("cell", ())),
        groups=tuple(full.get("group", ())),
        modalities=tuple(full.get("modality", ())),
        n_edges=len(edges),
        matrix=matrix,
        matrix_scale=scale,
        stability=tuple(stabilities(units, items)),
        null=tuple(tests),
        n_folds=len({unit.fold for unit in units}),
        note=_NOTES[method].replace("{metric}", metric_named(target.task.spec.tested).words),
    )
    return record, full


def _items(
    kind: str, values: np.ndarray, stability: np.ndarray, p: np.ndarray, drop: np.ndarray | None, items: Items
) -> list[MapItem]:
    ends = items.ends if kind == "edge" else None
    return [
        MapItem(
            name=name,
            value=float(values[i]),
            stability=float(stability[i]),
            p=float(p[i]),
            drop=float("nan") if drop is None else float(drop[i]),
            first=-1 if ends is None else int(ends[0][i]),
            second=-1 if ends is None else int(ends[1][i]),
        )
        for i, name in enumerate(items.names(kind))
    ]


def _test(kind: str, null: np.ndarray, p: np.ndarray, threshold: float, largest: float) -> NullResult:
    return NullResult(
        kind=cast(ItemKind, kind),
        n_permutations=null.shape[1] - 1,
        n_items=len(null),
        threshold=threshold,
        largest=largest,
        p_largest=float(np.nanmin(p)) if np.isfinite(p).any() else float("nan"),
        n_beyond=int((p <= 0.05).sum()),
    )


def _matrix(edges: np.ndarray, items: Items) -> tuple[str, float]:
    """Edges as a matrix of bytes; several measures are summed by magnitude."""
    by_measure = edges.reshape(len(items.measures), items.n_pairs)
    flat = by_measure[0] if len(by_measure) == 1 else np.abs(by_measure).sum(axis=0)
    first, second = items.ends
    whole = np.zeros((items.n_regions, items.n_regions))
    whole[first[: items.n_pairs], second[: items.n_pairs]] = flat
    whole += whole.T
    scale = float(np.abs(whole).max())
    bytes_ = np.round(127 * whole / (scale or 1.0)).astype(np.int8)
    return base64.b64encode(bytes_.tobytes()).decode("ascii"), scale


def agreements(found: Sequence[tuple[ExplanationMap, FullMap]]) -> list[Agreement]:
    """Agreement of the maps of two methods for one model and outcome, for each kind of item."""
    groups: dict[tuple[str, str, str], list[tuple[Method, FullMap]]] = {}
    for record, full in found:
        groups.setdefault((record.task, record.level, record.model), []).append((record.method, full))
    rows = []
    for (task, level, model), members in groups.items():
        for (one, a), (two, b) in combinations(members, 2):
            for kind in a.keys() & b.keys():
                if len(a[kind]) < 3:
                    continue
                first, second = (np.abs([item.value for item in side[kind]]) for side in (a, b))
                used = (first > 0) | (second > 0)  # ignore edges that are absent in all subjects, which agree trivially
                if used.sum() < 3:
                    continue
                first, second = first[used], second[used]
                top = top_of(kind, len(first))
                rows.append(
                    Agreement(
                        task=task,
                        level=level,
                        model=model,
                        kind=cast(ItemKind, kind),
                        first=one,
                        second=two,
                        rank_correlation=rank_correlation(first, second),
                        overlap=overlap(first, second, top),
                        top=top,
                    )
                )
    return sorted(rows, key=lambda row: (row.task, row.level, row.model, row.kind, row.first, row.second))
