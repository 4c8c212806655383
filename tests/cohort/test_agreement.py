"""Subjects whose edges have another pattern or scale than those of the others are noted; others are not."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.cohort.arrays.agreement import of_another_scale, unlike_others

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
