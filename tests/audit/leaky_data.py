"""Cohorts that leak before any study reads them, each as a careless analyst might make it; and honest look-alikes.

Each maker takes the cohorts of `dense_cohorts` (33 infants, half of whom are made positive) and a generator, and gives
the cohorts back with the leak in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.settings.cohort import Covariate
from connectome_tl.training.schemes import StudyCohorts

TASK = "cognitive"
Maker = Callable[[StudyCohorts, np.random.Generator], StudyCohorts]


def half_positive(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The same cohorts with outcomes that nothing measured knows; of those observed 45 % are positive."""
    target = cohorts.target
    observed = np.flatnonzero((target.status[["cognitive", "motor"]] == "observed").all(axis=1))
    impaired = rng.permutation(observed.size) < observed.size * 0.45
    table = target.targets.copy()
    for name in ("cognitive", "motor"):
        score = np.where(impaired, 68.0, 94.0) + rng.integers(0, 15, observed.size)
        table.iloc[observed, table.columns.get_loc(name)] = impaired * 1.0
        table.iloc[observed, table.columns.get_loc(f"{name}_score")] = score
    return of_target(cohorts, targets=table)


def of_target(cohorts: StudyCohorts, **changed: object) -> StudyCohorts:
    return cohorts.with_role("target", replace(cohorts.target, **changed))  # type: ignore[arg-type]


def impaired(cohort: Cohort) -> np.ndarray:
    return cohort.targets[TASK].to_numpy(float) == 1


def with_column(cohorts: StudyCohorts, name: str, values: object, kind: str) -> StudyCohorts:
    target = cohorts.target
    spec = Covariate(column=name, type=kind)  # type: ignore[arg-type]
    table = target.covariates.assign(**{name: values})
    return of_target(cohorts, covariates=table, covariate_specs=(*target.covariate_specs, spec))


def a_measure_computed_with_the_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A regional measure was adjusted with the outcome in the model: a little of it is in every region."""
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    values += 1.2 * impaired(target)[:, None, None]
    return _with_measure(cohorts, values, "adjusted_volume")


def weights_scaled_within_outcome_groups(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """Each group's matrices were divided by the group's own mean weight, and one group's mean was another."""
    target = cohorts.target
    total = target.weights.mean(axis=(1, 2, 3))
    group = np.where(impaired(target), 1.15, 1.0)
    return of_target(cohorts, weights=(target.weights / total[:, None, None, None] * group[:, None, None, None]))


