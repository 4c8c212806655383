"""One contract for all objectives of adaptation: they use existing edges, and no label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

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
from connectome_tl.settings.objectives import (
    Adversarial,
    AnyObjective,
    Coral,
    DenoisingAutoencoder,
    GraphContrast,
    MaskedEdges,
    MaskedNodes,
    Mmd,
    ObjectiveSettings,
    ScanAge,
    SelfTraining,
)
from connectome_tl.settings.training import Training
from connectome_tl.training.fitted_models import to_batch
from connectome_tl.training.objectives.alignment import AdversarialAlignment
from connectome_tl.training.objectives.objective import SOURCE, TRAIN, Objective, ObjectiveSizes
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.objectives.table import OBJECTIVES, build_objective

POOL = small_cohorts(n_pool=40).pool
assert POOL is not None
RECONSTRUCT = MaskedEdges(rank=4)
HIDING = [MaskedEdges(rank=8), DenoisingAutoencoder(hidden=16)]
REPLAYING = [kind(reconstruct=RECONSTRUCT) for kind in (Coral, Mmd, Adversarial, SelfTraining)]
KINDS = [*HIDING, MaskedNodes(rank=8), GraphContrast(), *REPLAYING, ScanAge()]
UNLABELLED = [kind for kind in KINDS if not kind.needs_age]
MODELS = [GRAPH, FLAT]
AnyKind = ObjectiveSettings
OUTCOMES = Outcomes({"age": "regression", "sex": "binary"}, {"age": 1, "sex": 1})
Given = tuple[dict[str, Batch], dict[str, torch.Tensor | None]]


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pool_batch() -> Batch:
    assert POOL is not None
    features = fit_steps(POOL, POOL.ids, FeatureSettings(), ("connectome",))
    return to_batch(features.rows(POOL, POOL.ids))


def given_to(settings: AnyKind, batch: Batch) -> Given:
    """Input of an objective: the pool, and other cohorts that it requires."""
    ages = torch.randn(len(batch), 1)
    ages[0] = torch.nan
    batches, targets = {TRAIN: batch}, {TRAIN: ages if settings.needs_age else None}
    if settings.source_replay:
        rows = batch.connectome
        batches[SOURCE] = batch.with_connectome(
            rows.with_edges(1.5 * rows.edges + 0.5 * rows.present * (rows.edges != 0))
        )
        targets[SOURCE] = torch.stack([torch.randn(len(batch)), (torch.rand(len(batch)) > 0.5).float()], dim=1)
    return batches, targets  # type: ignore[return-value]


def build(settings: AnyKind, model: ModelSettings, *, random: bool = True) -> tuple[Objective, OutcomeModel]:
    sizes = {"connectome": pool_batch().connectome.sizes}
    network = build_model(model, sizes, OUTCOMES.sizes)
    if random:
        for parameter in network.branches.parameters():  # some are initialised at zero
            torch.nn.init.normal_(parameter, std=0.3)
    widths = {"connectome": network.branches["connectome"].width}
    return build_objective(settings, ObjectiveSizes(sizes, widths, OUTCOMES)), network  # type: ignore[arg-type]


def loss_of(objective: Objective, model: object, batch: Batch) -> torch.Tensor:
    return torch.stack(list(objective(model, {TRAIN: batch}, {TRAIN: None}).values())).sum()  # type: ignore[arg-type]


class Watched:
    """Replaces a model; records the input of the connectome branch."""

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
    batch = pool_batch()
    objective.begin(network)
    terms = objective(network, *given_to(settings, batch))
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    assert len(terms) == (3 if settings.source_replay else 1)
    torch.stack(list(terms.values())).sum().backward()
    moved = [objective, network.branches, *([network.heads, network.fusion.maps] if settings.source_replay else [])]
    for part in moved:
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name
    if not settings.source_replay:
        assert all(parameter.grad is None for parameter in network.heads.parameters())
    # Equal draws give an equal loss, other rows another.
    found = []
    for rows in (batch, batch.prepared(), batch.rows(torch.arange(40).flip(0)), batch.rows(torch.arange(20))):
        torch.manual_seed(4)
        found.append(torch.stack(list(objective(network, *given_to(settings, rows)).values())).sum().item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] != pytest.approx(found[3], rel=1e-5)


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: s.kind)
def test_rows_that_an_objective_leaves_unchanged_may_be_prepared_for_the_model(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    assert objective.unchanged == {
        *([SOURCE] if settings.source_replay else []),
        *([TRAIN] if settings.needs_age else []),
    }
    batches, targets = given_to(settings, pool_batch())
    ready = {role: network.prepared(one.prepared()) for role, one in batches.items() if role in objective.unchanged}
    assert all(one.connectome.gathered is not None for one in ready.values())
    found = []
    for given in (batches, {**batches, **ready}):
        torch.manual_seed(4)
        found.append(torch.stack(list(objective(network, given, targets).values())).sum().item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("settings", REPLAYING, ids=lambda s: s.kind)
def test_without_a_source_the_reconstruction_is_left(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    assert settings.source_replay
    terms = objective(network, {TRAIN: pool_batch()}, {TRAIN: None})
    assert set(terms) == {"reconstruction"}
    terms["reconstruction"].backward()
    assert any((p.grad != 0).any() for p in network.branches.parameters() if p.grad is not None)


@pytest.mark.parametrize("settings", UNLABELLED, ids=lambda s: s.kind)
def test_no_label_of_the_pool_changes_an_unsupervised_loss(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    batches, targets = given_to(settings, pool_batch())
    found = []
    for labels in (None, torch.ones(40, 2), torch.full((40, 2), torch.nan)):
        torch.manual_seed(2)
        terms = objective(network, batches, {**targets, TRAIN: labels})
        found.append(torch.stack(list(terms.values())).sum().item())
    assert len(set(found)) == 1


@pytest.mark.parametrize("settings", [*HIDING, MaskedNodes(rank=8)], ids=lambda s: s.kind)
def test_missing_regions_do_not_enter(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    batch = pool_batch()
    rows = batch.connectome
    mask = rows.node_mask.clone()
    mask[:, 4] = 0
    absent = 1 - mask[:, None, :, None] * mask[:, None, None, :]
    losses = []
    for target in (0.0, 1e3):
        # The encoder uses existing edges; values of absent ones occur in the target only.
        watched = Watched(network, lambda seen: replace(seen, edges=seen.edges * (1 - absent)))
        there = replace(rows, node_mask=mask, edges=rows.edges * (1 - absent) + target * absent)
        torch.manual_seed(3)
        losses.append(loss_of(objective, watched, batch.with_connectome(there)).item())
    assert losses[0] == losses[1]
    torch.manual_seed(3)
    assert loss_of(objective, network, batch).item() != losses[0]


@pytest.mark.parametrize("settings", HIDING, ids=lambda s: s.kind)
def test_what_is_hidden_is_hidden_from_the_encoder(settings: AnyKind) -> None:
    objective, network = build(settings, GRAPH)
    batch = pool_batch()
    rows = batch.connectome
    there = rows.present.bool() & ~torch.eye(rows.edges.shape[-1], dtype=torch.bool) & (rows.edges != 0)
    watched = Watched(network)
    torch.manual_seed(1)
    loss_of(objective, watched, batch.prepared())  # precomputed values must not be used
    (first,) = watched.seen
    torch.testing.assert_close(first.edges, first.edges.transpose(2, 3))
    hidden = (first.edges == 0) & there
    share = (hidden.sum() / there.sum()).item()
    assert share == pytest.approx(0.3 if settings.kind == "masked_edges" else 0.1, abs=0.03)
    assert (first.adjacency[hidden] == 0).all()
    assert torch.equal(first.node_mask, rows.node_mask)
    # Other values of hidden edges, same draws: the input of the encoder does not change.
    others = batch.with_connectome(replace(rows, edges=torch.where(hidden, rows.edges + 5.0, rows.edges)))
    torch.manual_seed(1)
    loss_of(objective, watched, others)
    second = watched.seen[1]
    for name in ("edges", "adjacency", "upper", "regional", "node_mask"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    # Values that are not hidden are unchanged.
    seen = batch.with_connectome(replace(rows, edges=torch.where(hidden, rows.edges, rows.edges + 5.0 * there)))
    torch.manual_seed(1)
    loss_of(objective, watched, seen)
    assert not torch.equal(watched.seen[2].edges, first.edges)
    assert not torch.equal(watched.seen[2].adjacency, first.adjacency)


@pytest.mark.parametrize("model", MODELS, ids=["graph", "flat"])
@pytest.mark.parametrize("settings", HIDING, ids=lambda s: s.kind)
def test_the_loss_falls_below_the_best_constant_on_structured_data(settings: AnyKind, model: ModelSettings) -> None:
    # Edges of one factor per subject: visible edges determine hidden ones.
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
    constant = edges[:, :, 0, 1:].square().mean().item()  # the error of predicting the mean, 0
    assert np.mean(losses[-10:]) < 0.8 * constant


def structured(n: int = 24) -> Batch:
    """Edges of one factor per subject, whole brains."""
    rng = np.random.default_rng(0)
    batch = pool_batch().rows(torch.arange(n))
    n_regions = batch.connectome.edges.shape[-1]
    amount = torch.from_numpy(rng.normal(size=(n, 1, 1, 1))).float()
    pattern = torch.from_numpy(np.outer(*[rng.choice([-1.0, 1.0], n_regions)] * 2)).float()
    edges = (amount * pattern + 0.1 * torch.randn(n, 1, n_regions, n_regions).triu(1)) * (1 - torch.eye(n_regions))
    edges = (edges + edges.transpose(2, 3)) / 2
    constants = {"mean": torch.zeros_like(batch.connectome.mean), "scale": torch.ones_like(batch.connectome.scale)}
    there = torch.ones_like(batch.connectome.node_mask)
    return batch.with_connectome(replace(batch.connectome, edges=edges, node_mask=there, **constants))


@pytest.mark.parametrize("settings", [s for s in KINDS if s.kind != "adversarial"], ids=lambda s: s.kind)
def test_the_loss_falls_on_a_planted_pool(settings: AnyKind) -> None:
    quiet = GRAPH.model_copy(update={"encoder": GRAPH.encoder.model_copy(update={"dropout": 0.0}), "dropout": 0.0})
    objective, network = build(settings, quiet, random=False)
    batch = structured()
    batches, targets = given_to(settings, batch)
    if settings.needs_age:
        targets[TRAIN] = batch.connectome.edges[:, 0, 0, 1:2] / batch.connectome.edges[:, 0, 0, 1].std()
    optimiser = torch.optim.Adam([*objective.parameters(), *network.parameters()], lr=0.03)
    objective.begin(network)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.stack(list(objective(network, batches, targets).values())).sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_the_adversary_learns_and_the_encoder_unlearns() -> None:
    """The classifier has the gradient of its loss, the encoder its negative times the weight."""
    settings = Adversarial(weight=0.25, replay=0.0, reconstruct=RECONSTRUCT)
    objective, network = build(settings, FLAT)
    assert isinstance(objective, AdversarialAlignment)
    batches, targets = given_to(settings, structured())
    own, branch = list(objective.classify.parameters()), list(network.branches.parameters())
    cohort = objective(network, batches, targets)["cohort"]
    found = torch.autograd.grad(cohort, [*own, *branch])
    embeddings = [network.branches["connectome"](batches[role].connectome).embedding for role in (TRAIN, SOURCE)]
    losses = [
        torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))
        for label, logit in enumerate(map(objective.classify, embeddings))
    ]
    want = torch.autograd.grad(sum(losses) / 2, [*own, *branch])
    assert cohort.item() == pytest.approx((sum(losses) / 2).item(), rel=1e-5)  # type: ignore[union-attr]
    for i, (a, b) in enumerate(zip(found, want, strict=True)):
        torch.testing.assert_close(a, b if i < len(own) else -0.25 * b, rtol=1e-4, atol=1e-6)


def test_every_settings_class_of_an_objective_makes_one_and_has_a_phrase() -> None:
    built_in = get_args(get_args(AnyObjective)[0])
    assert {type(kind) for kind in KINDS} == {kind for kind in built_in if kind.modality == "connectome"}
    phrases = set()
    for kind in built_in:
        assert kind in OBJECTIVES
        phrases.add(kind().describe())
        assert kind().source_replay is (kind in {type(one) for one in REPLAYING})
        assert kind().needs_age is (kind is ScanAge)
    assert len(phrases) == len(built_in)

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
    plain, noisy = (Supervised(outcomes, Training(edge_noise=noise)) for noise in (0.0, 0.5))
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
