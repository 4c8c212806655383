"""Notes on subjects without any input, and on folds whose training rows lack an input."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.plurals import counted

_WORDS = {"connectome": "connectome", "image": "image", "clinical": "clinical covariate"}
_SHOWN = 5


def presence_notes(target: Cohort, modalities: Collection[str], splits: SplitPlan) -> tuple[str, ...]:
    """Notes for the report.

    Args:
        modalities: of the full model; nothing is known about those of extensions.
    """
    known = {name: _present(target, name) for name in _WORDS if name in modalities}
    found = []
    empty = ~np.any(list(known.values()), axis=0) if known else np.zeros(target.n_subjects, dtype=bool)
    if empty.any() and set(modalities) <= set(_WORDS):
        ids = [subject for subject, is_empty in zip(target.ids, empty, strict=True) if is_empty]
        more = ", ..." if len(ids) > _SHOWN else ""
        found.append(
            f"{counted(len(ids), 'subject has', 'subjects have')} no {' and no '.join(_WORDS[name] for name in known)} "
            f"({', '.join(ids[:_SHOWN])}{more}): their predictions contain no information about them"
        )
    for name, present in known.items():
        unused = {
            subject
            for _, _, fold in splits.folds()
            if not present[target.positions(fold.train)].any()
            for subject, has in zip(fold.test, present[target.positions(fold.test)], strict=True)
            if has
        }
        if unused:
            found.append(
                f"no training subject of {counted(len(unused), 'tested subject')} with {_article(_WORDS[name])} has "
                "one: the models of these folds do not use it"
            )
    return tuple(found)


def _present(target: Cohort, name: str) -> np.ndarray:
    """Whether each subject has a modality (n_subjects,) bool."""
    if name == "connectome":
        return np.asarray(target.node_mask.any(axis=1))
    if name == "image":
        return np.array([bool(volume) for volume in target.volumes] or [False] * target.n_subjects)
    columns = [spec.column for spec in clinical_specs(target.covariate_specs)]
    return np.asarray(target.covariates[columns].notna().any(axis=1))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
