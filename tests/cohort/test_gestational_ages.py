"""Gestational ages are found whatever their column is called, in weeks or in days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_study import small_cohorts

from connectome_tl.cohort.people import gestational_ages
from connectome_tl.settings.columns import Covariate
from connectome_tl.workflows.study.records import clinical_record


def _with(name: str, values: list[float]):
    target = small_cohorts(n_target=len(values)).target
    spec = Covariate(column=name, type="numeric", available_at="birth", unit="weeks")
    covariates = pd.DataFrame({name: values}, index=target.covariates.index)
    return replace(target, covariates=covariates, covariate_specs=(spec,))


WEEKS = [24.0, 27.9, 28.0, 31.0, 36.5, 37.0, float("nan"), 41.0]


@pytest.mark.parametrize(
    "name",
    [
        "gestational_age",
        "ga",
        "GA_weeks",
        "GestAge",
        "birth_age",
        "age at birth",
        "SSW",
        "GA at birth",
        "gest_wk",
        "Gestationsalter",
        "terme",
        "Schwangerschaftswoche",
        "âge gestationnel",
        "EG_semanas",
        "età gestazionale",
    ],
)
@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_a_column_of_gestational_ages_is_found_by_its_name_and_its_unit_by_its_values(name: str, factor: float) -> None:
    found = gestational_ages(_with(name, [factor * week for week in WEEKS]))
    assert found is not None
    np.testing.assert_allclose(found.to_numpy(), WEEKS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gestational_diabetes", [0.0, 1.0] * 4),
        ("birth_weight", [25.0, 40.0] * 4),
        ("ga", [float("nan")] * 8),
        ("gain", [25.0, 40.0] * 4),
        ("ga_scan", [36.0, 40.0] * 4),
    ],
)
def test_other_columns_are_not_gestational_ages(name: str, values: list[float]) -> None:
    assert gestational_ages(_with(name, values)) is None


def test_subgroups_of_gestational_age_follow_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("connectome_tl.workflows.study.records.clinical_results", lambda *given: seen.append(given[4]))
    clinical_record(_with("ga", [7 * week for week in WEEKS]), pd.DataFrame(), [])
    groups = list(seen[0]["gestational age"].values())
    assert groups == ["under 28 weeks"] * 2 + ["28 to 31 weeks"] * 2 + [
        "32 to 36 weeks",
        "37 weeks and more",
        "",
        "37 weeks and more",
    ]
