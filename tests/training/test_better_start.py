"""Networks start from stage 1 unless random weights predict held-out training rows better."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error
from small_study import TASKS, plan_of, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.study import CohortUse
from connectome_tl.settings.training import Pretrain, Training
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import checks_of
from connectome_tl.training.fit import fit
from connectome_tl.training.networks import supervised
from connectome_tl.training.networks.supervised import RANDOM_START
from connectome_tl.training.schemes import StudyCohorts

# of stage 1: steps; of the cohorts: older subjects, infants; infants of the training rows
TAUGHT, UNTAUGHT = (160, 240, 60, 40), (4, 120, 24, 16)
Case = tuple[int, int, int, int]


@cache
def cohorts_of(case: Case) -> StudyCohorts:
    return small_cohorts(n_source=case[1], n_target=case[2], effect=2.0)


def fitted(case: Case, scheme: str = "network_no_adapt", use_if: str = "predictable") -> FitResult:
    steps, n_train, cohorts = case[0], case[3], cohorts_of(case)
    study = small_settings(source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age", "sex")), steps=4)
    training = Training(steps=steps, batch_size=10)
    pretrain = Pretrain.model_validate({"training": training, "use_if": use_if})
    study = study.model_copy(update={"stages": study.stages.model_copy(update={"pretrain": pretrain})})
    ids = cohorts.target.ids
    plan = plan_of(Fold(ids[:n_train], ids[n_train:]), study, cohorts=cohorts, scheme=scheme)
    return fit([plan], cohorts.by_name())[plan.key]


def held_out_loss(result: FitResult, case: Case) -> float:
    """Log loss of the binary outcome and squared error of the other one in units of its variance, averaged."""
    target = cohorts_of(case).target
    train = list(target.ids[: case[3]])
    truth = target.targets.loc[train, list(TASKS)].to_numpy(float)
    predicted = np.array([result.held_out[i] for i in train])
    known = np.isfinite(truth)
    (risk, value), (a, b) = predicted.T, truth.T
    assert set(a[known[:, 0]]) == {0.0, 1.0}
    of_values = mean_squared_error(b[known[:, 1]], value[known[:, 1]]) / np.var(b[known[:, 1]])
    return float(np.mean([log_loss(a[known[:, 0]], risk[known[:, 0]]), of_values]))


@pytest.mark.parametrize("case", [TAUGHT, UNTAUGHT], ids=["taught", "untaught"])
def test_the_start_that_predicts_held_out_rows_better_is_kept(case: Case) -> None:
    chosen, scratch, always = fitted(case), fitted(case, "network_scratch"), fitted(case, use_if="always")
    is_random = held_out_loss(scratch, case) < held_out_loss(always, case)
    assert is_random == (case == UNTAUGHT)
    assert (RANDOM_START in chosen.notes) == is_random
    expected = scratch if is_random else always
    for subject, values in expected.predictions.items():
        np.testing.assert_array_equal(chosen.predictions[subject], values)
    assert checks_of(chosen) == checks_of(always)  # as reported during training


def test_with_many_families_stage_1_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "_MOST", 1)
    chosen, always = fitted(UNTAUGHT), fitted(UNTAUGHT, use_if="always")
    for subject, values in always.predictions.items():
        np.testing.assert_array_equal(chosen.predictions[subject], values)
