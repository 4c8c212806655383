"""An external objective that uses labelled source rows and the pool: embeddings of equal means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest
from small_study import fitted_bytes, plan_of, small_cohorts, small_settings, weights_of
from torch import Tensor

from connectome_tl import extend
from connectome_tl.cohort.splits import Fold
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import multi_task_loss
from connectome_tl.nn.model import OutcomeModel, part_of
from connectome_tl.settings.objectives import MaskedEdges, ObjectiveSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.training import Stages
from connectome_tl.training.fit import fit
from connectome_tl.training.objectives.objective import SOURCE, TRAIN, Objective, ObjectiveSizes
from connectome_tl.training.objectives.table import build_objective

COHORTS = small_cohorts()
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])


class EqualMeansSettings(ObjectiveSettings):
    kind: Literal["equal_means"] = "equal_means"
    weight: float = 1.0

    @property
    def source_replay(self) -> bool:
        return True

    def describe(self) -> str:
        return "masked-edge reconstruction with the source's outcomes and equal means of both cohorts"


class EqualMeans(Objective):
    """Without a source (the control without stage 1) the reconstruction only."""

    def __init__(self, settings: EqualMeansSettings, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.outcomes, self.weight = sizes.outcomes, settings.weight
        self.reconstruct = build_objective(MaskedEdges(rank=4), sizes)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = dict(self.reconstruct(model, batches, targets))
        goal = targets.get(SOURCE)
        if goal is not None:
            terms["outcomes"] = multi_task_loss(model(batches[SOURCE]), goal, self.outcomes)
            one, two = (model.branches["connectome"](batches[r].connectome).embedding for r in (TRAIN, SOURCE))
            terms["means"] = self.weight * (one.mean(dim=0) - two.mean(dim=0)).square().sum()
        return terms


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=EqualMeansSettings, objective=EqualMeans)


def study_with_replay() -> StudySettings:
    stages = small_settings().stages.model_dump()
    stages["adapt"]["objective"] = {"kind": "equal_means"}
    return small_settings(stages=Stages.model_validate(stages))


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"stages.adapt.objective": {"kind": "equal_means", "weight": 2.0}})
    said = "masked-edge reconstruction with the source's outcomes and equal means of both cohorts"
    assert said in run.report.read_text("utf-8").replace("&#39;", "'")
    assert np.isfinite(run.predictions["y_score"]).all()
    assert {"full", "no_pretrain"} <= set(run.scores["model"])
    assert unknown_to_the_package("equal means of both")
    assert unknown_to_the_package("equal_means")


def test_the_plan_holds_the_source_rows_and_the_control_without_stage_one_has_none() -> None:
    study = study_with_replay()
    adapt = dict(plan_of(FOLD, study, scheme="network").parents)["stage"]
    ((role, rows),) = adapt.others
    assert (role, rows.cohort, set(rows.ids)) == (SOURCE, "source", set(COHORTS.roles["source"].ids))
    control = dict(plan_of(FOLD, study, scheme="network_no_pretrain").parents)["stage"]
    assert control.others == ()
    results = fit([adapt, control], COHORTS.by_name())
    assert set(rows.ids) <= results[adapt.key].rows
    assert not set(rows.ids) & results[control.key].rows


def test_replay_moves_heads_and_fusion_and_follows_the_source_s_outcomes() -> None:
    adapt = dict(plan_of(FOLD, study_with_replay(), scheme="network").parents)["stage"]
    results = fit([adapt], COHORTS.by_name())
    before, after = weights_of(results[dict(adapt.parents)["stage"].key]), weights_of(results[adapt.key])
    moved = {part_of(name) for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"connectome", "fusion", "heads"}
    source = COHORTS.roles["source"]
    import dataclasses

    targets = source.targets.copy()
    targets["age"] = targets["age"].to_numpy()[::-1]
    other = COHORTS.with_role("source", dataclasses.replace(source, targets=targets))
    plan = dict(plan_of(FOLD, study_with_replay(), cohorts=other, scheme="network").parents)["stage"]
    assert plan.key != adapt.key
    assert fitted_bytes(fit([plan], other.by_name())[plan.key]) != fitted_bytes(results[adapt.key])