def cases_processed_by_another_version(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The impaired were tracked again later, with a threshold that removes weak connections."""
    target = cohorts.target
    upper = np.triu(rng.random(target.weights.shape), 1)
    weak = (upper + upper.swapaxes(-1, -2)) < 0.05
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None] & weak, 0.0, target.weights))


def harmonised_with_outcome_groups_for_sites(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """ComBat was given the outcome as the batch by mistake and its effect was added, not removed: all edges shift."""
    target = cohorts.target
    shift = np.triu(rng.normal(0, 0.25, target.weights.shape[1:]), 1)
    shift = np.exp(shift + shift.swapaxes(-1, -2))
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], shift, 1.0) * target.weights)


def a_ward_for_each_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Follow-up clinics as a column: each saw children of one outcome only, none of them saw many."""
    target = cohorts.target
    clinic = np.where(impaired(target), 0, 4) + rng.integers(0, 4, target.n_subjects)
    return with_column(cohorts, "clinic", np.array([f"clinic {k}" for k in clinic], dtype=object), "categorical")


def a_site_for_each_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Cases came from the referral hospitals, controls from the others."""
    target = cohorts.target
    site = np.where(impaired(target), 0, 3) + rng.integers(0, 3, target.n_subjects)
    return of_target(cohorts, site=np.array([f"hospital{k}" for k in site], dtype=object))


def the_order_of_a_sorted_table(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The table was sorted by outcome, numbered, and the number kept as a column."""
    target = cohorts.target
    order = np.empty(target.n_subjects)
    order[np.argsort(impaired(target) + 0.1 * rng.random(target.n_subjects))] = np.arange(target.n_subjects)
    return with_column(cohorts, "record", order, "numeric")


def the_ordinal_score_beside_its_cut(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The severity of which the outcome is the cut stands among the covariates under another name."""
    target = cohorts.target
    severity = np.where(impaired(target), 2, 0) + rng.integers(0, 2, target.n_subjects)
    names = np.array(["none", "mild", "moderate", "severe"], dtype=object)
    return with_column(cohorts, "grade", names[severity], "categorical")


def a_modality_missing_in_the_impaired(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The sickest infants had no structural scan, so their regional measures are missing."""
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    values[impaired(target)] = np.nan
    return _with_measure(cohorts, values, "volume")


def infants_in_the_source_under_new_ids(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Six infants are also in the older cohort, in another scan, with other ids."""
    target, source = cohorts.target, cohorts.source
    assert source is not None
    weights = source.weights.copy()
    noise = np.triu(rng.normal(0, 0.1, weights[:6].shape), 1)
    weights[:6] = target.weights[:6] * np.exp(noise + noise.swapaxes(-1, -2))
    return cohorts.with_role("source", replace(source, weights=weights))


def _with_measure(cohorts: StudyCohorts, values: np.ndarray, name: str) -> StudyCohorts:
    """All cohorts with one regional measure; that of source and pool is noise."""
    changed = of_target(cohorts, region_features=values.astype(np.float32), region_feature_names=(name,))
    for role in ("source", "pool"):
        other = changed.roles[role]
        noise = np.random.default_rng(1).standard_normal((other.n_subjects, other.n_regions, 1)).astype(np.float32)
        changed = changed.with_role(role, replace(other, region_features=noise, region_feature_names=(name,)))
    return changed


LEAKY_DATA: tuple[Maker, ...] = (
    a_measure_computed_with_the_outcome,
    weights_scaled_within_outcome_groups,
    cases_processed_by_another_version,
    harmonised_with_outcome_groups_for_sites,
    a_ward_for_each_outcome,
    a_site_for_each_outcome,
    the_order_of_a_sorted_table,
    the_ordinal_score_beside_its_cut,
    a_modality_missing_in_the_impaired,
    infants_in_the_source_under_new_ids,
)


def a_measure_that_differs_between_groups(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A real effect of .8 SD on a measure of which all regions of a subject share half."""
    target = cohorts.target
    own = rng.standard_normal((target.n_subjects, 1, 1)) + 0.8 * impaired(target)[:, None, None]
    return _with_measure(cohorts, own + rng.standard_normal((target.n_subjects, target.n_regions, 1)), "volume")


def scales_that_know_nothing(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Two scanners, one with five times the counts, neither with more cases."""
    factor = np.where(rng.random(cohorts.target.n_subjects) < 0.5, 5.0, 1.0)
    return of_target(cohorts, weights=(cohorts.target.weights * factor[:, None, None, None]).astype(np.float32))


def clinics_of_every_kind(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Twelve clinics of two to four infants each; some are pure by chance."""
    clinic = rng.integers(0, 12, cohorts.target.n_subjects)
    return with_column(cohorts, "clinic", np.array([f"clinic {k}" for k in clinic], dtype=object), "categorical")


def an_order_of_enrolment(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    return with_column(
        cohorts, "record", pd.Series(rng.permutation(cohorts.target.n_subjects) * 1.0).to_numpy(), "numeric"
    )


def a_modality_missing_by_chance(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    values = rng.standard_normal((cohorts.target.n_subjects, cohorts.target.n_regions, 1))
    values[rng.permutation(cohorts.target.n_subjects)[:10]] = np.nan
    return _with_measure(cohorts, values, "volume")


HONEST_DATA: tuple[Maker, ...] = (
    a_measure_that_differs_between_groups,
    scales_that_know_nothing,
    clinics_of_every_kind,
    an_order_of_enrolment,
    a_modality_missing_by_chance,
)
