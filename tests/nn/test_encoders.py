"""One contract for every encoder, and what each promises about regions, masks and engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
from connectome_tl.nn.graph_encoder import build_encoder

from connectome_tl.errors import UsageError
from connectome_tl.nn.layers import Inputs, MeanReadout, RegionalReadout, SharedDropout, normalise_adjacency
from connectome_tl.nn.model import OutcomeModel, Sizes, build_model
from connectome_tl.settings.study import FlatEncoder, GraphEncoder, ModelSettings

# Importing torch_geometric warns about what it uses of torch.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
N, REGIONS, MEASURES, FEATURES, CLINICAL = 6, 7, 2, 2, 3
SIZES = Sizes(REGIONS, MEASURES, FEATURES, CLINICAL, ("low", "score"))
GRAPHS = [
    GraphEncoder(node_features=nodes, readout=readout, direct=direct, width=5, embedding=4, norm=norm)
    for nodes, readout, direct, norm in itertools.product(
        ("profile", "strength", "measures"), ("regional", "mean"), (True, False), ("layer", "none")
    )
]
FLATS = [FlatEncoder(widths=(6, 4), norm=norm, dropout=0.2) for norm in ("batch", "layer", "none")]
ENCODERS = [*GRAPHS, *FLATS]


def name(settings: GraphEncoder | FlatEncoder) -> str:
    if isinstance(settings, FlatEncoder):
        return f"flat-{settings.norm}"
    return f"{settings.node_features}-{settings.readout}-{'direct' if settings.direct else 'nodes'}-{settings.norm}"


def make_inputs(*, dtype: torch.dtype = torch.float32, n: int = N, masked: bool = True) -> Inputs:
    """Random inputs as `Rows` gives them; some measures negative, some regions missing."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(n, MEASURES, REGIONS, REGIONS)) * (rng.random((n, MEASURES, REGIONS, REGIONS)) < 0.7)
    weights = weights + weights.transpose(0, 1, 3, 2)
    weights[:, :, np.arange(REGIONS), np.arange(REGIONS)] = 0
    mask = np.ones((n, REGIONS))
    if masked:
        mask[1, 2] = mask[2, [0, 6]] = 0
    present = mask[:, None, :, None] * mask[:, None, None, :]
    regional = rng.normal(size=(n, REGIONS, FEATURES)) * mask[:, :, None]
    t = [
        torch.from_numpy(a).to(dtype)
        for a in (weights, weights * present * 0.7, regional, mask, rng.normal(size=(n, 3)))
    ]
    return Inputs(t[1], normalise_adjacency(t[0], t[3]), t[2], t[3], t[4], t[0])


