"""Compare a cohort with the pooled means of a bundle, to detect that the model was trained on it.

The mean of the scaled training rows of a model is 0. For other subjects, its expected square is 1/n_train + 1/n_new per
column, or more if the cohorts differ. A cohort with a much smaller mean consists mostly of the same subjects.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.bundle.members import Members
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.modalities import ClinicalSteps
from connectome_tl.features.steps import Features

NEAR = 0.05  # relative to the expected square; the ratio varies, since columns are correlated
_ENOUGH_COLUMNS = 20  # with fewer columns, the ratio may be small by chance


def likeness(members: Members, cohort: Cohort, n_train: int) -> float:
    """Mean square of the scaled cohort's mean relative to its expectation for other subjects; NaN with few columns.

    About 1 for another cohort of the same population, larger if populations differ, about 0 for the training cohort.
    """
    found: dict[str, list[np.ndarray]] = {}
    for features in members.features():
        for name, values in _columns(features, cohort).items():
            found.setdefault(name, []).append(values)
    if not found:
        return float("nan")
    mean = np.concatenate([np.atleast_1d(np.mean(each, axis=0, dtype=float)).ravel() for each in found.values()])
    used = mean != 0
    if used.sum() < _ENOUGH_COLUMNS or cohort.n_subjects < 2:
        return float("nan")
    return float((mean[used] ** 2).mean() / (1.0 / n_train + 1.0 / cohort.n_subjects))


def refuse_training_cohort(members: Members, cohort: Cohort, n_train: int) -> None:
    """Refuse a cohort whose mean is that of the training subjects.

    Raises:
        DataError: it is the training cohort, or mostly so.
    """
    found = likeness(members, cohort, n_train)
    if found < NEAR:
        raise DataError(
            f"cohort {cohort.name!r} appears to be the training cohort of the bundle: its mean is closer to the "
            "training mean than that of other subjects could be",
            expected="another cohort",
            got=f"{found:.2g} of the expected distance",
            remedy="Use subjects that were not used for training.",
        )


def _columns(features: Features, cohort: Cohort) -> dict[str, np.ndarray]:
    """Means of the cohort's scaled edges and regional measures, else of summaries of its volumes, else of each
    encoded covariate, by name."""
    rows = features.rows(cohort, cohort.ids).arrays
    if "connectome" in rows:
        return {name: rows["connectome"].rows[name].mean(axis=0) for name in ("edges", "regional")}
    if "image" in rows and rows["image"].present.any():
        image = rows["image"]
        return {name: columns[image.present].mean(axis=0) for name, columns in image.blocks.items()}
    clinical = features.steps.get("clinical")
    if not isinstance(clinical, ClinicalSteps):
        return {}
    means = rows["clinical"].rows["values"].mean(axis=0)
    return dict(zip(clinical.encoder.names, means, strict=True))
