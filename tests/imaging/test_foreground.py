"""The foreground of volumes: heads among noise, stripped brains, necks; the oracles are anatomy and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from connectome_tl.imaging.read.images import read_volume
from connectome_tl.imaging.volumes.foreground import find_foreground, mixed_backgrounds
from connectome_tl.imaging.volumes.grids import to_ras
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes

EDGES = np.full(3, 160.0 / 48)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@pytest.fixture(scope="module")
def head() -> tuple[np.ndarray, np.ndarray]:
    """A head with a bright rim at 3.3 mm in noise, and its location."""
    sim = simulate_volumes(1, VolumeSettings(size=48, skull=True, site_effect=0.0), seed=8)
    return sim.volumes[0], sim.labels[0] > 0


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "ADC"])
@pytest.mark.parametrize("skull", [True, False])
def test_a_head_among_noise_is_found_in_every_contrast(contrast: str, skull: bool) -> None:
    """Two ages around the inversion of contrast, two scanners or more."""
    settings = VolumeSettings(size=48, contrast=contrast, skull=skull)  # type: ignore[arg-type]
    sim = simulate_volumes(3, settings, seed=5)
    for volume, labels in zip(sim.volumes, sim.labels, strict=True):
        found = find_foreground(volume, EDGES)
        assert not found.is_stripped
        # A dark rim of fluid on T1w without a skull is partly lost in the noise.
        assert overlap(found.mask, labels > 0) > (0.88 if contrast == "T1w" and not skull else 0.95)


def test_an_unmasked_diffusion_map_whose_air_is_wild_numbers() -> None:
    """The logarithm of a ratio of noise spreads over the whole range of tissue and beyond."""
    sim = simulate_volumes(1, VolumeSettings(size=48, contrast="ADC", site_effect=0.0), seed=5)
    inside, rng = sim.labels[0] > 0, np.random.default_rng(0)

    def signal(clean: np.ndarray) -> np.ndarray:
        return np.hypot(clean + 0.03 * rng.normal(size=clean.shape), 0.03 * rng.normal(size=clean.shape))

    ratio = signal(inside * 1.0) / signal(inside * np.exp(-1.5 * sim.volumes[0]))
    adc = np.clip(np.log(ratio), 0, None).astype(np.float32)
    assert (adc[~inside] > np.median(adc[inside])).mean() > 0.1
    assert overlap(find_foreground(adc, EDGES).mask, inside) > 0.93


def test_zeros_among_the_noise_are_not_a_stripped_background(head: tuple[np.ndarray, np.ndarray]) -> None:
    """Scanners round: a third of the air is exactly 0 and the rest is not (as in raw IXI heads)."""
    volume, inside = head
    rounded = np.floor(volume / np.quantile(volume[~inside], 0.5)).astype(np.float32)
    assert (rounded[~inside] == 0).mean() > 0.4
    found = find_foreground(rounded, EDGES)
    assert not found.is_stripped
    assert overlap(found.mask, inside) > 0.95
    # A removed face is not an empty background either.
    defaced = volume.copy()
    defaced[:, 36:, :16] = 0
    assert not find_foreground(defaced, EDGES).is_stripped


@pytest.mark.parametrize("background", [0.0, -1.5, 0.4])
def test_a_stripped_image_is_taken_exactly_whatever_its_background_is(
    head: tuple[np.ndarray, np.ndarray], background: float
) -> None:
    """Standardised brains have voxels on both sides of their background."""
    volume, inside = head
    brain = ndimage.binary_erosion(inside, iterations=3)
    assert (volume[brain] < 0.4).any()
    found = find_foreground(np.where(brain, volume, background).astype(np.float32), EDGES)
    assert found.is_stripped
    np.testing.assert_array_equal(found.mask, ndimage.binary_fill_holes(brain))


def test_a_head_half_as_large_is_found_alike(head: tuple[np.ndarray, np.ndarray]) -> None:
    volume, _ = head
    np.testing.assert_array_equal(find_foreground(volume, EDGES / 2).mask, find_foreground(volume, EDGES).mask)


def test_gain_offset_and_flips_do_not_matter(head: tuple[np.ndarray, np.ndarray]) -> None:
    volume, _ = head
    once = find_foreground(volume, EDGES).mask
    np.testing.assert_array_equal(find_foreground(1000 * volume, EDGES).mask, once)
    assert overlap(find_foreground(volume - 2.5, EDGES).mask, once) > 0.99
    np.testing.assert_array_equal(find_foreground(volume[::-1].copy(), EDGES).mask[::-1], once)


def test_neck_and_shoulders_are_left_out(head: tuple[np.ndarray, np.ndarray]) -> None:
    """A head of 110 mm width on a neck and shoulders; the foreground ends 1.1 widths below the vertex."""
    x, y, z = np.meshgrid(*(np.arange(n) * 3.0 for n in (60, 50, 80)), indexing="ij")
    skull = ((x - 90) / 55) ** 2 + ((y - 75) / 65) ** 2 + ((z - 160) / 60) ** 2 < 1
    neck = ((x - 90) ** 2 + (y - 75) ** 2 < 40**2) & (z < 160)
    shoulders = (np.abs(x - 90) < 85) & (np.abs(y - 75) < 40) & (z < 60)
    rng = np.random.default_rng(1)
    body = skull | neck | shoulders
    volume = np.hypot(body + 0.05 * rng.normal(size=x.shape), 0.05 * rng.normal(size=x.shape)).astype(np.float32)
    found = find_foreground(volume, np.full(3, 3.0)).mask
    lowest = z[found].min()
    assert lowest == pytest.approx(220 - 1.1 * 110, abs=10)
    assert overlap(found, body & (z >= lowest)) > 0.95
    # A marker on the vertex does not move the cut.
    marked = volume.copy()
    marked[29:32, 24:27, 70:78] += 1.0
    assert z[find_foreground(marked, np.full(3, 3.0)).mask].min() == pytest.approx(lowest, abs=4)


def test_air_and_bone_within_the_head_belong_to_it(head: tuple[np.ndarray, np.ndarray]) -> None:
    volume, inside = head
    sinus = np.zeros_like(inside)
    sinus[22:26, 20:40, 20:23] = True  # a channel to the outside
    holed = np.where(sinus, np.quantile(volume[~inside], 0.5), volume).astype(np.float32)
    assert find_foreground(holed, EDGES).mask[sinus & ndimage.binary_erosion(inside, iterations=4)].mean() > 0.98


def test_noise_alone_and_a_constant_have_no_head() -> None:
    assert not find_foreground(np.full((20, 20, 20), 3.0, dtype=np.float32), EDGES).mask.any()


def test_volumes_of_which_only_some_are_stripped_are_named() -> None:
    assert mixed_backgrounds([True, True]) == mixed_backgrounds([]) == mixed_backgrounds([False]) == ""
    assert mixed_backgrounds([True, False, False]).startswith("1 of 3 volumes have an empty background")


@pytest.mark.data
def test_raw_adult_heads_hold_their_labelled_brain_and_little_else(shared_data: Path) -> None:
    """IXI heads at 2 mm: the 145 labels are the brain; the head above the neck is 1.8 to 2.7 times as large."""
    folder = shared_data / "ixi_10"
    files = sorted((folder / "T1w").glob("*.nii.gz"))
    assert len(files) == 10
    for file in files[::3]:  # all ten: benchmarks/voxel_real.py --part grids
        image = to_ras(read_volume(file))
        labels = to_ras(read_volume(folder / "labels" / file.name.replace("_T1w", "_labels"))).data > 0
        found = find_foreground(image.data, image.zooms)
        assert not found.is_stripped
        assert found.mask[labels].mean() > 0.995
        assert 1.8 < found.mask.sum() / labels.sum() < 2.7


@pytest.mark.data
def test_real_stripped_brains_are_taken_as_they_are(shared_data: Path) -> None:
    """Two fetuses: their background is exactly 0."""
    for file in (
        "bme_x_bids/sub-0009/ses-V01/anat/sub-0009_ses-V01_T2w.nii.gz",
        "fetal_atlases/SpinaBifida_Fidon2021/fetal_SB_atlas_GA28_operated/srr.nii.gz",
    ):
        image = to_ras(read_volume(shared_data / file))
        found = find_foreground(image.data, image.zooms)
        assert found.is_stripped
        assert found.mask[image.data > 0].mean() > 0.999
