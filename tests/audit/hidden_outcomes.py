"""Cohorts whose data reveal the outcome in combinations, within groups, in precision or in names; and correct ones."""

from __future__ import annotations

import numpy as np

from connectome_tl.training.schemes import StudyCohorts
from tests.audit.leaky_data import Maker, impaired, of_target, with_column


def the_exclusive_or_of_two_columns(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    first = rng.random(target.n_subjects) < 0.5
    for name, values in (("ventilated", first), ("transferred", first ^ impaired(target))):
        cohorts = with_column(cohorts, name, np.where(values, "yes", "no").astype(object), "categorical")
    return cohorts


def the_same_sign_in_two_columns(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Two asymmetries that agree in side in cases only."""
    target = cohorts.target
    side = rng.permutation(np.arange(target.n_subjects) % 2) * 2.0 - 1
    other = side * np.where(impaired(target), 1.0, -1.0)
    for name, sign in (("arm", side), ("leg", other)):
        cohorts = with_column(cohorts, name, sign * rng.uniform(0.5, 4, target.n_subjects), "numeric")
    return cohorts


def the_product_of_two_columns(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    rate = np.exp(rng.normal(0, 1, target.n_subjects))
    level = np.where(impaired(target), rng.uniform(3, 4, target.n_subjects), rng.uniform(1, 2, target.n_subjects))
    return with_column(with_column(cohorts, "rate", rate, "numeric"), "duration", level / rate, "numeric")


def the_parity_of_a_sum(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    days = rng.integers(20, 90, target.n_subjects)
    visits = 2 * rng.integers(10, 60, target.n_subjects) + (days + impaired(target)) % 2
    return with_column(with_column(cohorts, "days", days * 1.0, "numeric"), "visits", visits * 1.0, "numeric")


def a_residual_after_site_means(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A score that each of two sites measures on another scale reveals the outcome within each."""
    target = cohorts.target
    site = np.argsort(np.argsort(impaired(target), kind="stable")) % 2
    values = 40.0 + 9.0 * impaired(target) + rng.normal(0, 1, target.n_subjects)
    return with_column(_at_sites(cohorts, site), "score", values * np.array([1.0, -0.2])[site], "numeric")


def an_edge_reversed_at_one_site(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    site = rng.permutation(target.n_subjects) % 2
    weights = target.weights.copy()
    edge = 10 + np.where(impaired(target), 2.0, -2.0) * np.where(site, 1.0, -1.0) + rng.normal(0, 0.5, len(site))
    weights[:, 0, 2, 5] = weights[:, 0, 5, 2] = edge
    return of_target(_at_sites(cohorts, site), weights=weights)


def a_column_that_tells_in_boys_only(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    boy = np.zeros(target.n_subjects, dtype=bool)
    for group in (impaired(target), ~impaired(target)):
        boy[rng.permutation(np.flatnonzero(group))[: int(0.65 * group.sum())]] = True
    cohorts = with_column(cohorts, "boy", boy * 1.0, "numeric")
    values = np.where(boy, 5.0 * impaired(target), rng.uniform(-3, 8, target.n_subjects))
    return with_column(cohorts, "hormone", values + rng.normal(0, 0.5, target.n_subjects), "numeric")


def noise_in_the_matrices_of_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Cases were scanned in half the time: their edges are noisier, and none is larger or smaller."""
    target = cohorts.target
    noise = np.triu(rng.normal(0, 0.7, target.weights.shape), 1)
    factor = np.exp(noise + noise.swapaxes(-1, -2))
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], factor, 1.0) * target.weights)


def matrices_of_cases_in_half_precision(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    half = target.weights.astype(np.float16).astype(np.float32)
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], half, target.weights))


def matrices_of_cases_with_few_values(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """Written as images of 8 bits, with their own largest weight."""
    target = cohorts.target
    step = target.weights.max(axis=(1, 2, 3), keepdims=True) / 255
    coarse = np.round(target.weights / step) * step
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], coarse, target.weights))


def ids_that_name_the_group(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    return _named(cohorts, lambda k, case: f"sub-{k:02d}{'case' if case else 'ctrl'}")


def odd_ids_of_cases(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    number = rng.permutation(400)
    return _named(cohorts, lambda k, case: f"sub-{2 * number[k] + case:04d}")


HIDDEN_OUTCOMES: tuple[Maker, ...] = (
    the_exclusive_or_of_two_columns,
    the_same_sign_in_two_columns,
    the_product_of_two_columns,
    the_parity_of_a_sum,
    a_residual_after_site_means,
    an_edge_reversed_at_one_site,
    a_column_that_tells_in_boys_only,
    noise_in_the_matrices_of_cases,
    matrices_of_cases_in_half_precision,
    matrices_of_cases_with_few_values,
    ids_that_name_the_group,
    odd_ids_of_cases,
)


def columns_with_an_interaction(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Two binary columns whose exclusive or agrees with the outcome in seven of ten infants."""
    target = cohorts.target
    first = rng.random(target.n_subjects) < 0.5
    second = first ^ (impaired(target) ^ (rng.random(target.n_subjects) < 0.3))
    for name, values in (("ventilated", first), ("transferred", second)):
        cohorts = with_column(cohorts, name, values * 1.0, "numeric")
    return cohorts


def sites_with_other_scales_and_columns(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Three sites with scales of their own for matrices and columns, and real effects of one standard deviation."""
    target = cohorts.target
    site = rng.permutation(target.n_subjects) % 3
    for k in range(4):
        values = 40.0 * site + impaired(target) + rng.normal(0, 1, target.n_subjects)
        cohorts = with_column(cohorts, f"score{k}", np.round(values, k), "numeric")
    weights = target.weights * np.array([1.0, 5.0, 0.2])[site][:, None, None, None]
    return of_target(_at_sites(cohorts, site), weights=weights.astype(np.float32))


def some_noisy_and_some_rounded_matrices(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    noise = np.triu(rng.normal(0, 0.7, target.weights.shape), 1)
    bad, coarse = rng.random((2, target.n_subjects))[:, :, None, None, None] < 0.3
    weights = np.where(bad, np.exp(noise + noise.swapaxes(-1, -2)), 1.0) * target.weights
    return of_target(cohorts, weights=np.where(coarse, np.round(weights, 1), weights).astype(np.float32))


def ids_with_sites_and_the_order_of_groups(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Ids name the site, which knows nothing of the outcome; cases were enrolled first."""
    n = cohorts.target.n_subjects
    site = rng.permutation(n) % 3
    rank = np.argsort(np.argsort(~impaired(cohorts.target), kind="stable"))
    return _named(_at_sites(cohorts, site), lambda k, _: f"sub-{'ABC'[site[k]]}{rank[k]:03d}")


HONEST_COUNTERPARTS: tuple[Maker, ...] = (
    columns_with_an_interaction,
    sites_with_other_scales_and_columns,
    some_noisy_and_some_rounded_matrices,
    ids_with_sites_and_the_order_of_groups,
)


def _at_sites(cohorts: StudyCohorts, site: np.ndarray) -> StudyCohorts:
    return of_target(cohorts, site=np.array([f"hospital{k}" for k in site], dtype=object))


def _named(cohorts: StudyCohorts, name: object) -> StudyCohorts:
    target = cohorts.target
    ids = [name(k, int(case)) for k, case in enumerate(impaired(target))]  # type: ignore[operator]
    return cohorts.with_role("target", target.drawn(np.arange(target.n_subjects), ids))
