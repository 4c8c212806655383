"""Find subjects that occur twice, by id or by nearly identical connectomes or volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from connectome_tl.atlas import counterparts
from connectome_tl.audit.copies import alike_by_edges
from connectome_tl.audit.likeness import Pair
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.findings import listed
from connectome_tl.cohort.relatives import relatives
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.features.volumes import read_volumes, same_volumes
from connectome_tl.plurals import counted
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.audit import Finding

_REMEDIES = {
    "target": "If they are one subject, leave one out or give both rows one family; then run the study again.",
    "source": "Leave these rows out of the source (`select` in its cohort.yaml), and run the study again.",
    "pool": "Give both rows one id, or leave them out of the pool (`select` in its cohort.yaml); then run again.",
}


def edges_of(cohort: Cohort) -> np.ndarray:
    """(n_subjects, n_measures, n_edges) upper triangles, NaN where a region is missing."""
    rows, columns = upper_indices(cohort.n_regions)
    present = cohort.node_mask[:, rows] & cohort.node_mask[:, columns]
    return np.where(present[:, None], cohort.weights[:, :, rows, columns].astype(float), np.nan)


def duplicate_findings(
    cohorts: Mapping[str, Cohort], splits: SplitPlan, image: ImageSettings | None = None
) -> list[Finding]:
    """Near-duplicates in both training and test rows of a fold, or in another cohort under any id.

    Ids and matrices are compared in memory; only findings are written, to the run folder.

    Args:
        cohorts: target and, if any, pool and source; regions in one order.
        image: settings of grids, if volumes are compared.
    """
    target = cohorts["target"]
    pairs = _pairs([target], image)
    apart = [pair for pair in pairs if stand_apart(pair, splits)]
    findings = [_found("one subject under two ids", apart, "in training and test of one fold", _REMEDIES["target"])]
    together = [pair for pair in pairs if pair not in apart]
    if together:
        text = f"{_named(together)} look alike but are never on different sides of a fold"
        remedy = "If they are scans of one subject, leave one out: it counts twice in the scores."
        findings.append(Finding(check="look-alikes kept together", status="warning", what=text, remedy=remedy))
    tested = {i for _, _, fold in splits.folds() for i in fold.test}
    for name in ("source", "pool"):
        cohort = cohorts.get(name)
        check = f"target subjects in the {name} cohort"
        if cohort is None:
            continue
        shared = relatives(target, tested, cohort) if name == "source" else ()
        if shared:
            rows = counted(len(shared), "row is", "rows are")
            text = f"{rows} of tested subjects or their relatives: {listed(shared)}"
            findings.append(Finding(check=check, status="failed", what=text, remedy=_REMEDIES[name]))
            continue
        if image is None and (cohort.regions, cohort.measures) != (target.regions, target.measures):
            findings.append(Finding(check=check, status="skipped", what="the cohorts have different regions"))
            continue
        # Known relatives in the pool are handled: they are excluded from adaptation in the test fold.
        known = set(relatives(target, target.ids, cohort))
        others = cohort.take([i for i in cohort.ids if i not in known])
        pairs = _across(target, others, tested, image)
        findings.append(_found(check, pairs, f"of a target subject and a row of the {name} cohort", _REMEDIES[name]))
    return findings


def _across(target: Cohort, other: Cohort, tested: set[str], image: ImageSettings | None) -> list[Pair]:
    """Pairs of a tested subject and a row of the other cohort."""
    own = set(target.ids)
    ordered = [p if p.first in own else Pair(p.second, p.first, p.similarity) for p in _pairs([target, other], image)]
    return [p for p in ordered if p.first in tested and p.second not in own]


def _pairs(cohorts: Sequence[Cohort], image: ImageSettings | None) -> list[Pair]:
    """Near-duplicates among the rows of all cohorts."""
    found: list[Pair] = []
    if image is not None:
        rows = [(c, i) for c in cohorts for i, file in zip(c.ids, c.volumes, strict=False) if file]
        grids = [grid for c in cohorts if any(c.volumes) for grid in read_volumes(c, c.ids, image)[0].grids if grid]
        found += [Pair(rows[i][1], rows[j][1], r) for i, j, r in same_volumes(grids)]
    if not cohorts[0].regions or any(
        (c.regions, c.measures) != (cohorts[0].regions, cohorts[0].measures) for c in cohorts
    ):
        return found
    names = [i for cohort in cohorts for i in cohort.ids]
    groups = [f"{c.name}/{site}" for c in cohorts for site in c.site]
    edges = np.concatenate([edges_of(cohort) for cohort in cohorts])
    return found + alike_by_edges(edges, names, groups, _mirror(cohorts[0].regions))


def _mirror(regions: Sequence[str]) -> np.ndarray:
    """(n_edges,) the edge between the regions of the same names in the other hemisphere."""
    first, second = upper_indices(len(regions))
    number = np.zeros((len(regions), len(regions)), dtype=int)
    number[first, second] = number[second, first] = np.arange(first.size)
    other = counterparts(regions)
    return np.asarray(number[other[first], other[second]])


def stand_apart(pair: Pair, splits: SplitPlan) -> bool:
    """Whether a fold trains on one of the pair and tests the other."""
    return any(
        (pair.first in fold.train and pair.second in fold.test)
        or (pair.second in fold.train and pair.first in fold.test)
        for _, _, fold in splits.folds()
    )


def _found(check: str, pairs: Sequence[Pair], what: str, remedy: str) -> Finding:
    if not pairs:
        return Finding(check=check, status="passed", what="no two connectomes or volumes are too similar")
    text = f"{counted(len(pairs), 'pair')} {what}: {_named(pairs)}"
    return Finding(check=check, status="failed", what=text, remedy=remedy)


def _named(pairs: Sequence[Pair]) -> str:
    text = ", ".join(f"{p.first} = {p.second} (r = {p.similarity:.2f})" for p in pairs[:5])
    return text + (" ..." if len(pairs) > 5 else "")
