"""Scores and heads of a source are those of an outcome only if both mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.tasks import Task
from connectome_tl.training.core_stage import CoreModel, own_scores
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import BY_NAME
from connectome_tl.training.stages import chain

AGE = Task(name="age", kind="regression", column="age", unit="years")
LEVELS = Task(name="delay", kind="multiclass", column="delay", levels=("none", "mild", "severe"))
GRADE = Task(name="grade", kind="ordinal", column="grade", levels=("low", "middle", "high"))
BELOW = Task(name="below", kind="binary", column="score", operator="<", cutoff=85)
KNOWN = (AGE, LEVELS, GRADE, BELOW)
TARGET = small_cohorts().target
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])


@pytest.mark.parametrize(
    ("task", "changed", "own"),
    [
        (AGE, {"unit": ""}, (0,)),
        (AGE, {"unit": "weeks"}, (None,)),
        (LEVELS, {}, (1, 2, 3)),
        (LEVELS, {"levels": ("None", " mild", "severe")}, (1, 2, 3)),
        (LEVELS, {"levels": ("none", "mild", "severe", "profound")}, (None,) * 4),
        (LEVELS, {"levels": ("none", "mild")}, (None,) * 2),
        (LEVELS, {"levels": ("mild", "none", "severe")}, (None,) * 3),
        (GRADE, {}, (4,)),
        (GRADE, {"levels": ("high", "middle", "low")}, (None,)),
        (BELOW, {"operator": "<=", "cutoff": 80}, (5,)),
        (BELOW, {"operator": ">="}, (None,)),
        (BELOW, {"operator": None, "cutoff": None}, (5,)),
        (BELOW, {"name": "other"}, (None,)),
    ],
)
def test_scores_are_matched_by_meaning(task: Task, changed: dict[str, Any], own: tuple[int | None, ...]) -> None:
    assert own_scores([task.model_copy(update=changed)], KNOWN) == own


def with_levels(cohort: Cohort, levels: tuple[str, ...]) -> Cohort:
    """The cohort with one multiclass outcome, and age after it."""
    values = np.arange(cohort.n_subjects) % len(levels)
    targets = cohort.targets.assign(delay=values.astype(float), age_at_scan=np.linspace(300, 400, cohort.n_subjects))
    late = Task(name="age_at_scan", kind="regression", column="age")
    status = cohort.status.assign(delay="observed", age_at_scan="observed")
    return replace(cohort, tasks=(LEVELS.model_copy(update={"levels": levels}), late), targets=targets, status=status)


@pytest.mark.parametrize(
    ("of_source", "alike"),
    [(("a", "b", "c"), True), (("a", "b", "c", "d"), False), (("a", "b"), False), (("b", "a", "c"), False)],
    ids=["equal", "more", "fewer", "in another order"],
)
def test_a_source_with_other_levels_gives_scores_but_neither_slopes_nor_heads(
    of_source: tuple[str, ...], alike: bool
) -> None:
    small = small_cohorts()
    assert small.source is not None
    cohorts = small.with_role("source", with_levels(small.source, of_source))
    cohorts = cohorts.with_role("target", with_levels(TARGET, ("a", "b", "c")))
    study = small_settings(source={"cohort": "s"}, target={"cohort": "t", "tasks": ["delay"]})
    plan = chain(study, cohorts, BY_NAME["full"], FOLD, ["delay"], seed=0)
    core, network = (dict(plan.parents)[name] for name in ("core", "network"))
    results = fit([core, dict(network.parents)["stage"]], cohorts.by_name())
    assert all(np.isfinite(row).all() for row in results[core.key].predictions.values())
    assert network.transfer.fresh_heads == (() if alike else ("delay",))
    parent = results[dict(core.parents)["source"].key]
    known = CoreModel.of(parent.arrays, parent.plain).tasks
    assert own_scores([cohorts.target.task("delay")], known) == ((0, 1, 2) if alike else (None,) * 3)
