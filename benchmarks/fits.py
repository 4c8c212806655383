"""What many fits cost: this engine beside PyG mini-batches, one thread, CPU time.

    python benchmarks/fits.py            # both parts
    python benchmarks/fits.py --part a   # equal fits: same weights, batches and optimiser steps
    python benchmarks/fits.py --part b   # one whole nested study beside a program that fits everything anew

Part a prints `ratio_pyg_nN: R` (median over fits of PyG's CPU time over ours) and the largest
difference between the two sets of predictions: as timed (float32, where Adam amplifies round-off
from step to step) and for the first fits again in float64. Part b prints `ratio_study: R`: our CPU time is
measured over the whole study, the naive program's is extrapolated from a sample of its fits.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from connectome_tl.features.batches import Rows, fit_features
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_mean_pool

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.nn.layers import Inputs
from connectome_tl.nn.losses import multi_task_loss
from connectome_tl.nn.model import Sizes, build_model
from connectome_tl.settings.study import GraphEncoder, ModelSettings, SplitSettings, Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.fit import to_inputs
from connectome_tl.training.loop import train
from connectome_tl.training.stages import StudyCohorts, schemes_of
from connectome_tl.workflows.demo import demo_settings

WIDTH, BATCH, EPOCHS = 32, 16, 20
MODEL = ModelSettings(
    encoder=GraphEncoder(direct=False, n_layers=2, width=WIDTH, readout="mean", norm="none", dropout=0.0)
)


class PygModel(nn.Module):
    """The same network as a PyG user writes it: sparse edges, one Data per subject, mean pooling."""

    def __init__(self, n_regions: int, width: int) -> None:
        super().__init__()
        self.first, self.second = GraphConv(n_regions, width), GraphConv(width, width)
        self.project = nn.Linear(2 * width, 32)
        self.fused = nn.Linear(32, 32, bias=False)
        self.head = nn.Linear(32, 1)

    def forward(self, batch: Data) -> torch.Tensor:
        h = torch.relu(self.first(batch.x, batch.edge_index, batch.edge_weight))
        read = [global_mean_pool(h, batch.batch)]
        h = torch.relu(self.second(h, batch.edge_index, batch.edge_weight))
        read.append(global_mean_pool(h, batch.batch))
        return self.head(torch.relu(self.fused(self.project(torch.cat(read, dim=1)))))

    def take(self, state: dict[str, torch.Tensor]) -> None:
        """The weights of our model, so that both start alike."""
        for i, conv in enumerate((self.first, self.second)):
            conv.lin_root.weight.data = state[f"encoder.convs.{i}.own.weight"].clone()
            conv.lin_rel.bias.data = state[f"encoder.convs.{i}.own.bias"].clone()
            conv.lin_rel.weight.data = state[f"encoder.convs.{i}.messages.0.weight"].clone()
        self.project.weight.data = state["encoder.project.weight"].clone()
        self.project.bias.data = state["encoder.project.bias"].clone()
        self.fused.weight.data = state["fusion.connectome.weight"].clone()
        self.head.weight.data = state["heads.risk.weight"].clone()
        self.head.bias.data = state["heads.risk.bias"].clone()


def as_default(inputs: Inputs) -> Inputs:
    return Inputs(*(tensor.to(torch.get_default_dtype()) for tensor in inputs))


def pyg_data(rows: Rows, target: np.ndarray) -> list[Data]:
    inputs = as_default(to_inputs(rows))
    found = []
    for i in range(len(rows.ids)):
        adjacency = inputs.adjacency[i, 0]
        index = adjacency.nonzero().T
        found.append(
            Data(
                x=inputs.edges[i, 0],
                edge_index=index.flip(0),
                edge_weight=adjacency[index[0], index[1]],
                y=torch.tensor([[target[i]]], dtype=torch.get_default_dtype()),
                num_nodes=adjacency.shape[0],
            )
        )
    return found


def pyg_fit(
    model: PygModel, data: list[Data], test: list[Data], epochs: int, batch: int, settings: Training
) -> np.ndarray:
    """A plain PyG training loop; batch order drawn as ours is. Returns probabilities of the test rows."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    for _ in range(epochs):
        order = torch.randperm(len(data)).split(batch) if batch < len(data) else [torch.arange(len(data))]
        # The loader draws from its own generator, so that both sides see the same order of batches.
        own = torch.Generator()
        for graphs in DataLoader(data, batch_sampler=[index.tolist() for index in order], generator=own):
            optimiser.zero_grad()
            multi_task_loss(model(graphs), graphs.y, ["binary"]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or float("inf"))
            optimiser.step()
    with torch.no_grad():
        (graphs,) = DataLoader(test, batch_size=len(test))
        return torch.sigmoid(model(graphs)).squeeze(1).numpy()


def our_fit(model: nn.Module, rows: Rows, target: np.ndarray, test: Rows, settings: Training) -> np.ndarray:
    inputs, goal = as_default(to_inputs(rows)), torch.tensor(target, dtype=torch.get_default_dtype())[:, None]

    def loss_of(index: torch.Tensor | None) -> torch.Tensor:
        if index is None:
            return multi_task_loss(model(inputs), goal, ["binary"])
        return multi_task_loss(model(inputs.rows(index)), goal[index], ["binary"])

    train(model, loss_of, len(rows.ids), settings)
    with torch.no_grad():
        return torch.sigmoid(model(as_default(to_inputs(test)))).squeeze(1).numpy()


