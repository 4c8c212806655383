"""Synthetic volumes in training: none, voxelwise mixup, a GAN without and with guidance by age.

    python benchmarks/voxel_synthesis.py [--cohorts 8] [--first 0] [--out voxel_synthesis.tsv] [--device cpu] [--quick]

Simulated volumes at 32^3, 0 to 24 months, three scanners, 80 training and 200 test subjects; as many synthetic volumes
as training subjects, made from those alone. The age network makes the same number of steps in all arms. Prints the mean
absolute error, paired differences to `real` and of `guided` to `mixup` and `gan`, with 95 % t intervals over cohorts;
how near synthetic volumes lie to training volumes, by the distance of training volumes from each other (near 0: it
copies); and the AUC of the difference of two syntheses of one subject, at 0 and 24 months, against the region where age
was planted (deep grey matter), of the guided and the unguided generator. The five controls learn from the same 80
subjects; they have no maps.
"""

from __future__ import annotations

import numpy as np
from voxel_tables import CONTROLS, Table, arguments, beside_controls, controls_of, mae, rows_of, train_age

from connectome_tl.evaluation.images.map_checks import planted_auc
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import TaskGuidedGan
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.images.synthesis import fit_synthesiser, joined, nearness, synthesise

ARMS = ("mixup", "gan", "guided")
MAPPED = 10


def settings_of(arm: str, quick: bool) -> TaskGuidedGan:
    return TaskGuidedGan(
        source="mixup" if arm == "mixup" else "gan",
        age=0.0 if arm == "gan" else 0.1,
        bin_width=8.0 if quick else 2.0,
        depth=2 if quick else 3,
        descent=Descent(steps=10 if quick else 300, learning_rate=2e-3, weight_decay=0.0),
    )


def run(table: Table, seed: int, quick: bool, device: str) -> None:
    size, n_train, n_test = (16, 24, 24) if quick else (32, 80, 200)
    sim = simulate_volumes(n_train + n_test, VolumeSettings(size=size), seed=seed)
    rows = rows_of(sim, device)
    train, test = rows.at(range(n_train)), rows.at(range(n_train, n_train + n_test))
    descent = Descent(steps=12 if quick else 300, learning_rate=2e-3, cosine=True)

    def arm_of(arm: str) -> dict[str, float]:
        settings = settings_of(arm, quick)
        model = fit_synthesiser(train, train.ids, settings, seed) if settings.source == "gan" else None
        made = synthesise(train, train.ids, settings, seed, model).rows
        net = train_age(joined(train, made), descent, seed)
        return {"mae": mae(net.ages(test.volumes), test.ages), "near": nearness(made.volumes, train.volumes).ratio}

    table.fill(seed, "real", lambda: {"mae": mae(train_age(train, descent, seed).ages(test.volumes), test.ages)})
    for arm in ARMS:
        table.fill(seed, arm, lambda arm=arm: arm_of(arm))

    controls, tested = controls_of(sim, rows), np.arange(n_train, n_train + n_test)

    def control_of(name: str) -> dict[str, float]:
        return {"mae": mae(controls.predict(name, train.ages, np.arange(n_train), tested), test.ages)}

    for control in CONTROLS:
        table.fill(seed, control, lambda control=control: control_of(control))

    def region_of(arm: str) -> dict[str, float]:
        sim = simulate_volumes(n_train, VolumeSettings(size=size, place="deep", site_effect=0.3), seed=seed)
        assert sim.region is not None
        placed = rows_of(sim, device)
        model = fit_synthesiser(placed, placed.ids, settings_of(arm, quick), seed)
        maps = np.abs(model.age_map(placed.volumes[:MAPPED], placed.ages[:MAPPED], 0.0, 24.0))
        inside = sim.labels[:MAPPED] > 0
        return {"auc": float(np.mean([planted_auc(*one) for one in zip(maps, sim.region, inside, strict=False)]))}

    for arm in ARMS[1:]:
        table.fill(seed, f"region {arm}", lambda arm=arm: region_of(arm))


def main() -> None:
    given = arguments(__doc__, "voxel_synthesis", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        run(table, seed, given.quick, given.device)
    print()
    table.means(["real", *ARMS], "mae", " months")
    table.against("real", ARMS, "mae")
    table.against("mixup", ["guided"], "mae")
    table.against("gan", ["guided"], "mae")
    beside_controls(table.all(["real", *ARMS], "mae"), table.all(CONTROLS, "mae"), unit=" months")
    table.means(ARMS, "near")
    table.means(["region gan", "region guided"], "auc")
    table.spent()


if __name__ == "__main__":
    main()
