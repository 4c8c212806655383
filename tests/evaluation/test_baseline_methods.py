"""Every baseline has a row in the table of models, a sentence with its source, and the steps of the settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts, small_settings, with_correlations

from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import LeakageError, UsageError
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.fixed import BASELINES
from connectome_tl.evaluation.baselines.ridges import tangent_ridge
from connectome_tl.settings.baselines import BaselineSettings, describe_baseline
from connectome_tl.settings.features import Confounds, FeatureSettings
from connectome_tl.settings.model_table import MODELS, Scheme, listed_models, register
from connectome_tl.settings.study import DEFAULT_BASELINES, StudySettings
from connectome_tl.settings.tangent import CORRELATIONS
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan, RowSet
from connectome_tl.training.schemes import StudyCohorts, schemes_of

COHORTS = StudyCohorts({role: with_correlations(cohort) for role, cohort in small_cohorts().roles.items()})
TARGET = COHORTS.target
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
CITED = {"tangent_ridge", "kernel_ridge", "cpm", "elastic_net", "linear_svm", "meta_matching", "two_stage"}


def test_every_baseline_is_a_model_with_its_own_words_and_its_source() -> None:
    assert all(MODELS[name].role == "baseline" for name in BASELINES)
    costly = {"elastic_net", "two_stage", "synthetic_volumes", "mixed_volumes", "real_volumes"}
    assert set(DEFAULT_BASELINES) == set(BASELINES) - costly
    assert set(BASELINES) == set(listed_models("baseline", "default", "named"))
    texts = {name: describe_baseline(name, BaselineSettings()) for name in BASELINES}
    assert len(set(texts.values())) == len(BASELINES)
    assert {name for name, text in texts.items() if "doi:" in text} == CITED
    assert describe_baseline("of_an_extension", BaselineSettings()) == "of an extension"


def test_the_sentence_follows_the_settings() -> None:
    settings = StudySettings.model_validate(
        {
            "target": {"cohort": "t"},
            "baseline_settings": {
                "cpm": {"threshold": 0.05, "network": "positive"},
                "kernel_ridge": {"kernels": ["rbf"]},
                "meta_matching": {"variant": "fine_tune"},
            },
        }
    ).baseline_settings
    assert "the sum of positively correlated edges (p < 0.05" in describe_baseline("cpm", settings)
    assert "a radial kernel between subjects' edges, penalty chosen" in describe_baseline("kernel_ridge", settings)
    assert "then ridge regression of the residuals on the edges" in describe_baseline("meta_matching", settings)


@pytest.mark.parametrize(("block", "name"), [("controls", "ridge"), ("controls", "core"), ("baselines", "site_only")])
def test_a_model_that_a_study_does_not_list_is_refused_with_the_names_of_the_others(block: str, name: str) -> None:
    known = "scratch, no_pretrain" if block == "controls" else "clinical_only, nuisance_only"
    with pytest.raises(ValueError, match=f"is called '{name}'; known are {known}"):
        StudySettings.model_validate({"target": {"cohort": "t"}, block: [name]})


def test_a_registered_control_is_a_model_of_the_studies_that_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    models = dict(MODELS)
    for module in ("settings.model_table", "training.schemes"):
        monkeypatch.setattr(f"connectome_tl.{module}.MODELS", models)
    mine = replace(MODELS["single_task"], name="mine", scheme=Scheme("mine", single_task=True), listed="named")
    register(mine)
    names = [scheme.name for scheme in schemes_of(small_settings(controls=("mine",)), COHORTS)]
    assert names == ["full", "core", "network", "mine"]
    with pytest.raises(UsageError, match="has no function"):
        register(replace(MODELS["ridge"], name="other"))


@pytest.mark.parametrize("values", [{"cpm": {"threshold": 0}}, {"kernel_ridge": {"kernels": []}}, {"svm": {}}])
def test_settings_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="baseline_settings"):
        StudySettings.model_validate({"target": {"cohort": "t"}, "baseline_settings": values})


def explained(rows: np.ndarray, ages: np.ndarray) -> float:
    """The largest correlation of a column with age."""
    z = (rows - rows.mean(axis=0)) / np.where(rows.std(axis=0) > 1e-9, rows.std(axis=0), np.inf)
    return float(np.abs(z.T @ ((ages - ages.mean()) / ages.std())).max() / len(ages))


def test_confounds_are_out_of_tangent_space_too() -> None:
    ages = TARGET.age[TARGET.positions(FOLD.train)]
    found = {}
    for name, confounds in (("plain", None), ("freed", Confounds(columns=("age",)))):
        study = small_settings(confounds=confounds)
        (baseline,) = tangent_ridge(BaselineData(study, COHORTS, (TARGET.task("cognitive"),)))
        rows = RowSet("target", FOLD.train, TARGET.rows_hash(FOLD.train))
        plan = FitPlan("core", rows, ("cognitive",), ("connectome",), study.features, 0, core=study.core)
        result = fit([plan], COHORTS.by_name())[plan.key]
        blocks = {
            block.name: block.values for block in CoreModel.of(result.arrays, result.plain).blocks(TARGET, FOLD.train)
        }
        found[name] = explained(baseline.design(FOLD).train, ages), explained(blocks["tangent"], ages)
    assert min(found["plain"]) > 0.3
    assert max(found["freed"]) < 1e-4
    assert FeatureSettings().in_tangent_space().edges.tangent == CORRELATIONS


@pytest.mark.parametrize(("odd", "first", "is_made"), [(12, 0, False), (0, 1, True)])
def test_correlations_are_judged_by_all_training_rows_of_the_fold(odd: int, first: int, is_made: bool) -> None:
    weights = TARGET.weights.copy()
    weights[odd] *= 30.0  # no correlation
    cohorts = COHORTS.with_role("target", replace(TARGET, weights=weights))
    (baseline,) = tangent_ridge(BaselineData(small_settings(), cohorts, (TARGET.task("cognitive"),)))
    design = baseline.design(Fold(TARGET.ids[first:16], TARGET.ids[16:]))
    assert (design.train.shape[1] > 0) == is_made


def test_a_source_that_holds_a_tested_infant_stops_the_baselines_that_learn_from_it() -> None:
    source = COHORTS.source
    assert source is not None
    kin = np.array([f"f{i}" for i in range(source.n_subjects)], dtype=object)
    target_kin = np.array([""] * TARGET.n_subjects, dtype=object)
    target_kin[20] = "f3"
    for name in ("linear_transfer", "meta_matching"):
        cohorts = COHORTS.with_role("source", replace(source, family=kin))
        cohorts = cohorts.with_role("target", replace(TARGET, family=target_kin))
        (baseline, *_) = BASELINES[name](BaselineData(small_settings(), cohorts, (TARGET.task("cognitive"),)))
        with pytest.raises(LeakageError, match="of a test fold, or relatives of them"):
            baseline.design(FOLD)
