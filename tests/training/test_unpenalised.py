"""Covariates named in the study enter the closed-form core without a penalty, in fits, refits and stored fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import UsageError
from connectome_tl.features.modalities import ClinicalSteps, clinical_specs
from connectome_tl.features.steps import fit_steps
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.training.checks import check_names
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.refits import refitted_scores
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts(n_target=60)
TARGET = COHORTS.target
FOLD = Fold(TARGET.ids[:45], TARGET.ids[45:])
CLINICAL = tuple(spec.column for spec in clinical_specs(TARGET.covariate_specs))


def bare(cohort: Cohort) -> Cohort:
    """The cohort without connectomes."""
    n = cohort.n_subjects
    return replace(cohort, regions=(), measures=(), weights=np.zeros((n, 0, 0, 0)), node_mask=np.zeros((n, 0), bool))


def core_of(
    cohorts: StudyCohorts, unpenalised: tuple[str, ...], tasks: tuple[str, ...] = ("motor_score",)
) -> CoreModel:
    study = small_settings(source=None, pool=None, stages={"pretrain": None, "adapt": None})
    study = study.model_copy(update={"core": CoreSettings(unpenalised=unpenalised, clip=None)})
    plan = plan_of(FOLD, study, cohorts=cohorts, scheme="core", tasks=tasks)
    result = fit([plan], cohorts.by_name())[plan.key]
    return CoreModel.of(result.arrays, result.plain)


def test_with_all_covariates_unpenalised_it_is_least_squares() -> None:
    cohort = bare(TARGET)
    y = cohort.targets["motor_score"].to_numpy(float)[cohort.positions(FOLD.train)]
    steps = fit_steps(cohort, FOLD.train, FeatureSettings(), ("clinical",)).steps["clinical"]
    train, test = (steps.apply(cohort, ids).rows["values"] for ids in (FOLD.train, FOLD.test))
    known = np.isfinite(y)
    design = [sm.add_constant(rows.astype(float), has_constant="add") for rows in (train[known], test)]
    want = sm.OLS(y[known], design[0]).fit().predict(design[1])
    found = core_of(StudyCohorts({"target": cohort}), CLINICAL).predict(cohort, FOLD.test)[:, 0]
    np.testing.assert_allclose(found, np.clip(want, y[known].min(), y[known].max()), rtol=1e-4)


def test_only_the_named_columns_are_free_and_categories_and_gaps_go_with_theirs() -> None:
    steps = fit_steps(TARGET, FOLD.train, FeatureSettings(), ("clinical",)).steps["clinical"]
    assert isinstance(steps, ClinicalSteps)
    for column in CLINICAL:
        own = steps.encoder.made_of((column,))
        names = [name for name, is_own in zip(steps.encoder.names, own, strict=True) if is_own]
        assert names
        assert all(name.startswith(column) for name in names)
    assert steps.encoder.made_of(CLINICAL).all()
    model = core_of(COHORTS, CLINICAL[:1])
    free = {block.name: block for block in model.blocks(TARGET, FOLD.test)}["clinical, unpenalised"]
    assert not free.penalised
    np.testing.assert_array_equal(
        free.values, steps.apply(TARGET, FOLD.test).rows["values"][:, steps.encoder.made_of(CLINICAL[:1])]
    )


def test_refits_under_other_labels_take_the_same_blocks() -> None:
    study = small_settings(core=CoreSettings(unpenalised=CLINICAL[:2]))
    plan = plan_of(FOLD, study, cohorts=COHORTS, scheme="core")
    done = fit([plan], COHORTS.by_name())
    model = CoreModel.of(
        done[plan.key].arrays,
        done[plan.key].plain,
        CoreModel.of(done[plan.parents[0][1].key].arrays, done[plan.parents[0][1].key].plain),
    )
    outcomes = TARGET.targets[list(plan.tasks)].to_numpy(float)[TARGET.positions(FOLD.train)][None]
    found = refitted_scores(plan, COHORTS.by_name(), done, outcomes, FOLD.test)
    want = model.embed(TARGET, FOLD.test)
    for t, name in enumerate(plan.tasks):
        np.testing.assert_allclose(found[name][0][:, 0], want[:, t], rtol=1e-6)


def test_a_column_that_is_no_clinical_covariate_is_refused() -> None:
    with pytest.raises(UsageError, match=r"core\.unpenalised: 'hat' is not a clinical covariate") as refusal:
        check_names(small_settings(core=CoreSettings(unpenalised=("hat",))), COHORTS)
    assert refusal.value.exit_code == 64
    check_names(small_settings(core=CoreSettings(unpenalised=CLINICAL[:1])), COHORTS)
