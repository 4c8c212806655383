"""Volumes that are unlike the others of their cohort are noted; clean cohorts of several scanners are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.volumes.grids import Gridded, onto_grid
from connectome_tl.imaging.volumes.unlike_heads import unlike_heads
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.simulation.volumes import SimulatedVolumes, VolumeSettings, simulate_volumes

GRID = ImageSettings(size=12, voxel=13.0, shape="note")
KINDS = {
    "T1w": VolumeSettings(size=32),
    "stripped": VolumeSettings(size=32),
    "T2w with a skull": VolumeSettings(size=32, contrast="T2w", skull=True, pose=1.0),
    "newborns": VolumeSettings(size=32, contrast="ADC", ages=(0.0, 1.0)),
}
Fault = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def grid_of(values: np.ndarray, affine: np.ndarray) -> Gridded:
    return onto_grid(Volume(values.astype(np.float32), affine), GRID)


@pytest.fixture(scope="module", params=KINDS)
def cohort(request: pytest.FixtureRequest) -> tuple[SimulatedVolumes, list[np.ndarray], list[Gridded]]:
    sim = simulate_volumes(18, KINDS[request.param], seed=11)
    volumes = list(sim.volumes)
    if request.param == "stripped":
        volumes = [np.where(labels > 0, one, 0) for one, labels in zip(sim.volumes, sim.labels, strict=True)]
    return sim, volumes, [grid_of(one, sim.affine) for one in volumes]


def zeroed(volume: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.random.default_rng(0).random(volume.shape) < 0.3, 0, volume), affine


def larger(volume: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return volume, affine @ np.diag([1.5, 1.5, 1.5, 1])


def cut(volume: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    left = volume.copy()
    left[:, :, : levels[0] + (np.ptp(levels) + 1) // 3] = 0
    return left, affine


def test_a_clean_cohort_has_no_note(cohort: tuple[SimulatedVolumes, list[np.ndarray], list[Gridded]]) -> None:
    sim, _, grids = cohort
    for ages in (sim.age, [np.nan] * len(grids)):
        assert unlike_heads(grids, ages) == []
    for few in (15, 9, 6):
        assert unlike_heads(grids[:few], sim.age[:few]) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [(zeroed, "have one value"), (larger, "times the volume"), (cut, "lower than others|times the volume")],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_bad_volume_is_noted_and_no_other(
    fault: Fault, said: str, cohort: tuple[SimulatedVolumes, list[np.ndarray], list[Gridded]]
) -> None:
    sim, volumes, grids = cohort
    for bad in (2, 7):
        made = grid_of(*fault(volumes[bad], sim.labels[bad], sim.affine))
        found = unlike_heads([*grids[:bad], made, *grids[bad + 1 :]], sim.age)
        assert {row for row, _ in found} == {bad}
        assert any(part in note for _, note in found for part in said.split("|"))


def test_few_volumes_are_not_compared_and_unknown_ages_leave_a_wide_margin() -> None:
    sim = simulate_volumes(10, KINDS["newborns"], seed=3)
    grids = [grid_of(one, sim.affine) for one in sim.volumes]
    large = grid_of(*larger(sim.volumes[0], sim.labels[0], sim.affine))
    assert unlike_heads([large, *grids[1:5]], sim.age[:5]) == []
    assert [row for row, _ in unlike_heads([large, *grids[1:]], [np.nan] * 10)] == [0]
