"""A small study with a search space that trials of milliseconds can search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_study import last_stage, small_cohorts, small_settings

from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.tuning.inner import InnerFolds
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import SplitSettings, StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.training.schemes import StudyCohorts

SPACE: dict[str, Any] = {
    "edges.n_edges": {"low": 2, "high": 40, "log": True},
    "core.clip": {"low": 1.5, "high": 6.0},
    "core.relax": {"choices": [True, False]},
}


def tuned_study(*, inner: int = 3, outer: int = 2, **tune: Any) -> StudySettings:
    """The target cohort only, the closed-form core, one outcome."""
    whole = small_settings(steps=1)
    stages = last_stage(whole.stages.finetune)
    first = {} if tune.get("sampler") == "random" else {"startup": 3}
    block = {"space": SPACE, "trials": 6, "model": "core", **first, **tune}
    return small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=stages,
        splits=SplitSettings(repeats=1, outer=outer, inner=inner, stratum="cognitive"),
        controls=(),
        baselines=("prevalence",),
        refits={"linear": 0},
        tune=TuneSettings.model_validate(block),
    )


def tuned_cohorts(**changed: Any) -> StudyCohorts:
    return StudyCohorts({"target": small_cohorts(**{"n_target": 40, **changed}).target})


def write_study(home: Path, study: StudySettings, cohorts: StudyCohorts | None = None) -> Path:
    """study.yaml and its target cohort in one folder."""
    write_cohort((cohorts or tuned_cohorts()).target, home / "target")
    return write_text(home / "study.yaml", dump_settings(study))


def inner_folds(
    study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan | None = None, at: int = 0
) -> InnerFolds:
    """The inner folds of one outer fold of the first repeat."""
    fold = (splits or make_split_plan(cohorts.target, study.splits)).repeats[0][at]
    (task,) = (task for task in tasks_of(study, cohorts) if task.name == "cognitive")
    assert study.tune is not None
    return InnerFolds(study, cohorts, fold, study.tune.model, task, ("auc",))
