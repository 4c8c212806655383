"""A further objective from outside: two augmented views of a connectome are told from others (InfoNCE, van den Oord
et al. 2018, arXiv:1807.03748; graph augmentations as You et al. 2020, arXiv:2010.13902)."""

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
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import OutcomeModel, part_of
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.settings.training import Stages
from connectome_tl.training.fit import fit
from connectome_tl.training.objectives import TRAIN, Objective, ObjectiveSizes


class ContrastSettings(ObjectiveSettings):
    kind: Literal["graph_contrast"] = "graph_contrast"
    drop: float = 0.2
    temperature: float = 0.5

    def describe(self) -> str:
        return f"a contrast of two views of each connectome ({self.drop:.0%} of the edges dropped in each)"


class GraphContrast(Objective):
    def __init__(self, settings: ContrastSettings, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.drop, self.temperature = settings.drop, settings.temperature
        width = sizes.widths["connectome"]
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        views = []
        for _ in range(2):
            kept = (torch.rand_like(rows.edges) >= self.drop).triu(1)
            kept = (kept | kept.transpose(2, 3)).to(rows.edges.dtype)
            embedding = self.project(model.branches["connectome"](rows.with_edges(rows.edges * kept, kept)).embedding)
            views.append(nn.functional.normalize(embedding, dim=1))
        alike = views[0] @ views[1].T / self.temperature
        own = torch.arange(len(alike))
        both = nn.functional.cross_entropy(alike, own) + nn.functional.cross_entropy(alike.T, own)
        return {"contrast": both / 2}


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=ContrastSettings, objective=GraphContrast)


def test_views_of_one_subject_are_more_alike_than_chance() -> None:
    """Equal embeddings of all subjects cost log(n); telling them apart costs less."""
    objective = GraphContrast(ContrastSettings(drop=0.0), ObjectiveSizes({}, {"connectome": 4}, Outcomes({}, {})))
    objective.project = nn.Identity()

    class Fixed(nn.Module):
        def __init__(self, embedding: Tensor) -> None:
            super().__init__()
            self.embedding = embedding

        def forward(self, rows: object) -> Fixed:
            del rows
            return self

    cohorts = small_cohorts()
    from connectome_tl.features.steps import fit_steps
    from connectome_tl.settings.features import FeatureSettings
    from connectome_tl.training.fitted import to_batch

    ids = cohorts.target.ids[:4]
    batch = to_batch(fit_steps(cohorts.target, ids, FeatureSettings(), ("connectome",)).rows(cohorts.target, ids))
    found = []
    for embedding in (torch.ones(4, 4), torch.eye(4)):
        model = nn.Module()
        model.branches = nn.ModuleDict({"connectome": Fixed(embedding)})
        found.append(objective(model, {TRAIN: batch}, {TRAIN: None})["contrast"].item())  # type: ignore[arg-type]
    assert found[0] == pytest.approx(np.log(4))
    assert found[1] == pytest.approx(np.log(1 + 3 * np.exp(-2)))


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"stages.adapt.objective": {"kind": "graph_contrast", "drop": 0.3}})
    said = "adaptation of the network by a contrast of two views of each connectome (30% of the edges dropped in each)"
    assert said in run.report.read_text("utf-8")
    assert np.isfinite(run.predictions["y_score"]).all()
    assert any(curve.stage == "adapt" for curve in run.record.curves)
    assert unknown_to_the_package("contrast of two views")
    assert unknown_to_the_package("graph_contrast")


def test_it_moves_the_encoder_and_its_loss_falls() -> None:
    cohorts = small_cohorts()
    stages = small_settings().stages.model_dump()
    stages["adapt"]["objective"] = {"kind": "graph_contrast"}
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
