"""An external encoder: a dense layer on the eigenvalues of the scaled edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from small_study import all_bytes, plan_of, small_cohorts, small_settings
from torch import nn

from connectome_tl import extend
from connectome_tl.cohort.splits import Fold
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.plans import code_version


class SpectrumSettings(EncoderSettings):
    kind: Literal["spectrum"] = "spectrum"
    n_values: int = 4
    width: int = 8

    @property
    def is_atlas_bound(self) -> bool:
        return False

    def describe(self) -> str:
        return f"a dense layer on the {self.n_values} largest eigenvalues"


class SpectrumBranch(Branch):
    def __init__(self, settings: SpectrumSettings, sizes: Sizes) -> None:
        super().__init__()
        self.width, self.n_values = settings.width, settings.n_values
        self.linear = nn.Linear(sizes["n_measures"] * settings.n_values, settings.width)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        values = torch.linalg.eigvalsh(rows.edges)[..., -self.n_values :]
        return Encoded(torch.relu(self.linear(values.flatten(1))))


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=SpectrumSettings, encoder=SpectrumBranch)


def test_the_largest_eigenvalues_do_not_depend_on_the_order_of_regions() -> None:
    torch.manual_seed(0)
    branch, half = SpectrumBranch(SpectrumSettings(), {"n_measures": 1}), torch.randn(3, 1, 6, 6)
    edges = half + half.transpose(2, 3)
    order = torch.tensor([2, 0, 1, 5, 4, 3])
    none = torch.zeros(3, 6, 0), torch.ones(3, 6), torch.zeros(1, 6, 6), torch.ones(1, 6, 6)
    first, second = (branch(ConnectomeRows(e, *none)).embedding for e in (edges, edges[:, :, order][..., order]))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    want = torch.tensor(np.linalg.eigvalsh(edges[1, 0].numpy())[-4:])
    torch.testing.assert_close(first[1], torch.relu(branch.linear(want)), rtol=1e-4, atol=1e-4)


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"model.encoder": {"kind": "spectrum", "n_values": 3}})
    assert "The network had a dense layer on the 3 largest eigenvalues and a dense layer" in run.report.read_text(
        "utf-8"
    )
    assert np.isfinite(run.predictions["y_score"]).all()
    assert {"full", "core", "network", "no_pretrain"} <= set(run.scores["model"])
    assert "kind: spectrum" in (run.folder / "study.yaml").read_text()
    assert unknown_to_the_package("largest eigenvalues")
    assert unknown_to_the_package("kind: spectrum")


@pytest.mark.slow
def test_its_fits_are_carried_stored_and_equal_in_other_processes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohorts = small_cohorts()
    study = small_settings(model=ModelSettings.model_validate({"encoder": {"kind": "spectrum"}}))
    folds = [
        Fold(cohorts.target.ids[:14], cohorts.target.ids[14:]),
        Fold(cohorts.target.ids[4:], cohorts.target.ids[:4]),
    ]
    plans = [plan_of(fold, study, scheme="network") for fold in folds]
    results = fit(plans, cohorts.by_name(), store=FitStore(tmp_path))
    model = stored_model(FitStore(tmp_path), plans[0].key)
    found = model.predict(cohorts.target, folds[0].test)
    stored = results[plans[0].key].predictions
    assert found.tobytes() == np.array([stored[i] for i in folds[0].test]).tobytes()
    elsewhere = fit(plans, cohorts.by_name(), n_jobs=2)
    assert all(all_bytes(elsewhere[plan.key]) == all_bytes(results[plan.key]) for plan in plans)


def test_other_code_of_an_extension_meets_no_stale_fit() -> None:
    before = code_version(["encoder spectrum"])

    class Other(SpectrumBranch):
        pass

    extend(settings=SpectrumSettings, encoder=Other)
    assert code_version(["encoder spectrum"]) != before
    extend(settings=SpectrumSettings, encoder=SpectrumBranch)
    assert code_version(["encoder spectrum"]) == before
