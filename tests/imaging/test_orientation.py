"""Heads in another orientation than their headers are detected and rotated; detectable mirror images are reported."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register import orientation
from connectome_tl.imaging.register.orientation import all_starts, all_turns, find_orientation, turned_about
from connectome_tl.imaging.register.template_fit import fit_template
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels, compose
from connectome_tl.settings.imaging import RegistrationSettings

from .heads import AFFINE, bend, brain, head

QUICK = RegistrationSettings(
    engine="dipy", bias_field="none", affine_mm=5.0, nonlinear_mm=2.6, nonlinear_steps=(10, 5, 0)
)


TURNS = [all_turns()[k] for k in (0, 5, 9, 17, 23)]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rotations on a coarser grid, to save time."""
    monkeypatch.setattr(orientation, "all_turns", lambda: TURNS)
    monkeypatch.setattr(orientation, "_ACROSS", 14)
    monkeypatch.setattr(orientation, "_STEPS", 20)
    monkeypatch.setattr(orientation, "_TRIED", 2)


def turned(image: Volume, turn: np.ndarray) -> Volume:
    """The image with a header that is wrong by a rotation: the header's direction `turn.T @ v` points along v."""
    return Volume(image.data, np.linalg.inv(turned_about(turn, image)) @ image.affine)


def test_there_are_24_turns_and_the_first_changes_nothing() -> None:
    turns = np.array(all_turns())
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape))
    np.testing.assert_array_equal(turns[0], np.eye(3))
    assert len(np.unique(turns.reshape(24, 9), axis=0)) == 24


def between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angles in degrees between rotations, (..., 3, 3) each."""
    trace = np.einsum("...ij,...ij->...", one, other)
    return np.asarray(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def test_any_rotation_is_within_32_degrees_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orientation, "all_turns", all_turns)
    starts = np.array(all_starts())
    assert len(np.unique(starts.round(6).reshape(-1, 9), axis=0)) == 192
    drawn = Rotation.random(2000, random_state=0).as_matrix()
    away = between(drawn[:, None], starts).min(axis=1)
    assert away.max() < 32
    assert np.median(away) < 22


@pytest.mark.slow
@pytest.mark.parametrize("vector", [(0, 0, 42), (65, 0, 0), (40, 40, 40)])
def test_a_tilted_head_is_found_and_not_taken_for_a_mirror_image(
    vector: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orientation, "all_turns", all_turns)
    tilt = Rotation.from_rotvec(vector, degrees=True).as_matrix()
    found = find_orientation(turned(brain(head(bend(2.0))[0]), tilt), brain(head()[0]))
    assert between(found.turn, tilt) < 32
    assert not found.is_mirrored


@pytest.mark.slow
def test_a_turned_head_is_found_and_said() -> None:
    turn = TURNS[2]
    template = brain(head()[0])
    found = find_orientation(turned(brain(head(bend(2.0))[0]), turn), template)
    np.testing.assert_array_equal(found.turn, turn)
    assert found.searched
    assert found.turned
    assert found.likeness > found.plain + 0.2
    assert not found.is_mirrored
    assert found.record()["Turn"] == turn.astype(int).tolist()


def test_where_the_axes_really_point_is_said_in_words() -> None:
    up = orientation.Orientation(np.diag([1.0, -1.0, -1.0]), 0.5, 0.1, 0.1, searched=True)
    assert up.said() == "the header's right is right, front is back, top is bottom"
    quarter = orientation.Orientation(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), 0.5, 0.1, 0.1, searched=True)
    assert quarter.said() == "the header's right is front, front is left, top is top"
    tilt = Rotation.from_rotvec([0, 45, 0], degrees=True).as_matrix()
    assert orientation.Orientation(tilt, 0.5, 0.1, 0.1, searched=True).said() == "by about 45 degrees"


def test_a_head_as_its_header_says_costs_two_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[np.ndarray] = []
    real = orientation._affine_from

    def counted(fixed: Volume, moving: Volume, turn: np.ndarray) -> np.ndarray:
        starts.append(turn)
        return real(fixed, moving, turn)

    monkeypatch.setattr(orientation, "_affine_from", counted)
    monkeypatch.setattr(orientation, "_ACROSS", 20)
    found = find_orientation(brain(head(bend(1.0))[0]), brain(head()[0]))
    assert not found.searched
    assert not found.turned
    assert [round(np.linalg.det(turn)) for turn in starts] == [1, -1]


@pytest.mark.slow
def test_labels_of_a_turned_head_lie_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = np.diag([-1.0, -1.0, 1.0])
    monkeypatch.setattr(orientation, "all_turns", lambda: [np.eye(3), turn])
    image, labels = head()
    moved, truth = head(bend(1.0))
    fixed = turned(brain(moved), turn)
    fit = fit_template(fixed, brain(image), QUICK)
    assert "front is back" in fit.warnings()[0]
    assert "front is back" in fit.told()
    carried = carry_labels(fit.warp, Volume(labels, AFFINE), fixed).data
    assert (carried == truth)[truth > 0].mean() > 0.8
    assert fit.likeness > QUICK.min_likeness
    believed = fit_template(fixed, brain(image), QUICK.model_copy(update={"orientation": "header"}))
    assert believed.record()["Orientation"] == "as in the header"
    assert believed.likeness < QUICK.min_likeness


def test_a_mirror_image_is_named_with_what_to_do() -> None:
    fixed = brain(head(bend(2.0))[0])
    mirrored = Volume(fixed.data[::-1].copy(), AFFINE, "sub-04", "sub-04_T2w.nii.gz")
    with pytest.raises(DataError, match=r"sub-04.*mirror image.*registration\.orientation: header") as caught:
        fit_template(mirrored, brain(head()[0]), QUICK)
    assert caught.value.exit_code == 65


def test_a_symmetric_brain_does_not_show_whether_it_is_mirrored() -> None:
    one, _ = head()
    even = brain(one + one[::-1])
    found = find_orientation(even, brain(head(bend(1.0))[0] + head(bend(1.0))[0][::-1]))
    assert not found.is_mirrored
    assert abs(found.mirrored - found.likeness) < orientation.MARGIN


def test_maps_before_a_turned_map_are_kept() -> None:
    shift, turn = np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])
    shift[:3, 3] = (4, 6, -2)
    image = brain(head()[0])
    places = np.stack(np.indices(image.shape), axis=-1) @ AFFINE[:3, :3].T
    chain = compose(Warp(shift), compose(Warp(turn), Warp(np.eye(4), places.astype(float), AFFINE)))
    whole = carry_image(Warp(turn @ shift), image, image).data
    np.testing.assert_allclose(carry_image(chain, image, image).data, whole, atol=1e-3)
