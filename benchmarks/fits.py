"""CPU time of many fits on one thread, compared with PyG mini-batches.

    python benchmarks/fits.py            # both parts
    python benchmarks/fits.py --part a   # equal fits: same weights, batches and optimiser steps
    python benchmarks/fits.py --part b   # a whole nested study compared with a program that repeats every fit

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
from torch import nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_mean_pool

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation.labels import core_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.features.steps import Rows, fit_steps
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes, multi_task_loss
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.encoders import GraphEncoder
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.settings.training import Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.fitted_models import to_batch
from connectome_tl.training.networks.loop import Pool, batches, train
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.schemes import StudyCohorts, schemes_of
from connectome_tl.workflows.demos.study import demo_settings

WIDTH, BATCH, EPOCHS = 32, 16, 20
RISK = Outcomes({"risk": "binary"}, {"risk": 1})
MODEL = ModelSettings(
    encoder=GraphEncoder(direct=False, n_layers=2, width=WIDTH, readout="mean", norm="none", dropout=0.0)
)


class PygModel(nn.Module):
    """The same network as a PyG user would write it: sparse edges, one Data per subject, mean pooling."""

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
        """The weights of our model, so that both have the same initial weights."""
        for i, conv in enumerate((self.first, self.second)):
            conv.lin_root.weight.data = state[f"branches.connectome.convs.{i}.own.weight"].clone()
            conv.lin_rel.bias.data = state[f"branches.connectome.convs.{i}.own.bias"].clone()
            conv.lin_rel.weight.data = state[f"branches.connectome.convs.{i}.messages.0.weight"].clone()
        self.project.weight.data = state["branches.connectome.project.weight"].clone()
        self.project.bias.data = state["branches.connectome.project.bias"].clone()
        self.fused.weight.data = state["fusion.maps.connectome.weight"].clone()
        self.head.weight.data = state["heads.risk.weight"].clone()
        self.head.bias.data = state["heads.risk.bias"].clone()


def as_default(batch: Batch) -> Batch:
    """The connectomes in torch's default precision."""
    rows = batch.connectome
    changed = {name: getattr(rows, name).to(torch.get_default_dtype()) for name in ROWS}
    return batch.with_connectome(replace(rows, **changed))


ROWS = ("edges", "regional", "node_mask", "mean", "scale")


def pyg_data(rows: Rows, target: np.ndarray) -> list[Data]:
    connectomes = as_default(to_batch(rows)).connectome
    messages = connectomes.adjacency
    found = []
    for i in range(len(rows.ids)):
        adjacency = messages[i, 0]
        index = adjacency.nonzero().T
        found.append(
            Data(
                x=connectomes.edges[i, 0],
                edge_index=index.flip(0),
                edge_weight=adjacency[index[0], index[1]],
                y=torch.tensor([[target[i]]], dtype=torch.get_default_dtype()),
                num_nodes=adjacency.shape[0],
            )
        )
    return found


def pyg_fit(model: PygModel, data: list[Data], test: list[Data], settings: Training, seed: int) -> np.ndarray:
    """A plain PyG training loop on the batches of our loop. Returns probabilities of the test rows."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    n_rows = len(data)
    drawn = batches(n_rows, settings.batch_for(n_rows), np.random.default_rng(seed))
    every = list(range(n_rows))
    order = [every if index is None else index.tolist() for _, index in zip(range(settings.steps_for(n_rows)), drawn)]
    for graphs in DataLoader(data, batch_sampler=order):
        optimiser.zero_grad()
        multi_task_loss(model(graphs), graphs.y, RISK).backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or float("inf"))
        optimiser.step()
    with torch.no_grad():
        (graphs,) = DataLoader(test, batch_size=len(test))
        return torch.sigmoid(model(graphs)).squeeze(1).numpy()


def our_fit(
    model: OutcomeModel, rows: Rows, target: np.ndarray, test: Rows, settings: Training, seed: int
) -> np.ndarray:
    goal = torch.tensor(target, dtype=torch.get_default_dtype())[:, None]
    pool = Pool(as_default(to_batch(rows)).prepared(), goal)
    train(model, Supervised(RISK), {"train": pool}, settings, np.random.default_rng(seed))
    with torch.no_grad():
        return torch.sigmoid(model(as_default(to_batch(test)))).squeeze(1).numpy()


def both(
    number: int, cohort: Cohort, fold: Fold, labels: np.ndarray, settings: Training, dtype: torch.dtype
) -> tuple[float, float, float]:
    """One fit by each: our CPU seconds, PyG's, and the largest difference of their predictions."""
    features = fit_steps(cohort, fold.train, FeatureSettings(), ("connectome",))
    rows, test = features.rows(cohort, fold.train), features.rows(cohort, fold.test)
    target = labels[cohort.positions(fold.train)]
    torch.set_default_dtype(dtype)
    torch.manual_seed(number)
    model = build_model(MODEL, {"connectome": to_batch(rows).connectome.sizes}, {"risk": 1})
    rival = PygModel(cohort.n_regions, WIDTH)
    rival.take(model.state_dict())
    start = time.process_time()
    one = our_fit(model, rows, target, test, settings, number)
    ours = time.process_time() - start
    start = time.process_time()
    other = pyg_fit(rival, pyg_data(rows, target), pyg_data(test, np.zeros(len(test.ids))), settings, number)
    theirs = time.process_time() - start
    torch.set_default_dtype(torch.float32)
    return ours, theirs, float(np.abs(one - other).max())


