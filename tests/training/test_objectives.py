"""One contract for all that adaptation minimises: it sees edges that exist, and no label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_study import FLAT, GRAPH, small_cohorts

from connectome_tl.errors import InternalError
from connectome_tl.features.steps import fit_steps
from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.branch import Encoded
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import DenoisingAutoencoder, MaskedEdges, MaskedVolume, ObjectiveSettings
from connectome_tl.training.fitted import to_batch
from connectome_tl.training.objectives import (
    OBJECTIVES,
    TRAIN,
    Objective,
    ObjectiveSizes,
    Supervised,
    build_objective,
)

POOL = small_cohorts(n_pool=40).pool
assert POOL is not None
KINDS = [MaskedEdges(rank=8), DenoisingAutoencoder(hidden=16)]
MODELS = [GRAPH, FLAT]
AnyKind = MaskedEdges | DenoisingAutoencoder


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pool_batch() -> Batch:
    assert POOL is not None
    features = fit_steps(POOL, POOL.ids, FeatureSettings(), ("connectome",))
    return to_batch(features.rows(POOL, POOL.ids))


def build(settings: AnyKind, model: ModelSettings, *, random: bool = True) -> tuple[Objective, OutcomeModel]:
    sizes = {"connectome": pool_batch().connectome.sizes}
    network = build_model(model, sizes, {})
    if random:
        for parameter in network.branches.parameters():  # some start at zero on purpose
            torch.nn.init.normal_(parameter, std=0.3)
    widths = {"connectome": network.branches["connectome"].width}
    return build_objective(settings, ObjectiveSizes(sizes, widths, Outcomes({}, {}))), network  # type: ignore[arg-type]


def loss_of(objective: Objective, model: object, batch: Batch) -> torch.Tensor:
    return torch.stack(list(objective(model, {TRAIN: batch}, {TRAIN: None}).values())).sum()  # type: ignore[arg-type]


class Watched:
    """Stands in for a model whose connectome branch is watched."""

    def __init__(self, model: OutcomeModel, change: object = None) -> None:
        self.seen: list[ConnectomeRows] = []
        branch = model.branches["connectome"]

        def watch(rows: ConnectomeRows) -> Encoded:
            self.seen.append(rows)
            return branch(rows if change is None else change(rows))  # type: ignore[operator]

        self.branches = {"connectome": watch}


@pytest.mark.parametrize("model", MODELS, ids=["graph", "flat"])
@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_contract_of_every_objective(settings: AnyKind, model: ModelSettings) -> None:
    objective, network = build(settings, model)
    terms = objective(network, {TRAIN: pool_batch()}, {TRAIN: None})
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for part in (objective, network.branches):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_no_label_changes_an_unsupervised_loss(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    found = []
    for labels in (None, torch.ones(40, 2), torch.full((40, 2), torch.nan)):
        torch.manual_seed(2)
        (term,) = objective(network, {TRAIN: pool_batch()}, {TRAIN: labels}).values()
        found.append(term.item())
    assert len(set(found)) == 1


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_missing_regions_do_not_enter(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    batch = pool_batch()
    rows = batch.connectome
    mask = rows.node_mask.clone()
    mask[:, 4] = 0
    absent = 1 - mask[:, None, :, None] * mask[:, None, None, :]
    losses = []
    for target in (0.0, 1e3):
        # The encoder sees edges that exist; what stands for the absent ones is only the target's.
        watched = Watched(network, lambda seen: replace(seen, edges=seen.edges * (1 - absent)))
        there = replace(rows, node_mask=mask, edges=rows.edges * (1 - absent) + target * absent)
        torch.manual_seed(3)
        losses.append(loss_of(objective, watched, batch.with_connectome(there)).item())
    assert losses[0] == losses[1]
    torch.manual_seed(3)
    assert loss_of(objective, network, batch).item() != losses[0]


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_what_is_hidden_is_hidden_from_the_encoder(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    batch = pool_batch()
    rows = batch.connectome
    there = rows.present.bool() & ~torch.eye(rows.edges.shape[-1], dtype=torch.bool) & (rows.edges != 0)
    watched = Watched(network)
    torch.manual_seed(1)
    loss_of(objective, watched, batch.prepared())  # what was computed beforehand must not be used
    (first,) = watched.seen
    torch.testing.assert_close(first.edges, first.edges.transpose(2, 3))
    hidden = (first.edges == 0) & there
    share = (hidden.sum() / there.sum()).item()
    assert share == pytest.approx(0.3 if settings.kind == "masked_edges" else 0.1, abs=0.03)
    assert (first.adjacency[hidden] == 0).all()
    assert torch.equal(first.node_mask, rows.node_mask)
    # Other values of what was hidden, the same draws: nothing that the encoder is given differs.
    others = batch.with_connectome(replace(rows, edges=torch.where(hidden, rows.edges + 5.0, rows.edges)))
    torch.manual_seed(1)
    loss_of(objective, watched, others)
    second = watched.seen[1]
    for name in ("edges", "adjacency", "upper", "regional", "node_mask"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    # The same of what was not hidden is seen.
    seen = batch.with_connectome(replace(rows, edges=torch.where(hidden, rows.edges, rows.edges + 5.0 * there)))
    torch.manual_seed(1)
    loss_of(objective, watched, seen)
    assert not torch.equal(watched.seen[2].edges, first.edges)
    assert not torch.equal(watched.seen[2].adjacency, first.adjacency)


@pytest.mark.parametrize("model", MODELS, ids=["graph", "flat"])
@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_the_loss_falls_below_the_best_constant_on_structured_data(settings: AnyKind, model: ModelSettings) -> None:
    # Edges of one factor per subject: what is seen tells what is hidden.
    rng = np.random.default_rng(0)
    batch = pool_batch().rows(torch.arange(20))
    n_regions = batch.connectome.edges.shape[-1]
    amount = torch.from_numpy(rng.normal(size=(20, 1, 1, 1))).float()
    pattern = torch.from_numpy(np.outer(*[rng.choice([-1.0, 1.0], n_regions)] * 2)).float()
    edges = amount * pattern * (1 - torch.eye(n_regions))
    unscaled = {"mean": torch.zeros_like(batch.connectome.mean), "scale": torch.ones_like(batch.connectome.scale)}
    rows = replace(batch.connectome, edges=edges, node_mask=torch.ones_like(batch.connectome.node_mask), **unscaled)
    quiet = model.model_copy(update={"encoder": model.encoder.model_copy(update={"dropout": 0.0})})
    objective, network = build(settings, quiet, random=False)
    optimiser = torch.optim.Adam([*objective.parameters(), *network.branches.parameters()], lr=0.05)
    losses = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = loss_of(objective, network, batch.with_connectome(rows))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    constant = edges[:, :, 0, 1:].square().mean().item()  # the error of always saying the mean, 0
    assert np.mean(losses[-10:]) < 0.8 * constant


def test_every_settings_class_of_an_objective_makes_one_and_has_a_phrase() -> None:
    built_in = {kind for kind in ObjectiveSettings.__subclasses__() if kind.__module__.startswith("connectome_tl")}
    assert built_in == {MaskedEdges, DenoisingAutoencoder, MaskedVolume}
    for kind in built_in:
        assert kind in OBJECTIVES
        assert kind().describe()
        assert kind().source_replay is False

    class Unknown(ObjectiveSettings):
        pass

    with pytest.raises(InternalError, match="no objective is registered for Unknown"):
        build_objective(Unknown(), ObjectiveSizes({}, {}, Outcomes({}, {})))


def test_edge_noise_jitters_edges_that_exist_in_both_directions() -> None:
    batch = pool_batch()
    network = build_model(GRAPH, {"connectome": batch.connectome.sizes}, {"y": 1}).eval()
    outcomes, seen = Outcomes({"y": "regression"}, {"y": 1}), []
    branch = network.branches["connectome"]
    branch.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    goal = torch.zeros(40, 1)
    plain, noisy = (Supervised(outcomes, noise) for noise in (0.0, 0.5))
    plain(network, {TRAIN: batch}, {TRAIN: goal})
    noisy(network, {TRAIN: batch.prepared()}, {TRAIN: goal})
    first, second = (rows.edges for rows in seen)
    assert torch.equal(first, batch.connectome.edges)
    moved = second != first
    assert (moved == (first != 0)).float().mean() > 0.999
    torch.testing.assert_close(second, second.transpose(2, 3))
    assert (second - first)[moved].std().item() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(seen[1].adjacency, seen[0].adjacency)
    with pytest.raises(InternalError, match="needs targets"):
        plain(network, {TRAIN: batch}, {TRAIN: None})
