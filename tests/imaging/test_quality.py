"""Every planted fault of diffusion data is reported; clean data cause no warning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.shrinkage import displacement, shrunk
from connectome_tl.imaging.quality.noise import neighbour_correlation, noise_measures
from connectome_tl.imaging.quality.record import scan_quality, usable_volumes
from connectome_tl.imaging.quality.signal_check import check_signal
from connectome_tl.imaging.quality.volumes import check_slices, empty_volumes
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.read.dwi_files import write_dwi
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head, random_poses

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
N = sum(count for _, count in SMALL.shells)


@pytest.fixture(scope="module")
def clean() -> Dwi:
    head = make_head(make_anatomy(SMALL), seed=1)
    return Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)


def said(dwi: Dwi, poses: np.ndarray | None = None) -> tuple[str, ...]:
    return check_slices(dwi, poses).warnings(np.arange(dwi.n_volumes))


def changed(dwi: Dwi, change: Callable[[np.ndarray], None]) -> Dwi:
    data = dwi.data.copy()
    change(data)
    return replace(dwi, data=data)


def rolled(dwi: Dwi, shift: int) -> Dwi:
    return replace(dwi, bvals=np.roll(dwi.bvals, shift), directions=np.roll(dwi.directions, shift, axis=0))


def only(dwi: Dwi, volumes: np.ndarray) -> Dwi:
    return replace(dwi, data=dwi.data[..., volumes], bvals=dwi.bvals[volumes], directions=dwi.directions[volumes])


def test_clean_data_are_not_complained_of(clean: Dwi) -> None:
    kept, empty, check = usable_volumes(clean)
    quality = scan_quality(kept, empty, check, None)
    assert kept is clean
    assert quality.warnings == ()
    assert quality.numbers["n_volumes_flagged"] == quality.numbers["share_slices_lost"] == 0
    assert "mean_fd" not in quality.numbers


def test_clean_data_in_any_order_and_of_one_shell_are_not_complained_of(clean: Dwi) -> None:
    shuffled = np.random.default_rng(0).permutation(N)
    for volumes in (shuffled, np.flatnonzero(np.isin(clean.bvals, (0, 1000)))):
        dwi = only(clean, volumes)
        check = check_signal(dwi, empty_volumes(dwi))
        assert (check.problem, check.warnings, said(dwi)) == (None, (), ())


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_motion_alone_is_no_dropout(size: float) -> None:
    poses = random_poses(N, size, seed=5)
    head = make_head(make_anatomy(SMALL), seed=5, poses=poses)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    assert check_signal(dwi, empty_volumes(dwi)).problem is None
    assert said(dwi, poses) == ()


def test_a_dropout_is_named_by_volume_and_slice_in_every_shell(clean: Dwi) -> None:
    def drop(data: np.ndarray) -> None:
        data[:, :, 10:12, 20] *= 0.3
        data[:, :, 12, 60] *= 0.2
        data[:, :, 8, 2] *= 0.5

    assert said(changed(clean, drop)) == (
        "signal dropout in volume 3 (slice 9), volume 21 (slice 11, 12), volume 61 (slice 13)",
    )


@pytest.mark.parametrize(
    ("volumes", "z", "factor", "kind"),
    [
        (range(20, 24), 9, 0.3, "signal dropout"),
        (range(20, 24), 9, 0.0, "signal dropout"),
        ((3, 9, 20, 31, 45, 60), 9, 0.3, "signal dropout"),
        ((20,), slice(None), 100.0, "too bright"),
    ],
)
def test_outliers_make_no_others(clean: Dwi, volumes: Sequence[int], z: int | slice, factor: float, kind: str) -> None:
    data = clean.data.copy()
    data[:, :, z, list(volumes)] *= factor
    where = "" if factor == 100.0 else " (slice 10)"
    assert said(replace(clean, data=data)) == (f"{kind} in " + ", ".join(f"volume {v + 1}{where}" for v in volumes),)


@pytest.mark.parametrize("every", [3, 4])
@pytest.mark.parametrize("factor", [0.0, 0.3])
def test_a_slice_that_many_volumes_lose_is_named_in_these_only(every: int, factor: float, clean: Dwi) -> None:
    data = clean.data.copy()
    data[:, :, 9, ::every] *= factor
    found = check_slices(replace(clean, data=data))
    assert list(np.flatnonzero(found.lost[:, 9])) == list(range(0, N, every))
    assert found.lost.sum() == found.lost[:, 9].sum()
    assert not (found.gained | found.rough).any()


def test_a_voxel_far_too_bright_makes_no_outlier_of_another_volume(clean: Dwi) -> None:
    data = clean.data.copy()
    data[12, 12, 11, 20] = 100 * data.max()
    assert said(replace(clean, data=data)) == ("too bright in volume 21 (slice 12)",)


def test_stripes_of_a_spike_are_named(clean: Dwi) -> None:
    def strike(data: np.ndarray) -> None:
        data[:, :, 11, 25] += 200 * np.cos(1.9 * np.arange(data.shape[0]))[:, None]

    assert said(changed(clean, strike)) == ("stripes or spikes in volume 26 (slice 12)",)


def test_a_volume_that_is_too_bright_is_named(clean: Dwi) -> None:
    bright = changed(clean, lambda data: np.multiply(data[..., 30], 3, out=data[..., 30]))
    assert "too bright in volume 31" in said(bright)
    check = check_signal(bright, empty_volumes(bright))
    assert check.problem is None
    assert "volume 31 is brighter than expected at b = 1000: 3 times" in check.warnings


def test_volumes_that_hold_nothing_are_named_and_left_out(clean: Dwi) -> None:
    def blank(data: np.ndarray) -> None:
        data[..., [30, 50]] = 0

    kept, empty, check = usable_volumes(changed(clean, blank))
    assert kept.n_volumes == N - 2
    quality = scan_quality(kept, empty, check, None)
    assert quality.warnings == ("2 volumes are empty and left out: 31, 51",)
    assert list(quality.volumes["left_out"].to_numpy().nonzero()[0] + 1) == [31, 51]
    assert len(quality.volumes) == N
    with pytest.raises(DataError, match=r"too few volumes.*empty: 1, 2, "):
        usable_volumes(changed(clean, lambda data: data.__imul__(0)))


@pytest.mark.parametrize("shift", [-5, 3])
def test_shifts_of_several_volumes_are_named_by_their_number(shift: int, clean: Dwi) -> None:
    single = only(clean, np.flatnonzero(np.isin(clean.bvals, (0, 1000))))
    interleaved = only(clean, np.r_[0, 6:20, 1, 20:40, 2, 40:60, 3, 60:N])
    for dwi in (clean, single, interleaved):
        with pytest.raises(DataError, match=f"table is shifted by {abs(shift)} volumes"):
            usable_volumes(rolled(dwi, shift))
    directions = clean.directions.copy()
    directions[~clean.is_b0] = np.roll(directions[~clean.is_b0], shift, axis=0)
    with pytest.raises(DataError, match=f"b-vectors are shifted by {abs(shift)} volumes"):
        usable_volumes(replace(clean, directions=directions))


@pytest.mark.parametrize("shift", [-2, -1, 1])
def test_a_table_shifted_against_the_images_is_refused(shift: int, clean: Dwi) -> None:
    single = only(clean, np.flatnonzero(np.isin(clean.bvals, (0, 1000))))
    for dwi in (clean, single):
        with pytest.raises(DataError, match=f"shifted by {abs(shift)} volume"):
            usable_volumes(rolled(dwi, shift))
    _, _, check = usable_volumes(rolled(clean, shift), refuse=False)
    assert check.problem is not None


@pytest.fixture(scope="module")
def single() -> Callable[[float, int], Dwi]:
    """A scan of four unweighted volumes and one shell."""

    def make(bval: float, count: int) -> Dwi:
        settings = replace(SMALL, shells=((0.0, 4), (bval, count)))
        head = make_head(make_anatomy(settings), seed=3)
        return Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)

    return make


def test_a_first_volume_that_is_lost_is_a_shift_and_a_dark_unweighted_volume_is_none(
    single: Callable[[float, int], Dwi],
) -> None:
    dwi = single(1000.0, 30)
    order = np.append(np.arange(4), 4 + np.random.default_rng(1).permutation(30))
    dwi = only(dwi, order)
    lost = replace(dwi, data=dwi.data[..., 1:], bvals=dwi.bvals[:-1], directions=dwi.directions[:-1])
    with pytest.raises(DataError, match="gradient table is shifted by 1 volume"):
        usable_volumes(lost)
    for factor in (0.28, 0.5):
        dark = changed(dwi, lambda data, factor=factor: np.multiply(data[..., 3], factor, out=data[..., 3]))
        check = check_signal(dark, empty_volumes(dark))
        assert check.problem is None
        assert check.warnings[0].startswith("volume 4 is darker than expected at b = 0")


def test_the_only_volume_of_a_b_value_is_not_judged(single: Callable[[float, int], Dwi]) -> None:
    dwi = only(single(700.0, 12), np.arange(3, 16))
    for b0 in (0.0, 5.0):
        found = check_slices(replace(dwi, bvals=np.where(dwi.is_b0, b0, dwi.bvals + np.arange(13) % 3)))
        assert np.isnan(found.ratio[0]).all()
        assert np.isnan(found.correlation[0])
        assert found.warnings(np.arange(13)) == ()
        assert found.ratio[1:][np.isfinite(found.ratio[1:])] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_lost_slices_in_few_volumes_are_no_shift_of_the_directions(
    seed: int, single: Callable[[float, int], Dwi]
) -> None:
    dwi = single(700.0, 12)
    lost = np.random.default_rng(seed).choice(np.arange(4, 16), 3, replace=False)
    data = dwi.data.copy()
    for z in (7, 9, 11):
        data[:, :, z, lost] *= 0.3
    check = check_signal(replace(dwi, data=data), np.zeros(16, dtype=bool))
    assert check.problem is None
    assert not [warning for warning in check.warnings if "b-vectors" in warning]


@pytest.mark.parametrize(("bval", "factor"), [(1000.0, 10.0), (1000.0, 0.1001), (3000.0, 1 / 3)])
def test_b_values_that_no_brain_could_have_are_noted(
    bval: float, factor: float, single: Callable[[float, int], Dwi]
) -> None:
    dwi = single(bval, 12)
    for table, noted in ((dwi, 0), (replace(dwi, bvals=dwi.bvals * factor), 1)):
        warnings = check_signal(table, empty_volumes(table)).warnings
        assert sum("mm2/s, in brains" in warning for warning in warnings) == noted


@pytest.mark.parametrize("shift", [-1, 1])
def test_vectors_alone_shifted_are_refused(shift: int, clean: Dwi) -> None:
    directions = clean.directions.copy()
    weighted = ~clean.is_b0
    directions[weighted] = np.roll(directions[weighted], shift, axis=0)
    with pytest.raises(DataError, match="b-vectors are shifted by 1 volume"):
        usable_volumes(replace(clean, directions=directions))


@pytest.mark.parametrize(
    ("bval", "n_unweighted", "n_weighted"), [(1000.0, 1, 128), (2000.0, 6, 40), (3000.0, 6, 40), (3000.0, 1, 128)]
)
def test_shifts_are_refused_whatever_the_b_value_and_the_number_of_volumes(
    bval: float, n_unweighted: int, n_weighted: int
) -> None:
    settings = replace(SMALL, shells=((0.0, n_unweighted), (bval, n_weighted)))
    head = make_head(make_anatomy(settings), seed=3)
    # Neighbours in the phantom's tables are alike, unlike those of scanners.
    order = np.append(0, 1 + np.random.default_rng(1).permutation(n_unweighted + n_weighted - 1))
    dwi = only(Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask), order)
    check = check_signal(dwi, empty_volumes(dwi))
    assert (check.problem, check.warnings) == (None, ())
    for shift in (-2, 1):
        with pytest.raises(DataError, match=f"gradient table is shifted by {abs(shift)} volume"):
            usable_volumes(rolled(dwi, shift))
        directions = dwi.directions.copy()
        directions[~dwi.is_b0] = np.roll(directions[~dwi.is_b0], shift, axis=0)
        with pytest.raises(DataError, match=f"b-vectors are shifted by {abs(shift)} volume"):
            usable_volumes(replace(dwi, directions=directions))


def ball(directions: np.ndarray, anisotropy: float, seed: int, at: np.ndarray, gain: np.ndarray) -> Dwi:
    """A head of tensors that point away from a corner, centred at `at`, (n_volumes, 3) voxels, in each volume."""
    places = np.indices((20, 20, 20)).reshape(3, -1).T - 9.5
    radius = np.linalg.norm((places[:, None] - at) / [8, 9, 7], axis=2)
    head = 1 / (1 + np.exp(np.clip(16 * (radius - 1), -40, 40)))
    along = (places + 3) / np.linalg.norm(places + 3, axis=1)[:, None]
    bvals = np.where(directions.any(axis=1), 1000.0, 0.0)
    diffusivity = 1.2e-3 + anisotropy * ((along @ directions.T) ** 2 - 1 / 3)
    clean = 1000 * head * gain * np.exp(-bvals * diffusivity)
    data = np.abs(clean + np.random.default_rng(seed).normal(0, 25, clean.shape)).reshape(20, 20, 20, -1)
    mask = (head[:, 0] > 0.5).reshape(20, 20, 20)
    return Dwi(data.astype(np.float32), np.eye(4), bvals, directions, mask)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["move", "dropout", "gain"])
def test_correct_tables_of_moving_heads_and_of_lost_signal_are_not_refused(fault: str) -> None:
    anisotropy = {"move": 0.4e-3, "dropout": 0.2e-3, "gain": 0.0}[fault]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        directions = rng.normal(size=(34, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        directions[:2] = 0
        at, gain = np.zeros((34, 3)), np.ones(34)
        if fault == "move":
            moved = rng.normal(size=3)
            at[rng.integers(6, 28) :] = 3 * moved / np.linalg.norm(moved)
        elif fault == "dropout":
            gain[rng.choice(np.arange(2, 34), 3, replace=False)] = 0.3, 0.5, 0.7
        else:
            gain[2:] = np.exp(rng.normal(0, 0.05, 32))
        dwi = ball(directions, anisotropy, seed, at, gain)
        check = check_signal(dwi, empty_volumes(dwi))
        assert check.problem is None, seed
        assert not [warning for warning in check.warnings if "b-vectors" in warning], seed


@pytest.mark.parametrize("seed", range(5))
def test_voxels_that_are_all_the_same_tell_nothing_of_the_directions(seed: int) -> None:
    directions = np.random.default_rng(seed).normal(size=(34, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    directions[0] = 0
    bvals = np.append(0.0, np.full(33, 1000.0))
    signal = 1000 * np.exp(-bvals * (0.5e-3 + 1e-3 * directions[:, 0] ** 2))
    data = np.broadcast_to(signal, (10, 10, 10, 34)).astype(np.float32)
    dwi = Dwi(data, np.eye(4), bvals, directions, np.ones((10, 10, 10), dtype=bool))
    check = check_signal(dwi, np.zeros(34, dtype=bool))
    assert (check.problem, check.warnings) == (None, ())


def test_a_shift_across_shells_is_found_by_its_size(clean: Dwi) -> None:
    order = np.append(0, 1 + np.random.default_rng(1).permutation(N - 1))  # shells of b = 400 to 2600, interleaved
    dwi = only(clean, order)
    for shift in (-2, 1):
        directions = dwi.directions.copy()
        directions[~dwi.is_b0] = np.roll(directions[~dwi.is_b0], shift, axis=0)
        with pytest.raises(DataError, match=f"b-vectors are shifted by {abs(shift)} volume"):
            usable_volumes(replace(dwi, directions=directions))


def test_relabelled_shells_are_refused(clean: Dwi) -> None:
    all_one = replace(clean, bvals=np.where(clean.bvals > 0, 1000.0, 0.0))
    with pytest.raises(DataError, match=r"b = 1000: 32 at .*, 24 at .*, 10 at"):
        usable_volumes(all_one)
    swapped = replace(clean, bvals=np.select([clean.bvals == 400, clean.bvals == 1000], [1000, 400], clean.bvals))
    with pytest.raises(DataError, match="the signal rises with the b-value"):
        usable_volumes(swapped)


def test_noise_of_known_size_gives_its_signal_to_noise(clean: Dwi) -> None:
    found = noise_measures(clean, np.zeros(N, dtype=bool))
    assert found["b0_snr"] == pytest.approx(SMALL.snr, rel=0.1)
    assert found["snr_b400"] > found["snr_b1000"] > found["snr_b2600"]
    alike = neighbour_correlation(clean, np.zeros(N, dtype=bool))
    assert np.isnan(alike[:6]).all()
    noisy = replace(clean, data=clean.data + np.random.default_rng(0).normal(0, 60, clean.data.shape))
    assert np.nanmean(neighbour_correlation(noisy, np.zeros(N, dtype=bool))) < 0.7 * np.nanmean(alike)


def test_poses_within_their_noise_are_at_rest_and_a_jump_is_kept() -> None:
    rng = np.random.default_rng(0)
    noise = np.tile(0.3**2 * np.eye(6), (60, 1, 1))
    values = rng.normal(0, 0.3, (60, 6))
    still = displacement(*shrunk(values, noise))
    assert np.isnan(still[0])
    assert still[1:].mean() < 0.1
    values[30, 0] += 5
    jumped = displacement(*shrunk(values, noise))
    assert 4 < jumped[30] < 7  # the jump, and the change due to five more noisy numbers


def planted(steps: dict[int, tuple[float, int]]) -> np.ndarray:
    """Positions of 75 volumes, (75, 6), with lasting moves: millimetres and axis by volume."""
    values = np.zeros((75, 6))
    for volume, (size, axis) in steps.items():
        values[volume:, axis] += size
    return values


@pytest.mark.parametrize(
    "true",
    [
        pytest.param(planted({40: (3.0, 0)}), id="one lasting move"),
        pytest.param(planted({25: (3.0, 0), 50: (-3.0, 2)}), id="two lasting moves"),
        pytest.param(planted({40: (3.0, 0), 41: (-3.0, 0)}), id="spike"),
        pytest.param(planted({30: (5.0, 1), 31: (-5.0, 1), 50: (2.0, 4)}), id="spike and lasting move"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_move_or_a_spike_makes_no_motion_of_the_noise_of_other_volumes(true: np.ndarray, seed: int) -> None:
    sd = np.tile([0.06, 0.06, 0.3], 25)  # of shells with much and with little signal
    values = true + np.random.default_rng(seed).normal(size=true.shape) * sd[:, None]
    found = displacement(*shrunk(values, sd[:, None, None] ** 2 * np.eye(6)))
    moved = np.flatnonzero(np.abs(np.diff(true, axis=0)).sum(axis=1)) + 1
    wanted = displacement(true, np.zeros_like(true))
    assert np.nanmean(found) == pytest.approx(np.nanmean(wanted), abs=0.05)
    assert found[moved] == pytest.approx(wanted[moved], abs=1.0)  # with noise of six numbers
    assert np.nanmean(np.delete(found, moved)) < 0.03


def test_a_drift_is_followed() -> None:
    true = np.outer(np.linspace(0, 6, 75), [1.0, 0, 0, 0.5, 0, 0])
    values = true + np.random.default_rng(0).normal(0, 0.1, true.shape)
    means, _ = shrunk(values, np.tile(0.1**2 * np.eye(6), (75, 1, 1)))
    assert np.abs(means - true).mean() < 0.05


def test_between_runs_the_head_may_move_and_nothing_is_counted() -> None:
    runs = np.repeat([0, 1, 2], [40, 34, 1])
    true = planted({40: (6.0, 0), 74: (2.0, 1)})
    values = true + np.random.default_rng(0).normal(0, 0.05, true.shape)
    found = displacement(*shrunk(values, np.tile(0.05**2 * np.eye(6), (75, 1, 1)), runs), runs)
    assert list(np.flatnonzero(np.isnan(found))) == [0, 40, 74]
    assert np.nanmax(found) < 0.1


@pytest.mark.parametrize("handedness", [-1.0, 1.0])
def test_written_diffusion_data_are_read_back_as_they_were(handedness: float, clean: Dwi, tmp_path: Path) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = 2.5 * turn @ np.diag([handedness * np.linalg.det(turn), 1, 1])
    image, bval, bvec = write_dwi(tmp_path, "sub-01_desc-preproc", replace(clean, affine=affine))
    assert image.name == "sub-01_desc-preproc_dwi.nii.gz"
    again = read_dwi(image, bval, bvec)
    np.testing.assert_array_equal(again.data, clean.data)
    np.testing.assert_array_equal(again.bvals, clean.bvals)
    np.testing.assert_allclose(again.directions, clean.directions, atol=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("name", ["msmt_dwi", "dwi", "SIFT_phantom_dwi"])
def test_real_tables_are_refused_only_if_shifted(name: str, shared_data: Path) -> None:
    stem = shared_data / "mrtrix_test_data" / "nii" / name
    real = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
    assert usable_volumes(real)[0] is real
    with pytest.raises(DataError, match="shifted"):
        usable_volumes(rolled(real, 1))
    directions = real.directions.copy()
    directions[~real.is_b0] = np.roll(directions[~real.is_b0], 1, axis=0)
    with pytest.raises(DataError, match="b-vectors are shifted"):
        usable_volumes(replace(real, directions=directions))
