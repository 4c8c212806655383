"""Find the subjects of a cohort, and their relatives, among the rows of another cohort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ids import family_called


def relatives(cohort: Cohort, ids: Iterable[str], other: Cohort) -> tuple[str, ...]:
    """Ids of the rows of `other` that are these subjects of `cohort` or their relatives.

    Subjects are the same if their ids or participants are, in any spelling (`sub-CC001`, `cc1`) and of any scan;
    relatives share a family in either cohort, also through others.
    """
    related = are_related(cohort, ids, other.names)
    return tuple(i for i, is_relative in zip(other.ids, related, strict=True) if is_relative)


def are_related(cohort: Cohort, ids: Iterable[str], others: Sequence[frozenset[str]]) -> np.ndarray:
    """Whether each row, given by its names (see `names_of`), is one of these subjects or a relative, (n_rows,)."""
    own = frozenset[str]().union(*(cohort.names[i] for i in cohort.positions(ids)))
    # A family may have the id of a subject as its name, for example for volumes generated from its label map.
    found = own.union(map(family_called, own))
    rows, known = (*cohort.names, *others), frozenset[str]()
    while known != found:
        known = found
        found = known.union(*(names for names in rows if not known.isdisjoint(names)))
    return np.array([not known.isdisjoint(names) for names in others], dtype=bool)
