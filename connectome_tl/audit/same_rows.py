"""Find rows that agree in every column: one subject whose second scan has another id.

A second scan after a year is similar to no other scan; birth weight, gestational age and the later scores are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from connectome_tl.audit.likeness import Pair
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.plurals import counted
from connectome_tl.settings.records.audit import Finding

_CHANCE = 1e-3  # expected number of pairs of different children that agree as much
_SAME = 0.8  # rank correlation from which on two columns count as one
_FEWEST_VALUES = 5  # of a column that distinguishes children


def same_row_findings(
    cohort: Cohort, splits: SplitPlan, stand_apart: Callable[[Pair, SplitPlan], bool]
) -> list[Finding]:
    """Warn of unrelated rows that agree in all covariates and outcomes, one in training and one in test rows.

    Args:
        stand_apart: whether a fold trains on one of a pair and tests the other.
    """
    check = "rows that agree in every column"
    pairs = [pair for pair in _agreeing(cohort) if stand_apart(pair, splits)]
    if not pairs:
        return [Finding(check=check, status="passed", what="no two subjects of different folds do")]
    text = ", ".join(f"{pair.first} = {pair.second}" for pair in pairs[:5]) + (" ..." if len(pairs) > 5 else "")
    return [
        Finding(
            check=check,
            status="warning",
            what=f"{counted(len(pairs), 'pair')} in training and test of one fold, except for age at scan: {text}",
            remedy="If they are scans of one subject, or twins, give both rows one family, or leave one out.",
        )
    ]


def _agreeing(cohort: Cohort) -> list[Pair]:
    """Pairs that agree in all columns that both have, if such an agreement is improbable by chance."""
    columns = _numbers(cohort)
    n, families = cohort.n_subjects, [str(name) for name in cohort.family]
    if len(columns) < 2 or n < 4:
        return []
    first, second = np.triu_indices(n, 1)
    kin = np.array([bool(families[i]) and families[i] == families[j] for i, j in zip(first, second, strict=True)])
    # (n_columns, n_pairs) whether both are known, and whether they agree
    known = np.array([np.isfinite(v[first]) & np.isfinite(v[second]) for v in columns])
    equal = np.array([v[first] == v[second] for v in columns])
    whole = (equal | ~known).all(axis=0) & (known.sum(axis=0) >= 2) & ~kin
    if not whole.any():
        return []
    others = ~whole & ~kin
    rate = np.array([max(float((e & k & others).sum()), 0.5) / max(int((k & others).sum()), 1)
                     for e, k in zip(equal, known, strict=True)])  # fmt: skip
    found = []
    for at in np.flatnonzero(whole):
        if first.size * float(np.prod(np.where(known[:, at], rate, 1.0))) < _CHANCE:
            found.append(Pair(cohort.ids[first[at]], cohort.ids[second[at]], 1.0))
    return found


def _numbers(cohort: Cohort) -> list[np.ndarray]:
    """Numeric covariates and outcomes with many values, without redundant ones."""
    tables = [cohort.covariates[spec.column] for spec in cohort.covariate_specs if spec.type == "numeric"]
    tables += [cohort.targets[name] for name in cohort.targets]
    ages = np.asarray(cohort.age, dtype=float)
    found: list[np.ndarray] = []
    for column in tables:
        values = column.to_numpy(dtype=float)
        enough = np.unique(values[np.isfinite(values)]).size >= _FEWEST_VALUES
        if enough and not _alike(values, ages) and not any(_alike(values, other) for other in found):
            found.append(values)
    return found


def _alike(one: np.ndarray, two: np.ndarray) -> bool:
    known = np.isfinite(one) & np.isfinite(two)
    if known.sum() < 4 or np.ptp(one[known]) == 0 or np.ptp(two[known]) == 0:
        return False
    first, second = (np.unique(v[known], return_inverse=True)[1].astype(float) for v in (one, two))
    return abs(float(np.corrcoef(first, second)[0, 1])) > _SAME
