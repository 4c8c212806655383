"""Ages: always with a unit, possible in it, counted from birth, from conception or from term."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables import Findings, numbers
from connectome_tl.settings.cohort import AgeColumn, AgeUnit

_DAYS = {"days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
_AGE_RANGE_DAYS = {"birth": (0.0, 45_000.0), "postmenstrual": (140.0, 1_830.0), "corrected": (-140.0, 2_200.0)}
_TERM_WEEKS = 40.0


def ages(
    column: pd.Series,
    spec: AgeColumn,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    codes: Sequence[str] = (),
) -> np.ndarray:
    """Ages (n_rows,) in `spec.unit`, checked to be possible in that unit."""
    values = numbers(column, ids, file, findings, codes=codes, weeks_and_days=spec.unit == "weeks")
    low, high = _AGE_RANGE_DAYS[spec.reference]
    days = values * _DAYS[spec.unit]
    outside = np.flatnonzero((days < low) | (days > high))
    remedy = f"Is the unit of {spec.column!r} really {spec.unit}, counted from {_from(spec)}?"
    findings.several(
        [(ids[i], f"{values[i]:g} {spec.unit}") for i in outside.tolist()],
        f"age {spec.column!r} is not possible",
        file,
        remedy,
    )
    known = values[~np.isnan(values)]
    if spec.unit == "years" and known.size >= 4:
        # Infants in weeks and children in years in one column: a gap that no cohort has.
        ordered = np.sort(known)
        jump = np.diff(ordered).max(initial=0.0)
        if ordered[-1] > 24 and ordered[0] < 3 and jump > 12 and (known > 24).mean() < 0.98:
            findings.notes.append(f"{spec.column}: ages of {ordered[0]:g} and {ordered[-1]:g}; are all in years?")
    return values


def _from(spec: AgeColumn) -> str:
    return {"postmenstrual": "the last menstrual period", "corrected": "the expected date of birth"}.get(
        spec.reference, "birth"
    )


def reckoned(age: np.ndarray, spec: AgeColumn, born: np.ndarray) -> np.ndarray:
    """Ages in `spec.unit`, counted from what `spec.to` says instead of `spec.reference`.

    Args:
        born: gestational age at birth in weeks, (n_rows,); NaN makes the age NaN.
    """
    weeks = in_unit(age, spec.unit, "weeks")
    since_conception = {"birth": weeks + born, "postmenstrual": weeks, "corrected": weeks + _TERM_WEEKS}[spec.reference]
    turned = {
        "birth": since_conception - born,
        "postmenstrual": since_conception,
        "corrected": since_conception - _TERM_WEEKS,
    }[spec.to or spec.reference]
    return in_unit(turned, "weeks", spec.unit)


def in_unit(values: np.ndarray, given: AgeUnit, wanted: AgeUnit) -> np.ndarray:
    """Ages from one unit in another (a month is 30.4375 days, a year 365.25)."""
    return values * (_DAYS[given] / _DAYS[wanted])


def gestation(
    column: pd.Series,
    spec: AgeColumn,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    codes: Sequence[str] = (),
) -> np.ndarray:
    """Gestational age at birth in weeks (n_rows,), checked to be 20 to 45 weeks."""
    values = numbers(column, ids, file, findings, codes=codes, weeks_and_days=spec.unit == "weeks")
    weeks = in_unit(values, spec.unit, "weeks")
    outside = (weeks < 20) | (weeks > 45)
    findings.several(
        [(ids[i], f"{values[i]:g} {spec.unit}") for i in np.flatnonzero(outside).tolist()],
        f"gestational age {spec.column!r} is not possible",
        file,
        f"Is its unit really {spec.unit}?",
    )
    return np.where(outside, np.nan, weeks)


def born_before_scanned(
    age: np.ndarray, spec: AgeColumn, born: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings
) -> None:
    """A postmenstrual age at scan is not below the gestational age at birth (`born`, in weeks)."""
    if spec.reference == "birth":
        return
    scanned = in_unit(age, spec.unit, "weeks") + (_TERM_WEEKS if spec.reference == "corrected" else 0.0)
    early = np.flatnonzero(scanned < born - 1e-6).tolist()
    findings.several(
        [(ids[i], f"scan at {scanned[i]:.1f}, birth at {born[i]:.1f} weeks") for i in early],
        "postmenstrual age at scan is below gestational age at birth",
        file,
    )
