"""Common parts of the benchmarks on volumes: simulated rows, a small age network, a table for resuming."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.images import METHODS
from connectome_tl.features.volumes import GridReader, numbers_of
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.volumes.grids import onto_grid
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.simulation.volumes import SimulatedVolumes
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded
from connectome_tl.training.networks.augmentation import Augment
from connectome_tl.training.networks.volumes import device_of

COLUMNS = ("cohort", "arm", "measure", "value")
CONTROLS = tuple(METHODS)
Series = Mapping[int, float]  # a value per cohort


def arguments(doc: str | None, name: str, cohorts: int) -> argparse.Namespace:
    """--cohorts, --first, --out, --device and --quick."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=cohorts)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    parser.add_argument("--out", type=Path, default=Path(f"{name}.tsv"))
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="of networks on volumes")
    parser.add_argument("--quick", action="store_true", help="two small cohorts, a few steps, nothing kept")
    found = parser.parse_args()
    if found.quick:
        found.cohorts, found.out = 2, None
    return found


@dataclass
class Table:
    """Values by cohort, arm and measure, appended to a file as they come."""

    path: Path | None
    values: dict[tuple[int, str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.is_file():
            with self.path.open() as stream:
                for row in csv.DictReader(stream, fieldnames=COLUMNS, delimiter="\t"):
                    self.values[int(row["cohort"]), row["arm"], row["measure"]] = float(row["value"])

    def fill(self, cohort: int, arm: str, make: Callable[[], dict[str, float]]) -> None:
        """Make the values of an arm unless they are there; `cpu` is added to them."""
        if (cohort, arm, "cpu") in self.values:
            return
        started = time.process_time()
        found = make()
        found["cpu"] = time.process_time() - started
        for measure, value in found.items():
            self.values[cohort, arm, measure] = value
        if self.path is not None:
            with self.path.open("a") as stream:
                rows = [(cohort, arm, measure, value) for measure, value in found.items()]
                csv.writer(stream, delimiter="\t").writerows(rows)
        print(f"\rcohort {cohort} {arm}      ", end="", file=sys.stderr)

    def of(self, arm: str, measure: str) -> np.ndarray:
        """Values of an arm in the order of the cohorts."""
        return np.array([v for (_, a, m), v in sorted(self.values.items()) if (a, m) == (arm, measure)])

    def series(self, arm: str, measure: str) -> Series:
        """Values of an arm by cohort."""
        return {c: v for (c, a, m), v in self.values.items() if (a, m) == (arm, measure)}

    def all(self, arms: Sequence[str], measure: str, prefix: str = "") -> dict[str, Series]:
        """Values of several arms; in the table their names begin with the prefix."""
        return {arm: self.series(f"{prefix}{arm}", measure) for arm in arms}

    def measures(self, arm: str, names: Sequence[str]) -> dict[str, Series]:
        """Values of several measures of an arm."""
        return {name: self.series(arm, name) for name in names}

    def paired(self, one: str, other: str, measure: str, control: str | None = None) -> np.ndarray:
        """Differences of a measure between two arms, over the cohorts that have both; `control` may be another measure
        of the second arm."""
        return differences(self.series(one, measure), self.series(other, control or measure))

    def means(self, arms: Sequence[str], measure: str, unit: str = "") -> None:
        """Print the mean of each arm."""
        for arm in arms:
            found = self.of(arm, measure)
            if len(found):
                print(f"  {arm:24s} {measure} {found.mean():.3f}{unit} ({len(found)} cohorts)")

    def against(self, control: str, arms: Sequence[str], measure: str) -> None:
        """Print the paired difference of arms to a control with its 95 % t interval over cohorts."""
        for arm in arms:
            found = self.paired(arm, control, measure)
            if len(found):
                print(f"  {arm:24s} - {control}: {measure} {interval(found)} ({len(found)} cohorts)")

    def within(self, arm: str, measure: str, control: str) -> None:
        """Print the paired difference of two measures of an arm with its 95 % t interval over cohorts."""
        found = self.paired(arm, arm, measure, control)
        if len(found):
            print(f"  {arm:24s} {measure} - {control} {interval(found)} ({len(found)} cohorts)")

    def spent(self) -> None:
        """Print the CPU time of all arms."""
        total = sum(v for (_, _, measure), v in self.values.items() if measure == "cpu")
        print(f"CPU time {total / 60:.1f} min", file=sys.stdout)


def differences(one: Series, other: Series, *, relative: bool = False) -> np.ndarray:
    """Differences over the cohorts that both have, or these as a share of the second."""
    both = [(one[cohort], other[cohort]) for cohort in sorted(one.keys() & other.keys())]
    return np.array([a / b - 1 if relative else a - b for a, b in both])


def best_of(found: Mapping[str, Series], *, higher: bool) -> dict[int, tuple[float, str]]:
    """The best value of each cohort and whose it is, over the cohorts that all have."""
    pick, first, *others = max if higher else min, *found.values()
    shared = set(first).intersection(*others)
    return {cohort: pick((values[cohort], name) for name, values in found.items()) for cohort in sorted(shared)}


def beside_controls(
    models: Mapping[str, Series], controls: Mapping[str, Series], *, higher: bool = False, unit: str = ""
) -> None:
    """Print the controls, the best of them in each cohort, and the differences of models to that."""
    best = best_of(controls, higher=higher)
    if not best:
        return
    for name, values in controls.items():
        print(f"  {name:24s} {np.mean(list(values.values())):.3f}{unit} ({len(values)} cohorts)")
    names = [name for _, name in best.values()]
    whose = ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))
    print(f"  {'best of each cohort':24s} {np.mean([value for value, _ in best.values()]):.3f}{unit} ({whose})")
    for model, values in models.items():
        rival = {cohort: value for cohort, (value, _) in best.items()}
        if len(found := differences(values, rival)):
            share = "" if higher else f", relative {interval(differences(values, rival, relative=True))}"
            print(f"  {model:24s} - best control: {interval(found)}{share} ({len(found)} cohorts)")


