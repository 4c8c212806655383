"""Random contrasts without label maps: tissues keep their borders, with other levels in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.networks.contrasts import soft_contrast, soft_contrasts


@pytest.fixture(scope="module")
def head() -> tuple[torch.Tensor, np.ndarray]:
    """A standardised T1w volume (1, 24, 24, 24) with an exact background, and its tissues."""
    sim = simulate_volumes(1, VolumeSettings(size=24, ages=(18.0, 24.0), site_effect=0.0), seed=4)
    inside = sim.labels[0] > 0
    values = sim.volumes[0]
    volume = np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0.0).astype(np.float32)
    return torch.from_numpy(volume)[None], sim.labels[0]


def drawn(volume: torch.Tensor, n: int = 40, **asked: float) -> list[torch.Tensor]:
    rng = np.random.default_rng(7)
    return [soft_contrast(volume, rng, **asked) for _ in range(n)]


def test_background_mean_and_spread_stay(head: tuple[torch.Tensor, np.ndarray]) -> None:
    volume, labels = head
    inside = torch.from_numpy(labels > 0)[None]
    for found in drawn(volume, 5):
        assert found.dtype == volume.dtype
        assert bool((found[~inside] == 0).all())
        assert found[inside].mean().item() == pytest.approx(volume[inside].mean().item(), abs=1e-3)
        assert found[inside].std().item() == pytest.approx(volume[inside].std().item(), rel=1e-3)
        assert not torch.equal(found, volume)


def test_equal_levels_stay_equal_and_the_map_is_smooth(head: tuple[torch.Tensor, np.ndarray]) -> None:
    volume, labels = head
    inside = torch.from_numpy(labels > 0)[None]
    order = torch.argsort(volume[inside])
    for found in drawn(volume, 5):
        new = found[inside][order]
        repeated = soft_contrast(torch.round(volume, decimals=1), np.random.default_rng(1))
        for level in torch.round(volume, decimals=1)[inside].unique()[:4]:
            same = repeated[(torch.round(volume, decimals=1) == level) & inside]
            assert float(same.max() - same.min()) < 1e-4
        # Voxels with similar grey levels have similar ones afterwards.
        assert float(new.diff().abs().median()) < 0.02 * float(new.max() - new.min())


def test_white_matter_comes_out_brighter_or_darker_than_cortex(head: tuple[torch.Tensor, np.ndarray]) -> None:
    volume, labels = head
    white, cortex = (torch.from_numpy(labels == k)[None] for k in (4, 3))
    assert volume[white].median() > volume[cortex].median()
    signs = [bool(one[white].median() > one[cortex].median()) for one in drawn(volume)]
    assert 0.15 < np.mean(signs) < 0.95


def test_a_small_strength_changes_little(head: tuple[torch.Tensor, np.ndarray]) -> None:
    volume, _ = head
    for found in drawn(volume, 5, strength=0.05):
        assert np.corrcoef(found.flatten().numpy(), volume.flatten().numpy())[0, 1] > 0.98


def test_volumes_without_contrast_are_kept() -> None:
    flat = torch.ones(2, 1, 4, 4, 4)
    assert torch.equal(soft_contrasts(flat, np.random.default_rng(0), 1.0), flat)
    assert torch.equal(soft_contrasts(0 * flat, np.random.default_rng(0), 1.0), 0 * flat)
