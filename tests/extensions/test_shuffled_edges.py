"""An external objective: distinguish connectomes with shuffled regions from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from small_study import plan_of, retrained, small_cohorts, small_settings, weights_of
from torch import Tensor, nn

from connectome_tl import extend
from connectome_tl.cohort.splits import Fold
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel, part_of
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.settings.training import Stages
from connectome_tl.training.fit import fit
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class ShuffledSettings(ObjectiveSettings):
    kind: Literal["shuffled_regions"] = "shuffled_regions"
    hidden: int = 6

    def describe(self) -> str:
        return f"a dense layer of {self.hidden} that tells shuffled connectomes from real ones"


class ShuffledRegions(Objective):
    def __init__(self, settings: ShuffledSettings, sizes: ObjectiveSizes) -> None:
        super().__init__()
        width = sizes.widths["connectome"]
        self.tell = nn.Sequential(nn.Linear(width, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 1))

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        order = torch.randperm(rows.edges.shape[2])
        seen = [rows, rows.with_edges(rows.edges[:, :, order][..., order])]
        logits = [self.tell(model.branches["connectome"](one).embedding) for one in seen]
        losses = [
            nn.functional.binary_cross_entropy_with_logits(x, torch.full_like(x, k)) for k, x in enumerate(logits)
        ]
        return {"shuffled": torch.stack(losses).mean()}


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=ShuffledSettings, objective=ShuffledRegions)


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"stages.adapt.objective": {"kind": "shuffled_regions", "hidden": 5}})
    said = "adaptation of the network by a dense layer of 5 that tells shuffled connectomes from real ones"
    assert said in run.report.read_text("utf-8")
    assert np.isfinite(run.predictions["y_score"]).all()
    assert any(curve.stage == "adapt" for curve in run.record.curves)
    assert unknown_to_the_package("shuffled connectomes")
    assert unknown_to_the_package("shuffled_regions")


def test_it_moves_the_encoder_and_its_loss_falls() -> None:
    cohorts = small_cohorts()
    stages = small_settings().stages.model_dump()
    stages["adapt"]["objective"] = {"kind": "shuffled_regions"}
    study = small_settings(stages=Stages.model_validate(stages))
    plan = dict(plan_of(Fold(cohorts.target.ids[:16], cohorts.target.ids[16:]), study, scheme="network").parents)[
        "stage"
    ]
    results = fit([retrained(plan, steps=60, learning_rate=1e-2)], cohorts.by_name())
    (result,) = (one for one in results.values() if one.stage == "adapt")
    before = weights_of(results[dict(plan.parents)["stage"].key])
    after = weights_of(result)
    assert {part_of(name) for name in before if not np.array_equal(before[name], after[name])} == {"connectome"}
    assert result.curve[-5:].mean() < 0.8 * result.curve[:5].mean()
