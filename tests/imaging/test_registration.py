"""Labels transferred by a known warp, in another contrast; a bad fit is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError, OutputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.choice import Metric
from connectome_tl.imaging.register.gate import check
from connectome_tl.imaging.register.registration import register, register_affine
from connectome_tl.imaging.register.template_fit import fit_template
from connectome_tl.imaging.register.warps import Warp, carry_labels, compose
from connectome_tl.settings.imaging import RegistrationSettings

from .heads import AFFINE, bend, head

SETTINGS = RegistrationSettings(affine_mm=4.0, nonlinear_mm=2.0, nonlinear_steps=(50, 20, 5))


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    numbers = np.unique(b[b > 0])
    return float(np.mean([2 * ((a == n) & (b == n)).sum() / max((a == n).sum() + (b == n).sum(), 1) for n in numbers]))


@pytest.mark.slow
def test_labels_follow_a_known_warp_in_another_contrast() -> None:
    image, labels = head()
    shift = bend(4.5)
    assert np.linalg.norm(shift, axis=-1).mean() > 5
    moved, truth = head(shift)
    rng = np.random.default_rng(1)
    other = np.where(moved > 0, 1500 - moved, 0) + rng.normal(0, 10, moved.shape)  # inverted, noisy
    fixed, template = Volume(other, AFFINE), Volume(image, AFFINE)
    atlas = Volume(labels, AFFINE)
    before = mean_dice(labels, truth)
    affine = mean_dice(carry_labels(register_affine(fixed, template, SETTINGS), atlas, fixed).data, truth)
    carried = carry_labels(register(fixed, template, SETTINGS, engine="dipy"), atlas, fixed)
    after = mean_dice(carried.data, truth)
    assert before < 0.6
    assert after > max(0.8, affine)
    assert set(np.unique(carried.data)) == set(np.unique(labels))
    gate = check(
        carried,
        atlas,
        moved > 0,
        carry_labels(Warp(np.eye(4)), Volume((image > 0).astype(np.int32), AFFINE), fixed).data > 0,
        SETTINGS,
    )
    assert gate.lost_labels == ()


@pytest.mark.slow
def test_ants_carries_the_same_labels_and_gives_the_same_map_twice() -> None:
    pytest.importorskip("ants")
    image, labels = head()
    moved, truth = head(bend(4.5))
    other = np.where(moved > 0, 1500 - moved, 0) + np.random.default_rng(1).normal(0, 10, moved.shape)
    fixed, template = Volume(other, AFFINE), Volume(image, AFFINE)
    first, second = (register(fixed, template, SETTINGS, engine="ants") for _ in range(2))
    np.testing.assert_array_equal(first.places, second.places)
    assert mean_dice(labels, truth) < 0.6
    assert mean_dice(carry_labels(first, Volume(labels, AFFINE), fixed).data, truth) > 0.7
    far = Volume(np.zeros((4, 4, 4)), np.array([[2.0, 0, 0, 400], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(carry_labels(first, Volume(labels, AFFINE), far).data, 0)  # no map, but affine


@pytest.mark.slow
def test_local_correlation_of_ants_carries_labels_within_one_contrast() -> None:
    pytest.importorskip("ants")
    image, labels = head()
    moved, truth = head(bend(4.5))
    fixed = Volume(np.where(moved > 0, moved, 0) + np.random.default_rng(1).normal(0, 10, moved.shape), AFFINE)
    mutual, local = (
        register(fixed, Volume(image, AFFINE), SETTINGS, engine="ants", metric=metric) for metric in get_args(Metric)
    )
    for warp in (mutual, local):
        assert mean_dice(carry_labels(warp, Volume(labels, AFFINE), fixed).data, truth) > 0.7
    assert mutual.places is not None
    assert local.places is not None
    assert not np.array_equal(mutual.places, local.places)


def test_a_missing_engine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ants", None)
    image = Volume(np.ones((4, 4, 4)), AFFINE)
    with pytest.raises(MissingInputError, match="antspyx"):
        register(image, image, SETTINGS, engine="ants")


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "metric"), [("dipy", "mutual"), ("ants", "mutual"), ("ants", "local")])
def test_a_lesion_left_out_of_the_cost_does_no_harm_outside_it(engine: Literal["dipy", "ants"], metric: Metric) -> None:
    """A large cyst of unique brightness that displaces the surrounding tissue."""
    if engine == "ants":
        pytest.importorskip("ants")
    settings = SETTINGS.model_copy(update={"nonlinear_mm": {"dipy": 2.0, "ants": 3.0}[engine]})
    image, labels = head()
    moved, truth = head(bend(3.0))
    grid = np.stack(np.meshgrid(*(2.0 * np.arange(n) for n in moved.shape), indexing="ij"), axis=-1)
    lesion = (((grid - [30.0, 62, 48]) / (17, 19, 15)) ** 2).sum(axis=-1) < 1
    sick = np.where(lesion, 2500.0, moved)
    template, atlas = Volume(image, AFFINE), Volume(labels, AFFINE)

    def outside(fixed: np.ndarray, mask: np.ndarray | None) -> float:
        target = Volume(fixed, AFFINE)
        warp = register(target, template, settings, engine=engine, metric=metric, lesion=mask)
        carried = carry_labels(warp, atlas, target).data
        return mean_dice(np.where(lesion, 0, carried), np.where(lesion, 0, truth))

    healthy, masked, blind = outside(moved, None), outside(sick, lesion), outside(sick, None)
    assert masked > healthy - 0.01
    assert masked > blind + 0.01


def test_too_coarse_a_grid_is_said() -> None:
    image = Volume(head()[0], AFFINE, "sub-03")
    with pytest.raises(DataError, match=r"sub-03.*finer registration\.nonlinear_mm"):
        register(image, image, SETTINGS.model_copy(update={"nonlinear_mm": 12.0}), engine="dipy")


def test_affine_maps_compose() -> None:
    a, b = np.eye(4), np.diag([2.0, 1, 1, 1])
    a[:3, 3] = (1, 2, 3)
    np.testing.assert_allclose(compose(Warp(a), Warp(b)).affine @ [0, 0, 0, 1], [2, 2, 3, 1])


@pytest.mark.parametrize(
    ("fault", "message"), [("shift", "does not overlap"), ("lost", "labels are lost"), ("grown", "fraction differs")]
)
def test_a_bad_fit_is_refused(fault: str, message: str) -> None:
    image, labels = head()
    template, brain = Volume(labels, AFFINE), image > 0
    bad, covered = labels.copy(), brain
    if fault == "shift":
        covered = np.roll(brain, 20, axis=0)
    elif fault == "lost":
        bad[bad > 1990] = 0
    else:
        bad[brain & (bad == 0)] = 11
    with pytest.raises(DataError, match=message) as caught:
        check(Volume(bad, AFFINE, "sub-05"), template, brain, covered, SETTINGS)
    assert "sub-05" in str(caught.value)


@pytest.mark.slow
def test_an_image_of_noise_in_the_shape_of_a_brain_is_stopped_at_the_gate() -> None:
    image, labels = head()
    noise = np.where(image > 0, np.abs(np.random.default_rng(0).normal(500, 150, image.shape)), 0)
    subject, template = Volume(noise, AFFINE, "sub-07"), Volume(image, AFFINE)
    fit = fit_template(subject, template, SETTINGS.model_copy(update={"nonlinear_steps": (20, 10, 5)}))
    assert fit.likeness < SETTINGS.min_likeness
    carried = carry_labels(fit.warp, Volume(labels, AFFINE), subject)
    with pytest.raises(DataError, match=r"sub-07.*does not match the subject's image"):
        check(carried, Volume(labels, AFFINE), image > 0, image > 0, SETTINGS, fit)


@pytest.mark.slow
def test_a_wrong_image_is_stopped_at_the_gate() -> None:
    """A long thin object instead of the subject: the result of the registration is not used."""
    image, labels = head()
    grid = np.stack(np.meshgrid(*(2.0 * np.arange(n) for n in image.shape), indexing="ij"), axis=-1)
    arm = (((grid - [47.0, 55, 43]) / (12, 54, 9)) ** 2).sum(axis=-1) < 1
    wrong = Volume(np.where(arm, 400 + 60 * np.sin(grid[..., 1] / 5), 0.0), AFFINE, "sub-09")
    template, atlas = Volume(image, AFFINE), Volume(labels, AFFINE)
    warp = register(wrong, template, SETTINGS, engine="dipy")
    carried = carry_labels(warp, atlas, wrong)
    covered = carry_labels(warp, Volume((image > 0).astype(np.int32), AFFINE), wrong).data > 0
    with pytest.raises(DataError, match="sub-09"):
        check(carried, atlas, arm, covered, SETTINGS)


@pytest.mark.parametrize("ending", ["Warp.nii.gz", ".mat"])
def test_a_transform_that_ants_could_not_write_to_its_end_is_refused(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ants = pytest.importorskip("ants")
    real = ants.registration

    def on_a_full_disk(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        (cut,) = (Path(name) for name in found["fwdtransforms"] if name.endswith(ending))
        cut.write_bytes(cut.read_bytes()[: 400 if ending == "Warp.nii.gz" else 0])
        return found

    monkeypatch.setattr(ants, "registration", on_a_full_disk)
    image = Volume(head()[0], AFFINE)
    with pytest.raises(OutputError, match=r"could not write its temporary files.*TMPDIR"):
        register(image, image, SETTINGS.model_copy(update={"nonlinear_steps": (1, 0, 0)}), engine="ants")
