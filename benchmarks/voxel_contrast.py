"""Contrast between voxels of several volumes, and volumes of random contrast.

    python benchmarks/voxel_contrast.py [--cohorts 8] [--first 0] [--out voxel_contrast.tsv] [--device cpu] [--quick]

Simulated volumes at 32^3, 0 to 24 months, three scanners, 200 test subjects. Three questions: segmentation of tissues
from 12 training volumes: `segment none`, `within` (contrast inside each volume only, the control), `across` volumes of
a batch, and `bank` (also with prototypes of earlier batches), mean Dice of all tissues; age from 40 labelled subjects
with an encoder adapted on 160 label maps: `age scratch`, `age within`, `age across`, `age bank`, mean absolute error;
another contrast: an age network trained on T1w and tested on T2w, `other T1w` alone, `other mixed` with as many volumes
of random contrast made from the training label maps, `other random` with those alone, and `other soft` on T1w volumes
whose contrast is changed at random in training without label maps (`image.augment.contrast: 0.8`), mean absolute error.
The five controls are fitted on the same labelled subjects (`age`: 40) or on all T1w volumes (`other`); segmentation has
none. Differences are paired over cohorts with 95 % t intervals.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from voxel_tables import (
    CONTROLS,
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

from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import RandomContrast
from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.simulation.volumes import SimulatedVolumes, VolumeSettings, simulate_volumes
from connectome_tl.training.images.contrast import adapt_by_contrast, dice, fit_segmenter
from connectome_tl.training.images.rows import VolumeRows, seeded
from connectome_tl.training.images.synthesis import joined, random_contrast_rows
from connectome_tl.training.networks.augmentation import augmentation

SCOPES = {
    "none": None,
    "within": VoxelContrast(scope="within", bank="none"),
    "across": VoxelContrast(bank="none"),
    "bank": VoxelContrast(),
}

OTHER = ("T1w", "mixed", "random", "soft")
SOFT = Augmentation(flip=0, affine=0, noise=0, gamma=0, contrast=0.8)


def stage_maps(net: nn.Module, volumes: Tensor) -> Tensor:
    assert isinstance(net, VoxelResNet)
    return net.maps(volumes)[0]


def run(table: Table, seed: int, quick: bool, device: str) -> None:
    size, n_pool, n_test = (16, 24, 12) if quick else (32, 160, 200)
    n_segment, n_age = (6, 12) if quick else (12, 40)
    steps = 8 if quick else 300
    settings = VolumeSettings(size=size)
    sim = simulate_volumes(n_pool + n_test, settings, seed=seed)
    rows = rows_of(sim, device)
    pool, test = rows.at(range(n_pool)), rows.at(range(n_pool, n_pool + n_test))
    n_classes = int(rows.need_labels().max()) + 1
    learn = Descent(steps=steps, learning_rate=2e-3, cosine=True)

    @cache
    def t2w() -> SimulatedVolumes:
        return simulate_volumes(n_pool + n_test, replace(settings, contrast="T2w"), seed=seed)

    @cache
    def controls() -> Controls:
        """Of the T1w volumes, and of the T2w ones of the same subjects."""
        one, two = controls_of(sim, rows), controls_of(t2w(), rows_of(t2w()))
        return replace(one, levels=np.concatenate([one.levels, two.levels]), seen=torch.cat([one.seen, two.seen]))

    def control_of(name: str, n: int) -> dict[str, float]:
        learnt, tested = np.arange(n), np.arange(n_pool, n_pool + n_test)
        same, other = (
            mae(controls().predict(name, rows.ages[:n], learnt, at), test.ages) for at in (tested, tested + len(rows))
        )
        return {"mae": other if n == n_pool else same, "same": same}

    def segment(scope: str) -> dict[str, float]:
        chosen = Segmentation(
            contrast=SCOPES[scope], descent=Descent(steps=steps, batch_size=4, learning_rate=5e-3, cosine=True)
        )
        fitted = fit_segmenter(pool, pool.ids[:n_segment], chosen, seed, n_classes)
        # Label 1 is the skull, which these volumes do not have.
        return {"dice": float(np.nanmean(dice(fitted.segment(test.volumes), test.need_labels(), n_classes)[:, 1:]))}

    def age(scope: str) -> dict[str, float]:
        with seeded(seed):
            body: nn.Module = encoder()
        contrast = SCOPES[scope]
        if contrast is not None:
            body = adapt_by_contrast(
                body, stage_maps, pool, pool.ids, contrast, Descent(steps=steps, batch_size=4), seed
            ).encoder
        net = train_age(pool.at(range(n_age)), learn, seed, body)
        return {"mae": mae(net.ages(test.volumes), test.ages)}

    def other(arm: str) -> dict[str, float]:
        train: VolumeRows = pool
        if arm in ("random", "mixed"):
            made = random_contrast_rows(pool, pool.ids, RandomContrast(), seed)
            train = made if arm == "random" else joined(pool, made)
        change = augmentation(SOFT, seed) if arm == "soft" else None
        net = train_age(train, learn, seed, change=change)
        turned = rows_of(t2w(), device).at(range(n_pool, n_pool + n_test))
        return {"mae": mae(net.ages(turned.volumes), turned.ages), "same": mae(net.ages(test.volumes), test.ages)}

    for scope in SCOPES:
        table.fill(seed, f"segment {scope}", lambda scope=scope: segment(scope))
        table.fill(seed, f"age {'scratch' if scope == 'none' else scope}", lambda scope=scope: age(scope))
    for arm in OTHER:
        table.fill(seed, f"other {arm}", lambda arm=arm: other(arm))
    for control in CONTROLS:
        table.fill(seed, f"age {control}", lambda control=control: control_of(control, n_age))
        table.fill(seed, f"other {control}", lambda control=control: control_of(control, n_pool))


def main() -> None:
    given = arguments(__doc__, "voxel_contrast", 8)
    torch.set_num_threads(1)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        run(table, seed, given.quick, given.device)
    print()
    table.means([f"segment {scope}" for scope in SCOPES], "dice")
    table.against("segment none", ["segment within", "segment across", "segment bank"], "dice")
    table.against("segment within", ["segment across"], "dice")
    table.against("segment across", ["segment bank"], "dice")
    table.means(["age scratch", "age within", "age across", "age bank"], "mae", " months")
    table.against("age scratch", ["age within", "age across", "age bank"], "mae")
    table.against("age within", ["age across"], "mae")
    table.against("age across", ["age bank"], "mae")
    print("  age, five controls")
    scopes = ("scratch", "within", "across", "bank")
    beside_controls(table.all(scopes, "mae", "age "), table.all(CONTROLS, "mae", "age "), unit=" months")
    others = [f"other {arm}" for arm in OTHER]
    table.means(others, "mae", " months on T2w")
    table.means(others, "same", " months on T1w")
    table.against("other T1w", others[1:], "mae")
    table.against("other T1w", others[1:], "same")
    for measure, contrast in (("mae", "T2w"), ("same", "T1w")):
        print(f"  on {contrast}, five controls")
        beside_controls(table.all(OTHER, measure, "other "), table.all(CONTROLS, measure, "other "), unit=" months")
    table.spent()


if __name__ == "__main__":
    main()