def interval(values: np.ndarray) -> str:
    """Mean and its 95 % t interval."""
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def rows_of(sim: SimulatedVolumes, device: str = "cpu", *, without_region: bool = False) -> VolumeRows:
    """Volumes standardised over each head, 0 outside; tissue labels. Networks are trained on the device.

    Args:
        without_region: leave the planted region out of the mean and the standard deviation, through which age would
            show in the whole head.
    """
    volumes, heads = np.zeros_like(sim.volumes), sim.labels > 0
    for i, inside in enumerate(heads):
        values = sim.volumes[i][inside & ~sim.region[i] if without_region and sim.region is not None else inside]
        volumes[i][inside] = (sim.volumes[i][inside] - values.mean()) / values.std()
    return VolumeRows(
        sim.ids,
        torch.from_numpy(volumes[:, None]),
        sim.age,
        labels=torch.from_numpy(sim.labels.astype(np.int64)),
        device=torch.device(device_of(device)),
    )


@dataclass(frozen=True, eq=False)
class Controls:
    """The five baselines of an image study, on simulated volumes: no network is trained.

    Attributes:
        levels: (n_subjects, x, y, z) grey levels, for head, tissues and quantiles. voxel: edge of a voxel in mm.
        seen: (n_subjects, 1, x, y, z) the volumes that the networks are given, for `random_encoder` and `pca_gpr`.
    """

    levels: np.ndarray
    voxel: float
    seen: Tensor

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """Features (n_subjects, n_columns) of each control."""
        x, y, z = self.levels.shape[1:]
        settings = ImageSettings(size=(x, y, z), voxel=self.voxel, shape="note")
        affine = np.diag([self.voxel] * 3 + [1.0])
        found = [onto_grid(Volume(one.astype(np.float32), affine), settings) for one in self.levels]
        grids = [replace(grid, values=one[0].numpy()) for grid, one in zip(found, self.seen, strict=True)]
        reader, there = GridReader(tuple(grids), settings.shape3), np.ones(len(grids), dtype=bool)
        return {name: features(reader, numbers_of(grids), there) for name, (features, _) in METHODS.items()}

    def predict(
        self, name: str, y: np.ndarray, train: np.ndarray, test: np.ndarray, families: np.ndarray | None = None
    ) -> np.ndarray:
        """Ages or risks of the test rows.

        Args:
            y: (n_train,) ages, or outcomes of 0 and 1. families: (n_train,) codes; by default there are no relatives.
        """
        rows, ids = self.tables[name], tuple(map(str, train))
        kin = np.arange(len(train)) if families is None else families
        binary = bool(np.isin(y, (0, 1)).all())
        return METHODS[name][1].predict(Design(rows[train], rows[test], ids, kin), np.asarray(y, float), binary)


def controls_of(sim: SimulatedVolumes, rows: VolumeRows) -> Controls:
    """Controls of all simulated subjects."""
    return Controls(sim.volumes, sim.settings.voxel, rows.volumes)


def encoder() -> VoxelResNet:
    """A ResNet-10 with an eighth of the published width; a stem of stride 1 costs six times as much at 32^3."""
    return VoxelResNet(10, width=0.125, stem_stride=2)


class AgePredictor(nn.Module):
    """An encoder and a linear head; ages are standardised by the training rows."""

    def __init__(self, body: nn.Module, centre: float, scale: float) -> None:
        super().__init__()
        assert isinstance(body.width, int)
        self.body, self.head = body, nn.Linear(body.width, 1)
        self.centre, self.scale = centre, scale

    def forward(self, volumes: Tensor) -> Tensor:
        return self.head(self.body(volumes))[:, 0]

    def ages(self, volumes: Tensor) -> np.ndarray:
        return self.centre + self.scale * in_batches(self, volumes, device=self.head.weight.device).double().numpy()

    def loss(self, rows: VolumeRows, index: np.ndarray, change: Augment | None = None) -> Tensor:
        volumes = rows.batch(index)
        if change is not None:
            volumes = change(volumes)
        target = torch.tensor((rows.ages[index] - self.centre) / self.scale, dtype=torch.float32, device=rows.device)
        return (self(volumes) - target).square().mean()


def train_age(
    rows: VolumeRows, descent: Descent, seed: int, body: nn.Module | None = None, change: Augment | None = None
) -> AgePredictor:
    """Train an age network on these rows, from this body or from random weights, volumes changed at random or not."""
    with seeded(seed) as rng:
        net = AgePredictor(encoder() if body is None else body, float(rows.ages.mean()), float(rows.ages.std()))
        net.to(rows.device)
        descend(net.parameters(), lambda index: net.loss(rows, index, change), len(rows), descent, rng)
    return net.eval()


def mae(predicted: np.ndarray, ages: np.ndarray) -> float:
    return float(np.abs(predicted - ages).mean())
