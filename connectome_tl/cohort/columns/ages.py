"""Ages with units: conversion, plausibility, and reference (birth, conception or term)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.columns.plausible import DAYS, check_ages
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, Marks
from connectome_tl.settings.columns import AgeColumn, AgeUnit

_TERM_WEEKS = 40.0
_FEWEST = 4  # rows
BORN = (20.0, 45.0)  # possible gestational ages at birth, weeks


def ages(
    column: pd.Series,
    spec: AgeColumn,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
    repeated: bool = False,
) -> np.ndarray:
    """Ages (n_rows,) in `spec.unit`, with checks of plausibility and of a single unit."""
    marks = marks.with_codes(spec.missing)
    values = numbers(column, ids, file, findings, marks=marks, unit=spec.unit, censored=spec.censored)
    check_ages(values, spec, ids, file, findings, repeated=repeated)
    return values


def reckoned(age: np.ndarray, spec: AgeColumn, born: np.ndarray) -> np.ndarray:
    """Ages in `spec.unit`, converted from `spec.reference` to the reference `spec.to`.

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
    return values * (DAYS[given] / DAYS[wanted])


def gestation(
    column: pd.Series,
    spec: AgeColumn,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
) -> np.ndarray:
    """Gestational age at birth in weeks (n_rows,), checked to be 20 to 45 weeks."""
    marks = marks.with_codes(spec.missing)
    values = numbers(column, ids, file, findings, marks=marks, unit=spec.unit, censored=spec.censored)
    return check_gestation(values, spec.column, spec.unit, ids, file, findings)


def check_gestation(
    values: np.ndarray, column: str, unit: AgeUnit, ids: Sequence[str], file: str | Path, findings: Findings
) -> np.ndarray:
    """Gestational ages in weeks (n_rows,); impossible values are reported and set to NaN."""
    weeks = in_unit(values, unit, "weeks")
    outside = (weeks < BORN[0]) | (weeks > BORN[1])
    findings.several(
        [(ids[i], f"{values[i]:g} {unit}") for i in np.flatnonzero(outside).tolist()],
        f"gestational age {column!r} is not possible",
        file,
        f"Is its unit really {unit}?",
    )
    return np.where(outside, np.nan, weeks)


def born_before_scanned(
    age: np.ndarray, spec: AgeColumn, born: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings
) -> None:
    """Check that the postmenstrual age at scan is not below the gestational age at birth (`born`, in weeks)."""
    if spec.reference == "birth":
        return
    scanned = in_unit(age, spec.unit, "weeks") + (_TERM_WEEKS if spec.reference == "corrected" else 0.0)
    early = np.flatnonzero(scanned < born - 1e-6).tolist()
    findings.several(
        [(ids[i], f"scan at {scanned[i]:.1f}, birth at {born[i]:.1f} weeks") for i in early],
        "postmenstrual age at scan is below gestational age at birth",
        file,
        "Are the two columns exchanged, or is one of them in another unit?",
    )
    both = np.isfinite(scanned) & np.isfinite(born)
    if both.sum() >= _FEWEST and np.allclose(scanned[both], born[both]):
        findings.notes.append(
            "the postmenstrual age at scan is the gestational age at birth in every row: is one of them the other's?"
        )
