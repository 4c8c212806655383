"""Stages and controls are chains of plans; who may be in them follows from the fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import LeakageError
from connectome_tl.settings.study import Adapt, Stages, StudySettings, Training
from connectome_tl.training.checkpoint import tensor_bytes
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.stages import SCHEMES, Scheme, StudyCohorts, adaptation_rows, chain, schemes_of

COHORTS = small_cohorts()
TARGET = COHORTS.target
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
BY_NAME = {scheme.name: scheme for scheme in SCHEMES}


def pool_of(ids: list[str], family: list[str]) -> Cohort:
    """A pool of as many of the simulated pool's infants, under these names."""
    pool = COHORTS.pool
    assert pool is not None
    some = pool.take(pool.ids[: len(ids)])
    moved = {name: getattr(some, name).set_axis(ids) for name in ("covariates", "targets", "status")}
    return replace(some, ids=tuple(ids), family=np.array(family, dtype=object), **moved)


def planned(name: str, study: StudySettings | None = None, cohorts: StudyCohorts = COHORTS) -> FitPlan:
    return chain(study or small_settings(), cohorts, BY_NAME[name], FOLD, TASKS, seed=0)


@pytest.mark.parametrize(
    ("scheme", "stages", "clinical"),
    [
        ("full", ["pretrain", "adapt", "finetune"], True),
        ("scratch", ["finetune"], True),
        ("no_pretrain", ["adapt", "finetune"], True),
        ("no_adapt", ["pretrain", "finetune"], True),
        ("single_task", ["pretrain", "adapt", "finetune"], True),
        ("no_clinical", ["pretrain", "adapt", "finetune"], False),
    ],
)
def test_the_lineage_of_each_scheme_is_what_its_name_says(scheme: str, stages: list[str], clinical: bool) -> None:
    lineage = planned(scheme).lineage()
    assert [plan.stage for plan in lineage] == stages
    assert [plan.cohort for plan in lineage] == [
        {"pretrain": "source", "adapt": "pool", "finetune": "target"}[s] for s in stages
    ]
    last = lineage[-1]
    assert last.clinical == clinical
    assert last.rows == FOLD.train
    assert last.predict == FOLD.test
    assert not any(plan.clinical or plan.predict for plan in lineage[:-1])
    assert BY_NAME[scheme].single_task == (scheme == "single_task")


def test_a_control_shares_every_stage_it_does_not_leave_out() -> None:
    full = planned("full")
    assert planned("no_clinical").parent.key == full.parent.key  # type: ignore[union-attr]
    assert planned("no_adapt").parent.key == full.parent.parent.key  # type: ignore[union-attr]
    assert len({planned(name).key for name in BY_NAME if name != "single_task"}) == 5


@pytest.mark.parametrize(
    ("pretrain", "adapt", "useful"),
    [
        (True, True, set(BY_NAME)),
        (True, False, {"full", "scratch", "single_task", "no_clinical"}),
        (False, True, {"full", "scratch", "single_task", "no_clinical"}),
        (False, False, {"full", "single_task", "no_clinical"}),
    ],
)
def test_controls_that_would_be_the_full_model_again_are_left_out(
    pretrain: bool, adapt: bool, useful: set[str]
) -> None:
    stages = small_settings().stages
    left = Stages(
        pretrain=stages.pretrain if pretrain else None, adapt=stages.adapt if adapt else None, finetune=stages.finetune
    )
    study = small_settings(stages=left)
    assert {scheme.name for scheme in schemes_of(study)} == useful
    fold = (COHORTS, Scheme("x"), FOLD, TASKS)
    keys = [chain(study, *fold[:1], BY_NAME[n], *fold[2:], seed=0).key for n in useful - {"single_task"}]
    assert len(set(keys)) == len(keys)
    assert [s.name for s in schemes_of(study.model_copy(update={"controls": ()}))] == ["full"]


def test_adaptation_leaves_out_test_infants_and_their_kin() -> None:
    train, test = TARGET.ids[0], TARGET.ids[16]
    twin_of_test, sibling = TARGET.ids[17], "sibling"
    target = with_rows(TARGET, [twin_of_test], family="F")
    pool = pool_of(
        ["stranger", train, test, sibling, "kin through the pool", "kin by name"], ["", "", "G", "", "G", "F"]
    )
    assert adaptation_rows(pool, target, FOLD, transductive=False) == ("stranger", train, sibling)
    assert adaptation_rows(pool, target, FOLD, transductive=True) == pool.ids


def test_the_transductive_setting_reaches_the_plan() -> None:
    pool = pool_of(["a", TARGET.ids[16]], ["", ""])
    cohorts = replace(COHORTS, pool=pool)
    stages = small_settings().stages
    rows = []
    for transductive in (False, True):
        adapt = Adapt(training=Training(epochs=1), transductive=transductive)
        study = small_settings(stages=stages.model_copy(update={"adapt": adapt}))
        rows.append(planned("full", study, cohorts).parent.rows)  # type: ignore[union-attr]
    assert rows == [("a",), ("a", TARGET.ids[16])]


def test_a_source_that_holds_a_test_infant_is_refused() -> None:
    source = COHORTS.source
    assert source is not None
    ids = [*source.ids[1:], FOLD.test[0]]
    moved = {name: getattr(source, name).set_axis(ids) for name in ("covariates", "targets", "status")}
    cohorts = replace(COHORTS, source=replace(source, ids=tuple(ids), **moved))
    with pytest.raises(LeakageError, match="source cohort"):
        planned("full", cohorts=cohorts)
    planned("no_pretrain", cohorts=cohorts)


def test_a_test_infant_in_the_pool_or_not_changes_no_byte_of_the_fit() -> None:
    ids = ["a", "b", "c", "d", TARGET.ids[2]]
    without = replace(COHORTS, pool=pool_of(ids, [""] * 5))
    within = replace(COHORTS, pool=pool_of([*ids, FOLD.test[3], FOLD.test[1]], [""] * 7))
    found = []
    for cohorts in (without, within):
        plan = planned("full", cohorts=cohorts)
        result = fit([plan], cohorts.by_name())[plan.key]
        found.append((plan.key, tensor_bytes({**result.state, **result.fitted}), result.predictions))
    assert found[0][:2] == found[1][:2]
    assert all((found[0][2][i] == found[1][2][i]).all() for i in FOLD.test)


def test_a_label_permutation_moves_labels_and_shares_the_stages_before() -> None:
    moved = FOLD.train[::-1]
    study = small_settings()
    permuted = chain(study, COHORTS, BY_NAME["full"], FOLD, TASKS, seed=0, label_rows=moved)
    plain = planned("full")
    assert permuted.parent == plain.parent
    assert permuted.key != plain.key
    same = chain(study, COHORTS, BY_NAME["full"], FOLD, TASKS, seed=0, label_rows=FOLD.train)
    results = fit([permuted, plain, same], COHORTS.by_name())
    labels = [(results[p.key].fitted["targets.mean"], results[p.key].predictions[FOLD.test[0]]) for p in (plain, same)]
    assert np.array_equal(labels[0][0], labels[1][0])
    assert np.array_equal(labels[0][1], labels[1][1])
    assert not np.array_equal(results[permuted.key].predictions[FOLD.test[0]], labels[0][1])
