"""Guess the meaning of table columns from names and cells, for a cohort file that the user checks.

The unit of an age is taken from the name of the column or requested from the user, never inferred from values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables.cells import fold, texts

Meaning = Literal["age", "gestational_age", "site", "family", "session", "covariate", "outcome", "status", "other"]

_UNITS = {
    "weeks": {"weeks", "week", "wks", "wk", "w"},
    "months": {"months", "month", "mo", "mths"},
    "years": {"years", "year", "yrs", "yr", "y"},
    "days": {"days", "day", "d"},
}
_SITE = {"site", "centre", "center", "hospital", "scanner", "scannersite", "siteid"}
_FAMILY = {"family", "familyid", "mother", "motherid", "twin", "twinid", "twinpair", "sibling", "pregnancy"}
_SESSION = {"session", "sessionid", "visit", "timepoint", "event"}
_STATUS = {"status", "outcomestatus", "followupstatus"}
_FOLLOW_UP = re.compile(r"bayley|bsid|griffiths|cbcl|mchat|gmfcs|outcome|follow.?up|cerebral.?palsy")
DEVELOPMENT = ("cognitive", "language", "motor", "bayley", "bsid")
_FOLLOW_UP_WORDS = {*DEVELOPMENT, "iq", "fiq", "viq", "piq", "cp", "ndi", "diagnosis", "dx", "score"}
_BIRTH = {"birth", "sex", "gender", "apgar", "twin", "multiple", "singleton", "ga", "gestational", "gestation", "bw"}
_NUISANCE = {"fd", "motion", "meanfd", "icv", "tiv", "etiv", "snr", "cnr", "outliers"}
_NEGATIVE = {
    "0",
    "no",
    "n",
    "false",
    "control",
    "controls",
    "negative",
    "normal",
    "healthy",
    "absent",
    "none",
    "typical",
}
_COUNTERS = {"nr", "no", "row", "index", "unnamed0"}
_MOST_LEVELS = 8


@dataclass(frozen=True)
class ColumnGuess:
    """Guess of the meaning of one column.

    Attributes:
        meaning: its role in a cohort file; `other` if unknown.
        numeric: whether its cells are numbers. levels: its values, if few.
        unit: unit of an age, from the name of the column. reference: origin of an age, from the name.
        developmental: whether the name is that of a developmental score. edition: edition of the test, if named.
        known_at_birth, nuisance: of a covariate.
    """

    column: str
    meaning: Meaning
    numeric: bool
    levels: tuple[str, ...] = ()
    unit: str | None = None
    reference: str | None = None
    developmental: bool = False
    edition: str | None = None
    known_at_birth: bool = False
    nuisance: bool = False


def guess_columns(table: pd.DataFrame, ids: Sequence[str]) -> tuple[ColumnGuess, ...]:
    """A guess for every column but the id columns.

    Args:
        table: cells as text. ids: names of the id columns.
    """
    return tuple(_guess(table[name]) for name in table.columns if name and name not in ids)


def _guess(column: pd.Series) -> ColumnGuess:
    name = str(column.name)
    words = _words(name)
    joined = "".join(words)
    known = [cell for cell in texts(column) if cell]
    values = pd.to_numeric(pd.Series(known, dtype=str).str.replace(",", ".", regex=False), errors="coerce")
    numeric = bool(known) and float(values.notna().mean()) >= 0.8
    # As most rows write them: cells that differ by case are one level.
    counted = Counter(known)
    spelled = {fold(cell): cell for cell, _ in sorted(counted.items(), key=lambda pair: pair[1])}
    levels = tuple(spelled[one] for one in sorted(spelled)) if 2 <= len(spelled) <= _MOST_LEVELS else ()
    unit = next((unit for unit, spelled in _UNITS.items() if spelled & set(words)), None)
    counter = known == [str(i) for i in range(1, len(known) + 1)] or joined in _COUNTERS
    meaning, reference = _meaning(words, joined, numeric=numeric, levels=levels, n_known=len(known), counter=counter)
    return ColumnGuess(
        name,
        meaning,
        numeric,
        levels,
        unit=unit or ("weeks" if reference == "postmenstrual" else None),
        reference=reference,
        developmental=any(word in joined for word in DEVELOPMENT),
        edition=_edition(joined),
        known_at_birth=bool(_BIRTH & set(words)),
        nuisance=bool(_NUISANCE & {*words, joined}),
    )


def _meaning(
    words: Sequence[str], joined: str, *, numeric: bool, levels: tuple[str, ...], n_known: int, counter: bool
) -> tuple[Meaning, str | None]:
    """The meaning, and from when an age counts where the name says so.

    Args:
        counter: the column numbers the rows of the sheet.
    """
    given = set(words)
    groups: tuple[tuple[set[str], Meaning], ...] = (
        (_SITE, "site"),
        (_FAMILY, "family"),
        (_SESSION, "session"),
        (_STATUS, "status"),
    )
    if _FOLLOW_UP.search(joined) and not {"status", "age"} & given:
        return ("outcome", None) if numeric or levels else ("other", None)
    for spelled, meaning in groups:
        if spelled & {*words, joined} and not (meaning == "family" and levels and numeric):
            return meaning, None
    if numeric and ({"pma"} & given or "postmenstrual" in joined):
        return "age", "postmenstrual"
    if numeric and ({"ga"} & given or "gestation" in joined or "birthage" in joined):
        return "gestational_age", None
    if numeric and "age" in given | {joined} and not {"mother", "maternal", "father", "paternal"} & given:
        return "age", "corrected" if "corrected" in given else None
    if _FOLLOW_UP_WORDS & given and (numeric or levels):
        return "outcome", None
    if n_known and (numeric or levels) and len(set(levels)) != 1 and not counter:
        return "covariate", None
    return "other", None


def _words(name: str) -> list[str]:
    """`birthWeight_g` as birth, weight, g."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", fold(split)) if word]


