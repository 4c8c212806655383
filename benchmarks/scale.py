"""Network training on large cohorts: CPU time, memory, and effect of bfloat16 on predictions. One thread.

    python benchmarks/scale.py [--subjects 400] [--regions 400] [--steps 60] [--precision bf16] [--quick]
    python benchmarks/scale.py --part fits [--before FOLDER] [--precision bf16] [--quick]
    python benchmarks/scale.py --part accuracy [--quick]

`steps` trains the default network on random connectomes, full batches, and prints the CPU time of preparing the rows
and of the steps, the time of the fastest step times their number (an estimate for an idle machine), and the peak
memory of the process. A second line gives a lower bound: the floating-point operations of the products alone, at the
rate of a large square product. The bars for 60 steps of 400 subjects x 400 regions are 12 CPU seconds and 1 GB.

`fits` makes 10 fits of 225 subjects x 200 regions, 80 steps each in batches of 57, and with `--before` the same
steps by the code of revision 6065cb7 in FOLDER (`git archive 6065cb7 | tar -x -C FOLDER`), one fit of each in turn. The
bar is half of that code's time.

`accuracy` trains on simulated connectomes with an outcome, in float32, in bfloat16, and in float32 from other initial
weights. It prints the differences between the predictions of new subjects, in standard deviations of the outcome, and
the correlation of each with the true values.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.networks.loop import Pool, train
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.objectives.supervised import Supervised

DTYPES = {"float32": None, "bf16": torch.bfloat16}
BEFORE = """
import json, sys, time
import torch
from connectome_tl.nn.layers import Inputs, normalise_adjacency
from connectome_tl.nn.losses import multi_task_loss
from connectome_tl.nn.model import Sizes, build_model
from connectome_tl.settings.study import ModelSettings, Training
from connectome_tl.training.loop import train

n, n_regions, epochs, size = map(int, sys.argv[1:])
torch.set_num_threads(1)
for line in sys.stdin:
    torch.manual_seed(int(line))
    weights = torch.randn(n, 1, n_regions, n_regions)
    weights += weights.transpose(2, 3).clone()
    mask, goal = torch.ones(n, n_regions), torch.randn(n, 1)
    start = time.process_time()
    inputs = Inputs(weights, normalise_adjacency(weights, mask), torch.zeros(n, n_regions, 0), mask,
                    torch.zeros(n, 0), weights)
    model = build_model(ModelSettings(), Sizes(n_regions, 1, 0, 0, ("score",)))
    loss = lambda index: multi_task_loss(
        model(inputs if index is None else inputs.rows(index)), goal if index is None else goal[index], ["regression"]
    )
    train(model, loss, n, Training(epochs=epochs, batch_size=size))
    print(json.dumps(time.process_time() - start), flush=True)
"""


def rows_of(n: int, n_regions: int) -> ConnectomeRows:
    edges = torch.randn(n, 1, n_regions, n_regions)
    edges += edges.transpose(2, 3).clone()
    mean, scale = torch.rand(1, n_regions, n_regions), torch.ones(1, n_regions, n_regions)
    return ConnectomeRows(edges, torch.zeros(n, n_regions, 0), torch.ones(n, n_regions), mean, scale)


def batch_of(rows: ConnectomeRows, precision: str | None = None) -> Batch:
    batch = Batch({"connectome": rows}, {"connectome": torch.ones(len(rows.edges), dtype=torch.bool)})
    return batch if precision is None else batch.prepared(DTYPES[precision])


def fitted(batch: Batch, goal: torch.Tensor, settings: Training, seed: int = 0) -> tuple[OutcomeModel, np.ndarray]:
    """A trained network, and the CPU time at the start and after each step."""
    torch.manual_seed(seed)
    model = build_model(ModelSettings(), {"connectome": batch.connectome.sizes}, {"score": 1})
    objective = Supervised(Outcomes({"score": "regression"}, {"score": 1}), settings)
    times = [time.process_time()]
    train(
        model,
        objective,
        {TRAIN: Pool(batch, goal)},
        settings,
        np.random.default_rng(0),
        hook=lambda *_: times.append(time.process_time()),
    )
    return model, np.array(times)


def steps(n: int, n_regions: int, n_steps: int, precision: str) -> None:
    torch.manual_seed(0)
    start = time.process_time()
    batch = batch_of(rows_of(n, n_regions), precision)
    prepared = time.process_time() - start
    goal = torch.randn(n, 1)
    _, times = fitted(batch, goal, Training(steps=n_steps, batch_size=n))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    best = float(np.diff(times).min()) * n_steps
    print(f"{n} subjects x {n_regions} regions, {n_steps} full-batch steps, {precision}")
    print(
        f"CPU time: rows {prepared:.1f} s, steps {times[-1] - times[0]:.1f} s ({best:.1f} s at the fastest step's "
        f"pace); peak memory {peak:.2f} GB"
    )
    with FlopCounterMode(display=False) as counted:
        fitted(batch, goal, Training(steps=1, batch_size=n))
    flops, rate = counted.get_total_flops(), rate_of_products(batch.connectome.edges.dtype)
    print(
        f"products: {flops / 1e9:.1f} GFLOP a step, at least {flops * n_steps / rate:.1f} s for all steps at the "
        f"{rate / 1e9:.0f} GFLOP/s of a large square product"
    )


def rate_of_products(dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP per CPU second of the fastest of ten square products in the cache."""
    square, seconds = torch.randn(size, size).to(dtype), []
    for _ in range(10):
        start = time.process_time()
        square @ square
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds)


