"""Stages and controls are chains of plans; their subjects follow from the fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, fitted_bytes, last_stage, plan_of, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import LeakageError, UsageError
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.study import ALL_CONTROLS, StudySettings
from connectome_tl.settings.training import Adapt, Training
from connectome_tl.training.checks import check_names
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import ALWAYS, BY_NAME, SCHEMES, StudyCohorts, omitted_controls, schemes_of
from connectome_tl.training.stages import adaptation_rows, chain

COHORTS = small_cohorts()
TARGET = COHORTS.target
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
EVERY_STAGE = ["source", "core", "pretrain", "adapt", "finetune", "mixture"]


def pool_of(ids: list[str], family: list[str]) -> Cohort:
    """A pool of as many infants of the simulated pool, with these names."""
    pool = COHORTS.pool
    assert pool is not None
    some = pool.take(pool.ids[: len(ids)])
    moved = {name: getattr(some, name).set_axis(ids) for name in ("covariates", "targets", "status")}
    return replace(some, ids=tuple(ids), family=np.array(family, dtype=object), **moved)


def planned(name: str, study: StudySettings | None = None, cohorts: StudyCohorts = COHORTS) -> FitPlan:
    return plan_of(FOLD, study, cohorts=cohorts, scheme=name)


def stage_of(plan: FitPlan, stage: str) -> FitPlan:
    (found,) = (member for member in plan.lineage(without=RANDOM) if member.stage == stage)
    return found


@pytest.mark.parametrize(
    ("scheme", "stages", "clinical"),
    [
        ("full", EVERY_STAGE, True),
        ("core", ["source", "core"], True),
        ("network", ["source", "pretrain", "adapt", "finetune"], True),
        ("scratch", ["core", "finetune", "mixture"], True),
        ("no_pretrain", ["core", "adapt", "finetune", "mixture"], True),
        ("no_adapt", ["source", "core", "pretrain", "finetune", "mixture"], True),
        ("network_scratch", ["finetune"], True),
        ("network_no_pretrain", ["adapt", "finetune"], True),
        ("network_no_adapt", ["source", "pretrain", "finetune"], True),
        ("core_scratch", ["core"], True),
        ("core_permuted_source", ["source", "core"], True),
        ("single_task", EVERY_STAGE, True),
        ("no_clinical", EVERY_STAGE, False),
        ("no_connectome", ["core", "finetune", "mixture"], True),
    ],
)
def test_the_lineage_of_each_scheme_is_what_its_name_says(scheme: str, stages: list[str], clinical: bool) -> None:
    lineage = planned(scheme).lineage(without=RANDOM)
    assert [plan.stage for plan in lineage] == stages
    roles = {"source": "source", "pretrain": "source", "adapt": "pool"}
    for plan in lineage:
        role = roles.get(plan.stage, "target")
        assert plan.train.cohort == role
        assert ("clinical" in plan.modalities) == (clinical and role == "target")
        assert ("connectome" in plan.modalities) == (scheme != "no_connectome")
        assert plan.predict == (FOLD.test if role == "target" else ())
        if role == "target":
            assert plan.train.ids == FOLD.train
    assert BY_NAME[scheme].single_task == (scheme == "single_task")
    # Averaged with one from random weights, also in controls; without connectomes there is no earlier stage.
    n_ensembles = 0 if "finetune" not in stages else 1 if scheme == "no_connectome" else 2
    assert sum(plan.stage == "finetune" for plan in planned(scheme).lineage()) == n_ensembles


def test_every_scheme_is_tried_here_or_needs_images() -> None:
    assert {scheme.name for scheme in SCHEMES} == {*ALWAYS, *ALL_CONTROLS, "no_connectome", "no_image"}


def test_a_control_shares_every_stage_it_does_not_leave_out() -> None:
    full = planned("full")
    for stage in ("source", "pretrain", "adapt"):
        assert stage_of(planned("no_clinical"), stage).key == stage_of(full, stage).key
    assert stage_of(planned("no_adapt"), "pretrain").key == stage_of(full, "pretrain").key
    assert stage_of(planned("no_adapt"), "core").key == stage_of(full, "core").key
    assert planned("core").key == stage_of(full, "core").key
    assert planned("network").key == stage_of(full, "finetune").key
    names = set(BY_NAME) - {"single_task", "no_image"}
    assert len({planned(name).key for name in names}) == len(names)


CORE_CONTROLS = {"core_scratch", "core_permuted_source"}
BOTH = {"scratch", "network_scratch"}
ONE_STAGE = {"no_pretrain", "no_adapt", "network_no_pretrain", "network_no_adapt"}
OTHERS = {*ALWAYS, "single_task", "no_clinical"}


@pytest.mark.parametrize(
    ("pretrain", "adapt", "useful"),
    [
        (True, True, OTHERS | CORE_CONTROLS | BOTH | ONE_STAGE),
        (True, False, OTHERS | CORE_CONTROLS | BOTH),
        (False, True, OTHERS | BOTH),
        (False, False, OTHERS),
    ],
)
def test_controls_that_would_be_the_full_model_again_are_left_out(
    pretrain: bool, adapt: bool, useful: set[str]
) -> None:
    stages = small_settings().stages
    left = last_stage(stages.finetune).model_copy(
        update={"pretrain": stages.pretrain if pretrain else None, "adapt": stages.adapt if adapt else None}
    )
    study = small_settings(stages=left)
    assert {scheme.name for scheme in schemes_of(study, COHORTS)} == useful
    keys = [planned(name, study).key for name in useful - {"single_task"}]
    assert len(set(keys)) == len(keys)
    assert [s.name for s in schemes_of(study.model_copy(update={"controls": ()}), COHORTS)] == list(ALWAYS)


@pytest.mark.parametrize(
    ("stage", "pretrain", "adapt", "same"), [(1, True, False, "no_pretrain"), (2, False, True, "no_adapt")]
)
def test_the_reason_of_each_omitted_control_is_stated(stage: int, pretrain: bool, adapt: bool, same: str) -> None:
    stages = small_settings().stages
    kept = {"pretrain": stages.pretrain if pretrain else None, "adapt": stages.adapt if adapt else None}
    study = small_settings(stages=last_stage(stages.finetune).model_copy(update=kept))
    omitted = omitted_controls(study, COHORTS, 1)
    only = f"stage {stage} is the only earlier stage, and"
    assert omitted[same] == f"{only} scratch is the model without it"
    assert omitted[f"network_{same}"] == f"{only} network_scratch is the model without it"
    assert omitted["single_task"] == "there is one outcome"
    assert ("core_scratch" in omitted) == (stage == 2)
    fitted = {scheme.name for scheme in schemes_of(study, COHORTS)}
    assert set(study.controls) - fitted == set(omitted_controls(study, COHORTS, 2))


def test_a_target_alone_has_no_stages_before_the_last() -> None:
    study = StudySettings.model_validate({"target": {"cohort": "t"}})
    assert (study.stages.pretrain, study.stages.adapt) == (None, None)
    alone = StudyCohorts({"target": TARGET})
    assert {scheme.name for scheme in schemes_of(study, alone)} == OTHERS
    plan = chain(study, alone, BY_NAME["full"], FOLD, TASKS, seed=0)
    assert [member.stage for member in plan.lineage()] == ["core", "finetune", "mixture"]


def test_the_permuted_source_has_the_outcomes_of_others_and_nothing_else_differs() -> None:
    full, permuted = (stage_of(planned(name), "source") for name in ("core", "core_permuted_source"))
    assert permuted.train.labels is not None
    assert sorted(permuted.train.labels) == sorted(permuted.train.ids)
    assert permuted.train.labels != permuted.train.ids
    assert replace(permuted, train=replace(permuted.train, labels=None)).key == full.key
    other = small_settings(seed=1)
    assert stage_of(planned("core_permuted_source", other), "source").train.labels != permuted.train.labels


def test_adaptation_excludes_test_infants_and_their_relatives() -> None:
    train, test = TARGET.ids[0], TARGET.ids[16]
    twin_of_test, sibling = TARGET.ids[17], "sibling"
    target = with_rows(TARGET, [twin_of_test], family="F")
    pool = pool_of(
        ["stranger", train, test, sibling, "kin through the pool", "kin by name"], ["", "", "G", "", "G", "F"]
    )
    assert adaptation_rows(pool, target, FOLD, transductive=False) == ("stranger", train, sibling)
    assert adaptation_rows(pool, target, FOLD, transductive=True) == pool.ids


def test_adaptation_learns_from_subjects_with_the_modality_of_its_objective() -> None:
    """A missing connectome is no connectome of zeros."""
    pool = COHORTS.pool
    assert pool is not None
    mask = pool.node_mask.copy()
    mask[[1, 4]] = False
    without = replace(
        pool, node_mask=mask, weights=np.where(mask[:, None, :, None] & mask[:, None, None, :], pool.weights, 0)
    )
    cohorts = COHORTS.with_role("pool", without)
    lineage = plan_of(FOLD, small_settings(), cohorts=cohorts, scheme="full").lineage()
    (adapt,) = (plan for plan in lineage if plan.stage == "adapt")
    assert set(pool.ids) - set(adapt.train.ids) == {pool.ids[1], pool.ids[4]}
    nobody = COHORTS.with_role("pool", replace(without, node_mask=np.zeros_like(mask)))
    lineage = plan_of(FOLD, small_settings(), cohorts=nobody, scheme="full").lineage()
    assert "adapt" not in {plan.stage for plan in lineage}


def test_the_transductive_setting_reaches_the_plan() -> None:
    pool = pool_of(["a", TARGET.ids[16]], ["", ""])
    cohorts = COHORTS.with_role("pool", pool)
    stages = small_settings().stages
    rows = []
    for transductive in (False, True):
        adapt = Adapt(training=Training(steps=1), transductive=transductive)
        study = small_settings(stages=stages.model_copy(update={"adapt": adapt}))
        rows.append(stage_of(planned("full", study, cohorts), "adapt").train.ids)
    assert rows == [("a",), ("a", TARGET.ids[16])]


@pytest.mark.parametrize("kin", [False, True])
def test_a_source_that_holds_a_test_infant_or_kin_is_refused(kin: bool) -> None:
    source = COHORTS.source
    assert source is not None
    ids = [*source.ids[1:], "sibling" if kin else FOLD.test[0]]
    moved = {name: getattr(source, name).set_axis(ids) for name in ("covariates", "targets", "status")}
    held = with_rows(replace(source, ids=tuple(ids), **moved), ids[-1:], family="F" if kin else "")
    cohorts = COHORTS.with_role("source", held)
    if kin:
        cohorts = cohorts.with_role("target", with_rows(TARGET, FOLD.test[:1], family="F"))
    for scheme in ("full", "core", "network"):
        with pytest.raises(LeakageError, match="source cohort"):
            planned(scheme, cohorts=cohorts)
    planned("no_pretrain", cohorts=cohorts)


def test_a_test_infant_in_the_pool_or_not_changes_no_byte_of_the_fit() -> None:
    ids = ["a", "b", "c", "d", TARGET.ids[2]]
    without = COHORTS.with_role("pool", pool_of(ids, [""] * 5))
    within = COHORTS.with_role("pool", pool_of([*ids, FOLD.test[3], FOLD.test[1]], [""] * 7))
    found = []
    for cohorts in (without, within):
        plan = planned("full", cohorts=cohorts)
        results = fit([plan], cohorts.by_name())
        found.append(
            ([member.key for member in plan.lineage()], {k: fitted_bytes(r) for k, r in results.items()},
             results[plan.key].predictions)
        )  # fmt: skip
    assert found[0][:2] == found[1][:2]
    assert all((found[0][2][i] == found[1][2][i]).all() for i in FOLD.test)


def test_a_label_permutation_moves_labels_and_shares_the_stages_before() -> None:
    study, moved = small_settings(), FOLD.train[::-1]
    permuted = chain(study, COHORTS, BY_NAME["full"], FOLD, TASKS, seed=0, label_rows=moved)
    plain = planned("full")
    for stage in ("source", "pretrain", "adapt"):
        assert stage_of(permuted, stage).key == stage_of(plain, stage).key
    assert permuted.key != plain.key
    same = chain(study, COHORTS, BY_NAME["full"], FOLD, TASKS, seed=0, label_rows=FOLD.train)
    results = fit([permuted, plain, same], COHORTS.by_name())
    first, second, third = (results[p.key].predictions for p in (plain, same, permuted))
    assert all(np.array_equal(first[i], second[i]) for i in FOLD.test)
    assert any(not np.array_equal(first[i], third[i]) for i in FOLD.test)
    weights = [results[stage_of(p, "finetune").key].arrays for p in (plain, same)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"source": {"cohort": "older/cohort.yaml", "tasks": ["age", "height", "iq"]}}, ["'height'", "'iq'"]),
        ({"confounds": {"columns": ["log(motion2)"]}}, ["no column 'motion2'"]),
        ({"harmonise": {"method": "combat", "protect": ["hat"]}}, ["no column 'hat'"]),
        ({"harmonise": {"method": "combat", "protect": ["age"]}}, ["harmonise.protect: 'age' is an outcome of cohort"]),
    ],
)
def test_names_that_a_cohort_does_not_have_are_refused(changed: dict[str, object], names: list[str]) -> None:
    study = StudySettings.model_validate(small_settings().model_dump() | changed)
    with pytest.raises(UsageError) as refusal:
        check_names(study, COHORTS)
    assert all(name in str(refusal.value) for name in names)
    check_names(small_settings(), COHORTS)


def test_an_age_that_is_an_outcome_under_another_name_cannot_be_protected() -> None:
    target = COHORTS.target
    study = small_settings(harmonise=HarmoniseSettings(method="combat", protect=("age",)))
    alone = StudyCohorts({"target": target})
    check_names(study, alone)  # an outcome of older subjects that infants lack
    targets = target.targets.assign(motor_score=target.age)
    with pytest.raises(UsageError, match=r"Take age out of harmonise\.protect"):
        check_names(study, StudyCohorts({"target": replace(target, targets=targets)}))


def test_a_stage_that_has_no_connectomes_is_refused() -> None:
    pool = COHORTS.pool
    assert pool is not None
    n = pool.n_subjects
    bare = replace(pool, regions=(), measures=(), weights=np.zeros((n, 0, 0, 0)), node_mask=np.zeros((n, 0), bool))
    with pytest.raises(UsageError, match="stage adapt learns from connectomes"):
        check_names(small_settings(), COHORTS.with_role("pool", bare))
