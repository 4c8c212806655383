"""Check that ages are plausible in their unit and that a column has a single unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.columns.numeric import unit_word
from connectome_tl.cohort.findings import Findings
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted
from connectome_tl.settings.columns import AgeColumn

DAYS = {"hours": 1 / 24, "days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
_RANGE_DAYS = {"birth": (0.0, 45_000.0), "postmenstrual": (140.0, 1_830.0), "corrected": (-140.0, 2_200.0)}
# Largest plausible age in each unit; larger values are probably in another unit.
_MOST_DAYS = {"hours": 366.0, "days": 1_830.0, "weeks": 1_830.0, "months": 7_305.0, "years": 45_000.0}
_POSTMENSTRUAL = (30.0, 47.0)  # weeks at which newborns are scanned
_FEWEST = 4
_UNITS = {"hour", "day", "week", "month", "year"}


def check_ages(
    values: np.ndarray, spec: AgeColumn, ids: Sequence[str], file: str | Path, findings: Findings, *, repeated: bool
) -> None:
    """Report ages that are impossible, or that seem to be in two units.

    Args:
        values: (n_rows,) in `spec.unit`, NaN where missing.
        repeated: whether children have several scans, so that a wide range of ages is expected.
    """
    low, high = _RANGE_DAYS[spec.reference]
    low, high = (limit / DAYS[spec.unit] for limit in (low, min(high, _MOST_DAYS[spec.unit])))
    remedy = f"Is the unit of {spec.column!r} really {spec.unit}, counted from {_from(spec)}?"
    if spec.range is not None:
        low, high = spec.range
        remedy = f"The cohort file has range: [{low:g}, {high:g}]."
    outside = np.flatnonzero((values < low) | (values > high)).tolist()
    findings.several(
        [(ids[i], f"{values[i]:g} {spec.unit}") for i in outside], f"age {spec.column!r} is not possible", file, remedy
    )
    known = np.sort(values[~np.isnan(values)])
    if outside or spec.range is not None or len(known) < _FEWEST:
        return
    if (found := _two_units(known, spec, repeated=repeated)) is not None:
        below, above = found
        span = f"range: [{np.floor(known[0]):g}, {np.ceil(known[-1]):g}]"
        findings.problems.append(
            Problem(
                f"age {spec.column!r} looks as if it were in two units",
                expected=f"all in {spec.unit} from {_from(spec)}",
                got=f"{counted(len(below), 'value')} from {below[0]:g} to {below[-1]:g} and {len(above)} from "
                f"{above[0]:g} to "
                f"{above[-1]:g}",
                file=file,
                remedy=f"Convert one group; or, if all are {spec.unit} from {_from(spec)}, set {span} in `age`.",
            )
        )
    elif spec.unit == "weeks" and spec.reference == "birth" and _like_newborns(known):
        findings.notes.append(
            f"{spec.column}: all ages are between {known[0]:g} and {known[-1]:g} weeks, as postmenstrual ages of "
            "newborns do; they are read as weeks from birth"
        )


def check_name(spec: AgeColumn, file: str | Path, findings: Findings) -> None:
    """Check that the name of the column, such as `age_years`, agrees with the unit."""
    words = re.findall(r"[a-z]{2,}|(?<=[(\[])[a-z](?=[)\]])|(?<=_)[hdwy]$", spec.column.lower())
    said = {unit_word(word) for word in words} & _UNITS
    if spec.range is None and len(said) == 1 and unit_word(spec.unit) not in said:
        (word,) = said
        findings.problems.append(
            Problem(
                f"the name of column {spec.column!r} contradicts its unit",
                expected=f"{word}s",
                got=f"unit: {spec.unit}",
                file=file,
                remedy=f"Set unit: {word}s; or, if the name is misleading, the range of the ages: range: [low, high].",
            )
        )


def check_beside_gestation(values: np.ndarray, spec: AgeColumn, file: str | Path, findings: Findings) -> None:
    """Report ages of 30 to 47 years in a cohort with gestational ages, which are probably postmenstrual weeks."""
    known = np.sort(values[~np.isnan(values)])
    if spec.unit in ("years", "months") and spec.range is None and known.size and _like_newborns(known):
        findings.problems.append(
            Problem(
                f"age {spec.column!r} looks like postmenstrual weeks",
                got=f"{known[0]:g} to {known[-1]:g} {spec.unit}, and gestational ages",
                file=file,
                remedy="Set unit: weeks, reference: postmenstrual; or, if they are right, "
                f"range: [{np.floor(known[0]):g}, {np.ceil(known[-1]):g}].",
            )
        )


def _like_newborns(known: np.ndarray) -> bool:
    low, high = _POSTMENSTRUAL
    return bool(known[0] >= low and known[-1] <= high)


def _two_units(known: np.ndarray, spec: AgeColumn, *, repeated: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The two groups of sorted ages that seem to have different units, or None."""
    ratios = known[1:] / np.maximum(known[:-1], 1e-9)
    gaps = np.diff(known)
    cuts = {int(np.argmax(gaps)) + 1, int(np.argmax(np.where(known[:-1] > 0, ratios, 0))) + 1}
    for cut in sorted(cuts):
        below, above = known[:cut], known[cut:]
        low, high = _POSTMENSTRUAL
        newborns = above[0] >= low and above[-1] <= high and len(above) > 1
        if spec.reference == "birth" and newborns and gaps[cut - 1] >= 8:
            infants = below[0] < 3 and gaps[cut - 1] > 12
            if spec.unit in ("weeks", "months") or (spec.unit == "years" and infants):
                return below, above
        if not repeated and _converted(below, above, spec.unit):
            return below, above
    return None


def _converted(below: np.ndarray, above: np.ndarray, unit: str) -> bool:
    """Whether the two groups overlap after conversion of one of them to or from the declared unit."""
    if below[0] <= 0 or above[0] < 2.5 * below[-1]:
        return False
    for other, days in DAYS.items():
        factor = max(days, DAYS[unit]) / min(days, DAYS[unit])
        if other == unit or factor == 1:
            continue
        # The larger group is in the declared unit; the other is larger in a shorter unit, smaller in a longer one.
        shorter = days < DAYS[unit]
        main, odd = (below, above / factor) if shorter else (above, below * factor)
        if len(main) >= len(odd) and len(main) >= _FEWEST - 1 and _within(odd, main):
            return True
    return False


def _within(odd: np.ndarray, main: np.ndarray) -> bool:
    """Whether the odd group is within the range of the main group, which spans at most a factor of three."""
    return bool(main[-1] <= 3 * main[0] and odd[0] >= 0.8 * main[0] and odd[-1] <= 1.25 * main[-1])


def _from(spec: AgeColumn) -> str:
    return {"postmenstrual": "the last menstrual period", "corrected": "the expected date of birth"}.get(
        spec.reference, "birth"
    )
