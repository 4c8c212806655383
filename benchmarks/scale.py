"""CPU time and memory of network training on large cohorts: full batches, one thread.

    python benchmarks/scale.py [--subjects 400] [--regions 400] [--steps 60] [--quick]

Trains the default network on random connectomes and prints the CPU time of preparing the rows and of the steps, and
the peak memory of the process, the rows included. The bars for 60 steps of 400 subjects x 400 regions are 12 CPU
seconds and 1 GB. `--quick` takes 5 steps of 40 subjects x 60 regions.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import build_model
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.loop import Pool, train
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.objectives.supervised import Supervised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=400)
    parser.add_argument("--regions", type=int, default=400)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    n, n_regions, n_steps = (40, 60, 5) if arguments.quick else (arguments.subjects, arguments.regions, arguments.steps)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    edges = torch.randn(n, 1, n_regions, n_regions)
    edges += edges.transpose(2, 3).clone()
    mean, scale = torch.rand(1, n_regions, n_regions), torch.ones(1, n_regions, n_regions)
    rows = ConnectomeRows(edges, torch.zeros(n, n_regions, 0), torch.ones(n, n_regions), mean, scale)
    start = time.process_time()
    batch = Batch({"connectome": rows}, {"connectome": torch.ones(n, dtype=torch.bool)}).prepared()
    prepared = time.process_time() - start
    model = build_model(ModelSettings(), {"connectome": rows.sizes}, {"score": 1})
    settings = Training(steps=n_steps, batch_size=n)
    objective = Supervised(Outcomes({"score": "regression"}, {"score": 1}), settings)
    start = time.process_time()
    train(model, objective, {TRAIN: Pool(batch, torch.randn(n, 1))}, settings, np.random.default_rng(0))
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{n} subjects x {n_regions} regions, {n_steps} full-batch steps")
    print(f"CPU time: rows {prepared:.1f} s, steps {spent:.1f} s; peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
