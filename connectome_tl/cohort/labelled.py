"""Split plans with fewer labelled training subjects and the same test folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan, kinship_groups, seed_of, strata_of, stratum_of
from connectome_tl.errors import UsageError
from connectome_tl.settings.study import SplitSettings

_DRAW = 2**20  # apart from the seeds of folds


def check_sizes(splits: SplitPlan, sizes: Sequence[int]) -> None:
    """Check that all sizes are smaller than the number of training rows of every fold.

    Raises:
        UsageError: a size is too large; the message states the largest possible one.
    """
    smallest = min(len(fold.train) for _, _, fold in splits.folds())
    large = [i for i, size in enumerate(sizes) if size >= smallest]
    if large:
        raise UsageError(
            f"learning_curve[{large[0]}]: a size must be smaller than the training rows of every fold",
            expected=f"at most {smallest - 1}",
            got=str(sizes[large[0]]),
            remedy="Leave the larger sizes out; the study itself gives the score with all training rows.",
        )


def labelled_plan(
    cohort: Cohort, splits: SplitPlan, settings: SplitSettings, n_labelled: int, outcomes: Sequence[str]
) -> SplitPlan:
    """The plan with `n_labelled` training rows in every fold, drawn by stratum.

    Draws of one fold are nested. Relatives of drawn subjects, and subjects without any of the outcomes, are drawn
    last. Inner folds are dropped.
    """
    known = cohort.targets[list(outcomes)].notna().any(axis=1).to_numpy(dtype=bool)
    strata, groups = strata_of(cohort, stratum_of(cohort, settings)), kinship_groups(cohort.family)
    repeats = []
    for repeat, folds in enumerate(splits.repeats):
        cut = []
        for number, fold in enumerate(folds):
            rows = cohort.positions(fold.train)
            order = spread_order(
                strata[rows], groups[rows], known[rows], seed_of(settings.seed, repeat, _DRAW + number)
            )
            drawn = np.sort(order[:n_labelled])
            cut.append(Fold(tuple(fold.train[i] for i in drawn), fold.test))
        repeats.append(tuple(cut))
    return SplitPlan(tuple(repeats))


def spread_order(strata: np.ndarray, groups: np.ndarray, known: np.ndarray, seed: int) -> np.ndarray:
    """Random order of rows, (n_rows,), in which every prefix is stratified.

    Args:
        groups: (n_rows,) families; only one member is among the first rows. known: (n_rows,) False for rows that are
            last.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(strata))
    order = order[np.argsort(~known[order], kind="stable")]
    first = np.zeros(len(order), dtype=bool)
    first[np.unique(groups[order], return_index=True)[1]] = True
    first &= known[order]
    place = np.empty(len(order))
    for is_first in (True, False):
        for stratum in np.unique(strata):
            members = (strata[order] == stratum) & (first == is_first)
            n = int(members.sum())
            place[members] = (np.arange(n) + 0.5) / max(n, 1) + (0.0 if is_first else 1.0)
    return order[np.argsort(place, kind="stable")]