def both(
    number: int, cohort: Cohort, fold: Fold, labels: np.ndarray, settings: Training, dtype: torch.dtype
) -> tuple[float, float, float]:
    """One fit by each: our CPU seconds, PyG's, and the largest difference of their predictions."""
    features = fit_features(cohort, fold.train, clinical=False)
    rows, test = features.rows(cohort, fold.train), features.rows(cohort, fold.test)
    target = labels[cohort.positions(fold.train)]
    torch.set_default_dtype(dtype)
    torch.manual_seed(number)
    model = build_model(MODEL, Sizes(cohort.n_regions, 1, 0, 0, ("risk",)))
    rival = PygModel(cohort.n_regions, WIDTH)
    rival.take(model.state_dict())
    torch.manual_seed(number)
    start = time.process_time()
    one = our_fit(model, rows, target, test, settings)
    ours = time.process_time() - start
    torch.manual_seed(number)
    start = time.process_time()
    other = pyg_fit(rival, pyg_data(rows, target), pyg_data(test, np.zeros(len(test.ids))), EPOCHS, BATCH, settings)
    theirs = time.process_time() - start
    torch.set_default_dtype(torch.float32)
    return ours, theirs, float(np.abs(one - other).max())


def part_a(sizes: dict[int, int]) -> None:
    settings = Training(epochs=EPOCHS, batch_size=BATCH, learning_rate=1e-3, weight_decay=1e-2)
    print(f"two-layer GCN of width {WIDTH}, 90 regions, batches of {BATCH}, {EPOCHS} epochs")
    for n, n_fits in sizes.items():
        cohort = simulate_study(n_source=20, n_pool=20, n_target=n).target
        # A plain PyG program knows no missing region; here nobody lacks one, so that both can agree.
        cohort = replace(cohort, node_mask=np.ones_like(cohort.node_mask))
        y = cohort.targets["cognitive"]
        labels = y.fillna(0).to_numpy()
        plan = make_split_plan(cohort, SplitSettings(repeats=5, outer=10, seed=0))
        folds = [fold for _, _, fold in plan.folds()][:n_fits]
        timed = [both(i, cohort, fold, labels, settings, torch.float32) for i, fold in enumerate(folds)]
        exact = [both(i, cohort, fold, labels, settings, torch.float64)[2] for i, fold in enumerate(folds[:3])]
        ours, theirs, gaps = (np.array(column) for column in zip(*timed, strict=True))
        print(
            f"n = {n}: {len(folds)} fits, median CPU s per fit: PyG {median(theirs):.3f}, ours {median(ours):.3f}; "
            f"largest difference of predictions {max(exact):.1e} in float64 ({len(exact)} fits), {gaps.max():.1e} in "
            "float32"
        )
        print(f"ratio_pyg_n{n}: {median(theirs / ours):.1f}")


def part_b(n_permutations: int) -> None:
    simulated = simulate_study()
    target = simulated.target
    cohorts = StudyCohorts(target, simulated.source.with_regions(target.regions), simulated.pool)
    settings = demo_settings().model_copy(
        update={"n_jobs": 1, "splits": SplitSettings(repeats=5, outer=5, stratum="cognitive")}
    )
    tasks = tasks_of(settings, cohorts)
    splits = make_split_plan(target, settings.splits)
    start = time.process_time()
    validation = cross_validate(settings, cohorts, splits)
    families = {i: str(f) for i, f in zip(target.ids, target.family, strict=True)}
    moves = exchangeable_permutations(target.ids, n_permutations, 0, families)
    folded = time.process_time()
    network_statistics(settings, cohorts, splits, tasks, moves)
    ours = time.process_time() - start
    print(
        f"{n_permutations} permutations of the fine-tuned network, one repeat, five folds: "
        f"{time.process_time() - folded:.0f} CPU s on one thread"
    )
    naive = _naive_cost(settings, cohorts, len(tasks), splits.n_repeats * 5, n_permutations)
    print(
        f"study of {splits.n_repeats} x 5 folds, three stages, all controls, {n_permutations} permutations: "
        f"ours {ours:.0f} CPU s ({len(validation.results)} distinct fits of stages + {5 * n_permutations} permuted), "
        f"naive {naive:.0f} CPU s (extrapolated)"
    )
    print(f"ratio_study: {naive / ours:.1f}")


def _naive_cost(settings, cohorts: StudyCohorts, n_tasks: int, n_folds: int, n_permutations: int) -> float:
    """CPU seconds of a program that fits every stage of every model anew with PyG, from two timed epochs of each."""
    stages = settings.stages
    width = settings.model.encoder.width
    cost = {}
    for name, cohort, training in (
        ("pretrain", cohorts.source, stages.pretrain.training),
        ("adapt", cohorts.pool, stages.adapt.training),
        ("finetune", cohorts.target, stages.finetune.training),
    ):
        rows = fit_features(cohort, cohort.ids, clinical=False).rows(cohort, cohort.ids)
        data = pyg_data(rows, np.zeros(len(rows.ids)))
        batch = training.batch_size or len(data)
        model = PygModel(cohort.n_regions, width)
        times = []
        for _ in range(3):
            start = time.process_time()
            pyg_fit(model, data, data[:2], 2, batch, training)
            times.append((time.process_time() - start) / 2)
        cost[name] = median(times) * training.epochs
        print(f"naive {name}: {cost[name]:.2f} CPU s per fit ({training.epochs} epochs, n = {len(data)})")
    total = 0.0
    for scheme in schemes_of(settings):
        chain = cost["finetune"] + scheme.pretrain * cost["pretrain"] + scheme.adapt * cost["adapt"]
        total += chain * n_folds * (n_tasks if scheme.single_task else 1)
    return total + sum(cost.values()) * 5 * n_permutations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["a", "b"])
    parser.add_argument("--permutations", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part != "b":
        part_a({33: 50, 100: 10, 300: 4})
    if arguments.part != "a":
        part_b(arguments.permutations)
