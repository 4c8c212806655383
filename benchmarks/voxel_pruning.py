"""Filter pruning by Taylor scores: cost and error of an age network before and after.

    python benchmarks/voxel_pruning.py [--cohorts 6] [--first 0] [--out voxel_pruning.tsv] [--quick]

Simulated volumes at 32^3, 0 to 24 months, 160 training and 200 test subjects. A ResNet-10 of the published width is
trained for age; 40 % of its multiply-accumulates are removed, the stem included, scores divided by what a removal
saves. The unpruned network gets as many further steps at the same rate. Width and rate were chosen on cohorts from 1000
on, which are not counted. Prints the relative loss (squared error on test subjects, pruned by unpruned, minus 1) with
its 95 % t interval over cohorts: the bar is an upper end under 5 %. Seconds are CPU seconds of forward passes of both
networks in turns: the bar is 25 % less. The five controls learn from the same subjects. Printed as well: the
correlation of first-order scores with the removal of each unit of the trained network.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from voxel_tables import (
    CONTROLS,
    AgePredictor,
    Table,
    arguments,
    beside_controls,
    controls_of,
    differences,
    interval,
    mae,
    rows_of,
    train_age,
)

from connectome_tl.nn.voxel.channels import channel_groups
from connectome_tl.nn.voxel.gates import Gates
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.nn.voxel.shrinking import removable
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.pruning import GateScores, prune, removal_oracle
from connectome_tl.training.images.rows import VolumeRows, seeded


def correlation(net: AgePredictor, rows: VolumeRows, n: int = 32) -> float:
    """Of first-order scores with the squared change of the loss without each unit, on batches of 8."""
    example = rows.volumes[:1]
    groups = channel_groups(net, example)
    refused = removable(net, groups, example)
    gates = Gates([group for group in groups if group.root not in refused])
    scores, index = GateScores(gates), np.array_split(np.arange(min(n, len(rows))), max(1, n // 8))

    def loss(network: torch.nn.Module, at: np.ndarray) -> torch.Tensor:
        assert isinstance(network, AgePredictor)
        return network.loss(rows, at)

    with gates.on(net):
        for at in index:
            loss(net, at).backward()
            scores.see()
    truth = torch.cat(removal_oracle(net, gates, loss, index))
    return float(np.corrcoef(torch.cat(scores.settle()).numpy(), truth.numpy())[0, 1])


def time_ratio(small: torch.nn.Module, net: torch.nn.Module, volume: torch.Tensor, repeats: int = 15) -> float:
    """Median ratio of the CPU times of forward passes of one volume, made in turns."""
    ratios = []
    with torch.no_grad():
        for repeat in range(repeats + 1):
            times = []
            for network in (small, net):
                started = time.process_time()
                network(volume)
                times.append(time.process_time() - started)
            if repeat:  # the first passes allocate memory
                ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def run(table: Table, seed: int, quick: bool) -> None:
    size, n_train, n_test = (16, 24, 24) if quick else (32, 160, 200)
    sim = simulate_volumes(n_train + n_test, VolumeSettings(size=size), seed=seed)
    rows = rows_of(sim)
    train, test = rows.at(range(n_train)), rows.at(range(n_train, n_train + n_test))
    with seeded(seed):
        body = VoxelResNet(10, width=0.125 if quick else 1.0, stem_stride=2)
    net = train_age(train, Descent(steps=20 if quick else 400, learning_rate=2e-3, cosine=True), seed, body)
    brief = Descent(steps=2 if quick else 10, learning_rate=1e-3)
    after = Descent(steps=5 if quick else 200, learning_rate=1e-3, cosine=True)
    settings = TaylorPruning(between=brief, after=after, per_event=0.2 if quick else 0.02)
    spent = {}

    def pruned() -> dict[str, float]:
        found = prune(
            net,
            lambda network, at: network.loss(train, at),  # type: ignore[operator]
            n_train,
            settings,
            np.random.default_rng(seed),
            train.volumes[:1],
        )
        spent["steps"] = len(found.removals) * brief.steps
        small = found.network
        assert isinstance(small, AgePredictor)
        return {
            "loss": float(small.loss(test, np.arange(n_test)).detach()),
            "mae": mae(small.ages(test.volumes), test.ages),
            "macs": found.after.macs / found.before.macs,
            "parameters": found.after.parameters / found.before.parameters,
            "seconds": time_ratio(small, net.eval(), test.volumes[:1]),
            "steps": float(spent["steps"]),
            "stem left": small.body.conv1.out_channels / net.body.conv1.out_channels,
        }

    def unpruned() -> dict[str, float]:
        other = copy.deepcopy(net).train()
        steps = int(table.values[seed, "pruned", "steps"])
        rng = np.random.default_rng(seed)
        for descent in (brief.model_copy(update={"steps": steps}), after):
            descend(other.parameters(), lambda at: other.loss(train, at), n_train, descent, rng)
        loss = float(other.eval().loss(test, np.arange(n_test)).detach())
        return {"loss": loss, "mae": mae(other.ages(test.volumes), test.ages)}

    table.fill(seed, "pruned", pruned)
    table.fill(seed, "unpruned", unpruned)
    table.fill(seed, "oracle", lambda: {"correlation": correlation(net, train)})
    controls, learnt = controls_of(sim, rows), np.arange(n_train)

    def control_of(name: str) -> dict[str, float]:
        return {"mae": mae(controls.predict(name, train.ages, learnt, n_train + np.arange(n_test)), test.ages)}

    for control in CONTROLS:
        table.fill(seed, control, lambda control=control: control_of(control))


def main() -> None:
    given = arguments(__doc__, "voxel_pruning", 6)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        run(table, seed, given.quick)
    print()
    for measure in ("macs", "parameters", "seconds"):
        table.means(["pruned"], measure, " of the unpruned network")
    print(f"  seconds {interval(table.of('pruned', 'seconds'))}")
    table.means(["pruned"], "stem left", " of the channels of the stem")
    both = ("pruned", "unpruned")
    table.means(both, "mae", " months")
    beside_controls(table.all(both, "mae"), table.all(CONTROLS, "mae"), unit=" months")
    print(f"  relative loss {interval(differences(*table.all(both, 'loss').values(), relative=True))}")
    table.means(["oracle"], "correlation")
    table.spent()


if __name__ == "__main__":
    main()
