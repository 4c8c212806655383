"""Small studies with all settings enabled, for tests of stored fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from small_study import FLAT, last_stage, small_cohorts, small_settings, with_correlations, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import Confounds, EdgeSettings, HarmoniseSettings
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.settings.tangent import TangentSettings
from connectome_tl.tasks import Task
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain

EVERY_KIND = ("motor_score", "cognitive", "severity", "pattern")
ALL_STAGES = frozenset({"source", "core", "pretrain", "adapt", "finetune", "mixture"})


def with_region_features(cohort: Cohort) -> Cohort:
    """The cohort with two measures of every region."""
    features = np.random.default_rng(1).normal(size=(cohort.n_subjects, cohort.n_regions, 2))
    return replace(cohort, region_features=features, region_feature_names=("thickness", "volume"))


def without_connectomes(cohort: Cohort) -> Cohort:
    """The cohort with five training rows and a test row of `Case.fold` that have no region."""
    return with_rows(cohort, [*cohort.ids[:16:3][:5], cohort.ids[17]], node_mask=False, weights=0.0)


def with_every_kind(cohort: Cohort) -> Cohort:
    """The cohort with an additional ordinal and multiclass outcome."""
    score = cohort.targets["motor_score"].rank(pct=True)
    severity = np.where(score.isna(), np.nan, np.digitize(score.fillna(0), [0.34, 0.67])).astype(float)
    pattern = np.where(score.isna(), np.nan, (np.arange(cohort.n_subjects) + severity) % 3)
    tasks = (
        Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe")),
        Task(name="pattern", kind="multiclass", column="pattern", levels=("a", "b", "c")),
    )
    added = {"severity": severity, "pattern": pattern}
    status = dict.fromkeys(added, cohort.status["motor_score"])
    return replace(
        cohort,
        tasks=(*cohort.tasks, *tasks),
        targets=cohort.targets.assign(**added),
        status=cohort.status.assign(**status),
    )


def changed(cohorts: StudyCohorts, change: object) -> StudyCohorts:
    """Every cohort changed in the same way."""
    return StudyCohorts({role: change(cohort) for role, cohort in cohorts.roles.items()})  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class Case:
    """A study, its cohorts and a fold; `schemes` are the tested models, `stages` their stages."""

    study: StudySettings
    cohorts: StudyCohorts
    tasks: Sequence[str]
    schemes: tuple[str, ...] = ("full", "no_clinical", "core_permuted_source")
    stages: frozenset[str] = ALL_STAGES

    @property
    def fold(self) -> Fold:
        ids = self.cohorts.target.ids
        return Fold(ids[:16], ids[16:])

    def plan(self, scheme: str = "full") -> FitPlan:
        return chain(self.study, self.cohorts, BY_NAME[scheme], self.fold, self.tasks, seed=0)


@cache
def _cases() -> dict[str, Case]:
    cohorts = changed(small_cohorts(), with_region_features)
    every = cohorts.with_role("target", with_every_kind(cohorts.target))
    correlated = changed(every, with_correlations)
    target = CohortUse(cohort="t", tasks=EVERY_KIND)
    everything = {
        "target": target,
        "harmonise": HarmoniseSettings(method="combat", unseen="reference"),
        "confounds": Confounds(columns=("age",)),
        "edges": EdgeSettings(consensus=0.5, n_edges=20),
    }
    in_tangent = {**everything, "edges": EdgeSettings(tangent=TangentSettings(values="correlation"), n_edges=30)}
    alone = StudyCohorts({"target": every.target})
    plain = {"source": None, "pool": None}
    stages = last_stage(small_settings().stages.finetune)
    bare = StudyCohorts({"target": replace(every.target, regions=(), region_features=None, region_feature_names=(),
                                           measures=(), weights=every.target.weights[:, :0, :0, :0],
                                           node_mask=every.target.node_mask[:, :0])})  # fmt: skip
    few = frozenset({"core", "finetune", "mixture"})
    gamma = {**everything, "harmonise": HarmoniseSettings(method="gamma", unseen="none")}
    return {
        "everything": Case(small_settings(**everything), every, EVERY_KIND),
        "gamma and flat": Case(small_settings(**gamma, model=FLAT), every, EVERY_KIND),
        "correlations": Case(small_settings(target=target), correlated, EVERY_KIND),
        # Studies of usual size have these kernels; the few rows here have them by this setting only.
        "quadratic kernels": Case(
            small_settings(target=target, core=CoreSettings(quadratic_from=2, quadratic_components=3)),
            correlated,
            EVERY_KIND,
        ),
        "tangent as edges": Case(small_settings(**in_tangent), correlated, EVERY_KIND),
        "target alone": Case(
            small_settings(**plain, target=target, stages=stages), alone, EVERY_KIND, ("full", "no_connectome"), few
        ),
        "unpenalised covariates": Case(
            small_settings(**plain, target=target, stages=stages, core=CoreSettings(unpenalised=("gestational_age",))),
            StudyCohorts({"target": without_connectomes(every.target)}),
            EVERY_KIND,
            ("full",),
            few,
        ),
        "no connectome": Case(small_settings(**plain, target=target, stages=stages), bare, EVERY_KIND, ("full",), few),
    }


KINDS_OF_STUDY = _cases()
