"""Stability of maps over folds, repeats and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, cast

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from connectome_tl.evaluation.explain.items import Items, Values
from connectome_tl.evaluation.explain.units import UnitMap, pooled
from connectome_tl.settings.records.explanations import ItemKind, Stability

TOP = {"edge": 50, "region": 10, "covariate": 3, "cell": 5, "group": 3, "modality": 1}
Over = Literal["folds", "repeats", "seeds"]


def top_of(kind: str, n_items: int) -> int:
    """Number of items that count as the strongest; at most half of them."""
    return max(1, min(TOP[kind], n_items // 2))


def stabilities(units: Sequence[UnitMap], items: Items) -> list[Stability]:
    """Agreement of the maps of one method, target and model over folds of a repeat, repeats, and seeds."""
    found = []
    for over, maps in _by_unit(units, items).items():
        for kind, first in next(iter(maps.values())).items():
            n_items = len(first)
            pairs = _pairs(over, list(maps))
            if n_items >= 2 and pairs:
                values = {key: np.abs(one[kind]) for key, one in maps.items()}
                used = np.any([one > 0 for one in values.values()], axis=0)
                if used.sum() >= 2:
                    values = {key: one[used] for key, one in values.items()}
                    found.append(_stability(cast(ItemKind, kind), over, values, pairs))
    return found


def shares_in_top(units: Sequence[UnitMap], items: Items) -> Values:
    """(n_items,) share of test folds in which each item is among the strongest, by kind."""
    maps = list(_by_unit(units, items)["folds"].values())
    tops = {kind: top_of(kind, len(one)) for kind, one in maps[0].items()}
    return {kind: np.mean([_is_top(np.abs(one[kind]), top) for one in maps], axis=0) for kind, top in tops.items()}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation; NaN where one is constant or empty (brains that do not overlap on the grid)."""
    a, b = rankdata(first), rankdata(second)
    if not len(a) or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def overlap(first: np.ndarray, second: np.ndarray, top: int) -> float:
    """Share of the `top` largest values that two maps have in common."""
    return float((_is_top(first, top) & _is_top(second, top)).sum() / top)


def _is_top(values: np.ndarray, top: int) -> np.ndarray:
    found = np.zeros(len(values), dtype=bool)
    found[np.argsort(-values, kind="stable")[:top]] = True
    return found & (values > 0)


def _by_unit(units: Sequence[UnitMap], items: Items) -> dict[Over, dict[tuple[int, ...], Values]]:
    """Maps by fold (seeds averaged), by repeat (folds pooled) and by seed (all pooled)."""
    keys = {
        "folds": lambda unit: (unit.repeat, unit.fold),
        "repeats": lambda unit: (unit.repeat,),
        "seeds": lambda unit: (unit.seed,),
    }
    found: dict[Over, dict[tuple[int, ...], Values]] = {}
    for over, key in keys.items():
        groups: dict[tuple[int, ...], list[UnitMap]] = {}
        for unit in units:
            groups.setdefault(key(unit), []).append(unit)
        found[cast(Over, over)] = {name: pooled(members, items) for name, members in groups.items()}
    return found


def _pairs(over: str, keys: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs that are compared: folds of the same repeat, whose tested subjects differ."""
    return [pair for pair in combinations(keys, 2) if over != "folds" or pair[0][0] == pair[1][0]]


def _stability(
    kind: ItemKind,
    over: Over,
    values: dict[tuple[int, ...], np.ndarray],
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
) -> Stability:
    n_items = len(next(iter(values.values())))
    top = top_of(kind, n_items)
    correlations = [rank_correlation(values[a], values[b]) for a, b in pairs]
    shared = np.array([overlap(values[a], values[b], top) for a, b in pairs])
    low, high = _interval(shared, pairs)
    known = [one for one in correlations if np.isfinite(one)]
    return Stability(
        kind=kind,
        over=over,
        n_units=len(values),
        rank_correlation=float(np.mean(known)) if known else float("nan"),
        overlap=float(shared.mean()),
        low=low,
        high=high,
        top=top,
        chance=top / n_items,
    )


def _interval(shared: np.ndarray, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[float, float]:
    """95 % leave-one-unit-out jackknife interval of the mean over pairs; NaN with fewer than three units."""
    units = sorted({key for pair in pairs for key in pair})
    left = [rest.mean() for unit in units if (rest := shared[[unit not in pair for pair in pairs]]).size]
    n = len(left)
    if n < 3:
        return float("nan"), float("nan")
    error = np.sqrt((n - 1) / n * ((np.array(left) - np.mean(left)) ** 2).sum())
    half = float(student.ppf(0.975, n - 1) * error)
    centre = float(shared.mean())
    return max(0.0, centre - half), min(1.0, centre + half)
