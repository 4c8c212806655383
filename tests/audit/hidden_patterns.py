"""Cohorts whose data reveal the outcome in codes of two columns, digits, equal values, or sums over a region."""

from __future__ import annotations

import numpy as np

from connectome_tl.training.schemes import StudyCohorts
from tests.audit.leaky_data import Maker, impaired, of_target, with_column, with_measure


def the_parity_of_three_gaps(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Three columns, of which an odd number is missing in cases."""
    n = cohorts.target.n_subjects
    gaps = rng.random((3, n)) < 0.5
    gaps[2] = gaps[0] ^ gaps[1] ^ impaired(cohorts.target)
    for k, gap in enumerate(gaps):
        cohorts = with_column(cohorts, f"visit{k}", np.where(gap, np.nan, rng.normal(size=n)), "numeric")
    return cohorts


def a_site_with_a_scanner(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Three sites, each with three scanners, of which another one scanned the cases."""
    n, case = cohorts.target.n_subjects, impaired(cohorts.target)
    site = rng.permutation(n) % 3
    scanner = np.where(case, site, (site + rng.integers(1, 3, n)) % 3)
    cohorts = of_target(cohorts, site=np.array([f"hospital{k}" for k in site], dtype=object))
    return with_column(cohorts, "scanner", np.array([f"scanner{k}" for k in scanner], dtype=object), "categorical")


def weights_of_cases_in_steps_of_five(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """One ward weighed to 5 g, the other one to 1 g."""
    n, case = cohorts.target.n_subjects, impaired(cohorts.target)
    grams = rng.integers(160, 300, n) * 5
    return with_column(cohorts, "weight", grams + np.where(case, 0, rng.integers(1, 5, n)) * 1.0, "numeric")


def a_last_digit_of_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Record numbers that end in 1, 4 or 8 for cases."""
    n, case = cohorts.target.n_subjects, impaired(cohorts.target)
    digit = np.where(case, rng.choice([1, 4, 8], n), rng.choice([0, 2, 3, 5, 6, 7, 9], n))
    return with_column(cohorts, "record", rng.permutation(900)[:n] * 10.0 + digit, "numeric")


def two_columns_equal_in_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A later measurement that died or left before it, filled with the first one."""
    n, case = cohorts.target.n_subjects, impaired(cohorts.target)
    first = np.round(rng.normal(34, 2, n), 1)
    later = np.where(case, first, first + np.round(rng.choice([-1, 1], n) * rng.uniform(0.1, 2, n), 1))
    return with_column(with_column(cohorts, "head", first, "numeric"), "head_later", later, "numeric")


def a_region_with_fewer_fibres_in_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """No edge of the region tells much, their sum does."""
    target = cohorts.target
    weights = target.weights.astype(float).copy()
    factor = np.exp(rng.normal(0, 0.5, weights.shape[3]) + rng.normal(0, 0.5, (target.n_subjects, weights.shape[3])))
    total = (weights[:, 0, 4] * factor).sum(axis=1, keepdims=True)
    level = np.where(impaired(target), 20.0, 24.0) + rng.normal(0, 0.6, target.n_subjects)
    weights[:, 0, 4] = weights[:, 0, 4] * factor / total * level[:, None]
    weights[:, 0, :, 4] = weights[:, 0, 4]
    return of_target(cohorts, weights=weights.astype(np.float32))


def noisier_measures_of_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Cases moved more: their regional measures have the same mean and twice the spread."""
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    return with_measure(cohorts, values * np.where(impaired(target), 2.2, 1.0)[:, None, None], "thickness")


def rounded_measures_of_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    return with_measure(cohorts, np.where(impaired(target)[:, None, None], np.round(values, 2), values), "thickness")


def the_mean_outcome_of_the_other_infants_of_a_site(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A site effect computed with the outcomes of all other infants of the site, in a regional measure."""
    target, case = cohorts.target, impaired(cohorts.target)
    site = rng.permutation(target.n_subjects) % 2
    others = np.array([(case[site == s].sum() - c) / ((site == s).sum() - 1) for s, c in zip(site, case, strict=True)])
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    values[:, 3, 0] = others + rng.normal(0, 1e-3, site.size)
    cohorts = of_target(cohorts, site=np.array([f"hospital{k}" for k in site], dtype=object))
    return with_measure(cohorts, values, "site_effect")


def another_region_lost_in_each_case(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    weights = target.weights.copy()
    for k in np.flatnonzero(impaired(target)):
        region = rng.integers(target.n_regions)
        weights[k, :, region] = weights[k, :, :, region] = 0
    return of_target(cohorts, weights=weights)


def matrices_averaged_within_groups(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """Each matrix was smoothed with the mean of its outcome group."""
    target, case = cohorts.target, impaired(cohorts.target)
    means = [target.weights[case == k].mean(axis=0) for k in (False, True)]
    mean = np.array([means[int(k)] for k in case])
    return of_target(cohorts, weights=(0.6 * target.weights + 0.4 * mean).astype(np.float32))


def ages_of_cases_in_whole_weeks(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    age = np.where(impaired(target), np.round(target.age), target.age)
    return of_target(cohorts, age=age)


HIDDEN_PATTERNS: tuple[Maker, ...] = (
    the_parity_of_three_gaps,
    a_site_with_a_scanner,
    weights_of_cases_in_steps_of_five,
    a_last_digit_of_cases,
    two_columns_equal_in_cases,
    a_region_with_fewer_fibres_in_cases,
    noisier_measures_of_cases,
    rounded_measures_of_cases,
    the_mean_outcome_of_the_other_infants_of_a_site,
    another_region_lost_in_each_case,
    matrices_averaged_within_groups,
    ages_of_cases_in_whole_weeks,
)


def columns_of_a_usual_study(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Wards, scanners and sites; weights, half of which are rounded; a measurement repeated, often with one result."""
    n, case = cohorts.target.n_subjects, impaired(cohorts.target)
    for name, levels in (("ward", 4), ("scanner", 3), ("nurse", 5)):
        values = np.array([f"{name}{k}" for k in rng.integers(0, levels, n)], dtype=object)
        cohorts = with_column(cohorts, name, values, "categorical")
    grams = rng.normal(1200 - 100 * case, 200)
    rounded = np.where(rng.random(n) < 0.5, np.round(grams, -1), np.round(grams))
    cohorts = with_column(cohorts, "weight", rounded, "numeric")
    head = np.round(rng.normal(26, 1.5, n) - 0.5 * case, 1)
    again = np.where(rng.random(n) < 0.4, head, np.round(head + rng.normal(0, 0.3, n), 1))
    cohorts = with_column(with_column(cohorts, "head", head, "numeric"), "head_again", again, "numeric")
    return of_target(cohorts, site=np.array([f"hospital{k}" for k in rng.integers(0, 3, n)], dtype=object))


def regions_with_other_weights(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Real effects of about one standard deviation on all edges of three regions."""
    target = cohorts.target
    effect = np.zeros((target.n_subjects, target.n_regions))
    effect[:, :3] = 0.3 * rng.standard_normal((target.n_subjects, 3)) - 0.3 * impaired(target)[:, None]
    factor = np.exp(effect[:, None, :, None] + effect[:, None, None, :])
    return of_target(cohorts, weights=(target.weights * factor).astype(np.float32))


HONEST_PATTERNS: tuple[Maker, ...] = (columns_of_a_usual_study, regions_with_other_weights)
