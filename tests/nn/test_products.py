"""Large products are the same when computed in parts, in lower precision and by symmetry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from network_cases import ENCODERS, N, make_batch, make_model
from network_cases import name as name_of
from torch import Tensor

from connectome_tl.nn import products
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.encoders import graph
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.products import plus_messages, thin_linear, wide_linear
from connectome_tl.settings.encoders import AttentionSettings, GATv2Encoder, GraphEncoder, MessageSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.networks.loop import Pool, batches, train
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.objectives.supervised import Supervised

BF16 = torch.bfloat16


def symmetric(n: int, n_regions: int) -> Tensor:
    upper = torch.randn(n, n_regions, n_regions, dtype=torch.float64)
    return upper + upper.transpose(1, 2)


def gradients(model: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Gradients of a fixed function of the outputs in training mode, dropout drawn from one seed."""
    model.zero_grad()
    torch.manual_seed(5)
    model.train()(batch).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cached", [0, 2**22])
def test_messages_have_the_value_and_gradients_of_plain_torch(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_CACHED_AT_MOST", cached)
    torch.manual_seed(0)
    adjacency = symmetric(3, 5)
    own, sent = (torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(plus_messages(own, adjacency, sent), own + adjacency @ sent)
    assert torch.autograd.gradcheck(lambda a, b: plus_messages(a, adjacency, b), (own, sent))
    moving = adjacency.clone().requires_grad_()
    assert torch.autograd.gradcheck(plus_messages, (own, moving, sent))  # explanations need it


@pytest.mark.parametrize("n_moving", [2, 3])
def test_thin_map_has_the_value_and_gradients_of_plain_torch(n_moving: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two moving arguments: the features need no gradient."""
    torch.manual_seed(0)
    features, pull = torch.randn(3, 5, 7), torch.randn(3, 5, 2)
    found = []
    for cached in (0, 2**22):
        monkeypatch.setattr(products, "_CACHED_AT_MOST", cached)
        given = (features.clone(), torch.ones(2, 7), torch.ones(2))
        moving = [x.requires_grad_() for x in given[-n_moving:]]
        made = thin_linear(*given)
        assert made.is_contiguous()
        (made * pull).sum().backward()
        found.append([made.detach(), *(x.grad for x in moving)])
    torch.testing.assert_close(found[0], found[1])


def test_wide_map_has_the_value_and_gradients_of_plain_torch() -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(70, 300), torch.randn(4, 300, requires_grad=True)
    assert torch.equal(wide_linear(rows, weight), rows @ weight.T)
    lower = rows.to(BF16)
    found = wide_linear(lower, weight)
    exact = lower.double() @ weight.detach().to(BF16).double().T
    assert found.dtype == weight.dtype
    torch.testing.assert_close(found.double(), exact, rtol=2**-7, atol=1e-6)
    pull = torch.randn(70, 4)
    (found * pull).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, pull.T @ rows, rtol=2**-4, atol=0.1)


def test_a_mask_of_the_wide_map_is_the_same_as_masked_weights_bit_by_bit() -> None:
    torch.manual_seed(0)
    rows, mask, pull = torch.randn(70, 300).to(BF16), (torch.rand(300) < 0.5) / 0.5, torch.randn(70, 4)
    found = []
    for given in (None, mask):
        weight = torch.linspace(-1, 1, 1200).reshape(4, 300).requires_grad_()
        made = wide_linear(rows, weight * mask) if given is None else wide_linear(rows, weight, given)
        (made * pull).sum().backward()
        assert weight.grad is not None
        found.append((made.detach(), weight.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("settings", [GraphEncoder(width=4), GATv2Encoder(width=4)], ids=lambda s: s.kind)
def test_subjects_a_few_at_a_time_learn_the_same(settings: GraphEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(dtype=torch.float64)
    assert (batch.connectome.node_mask == 0).any()
    model = make_model(settings, torch.float64)
    whole = gradients(model, batch)
    monkeypatch.setattr(graph, "_NODES_AT_ONCE", 2 * batch.connectome.edges.shape[2])
    assert len(batch.connectome.parts(2)) == -(-N // 2)
    for name, gradient in gradients(model, batch).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-12)
    model.eval()
    nodes = model.encode(batch)["connectome"].nodes
    assert nodes is not None
    assert nodes.shape[:2] == batch.connectome.node_mask.shape


@pytest.mark.parametrize("settings", [s for s in ENCODERS if isinstance(s, MessageSettings)], ids=name_of)
def test_rows_prepared_for_an_encoder_give_the_same_outputs_and_gradients(settings: MessageSettings) -> None:
    batch, model = make_batch(dtype=torch.float64), make_model(settings, torch.float64)
    whole = batch.prepared()
    ready = model.prepared(whole)
    assert (ready.connectome.gathered is None) == isinstance(settings, AttentionSettings)
    wanted = gradients(model, batch)
    for found in (gradients(model, ready), gradients(model, model.prepared(batch))):
        assert set(found) == set(wanted)
        for part, gradient in wanted.items():
            torch.testing.assert_close(found[part], gradient, rtol=1e-9, atol=1e-11)
    model.eval()
    at = torch.tensor([4, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(ready.rows(at)), model(batch.rows(at)), rtol=1e-10, atol=1e-12)
    changed = whole.connectome.with_edges(whole.connectome.edges * 2)
    again = replace(ready.connectome, edges=whole.connectome.edges).with_edges(changed.edges)
    torch.testing.assert_close(model(batch.with_connectome(again)), model(batch.with_connectome(changed)))


def test_a_network_trained_on_prepared_rows_is_the_same() -> None:
    batch = make_batch(dtype=torch.float64, n=11).prepared()
    pools = {TRAIN: Pool(batch, torch.arange(22.0, dtype=torch.float64).view(11, 2) / 10)}
    settings, weights = Training(steps=6, batch_size=4), []
    for roles in (frozenset({TRAIN}), frozenset[str]()):
        model = make_model(GraphEncoder(width=4), torch.float64)
        objective = Supervised(Outcomes(dict.fromkeys("ab", "regression"), dict.fromkeys("ab", 1)), settings)
        assert objective.unchanged == {TRAIN}
        objective.unchanged = roles
        torch.manual_seed(0)
        train(model, objective, pools, settings, np.random.default_rng(0))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-8, atol=1e-10)
    assert not torch.equal(*weights)  # otherwise the rows were not prepared


def test_rows_are_prepared_for_an_encoder_in_full_precision_and_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, model = make_batch(), make_model(GraphEncoder(width=4))
    assert model.prepared(batch).connectome.gathered is not None
    lower = batch.prepared(BF16)
    assert model.prepared(lower).connectome is lower.connectome
    monkeypatch.setattr(graph, "_GATHERED_AT_MOST", batch.connectome.edges.nbytes)
    assert model.prepared(batch).connectome is batch.connectome


def test_bfloat16_edges_give_nearly_the_same_outputs_and_gradients() -> None:
    batch = make_batch()
    model = make_model(GraphEncoder(width=8))
    exact, lower = batch.prepared(), batch.prepared(BF16)
    rows = lower.connectome
    assert {rows.edges.dtype, rows.adjacency.dtype, rows.upper.dtype} == {BF16}
    assert rows.node_mask.dtype == rows.scale.dtype == torch.float32
    torch.testing.assert_close(rows.adjacency.float(), exact.connectome.adjacency, rtol=2**-8, atol=0)
    found, wanted = gradients(model, lower), gradients(model, exact)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - gradient).norm()) <= 0.03 * float(gradient.norm()) + 1e-6, name
    model.eval()
    with torch.no_grad():
        first, second = model(lower), model(exact)
    assert float((first - second).abs().max()) < 0.02 * float(second.abs().max())
    assert not torch.equal(first, second)  # otherwise no product had lower precision


def test_regions_that_all_exist_are_not_masked_and_the_result_is_the_same() -> None:
    batch = make_batch()
    rows = replace(batch.connectome, node_mask=torch.ones_like(batch.connectome.node_mask))
    model = make_model(GraphEncoder(width=4)).eval()
    with torch.no_grad():
        whole = model(batch.with_connectome(rows))
        mixed = model(
            batch.with_connectome(
                replace(rows, node_mask=torch.cat([rows.node_mask[:-1], batch.connectome.node_mask[-1:]]))
            )
        )
    torch.testing.assert_close(whole[:-1], mixed[:-1])


def test_batches_are_drawn_into_the_same_memory_with_the_rows_that_were_asked_for() -> None:
    batch, targets = make_batch(n=11).prepared(), torch.arange(11.0)[:, None]
    order, places = batches(11, 4, np.random.default_rng(0)), set()
    known = batches(11, 4, np.random.default_rng(0))
    for (drawn, goal), index, _ in zip(Pool(batch, targets).drawing(order), known, range(6)):
        assert index is not None
        wanted = batch.rows(torch.from_numpy(index))
        assert goal is not None
        assert goal[:, 0].tolist() == index.tolist()
        assert torch.equal(drawn.connectome.edges, wanted.connectome.edges)
        assert torch.equal(drawn.connectome.adjacency, wanted.connectome.adjacency)
        assert drawn.connectome.mean is batch.connectome.mean
        places.add(drawn.connectome.edges.data_ptr())
    assert len(places) == 1
    assert next(Pool(batch).drawing(batches(11, 11, np.random.default_rng(0))))[0] is batch
