"""Importance maps against planted regions: learned noise, occlusion, smoothed integrated gradients.

    python benchmarks/voxel_maps.py [--cohorts 3] [--first 0] [--out voxel_maps.tsv] [--device cpu] [--quick]
        [--places deep cortex ...] [--blur 1.5]

Simulated volumes at 32^3 where age shows in one region only: deep grey matter, cortex, ventricle rim, one hemisphere,
or a ball on a random side of each subject. Grey levels are standardised by the voxels of the head outside the region;
otherwise age would show in the whole head. 200 training subjects; the cohort's number seeds volumes, predictor and map.
Prints, for ten test subjects and each kind of map: the AUC against the region within the head, of the subject's map
and of the mean map; the AUC of the map of a randomised network; areas under the curves of deletion and insertion; CPU
seconds. `shuffled` is the learned-noise map of a predictor trained on shuffled ages; `stability` the agreement of
that map over three seeds.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import cache, partial

import numpy as np
from voxel_tables import (
    CONTROLS,
    AgePredictor,
    Table,
    arguments,
    beside_controls,
    controls_of,
    mae,
    rows_of,
    train_age,
)

from connectome_tl.evaluation.images.map_checks import (
    agreement,
    area,
    deletion_curve,
    insertion_curve,
    planted_auc,
    randomised,
)
from connectome_tl.evaluation.images.study_maps import N_REFERENCES
from connectome_tl.evaluation.images.voxel_maps import gradient_maps, occlusion_maps
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import ComparedMaps, NoiseMap
from connectome_tl.simulation.volumes import PLACES, Place, VolumeSettings, simulate_volumes
from connectome_tl.training.images.importance import fit_noise_map
from connectome_tl.training.images.rows import VolumeRows

N_SUBJECTS = 10
KINDS = ("noise", "occlusion", "gradients")


class Scene:
    """A cohort whose age shows in one place, its predictor, and the truth of the subjects that are mapped."""

    def __init__(self, place: Place, seed: int, quick: bool, device: str, blur: float) -> None:
        size, n = (16, 24) if quick else (32, 200)
        sim = simulate_volumes(n + 100, VolumeSettings(size=size, place=place, site_effect=0.3), seed=seed)
        rows = rows_of(sim, device, without_region=True)
        assert sim.region is not None
        self.train, self.test = rows.at(range(n)), rows.at(range(n, n + 100))
        self.regions = sim.region[n : n + N_SUBJECTS]
        self.inside = sim.labels[n : n + N_SUBJECTS] > 0
        self.volumes = self.test.volumes[:N_SUBJECTS]
        self.descent = Descent(steps=20 if quick else 300, learning_rate=2e-3, cosine=True)
        self.noise = NoiseMap(blur=blur, descent=Descent(steps=20 if quick else 60, learning_rate=3e-3))
        self.seed = seed
        self.net = train_age(self.train, self.descent, seed)
        self.controls = controls_of(sim, rows)

    def control(self, name: str) -> dict[str, float]:
        learnt, tested = np.arange(len(self.train)), len(self.train) + np.arange(len(self.test))
        return {"mae": mae(self.controls.predict(name, self.train.ages, learnt, tested), self.test.ages)}

    def maps(self, kind: str, net: AgePredictor, seed: int) -> np.ndarray:
        if kind == "noise":
            return fit_noise_map(net, self.train, self.train.ids, self.noise, seed).maps(self.volumes)
        make = occlusion_maps if kind == "occlusion" else gradient_maps
        return make(net, self.volumes, ComparedMaps())

    def auc(self, maps: np.ndarray) -> float:
        return float(np.mean([planted_auc(*one) for one in zip(maps, self.regions, self.inside, strict=True)]))

    def measures(self, kind: str) -> dict[str, float]:
        maps = self.maps(kind, self.net, self.seed)
        everyone = list(zip(self.volumes, maps, self.inside, strict=True))
        mean = np.broadcast_to(maps.mean(axis=0), maps.shape)
        others = self.train.volumes[:N_REFERENCES]
        random = randomised(self.net, self.seed)
        assert isinstance(random, AgePredictor)
        return {
            "auc": self.auc(maps),
            "population": self.auc(mean),
            "randomised": self.auc(self.maps(kind, random.eval(), self.seed)),
            "deletion": float(np.mean([area(deletion_curve(self.net, *one, others)) for one in everyone])),
            "insertion": float(np.mean([area(insertion_curve(self.net, *one, others)) for one in everyone])),
        }

    def stability(self, kind: str) -> dict[str, float]:
        maps = [self.maps(kind, self.net, seed).mean(axis=0) for seed in range(3)]
        return {"agreement": agreement(maps, self.inside.all(axis=0))}


def shuffled(scene: Scene, seed: int) -> dict[str, float]:
    rows: VolumeRows = replace(scene.train, ages=np.random.default_rng(seed).permutation(scene.train.ages))
    return {"auc": scene.auc(scene.maps("noise", train_age(rows, scene.descent, seed), seed))}


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--blur", type=float, default=NoiseMap().blur, help="voxels, of the noise of `noise`")
    own, rest = parser.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    given = arguments(__doc__, "voxel_maps", 3)
    table = Table(given.out)
    places: tuple[Place, ...] = PLACES[:1] if given.quick else tuple(own.places)
    if given.quick:
        given.cohorts = 1
    for seed in range(given.first, given.first + given.cohorts):
        for place in places:
            scene = cache(
                partial(Scene, place, seed, given.quick, given.device, own.blur)
            )  # made only if something is missing
            table.fill(
                seed, f"{place} predictor", lambda s=scene: {"mae": mae(s().net.ages(s().test.volumes), s().test.ages)}
            )
            for control in CONTROLS:
                table.fill(seed, f"{place} {control}", lambda s=scene, c=control: s().control(c))
            for kind in KINDS:
                table.fill(seed, f"{place} {kind}", lambda s=scene, k=kind: s().measures(k))
            table.fill(seed, f"{place} shuffled", lambda s=scene: shuffled(s(), s().seed))
            if seed == given.first:
                table.fill(seed, f"{place} stability", lambda s=scene: s().stability("noise"))
    print()
    for place in places:
        print(f"  age from {place}: predictor and five controls, which have no maps")
        predictor = table.all(["predictor"], "mae", f"{place} ")
        table.means([f"{place} predictor"], "mae", " months")
        beside_controls(predictor, table.all(CONTROLS, "mae", f"{place} "), unit=" months")
        for measure in ("auc", "population", "randomised", "deletion", "insertion", "cpu"):
            table.means([f"{place} {kind}" for kind in KINDS], measure)
        table.means([f"{place} shuffled"], "auc")
        table.means([f"{place} stability"], "agreement")
    for kind in KINDS:
        found = np.concatenate([table.of(f"{place} {kind}", "randomised") for place in places])
        print(f"  randomised network, mean over places, {kind}: {found.mean():.3f}")
    table.spent()


if __name__ == "__main__":
    main()
