"""Find numbers of a column that have another scale or sign than the others, as after a slip of a unit or a digit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.columns.numeric import unit_word
from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.cohort.tables.cells import fold
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted
from connectome_tl.settings.columns import Covariate

_TIMES = float(np.log(5))  # the least gap between two scales,
_WIDTHS = 3.0  # and in widths of the wider of the two, in logarithms
_FEWEST, _FEWEST_DISTINCT = 8, 6
_RARE = 0.1
_RANGES, _ENOUGH = 1.5, 36  # a negative value is this many ranges away, and further among fewer than 24 values
_WIDER = 12
_SINGLE = 2  # heavy tails give so few far values, so that they also need to be wrong by a power of 10
_NARROW = float(np.log(4))  # width of positive values to which 0 does not belong
_APGAR = re.compile(r"apgar")
_GRAMS = {"g": (200.0, 8_000.0), "kg": (0.2, 8.0)}
_WEIGHT_AT_BIRTH = re.compile(
    r"birth[\W_]*(?:weight|wt)|geburtsgewicht|poids[\W_]*(?:de[\W_]*)?naissance|geboortegewicht"
    r"|peso[\W_]*(?:al|di|da|ao|alla)?[\W_]*(?:nacer|nacimiento|nascer|nascimento|nascita)|(?:^|[\W_])bwt?(?:$|[\W_])"
)
_STANDARDISED = {"z", "zscore", "sd", "score", "percentile", "centile", "pctl", "perc", "%", "ratio", "group", "cat"}


def check_weight(
    spec: Covariate, unit: str, values: np.ndarray, ids: Sequence[str], file: Path, findings: Findings
) -> bool:
    """Check the unit of birth weights, which are in kg (dHCP) or g (most hospitals); False for another column."""
    column = spec.column
    name = fold(column)
    if not _WEIGHT_AT_BIRTH.search(name) and not ("weight" in name and spec.available_at == "birth" and unit in _GRAMS):
        return False
    words = {unit_word(word) for word in re.split(r"[\W_]+", name)}
    known = values[~np.isnan(values)]
    if words & _STANDARDISED or np.isin(known, (0, 1)).all():
        return False
    said = words & set(_GRAMS)
    if unit not in _GRAMS and len(said) == 1:  # birthweight_g
        (unit,) = said
    if unit not in _GRAMS:  # the two ranges hardly overlap, so that values usually identify the unit
        fits = [one for one, (low, high) in _GRAMS.items() if ((known >= low) & (known <= high)).all()]
        if len(fits) != 1:
            findings.problems.append(
                Problem(f"column {column!r}: is it kg or g?", file=file, remedy="Give the covariate's unit: kg or g.")
            )
        else:
            findings.notes.append(f"{column}: read as {fits[0]}")
        return True
    low, high = _GRAMS[unit]
    outside = np.flatnonzero((values < low) | (values > high)).tolist()
    findings.several(
        [(ids[i], f"{values[i]:g} {unit}") for i in outside],
        f"birth weight {column!r} is not possible",
        file,
        "Is it in the other unit, kg or g?",
    )
    return True


def note_scales(values: np.ndarray, name: str, findings: Findings) -> None:
    """Note values of a numeric column (n_rows,) that are not of the scale or sign of the others.

    Two groups of positive values with a gap between them that is wide in comparison to both, such as g and kg; one or
    two values only if a factor of 10, 100 or 1000 takes them to the others; a rare 0; a rare negative value far from
    the positive ones if such a factor takes its amount to them, or it is almost 0; Apgar scores above 10.
    """
    known = values[np.isfinite(values)]
    if _APGAR.search(fold(name)) and known.size and known.max() > 10:
        findings.notes.append(f"{name}: {known.max():g} is no Apgar score, which is 10 at most; correct it")
    if known.size < _FEWEST or any(note.startswith(f"{name}: ") and "far from" in note for note in findings.notes):
        return
    positive = np.sort(known[known > 0])
    others = known[known <= 0]
    if others.size and others.size <= _RARE * known.size:
        width = float(np.log(positive[-1] / positive[0]))
        far = positive[0] - others > max(_RANGES, _ENOUGH / known.size) * (positive[-1] - positive[0])
        slips = np.array([-one < positive[0] / 100 or _of_other_digits(np.array([-one]), positive) for one in others])
        odd = others[np.where(others < 0, far & slips, (width <= _NARROW) & (positive[0] > 1))]
        if odd.size and not any(note.startswith(f"{name}: ") and "below values" in note for note in findings.notes):
            findings.notes.append(
                f"{name}: {listed([f'{one:g}' for one in np.unique(odd)], 4)} among values of {positive[0]:g} to "
                f"{positive[-1]:g}; if it means missing, set missing: [...] for this column, or correct it"
            )
    if len(np.unique(positive)) >= _FEWEST_DISTINCT and (known < 0).mean() <= _RARE:
        _note_gap(positive, name, findings)


def _note_gap(positive: np.ndarray, name: str, findings: Findings) -> None:
    """Note two groups of sorted positive values that differ by a factor."""
    size = np.log(positive)
    gaps = np.diff(size)
    cut = int(np.argmax(gaps)) + 1
    widths = size[cut - 1] - size[0], size[-1] - size[cut]
    if gaps[cut - 1] > _TIMES and gaps[cut - 1] > _WIDTHS * max(widths):
        groups = [positive[:cut], positive[cut:]]
        few, rest = min(groups, key=len), max(groups, key=len)
        if len(few) <= _SINGLE and not _of_other_digits(few, rest):
            return
        shown = listed([f"{one:g}" for one in np.unique(few)], 4)
        findings.notes.append(
            f"{name}: {counted(len(few), 'value')} ({shown}) of another scale than the others, which are "
            f"{rest[0]:g} to {rest[-1]:g}; are they in another unit, or is a digit wrong?"
        )


def _of_other_digits(few: np.ndarray, rest: np.ndarray) -> bool:
    """Whether a power of 10 takes few values to the rest: into its range, widened for values that it may lack."""
    low, high = float(np.log10(rest[0])), float(np.log10(rest[-1]))
    moved = np.log10(few)[:, None] + np.arange(-3, 4)
    more = (high - low) * _WIDER / len(rest)
    return bool(((moved >= low - more) & (moved <= high + more)).all(axis=0).any())
