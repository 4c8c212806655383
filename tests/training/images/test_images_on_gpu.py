"""The image methods on a GPU: networks are trained there, and fitted state is returned to memory.

Methods without random numbers on the device agree with the CPU; after a few steps of AdamW, which divides
gradients by their size, rounding errors have become differences of up to 1e-3 of the predicted values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_rows import SmallEncoder, rows_of, simulated
from on_gpu import THERE, assert_near, needs_gpu
from torch import nn

from connectome_tl.evaluation.images.map_checks import deletion_curve
from connectome_tl.evaluation.images.voxel_maps import gradient_maps, occlusion_maps
from connectome_tl.settings.images.cascade import TwoStage
from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import ComparedMaps, NoiseMap
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.images.synthesis import TaskGuidedGan
from connectome_tl.training.images.cascade import fit_two_stage
from connectome_tl.training.images.contrast import adapt_by_contrast, fit_segmenter
from connectome_tl.training.images.importance import fit_noise_map
from connectome_tl.training.images.pruning import prune
from connectome_tl.training.images.rows import VolumeRows
from connectome_tl.training.images.synthesis import fit_synthesiser, synthesise

pytestmark = needs_gpu
BRIEF = Descent(steps=5, batch_size=6, learning_rate=1e-3)


@pytest.fixture(scope="module")
def both() -> tuple[VolumeRows, VolumeRows]:
    here = rows_of(simulated()).at(range(16))
    return here, replace(here, device=THERE)


def in_memory(network: nn.Module) -> bool:
    return all(one.device.type == "cpu" and bool(one.isfinite().all()) for one in network.state_dict().values())


def test_two_stage_age(both: tuple[VolumeRows, VolumeRows]) -> None:
    settings = TwoStage(folds=2, first=BRIEF, second=BRIEF)
    one, two = (fit_two_stage(rows, rows.ids[:12], SmallEncoder, settings, seed=0) for rows in both)
    assert all(map(in_memory, (*two.first, *two.second)))
    test = both[0].at(range(12, 16))
    np.testing.assert_allclose(two.predict(test), one.predict(test), atol=1e-3 * one.scale)
    np.testing.assert_allclose(two.estimates, one.estimates, atol=1e-3 * one.scale)


@pytest.mark.parametrize("adversarial", [0.0, 0.01])
def test_synthesis(both: tuple[VolumeRows, VolumeRows], adversarial: float) -> None:
    settings = TaskGuidedGan(width=4, depth=2, latent=4, bin_width=12.0, descent=BRIEF, adversarial=adversarial)
    one, two = (fit_synthesiser(rows, rows.ids[:12], settings, seed=0) for rows in both)
    assert in_memory(two.generator)
    made = synthesise(both[1], both[1].ids[:12], settings, seed=0, model=two)
    assert made.rows.volumes.isfinite().all()
    assert made.rows.device == THERE
    if not adversarial:  # the gradient penalty draws random numbers
        volumes = both[0].volumes[12:]
        assert_near(two.reconstructed(volumes), one.reconstructed(volumes), 1e-2)


def test_contrast_and_segmentation(both: tuple[VolumeRows, VolumeRows]) -> None:
    rows = both[1]
    for bank in ("memory", "prototypes"):
        settings = VoxelContrast(bank=bank)  # type: ignore[arg-type]
        adapted = adapt_by_contrast(
            SmallEncoder(),
            lambda net, volumes: net.maps(volumes),
            rows,
            rows.ids,
            settings,
            BRIEF,
            0,  # type: ignore[operator]
        )
        assert np.isfinite(adapted.losses).all()
        assert in_memory(adapted.encoder)
        assert in_memory(adapted.contrast)
    one, two = (fit_segmenter(r, r.ids, Segmentation(width=4, depth=2, descent=BRIEF, contrast=None), 0) for r in both)
    assert in_memory(two.network)
    agree = (one.segment(rows.volumes) == two.segment(rows.volumes)).float().mean()
    assert agree > 0.99
    fit_segmenter(rows, rows.ids, Segmentation(width=4, depth=2, descent=BRIEF, contrast=VoxelContrast()), 0)


def test_maps(both: tuple[VolumeRows, VolumeRows]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(SmallEncoder(), nn.Linear(8, 1)).eval()
    found = fit_noise_map(net, both[1], both[1].ids, NoiseMap(width=4, depth=2, descent=BRIEF), 0)
    assert in_memory(found.network)
    assert in_memory(net)  # the predictor is moved back
    assert np.isfinite(found.maps(both[0].volumes[:2])).all()
    volumes = both[0].volumes[:2]
    for make in (occlusion_maps, gradient_maps):
        here = make(net, volumes, ComparedMaps())
        there = make(net.to(THERE), volumes, ComparedMaps())
        inside = np.ones(here.shape[1:], dtype=bool)
        curve = deletion_curve(net, volumes[0], here[0], inside)
        net.cpu()
        np.testing.assert_allclose(there, here, atol=1e-4 * here.max())
        np.testing.assert_allclose(curve, deletion_curve(net, volumes[0], here[0], inside), rtol=1e-3, atol=1e-6)


def test_pruning(both: tuple[VolumeRows, VolumeRows]) -> None:
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 8, 3, 2, 1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 3, 2, 1), nn.BatchNorm3d(8), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 1),
    )  # fmt: skip
    settings = TaylorPruning(target=0.3, between=BRIEF, after=BRIEF)
    found = []
    for rows in both:
        goal = torch.tensor((rows.ages - rows.ages.mean()) / rows.ages.std(), dtype=torch.float32, device=rows.device)

        def loss(one: nn.Module, at: np.ndarray, rows: VolumeRows = rows, goal: torch.Tensor = goal) -> torch.Tensor:
            return (one(rows.batch(at))[:, 0] - goal[at]).square().mean()

        rng = np.random.default_rng(0)
        found.append(prune(net.to(rows.device), loss, len(rows), settings, rng, rows.batch(np.arange(1))))
    assert found[1].after.macs <= 0.75 * found[1].before.macs
    assert found[1].before == replace(found[0].before, seconds=found[1].before.seconds)
    assert found[1].removed.keys() == found[0].removed.keys()
