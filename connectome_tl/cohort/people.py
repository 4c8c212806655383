"""Count subjects and scans, name the subjects (infants, children, adults) by their ages, find gestational ages."""

from __future__ import annotations

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ages import BORN, in_unit
from connectome_tl.cohort.columns.guesses import names_gestation
from connectome_tl.settings.columns import AgeUnit
from connectome_tl.settings.records.results import Noun, People

_GROWN_UP, _NO_INFANT = 18.0, 2.0  # years from birth
_TERM_WEEKS = 40.0
_ENOUGH = 0.5
_BORN_IN: tuple[AgeUnit, ...] = ("weeks", "days")


def people_of(cohort: Cohort) -> People:
    """The noun for a cohort's rows, from the ages of all, and the numbers of subjects and of scans.

    The noun is `subjects` if half or more of the ages are unknown, or if ages are on both sides of 2 or 18 years.
    Postmenstrual ages are converted to ages since the expected date of birth.
    """
    n_scans = cohort.n_subjects
    n_subjects = len(set(cohort.children)) if cohort.children else n_scans
    return People(noun=_noun(cohort), n_subjects=n_subjects, n_scans=n_scans)


def gestational_ages(cohort: Cohort) -> pd.Series | None:
    """Gestational ages at birth in weeks by id, of the covariate that is named so and has such values in weeks or days.

    None if there is no such covariate.
    """
    for spec in cohort.covariate_specs:
        if spec.type == "numeric" and names_gestation(spec.column):
            values = cohort.covariates[spec.column].astype(float)
            for unit in _BORN_IN:
                weeks = pd.Series(in_unit(values.to_numpy(), unit, "weeks"), index=values.index)
                if weeks.notna().any() and weeks.dropna().between(*BORN).all():
                    return weeks
    return None


def _noun(cohort: Cohort) -> Noun:
    known = cohort.age[~np.isnan(cohort.age)]
    if not cohort.age_unit or known.size == 0 or known.size <= _ENOUGH * cohort.n_subjects:
        return "subjects"
    unit: AgeUnit = cohort.age_unit  # type: ignore[assignment]
    years = in_unit(known, unit, "years")
    if cohort.age_reference == "postmenstrual":
        years = years - in_unit(np.array(_TERM_WEEKS), "weeks", "years")
    low, high = float(years.min()), float(years.max())
    if high < _NO_INFANT:
        return "infants"
    if low >= _GROWN_UP:
        return "adults"
    return "children" if low >= _NO_INFANT and high < _GROWN_UP else "subjects"
