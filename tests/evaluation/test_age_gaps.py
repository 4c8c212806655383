"""Brain-age gaps of folds without a tested age."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from small_study import small_cohorts

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.images.age_gaps import NOT_AGE, AgeGaps, age_gaps
from connectome_tl.settings.images.age_gap import BrainAge
from connectome_tl.tasks import Task
from connectome_tl.training.images.age_gap import LEAST_SLOPE

AGE = Task(name="age", kind="regression", column="age", unit="weeks")


def gaps_of(ages: np.ndarray, slope: float = 0.0) -> AgeGaps:
    """Gaps of a study with two folds, which test the first and the second half of the subjects.

    Args:
        slope: of the predicted on the true age.
    """
    cohort = small_cohorts(n_source=4, n_pool=4, n_target=len(ages)).target
    target = replace(cohort, tasks=(AGE,), targets=pd.DataFrame({"age": ages}, index=list(cohort.ids)))
    half = len(ages) // 2
    folds = [Fold(target.ids[half:], target.ids[:half]), Fold(target.ids[:half], target.ids[half:])]
    estimates = {
        subject: np.array([40.0 + i % 2 + slope * age])
        for (i, subject), age in zip(enumerate(target.ids), ages, strict=True)
    }
    planned, results = [], {}
    for number, fold in enumerate(folds):
        results[f"{number}"] = SimpleNamespace(
            predictions={i: estimates[i] for i in fold.test}, held_out={i: estimates[i] for i in fold.train}
        )
        plans = [SimpleNamespace(key=f"{number}")]
        place = {"repeat": 0, "fold_number": number, "fold": fold, "plans": plans}
        planned.append(SimpleNamespace(model="full", tasks=(AGE,), **place))
    study = SimpleNamespace(brain_age=BrainAge(correction="none"))
    found = age_gaps(cast(Any, study), target, cast(Any, SimpleNamespace(planned=planned, results=results)))
    assert found is not None
    return found


def test_a_fold_that_tests_no_subject_of_known_age_leaves_the_gaps_of_the_others() -> None:
    ages = np.arange(20.0) % 7 + 38
    both = gaps_of(ages).table
    ages[:10] = np.nan
    found = gaps_of(ages)
    pd.testing.assert_frame_equal(found.table, both[both["fold"] == 1].reset_index(drop=True))
    assert [score.n for score in found.scores] == [10]


def test_without_any_tested_age_there_is_no_gap() -> None:
    found = gaps_of(np.full(20, np.nan))
    assert found.table.empty
    assert found.scores == ()


@pytest.mark.parametrize("slope", [0.0, 0.02, 0.5])
def test_a_gap_of_predictions_that_do_not_follow_age_is_said_to_mean_nothing(slope: float) -> None:
    """The gap of a constant is minus the age, and any difference of it is one of age or of noise."""
    (score,) = gaps_of(np.arange(20.0) // 2 % 5 + 38, slope).scores
    assert 1 + score.slope == pytest.approx(slope, abs=1e-6)
    assert (score.note == NOT_AGE) == (slope < LEAST_SLOPE)
