"""One contract for every encoder, and the properties of each concerning regions, masks and engines."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import get_args

import pytest
import torch
from network_cases import (
    ATLAS_FREE,
    ENCODERS,
    FEATURES,
    GRAPHS,
    LAYERED,
    MEASURES,
    OF_CONNECTOME,
    OTHERS,
    PLACES,
    REGIONS,
    N,
    make_batch,
    make_model,
    name,
)

from connectome_tl.errors import InternalError, UsageError
from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.branch import BRANCHES, build_branch
from connectome_tl.settings.encoders import (
    AnyEncoder,
    ClinicalEncoder,
    EncoderSettings,
    FlatEncoder,
    GATv2Encoder,
    GraphEncoder,
    MessageSettings,
)
from connectome_tl.settings.model import AnyImageEncoder

SILENT: list[EncoderSettings] = [s for s in (*LAYERED, *OTHERS) if not getattr(s, "messages", True)]

# Importing torch_geometric causes deprecation warnings of torch.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def with_rows(batch: Batch, **changed: torch.Tensor) -> Batch:
    return batch.with_connectome(replace(batch.connectome, **changed))


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_contract_of_every_encoder(settings: EncoderSettings) -> None:
    batch, model = make_batch(), make_model(settings)
    branch = build_branch(settings, OF_CONNECTOME)
    assert branch(batch.connectome).embedding.shape == (N, branch.width)
    assert branch.atlas_bound == settings.is_atlas_bound
    outputs = model(batch)
    assert outputs.shape == (N, 2)
    assert torch.isfinite(outputs).all()
    outputs.square().sum().backward()
    # No modality is missing in this batch, so that the vectors that replace it have no gradient.
    dead = [
        n
        for n, p in model.named_parameters()
        if not n.startswith("fusion.absent") and (p.grad is None or not (p.grad != 0).any())
    ]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad():
        whole = model(batch)
        assert torch.equal(model(batch), whole)
        for i in range(N):
            torch.testing.assert_close(model(batch.rows(torch.tensor([i])))[0], whole[i], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(batch.prepared()), whole)
        torch.testing.assert_close(model(batch.prepared().rows(torch.tensor([4, 1]))), whole[[4, 1]])
    double = deepcopy(model).double()
    with torch.no_grad():
        exact = double(make_batch(dtype=torch.float64))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), whole, rtol=1e-3, atol=1e-4)


def kinds_below(base: type[EncoderSettings]) -> set[type[EncoderSettings]]:
    own = {kind for kind in base.__subclasses__() if kind.__module__.startswith("connectome_tl")}
    return own.union(*(kinds_below(kind) for kind in own))


def test_every_settings_class_of_an_encoder_has_a_branch_and_a_sentence() -> None:
    volumes = get_args(get_args(AnyImageEncoder)[0])
    built_in = [ClinicalEncoder, *get_args(get_args(AnyEncoder)[0]), *volumes]
    assert set(built_in) == {kind for kind in kinds_below(EncoderSettings) if "kind" in kind.model_fields}
    assert {type(settings) for settings in ENCODERS} == set(built_in) - {ClinicalEncoder, *volumes}
    for kind in built_in:
        assert kind in BRANCHES
        assert kind().describe()
    assert len({settings.describe() for settings in ENCODERS}) > len(built_in)

    class Unknown(EncoderSettings):
        pass

    with pytest.raises(InternalError, match="no branch is registered for Unknown"):
        build_branch(Unknown(), {})


@pytest.mark.parametrize("settings", [s for s in GRAPHS if s.norm == "layer"], ids=name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_torch_geometric_gives_the_same_numbers(settings: GraphEncoder, dtype: torch.dtype, tolerance: float) -> None:
    batch = make_batch(dtype=dtype)
    assert (batch.connectome.adjacency < 0).any()
    assert (batch.connectome.node_mask == 0).any()
    dense = make_model(settings, dtype).eval()
    sparse = make_model(settings.model_copy(update={"engine": "pyg"}), dtype).eval()
    sparse.load_state_dict(dense.state_dict())
    with torch.no_grad():
        difference = (dense(batch) - sparse(batch)).abs().max() / dense(batch).abs().max().clamp_min(1)
    assert difference < tolerance


def test_torch_geometric_learns_the_same_gradients() -> None:
    settings = GraphEncoder(width=5, embedding=4)
    batch = make_batch(dtype=torch.float64)
    gradients = []
    for engine in ("dense", "pyg"):
        model = make_model(settings.model_copy(update={"engine": engine}), torch.float64).eval()
        model(batch).sum().backward()
        gradients.append([p.grad for n, p in model.named_parameters() if not n.startswith("fusion.absent")])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def shuffled(rows: ConnectomeRows, order: torch.Tensor) -> ConnectomeRows:
    return replace(
        rows,
        edges=rows.edges[:, :, order][:, :, :, order],
        mean=rows.mean[:, order][:, :, order],
        scale=rows.scale[:, order][:, :, order],
        regional=rows.regional[:, order],
        node_mask=rows.node_mask[:, order],
        places=None if rows.places is None else rows.places[order],
    )


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_only_encoders_free_of_the_atlas_ignore_the_order_of_regions(settings: EncoderSettings) -> None:
    batch, model = make_batch(dtype=torch.float64), make_model(settings, torch.float64).eval()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    with torch.no_grad():
        moved = (model(batch) - model(batch.with_connectome(shuffled(batch.connectome, order)))).abs().max()
    if settings.is_atlas_bound:
        assert moved > 1e-3
    else:
        assert moved < 1e-10


@pytest.mark.parametrize("settings", ATLAS_FREE, ids=name)
def test_an_encoder_free_of_the_atlas_takes_any_number_of_regions(settings: MessageSettings) -> None:
    assert not settings.is_atlas_bound
    shapes = [
        [tuple(p.shape) for p in build_branch(settings, {**OF_CONNECTOME, "n_regions": n_regions}).parameters()]
        for n_regions in (7, 90)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("settings", ATLAS_FREE, ids=name)
def test_a_region_that_is_missing_is_as_good_as_not_in_the_atlas(settings: MessageSettings) -> None:
    batch, model = make_batch(dtype=torch.float64), make_model(settings, torch.float64).eval()
    for subject, lacks in ((1, [2]), (2, [0, 6])):
        one = batch.rows(torch.tensor([subject]))
        left = torch.tensor([region for region in range(REGIONS) if region not in lacks])
        smaller = one.with_connectome(shuffled(one.connectome, left))
        with torch.no_grad():
            torch.testing.assert_close(model(smaller), model(one), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_a_subject_without_any_region_is_no_reason_to_fail(settings: EncoderSettings) -> None:
    batch, model = make_batch(), make_model(settings)
    rows = batch.connectome.without_regions(torch.tensor([0.0] + [1.0] * (N - 1))[:, None].expand(N, REGIONS))
    found = model(batch.with_connectome(rows))
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("settings", [s.model_copy(update={"walk": 0}) for s in SILENT], ids=name)
def test_without_messages_other_regions_connections_do_not_matter(settings: EncoderSettings) -> None:
    """Without messages (and random walks) a region uses its own row only, not connections between others."""
    speaking = settings.model_copy(update={"messages": True})
    reached = []
    for one in (settings, speaking):
        branch = build_branch(one, OF_CONNECTOME).double().eval()
        for parameter in branch.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        rows = make_batch(dtype=torch.float64, masked=False).connectome
        edges = rows.edges.clone()
        edges[:, :, 3, 4] = edges[:, :, 4, 3] = edges[:, :, 3, 4] + 2.0
        nodes, moved = branch(rows).nodes, branch(rows.with_edges(edges)).nodes
        assert nodes is not None
        changed = (nodes != moved).any(dim=2).any(dim=0)
        assert changed[3:5].all()
        reached.append(changed[[0, 1, 2, 5, 6]].any().item())
    assert reached == [False, True]
    assert sum(p.numel() for p in build_branch(settings, OF_CONNECTOME).parameters()) < sum(
        p.numel() for p in build_branch(speaking, OF_CONNECTOME).parameters()
    )


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_what_a_missing_region_is_connected_to_does_not_matter(settings: EncoderSettings) -> None:
    """Reversing the scaling gives absent edges a weight; no message may pass along them."""
    batch, model = make_batch(), make_model(settings).eval()
    rows = batch.connectome
    absent = 1 - rows.present
    assert (((rows.edges * rows.scale + rows.mean) * absent)[1:3] != 0).any()
    spoiled = rows.with_edges(rows.edges + 1e6 * torch.randn_like(rows.edges) * absent)
    assert torch.equal(spoiled.adjacency, rows.adjacency)
    with torch.no_grad():
        found = model(with_rows(batch, normalised=spoiled.adjacency))
        torch.testing.assert_close(found, model(batch), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [s for s in GRAPHS if s.norm == "layer" and not s.direct], ids=name)
def test_a_gradient_on_an_edge_also_goes_through_the_messages(settings: GraphEncoder) -> None:
    """For explanations, messages are computed from the edges inside the encoder."""
    batch = make_batch(dtype=torch.float64)
    branch = build_branch(settings, OF_CONNECTOME).double().eval()
    for parameter in branch.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    rows = batch.connectome
    edges = rows.edges.clone().requires_grad_()
    branch(rows.with_edges(edges)).embedding.square().sum().backward()
    assert edges.grad is not None
    through_all = edges.grad.clone()
    edges.grad = None
    still = replace(rows.with_edges(edges), normalised=rows.adjacency.detach())
    branch(still).embedding.square().sum().backward()
    alone = edges.grad if edges.grad is not None else torch.zeros_like(edges)
    assert (through_all - alone).abs().max() > 1e-6
    # Compared with finite differences at one edge.
    step = 1e-6
    at = (0, 0, 1, 3)
    found = []
    for sign in (1, -1):
        moved = rows.edges.clone()
        moved[at] += sign * step
        found.append(branch(rows.with_edges(moved)).embedding.square().sum().item())
    assert through_all[at].item() == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-4, abs=1e-6)


def test_the_flat_encoder_has_the_published_demo_s_parameters() -> None:
    branch = build_branch(
        FlatEncoder(widths=(128, 32), norm="batch"), {"n_regions": 90, "n_measures": 1, "n_features": 0}
    )
    n_parameters = sum(p.numel() for p in branch.parameters())
    assert n_parameters == 4005 * 128 + 128 * 32 + 2 * (128 + 32)


def test_node_features_by_centroid_need_an_atlas_with_centroids() -> None:
    sizes = {key: n for key, n in OF_CONNECTOME.items() if key != "n_places"}
    with pytest.raises(UsageError, match="the coordinates of its regions"):
        build_branch(GATv2Encoder(node_features="identity"), sizes)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 does not divide 16"):
        GATv2Encoder(heads=3)


def test_measures_as_node_features_need_measures() -> None:
    with pytest.raises(UsageError, match="needs regional measures"):
        build_branch(GraphEncoder(node_features="measures"), {**OF_CONNECTOME, "n_features": 0})


def test_measures_as_node_features_meet_edges_only_in_messages() -> None:
    """Scaled edges (the profile) do not enter; without any edge the network is a map of the measures alone."""
    rows = make_batch().connectome
    branch = make_model(GraphEncoder(node_features="measures", width=5, embedding=4)).branches["connectome"].eval()
    found = branch(rows).embedding
    still = {"normalised": rows.adjacency}
    torch.testing.assert_close(branch(replace(rows, edges=rows.edges * 3 + 1, **still)).embedding, found)
    assert not torch.allclose(branch(replace(rows, normalised=rows.adjacency * 0)).embedding, found)
    assert not torch.allclose(branch(replace(rows, regional=rows.regional + 1)).embedding, found)


def test_without_messages_edges_do_not_enter_the_graph_part() -> None:
    rows = make_batch().connectome
    settings = GraphEncoder(node_features="measures", direct=False, messages=False, width=5, embedding=4)
    branch = make_model(settings).branches["connectome"].eval()
    assert torch.equal(branch(rows.with_edges(rows.edges * 3 + 1)).embedding, branch(rows).embedding)
    assert not any("messages" in name for name, _ in branch.named_parameters())


def test_sizes_are_read_from_the_rows() -> None:
    batch = make_batch()
    known = {"n_regions": REGIONS, "n_measures": MEASURES, "n_features": FEATURES}
    assert batch.connectome.sizes == OF_CONNECTOME == {**known, "n_places": PLACES}
    assert replace(batch.connectome, places=None).sizes == known
    assert batch.modalities["clinical"].sizes == {"n_columns": 3}
