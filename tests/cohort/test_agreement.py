"""Subjects whose edges have another pattern or scale than those of the others are noted; others are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from connectome_tl.cohort.arrays.agreement import (
    features_of_another_scale,
    of_another_kind,
    of_another_scale,
    unlike_others,
)

N, REGIONS = 9, 30
IDS = tuple(f"s{i}" for i in range(N))


def cohort(noise: float = 0.4, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    usual = draw.lognormal(0, 1, (REGIONS, REGIONS))
    upper = np.triu(usual * draw.lognormal(0, noise, (N, REGIONS, REGIONS)), 1)
    return (upper + upper.swapaxes(1, 2))[:, None]


def noted(weights: np.ndarray, seen: np.ndarray | None = None) -> str:
    return " ".join(unlike_others(weights, IDS, np.ones(N, dtype=bool) if seen is None else seen))


@pytest.mark.parametrize(
    "order",
    [
        np.random.default_rng(5).permutation(REGIONS),
        np.arange(REGIONS)[::-1],
        np.roll(np.arange(REGIONS), 1),
        np.arange(REGIONS).reshape(2, -1).T.ravel(),
    ],
)
@pytest.mark.parametrize("who", [[4], [0, 8], [1, 2, 3]])
def test_subjects_with_rows_in_another_order_are_noted(order: np.ndarray, who: list[int]) -> None:
    weights = cohort()
    weights[who] = weights[who][..., order, :][..., order]
    said = noted(weights)
    assert said.startswith(f"edges of {len(who)} subject")
    assert all((f"s{i} (" in said) == (i in who) for i in range(N))


@pytest.mark.parametrize("noise", [0.2, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_subjects_that_differ_by_noise_scale_or_a_region_are_not_noted(noise: float, seed: int) -> None:
    weights = cohort(noise, seed)
    weights[2] *= 1000
    weights[3, :, 4], weights[3, :, :, 4] = 0.0, 0.0
    weights[5, :, 6], weights[5, :, :, 6] = np.nan, np.nan
    assert noted(weights) == ""


def test_cohorts_without_a_common_pattern_and_subjects_without_a_matrix_are_not_noted() -> None:
    draw = np.random.default_rng(1)
    assert noted(draw.random((N, 1, REGIONS, REGIONS))) == ""
    weights, seen = cohort(), np.arange(N) != 3
    weights[3] = 0.0
    assert "s3 (r = 0.00)" in noted(weights)
    assert noted(weights, seen) == ""
    assert unlike_others(weights[:4], IDS, np.ones(4, dtype=bool)) == []


def scales(weights: np.ndarray, seen: np.ndarray | None = None) -> list[str]:
    there = np.ones(len(weights), dtype=bool) if seen is None else seen
    return of_another_scale(weights, ["count"], [f"s{i}" for i in range(len(weights))], there)


@pytest.mark.parametrize("factor", [1000.0, 100.0, 0.01, 1e-6])
@pytest.mark.parametrize("who", [[4], [0, 8], [1, 2, 3, 5]])
def test_subjects_in_another_unit_are_noted_with_their_factor(factor: float, who: list[int]) -> None:
    weights = cohort()
    weights[who] *= factor
    (said,) = scales(weights)
    assert all((f"s{i} (" in said) == (i in who) for i in range(N))
    assert said.startswith(f"edges of {len(who)} subject")


@pytest.mark.parametrize("seed", range(5))
def test_totals_that_differ_as_those_of_subjects_do_are_not_noted(seed: int) -> None:
    draw = np.random.default_rng(seed)
    weights = cohort(0.8, seed) * draw.lognormal(0, 0.6, N)[:, None, None, None]
    assert scales(weights) == []
    weights[3] = 0.0
    assert scales(weights, np.arange(N) != 3) == []
    assert scales(weights * -1) == []


def test_subjects_that_are_neither_like_the_others_nor_alike_are_not_noted() -> None:
    assert scales(cohort() * 30.0 ** np.arange(N)[:, None, None, None]) == []


def test_regional_measures_in_another_unit_are_noted() -> None:
    features = np.random.default_rng(0).normal([3.0, 40.0], 0.2, (N, REGIONS, 2))
    features[2, 4:9] = np.nan
    assert features_of_another_scale(features, ["thickness", "area"], IDS) == []
    features[5, :, 1] *= 100
    (said,) = features_of_another_scale(features, ["thickness", "area"], IDS)
    assert said.startswith("area of 1 subject have another scale")
    assert "s5 (99.8 times)" in said


def correlations() -> np.ndarray:
    draw = np.random.default_rng(3)
    common = draw.normal(size=(REGIONS, REGIONS))
    series = draw.normal(size=(N, 200, REGIONS)) @ (common + 0.4 * draw.normal(size=(N, REGIONS, REGIONS)))
    return np.stack([np.corrcoef(one.T) for one in series])[:, None]


def kinds(weights: np.ndarray) -> str:
    return " ".join(of_another_kind(weights, IDS, np.ones(N, dtype=bool), np.ones((N, REGIONS), dtype=bool)))


@pytest.mark.parametrize("who", [[4], [0, 8], [1, 2, 3, 5, 7]])
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda r: np.arctanh(np.where(np.eye(REGIONS) > 0, 0.0, r)), "others Fisher's z"),
        (np.abs, "negative edges"),
        (lambda r: np.maximum(r, 0.0), "negative edges"),
        (lambda r: np.where(np.abs(r) > 0.1, r, 0.0), "edges of 0"),
    ],
)
def test_edges_made_in_another_way_are_noted_for_the_fewer_subjects(
    made: Callable[[np.ndarray], np.ndarray], said: str, who: list[int]
) -> None:
    weights = correlations()
    assert kinds(weights) == ""
    weights[who] = made(weights[who])
    note = kinds(weights)
    assert said in note
    fewer = who if 2 * len(who) < N else sorted(set(range(N)) - set(who))
    assert f"Check {', '.join(f's{i}' for i in fewer)}" in note


def test_counts_with_their_own_densities_are_of_one_kind() -> None:
    draw = np.random.default_rng(0)
    counts = cohort() * (draw.random((N, 1, REGIONS, REGIONS)) > draw.uniform(0, 0.5, (N, 1, 1, 1)))
    assert kinds(counts) == ""
    regions = np.ones((N, REGIONS), dtype=bool)
    regions[3, :5] = False
    weights = correlations()
    weights[3, :, :5], weights[3, :, :, :5] = 0.0, 0.0
    assert of_another_kind(weights, IDS, np.ones(N, dtype=bool), regions) == []