def fits(n_fits: int, n: int, n_regions: int, before: Path | None, precision: str) -> None:
    epochs, size = 20, -(-n // 4)
    n_steps = epochs * 4
    settings = Training(steps=n_steps, batch_size=size, weight_decay=1e-2)
    old: subprocess.Popen[str] | None = None
    if before is not None:
        old = subprocess.Popen(
            [sys.executable, "-c", BEFORE, *map(str, (n, n_regions, epochs, size))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=before,  # first entry of Python's module search path
        )
    ours, theirs = [], []
    for seed in range(n_fits):
        torch.manual_seed(seed)
        rows, goal = rows_of(n, n_regions), torch.randn(n, 1)
        start = time.process_time()
        fitted(batch_of(rows, precision), goal, settings, seed)
        ours.append(time.process_time() - start)
        if old is not None and old.stdin is not None and old.stdout is not None:
            old.stdin.write(f"{seed}\n")
            old.stdin.flush()
            theirs.append(json.loads(old.stdout.readline()))
    if old is not None and old.stdin is not None:
        old.stdin.close()
        old.wait()
    print(f"{n_fits} fits of {n} subjects x {n_regions} regions, {n_steps} steps, {precision}")
    print(f"CPU time: {sum(ours):.1f} s, median {np.median(ours):.2f} s a fit")
    if theirs:
        ratio = np.median(np.array(theirs) / np.array(ours))
        print(f"before: {sum(theirs):.1f} s, median {np.median(theirs):.2f} s a fit")
        print(f"ratio_before: {ratio:.2f}")


def accuracy(n: int, n_regions: int, n_steps: int, n_draws: int) -> None:
    """Half the subjects train, half are predicted; the outcome is linear in a tenth of the edges, with noise."""
    apart: dict[str, list[float]] = {"bf16": [], "other seed": []}
    level: dict[str, list[float]] = {"float32": [], "bf16": [], "other seed": []}
    for draw in range(n_draws):
        torch.manual_seed(draw)
        rows = rows_of(n, n_regions)
        weights = torch.randn(n_regions, n_regions) * (torch.rand(n_regions, n_regions) < 0.1).float()
        score = torch.einsum("nij,ij->n", rows.edges[:, 0], weights)
        # Neighbouring subjects share a pattern that is associated with the outcome, so that the outcome can be learnt.
        pattern = torch.randn(n_regions, n_regions)
        edges = rows.edges + ((score / score.std())[:, None, None] * (pattern + pattern.T) * 0.3)[:, None]
        whole = ConnectomeRows(edges, rows.regional, rows.node_mask, rows.mean, rows.scale)
        goal = (score / score.std() + torch.randn(n))[:, None] / 2**0.5
        half = n // 2
        settings = Training(steps=n_steps, batch_size=-(-half // max(1, round(half / 64))))
        test, found = batch_of(whole.between(half, n)), {}
        for name, precision, seed in (
            ("float32", "float32", draw),
            ("bf16", "bf16", draw),
            ("other seed", "float32", draw + 1000),
        ):
            model, _ = fitted(batch_of(whole.between(0, half), precision), goal[:half], settings, seed)
            with torch.no_grad():
                found[name] = model(test)[:, 0].numpy()
            level[name].append(float(np.corrcoef(found[name], goal[half:, 0].numpy())[0, 1]))
        for name, gaps in apart.items():
            gaps.append(float(np.sqrt(np.mean((found[name] - found["float32"]) ** 2))))
    print(f"{n // 2} + {n - n // 2} subjects x {n_regions} regions, {n_steps} steps, {n_draws} draws")
    for name, gaps in apart.items():
        print(f"{name}: root mean square distance to float32 {np.mean(gaps):.4f} SD (largest draw {max(gaps):.4f})")
    print("correlation with the truth: " + ", ".join(f"{name} {np.mean(r):.4f}" for name, r in level.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["steps", "fits", "accuracy"], default="steps")
    parser.add_argument("--subjects", type=int, default=400)
    parser.add_argument("--regions", type=int, default=400)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--precision", choices=list(DTYPES), default="float32")
    parser.add_argument("--before", type=Path, help="folder with the code of revision 6065cb7")
    parser.add_argument("--quick", action="store_true", help="a few steps of small connectomes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    if asked.part == "steps":
        size = (40, 60, 5) if asked.quick else (asked.subjects, asked.regions, asked.steps)
        steps(*size, asked.precision)
    elif asked.part == "fits":
        fits(*((2, 40, 60) if asked.quick else (10, 225, 200)), asked.before, asked.precision)
    else:
        accuracy(*((60, 40, 40, 2) if asked.quick else (240, 200, 160, 5)))
    print(f"CPU time of this process {time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()
