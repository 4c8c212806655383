"""Cohorts in which two values together reveal the outcome, and neither of them alone."""

from __future__ import annotations

import numpy as np

from connectome_tl.training.schemes import StudyCohorts
from tests.audit.leaky_data import Maker, impaired, of_target, with_column


def _with_edges(cohorts: StudyCohorts, *values: np.ndarray) -> StudyCohorts:
    weights = cohorts.target.weights.copy()
    for k, edge in enumerate(values):
        weights[:, 0, 2 * k, 2 * k + 1] = weights[:, 0, 2 * k + 1, 2 * k] = edge
    return of_target(cohorts, weights=weights.astype(np.float32))


def the_product_of_two_edges(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Both deviate in one direction in cases, in opposite directions in controls."""
    n = cohorts.target.n_subjects
    sign, size = rng.permutation(n) % 2 * 2.0 - 1.0, rng.uniform(1, 3, (2, n))
    other = sign * np.where(impaired(cohorts.target), 1.0, -1.0)
    return _with_edges(cohorts, 10 + sign * size[0], 10 + other * size[1])


def the_quotient_of_two_edges(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    target = cohorts.target
    scale = np.exp(rng.normal(0, 1, target.n_subjects))
    level = np.where(impaired(target), rng.uniform(3, 4, target.n_subjects), rng.uniform(1, 2, target.n_subjects))
    return _with_edges(cohorts, scale, level * scale)


def an_edge_times_a_column(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    n = cohorts.target.n_subjects
    sign, size = rng.permutation(n) % 2 * 2.0 - 1.0, rng.uniform(1, 3, (2, n))
    other = sign * np.where(impaired(cohorts.target), 1.0, -1.0)
    return with_column(_with_edges(cohorts, 10 + sign * size[0]), "dose", 50 + 5 * other * size[1], "numeric")


HIDDEN_PRODUCTS: tuple[Maker, ...] = (the_product_of_two_edges, the_quotient_of_two_edges, an_edge_times_a_column)
