"""Brain age from raw volumes beside registered ones, and on two unseen scanners before and after fine-tuning.

    python benchmarks/voxel_raw.py [--cohorts 8] [--first 0] [--out voxel_raw.tsv] [--device cpu] [--quick]

Simulated T1w volumes at 32^3, 0 to 24 months, five scanners. `raw`: heads with skull in any pose, standardised over all
voxels. `registered`: other subjects of the same simulator, without skull and pose, standardised over the brain. The
same network (ResNet-10, an eighth of the published width), augmentation and number of steps for both: 160 subjects of
three scanners are learned from. Printed: mean absolute error on other subjects of these scanners (`known`), on 120
subjects of the two other scanners (`unseen`), and on these after fine-tuning on 40 of their subjects (`tuned`);
`scratch` is trained on these 40 alone, with as many steps as both stages together. The five controls are fitted on the
same 160 (`known`, `unseen`), on these and the 40 (`tuned`), or on the 40 alone (`scratch`). Differences are paired over
cohorts, with 95 % t intervals. Budgets were set before a result was seen.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from voxel_tables import (
    CONTROLS,
    AgePredictor,
    Controls,
    Table,
    arguments,
    beside_controls,
    controls_of,
    encoder,
    mae,
    rows_of,
    train_age,
)

from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.rows import VolumeRows, seeded
from connectome_tl.training.networks.augmentation import augmentation

CHANGES = Augmentation(flip=0.5, affine=0.5, rotate=15, shift=2, noise=0.3, gamma=0.3)
KNOWN = ("site1", "site2", "site3")
INPUTS = {"raw": VolumeSettings(size=32, n_sites=5, pose=1.0, skull=True), "registered": VolumeSettings(n_sites=5)}
TRAINED, TUNED, TESTED = 160, 40, 120


def rows_at(name: str, n: int, size: int, seed: int, device: str) -> tuple[VolumeRows, np.ndarray, Controls]:
    """Volumes of all subjects on all scanners, whether each scanner is one of those that are learned from, controls."""
    sim = simulate_volumes(n, replace(INPUTS[name], size=size), seed=seed)
    rows = rows_of(sim, device)
    if name == "raw":
        centred = sim.volumes - sim.volumes.mean(axis=(1, 2, 3), keepdims=True)
        scaled = centred / sim.volumes.std(axis=(1, 2, 3), keepdims=True)
        rows = replace(rows, volumes=torch.from_numpy(scaled[:, None].astype(np.float32)))
    return rows, np.isin(sim.site, KNOWN), controls_of(sim, rows)


def run(table: Table, seed: int, quick: bool, device: str) -> None:
    n, size = (60, 16) if quick else (520, 32)
    trained, tuned, tested = (16, 6, 8) if quick else (TRAINED, TUNED, TESTED)
    steps, more = (4, 2) if quick else (300, 100)
    learn = Descent(steps=steps, learning_rate=2e-3, cosine=True)
    adjust = Descent(steps=more, learning_rate=5e-4, cosine=True)

    made = cache(lambda name: rows_at(name, n, size, seed, device))

    def errors_of_control(name: str, control: str) -> dict[str, float]:
        rows, known, controls = made(name)
        here, there = np.flatnonzero(known), np.flatnonzero(~known)
        train, few = here[:trained], there[:tuned]

        def error(learnt: np.ndarray, on: np.ndarray) -> float:
            return mae(controls.predict(control, rows.ages[learnt], learnt, on), rows.ages[on])

        unseen = there[tuned : tuned + tested]
        return {
            "known": error(train, here[trained : trained + tested]),
            "unseen": error(train, unseen),
            "tuned": error(np.concatenate([train, few]), unseen),
            "scratch": error(few, unseen),
        }

    def errors(name: str) -> dict[str, float]:
        rows, known, _ = made(name)
        here, there = rows.at(np.flatnonzero(known)), rows.at(np.flatnonzero(~known))
        train, test = here.at(range(trained)), here.at(range(trained, min(trained + tested, len(here))))
        few, unseen = there.at(range(tuned)), there.at(range(tuned, min(tuned + tested, len(there))))
        net = train_age(train, learn, seed, encoder(), augmentation(CHANGES, seed))
        other = copy.deepcopy(net).train()
        change = augmentation(CHANGES, seed + 1)
        with seeded(seed) as rng:
            descend(other.parameters(), lambda at: other.loss(few, at, change), len(few), adjust, rng)
        both = learn.model_copy(update={"steps": steps + more})
        scratch = train_age(few, both, seed, encoder(), augmentation(CHANGES, seed))

        def error(network: AgePredictor, on: VolumeRows) -> float:
            return mae(network.eval().ages(on.volumes), on.ages)

        return {
            "known": error(net, test),
            "unseen": error(net, unseen),
            "tuned": error(other, unseen),
            "scratch": error(scratch, unseen),
            "mean": float(np.abs(unseen.ages - train.ages.mean()).mean()),
        }

    for name in INPUTS:
        table.fill(seed, name, lambda name=name: errors(name))
        for control in CONTROLS:
            table.fill(seed, f"{name} {control}", lambda name=name, control=control: errors_of_control(name, control))


def main() -> None:
    given = arguments(__doc__, "voxel_raw", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        run(table, seed, given.quick, given.device)
    print()
    for measure in ("known", "unseen", "tuned", "scratch", "mean"):
        table.means(list(INPUTS), measure, " months")
    for measure in ("known", "unseen", "tuned"):
        table.against("registered", ["raw"], measure)
    for name in INPUTS:
        table.within(name, "tuned", "unseen")
        table.within(name, "tuned", "scratch")
        for measure in ("known", "unseen", "tuned", "scratch"):
            print(f"  {name}, {measure}, five controls")
            beside_controls(table.all([name], measure), table.all(CONTROLS, measure, f"{name} "), unit=" months")
    table.spent()


if __name__ == "__main__":
    main()
