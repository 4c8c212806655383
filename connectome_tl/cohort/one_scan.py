"""Select one scan per subject: the first, the last, or the one nearest to an age."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.plurals import counted
from connectome_tl.settings.columns import OneScan
from connectome_tl.settings.records.results import FlowStep


def one_scan_of_each(cohort: Cohort, settings: OneScan) -> Cohort:
    """The cohort with one row per subject; ties are resolved by the order of the table.

    Raises:
        DataError: the age of one of several scans of a subject is unknown.
    """
    if len(set(cohort.children)) == len(cohort.children):
        return cohort
    subjects = np.array(cohort.children, dtype=object)
    several = [subject for subject in dict.fromkeys(cohort.children) if (subjects == subject).sum() > 1]
    unknown = [cohort.ids[i] for i in np.flatnonzero(np.isin(subjects, several) & np.isnan(cohort.age))]
    if unknown:
        raise DataError(
            f"one_scan: {counted(len(unknown), 'scan has', 'scans have')} no age, and their subjects have several",
            got=", ".join(unknown[:5]),
            remedy="Give `age` in cohort.yaml, or leave these scans out (`select`).",
        )
    if settings.keep == "nearest":
        assert settings.age is not None  # guaranteed by the settings
        rank = np.abs(cohort.age - settings.age)
    else:
        rank = cohort.age if settings.keep == "first" else -cohort.age
    kept = []
    for subject in dict.fromkeys(cohort.children):
        rows = np.flatnonzero(subjects == subject)
        kept.append(int(rows[np.argmin(rank[rows])]) if len(rows) > 1 else int(rows[0]))
    kept.sort()
    found = cohort.take([cohort.ids[i] for i in kept])
    n_left_out = cohort.n_subjects - len(kept)
    step = FlowStep(label="one scan per subject", n_left=len(kept), n_excluded=n_left_out, reason=settings.describe())
    return replace(found, flow=(*cohort.flow, step))
