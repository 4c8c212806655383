"""Batches, fusion and heads: presence is used, parts have names, layers have their stated form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_cases import FLATS, HEADS, REGIONS, SIZES, N, make_batch, make_model

from connectome_tl.nn.batch import Batch, ImageRows, Modality, normalise_adjacency
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.nn.model import build_model, part_of
from connectome_tl.nn.pooling import MeanReadout, RegionalReadout
from connectome_tl.settings.encoders import FlatEncoder, GraphEncoder
from connectome_tl.settings.images.volumes import ResNetEncoder
from connectome_tl.settings.model import ModelSettings

GRAPH = GraphEncoder(width=5, embedding=4)


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("modality", ["connectome", "clinical"])
def test_presence_reaches_the_fusion(modality: str) -> None:
    """A row without a modality is predicted from the others and a learned vector, for any values in its place."""
    batch, model = make_batch(), make_model(GRAPH).eval()
    lacks = torch.tensor([True, False, True, False, False, False])
    absent = Batch(batch.modalities, {**batch.present, modality: ~lacks})
    other = batch.modalities[modality]
    first = "edges" if modality == "connectome" else "values"
    spoiled = replace(
        other, **{first: getattr(other, first) + 7 * lacks.view(N, *[1] * (getattr(other, first).dim() - 1))}
    )
    with torch.no_grad():
        want, found = model(batch), model(absent)
        again = model(Batch({**batch.modalities, modality: spoiled}, absent.present))
    assert torch.equal(found[~lacks], want[~lacks])
    assert not torch.isclose(found[lacks], want[lacks]).any()
    assert torch.equal(again, found)
    model.zero_grad()
    model(absent).sum().backward()
    gradient = model.fusion.absent[modality].grad
    assert gradient is not None
    assert (gradient != 0).any()
    assert not (model.fusion.absent[{"connectome": "clinical", "clinical": "connectome"}[modality]].grad != 0).any()


@pytest.mark.parametrize("kind", ["image", "connectome"])
def test_absent_rows_are_not_part_of_a_batch_normalisation(kind: str) -> None:
    """In training the embeddings of present rows do not change with the number of absent ones beside them."""
    present = torch.tensor([True, True, False, True, True, False])
    if kind == "image":
        rows: Modality = ImageRows(torch.randn(N, 1, 16, 16, 16) * present.view(N, 1, 1, 1, 1))
        settings = ModelSettings(encoder=ResNetEncoder(width=1 / 16, norm="batch", stem_stride=1))
    else:
        given = make_batch().connectome
        rows = replace(given, edges=given.edges * present.view(N, 1, 1, 1))
        settings = ModelSettings(encoder=FlatEncoder(widths=(6, 4), norm="batch", dropout=0.0))
    model = build_model(settings, {kind: rows.sizes}, {"low": 1}).train()
    together = model.encode(Batch({kind: rows}, {kind: present}))[kind].embedding
    at = torch.nonzero(present).flatten()
    alone = model.encode(Batch({kind: rows.rows(at)}, {kind: present[at]}))[kind].embedding
    assert torch.equal(together[at], alone)
    assert not together[~present].any()
    nobody = model.encode(Batch({kind: rows}, {kind: torch.zeros(N, dtype=torch.bool)}))[kind].embedding
    assert nobody.shape == together.shape
    assert not nobody.any()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = torch.arange(N) == 0
    lone = model.encode(Batch({kind: rows}, {kind: one}))[kind].embedding
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert lone.requires_grad
    assert torch.equal(lone[:1], model.branches[kind].eval()(rows.rows(torch.tensor([0]))).embedding)


def test_a_model_without_a_modality_has_no_part_of_it() -> None:
    sizes = {"connectome": SIZES["connectome"]}
    model = build_model(ModelSettings(encoder=FLATS[1]), sizes, {"low": 1})
    assert set(model.branches) == {"connectome"}
    batch = make_batch()
    clinical = replace(batch.modalities["clinical"], values=batch.modalities["clinical"].values * 100)  # type: ignore[attr-defined]
    changed = Batch({**batch.modalities, "clinical": clinical}, batch.present)
    assert torch.equal(model.eval()(batch), model(changed))
    assert {part_of(name) for name, _ in model.named_parameters()} == {"connectome", "fusion", "heads"}


def test_every_parameter_belongs_to_a_part_that_settings_can_name() -> None:
    settings = ModelSettings(encoder=GRAPH)
    model = build_model(settings, SIZES, HEADS)
    assert {part_of(name) for name, _ in model.named_parameters()} == set(settings.parts)
    assert {part_of(name) for name in model.state_dict()} == set(settings.parts)


def test_heads_stand_in_their_order_with_as_many_outputs_as_they_ask_for() -> None:
    model = build_model(ModelSettings(encoder=GRAPH), SIZES, {"b": 3, "a": 1}).eval()
    batch = make_batch()
    fused = model.embed(batch)
    want = torch.cat([model.heads["b"](fused), model.heads["a"](fused)], dim=1)
    torch.testing.assert_close(model(batch), want)
    assert build_model(ModelSettings(encoder=GRAPH), SIZES, {})(batch).shape == (N, 0)


def test_a_batch_takes_rows_of_everything_and_shares_the_constants() -> None:
    batch = make_batch()
    some = batch.rows(torch.tensor([5, 0]))
    assert len(some) == 2
    assert torch.equal(some.connectome.edges, batch.connectome.edges[[5, 0]])
    assert torch.equal(some.connectome.scale, batch.connectome.scale)
    assert torch.equal(some.modalities["clinical"].values, batch.modalities["clinical"].values[[5, 0]])  # type: ignore[attr-defined]
    assert torch.equal(batch.to("cpu").connectome.edges, batch.connectome.edges)
    images = ImageRows(embedding=torch.arange(6.0).view(3, 2))
    assert images.rows(torch.tensor([2])).embedding.tolist() == [[4.0, 5.0]]  # type: ignore[union-attr]
    assert images.sizes == {"n_columns": 2}
    assert ImageRows(volume=torch.zeros(2, 4, 3, 3, 3)).sizes == {"n_channels": 4}


def test_hidden_edges_carry_no_message_and_the_rest_is_normalised_as_if_they_did_not_exist() -> None:
    rows = make_batch(dtype=torch.float64).connectome
    kept = (torch.rand(N, 1, REGIONS, REGIONS) > 0.3).double().triu(1)
    kept = kept + kept.transpose(2, 3)
    hidden = rows.with_edges(rows.edges * kept, kept)
    weights = (rows.edges * rows.scale + rows.mean) * kept
    torch.testing.assert_close(hidden.adjacency, normalise_adjacency(weights, rows.node_mask))
    assert (hidden.adjacency * (1 - kept) == 0).all()


def test_normalised_adjacency_is_that_of_networkx() -> None:
    import networkx as nx

    weights = make_batch(dtype=torch.float64, masked=False).connectome.edges[:1, :1].abs()
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
    assert weights.grad is not None
    assert torch.isfinite(weights.grad).all()


def test_readouts_count_only_the_regions_that_exist() -> None:
    h, mask = torch.randn(3, 4, 5), torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    mean = MeanReadout(5)(h, mask)
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
