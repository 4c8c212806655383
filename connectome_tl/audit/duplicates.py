"""The same child twice: by id, or by a connectome too like another's, whatever it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.settings.audit import Finding

# Squared distance, as a share of what two people of that cohort usually have between them.
SAME_PERSON = 0.05


@dataclass(frozen=True)
class Pair:
    """Two rows that are likely one person."""

    first: str
    second: str
    distance: float


def edges_of(cohort: Cohort) -> np.ndarray:
    """(n_subjects, n_measures * n_edges) upper triangles, NaN where a region is missing."""
    rows, columns = upper_indices(cohort.n_regions)
    present = cohort.node_mask[:, rows] & cohort.node_mask[:, columns]
    edges = np.where(present[:, None], cohort.weights[:, :, rows, columns].astype(float), np.nan)
    return edges.reshape(cohort.n_subjects, -1)


def look_alikes(
    one: np.ndarray, names: Sequence[str], two: np.ndarray | None = None, others: Sequence[str] = ()
) -> list[Pair]:
    """Pairs whose edges (n, n_edges) lie nearer than `SAME_PERSON` of the median distance.

    Edges are standardised over `one`; masked ones stand at the mean. A row that equals its cohort's
    mean everywhere says nothing and is left out.
    """
    mean = np.nanmean(one, axis=0)
    spread = np.nanstd(one, axis=0)
    kept = np.isfinite(spread) & (spread > 1e-9)
    first = np.nan_to_num((one[:, kept] - mean[kept]) / spread[kept])
    second = first if two is None else np.nan_to_num((two[:, kept] - mean[kept]) / spread[kept])
    if len(first) < 3 or not kept.any():
        return []
    inner = _squared(first, first)
    usual = float(np.median(inner[np.triu_indices(len(first), 1)]))
    distance = inner if two is None else _squared(first, second)
    close = distance < SAME_PERSON * usual
    if two is None:
        close = np.triu(close, 1)
    labels = names if two is None else others
    return [Pair(names[i], labels[j], float(distance[i, j] / usual)) for i, j in np.argwhere(close)]


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product = a @ b.T
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * product, 0.0)


def duplicate_findings(cohorts: Mapping[str, Cohort], splits: SplitPlan) -> list[Finding]:
    """Look-alikes that stand on both sides of a fold, or in another cohort under any name or their own.

    Ids and matrices are compared in memory; of them only what is found is written, into the run folder.

    Args:
        cohorts: target, and pool and source where there are; regions in one order.
    """
    target = cohorts["target"]
    edges = edges_of(target)
    pairs = look_alikes(edges, target.ids)
    apart = [pair for pair in pairs if _stand_apart(pair, splits)]
    findings = [_found("a child under two names", apart, "in training and test of one fold")]
    together = [pair for pair in pairs if pair not in apart]
    if together:
        text = f"{_named(together)} look alike but never stand on two sides of a fold"
        findings.append(Finding(check="look-alikes kept together", status="warning", what=text))
    tested = {i for _, _, fold in splits.folds() for i in fold.test}
    for name in ("source", "pool"):
        cohort = cohorts.get(name)
        check = f"target subjects in the {name} cohort"
        if cohort is None:
            continue
        named = sorted(tested & set(cohort.ids))
        if name == "source" and named:
            findings.append(
                _found(
                    check, [Pair(i, i, 0.0) for i in named], "by their ids: of the target, also in the source cohort"
                )
            )
            continue
        if cohort.regions != target.regions or cohort.measures != target.measures:
            findings.append(Finding(check=check, status="skipped", what="the cohorts have different regions"))
            continue
        alike = look_alikes(edges, target.ids, edges_of(cohort), cohort.ids)
        # An infant of the pool under its own id is known, and left out of adaptation in its test fold.
        hidden = [p for p in alike if p.first in tested and (name == "source" or p.first != p.second)]
        findings.append(_found(check, hidden, f"of the target are also in the {name} cohort"))
    return findings


def _stand_apart(pair: Pair, splits: SplitPlan) -> bool:
    return any(
        (pair.first in fold.train and pair.second in fold.test)
        or (pair.second in fold.train and pair.first in fold.test)
        for _, _, fold in splits.folds()
    )


def _found(check: str, pairs: Sequence[Pair], what: str) -> Finding:
    if not pairs:
        return Finding(check=check, status="passed", what="no two connectomes are too alike")
    return Finding(
        check=check,
        status="failed",
        what=f"{len(pairs)} pairs {what}: {_named(pairs)}",
        remedy="Give both rows one id (or one family), or leave one out.",
    )


def _named(pairs: Sequence[Pair]) -> str:
    text = ", ".join(f"{p.first} = {p.second}" for p in pairs[:5])
    return text + (" ..." if len(pairs) > 5 else "")
