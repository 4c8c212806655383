"""One contract for all that adaptation minimises: it sees edges that exist, and no label."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from connectome_tl.features.batches import fit_features
from connectome_tl.nn.graph_encoder import build_encoder
from small_study import FLAT, GRAPH, small_cohorts

from connectome_tl.nn.layers import Inputs, normalise_adjacency
from connectome_tl.nn.model import Sizes
from connectome_tl.settings.study import DenoisingAutoencoder, MaskedEdges, ModelSettings
from connectome_tl.training.fit import to_inputs
from connectome_tl.training.objectives import build_objective

POOL = small_cohorts(n_pool=40).pool
assert POOL is not None
OBJECTIVES = [MaskedEdges(rank=8), DenoisingAutoencoder(hidden=16)]
MODELS = [GRAPH, FLAT]


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pool_inputs() -> Inputs:
    return to_inputs(fit_features(POOL, POOL.ids, clinical=False).rows(POOL, POOL.ids))


def build(
    objective: MaskedEdges | DenoisingAutoencoder, model: ModelSettings, *, random: bool = True
) -> tuple[torch.nn.Module, torch.nn.Module]:
    sizes = Sizes(POOL.n_regions, POOL.n_measures, 0, 0, ())
    encoder, width = build_encoder(model.encoder, sizes.n_regions, sizes.n_measures, 0)
    if random:
        for parameter in encoder.parameters():  # some start at zero on purpose
            torch.nn.init.normal_(parameter, std=0.3)
    return build_objective(objective, sizes, width), encoder


@pytest.mark.parametrize("model", MODELS, ids=["graph", "flat"])
@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.kind)
def test_contract_of_every_objective(settings: MaskedEdges | DenoisingAutoencoder, model: ModelSettings) -> None:
    objective, encoder = build(settings, model)
    loss = objective(encoder, pool_inputs())
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    for part in (objective, encoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name
    assert list(inspect.signature(objective.forward).parameters) == ["encoder", "inputs"]  # no room for a label


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.kind)
def test_missing_regions_do_not_enter(settings: MaskedEdges | DenoisingAutoencoder) -> None:
    objective, encoder = build(settings, GRAPH)
    inputs = pool_inputs()
    mask = inputs.node_mask.clone()
    mask[:, 4] = 0
    absent = 1 - mask[:, None, :, None] * mask[:, None, None, :]
    masked = inputs._replace(
        node_mask=mask,
        edges=inputs.edges * (1 - absent),
        adjacency=inputs.adjacency * (1 - absent),
        messages=inputs.messages * (1 - absent),
    )
    losses = []
    for target in (0.0, 1e3):
        seen: list[torch.Tensor] = []

        def watch(batch: Inputs, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            # The encoder sees edges that exist; what stands for the absent ones is only the target's.
            seen.append(batch.edges)
            return encoder(batch._replace(edges=batch.edges * (1 - absent)))

        torch.manual_seed(3)
        losses.append(objective(watch, masked._replace(edges=masked.edges + target * absent)).item())
    assert losses[0] == losses[1]
    torch.manual_seed(3)
    whole = objective(encoder, inputs).item()
    assert whole != losses[0]


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.kind)
def test_what_is_hidden_is_hidden_from_the_encoder(settings: MaskedEdges | DenoisingAutoencoder) -> None:
    objective, encoder = build(settings, GRAPH)
    inputs = pool_inputs()
    seen: list[Inputs] = []

    def watch(batch: Inputs) -> torch.Tensor:
        seen.append(batch)
        return encoder(batch)

    objective(watch, inputs)
    (batch,) = seen
    torch.testing.assert_close(batch.edges, batch.edges.transpose(2, 3))
    hidden = (batch.edges == 0) & (inputs.edges != 0)
    share = hidden.sum() / (inputs.edges != 0).sum()
    assert share == pytest.approx(0.3 if settings.kind == "masked_edges" else 0.1, abs=0.03)
    assert (batch.adjacency[hidden] == 0).all()
    assert torch.equal(batch.node_mask, inputs.node_mask)
    # Other values of what was hidden, the same draws: nothing that the encoder is given differs.
    torch.manual_seed(1)
    objective(watch, inputs)
    hidden = (seen[1].adjacency == 0) & (inputs.adjacency != 0)
    louder = torch.where(hidden, 7.0 * inputs.messages, inputs.messages)
    others = inputs._replace(
        edges=torch.where(hidden, inputs.edges + 5.0, inputs.edges),
        messages=louder,
        adjacency=normalise_adjacency(louder, inputs.node_mask),
    )
    assert not torch.equal(others.adjacency[~hidden], inputs.adjacency[~hidden])
    torch.manual_seed(1)
    objective(watch, others)
    for name, now, before in zip(Inputs._fields, seen[2], seen[1], strict=True):
        assert torch.equal(now, before), name


@pytest.mark.parametrize("model", MODELS, ids=["graph", "flat"])
@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.kind)
def test_the_loss_falls_below_the_best_constant_on_structured_data(
    settings: MaskedEdges | DenoisingAutoencoder, model: ModelSettings
) -> None:
    # Edges of one factor per subject: what is seen tells what is hidden.
    rng = np.random.default_rng(0)
    amount = torch.from_numpy(rng.normal(size=(20, 1, 1, 1))).float()
    pattern = torch.from_numpy(np.outer(*[rng.choice([-1.0, 1.0], POOL.n_regions)] * 2)).float()
    edges = amount * pattern * (1 - torch.eye(POOL.n_regions))
    inputs = (
        pool_inputs().rows(torch.arange(20))._replace(edges=edges, adjacency=edges / POOL.n_regions, messages=edges)
    )
    inputs = inputs._replace(node_mask=torch.ones_like(inputs.node_mask))
    quiet = model.model_copy(update={"encoder": model.encoder.model_copy(update={"dropout": 0.0})})
    objective, encoder = build(settings, quiet, random=False)
    optimiser = torch.optim.Adam([*objective.parameters(), *encoder.parameters()], lr=0.05)
    losses = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = objective(encoder, inputs)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    constant = edges[:, :, 0, 1:].square().mean().item()  # the error of always saying the mean, 0
    assert np.mean(losses[-10:]) < 0.8 * constant