def _edition(joined: str) -> str | None:
    found = re.search(r"(?:bayley|bsid)(iii|ii|iv|2|3|4)", joined)
    names = {"ii": "BSID-II", "2": "BSID-II", "iii": "Bayley-III", "3": "Bayley-III", "iv": "Bayley-4", "4": "Bayley-4"}
    return names[found[1]] if found else None


def id_pattern(table: pd.DataFrame, files: Sequence[str]) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """The column whose ids occur in names of files, and the patterns of these names.

    Args:
        table: cells as text. files: names relative to their folder, with `/`.

    Returns:
        The column, and patterns with `{id}` with their numbers of rows with such a file, in decreasing order;
        None if there is no such column.
    """
    best: tuple[int, str, tuple[tuple[str, int], ...]] | None = None
    there = set(files)
    for position, name in enumerate(table.columns):
        ids = [cell for cell in texts(table[name]) if cell]
        if len(set(ids)) < max(2, len(ids) // 2):
            continue
        patterns = {pattern for one in ids[:20] for file in files for pattern in _patterns_of(file, one)}
        counts = {p: sum(p.replace("{id}", _bare(one)) in there for one in set(ids)) for p in patterns}
        found = tuple(sorted(((p, n) for p, n in counts.items() if n > 1), key=lambda pair: (-pair[1], pair[0])))
        rank = (found[0][1] if found else 0) * 1000 - position
        if found and (best is None or rank > best[0]):
            best = rank, str(name), found
    return None if best is None else best[1:]


def _patterns_of(file: str, subject: str) -> list[str]:
    """The name of a file with `{id}` in place of the complete id; a leading `sub-` is kept."""
    bare = _bare(subject)
    pattern = re.sub(rf"(?<![A-Za-z0-9]){re.escape(bare)}(?![A-Za-z0-9])", "{id}", file)
    return [pattern] if "{id}" in pattern else []


def _bare(subject: str) -> str:
    return subject.removeprefix("sub-")


def negative_level(levels: Sequence[str]) -> str | None:
    """The one of two levels that denotes absence; None if the words do not determine it."""
    found = [level for level in levels if fold(level) in _NEGATIVE]
    return found[0] if len(found) == 1 else None


def numbers_of(column: pd.Series) -> np.ndarray:
    """Its known numbers, for a first look; other cells are left out."""
    known = pd.Series([cell for cell in texts(column) if cell], dtype=str).str.replace(",", ".", regex=False)
    return pd.to_numeric(known, errors="coerce").dropna().to_numpy(dtype=float)
