"""Free water: the fraction is recovered if possible, and one shell is refused."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.track.free_water import fit_free_water
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.simulation.phantom import gradients


def mixed(fraction: np.ndarray, keep: tuple[float, ...]) -> Dwi:
    bvals, directions = gradients()
    use = np.isin(bvals, keep)
    bvals, directions = bvals[use], directions[use]
    tissue = np.exp(-bvals * ((directions**2) @ np.array([1.5e-3, 0.4e-3, 0.4e-3])))
    signal = 1000 * ((1 - fraction)[:, None] * tissue + fraction[:, None] * np.exp(-bvals * 3e-3))
    data = signal.reshape(-1, 1, 1, len(bvals)).astype(np.float32)
    return Dwi(data, np.diag([2.0, 2, 2, 1]), bvals, directions, np.ones(data.shape[:3], dtype=bool), "sub-01", "d.nii")


def test_the_fraction_and_what_is_left_are_those_planted() -> None:
    fraction = np.linspace(0.0, 0.8, 40)
    maps = fit_free_water(mixed(fraction, (0.0, 400.0, 1000.0, 2600.0)), max_b=1500)
    np.testing.assert_allclose(maps.fraction[:, 0, 0], fraction, atol=0.01)
    np.testing.assert_allclose(maps.md[:, 0, 0], 0.77e-3, rtol=0.03)
    assert maps.fa.std() < 0.02  # the same tissue everywhere, however much fluid


@pytest.mark.parametrize("shells", [(0.0, 1000.0), (0.0, 1000.0, 2600.0)])
def test_fewer_than_two_shells_within_reach_are_refused(shells: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="two weighted shells") as caught:
        fit_free_water(mixed(np.zeros(3), shells), max_b=1500)
    assert "sub-01" in str(caught.value)
    assert caught.value.exit_code == 65


def test_its_maps_are_measures_only_where_they_are_made() -> None:
    assert ConnectomesSettings.model_validate({"measures": ["FW"], "reconstruction": {"free_water": True}})
    with pytest.raises(ValueError, match="free_water: true"):
        ConnectomesSettings.model_validate({"measures": ["count", "FAfw"]})
