"""Importance maps compared with planted regions, with a predictor whose regions are known exactly."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from connectome_tl.evaluation.images.map_checks import (
    agreement,
    area,
    deletion_curve,
    insertion_curve,
    planted_auc,
    randomised,
)
from connectome_tl.evaluation.images.voxel_maps import gradient_maps, occlusion_maps
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import ComparedMaps, NoiseMap
from connectome_tl.training.images.importance import NoiseMapper, _expected, fit_noise_map, standard_noise
from connectome_tl.training.images.rows import VolumeRows

SIZE = 16
GRID = np.stack(np.meshgrid(*[np.arange(SIZE) - 7.5] * 3, indexing="ij"))
BRAIN = np.sqrt((GRID**2).sum(axis=0)) < 7.0
SIDES = [np.sqrt(((GRID - np.array([x, 0.0, 1.0])[:, None, None, None]) ** 2).sum(axis=0)) < 2.5 for x in (-3.5, 3.5)]
CORNER = (slice(2, 5), slice(6, 9), slice(6, 9))  # defines the relevant side
SETTINGS = NoiseMap(width=4, depth=2, descent=Descent(steps=80, batch_size=6, learning_rate=1e-2))


class Brightness(nn.Module):
    """The mean of a region; with two regions, on the side defined by a corner."""

    def __init__(self, regions: list[np.ndarray]) -> None:
        super().__init__()
        self.regions = torch.tensor(np.stack(regions), dtype=torch.float32)

    def forward(self, volumes: Tensor) -> Tensor:
        means = (volumes * self.regions).sum(dim=(2, 3, 4)) / self.regions.sum(dim=(1, 2, 3))
        if len(self.regions) == 1:
            return means[:, 0]
        right = torch.sigmoid(8 * volumes[:, 0, *CORNER].mean(dim=(1, 2, 3)))
        return (1 - right) * means[:, 0] + right * means[:, 1]


def volumes_of(n: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(n, 1, 1, 1)) * 0.3 + rng.normal(size=(n, SIZE, SIZE, SIZE))
    return torch.tensor((smooth * BRAIN)[:, None], dtype=torch.float32)


def rows_of(volumes: Tensor) -> VolumeRows:
    return VolumeRows(tuple(f"s{i}" for i in range(len(volumes))), volumes, np.zeros(len(volumes)))


@pytest.fixture(scope="module")
def fitted() -> NoiseMapper:
    rows = rows_of(volumes_of(24))
    return fit_noise_map(Brightness(SIDES[:1]), rows, rows.ids, SETTINGS, seed=0)


def test_the_map_finds_the_planted_region_in_new_subjects(fitted: NoiseMapper) -> None:
    maps = fitted.maps(volumes_of(6, seed=1))
    found = [planted_auc(one, SIDES[0], BRAIN) for one in maps]
    print(f"subject AUC {np.mean(found):.3f}")
    assert np.mean(found) > 0.95
    assert planted_auc(fitted.population(volumes_of(6, seed=1)), SIDES[0], BRAIN) > 0.95


@pytest.mark.slow
def test_a_region_on_a_random_side_is_in_the_subjects_maps_and_not_in_the_mean() -> None:
    side = np.arange(96) % 2
    volumes = volumes_of(96)
    volumes[:, 0, *CORNER] = torch.tensor(2.0 * side - 1, dtype=torch.float32)[:, None, None, None]
    rows = rows_of(volumes)
    settings = SETTINGS.model_copy(update={"descent": Descent(steps=130, batch_size=6, learning_rate=1e-2)})
    mapper = fit_noise_map(Brightness(SIDES), rows, rows.ids[:48], settings, seed=0)
    both = SIDES[0] | SIDES[1]
    maps = mapper.maps(volumes[48:])
    own = [planted_auc(one, SIDES[s], both) for one, s in zip(maps, side[48:], strict=True)]
    mean = [planted_auc(maps.mean(axis=0), SIDES[s], both) for s in side[48:]]
    print(f"own side against the other: subject {np.mean(own):.3f}, mean map {np.mean(mean):.3f}")
    assert np.mean(own) > 0.75
    assert np.mean(mean) == pytest.approx(0.5, abs=0.1)


def test_the_error_is_kept_near_the_tolerance(fitted: NoiseMapper) -> None:
    assert fitted.error == pytest.approx(SETTINGS.tolerance, rel=0.6)


@pytest.mark.parametrize("blur", [0.0, 1.0, 1.5])
def test_smooth_noise_has_variance_1_everywhere_and_the_correlation_of_its_filter(blur: float) -> None:
    torch.manual_seed(0)
    noise = standard_noise(torch.zeros(200, 2, 9, 7, 8), blur)
    assert noise.shape == (200, 2, 9, 7, 8)
    corner, middle = noise[:, :, 0, 0, 0], noise[:, :, 4, 3, 4]
    for values in (corner, middle):
        assert float(values.mean()) == pytest.approx(0, abs=0.2)
        assert float(values.var()) == pytest.approx(1, abs=0.2)
    expected = np.exp(-1 / (4 * blur**2)) if blur else 0.0
    assert float((noise[:, :, 1:] * noise[:, :, :-1]).mean()) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_the_expected_squared_change_of_a_linear_predictor_is_the_mean_over_draws(blur: float) -> None:
    torch.manual_seed(0)
    at_border = np.zeros((1, 5, 6, 7))
    at_border[0, :3, 2:5, 1:4] = 1
    predictor, deviation = Brightness(list(at_border)), 0.5 + torch.rand(1, 1, 5, 6, 7)
    volumes = torch.randn(1, 1, 5, 6, 7, requires_grad=True)
    outputs = predictor(volumes)[:, None]
    found = float(_expected(outputs, volumes, deviation, torch.tensor([2.0]), blur))
    noise = standard_noise(torch.zeros(4000, 1, 5, 6, 7), blur)
    drawn = (predictor(volumes + noise * deviation)[:, None] - outputs).square() / 2.0
    assert found == pytest.approx(float(drawn.mean().detach()), rel=0.1)


@pytest.mark.parametrize("gradient", ["sampled", "expected"])
@pytest.mark.parametrize("coarse", [1, 3])
def test_maps_have_the_size_of_the_volumes_for_every_gradient_and_resolution(
    gradient: Literal["sampled", "expected"], coarse: int
) -> None:
    rows = rows_of(volumes_of(4)[..., :13])
    net = nn.Sequential(nn.Conv3d(1, 2, 3, 2), nn.Flatten(), nn.LazyLinear(2))
    settings = NoiseMap(width=4, depth=1, gradient=gradient, coarse=coarse, descent=Descent(steps=2))
    net(rows.volumes[:1])
    maps = fit_noise_map(net, rows, rows.ids, settings, seed=0).maps(rows.volumes[:2])
    assert maps.shape == (2, SIZE, SIZE, 13)
    assert np.isfinite(maps).all()


def test_the_predictor_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3, 2), nn.Flatten(), nn.LazyLinear(1))
    net(volumes_of(1))
    net[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows = rows_of(volumes_of(4))
    fit_noise_map(net, rows, rows.ids, NoiseMap(width=4, depth=1, descent=Descent(steps=2)), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]


def test_occlusion_and_smoothed_gradients_find_it_too() -> None:
    predictor, volumes = Brightness(SIDES[:1]), volumes_of(3, seed=1)
    for maps in (occlusion_maps(predictor, volumes, ComparedMaps()), gradient_maps(predictor, volumes, ComparedMaps())):
        assert maps.shape == (3, SIZE, SIZE, SIZE)
        assert np.mean([planted_auc(one, SIDES[0], BRAIN) for one in maps]) > 0.8


def test_planted_auc_counts_pairs_and_ties() -> None:
    inside = np.ones((2, 2, 2), dtype=bool)
    region = np.zeros_like(inside)
    region[0, 0] = True
    assert planted_auc(region.astype(float), region, inside) == 1.0
    assert planted_auc(np.zeros((2, 2, 2)), region, inside) == 0.5
    assert planted_auc(-region.astype(float), region, inside) == 0.0


class OnEdges(nn.Module):
    """The mean of a region, and the roughness of the whole volume, which blank voxels around a region change."""

    def __init__(self) -> None:
        super().__init__()
        self.region = Brightness(SIDES[:1])

    def forward(self, volumes: Tensor) -> Tensor:
        edges = sum(volumes.diff(dim=axis).square().mean(dim=(1, 2, 3, 4)) for axis in (2, 3, 4))
        return self.region(volumes) + 10 * edges


@pytest.mark.parametrize("predictor", [Brightness(SIDES[:1]), OnEdges()], ids=["region alone", "region and edges"])
def test_the_true_map_deletes_early_and_inserts_early(predictor: nn.Module) -> None:
    heads = torch.tensor(BRAIN, dtype=torch.float32) * (1 + 0.05 * volumes_of(5, seed=2))
    volumes = heads + torch.linspace(-1, 1, 5)[:, None, None, None, None] * torch.tensor(SIDES[0]).float()
    volume, others = volumes[0], volumes[2:]
    true, noise = SIDES[0].astype(float), np.random.default_rng(0).normal(size=BRAIN.shape)
    deletion = [area(deletion_curve(predictor, volume, found, BRAIN, others)) for found in (true, noise)]
    insertion = [area(insertion_curve(predictor, volume, found, BRAIN, others)) for found in (true, noise)]
    assert deletion[0] > 1.2 * deletion[1]
    assert insertion[0] < 0.5 * insertion[1]


def test_the_ends_of_the_curves_are_the_subject_and_the_others() -> None:
    predictor, volumes = Brightness(SIDES[:1]), volumes_of(3, seed=2)
    volume, others = volumes[0], volumes[1:]
    found = np.random.default_rng(0).normal(size=BRAIN.shape)
    change = float((predictor(others) - predictor(volume[None])).abs().mean())
    deletion = deletion_curve(predictor, volume, found, BRAIN, others)
    insertion = insertion_curve(predictor, volume, found, BRAIN, others)
    assert deletion[0] == insertion[-1] == 0.0
    assert deletion[-1] == pytest.approx(change, abs=1e-6)
    assert insertion[0] == pytest.approx(change, abs=1e-6)


def test_a_randomised_network_has_other_weights_and_the_given_one_its_own() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(2, 1))
    before = net[0].weight.clone()
    other = randomised(net, seed=1)
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(other[0].weight, before)
    assert torch.equal(randomised(net, seed=1)[0].weight, other[0].weight)


def test_agreement_of_brains_that_do_not_overlap_is_unknown() -> None:
    maps = np.random.default_rng(0).random((2, *BRAIN.shape))
    assert np.isnan(agreement(list(maps), np.zeros_like(BRAIN)))


def test_agreement_is_one_for_equal_ranks() -> None:
    one = np.random.default_rng(0).uniform(size=BRAIN.shape)
    assert agreement([one, one**3, 2 * one], BRAIN) == pytest.approx(1.0)
