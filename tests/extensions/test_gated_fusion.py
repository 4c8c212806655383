"""An external fusion: embeddings of equal width, weighted by gates that depend on the embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from small_study import plan_of, small_cohorts, small_settings
from torch import Tensor, nn

from connectome_tl import extend
from connectome_tl.cohort.splits import Fold
from connectome_tl.nn.branch import Encoded
from connectome_tl.nn.fusion import Fusion
from connectome_tl.nn.model import part_of
from connectome_tl.settings.fusion import FusionSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model


class GatedSettings(FusionSettings):
    kind: Literal["gated"] = "gated"
    sharpness: float = 1.0

    def describe(self) -> str:
        return f"a sum with learnt gates (sharpness {self.sharpness:g})"


class Gated(Fusion):
    def __init__(self, settings: ModelSettings, widths: Mapping[str, int]) -> None:
        super().__init__()
        assert isinstance(settings.fusion, GatedSettings)
        self.sharpness = settings.fusion.sharpness
        self.maps = nn.ModuleDict({name: nn.Linear(width, settings.fused_width) for name, width in widths.items()})
        self.gates = nn.ModuleDict({name: nn.Linear(width, 1) for name, width in widths.items()})

    def forward(self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor]) -> Tensor:
        fused = [torch.tanh(self.maps[name](one.embedding)) for name, one in encoded.items()]
        gates = [self.sharpness * self.gates[name](one.embedding) for name, one in encoded.items()]
        there = torch.stack([present[name][:, None] for name in encoded])
        shares = torch.softmax(torch.where(there, torch.stack(gates), -30.0), dim=0)
        return (shares * there * torch.stack(fused)).sum(dim=0)


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=GatedSettings, fusion=Gated)


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"model.fusion": {"kind": "gated", "sharpness": 2.0}})
    assert "fused by a sum with learnt gates (sharpness 2) of width 5" in run.report.read_text("utf-8")
    assert np.isfinite(run.predictions["y_score"]).all()
    assert "kind: gated" in (run.folder / "study.yaml").read_text()
    assert unknown_to_the_package("learnt gates")
    assert unknown_to_the_package('"gated"')


def test_its_weights_are_transferred_stored_and_trained(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohorts = small_cohorts()
    model = small_settings().model.model_copy(update={"fusion": GatedSettings(), "modality_dropout": 0.3})
    fold = Fold(cohorts.target.ids[:14], cohorts.target.ids[14:])
    plan = plan_of(fold, small_settings(model=model, steps=3), scheme="network")
    results = fit([plan], cohorts.by_name(), store=FitStore(tmp_path))
    found = stored_model(FitStore(tmp_path), plan.key).predict(cohorts.target, fold.test)
    stored = results[plan.key].predictions
    assert found.tobytes() == np.array([stored[i] for i in fold.test]).tobytes()
    names = {name.split("/")[-1] for name in results[plan.key].arrays if name.startswith("state/")}
    assert {name for name in names if part_of(name) == "fusion"} >= {"fusion.gates.connectome.weight"}
    assert plan.key != plan_of(fold, small_settings(steps=3), scheme="network").key


def test_the_embedding_of_a_subject_without_a_modality_is_ignored() -> None:
    torch.manual_seed(0)
    model = small_settings().model.model_copy(update={"fusion": GatedSettings()})
    fusion = Gated(model, {"connectome": 4, "clinical": 3})
    present = {"connectome": torch.tensor([True, False]), "clinical": torch.tensor([True, True])}
    clinical = Encoded(torch.randn(2, 3))
    one, other = (fusion({"connectome": Encoded(torch.randn(2, 4)), "clinical": clinical}, present) for _ in range(2))
    torch.testing.assert_close(one[1], other[1])
    assert not torch.allclose(one[0], other[0])
