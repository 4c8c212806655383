"""A further encoder from outside: BrainNetCNN (Kawahara et al. 2017, doi:10.1016/j.neuroimage.2016.09.046)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from small_study import all_bytes, plan_of, small_cohorts, small_settings
from torch import Tensor, nn

from connectome_tl import extend
from connectome_tl.cohort.splits import Fold
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes
from connectome_tl.settings.model import EncoderSettings, ModelSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted import stored_model
from connectome_tl.training.plans import code_version


class BrainNetSettings(EncoderSettings):
    kind: Literal["brainnetcnn"] = "brainnetcnn"
    filters: int = 4
    nodes: int = 6
    width: int = 8

    def describe(self) -> str:
        return f"a BrainNetCNN with {self.filters} edge-to-edge filters"


class CrossFilter(nn.Module):
    """Edge to edge: an edge gets a weighted sum of its row and one of its column, by broadcasting."""

    def __init__(self, n_in: int, n_out: int, n_regions: int) -> None:
        super().__init__()
        self.row = nn.Conv2d(n_in, n_out, (1, n_regions))
        self.column = nn.Conv2d(n_in, n_out, (n_regions, 1))

    def forward(self, edges: Tensor) -> Tensor:
        summed: Tensor = self.row(edges) + self.column(edges)
        return summed


class BrainNetBranch(Branch):
    atlas_bound = True

    def __init__(self, settings: BrainNetSettings, sizes: Sizes) -> None:
        super().__init__()
        n_regions, self.width = sizes["n_regions"], settings.width
        self.edge_to_edge = CrossFilter(sizes["n_measures"], settings.filters, n_regions)
        self.edge_to_node = nn.Conv2d(settings.filters, settings.nodes, (1, n_regions))
        self.node_to_graph = nn.Linear(settings.nodes * n_regions, settings.width)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        edges = nn.functional.leaky_relu(self.edge_to_edge(rows.edges), 0.33)
        nodes = nn.functional.leaky_relu(self.edge_to_node(edges), 0.33)[..., 0].transpose(1, 2)
        nodes = nodes * rows.node_mask[..., None]
        return Encoded(nn.functional.leaky_relu(self.node_to_graph(nodes.flatten(1)), 0.33), nodes)


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(settings=BrainNetSettings, encoder=BrainNetBranch)


def test_the_cross_filter_is_the_published_sum() -> None:
    torch.manual_seed(0)
    layer, edges = CrossFilter(2, 3, 5), torch.randn(4, 2, 5, 5)
    found = layer(edges)
    row, column = layer.row.weight[:, :, 0], layer.column.weight[:, :, :, 0]
    want = sum(row[1, m] @ edges[2, m, 3] + column[1, m] @ edges[2, m, :, 4] for m in range(2))
    want = want + layer.row.bias[1] + layer.column.bias[1]
    torch.testing.assert_close(found[2, 1, 3, 4], want)


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small({"model.encoder": {"kind": "brainnetcnn", "filters": 3}})
    assert "The network had a BrainNetCNN with 3 edge-to-edge filters and a dense layer" in run.report.read_text(
        "utf-8"
    )
    assert np.isfinite(run.predictions["y_score"]).all()
    assert {"full", "core", "network", "no_pretrain"} <= set(run.scores["model"])
    assert "kind: brainnetcnn" in (run.folder / "study.yaml").read_text()
    assert unknown_to_the_package("brainnet")


def test_its_fits_are_carried_stored_and_equal_in_other_processes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cohorts = small_cohorts()
    study = small_settings(model=ModelSettings.model_validate({"encoder": {"kind": "brainnetcnn"}}))
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
    before = code_version()

    class Other(BrainNetBranch):
        pass

    extend(settings=BrainNetSettings, encoder=Other)
    assert code_version() != before
    extend(settings=BrainNetSettings, encoder=BrainNetBranch)
    assert code_version() == before
