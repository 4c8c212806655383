"""Predictions of diffusion volumes by a Gaussian process, against direct conditioning, and what they are good for."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.imaging.preprocess.alignment import Ground, slopes_of
from connectome_tl.imaging.preprocess.gaussian_process import (
    covariance,
    displaced_by,
    followed,
    noise_in,
    of_halves,
    predictions,
)
from connectome_tl.imaging.preprocess.prediction import left_one_out

BVALS = np.repeat([0.0, 400.0, 1000.0, 2600.0], [4, 6, 16, 24])


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(len(BVALS), 3))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[BVALS == 0] = 0
    return found


def test_leave_one_out_equals_conditioning_on_the_others(directions: np.ndarray) -> None:
    prior, noise = covariance(BVALS, directions), 1e-3
    found = predictions(prior, noise)
    assert np.abs(np.diag(found)).max() < 1e-9
    for volume in (0, 5, 30):
        others = np.delete(np.arange(len(BVALS)), volume)
        whole = prior[np.ix_(others, others)] + noise * np.eye(len(others))
        expected = np.linalg.solve(whole, prior[others, volume])
        np.testing.assert_allclose(found[volume, others], expected, atol=1e-8)


def test_halves_use_their_own_volumes_alone(directions: np.ndarray) -> None:
    first, second = of_halves(BVALS, covariance(BVALS, directions), 1e-3)
    used = [set(np.flatnonzero(np.abs(half).max(axis=0) > 0)) for half in (first, second)]
    assert not used[0] & used[1]
    assert used[0] | used[1] == set(range(len(BVALS)))


def crossing(directions: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Signals of voxels with two crossing fibres of a tensor that the prior does not hold, (n_volumes, n)."""
    total = np.zeros((len(BVALS), n))
    for _ in range(2):
        along = rng.normal(size=(n, 3))
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        total += 350 * np.exp(-BVALS[:, None] * (0.4e-3 + 1.4e-3 * (directions @ along.T) ** 2))
    return total


def test_sharp_structure_of_high_b_values_is_predicted_better_than_by_a_tensor(directions: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    clean = crossing(directions, 400, rng)
    prior = covariance(BVALS, directions)
    high = BVALS == 2600

    def error(signals: np.ndarray, matrix: np.ndarray) -> float:
        return float(np.sqrt((((matrix @ signals) - clean)[high] ** 2).mean()))

    level = noise_in(clean, prior)
    assert error(clean, predictions(prior, level)) < 0.5 * error(clean, left_one_out(BVALS, directions))
    for sd in (5.0, 30.0):
        noisy = clean + rng.normal(0, sd, clean.shape)
        level = noise_in(noisy, prior)
        assert error(noisy, predictions(prior, level)) < error(noisy, left_one_out(BVALS, directions))


def test_more_noise_is_found_to_be_more(directions: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    clean, prior = crossing(directions, 400, rng), covariance(BVALS, directions)
    levels = [noise_in(clean + rng.normal(0, sd, clean.shape), prior) for sd in (1.0, 10.0, 100.0)]
    assert levels[0] < levels[1] < levels[2]


def test_copies_of_volumes_do_not_change_the_noise(directions: np.ndarray) -> None:
    rng, prior = np.random.default_rng(4), covariance(BVALS, directions)
    noisy = crossing(directions, 400, rng) + rng.normal(0, 100.0, (len(BVALS), 400))
    alone = noise_in(noisy[3:], prior[3:, 3:])
    noisy[:3] = noisy[3]  # four equal unweighted volumes
    assert noise_in(noisy, prior) == alone
    assert np.isfinite(noise_in(np.ones_like(noisy), prior))  # nothing but copies


def test_what_the_noise_floor_hides_takes_no_part_in_an_alignment() -> None:
    n = 16
    points = np.stack(np.indices((n, n, n)), axis=-1).reshape(-1, 3).astype(float)
    radius = np.linalg.norm(points - (n - 1) / 2, axis=1)
    ground = Ground(points, radius < 8, points.mean(axis=0), (n, n, n), np.eye(4))
    head = 100 / (1 + np.exp(2 * (radius - 5)))
    rng = np.random.default_rng(3)
    head *= 1 + 0.3 * np.sin(points @ rng.normal(0, 0.5, 3))
    head = head.reshape(ground.shape)
    floor = 10.0
    slopes = slopes_of(np.hypot(head, floor), ground)
    assert slopes is not None
    assert slopes.wanted.min() > 2 * floor * 0.99
    every = slopes_of(head, ground)  # without a floor nothing is hidden
    assert every is not None
    assert every.wanted.min() < floor
    weak = slopes_of(np.hypot(0.1 * head, floor), ground)  # where the floor is all, all is used
    assert weak is not None
    assert weak.wanted.min() < 1.1 * floor


def row(directions: np.ndarray) -> np.ndarray:
    """Signals along a line of voxels on which two fibres cross in changing shares, (n_volumes, 120)."""
    ends, place = crossing(directions, 4, np.random.default_rng(5)), np.arange(120) / 120
    shares = np.stack([np.sin((k + 2) * np.pi * place + k) ** 2 for k in range(4)])
    return np.asarray(ends @ shares)


def test_predictions_are_displaced_with_the_volumes_as_is_said(directions: np.ndarray) -> None:
    rng, signals, prior = np.random.default_rng(6), row(directions), covariance(BVALS, directions)
    weights, slopes = predictions(prior, 1e-3), np.gradient(signals, axis=1)
    noise = rng.normal(0, 5.0, signals.shape)
    noisy = np.gradient(signals + noise, axis=1)
    shares = displaced_by(weights, of_halves(BVALS, prior, 1e-3), noisy @ noisy.T)
    for volumes in (BVALS == 400, BVALS == 2600, directions[:, 0] > 0.5):
        places = weights @ slopes
        found = (places * (weights @ (volumes[:, None] * slopes))).sum(axis=1) / (places**2).sum(axis=1)
        said = shares @ volumes
        assert np.corrcoef(found, said)[0, 1] > 0.95
        np.testing.assert_allclose(said, found, atol=0.25)


def test_what_many_volumes_have_in_common_settles_in_few_iterations(directions: np.ndarray) -> None:
    prior, slopes = covariance(BVALS, directions), np.gradient(row(directions), axis=1)
    shares = displaced_by(predictions(prior, 1e-2), of_halves(BVALS, prior, 1e-2), slopes @ slopes.T)

    def off(poses: np.ndarray) -> float:
        return float(np.sqrt(((poses - poses[BVALS == 0].mean(axis=0)) ** 2).mean()))

    # motion of a shell, motion that goes with the direction, and motion of one volume
    for true in (1.0 * (BVALS == 2600), directions[:, 0] ** 2, 1.0 * (np.arange(len(BVALS)) == 30)):
        wanted = np.repeat(true[:, None], 6, axis=1)
        alone, joint = np.zeros_like(wanted), np.zeros_like(wanted)
        for _ in range(4):
            alone = wanted + shares @ (alone - wanted)  # each volume is aligned to its prediction as it is
            joint = joint + followed(wanted + shares @ (joint - wanted) - joint, shares)
        assert off(joint - wanted) < 0.5 * off(alone - wanted)
        assert off(joint - wanted) < 0.5 * off(wanted)
