"""Volumes to grids: orientation, preserved or lost size, grey levels, the cache; and files that are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.processing import resample_from_to
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.nn import functional

from connectome_tl.errors import DataError, MissingInputError, OutputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.volumes.cache import stored_grid
from connectome_tl.imaging.volumes.checks import check_contrast, unlike_others
from connectome_tl.imaging.volumes.foreground import find_foreground
from connectome_tl.imaging.volumes.grids import cropped, gridded, head_on, onto_grid
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.simulation.volumes import VolumeSettings, affine_of, simulate_volumes

SETTINGS = VolumeSettings(size=32)
VOLUME = simulate_volumes(1, SETTINGS, seed=3).volumes[0]
AFFINE = affine_of(SETTINGS)
GRID = ImageSettings(size=24, voxel=7.0)


def written(folder: Path, data: np.ndarray = VOLUME, affine: np.ndarray | None = AFFINE, name: str = "a") -> str:
    file = folder / f"{name}.nii"
    nib.save(nib.Nifti1Image(data, affine), file)
    return str(file)


def grid(path: str, settings: ImageSettings = GRID) -> np.ndarray:
    return gridded(path, "s1", settings).values.astype(float)


def test_the_order_and_direction_of_the_axes_do_not_matter(tmp_path: Path) -> None:
    """The same head stored as P-S-R, as scanners may."""
    plain = written(tmp_path)
    turn = nib.orientations.axcodes2ornt("PSR")
    image = nib.Nifti1Image(VOLUME, AFFINE).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(AFFINE), turn)
    )
    assert nib.aff2axcodes(image.affine) == ("P", "S", "R")
    nib.save(image, tmp_path / "b.nii")
    for settings in (GRID, ImageSettings(size=24, grid="zoom"), ImageSettings(size=24, grid="raw")):
        np.testing.assert_allclose(grid(plain, settings), grid(str(tmp_path / "b.nii"), settings), atol=0.02)


def test_isotropic_keeps_size_and_zoom_loses_it(tmp_path: Path) -> None:
    small = AFFINE.copy()
    small[:3, :3] *= 0.6
    paths = [written(tmp_path), written(tmp_path, affine=small, name="small")]
    isotropic = [(grid(path) != 0).sum() for path in paths]
    zoomed = [(grid(path, ImageSettings(size=24, grid="zoom")) != 0).sum() for path in paths]
    assert isotropic[1] / isotropic[0] == pytest.approx(0.6**3, rel=0.15)
    assert zoomed[0] == zoomed[1]
    # The numbers stored with the grid contain the size in any case.
    ml = [gridded(path, "s1", ImageSettings(size=24, grid="zoom")).head_ml for path in paths]
    assert ml[1] / ml[0] == pytest.approx(0.6**3, rel=0.01)


def test_isotropic_is_the_same_head_from_finer_voxels_and_elsewhere_in_the_field(tmp_path: Path) -> None:
    fine = np.repeat(np.repeat(np.repeat(VOLUME, 2, 0), 2, 1), 2, 2)
    affine = AFFINE.copy()
    affine[:3, :3] /= 2
    shifted = np.roll(VOLUME, (3, -2, 1), axis=(0, 1, 2))
    one = grid(written(tmp_path))
    for other in (written(tmp_path, fine, affine, "fine"), written(tmp_path, shifted, name="shifted")):
        assert np.corrcoef(one.ravel(), grid(other).ravel())[0, 1] > 0.97


def test_raw_keeps_the_voxels_as_they_are(tmp_path: Path) -> None:
    found = grid(written(tmp_path), ImageSettings(size=40, grid="raw", normalise="none", outside="keep"))
    np.testing.assert_allclose(found[4:36, 4:36, 4:36], VOLUME, atol=1e-3)
    assert np.allclose(found[:4], VOLUME.min(), atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        GRID,
        GRID.model_copy(update={"centre": "image"}),
        ImageSettings(size=24, grid="zoom"),
        ImageSettings(size=26, grid="raw"),
    ],
)
def test_the_affine_of_a_grid_leads_to_the_same_place_in_the_image(tmp_path: Path, settings: ImageSettings) -> None:
    """For an oblique image with permuted and flipped axes, along every axis."""
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = AFFINE.copy()
    oblique[:3, :3] = turn @ AFFINE[:3, :3]
    head = find_foreground(VOLUME, np.full(3, 5.0)).mask
    for axis in range(3):
        data = np.where(head, np.indices(VOLUME.shape)[axis] + 100.0, 0)  # intensities that increase along an axis
        image = nib.Nifti1Image(data, oblique).as_reoriented(np.array([[1, -1], [0, 1], [2, 1]]))
        nib.save(image, tmp_path / "a.nii")
        made = gridded(
            str(tmp_path / "a.nii"), "s1", settings.model_copy(update={"normalise": "none", "shape": "note"})
        )
        at = np.argwhere(made.values != 0)
        to_image = np.linalg.inv(oblique) @ np.reshape(made.affine, (4, 4))
        expected = (at @ to_image[:3, :3].T + to_image[:3, 3])[:, axis] + 100
        found = made.values[tuple(at.T)].astype(float)
        inner = np.abs(found - expected) < 1  # the border of the head is averaged with the background
        assert inner.mean() > 0.4
        assert np.median(np.abs(found - expected)[inner]) < 0.2
        assert made.zooms == pytest.approx(np.linalg.norm(np.reshape(made.affine, (4, 4))[:3, :3], axis=0))


def asymmetric(points: np.ndarray) -> np.ndarray:
    """Grey levels of a smooth head without symmetry at points (..., 3) in mm."""
    place = (points - (3.0, -5.0, 4.0)) / (48.0, 62.0, 50.0)
    place[..., 2] += 0.12 * place[..., 1]
    levels = np.ones(points.shape[:-1])
    rng = np.random.default_rng(0)
    for centre, radius, level in zip(
        rng.uniform(-35, 35, (20, 3)), rng.uniform(6, 14, 20), rng.uniform(-0.6, 0.8, 20), strict=True
    ):
        levels += level * np.exp(-((points - centre) ** 2).sum(axis=-1) / (2 * radius**2))
    return np.asarray(100 * np.clip(levels, 0.2, None) / (1 + np.exp((np.linalg.norm(place, axis=-1) - 1) * 25)))


def points_of(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("centre", ["head", "image"])
@pytest.mark.parametrize("angles", [(0, 0, 12), (20, 10, -15), (44, 10, 5)])
def test_the_same_head_imaged_with_oblique_axes_has_the_same_grid(
    angles: tuple[int, int, int], centre: Literal["head", "image"]
) -> None:
    """Compared with the head itself at the voxels of the grid, with nibabel, and with axes along R, A and S."""
    settings = ImageSettings(size=32, voxel=5.0, centre=centre, normalise="none", outside="keep")
    rng, grids = np.random.default_rng(1), []
    for turned in ((0, 0, 0), angles):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("xyz", turned, degrees=True).as_matrix() * 4.0
        affine[:3, 3] = -affine[:3, :3] @ np.full(3, 21.0)
        data = asymmetric(points_of(affine, (43, 43, 43)))
        data = (data + np.abs(rng.normal(0, 0.5, data.shape))).astype(np.float32)
        made = onto_grid(Volume(data, affine), settings)
        grids.append((made.values.astype(float), np.reshape(made.affine, (4, 4))))
    (straight, first), (values, second) = grids
    place = points_of(second, values.shape)
    seen = np.all(np.abs((place - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T - 21) < 21, axis=-1)
    by_nibabel = resample_from_to(nib.Nifti1Image(data, affine), (values.shape, second), order=1).get_fdata()

    def likeness(other: np.ndarray) -> float:
        return float(np.corrcoef(values[seen], other[seen])[0, 1])

    assert likeness(asymmetric(place)) > 0.998
    assert likeness(by_nibabel) > 0.999
    np.testing.assert_allclose(first[:3, :3], second[:3, :3], atol=1e-9)
    assert np.abs(first[:3, 3] - second[:3, 3]).max() <= 4.0  # one voxel of the images
    assert likeness(straight) > 0.99


def test_registered_images_keep_their_alignment_on_grids_centred_on_the_image(tmp_path: Path) -> None:
    shifted = np.roll(VOLUME, 3, axis=0)
    paths = [written(tmp_path), written(tmp_path, shifted, name="shifted")]
    on_head, on_image = (
        [gridded(path, "s1", GRID.model_copy(update={"centre": centre})) for path in paths]
        for centre in ("head", "image")
    )
    assert on_image[0].affine == on_image[1].affine
    assert on_head[0].affine != on_head[1].affine
    difference = [np.abs(a.values.astype(float) - b.values).mean() for a, b in (on_head, on_image)]
    assert difference[0] < 0.1 * difference[1]


@pytest.mark.parametrize("grid", [{"voxel": 5.0}, {"grid": "raw"}, {"voxel": 5.0, "centre": "image"}])
def test_a_grid_that_cuts_the_head_is_noted_and_one_that_cuts_much_is_refused(tmp_path: Path, grid: dict) -> None:
    path = written(tmp_path)
    whole = gridded(path, "s1", ImageSettings(**{"size": 32, **grid}))
    assert not whole.notes
    sides = np.ptp(np.argwhere(find_foreground(VOLUME, np.full(3, 5.0)).mask), axis=0) + 1
    cut = int(sides.max()) - 3
    shown = gridded(path, "s1", ImageSettings(**{"size": cut, **grid})).notes
    assert len(shown) == 1
    assert "of the head is outside the grid of" in shown[0]
    with pytest.raises(DataError, match="of the head is outside the grid"):
        gridded(path, "s1", ImageSettings(**{"size": cut // 2, **grid}))
    assert gridded(path, "s1", ImageSettings(**{"size": cut // 2, **grid, "shape": "note"})).notes


def test_cropping_is_around_the_middle() -> None:
    values = np.arange(6**3, dtype=float).reshape(6, 6, 6)
    np.testing.assert_array_equal(cropped(values, (4, 4, 4)), values[1:5, 1:5, 1:5])
    back = cropped(cropped(values, (8, 8, 8)), (6, 6, 6))
    np.testing.assert_array_equal(back, values)


def test_grey_levels_are_standardised_over_the_foreground(tmp_path: Path) -> None:
    found = grid(written(tmp_path))
    inside = found[found != 0]
    assert inside.mean() == pytest.approx(0, abs=0.02)
    assert inside.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(found, grid(written(tmp_path, VOLUME * 700, name="gain")), atol=0.01)
    squeezed = grid(written(tmp_path), GRID.model_copy(update={"normalise": "minmax"}))
    assert 0 <= squeezed.min() <= squeezed.max() == 1


def _half(*part: slice) -> np.ndarray:
    half = np.where(VOLUME > 0.2, VOLUME, 0)
    half[part] = 0
    return half


ALL = slice(None)
BAD: dict[str, tuple[np.ndarray, str]] = {
    "four axes": (np.stack([VOLUME] * 2, axis=-1), "wrong number of axes"),
    "a slice": (VOLUME[:, :, 16:17], "wrong number of axes|slice"),
    "a thin slab": (VOLUME[:, :, 15:17], "a slice, not a volume"),
    "zeros": (np.zeros_like(VOLUME), "contains only 0"),
    "constant": (np.full_like(VOLUME, 7), "contains only 7"),
    "NaN": (np.where(np.arange(32)[:, None, None] == 5, np.nan, VOLUME).astype(np.float32), "voxels are not numbers"),
    "all NaN": (np.full_like(VOLUME, np.nan), "contains no number"),
    "overflow": (np.clip(VOLUME * 60000, 0, 32767).astype(np.int16), "overflowed"),
    "wrapped": ((VOLUME * 60000).astype(np.int64).astype(np.int16), "overflowed"),
    "half a brain": (_half(slice(16)), "half a brain"),
    "no top": (_half(ALL, ALL, slice(16, None)), "high.*cut off"),
    "no front": (_half(ALL, slice(16, None)), "mm long.*cut off at one end"),
    "no back": (_half(ALL, slice(16)), "mm long.*cut off at one end"),
    "noise": (np.random.default_rng(0).random(VOLUME.shape, np.float32), "fills the field of view"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_volume_that_no_grid_can_be_made_of_is_one_message_with_subject_and_file(tmp_path: Path, case: str) -> None:
    data, says = BAD[case]
    path = written(tmp_path, data)
    with pytest.raises(DataError, match=says) as caught:
        gridded(path, "s1", GRID)
    (problem,) = caught.value.problems
    assert (problem.subject, str(problem.file)) == ("s1", path)


BRAIN = find_foreground(VOLUME, np.full(3, 5.0)).mask


def stripped(background: float, gain: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """The brain on a background that none of its voxels has."""
    return np.where(BRAIN, gain * (VOLUME + 0.5) + offset, background).astype(np.float32)


@pytest.mark.parametrize("normalise", ["zscore", "minmax"])
@pytest.mark.parametrize("outside", ["zero", "keep"])
def test_the_background_of_a_stripped_brain_does_not_affect_its_grid(
    tmp_path: Path, normalise: str, outside: str
) -> None:
    """Zeros, fill values of CT, standardised intensities, and numbers in place of NaN."""
    settings = GRID.model_copy(update={"normalise": normalise, "outside": outside})
    centre, sd = VOLUME[BRAIN].mean() + 0.5, VOLUME[BRAIN].std()
    copies = [stripped(background) for background in (0, -1, -1000, 1e5)]
    copies += [stripped(0, 1 / sd, -centre / sd), stripped(0, 1000, 5000), stripped(-1024, 80)]
    first, *others = [gridded(written(tmp_path, one, name=str(i)), "s1", settings) for i, one in enumerate(copies)]
    for other in others:
        np.testing.assert_allclose(other.values.astype(float), first.values.astype(float), atol=0.01)
        assert other.head_ml == first.head_ml
        np.testing.assert_allclose(other.tissue_ml, first.tissue_ml, rtol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_of_standardised_and_shifted_brains_are_of_the_order_of_1(tmp_path: Path, seed: int) -> None:
    """The mean of a standardised brain is round-off, no scale."""
    brain = VOLUME[BRAIN] + 0.05 * np.random.default_rng(seed).normal(size=BRAIN.sum())
    data = np.zeros_like(VOLUME)
    data[BRAIN] = (brain - brain.mean()) / brain.std()
    found = [gridded(written(tmp_path, one), "s1", GRID).quantiles for one in (data, data + 1000, 1e-9 * data)]
    assert np.abs(found).max() < 5
    assert np.ptp(found, axis=1).min() > 2
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=0.01)


@pytest.mark.parametrize("is_stripped", [True, False])
def test_two_heads_in_one_image_are_noted(tmp_path: Path, is_stripped: bool) -> None:
    one = stripped(0) if is_stripped else VOLUME
    found = gridded(written(tmp_path, np.concatenate([one, one])), "s1", GRID)
    assert found.notes == ("another object has 100% of the volume of the head: two heads?",)


@pytest.mark.parametrize("level", [1e3, 1e7, 1e25, -1e7])
@pytest.mark.parametrize("is_stripped", [True, False])
def test_a_spike_does_not_flatten_a_head(tmp_path: Path, level: float, is_stripped: bool) -> None:
    data = stripped(0) if is_stripped else VOLUME.copy()
    clean = gridded(written(tmp_path, data), "s1", GRID)
    data[15, 16, 17] = level
    found = gridded(written(tmp_path, data, name="spike"), "s1", GRID)
    both = (clean.values != 0) & (found.values != 0)
    assert both.sum() > 0.99 * (clean.values != 0).sum()
    both[9:16, 9:16, 9:16] = False
    np.testing.assert_allclose(found.values[both].astype(float), clean.values[both].astype(float), atol=0.1)
    np.testing.assert_allclose(found.quantiles, clean.quantiles, atol=0.02)
    assert np.abs(found.values).max() < 30
    assert found.notes == ("1 voxel of the head with outlying grey levels was clipped",)
    assert not clean.notes


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_wrapped_and_saturated_integers_are_refused_or_noted(tmp_path: Path, kind: str) -> None:
    info = np.iinfo(kind)
    scaled = np.maximum(VOLUME, 0).astype(float) / np.quantile(VOLUME, 0.97) * info.max
    wrapped, cut = scaled.astype(np.int64).astype(kind), np.minimum(scaled, info.max).astype(kind)
    for data in (wrapped, cut):
        path = written(tmp_path, data)
        with pytest.raises(DataError, match=r"overflowed the integers.*image.overflow: note"):
            gridded(path, "s1", GRID)
    noted = gridded(written(tmp_path, cut), "s1", GRID.model_copy(update={"overflow": "note"})).notes
    assert noted == (f"grey levels may have overflowed: {(cut == info.max).mean():.1%} of the voxels at {info.max}",)
    whole = (VOLUME.astype(float) / VOLUME.max() * info.max).astype(kind)
    assert not gridded(written(tmp_path, whole), "s1", GRID).notes


@pytest.mark.parametrize("normalise", ["zscore", "minmax", "none"])
def test_no_voxel_of_the_head_has_the_value_of_the_background(tmp_path: Path, normalise: str) -> None:
    kept = gridded(written(tmp_path), "s1", GRID.model_copy(update={"normalise": "zscore"})).values != 0
    found = grid(written(tmp_path), GRID.model_copy(update={"normalise": normalise}))
    np.testing.assert_array_equal(found != 0, kept)
    flat = np.where(np.quantile(VOLUME[BRAIN], 0.1) < VOLUME, VOLUME, 0)  # intensities equal to their minimum
    flat[~BRAIN] = -1
    assert (
        grid(written(tmp_path, flat), GRID.model_copy(update={"normalise": normalise})) != 0
    ).sum() > 0.9 * kept.sum()


@pytest.mark.parametrize("n_levels", [1, 5])
def test_a_mask_or_label_map_is_refused(tmp_path: Path, n_levels: int) -> None:
    data = np.where(BRAIN, 1 + np.arange(BRAIN.size).reshape(BRAIN.shape) % n_levels, 0).astype(np.int16)
    with pytest.raises(DataError, match=f"only {n_levels} grey level.*a mask or a label map"):
        gridded(written(tmp_path, data), "s1", GRID)


def test_a_large_offset_does_not_flatten_a_head(tmp_path: Path) -> None:
    plain = np.rint(1000 * VOLUME).astype(np.int32)
    found = [grid(written(tmp_path, data)) for data in (plain, plain + 10**9, plain.astype(np.float64) - 1e12)]
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=0.01)


def _coarse(n: int, seed: int, ages: tuple[float, float], contrast: Literal["T1w", "T2w"] = "T1w") -> np.ndarray:
    settings = VolumeSettings(size=16, contrast=contrast, ages=ages)
    volumes = simulate_volumes(n, settings, seed=seed).volumes
    grids = [onto_grid(Volume(one, affine_of(settings)), ImageSettings(size=12, voxel=13.0)) for one in volumes]
    return np.array([one.values.astype(float).ravel() for one in grids])


def test_one_volume_of_another_contrast_among_many_is_found() -> None:
    first, other = _coarse(10, 1, (12, 24)), _coarse(1, 2, (12, 24), "T2w")
    assert unlike_others(np.concatenate([first, other])) == [10]
    assert unlike_others(first) == []
    assert unlike_others(np.concatenate([first[:3], other])) == []  # too few to tell which is the other


@pytest.mark.parametrize("seed", range(3))
def test_infants_around_the_inversion_of_contrast_are_not_named(seed: int) -> None:
    assert unlike_others(_coarse(12, seed, (0, 24))) == []


def test_what_settings_allow_is_let_pass(tmp_path: Path) -> None:
    hole = np.where(np.arange(32)[:, None, None] == 5, np.nan, VOLUME).astype(np.float32)
    assert np.isfinite(grid(written(tmp_path, hole), GRID.model_copy(update={"nan": "zero"}))).all()
    half = written(tmp_path, BAD["half a brain"][0], name="half")
    assert "half a brain" in gridded(half, "s1", GRID.model_copy(update={"shape": "note"})).notes[0]


@pytest.mark.parametrize("scale", [0.01, 0.1, 10])
def test_a_head_whose_header_is_not_in_mm_is_refused_or_noted(tmp_path: Path, scale: float) -> None:
    path = written(tmp_path, affine=AFFINE @ np.diag([scale, scale, scale, 1]))
    with pytest.raises(DataError, match=r"the head has .* ml: its voxel sizes may not be in mm"):
        gridded(path, "s1", GRID)
    noted = gridded(path, "s1", GRID.model_copy(update={"shape": "note"})).notes
    assert "not be in mm" in noted[0]
    assert not gridded(written(tmp_path), "s1", GRID).notes


def test_a_grid_with_almost_no_voxel_of_the_head_is_refused_or_noted(tmp_path: Path) -> None:
    coarse = GRID.model_copy(update={"voxel": 45.0})
    with pytest.raises(DataError, match=r"of the grid are within the head.*Set image.size and image.voxel"):
        gridded(written(tmp_path), "s1", coarse)
    noted = gridded(written(tmp_path), "s1", coarse.model_copy(update={"shape": "note"})).notes
    assert "of the grid are within the head" in noted[0]


def test_a_sheared_affine_is_resampled_or_refused(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 1.0
    path = written(tmp_path, affine=sheared)
    with pytest.raises(DataError, match=r"right angles.*grid: isotropic"):
        gridded(path, "s1", ImageSettings(size=24, grid="raw"))
    found = gridded(path, "s1", GRID)
    assert np.isfinite(found.values).all()
    assert "degrees off right angles" in found.notes[0]
    assert found.head_ml == pytest.approx(gridded(written(tmp_path, name="square"), "s1", GRID).head_ml, rel=0.05)


def test_an_image_without_orientation_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOLUME, None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "none.nii")
    with pytest.raises(DataError, match="orientation"):
        gridded(str(tmp_path / "none.nii"), "s1", GRID)
    with pytest.raises(MissingInputError):
        gridded(str(tmp_path / "nowhere.nii"), "s1", GRID)


def test_grey_levels_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, VOLUME * 1e6)
    with pytest.raises(DataError, match="normalise: zscore"):
        gridded(path, "s1", GRID.model_copy(update={"normalise": "none"}))


@pytest.mark.parametrize("change", ["invert", "contrast"])
def test_changes_of_the_head_need_a_background_of_0(change: str) -> None:
    with pytest.raises(ValueError, match=r"set image\.outside: zero"):
        ImageSettings.model_validate({"outside": "keep", "augment": {change: 0.5}})
    ImageSettings.model_validate({"augment": {change: 0.5}})


def test_the_head_of_a_grid_that_keeps_its_background_is_found(tmp_path: Path) -> None:
    keep = GRID.model_copy(update={"outside": "keep"})
    kept, zeroed = (gridded(written(tmp_path), "s1", settings) for settings in (keep, GRID))
    found = head_on(kept.values, np.array(kept.affine), keep)
    truth = zeroed.values != 0
    assert 2 * (found & truth).sum() > 0.85 * (found.sum() + truth.sum())
    np.testing.assert_array_equal(head_on(zeroed.values, np.array(zeroed.affine), GRID), truth)


def test_a_name_of_another_contrast_is_refused() -> None:
    check_contrast("/x/sub-1_T1w.nii.gz", "1", "T1w")
    check_contrast("/x/brain.nii.gz", "1", "T1w")
    with pytest.raises(DataError, match=r"another contrast.*T1w.*T2w"):
        check_contrast("/x/sub-1_T2w.nii.gz", "1", "T1w")


def test_a_grid_is_made_once_and_again_when_image_or_settings_change(tmp_path: Path) -> None:
    path, folder = written(tmp_path), tmp_path / "cache"
    one = stored_grid(path, "s1", GRID, folder)
    stamp = one.file.stat().st_mtime_ns
    np.testing.assert_array_equal(one.read(), gridded(path, "s1", GRID).values)
    assert isinstance(one.read(), np.memmap)
    again = stored_grid(path, "s1", GRID.model_copy(update={"precision": "bf16"}), folder)
    assert (again.file, again.file.stat().st_mtime_ns) == (one.file, stamp)
    assert stored_grid(path, "s1", GRID.model_copy(update={"voxel": 6.0}), folder).file != one.file
    written(tmp_path, VOLUME * 1.5)
    assert stored_grid(path, "s1", GRID, folder).file != one.file
    assert stored_grid(written(tmp_path, name="copy"), "s2", GRID, folder).file == one.file


def test_a_damaged_grid_is_named(tmp_path: Path) -> None:
    found = stored_grid(written(tmp_path), "s1", GRID, tmp_path / "cache")
    found.file.write_bytes(b"nothing")
    with pytest.raises(OutputError, match="damaged grid"):
        found.read()


@pytest.mark.parametrize("record", ["[]", "null", "{}", "{", '"text"'])
def test_a_damaged_record_of_a_grid_is_named(tmp_path: Path, record: str) -> None:
    path, folder = written(tmp_path), tmp_path / "cache"
    file = stored_grid(path, "s1", GRID, folder).file.with_suffix(".json")
    file.write_text(record)
    with pytest.raises(OutputError, match="Delete the file") as caught:
        stored_grid(path, "s1", GRID, folder)
    remedied = Path(str(caught.value.problems[0].file))
    remedied.unlink()
    np.testing.assert_array_equal(stored_grid(path, "s1", GRID, folder).read(), gridded(path, "s1", GRID).values)


def test_an_image_that_changes_within_the_resolution_of_time_stamps_has_a_new_grid(tmp_path: Path) -> None:
    path, cache = written(tmp_path), tmp_path / "cache"
    before, stamp = stored_grid(path, "s1", GRID, cache), Path(path).stat().st_mtime_ns
    written(tmp_path, VOLUME[::-1].copy())
    os.utime(path, ns=(stamp, stamp))
    after = stored_grid(path, "s1", GRID, cache)
    assert after.file != before.file
    np.testing.assert_array_equal(after.read(), gridded(path, "s1", GRID).values)


def test_an_edited_grid_is_not_used(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = stored_grid(path, "s1", GRID, tmp_path / "cache").file
    np.save(file, np.load(file) + 1)
    with pytest.raises(OutputError, match="not those that were stored") as caught:
        stored_grid(path, "s1", GRID, tmp_path / "cache")
    assert str(caught.value.problems[0].file) == str(file)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16])
def test_real_numbers_that_nibabel_scaled_to_the_range_of_integers_did_not_overflow(tmp_path: Path, kind: type) -> None:
    scaled = nib.Nifti1Image(VOLUME.astype(float), AFFINE)
    scaled.set_data_dtype(kind)
    nib.save(scaled, tmp_path / "a.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj.get_unscaled())  # type: ignore[attr-defined]
    assert (stored.min(), stored.max()) == (np.iinfo(kind).min, np.iinfo(kind).max)
    found, clean = gridded(str(tmp_path / "a.nii.gz"), "s1", GRID), gridded(written(tmp_path), "s1", GRID)
    assert not found.notes
    assert np.corrcoef(found.values.ravel(), clean.values.ravel())[0, 1] > 0.99


def test_a_volume_reaches_half_a_voxel_beyond_the_centres_of_its_outermost_voxels(tmp_path: Path) -> None:
    """A brain that fills its field of view, resized by torch as an independent implementation."""
    head = find_foreground(VOLUME, np.full(3, 5.0)).mask
    bounds = tuple(slice(b[0], b[-1] + 1) for b in (np.flatnonzero(head.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))))
    tight = np.where(head, VOLUME + 1, 0)[bounds].astype(np.float32)
    path = written(tmp_path, tight)
    kept = {"normalise": "none", "outside": "keep", "shape": "note"}
    for settings in (
        ImageSettings(size=40, grid="zoom", **kept),
        ImageSettings(size=tuple(2 * n for n in tight.shape), voxel=2.5, centre="image", **kept),
    ):
        resized = functional.interpolate(torch.tensor(tight)[None, None], size=settings.shape3, mode="trilinear")[0, 0]
        np.testing.assert_allclose(grid(path, settings), resized, atol=2e-3 * float(resized.max()))


STORED = {
    "wrapped": (VOLUME / np.quantile(VOLUME, 0.97) * 32767).astype(np.int64).astype(np.int16),
    "wrapped without a sign": (VOLUME.clip(0) / np.quantile(VOLUME, 0.97) * 255).astype(np.int64).astype(np.uint8),
    "saturated": np.minimum(VOLUME.clip(0) / np.quantile(VOLUME, 0.97) * 255, 255).astype(np.uint8),
    "wrapped at 12 bits": ((VOLUME.clip(0) / np.quantile(VOLUME, 0.97) * 4095).astype(np.int64) % 4096).astype(
        np.int16
    ),
    "12 bits": np.minimum(VOLUME.clip(0) / np.quantile(VOLUME, 0.97) * 4095, 4095).astype(np.int16),
}


@pytest.mark.parametrize("case", STORED)
@pytest.mark.parametrize("later", ["as they are", "scaled", "scaled with an offset", "as float", "in more bits"])
def test_overflowed_integers_are_found_whatever_was_done_to_them_later(tmp_path: Path, case: str, later: str) -> None:
    data = STORED[case]
    image = nib.Nifti1Image(
        {"as float": data.astype(np.float32), "in more bits": data.astype(np.int32)}.get(later, data), AFFINE
    )
    whole = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(whole[:348]), check=False)
    if later.startswith("scaled"):
        header["scl_slope"], header["scl_inter"] = 0.037, 500 if later.endswith("offset") else 0
    whole[:348] = header.binaryblock
    (tmp_path / "a.nii").write_bytes(whole)
    with pytest.raises(DataError, match="overflowed"):
        gridded(str(tmp_path / "a.nii"), "s1", GRID)


def _computed_tomography(fill: float, air: float = -1000.0) -> np.ndarray:
    """A brain of 25 to 45 units within bone, with noise and a table, and a value outside the round field of view."""
    rng = np.random.default_rng(0)
    x, y = (np.arange(48) - 23.5)[:, None, None], (np.arange(48) - 23.5)[None, :, None]
    skull = np.pad(find_foreground(VOLUME, np.full(3, 5.0)).mask, 8)
    data = np.full(skull.shape, air)
    data[:, 4:6, 6:42] = -850  # the table
    shell = ndimage.binary_dilation(skull, iterations=2)
    data[shell] = np.where(rng.random(shell.sum()) < 0.3, 900, 40)  # bone and scalp
    brain = np.pad(VOLUME, 8)[skull]
    data[skull] = 35 + 5 * (brain - brain.mean()) / brain.std()
    data += rng.normal(0, 4, data.shape)
    return np.where(np.broadcast_to(x**2 + y**2 > 23.5**2, data.shape), fill, data).astype(np.int16)


@pytest.mark.parametrize("offset", [0, 1024])
def test_computed_tomography_needs_a_window_and_keeps_the_contrast_of_the_brain_with_it(
    tmp_path: Path, offset: int
) -> None:
    """In Hounsfield units it is refused without; stored with an offset it is noted."""
    path = written(tmp_path, _computed_tomography(-1000 if offset else -3024) + np.int16(offset))
    if offset:
        assert any("set image.window?" in note for note in gridded(path, "s1", GRID).notes)
    else:
        with pytest.raises(DataError, match=r"Hounsfield.*Set image.window"):
            gridded(path, "s1", GRID)
    found = gridded(path, "s1", GRID.model_copy(update={"window": (offset, offset + 80.0)}))
    whole = (VOLUME[BRAIN] != 0).sum() * 0.125
    assert whole < found.head_ml < 3.2 * whole  # the brain, within bone
    brain = gridded(written(tmp_path, name="mr"), "s1", GRID).values
    there = ndimage.binary_erosion(brain != 0, iterations=2)  # without the edge that is averaged with bone
    assert np.corrcoef(found.values[there], brain[there])[0, 1] > 0.8
    with pytest.raises(DataError, match=r"on one side of image.window"):
        gridded(path, "s1", GRID.model_copy(update={"window": (5000.0, 5080.0)}))


@pytest.mark.parametrize("window", [[80, 0], [5, 5], [0, float("inf")]])
def test_a_window_is_a_lower_and_a_higher_number(window: list[float]) -> None:
    with pytest.raises(ValueError, match=r"the lower one first|finite"):
        ImageSettings.model_validate({"window": window})


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_cut_off_by_the_border_of_the_image_is_noted_or_refused(tmp_path: Path, axis: int, sign: int) -> None:
    """Cut off by a tenth: noted. By a third: refused."""
    brain = stripped(0)
    at = np.flatnonzero(BRAIN.any(axis=tuple(i for i in range(3) if i != axis)))
    for share, refused in ((0.17, False), (0.35, True)):
        n = round(share * len(at))
        cut = np.take(brain, range(at[0] + n, 32) if sign < 0 else range(at[-1] - n + 1), axis=axis)
        path = written(tmp_path, cut)
        if refused:
            with pytest.raises(DataError, match=r"cut off|half a brain"):
                gridded(path, "s1", GRID)
        else:
            side = (("left", "right"), ("back", "front"), ("bottom", "top"))[axis][sign > 0]
            assert gridded(path, "s1", GRID).notes == (f"the head ends abruptly at the {side}: it may be cut off",)


@pytest.mark.parametrize("suffix", ["hdr", "img"])
def test_a_pair_of_files_is_refused_with_the_way_to_one_file(tmp_path: Path, suffix: str) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    with pytest.raises(DataError, match=r"Save the pair as one file") as caught:
        gridded(str(tmp_path / f"a.{suffix}"), "s1", GRID)
    remedy = str(caught.value.problems[0].remedy).split(": ")[1].rstrip(".")
    names = {"nibabel": nib}
    exec(remedy.replace("IN", repr(str(tmp_path / "a.img"))).replace("'OUT", repr(str(tmp_path))[:-1] + "/OUT"), names)
    np.testing.assert_allclose(grid(str(tmp_path / "OUT.nii.gz")), grid(written(tmp_path)), atol=0.01)


@pytest.mark.parametrize("kind", [">f4", ">i2", "<f8", "<i4", ">u2"])
def test_byte_order_and_type_do_not_matter(tmp_path: Path, kind: str) -> None:
    data = np.rint(1000 * VOLUME.clip(0)).astype(kind)
    nib.save(
        nib.Nifti1Image(data, AFFINE, nib.Nifti1Header(endianness="<" if kind[0] == "<" else ">")), tmp_path / "b.nii"
    )
    plain = np.rint(1000 * VOLUME.clip(0)).astype(np.float32)
    np.testing.assert_allclose(grid(str(tmp_path / "b.nii")), grid(written(tmp_path, plain)), atol=0.01)
