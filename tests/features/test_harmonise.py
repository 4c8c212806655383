"""Site effects: equal to the references on ordinary data, defined where these fail, fitted on training rows only."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.features.combat import fit_combat
from connectome_tl.features.gamma_sites import fit_gamma, log_link_gamma
from connectome_tl.features.harmonise import Harmoniser, fit_harmoniser
from connectome_tl.provenance import content_hash
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.tasks import Task

N_REGIONS = 9
FIRST, SECOND = np.triu_indices(N_REGIONS, 1)


def cohort(n: int = 60, *, n_sites: int = 3, seed: int = 0, positive: bool = False) -> Cohort:
    """Edges with an effect of age and of site, on mean and spread."""
    rng = np.random.default_rng(seed)
    site = rng.integers(n_sites, size=n)
    age, sex = rng.uniform(8, 20, n), rng.integers(2, size=n)
    n_edges = len(FIRST)
    shift, spread = rng.normal(0, 1, (n_sites, n_edges)), rng.uniform(0.6, 1.6, (n_sites, n_edges))
    edges = 3 + 0.1 * age[:, None] + 0.3 * sex[:, None] + shift[site] + spread[site] * rng.normal(0, 0.5, (n, n_edges))
    if positive:
        edges = np.exp(0.3 * edges) * (rng.random(edges.shape) < 0.8)
    weights = np.zeros((n, 1, N_REGIONS, N_REGIONS), dtype=np.float32)
    weights[:, 0, FIRST, SECOND] = edges
    weights[:, 0, SECOND, FIRST] = edges
    ids = tuple(f"s{i}" for i in range(n))
    index = pd.Index(ids, dtype="str")
    return Cohort(
        name="made",
        ids=ids,
        regions=tuple(f"r{i}" for i in range(N_REGIONS)),
        atlas="",
        measures=("count",),
        weights=weights,
        node_mask=np.ones((n, N_REGIONS), dtype=bool),
        covariates=pd.DataFrame({"sex": np.array(["F", "M"])[sex]}, index=index, dtype="str"),
        covariate_specs=(Covariate(column="sex", type="categorical"),),
        tasks=(Task(name="iq", kind="regression", column="iq"),),
        targets=pd.DataFrame({"iq": rng.normal(100, 15, n)}, index=index),
        status=pd.DataFrame({"iq": ["observed"] * n}, index=index),
        age=age,
        age_unit="years",
        site=np.array([f"site{s}" for s in site], dtype=object),
        family=np.array([""] * n, dtype=object),
    )


def edges_of(weights: np.ndarray) -> np.ndarray:
    return weights[:, 0, FIRST, SECOND].astype(float)


SETTINGS = HarmoniseSettings(method="combat", protect=("age", "sex"))


def fitted(training: Cohort, settings: HarmoniseSettings = SETTINGS) -> Harmoniser:
    harmoniser = fit_harmoniser(training, settings)
    assert harmoniser is not None
    return harmoniser


@pytest.mark.parametrize("n_sites", [2, 3, 6])
def test_train_and_apply_equal_combatlearn(n_sites: int) -> None:
    """Its prior is that over sites; fitted on 100 rows, applied to 40 others."""
    from combatlearn.core import ComBatModel

    everyone = cohort(140, n_sites=n_sites)
    train, test = everyone.take(everyone.ids[:100]), everyone.take(everyone.ids[100:])
    ours = fitted(train, SETTINGS.model_copy(update={"prior": "sites"}))
    theirs = ComBatModel(method="fortin")

    def arguments(part: Cohort) -> dict[str, Any]:
        return {
            "batch": pd.Series(part.site, index=part.ids),
            "discrete_covariates": part.covariates.set_axis(list(part.ids)),
            "continuous_covariates": pd.DataFrame({"age": part.age}, index=part.ids),
        }

    theirs.fit(pd.DataFrame(edges_of(train.weights), index=train.ids), **arguments(train))
    for part in (train, test):
        expected = theirs.transform(pd.DataFrame(edges_of(part.weights), index=part.ids), **arguments(part))
        covariates = np.column_stack([part.age - train.age.mean(), part.covariates["sex"].to_numpy() == "M"])
        found = ours.models[0].adjusted(edges_of(part.weights), part.site, covariates.astype(float))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(edges_of(ours.apply(part)), expected, rtol=1e-5)


def published_combat(edges: np.ndarray, site: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """The published steps, row by row and site by site, as an independent check (prior over edges)."""
    names = sorted(set(site))
    design = np.column_stack([np.array([s == name for s in site], dtype=float) for name in names] + [covariates])
    beta = np.linalg.pinv(design) @ edges
    n = np.array([(site == name).sum() for name in names])
    grand = n / n.sum() @ beta[: len(names)]
    variance = ((edges - design @ beta) ** 2).mean(axis=0) + 1e-8
    expected = grand + covariates @ beta[len(names) :]
    z = (edges - expected) / np.sqrt(variance)
    out = z.copy()
    for name in names:
        mine = z[site == name]
        gamma_hat, delta_hat = mine.mean(axis=0), mine.var(axis=0, ddof=1) + 1e-8
        m, s2 = delta_hat.mean(), delta_hat.var(ddof=1)
        a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        g, d = gamma_hat, delta_hat
        for _ in range(500):
            g = (gamma_hat.var(ddof=1) * len(mine) * gamma_hat + d * gamma_hat.mean()) / (
                gamma_hat.var(ddof=1) * len(mine) + d
            )
            d = (0.5 * ((mine - g) ** 2).sum(axis=0) + b) / (len(mine) / 2 + a - 1)
        out[site == name] = (mine - g) / np.sqrt(d)
    return out * np.sqrt(variance) + expected


def test_the_published_prior() -> None:
    everyone = cohort(90)
    edges, site = edges_of(everyone.weights), np.asarray(everyone.site, dtype=str)
    covariates = np.column_stack([everyone.age - everyone.age.mean()])
    present = np.ones(edges.shape, dtype=bool)
    model = fit_combat(edges, site, covariates, present, tolerance=1e-13)
    np.testing.assert_allclose(
        model.adjusted(edges, site, covariates), published_combat(edges, site, covariates), atol=1e-6
    )


def test_site_goes_and_age_stays() -> None:
    everyone = cohort(200)
    before, after = edges_of(everyone.weights), edges_of(fitted(everyone).apply(everyone))
    by_site = [np.flatnonzero(everyone.site == s) for s in sorted(set(everyone.site))]
    assert (
        np.std([after[rows].mean(axis=0) for rows in by_site], axis=0).mean()
        < 0.2 * np.std([before[rows].mean(axis=0) for rows in by_site], axis=0).mean()
    )
    slope = np.polyfit(everyone.age, after, 1)[0]
    assert slope.mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_wrecked_test_rows_leave_the_fit_untouched(method: str) -> None:
    everyone = cohort(80, positive=method == "gamma")
    train = everyone.ids[:60]
    settings = SETTINGS.model_copy(update={"method": method})
    clean = fitted(everyone.take(train), settings)
    wrecked = everyone.weights.copy()
    wrecked[60:] = 1e30
    site = everyone.site.copy()
    site[60:] = "site0"
    poisoned = fitted(replace(everyone, weights=wrecked, site=site, age=everyone.age * 1.0).take(train), settings)
    assert state_hash(clean) == state_hash(poisoned)
    assert clean.ids == train


def state_hash(harmoniser: Harmoniser) -> str:
    parts: list[Any] = [harmoniser.centre, {k: list(v) for k, v in harmoniser.levels.items()}, harmoniser.reference]
    for model in harmoniser.models:
        parts += [getattr(model, field.name) for field in fields(model)]
    return content_hash(*[list(p) if isinstance(p, tuple) else p for p in parts])


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_each_row_is_adjusted_alone(method: str) -> None:
    everyone = cohort(60, positive=method == "gamma")
    harmoniser = fitted(everyone.take(everyone.ids[:40]), SETTINGS.model_copy(update={"method": method}))
    whole = harmoniser.apply(everyone)
    for i in (3, 45, 59):
        np.testing.assert_array_equal(harmoniser.apply(everyone.take([everyone.ids[i]]))[0], whole[i])


def with_edge(everyone: Cohort, edge: int, values: np.ndarray | float) -> Cohort:
    weights = everyone.weights.copy()
    weights[:, 0, FIRST[edge], SECOND[edge]] = values
    weights[:, 0, SECOND[edge], FIRST[edge]] = values
    return replace(everyone, weights=weights)


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_a_constant_edge_stays_as_it_is(method: str) -> None:
    everyone = with_edge(cohort(50, positive=method == "gamma"), 4, 2.5)
    everyone = with_edge(everyone, 5, 0.0)
    after = edges_of(fitted(everyone, SETTINGS.model_copy(update={"method": method})).apply(everyone))
    assert np.isfinite(after).all()
    np.testing.assert_allclose(after[:, 4], 2.5, rtol=1e-5)
    np.testing.assert_array_equal(after[:, 5], 0)


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_a_site_of_one_subject_is_survived(method: str) -> None:
    everyone = cohort(50, positive=method == "gamma")
    site = everyone.site.copy()
    site[7] = "lonely"
    everyone = replace(everyone, site=site)
    harmoniser = fitted(everyone, SETTINGS.model_copy(update={"method": method}))
    after = harmoniser.apply(everyone)
    assert np.isfinite(after).all()
    others = np.delete(np.arange(50), 7)
    straight = fitted(everyone.take([everyone.ids[i] for i in others]), SETTINGS.model_copy(update={"method": method}))
    change = np.abs(after[others] - straight.apply(everyone.take([everyone.ids[i] for i in others])))
    assert change.max() < 0.5 * np.abs(after[others]).std()


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_one_site_only_changes_nothing(method: str) -> None:
    everyone = cohort(40, n_sites=1, positive=method == "gamma")
    after = fitted(everyone, SETTINGS.model_copy(update={"method": method})).apply(everyone)
    np.testing.assert_allclose(after, everyone.weights, rtol=2e-6)


def test_covariates_that_the_site_determines_are_survived_and_said() -> None:
    everyone = cohort(60, n_sites=2)
    sex = pd.DataFrame({"sex": np.where(everyone.site == "site0", "F", "M")}, index=everyone.covariates.index)
    everyone = replace(everyone, covariates=sex.astype("str"))
    harmoniser = fitted(everyone)
    assert harmoniser.models[0].rank_deficient  # type: ignore[union-attr]
    assert np.isfinite(harmoniser.apply(everyone)).all()


def test_missing_regions_are_left_out_of_the_fit_and_stay_missing() -> None:
    everyone = cohort(60)
    mask = everyone.node_mask.copy()
    mask[5:9, 2] = False
    weights = np.where(mask[:, None, :, None] & mask[:, None, None, :], everyone.weights, 0).astype(np.float32)
    everyone = replace(everyone, node_mask=mask, weights=weights)
    harmoniser = fitted(everyone)
    after = harmoniser.apply(everyone)
    assert (after[5:9, 0, 2] == 0).all()
    # an edge of the missing region is fitted as if those four rows were not there
    kept = [s for i, s in enumerate(everyone.ids) if not 5 <= i < 9]
    rows = np.delete(np.arange(60), [5, 6, 7, 8])
    edge = int(np.flatnonzero((FIRST == 2) & (SECOND == 3))[0])
    model, part = harmoniser.models[0], everyone.take(kept)
    covariates = np.column_stack([part.age, part.covariates["sex"] == "M"]).astype(float)
    member = np.array([[s == name for name in model.sites] for s in part.site], dtype=float)
    design = np.column_stack([member, covariates])
    beta = np.linalg.lstsq(design, edges_of(weights)[rows, edge], rcond=None)[0]
    np.testing.assert_allclose(model.slopes[:, edge], beta[-2:], atol=1e-6)


@pytest.mark.parametrize("method", ["combat", "gamma"])
def test_an_unseen_site_is_met_by_the_declared_policy(method: str) -> None:
    everyone = cohort(80, positive=method == "gamma")
    train = everyone.take([s for s, site in zip(everyone.ids, everyone.site, strict=True) if site != "site2"])
    test = everyone.take([s for s, site in zip(everyone.ids, everyone.site, strict=True) if site == "site2"])
    settings = SETTINGS.model_copy(update={"method": method})
    with pytest.raises(DataError, match="site2"):
        fitted(train, settings).apply(test)
    untouched = fitted(train, settings.model_copy(update={"unseen": "none"})).apply(test)
    np.testing.assert_array_equal(untouched, test.weights)
    as_site1 = fitted(train, settings.model_copy(update={"unseen": "reference", "reference": "site1"}))
    renamed = replace(test, site=np.array(["site1"] * test.n_subjects, dtype=object))
    np.testing.assert_array_equal(as_site1.apply(test), as_site1.apply(renamed))
    with pytest.raises(UsageError, match="site9"):
        fitted(train, settings.model_copy(update={"reference": "site9"}))


def test_an_outcome_can_never_be_protected() -> None:
    for name in ("iq", "height"):
        with pytest.raises(UsageError, match=name):
            fitted(cohort(), HarmoniseSettings(method="combat", protect=(name,)))
    with pytest.raises(DataError, match="no site"):
        fitted(replace(cohort(30), site=np.array([""] * 30, dtype=object)))


def test_unknown_levels_and_missing_covariates_of_test_rows_are_met() -> None:
    everyone = cohort(60)
    harmoniser = fitted(everyone.take(everyone.ids[:50]))
    test = everyone.take(everyone.ids[50:])
    covariates = test.covariates.copy()
    covariates.iloc[0, 0] = "X"
    covariates.iloc[1, 0] = None
    age = test.age.copy()
    age[2] = np.nan
    assert np.isfinite(harmoniser.apply(replace(test, covariates=covariates, age=age))).all()


def test_the_log_link_model_is_statsmodels() -> None:
    import statsmodels.api as sm

    everyone = cohort(70, positive=True)
    edges = edges_of(everyone.weights)
    member = np.array([[s == name for name in ("site0", "site1", "site2")] for s in everyone.site], dtype=float)
    design = np.column_stack([member, everyone.age - 14])
    there = edges > 0
    found, dispersion = log_link_gamma(design, edges, there)
    for e in (0, 7, 20, 35):
        rows = there[:, e]
        family = sm.families.Gamma(sm.families.links.Log())
        theirs = sm.GLM(edges[rows, e], design[rows], family=family).fit(tol=1e-12, maxiter=200)
        np.testing.assert_allclose(found[:, e], theirs.params, atol=1e-6)
        assert dispersion[e] == pytest.approx(theirs.scale, rel=1e-5)


def test_gamma_keeps_zeros_and_signs_and_takes_the_site_out() -> None:
    everyone = cohort(200, positive=True)
    before = edges_of(everyone.weights)
    after = edges_of(fitted(everyone, SETTINGS.model_copy(update={"method": "gamma"})).apply(everyone))
    np.testing.assert_array_equal(after == 0, before == 0)
    assert (after >= 0).all()

    def between(values: np.ndarray) -> float:
        logs = np.log(np.where(values > 0, values, np.nan))
        means = [np.nanmean(logs[everyone.site == s], axis=0) for s in sorted(set(everyone.site))]
        return float(np.std(means, axis=0).mean())

    assert between(after) < 0.35 * between(before)
    with pytest.raises(DataError, match="0 and more"):
        fitted(replace(everyone, weights=-everyone.weights), SETTINGS.model_copy(update={"method": "gamma"}))


def test_a_site_without_the_edge_gets_no_effect_for_it() -> None:
    everyone = cohort(60, positive=True)
    edges = edges_of(everyone.weights)
    edges[everyone.site == "site1", 3] = 0
    model = fit_gamma(edges, everyone.site, np.zeros((60, 0)), np.ones(edges.shape, dtype=bool))
    assert model.effect[model.sites.index("site1"), 3] == 0
    assert np.isfinite(model.effect).all()


def test_no_method_fits_nothing() -> None:
    assert fit_harmoniser(cohort(20), HarmoniseSettings()) is None
