"""Taylor pruning: scores compared with the removal of each filter, and a whole run on a small network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

pytest.importorskip("torch_pruning")
import torch_pruning

from connectome_tl.errors import DataError
from connectome_tl.nn.voxel.channels import channel_groups
from connectome_tl.nn.voxel.gates import Gates
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.pruning import GateScores, prune, removal_oracle

N_ROWS = 32
Trained = tuple[nn.Module, Callable[[nn.Module, np.ndarray], Tensor], Tensor]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A net that learnt the size of a bright ball at 12^3."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    grid = np.stack(np.meshgrid(*[np.arange(12) - 5.5] * 3, indexing="ij"))
    radii = rng.uniform(2, 5, N_ROWS)
    balls = (np.sqrt((grid**2).sum(axis=0)) < radii[:, None, None, None]) + rng.normal(0, 0.3, (N_ROWS, 12, 12, 12))
    volumes = torch.tensor(balls[:, None], dtype=torch.float32)
    # Ages are never predicted without error: at a minimum of the loss all first derivatives are 0.
    target = torch.tensor((radii - radii.mean()) / radii.std() + rng.normal(0, 0.5, N_ROWS), dtype=torch.float32)

    def layer(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False), nn.GroupNorm(n_out // 2, n_out), nn.ReLU()]

    net = nn.Sequential(*layer(1, 16, 2), *layer(16, 16, 1), *layer(16, 24, 2), nn.AdaptiveAvgPool3d(1))
    net.extend([nn.Flatten(), nn.Linear(24, 1)])

    def loss(network: nn.Module, index: np.ndarray) -> Tensor:
        return (network(volumes[index])[:, 0] - target[index]).square().mean()

    rng = np.random.default_rng(1)
    descend(net.parameters(), lambda index: loss(net, index), N_ROWS, Descent(steps=60, learning_rate=3e-3), rng)
    return net.eval(), loss, volumes[:1]


@pytest.mark.parametrize(("order", "least"), [(1, 0.9), (2, 0.95)])
def test_scores_say_what_the_removal_of_each_filter_does(trained: Trained, order: int, least: float) -> None:
    net, loss, example = trained
    gates = Gates(channel_groups(net, example))
    index = np.array_split(np.arange(N_ROWS), 8)
    scores = GateScores(gates, order)
    with gates.on(net):
        for rows in index:
            scores.bend(loss(net, rows)).backward()
            scores.see()
    estimated = torch.cat(scores.settle()).numpy()
    truth = torch.cat(removal_oracle(net, gates, loss, index)).numpy()
    pearson = np.corrcoef(estimated, truth)[0, 1]
    rank = stats.spearmanr(estimated, truth).statistic
    print(f"order {order}: correlation with the removal of each of {len(truth)} units {pearson:.3f}, ranks {rank:.3f}")
    assert pearson > least
    assert rank > 0.8


def test_gate_gradients_are_those_of_finite_differences(trained: Trained) -> None:
    net, loss, example = trained
    gates = Gates(channel_groups(net, example))
    rows, step = np.arange(4), 1e-2
    with gates.on(net):
        loss(net, rows).backward()
        gradient = gates.values[1].grad
        assert gradient is not None
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                gates.values[1][3] += sign * step
                values.append(float(loss(net, rows)))
                gates.values[1][3] -= sign * step
    assert float(gradient[3]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02, abs=1e-4)


def test_a_run_removes_the_cost_it_was_asked_for_and_keeps_the_loss(trained: Trained) -> None:
    net, loss, example = trained
    settings = TaylorPruning(
        target=0.4, per_event=0.05, between=Descent(steps=4, learning_rate=1e-3), after=Descent(steps=30)
    )
    state = {name: value.clone() for name, value in net.state_dict().items()}
    pruned = prune(net, loss, N_ROWS, settings, np.random.default_rng(2), example)
    everyone = np.arange(N_ROWS)
    with torch.no_grad():
        full, smaller = float(loss(net, everyone)), float(loss(pruned.network, everyone))
    assert pruned.after.macs <= 0.62 * pruned.before.macs
    assert pruned.after.parameters < pruned.before.parameters
    assert all(a.macs > b.macs for a, b in zip(pruned.removals, pruned.removals[1:], strict=False))
    assert smaller < full + 0.02
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    again = prune(net, loss, N_ROWS, settings, np.random.default_rng(2), example)
    assert again.removed == pruned.removed


def test_low_scores_go_first_and_smoothing_remembers(trained: Trained) -> None:
    net, loss, example = trained
    gates = Gates(channel_groups(net, example))
    scores = GateScores(gates, momentum=0.9)
    with gates.on(net):
        loss(net, np.arange(8)).backward()
        scores.see()
        first = [s.clone() for s in scores.settle()]
        (10 * loss(net, np.arange(8))).backward()
        scores.see()
        second = scores.settle()
    assert torch.allclose(second[0], 0.9 * first[0] + 0.1 * 100 * first[0])


def test_the_score_is_an_importance_for_torch_prunings_own_pruner(trained: Trained) -> None:
    net, _, example = trained
    gates = Gates(channel_groups(net, example))
    scores = GateScores(gates)
    scores.smoothed = [torch.arange(group.n_units, dtype=torch.float32) for group in gates.groups]
    pruner = torch_pruning.pruner.BasePruner(
        net, example, importance=scores, pruning_ratio=0.5, ignored_layers=[net[-1]]
    )
    called = [scores(group) for group in pruner.DG.get_all_groups(ignored_layers=[net[-1]])]
    for known, found in zip(gates.groups, called, strict=True):
        assert torch.equal(found, torch.arange(known.n_units).repeat_interleave(known.unit).float())


def test_a_target_that_cannot_be_reached_is_said(trained: Trained) -> None:
    net, loss, example = trained
    settings = TaylorPruning(target=0.9, per_event=1.0, keep=7, between=Descent(steps=1))
    with pytest.raises(DataError, match="minimum width"):
        prune(net, loss, N_ROWS, settings, np.random.default_rng(0), example)