def make_model(settings: GraphEncoder | FlatEncoder, dtype: torch.dtype = torch.float32) -> OutcomeModel:
    """A model whose weights are all random: some start at zero on purpose, and would hide a fault."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(ModelSettings(encoder=settings, clinical_width=3, fused_width=6, norm=settings.norm), SIZES)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_contract_of_every_encoder(settings: GraphEncoder | FlatEncoder) -> None:
    inputs, model = make_inputs(), make_model(settings)
    encoder, width = build_encoder(settings, REGIONS, MEASURES, FEATURES)
    assert encoder(inputs).shape == (N, width)
    outputs = model(inputs)
    assert outputs.shape == (N, 2)
    assert torch.isfinite(outputs).all()
    outputs.square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad():
        whole = model(inputs)
        assert torch.equal(model(inputs), whole)
        for i in range(N):
            torch.testing.assert_close(model(inputs.rows(torch.tensor([i])))[0], whole[i], rtol=1e-5, atol=1e-5)
    double = deepcopy(model).double()
    with torch.no_grad():
        exact = double(make_inputs(dtype=torch.float64))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [s for s in GRAPHS if s.norm == "layer"], ids=name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_torch_geometric_gives_the_same_numbers(settings: GraphEncoder, dtype: torch.dtype, tolerance: float) -> None:
    inputs = make_inputs(dtype=dtype)
    assert (inputs.adjacency < 0).any()
    assert (inputs.node_mask == 0).any()
    dense = make_model(settings, dtype).eval()
    sparse = make_model(settings.model_copy(update={"engine": "pyg"}), dtype).eval()
    sparse.load_state_dict(dense.state_dict())
    with torch.no_grad():
        difference = (dense(inputs) - sparse(inputs)).abs().max() / dense(inputs).abs().max().clamp_min(1)
    assert difference < tolerance


def test_torch_geometric_learns_the_same_gradients() -> None:
    settings = GraphEncoder(width=5, embedding=4)
    inputs = make_inputs(dtype=torch.float64)
    gradients = []
    for engine in ("dense", "pyg"):
        model = make_model(settings.model_copy(update={"engine": engine}), torch.float64).eval()
        model(inputs).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def shuffled(inputs: Inputs, order: torch.Tensor) -> Inputs:
    return inputs._replace(
        edges=inputs.edges[:, :, order][:, :, :, order],
        adjacency=inputs.adjacency[:, :, order][:, :, :, order],
        regional=inputs.regional[:, order],
        node_mask=inputs.node_mask[:, order],
    )


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_only_encoders_free_of_the_atlas_ignore_the_order_of_regions(settings: GraphEncoder | FlatEncoder) -> None:
    inputs, model = make_inputs(dtype=torch.float64), make_model(settings, torch.float64).eval()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    with torch.no_grad():
        moved = (model(inputs) - model(shuffled(inputs, order))).abs().max()
    if settings.is_atlas_bound:
        assert moved > 1e-3
    else:
        assert moved < 1e-10


def test_an_encoder_free_of_the_atlas_takes_any_number_of_regions() -> None:
    settings = GraphEncoder(node_features="strength", readout="mean", direct=False, width=5, embedding=4)
    assert not settings.is_atlas_bound
    shapes = [
        [tuple(p.shape) for p in build_encoder(settings, n_regions, MEASURES, FEATURES)[0].parameters()]
        for n_regions in (7, 90)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("settings", ENCODERS, ids=name)
def test_what_a_missing_region_is_connected_to_does_not_matter(settings: GraphEncoder | FlatEncoder) -> None:
    inputs, model = make_inputs(), make_model(settings).eval()
    mask = inputs.node_mask
    raw = torch.randn(N, MEASURES, REGIONS, REGIONS) * 1e6
    absent = 1 - mask[:, None, :, None] * mask[:, None, None, :]
    spoiled = inputs._replace(adjacency=normalise_adjacency(inputs.adjacency + raw * absent, mask))
    again = inputs._replace(adjacency=normalise_adjacency(inputs.adjacency, mask))
    with torch.no_grad():
        torch.testing.assert_close(model(spoiled), model(again), rtol=0, atol=0)


def test_the_flat_encoder_has_the_published_demo_s_parameters() -> None:
    encoder, _ = build_encoder(FlatEncoder(widths=(128, 32), norm="batch"), 90, 1, 0)
    n_parameters = sum(p.numel() for p in encoder.parameters())
    assert n_parameters == 4005 * 128 + 128 * 32 + 2 * (128 + 32)


def test_normalised_adjacency_is_that_of_networkx() -> None:
    import networkx as nx

    inputs = make_inputs(dtype=torch.float64, masked=False)
    weights = inputs.edges[:1, :1].abs()
    graph = nx.from_numpy_array(weights[0, 0].numpy())
    laplacian = nx.normalized_laplacian_matrix(graph, weight="weight").toarray()
    found = normalise_adjacency(weights, torch.ones(1, REGIONS, dtype=torch.float64))[0, 0].numpy()
    np.testing.assert_allclose(found, np.eye(REGIONS) - laplacian, atol=1e-12)


def test_normalised_adjacency_keeps_signs_and_leaves_lonely_regions_alone() -> None:
    weights = torch.tensor([[0.0, -2, 0, 0], [-2, 0, 3, 0], [0, 3, 0, 0], [0, 0, 0, 0]], requires_grad=True)
    found = normalise_adjacency(weights[None, None], torch.tensor([[1.0, 1, 1, 1]]))
    assert found[0, 0, 0, 1] < 0 < found[0, 0, 1, 2]
    assert (found[0, 0, 3] == 0).all()
    found.sum().backward()
    assert torch.isfinite(weights.grad).all()


def test_readouts_count_only_the_regions_that_exist() -> None:
    h, mask = torch.randn(3, 4, 5), torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    mean = MeanReadout()(h, mask)
    torch.testing.assert_close(mean[0], h[0, :2].mean(dim=0))
    torch.testing.assert_close(mean[1], h[1].mean(dim=0))
    regional = RegionalReadout(4, 5)
    torch.testing.assert_close(regional(h, mask)[0], (h[0, :2] * regional.factors[:2]).sum(dim=0) / 2**0.5)
    assert (mean[2] == 0).all()
    assert (regional(h, mask)[2] == 0).all()


def test_dropout_has_one_mask_a_step_keeps_the_mean_and_is_off_in_eval() -> None:
    dropout = SharedDropout(0.25)
    x = torch.ones(3, 20_000)
    dropped = dropout(x)
    assert torch.equal(dropped[0], dropped[1])
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(dropped.mean() - 1) < 0.02
    assert torch.equal(dropout.eval()(x), x)


def test_a_model_without_clinical_covariates_has_no_clinical_part() -> None:
    model = build_model(ModelSettings(encoder=FLATS[1]), Sizes(REGIONS, MEASURES, FEATURES, 0, ("low",)))
    assert model.clinical is None
    inputs = make_inputs()
    changed = inputs._replace(clinical=inputs.clinical * 100)
    assert torch.equal(model.eval()(inputs), model(changed))
    assert {n.split(".")[0] for n, _ in model.named_parameters()} == {"encoder", "fusion", "heads"}


def test_measures_as_node_features_need_measures() -> None:
    with pytest.raises(UsageError, match="needs regional measures"):
        build_encoder(GraphEncoder(node_features="measures"), REGIONS, MEASURES, 0)


def test_measures_as_node_features_meet_edges_only_in_messages() -> None:
    """Scaled edges (the profile) do not enter; without any edge the network is a map of the measures alone."""
    inputs = make_inputs()
    settings = GraphEncoder(node_features="measures", width=5, embedding=4)
    encoder = make_model(settings).encoder.eval()
    found = encoder(inputs)
    torch.testing.assert_close(encoder(inputs._replace(edges=inputs.edges * 3 + 1)), found)
    assert not torch.allclose(encoder(inputs._replace(adjacency=inputs.adjacency * 0)), found)
    assert not torch.allclose(encoder(inputs._replace(regional=inputs.regional + 1)), found)
