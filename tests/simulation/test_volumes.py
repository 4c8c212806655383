"""The volume simulator: its truth, its stated difficulty, and independence of its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from connectome_tl.errors import UsageError
from connectome_tl.simulation.brain_shapes import LABELS
from connectome_tl.simulation.volumes import (
    PLACES,
    Contrast,
    Lesions,
    SimulatedVolumes,
    VolumeSettings,
    easy,
    random_contrast,
    simulate_volumes,
)

SMALL = VolumeSettings(size=16)


@pytest.fixture(scope="module")
def cohort() -> SimulatedVolumes:
    return simulate_volumes(150, replace(SMALL, lesions=Lesions()), seed=5)


def test_a_subject_does_not_depend_on_how_many_there_are(cohort: SimulatedVolumes) -> None:
    few = simulate_volumes(3, cohort.settings, seed=5)
    np.testing.assert_array_equal(few.volumes, cohort.volumes[:3])
    np.testing.assert_array_equal(few.age, cohort.age[:3])
    other = simulate_volumes(3, cohort.settings, seed=6)
    assert not np.array_equal(few.age, other.age)


def test_the_oracle_misses_age_by_nine_tenths_of_a_month() -> None:
    many = simulate_volumes(500, replace(SMALL, size=8), seed=1)
    assert np.abs(many.oracle_age - many.age).mean() == pytest.approx(0.9, abs=0.1)


def test_lesions_are_known_from_their_place_and_not_from_their_number(cohort: SimulatedVolumes) -> None:
    assert roc_auc_score(cohort.outcome, cohort.oracle_risk) > 0.97
    assert 0.3 < roc_auc_score(cohort.outcome, cohort.n_blobs) < 0.7
    injured = cohort.lesion.reshape(len(cohort), -1).any(axis=1)
    assert (injured == (cohort.oracle_risk > 0.5)).all()


def test_the_easy_cohort_has_larger_lesions_and_no_other_blobs(cohort: SimulatedVolumes) -> None:
    simple = simulate_volumes(40, easy(cohort.settings), seed=5)
    assert (simple.n_blobs == (simple.oracle_risk > 0.5)).all()
    size = [c.lesion.reshape(len(c), -1).sum(axis=1) for c in (cohort, simple)]
    assert size[1][size[1] > 0].mean() > 3 * size[0][size[0] > 0].mean()


@pytest.mark.parametrize(("contrast", "sign"), [("T1w", 1), ("T2w", -1)])
def test_the_contrast_of_white_and_grey_matter_inverts_in_infancy(contrast: Contrast, sign: int) -> None:
    def difference(low: float) -> float:
        cohort = simulate_volumes(6, replace(SMALL, size=24, contrast=contrast, ages=(low, low + 0.5), site_effect=0))
        white, cortex = (np.median(cohort.volumes[cohort.labels == LABELS[n]]) for n in ("white", "cortex"))
        return sign * float(white - cortex)

    assert difference(0.0) < -0.03
    assert difference(23.5) > 0.03


def test_ventricles_are_widest_at_birth_and_late_in_life() -> None:
    def share(low: float) -> float:
        cohort = simulate_volumes(12, replace(SMALL, size=24, ages=(low, low + 1)))
        return float((cohort.labels == LABELS["ventricles"]).sum() / (cohort.labels > 1).sum())

    assert share(0) > 1.1 * share(240)
    assert share(12 * 85) > 1.3 * share(240)


@pytest.mark.parametrize("place", PLACES)
def test_age_shows_in_the_planted_place_alone(place: str) -> None:
    settings = replace(SMALL, size=24, place=place, site_effect=0)
    cohort = simulate_volumes(60, settings, seed=2)
    assert cohort.region is not None
    inside = np.array([v[r].mean() for v, r in zip(cohort.volumes, cohort.region, strict=True)])
    outside = np.array([v[(lab > 1) & ~r].mean() for v, r, lab in zip(cohort.volumes, cohort.region, cohort.labels)])
    assert np.corrcoef(inside, cohort.age)[0, 1] > 0.6
    assert abs(np.corrcoef(outside, cohort.age)[0, 1]) < 0.35
    assert 10 < cohort.region[0].sum() < 0.4 * (cohort.labels[0] > 0).sum()


def test_the_random_side_differs_between_subjects() -> None:
    cohort = simulate_volumes(8, replace(SMALL, size=24, place="random_side"))
    assert cohort.region is not None
    left = [bool(region[:12].sum() > region[12:].sum()) for region in cohort.region]
    assert 0 < sum(left) < 8


def test_scanners_differ_and_are_the_same_in_every_cohort() -> None:
    def level(seed: int) -> dict[str, float]:
        cohort = simulate_volumes(60, SMALL, seed=seed)
        means = np.array([v[lab > 1].mean() for v, lab in zip(cohort.volumes, cohort.labels, strict=True)])
        return {site: float(means[cohort.site == site].mean()) for site in sorted(set(cohort.site))}

    one, two = level(1), level(2)
    assert max(one.values()) > 1.2 * min(one.values())
    assert sorted(one, key=one.__getitem__) == sorted(two, key=two.__getitem__)


def test_a_turned_head_with_a_skull_is_drawn_in_another_place() -> None:
    plain, turned = (simulate_volumes(1, replace(SMALL, pose=p, skull=p > 0)) for p in (0.0, 1.0))
    assert (turned.labels == LABELS["skull"]).any()
    assert not (plain.labels == LABELS["skull"]).any()


def test_volumes_of_random_contrast_follow_the_labels() -> None:
    labels = simulate_volumes(1, SMALL).labels[0]
    rng = np.random.default_rng(0)
    made = [random_contrast(labels, rng, blur=0) for _ in range(12)]
    white, cortex = (np.array([m[labels == LABELS[n]].mean() for m in made]) for n in ("white", "cortex"))
    assert 0 < (white > cortex).sum() < 12
    assert all(m[labels == LABELS["white"]].std() < 0.1 for m in made)


# By settings: mean, standard deviation and 95th percentile of the first volume; of the second, mean, mean label, age,
# oracle age, outcome, its probability and the number of blobs.
nan = float("nan")
FROZEN: list[tuple[VolumeSettings, list[float]]] = [
    (SMALL, [0.12595, 0.20516, 0.69392, 0.099856, 0.5918, 23.817, 22.625, nan, nan, 0]),
    (
        replace(SMALL, contrast="T2w", log_ages=True),
        [0.1273, 0.22122, 0.74587, 0.081989, 0.59033, 23.395, 22.561, nan, nan, 0],
    ),
    (
        replace(SMALL, contrast="ADC", lesions=Lesions()),
        [0.12769, 0.18633, 0.56594, 0.073803, 0.5918, 23.817, 22.625, 1, 0.99, 3],
    ),
    (
        easy(replace(SMALL, contrast="ADC", ages=(0.0, 1.0))),
        [0.10954, 0.19169, 0.65881, 0.051694, 0.27637, 0.99238, 0.47822, 1, 0.99, 1],
    ),
    (replace(SMALL, place="deep"), [0.1465, 0.24332, 0.81439, 0.085155, 0.50903, 23.817, 22.625, nan, nan, 0]),
    (
        replace(SMALL, skull=True, pose=1.0, ages=(240.0, 1000.0)),
        [0.21711, 0.28013, 0.82225, 0.11026, 0.79834, 994.21, 993.38, nan, nan, 0],
    ),
]


@pytest.mark.parametrize(("settings", "expected"), FROZEN, ids=["T1w", "T2w", "lesions", "easy", "place", "head"])
def test_simulated_volumes_have_not_changed(settings: VolumeSettings, expected: list[float]) -> None:
    """The tables of the benchmarks are valid for these volumes only: do not update the numbers."""
    made = simulate_volumes(2, settings, seed=9)
    first, second = made.volumes
    found = [first.mean(), first.std(), np.quantile(first, 0.95), second.mean(), made.labels[1].mean()]
    found += [values[1] for values in (made.age, made.oracle_age, made.outcome, made.oracle_risk, made.n_blobs)]
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("wrong", [{"size": 4}, {"ages": (5.0, 5.0)}, {"ages": (-1.0, 5.0)}])
def test_settings_that_make_no_volume_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="rising ages"):
        simulate_volumes(2, replace(SMALL, **wrong))
