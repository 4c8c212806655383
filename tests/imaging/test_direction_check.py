"""Directions that have nothing to do with the signal are noted, in all volumes or in some; correct tables are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.quality.direction_check import direction_warnings
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)


def warnings_of(dwi: Dwi) -> list[str]:
    return direction_warnings(dwi, np.arange(dwi.n_volumes))


def shuffled(dwi: Dwi, volumes: np.ndarray, seed: int = 0) -> Dwi:
    directions = dwi.directions.copy()
    directions[volumes] = directions[np.random.default_rng(seed).permutation(volumes)]
    return replace(dwi, directions=directions)


@pytest.mark.parametrize(
    ("snr", "shells"),
    [
        (8.0, ((0.0, 6), (400.0, 10), (1000.0, 24))),
        (25.0, ((0.0, 6), (400.0, 10), (1000.0, 24))),
        (25.0, ((0.0, 4), (3000.0, 40))),
    ],
)
def test_shuffled_directions_are_noted_whatever_the_noise(snr: float, shells: tuple[tuple[float, int], ...]) -> None:
    head = make_head(make_anatomy(replace(SMALL, snr=snr, shells=shells)), seed=2)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    weighted = np.flatnonzero(~dwi.is_b0)
    assert warnings_of(dwi) == []
    for seed in range(3):
        (said,) = warnings_of(shuffled(dwi, weighted, seed))
        assert said.startswith("b-vectors may not belong to these images")


def test_a_few_directions_in_a_wrong_order_are_named_with_the_numbers_of_the_file() -> None:
    head = make_head(make_anatomy(SMALL), seed=2)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    directions = dwi.directions.copy()
    far = 17 + int(np.abs(directions[17:40] @ directions[20]).argmin())
    directions[[20, far]] = directions[[far, 20]]
    original = np.append(0, np.arange(2, dwi.n_volumes + 1))  # the second volume was left out
    (said,) = direction_warnings(replace(dwi, directions=directions), original)
    wrong = ", ".join(str(volume + 2) for volume in sorted((20, far)))
    assert said == f"b-vectors may be in a wrong order: the signal is that of other directions in {wrong}"


def test_noise_alone_tells_nothing_of_the_directions() -> None:
    head = make_head(make_anatomy(replace(SMALL, shells=((0.0, 6), (1000.0, 30)))), seed=2)
    noise = np.abs(np.random.default_rng(0).normal(500, 30, head.dwi.shape)).astype(np.float32)
    assert warnings_of(Dwi(noise, head.affine, head.bvals, head.directions, head.mask)) == []


@pytest.mark.data
@pytest.mark.parametrize("name", ["msmt_dwi", "dwi", "SIFT_phantom_dwi"])
def test_real_tables_are_noted_only_if_shuffled(name: str, shared_data: Path) -> None:
    stem = shared_data / "mrtrix_test_data" / "nii" / name
    real = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
    assert warnings_of(real) == []
    assert warnings_of(shuffled(real, np.flatnonzero(~real.is_b0)))
