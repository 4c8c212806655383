"""Plan fits with permuted outcomes of the training rows, for scores and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.nested_cv import seeded_chains
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts, scheme_named


def relabelled_plan(
    study: StudySettings,
    cohorts: StudyCohorts,
    model: str,
    fold: Fold,
    tasks: Sequence[Task],
    row: np.ndarray,
    *,
    keep: bool,
) -> FitPlan:
    """Plan the fit of one seed of a fold for one labelling; stages 1 and 2 do not depend on it.

    Args:
        study: study with the settings of the fold. model: name of a model of the study.
        row: (n_subjects,) position of the subject whose outcomes each subject gets; the identity for the observed
            labelling.
        keep: whether the fit can be applied again.
    """
    target = cohorts.target
    labels = [target.ids[i] for i in row[target.positions(fold.train)]]
    one_seed = study.model_copy(update={"n_seeds": 1})
    (plan,) = seeded_chains(one_seed, cohorts, scheme_named(model), fold, tasks, label_rows=labels, keep=keep)
    return plan if keep else replace(plan, keep=False)
