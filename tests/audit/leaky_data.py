"""Cohorts with leaks in the data, each a plausible error of an analyst; and similar but correct cohorts.

Each maker takes the cohorts of `dense_cohorts` (33 infants, half of whom are made positive) and a generator, and
returns the cohorts with the leak.
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
    """The same cohorts with outcomes that are independent of all data; 45 % of the observed ones are positive."""
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
    return with_measure(cohorts, values, "adjusted_volume")


def weights_scaled_within_outcome_groups(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """The matrices of each group were divided by the mean weight of the group, and these means differed."""
    target = cohorts.target
    total = target.weights.mean(axis=(1, 2, 3))
    group = np.where(impaired(target), 1.15, 1.0)
    return of_target(cohorts, weights=(target.weights / total[:, None, None, None] * group[:, None, None, None]))


def cases_processed_by_another_version(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The impaired infants were tracked again later, with a threshold that removes weak connections."""
    target = cohorts.target
    upper = np.triu(rng.random(target.weights.shape), 1)
    weak = (upper + upper.swapaxes(-1, -2)) < 0.05
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None] & weak, 0.0, target.weights))


def harmonised_with_outcome_groups_for_sites(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The outcome was used as the batch of ComBat, and its effect was added instead of removed: all edges shift."""
    target = cohorts.target
    shift = np.triu(rng.normal(0, 0.25, target.weights.shape[1:]), 1)
    shift = np.exp(shift + shift.swapaxes(-1, -2))
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], shift, 1.0) * target.weights)


def a_ward_for_each_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Follow-up clinics as a column: each has few children, all with the same outcome."""
    target = cohorts.target
    clinic = np.where(impaired(target), 0, 4) + rng.integers(0, 4, target.n_subjects)
    return with_column(cohorts, "clinic", np.array([f"clinic {k}" for k in clinic], dtype=object), "categorical")


def a_site_for_each_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Cases came from the referral hospitals, controls from the others."""
    target = cohorts.target
    site = np.where(impaired(target), 0, 3) + rng.integers(0, 3, target.n_subjects)
    return of_target(cohorts, site=np.array([f"hospital{k}" for k in site], dtype=object))


def the_order_of_a_sorted_table(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The table was sorted by outcome and numbered, and the number is a column."""
    target = cohorts.target
    order = np.empty(target.n_subjects)
    order[np.argsort(impaired(target) + 0.1 * rng.random(target.n_subjects))] = np.arange(target.n_subjects)
    return with_column(cohorts, "record", order, "numeric")


def the_ordinal_score_beside_its_cut(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The severity from which the outcome was derived is a covariate with another name."""
    target = cohorts.target
    severity = np.where(impaired(target), 2, 0) + rng.integers(0, 2, target.n_subjects)
    names = np.array(["absent", "mild", "moderate", "severe"], dtype=object)
    return with_column(cohorts, "grade", names[severity], "categorical")


def a_modality_missing_in_the_impaired(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """The most severely ill infants had no structural scan, so their regional measures are missing."""
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    values[impaired(target)] = np.nan
    return with_measure(cohorts, values, "volume")


def infants_in_the_source_under_new_ids(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Six infants are also in the older cohort, in another scan, with other ids."""
    target, source = cohorts.target, cohorts.source
    assert source is not None
    weights = source.weights.copy()
    noise = np.triu(rng.normal(0, 0.1, weights[:6].shape), 1)
    weights[:6] = target.weights[:6] * np.exp(noise + noise.swapaxes(-1, -2))
    return cohorts.with_role("source", replace(source, weights=weights))


def with_measure(cohorts: StudyCohorts, values: np.ndarray, name: str) -> StudyCohorts:
    """All cohorts with one regional measure; that of source and pool is noise."""
    changed = of_target(cohorts, region_features=values.astype(np.float32), region_feature_names=(name,))
    for role in ("source", "pool"):
        other = changed.roles[role]
        noise = np.random.default_rng(1).standard_normal((other.n_subjects, other.n_regions, 1)).astype(np.float32)
        changed = changed.with_role(role, replace(other, region_features=noise, region_feature_names=(name,)))
    return changed


def two_columns_that_add_up_to_the_outcome(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A later score was split into two subscales; each alone contains little information."""
    target = cohorts.target
    part = rng.normal(0, 30, target.n_subjects)
    rest = np.where(impaired(target), 65.0, 95.0) + rng.normal(0, 3, target.n_subjects) - part
    return with_column(with_column(cohorts, "receptive", part, "numeric"), "expressive", rest, "numeric")


def a_code_without_an_order(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Codes of a discharge letter, 1 to 6: the odd ones are diagnoses."""
    target = cohorts.target
    code = 2.0 * rng.integers(1, 4, target.n_subjects) - impaired(target)
    return with_column(cohorts, "letter", code, "numeric")


def an_odd_number_for_each_case(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Record numbers of cases end with an odd digit."""
    target = cohorts.target
    number = 2.0 * rng.permutation(500)[: target.n_subjects] + impaired(target)
    return with_column(cohorts, "record", number, "numeric")


def values_typed_with_another_precision(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Head circumferences of cases were measured again, to the millimetre, by another clerk."""
    target = cohorts.target
    size = rng.normal(33, 2, target.n_subjects)
    fine = np.round(size, 1) + np.where(np.round(size * 10) % 10 == 0, 0.1, 0.0)
    return with_column(cohorts, "head", np.where(impaired(target), fine, np.round(size)), "numeric")


def cases_at_both_ends(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A severity with the side of the lesion as its sign: cases are far from zero on both sides."""
    target = cohorts.target
    size = np.where(impaired(target), rng.uniform(3, 6, target.n_subjects), rng.uniform(0, 2, target.n_subjects))
    return with_column(cohorts, "asymmetry", size * rng.choice([-1.0, 1.0], target.n_subjects), "numeric")


def one_of_two_columns_missing(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Cases attended one of two clinics only, controls at both or none."""
    target = cohorts.target
    which = rng.random(target.n_subjects) < 0.5
    gone = (which, np.where(impaired(target), ~which, which))
    for name, missing in zip(("visit1", "visit2"), gone, strict=True):
        values = np.where(missing, np.nan, rng.normal(size=target.n_subjects))
        cohorts = with_column(cohorts, name, values, "numeric")
    return cohorts


def matrices_of_cases_written_with_fewer_digits(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """The impaired infants were exported again, with four significant digits."""
    target = cohorts.target
    size = 10.0 ** (np.floor(np.log10(np.where(target.weights > 0, target.weights, 1.0))) - 3)
    rounded = (np.round(target.weights / size) * size).astype(np.float32)
    return of_target(cohorts, weights=np.where(impaired(target)[:, None, None, None], rounded, target.weights))


def cases_divided_by_their_largest_weight(cohorts: StudyCohorts, _: np.random.Generator) -> StudyCohorts:
    """One group was normalised by the largest weight, the other by a fixed number of the same size."""
    target = cohorts.target
    largest = target.weights.max(axis=(1, 2, 3))
    factor = np.where(impaired(target), largest, np.median(largest))
    return of_target(cohorts, weights=(target.weights / factor[:, None, None, None]).astype(np.float32))


def one_measure_scaled_against_the_other(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Counts of cases were multiplied by 1.2, the other measure was not; both vary far more between subjects."""
    changed = cohorts
    for role in ("target", "pool", "source"):
        cohort = cohorts.roles[role]
        own = np.exp(rng.normal(0, 0.5, cohort.n_subjects))[:, None, None]
        both = np.stack([cohort.weights[:, 0] * own, cohort.weights[:, 0] * own * 0.01], axis=1)
        if role == "target":
            both[:, 0] *= np.where(impaired(cohort), 1.2, 1.0)[:, None, None]
        measures = ("fbc", "fbc_density")
        changed = changed.with_role(role, replace(cohort, weights=both.astype(np.float32), measures=measures))
    return changed


def a_measure_shifted_both_ways(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A measure was standardised within outcome groups by another atlas: each region moves, the mean does not."""
    target = cohorts.target
    values = rng.standard_normal((target.n_subjects, target.n_regions, 1))
    shift = rng.permutation(np.repeat([-1.1, 1.1], target.n_regions // 2))
    values += impaired(target)[:, None, None] * shift[None, :, None]
    return with_measure(cohorts, values, "thickness")


def a_later_scan_under_a_new_id(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Five infants occur twice, the second time with a dissimilar scan a year later; their columns are the same."""
    target = cohorts.target
    known = np.flatnonzero(target.targets[TASK].notna())[:5]
    both = np.r_[np.arange(target.n_subjects), known]
    doubled = target.drawn(both, [*target.ids, *(f"later{i:02d}" for i in known)])
    noise = np.triu(rng.normal(2.0, 0.7, doubled.weights[target.n_subjects :].shape), 1)
    doubled.weights[target.n_subjects :] = np.exp(noise + noise.swapaxes(-1, -2)) * (1 - np.eye(target.n_regions))
    doubled.family[target.n_subjects :] = ""
    age = np.array(doubled.age, dtype=float)
    age[target.n_subjects :] += 52.0
    return cohorts.with_role("target", replace(doubled, age=age))


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
    two_columns_that_add_up_to_the_outcome,
    a_code_without_an_order,
    an_odd_number_for_each_case,
    values_typed_with_another_precision,
    cases_at_both_ends,
    one_of_two_columns_missing,
    matrices_of_cases_written_with_fewer_digits,
    cases_divided_by_their_largest_weight,
    one_measure_scaled_against_the_other,
    a_measure_shifted_both_ways,
    a_later_scan_under_a_new_id,
)


def a_measure_that_differs_between_groups(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """A real effect of 0.8 SD on a measure; half of its variance is shared by all regions of a subject."""
    target = cohorts.target
    own = rng.standard_normal((target.n_subjects, 1, 1)) + 0.8 * impaired(target)[:, None, None]
    return with_measure(cohorts, own + rng.standard_normal((target.n_subjects, target.n_regions, 1)), "volume")


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
    return with_measure(cohorts, values, "volume")


def a_gestational_age_that_predicts(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Impaired infants were born one and a half standard deviations earlier, and weighed accordingly."""
    target = cohorts.target
    weeks = np.round(29.0 - 2.4 * impaired(target) + rng.normal(0, 1.6, target.n_subjects), 1)
    grams = np.round(1250 + 120 * (weeks - 28) + rng.normal(0, 150, target.n_subjects))
    return with_column(with_column(cohorts, "weeks", weeks, "numeric"), "grams", grams, "numeric")


def counts_in_other_units_at_one_site(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """One of two sites exports thousands, with few digits; neither has more cases."""
    target = cohorts.target
    second = rng.permutation(target.n_subjects) % 2 == 0
    weights = np.where(second[:, None, None, None], np.round(target.weights * 1e-3, 5), target.weights)
    site = np.where(second, "north", "south").astype(object)
    return of_target(cohorts, weights=weights.astype(np.float32), site=site)


def many_gaps_by_chance(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Six columns with four in ten values missing."""
    n = cohorts.target.n_subjects
    for k in range(6):
        values = np.where(rng.random(n) < 0.4, np.nan, np.round(rng.normal(50, 10, n), k % 3))
        cohorts = with_column(cohorts, f"item{k}", values, "numeric")
    return cohorts


def scores_of_few_values(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Apgar scores, and a grade with a realistic association with the outcome."""
    target = cohorts.target
    cohorts = with_column(cohorts, "apgar", rng.integers(3, 10, target.n_subjects).astype(float), "numeric")
    grade = np.clip(rng.poisson(0.6 + 0.9 * impaired(target)), 0, 4).astype(float)
    return with_column(cohorts, "ivh", grade, "numeric")


def twins_declared_with_the_same_columns(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
    """Two scans of each of four infants, declared as one family."""
    del rng
    target = cohorts.target
    both = np.r_[np.arange(target.n_subjects), np.arange(4)]
    doubled = target.drawn(both, [*target.ids, *(f"again{i}" for i in range(4))])
    doubled.family[:4] = doubled.family[target.n_subjects :] = [f"pair{i}" for i in range(4)]
    return cohorts.with_role("target", doubled)


HONEST_DATA: tuple[Maker, ...] = (
    a_measure_that_differs_between_groups,
    scales_that_know_nothing,
    clinics_of_every_kind,
    an_order_of_enrolment,
    a_modality_missing_by_chance,
    a_gestational_age_that_predicts,
    counts_in_other_units_at_one_site,
    many_gaps_by_chance,
    scores_of_few_values,
    twins_declared_with_the_same_columns,
)
