"""Numbers of another scale or sign than the others of their column are noted, or refused where they are impossible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cohort.columns.scales import check_weight, note_scales
from connectome_tl.cohort.findings import Findings
from connectome_tl.settings.columns import Covariate

from .conftest import OnDisk

IDS = tuple(f"s{i}" for i in range(24))
SCORES = np.random.default_rng(0).normal(95, 12, 24).round()


def noted(values: np.ndarray, name: str = "x") -> list[str]:
    findings = Findings()
    note_scales(values, name, findings)
    return findings.notes


@pytest.mark.parametrize("value", [0.0, -0.4, -95.0, 9.5, 0.95, 950.0])
def test_a_slip_of_a_digit_unit_or_sign_is_noted(value: float) -> None:
    values = SCORES.copy()
    values[3] = value
    (note,) = noted(values)
    assert f"{value:g}" in note


@pytest.mark.parametrize("share", [2, 3, 8])
def test_two_groups_in_different_units_are_noted(share: int) -> None:
    values = np.where(np.arange(24) % share == 0, SCORES / 1000, SCORES)
    (note,) = noted(values)
    assert "another scale" in note


@pytest.mark.parametrize("seed", range(20))
def test_usual_columns_are_not_noted(seed: int) -> None:
    draw = np.random.default_rng(seed)
    columns = (
        draw.normal(95, 15, 24).round(),
        draw.lognormal(0, 1.2, 24),
        draw.exponential(10, 24).round(),
        draw.poisson(1, 24),
        draw.integers(0, 2, 24),
        draw.normal(0, 1, 24),
        draw.uniform(0, 1, 24),
        draw.choice([1.0, 10.0, 1000.0], 24),
        np.r_[draw.normal(95, 10, 23), np.nan],
        np.full(24, 3.0),
        np.full(24, np.nan),
    )
    assert [noted(np.asarray(values, dtype=float)) for values in columns] == [[]] * len(columns)


@pytest.mark.parametrize(("mean", "scale"), [(95, 12), (10, 1), (33, 3)])
def test_less_than_two_in_a_hundred_columns_with_heavy_tails_are_noted(mean: float, scale: float) -> None:
    draw = np.random.default_rng(2026)
    found = [noted(draw.standard_t(3, n) * scale + mean) for n in (12, 24, 33, 60, 150) for _ in range(200)]
    assert sum(map(bool, found)) < 0.02 * len(found)


@pytest.mark.parametrize("seed", range(5))
def test_normal_values_around_zero_are_not_slips_of_sign(seed: int) -> None:
    assert noted(np.random.default_rng(seed).normal(2, 1, 60)) == []


@pytest.mark.parametrize("factor", [0.001, 0.01, 0.1, 10.0, 100.0, 1000.0])
@pytest.mark.parametrize("n", [12, 33, 60])
def test_a_slip_of_digits_is_noted_at_any_number_of_subjects(factor: float, n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(20):
        values = draw.normal(33, 1.5, n)
        values[draw.integers(n)] *= factor
        assert "another scale" in " ".join(noted(values))


def test_an_apgar_score_above_ten_is_noted() -> None:
    assert "11 is no Apgar score" in noted(np.array([8.0, 9, 11]), "APGAR 5 min")[0]
    assert noted(np.array([8.0, 9, 10]), "apgar_5") == []


def weight(name: str, values: list[float]) -> tuple[bool, str]:
    findings = Findings()
    of_birth = check_weight(Covariate(column=name), "", np.array(values), IDS, Path("x.csv"), findings)
    return of_birth, " ".join(map(str, [*findings.notes, *findings.problems]))


@pytest.mark.parametrize(
    "name",
    ["bw_g", "BWT_g", "birth_wt_g", "Birth Weight (g)", "Geburtsgewicht_g", "poids_naissance_g", "peso al nacer (g)"],
)
def test_a_birth_weight_is_known_by_its_names_and_has_the_unit_in_them(name: str) -> None:
    assert weight(name, [900.0, 1200.0]) == (True, "")
    assert "is not possible" in weight(name, [900.0, 0.95])[1]


@pytest.mark.parametrize("name", ["bw_z", "birthweight_zscore", "bw_percentile", "birth_weight_sds", "weight_gain"])
def test_a_standardised_weight_is_none(name: str) -> None:
    assert weight(name, [-1.2, 0.4]) == (False, "")


def test_a_gestational_age_among_the_covariates_is_compared_with_the_scan(on_disk: OnDisk) -> None:
    del on_disk.settings["gestational_age"]
    on_disk.settings["covariates"] = [{"column": "ga", "unit": "weeks", "available_at": "birth"}]
    assert on_disk.read().covariates["ga"].notna().any()
    on_disk.table["pma"][2], on_disk.table["ga"][2] = "38.0", "41.5"
    assert "scan at 38.0, birth at 41.5 weeks" in " ".join(on_disk.problems())
    on_disk.table["ga"] = list(on_disk.table["pma"])
    assert "in every row" in " ".join(on_disk.read().notes)


@pytest.mark.parametrize("error", ["#DIV/0!", "#WERT!", "#VALEUR!"])
def test_errors_of_a_spreadsheet_are_no_codes_for_missing(on_disk: OnDisk, error: str) -> None:
    on_disk.table["ga"][1] = error
    assert "errors of a spreadsheet" in " ".join(on_disk.problems())