def part_a(sizes: dict[int, int]) -> None:
    print(f"two-layer GCN of width {WIDTH}, 90 regions, batches of {BATCH}, {EPOCHS} epochs")
    for n, n_fits in sizes.items():
        cohort = simulate_study(n_source=20, n_pool=20, n_target=n).target
        # A plain PyG program has no missing regions; here none is missing, so that both can agree.
        cohort = replace(cohort, node_mask=np.ones_like(cohort.node_mask))
        y = cohort.targets["cognitive"]
        labels = y.fillna(0).to_numpy()
        plan = make_split_plan(cohort, SplitSettings(repeats=5, outer=10, seed=0))
        folds = [fold for _, _, fold in plan.folds()][:n_fits]
        steps = EPOCHS * -(-len(folds[0].train) // BATCH)
        settings = Training(steps=steps, batch_size=BATCH, learning_rate=1e-3, weight_decay=1e-2)
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
    source = simulated.source.with_regions(target.regions)
    cohorts = StudyCohorts({"target": target, "source": source, "pool": simulated.pool})
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
    core_statistics(settings, cohorts, splits, tasks, moves)
    ours = time.process_time() - start
    print(
        f"{n_permutations} permutations of the closed-form core, one repeat, five folds: "
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
    """CPU seconds of a program that fits every stage of every model anew with PyG, from timed steps of each stage.

    Where ours permutes its closed-form core, the naive program fits one network of the last stage per permutation.
    """
    stages = settings.stages
    cost = {}
    for name, cohort, training in (
        ("pretrain", cohorts.source, stages.pretrain.training),
        ("adapt", cohorts.pool, stages.adapt.training),
        ("finetune", cohorts.target, stages.finetune.training),
    ):
        rows = fit_steps(cohort, cohort.ids, FeatureSettings(), ("connectome",)).rows(cohort, cohort.ids)
        data = pyg_data(rows, np.zeros(len(rows.ids)))
        model = PygModel(cohort.n_regions, WIDTH)
        steps, times = training.steps_for(len(data)), []
        for _ in range(3):
            start = time.process_time()
            pyg_fit(model, data, data[:2], training.model_copy(update={"steps": 8}), 0)
            times.append((time.process_time() - start) / 8)
        cost[name] = median(times) * steps
        print(f"naive {name}: {cost[name]:.2f} CPU s per fit ({steps} steps, n = {len(data)})")
    networks = settings.stages.finetune.ensemble.networks
    total = 0.0
    for scheme in schemes_of(settings, cohorts):
        if scheme.engine == "network" or scheme.engine == "mixture":
            chain = networks * cost["finetune"] + scheme.pretrain * cost["pretrain"] + scheme.adapt * cost["adapt"]
            total += chain * n_folds * (n_tasks if scheme.single_task else 1)
    return total + cost["finetune"] * 5 * n_permutations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["a", "b"])
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="five fits of part a")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part != "b":
        part_a({33: 5} if arguments.quick else {33: 50, 100: 10, 300: 4})
    if arguments.part != "a" and not arguments.quick:
        part_b(arguments.permutations)
