"""Find the subjects of a cohort, and their relatives, among the rows of another cohort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ids import family_called, first_scan, names_of, names_of_family


def relatives(cohort: Cohort, ids: Iterable[str], other: Cohort) -> tuple[str, ...]:
    """Ids of the rows of `other` that are these subjects of `cohort` or their relatives.

    Subjects are the same if their ids or participants are, in any spelling (`sub-CC001`, `cc1`) and of any scan, also
    if a scan is only named after another (`CC001_2`); relatives share a family in either cohort, also through others.
    """
    related = are_related(cohort, ids, other.names)
    return tuple(i for i, is_relative in zip(other.ids, related, strict=True) if is_relative)


def are_related(cohort: Cohort, ids: Iterable[str], others: Sequence[frozenset[str]]) -> np.ndarray:
    """Whether each row, given by its names (see `names_of`), is one of these subjects or a relative, (n_rows,)."""
    every = _with_first_scans((*cohort.names, *others))
    rows, theirs = every[: len(cohort.names)], every[len(cohort.names) :]
    own = frozenset[str]().union(*(rows[i] for i in cohort.positions(ids)))
    # A family may have the id of a subject as its name, for example for volumes generated from its label map.
    found = own.union(map(family_called, own))
    known = frozenset[str]()
    while known != found:
        known = found
        found = known.union(*(names for names in every if not known.isdisjoint(names)))
    return np.array([not known.isdisjoint(names) for names in theirs], dtype=bool)


def kin(cohorts: Iterable[Cohort], ids: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families and participants of these subjects in any of the cohorts, to be stored with what was fitted on them."""
    every, own = tuple(cohorts), frozenset(ids)
    families = {family for one in every for i, family in one.families.items() if i in own}
    participants = {name for one in every for i, name in zip(one.ids, one.children, strict=False) if i in own}
    return tuple(sorted(families)), tuple(sorted(participants))


def names_seen(ids: Iterable[str], families: Iterable[str], participants: Iterable[str]) -> list[frozenset[str]]:
    """Names of the subjects that something was fitted on, and of their `kin`, for `are_related`."""
    return [*map(names_of, (*ids, *participants)), *map(names_of_family, families)]


def _with_first_scans(rows: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """The names of each row, with that of the first scan of the same subject if another row has it."""
    present = frozenset[str]().union(*rows)
    return [names | (present & set(map(first_scan, names))) for names in rows]
