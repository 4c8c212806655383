"""Guess the meaning of table columns from names and cells, for a cohort file that the user checks.

The unit of an age is taken from the name of the column or requested from the user, never inferred from values.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.codes import CODES, without_codes
from connectome_tl.cohort.columns.dates import are_dates_in_digits, is_date
from connectome_tl.cohort.columns.numeric import weeks_and_days
from connectome_tl.cohort.columns.status import status_word
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import fold, texts, whole

Meaning = Literal["age", "gestational_age", "site", "family", "session", "covariate", "outcome", "status", "other"]

# Words of column names, in English, German, French, Spanish, Portuguese, Italian and Dutch, without accents.
_UNITS = {
    "weeks": {
        "weeks",
        "week",
        "wks",
        "wk",
        "w",
        "wochen",
        "woche",
        "ssw",
        "semaines",
        "semaine",
        "semanas",
        "settimane",
        "weken",
    },
    "months": {"months", "month", "mo", "mths", "monate", "monaten", "monat", "mois", "meses", "mesi", "maanden"},
    "years": {"years", "year", "yrs", "yr", "y", "jahre", "jahren", "jahr", "ans", "annees", "anos", "anni", "jaar"},
    "hours": {"hours", "hour", "hrs", "hr", "h", "stunden", "stunde", "heures", "heure", "horas", "ore", "uren"},
    "days": {"days", "day", "d", "tage", "tagen", "tag", "jours", "dias", "giorni", "dagen"},
}
_AGE = {"age", "alter", "edad", "idade", "eta", "leeftijd"}
_PARENT = {"mother", "maternal", "father", "paternal", "parental", "mutter", "mutterlich", "vater", "mere", "pere"}
_PARENT |= {"madre", "padre", "mae", "pai", "moeder", "vader", "materna", "materno", "paterna", "paterno"}
_SITE = {"site", "centre", "center", "hospital", "scanner", "scannersite", "siteid"}
_SITE |= {"zentrum", "klinik", "krankenhaus", "standort", "hopital"}
_SITE |= {"centro", "ospedale", "ziekenhuis", "sitio", "sede"}
_FAMILY = {"family", "familyid", "mother", "motherid", "twin", "twinid", "twinpair", "sibling", "pregnancy"}
_FAMILY |= {"familie", "famille", "zwilling", "zwillinge", "zwillingspaar", "jumeaux"}
_FAMILY |= {"familia", "famiglia", "gemelo", "gemelos", "gemello", "gemelli", "gezin", "tweeling"}
_CODE = {"id", "ids", "code", "number", "nr", "no", "num", "pair", "group", "set", "of"}
_SESSION = {"session", "sessionid", "visit", "timepoint", "event"}
_STATUS = {"status", "outcomestatus", "followupstatus"}
_FOLLOW_UP = re.compile(
    r"bayley|bsid|griffiths|mullen|vineland|wppsi|kaufman|cbcl|mchat|gmfcs|outcome|follow.?up"
    r"|cerebral.?palsy|zerebralparese|paralysie.?cerebrale"
    r"|nachuntersuchung|quotient.?developpemental"
)
DEVELOPMENT = ("cognitive", "language", "motor", "bayley", "bsid", "kognitiv", "cognitif", "langage", "developpemental")
_FOLLOW_UP_WORDS = {*DEVELOPMENT, "iq", "fiq", "viq", "piq", "cp", "ndi", "diagnosis", "dx", "score", "diagnose"}
_FOLLOW_UP_WORDS |= {"diagnostico", "diagnosi", "ci", "cognitivo", "lenguaje", "linguagem", "linguaggio", "taal"}
_FOLLOW_UP_WORDS |= {"wisc", "wais", "kabc", "vabs", "mabc", "pdms", "asq", "srs", "ados", "sdq", "bdi"}
_FOLLOW_UP_WORDS |= {"diagnostic", "qi", "sprache", "motorik", "moteur", "motricite"}
_BIRTH = {"birth", "sex", "gender", "apgar", "twin", "multiple", "singleton", "ga", "gestational", "gestation", "bw"}
_BIRTH |= {"sexo", "sesso", "geslacht", "nacimiento", "nascimento", "nascita", "geboorte", "gemelo", "gemello"}
_BIRTH |= {"geburt", "geburtsgewicht", "geburtslange", "geschlecht", "mehrling", "naissance", "sexe", "ssw"}
_GESTATION = ("gestation", "gestage", "birthage", "ageatbirth", "gestacional", "gestazional", "zwangerschapsduur",
              "gestwk", "gestweek", "schwangerschaftswoche", "amenorrh", "tragzeit")  # fmt: skip
_GA = {"ga", "eg", "gab", "gaw", "terme"}
_SCAN = {"scan", "mri", "mrt", "irm", "rm"}
_NUISANCE = {"fd", "motion", "meanfd", "icv", "tiv", "etiv", "snr", "cnr", "outliers"}
_NEGATIVE = {
    *("0", "no", "n", "false", "control", "controls", "negative", "normal", "healthy", "absent", "none", "typical"),
    *("nein", "kontrolle", "kontrollen", "negativ", "gesund", "keine", "unauffallig"),
    *("non", "temoin", "temoins", "negatif", "sain", "sains", "aucun", "aucune"),
}
_COUNTERS = {"nr", "no", "row", "index", "unnamed0", "lfdnr", "laufendenummer", "numero"}
_MOSTLY = 0.8  # share of the known cells that determines the meaning of a column
_MOST_LEVELS = 8


def unit_among(words: Collection[str]) -> str | None:
    """The unit of time that one of the words is, in lower case and without accents."""
    return next((unit for unit, spelled in _UNITS.items() if spelled & set(words)), None)


@dataclass(frozen=True)
class ColumnGuess:
    """Guess of the meaning of one column.

    Attributes:
        meaning: its role in a cohort file; `other` if unknown.
        numeric: whether its cells are numbers, but for reasons of missing scores. levels: its values, if few.
        codes: 8, 9, 99 and similar cells beside two levels 0 and 1 or 1 and 2, which are not among `levels`.
        unit: unit of an age, from the name of the column. reference: origin of an age, from the name.
        developmental: whether the name is that of a developmental score. edition: edition of the test, if named.
        known_at_birth, nuisance: of a covariate.
        date: the first cell where the column holds dates, which are never read as ages; else empty.
    """

    column: str
    meaning: Meaning
    numeric: bool
    levels: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    unit: str | None = None
    reference: str | None = None
    developmental: bool = False
    edition: str | None = None
    known_at_birth: bool = False
    nuisance: bool = False
    date: str = ""

    @property
    def readable(self) -> bool:
        """Whether it can be read as an outcome: numbers, or a few levels."""
        return self.numeric or bool(self.levels)

    @property
    def looks_like_age(self) -> bool:
        """Whether the name is that of an age, for any content."""
        return bool(_AGE & set(_words(self.column)) or "pma" in _words(self.column))


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
    filled = [cell for cell in texts(column) if cell]
    scored = [cell for cell in filled if status_word(cell) is None]
    # `died` beside one other level is an outcome, not a reason why it is missing.
    known = scored if 2 * len(scored) > len(filled) and len(set(scored)) > 1 else filled
    codes = _codes_beside_two_levels(known)
    known = [whole(cell) for cell in known if cell not in codes]
    values = [_number(cell) for cell in known]
    numeric = bool(known) and float(np.isfinite(values).mean()) >= _MOSTLY
    dates = list(known) if are_dates_in_digits(name, known) else [cell for cell in known if is_date(cell)]
    # As most rows write them: cells that differ by case are one level.
    counted = Counter(known)
    spelled = {fold(cell): cell for cell, _ in sorted(counted.items(), key=lambda pair: pair[1])}
    levels = tuple(spelled[one] for one in sorted(spelled)) if 2 <= len(spelled) <= _MOST_LEVELS else ()
    unit = unit_among(words)
    if unit is None and sum(weeks_and_days(cell) is not None for cell in known) > len(known) / 2:
        unit = "weeks"
    counter = known == [str(i) for i in range(1, len(known) + 1)] or joined in _COUNTERS
    whole_numbers = not numeric or bool(np.equal(np.mod([v for v in values if np.isfinite(v)], 1), 0).all())
    meaning, reference = _meaning(_Facts(frozenset(words), joined, numeric, levels, len(known), counter, whole_numbers))
    dated = bool(known) and len(dates) >= _MOSTLY * len(known)
    meaning, reference = ("other", None) if dated else (meaning, reference)
    return ColumnGuess(
        name,
        meaning,
        numeric,
        levels,
        codes,
        unit=unit or ("weeks" if reference == "postmenstrual" else None),
        reference=reference,
        developmental=any(word in joined for word in DEVELOPMENT),
        edition=_edition(joined),
        known_at_birth=bool(_BIRTH & set(words)) or meaning == "gestational_age",
        nuisance=bool(_NUISANCE & {*words, joined}),
        date=dates[0] if dated else "",
    )


def _codes_beside_two_levels(cells: Sequence[str]) -> tuple[str, ...]:
    """Cells that may mean a missing value where all others are 0 and 1, or 1 and 2."""
    distinct = set(cells)
    codes = {cell for cell in distinct if whole(cell) in (*CODES, "8", "9")}
    levels = {whole(cell) for cell in distinct - codes}
    return tuple(sorted(codes)) if levels in ({"0", "1"}, {"1", "2"}) else ()


Meant = tuple[Meaning, str | None]  # the meaning, and the origin of an age if the name contains it


@dataclass(frozen=True)
class _Facts:
    """Properties of a column that the rules use.

    Attributes:
        words: words of its name. joined: the same without gaps.
        levels: distinct cells, if there are few. n_known: number of cells that are not empty.
        counter: it numbers the rows of the sheet. codes: no cell is a number with decimals.
    """

    words: frozenset[str]
    joined: str
    numeric: bool
    levels: tuple[str, ...]
    n_known: int
    counter: bool
    codes: bool

    @property
    def readable(self) -> bool:
        return self.numeric or bool(self.levels)

    @property
    def aged(self) -> bool:
        return bool(_AGE & {*self.words, self.joined})


def _meaning(facts: _Facts) -> Meant:
    """The meaning by the first rule that applies."""
    return next((found for rule in _RULES if (found := rule(facts)) is not None), ("other", None))


def _follow_up(facts: _Facts) -> Meant | None:
    if not _FOLLOW_UP.search(facts.joined) or {"status", *_AGE} & facts.words:
        return None
    return ("outcome" if facts.readable else "other"), None


def _group(facts: _Facts) -> Meant | None:
    """Labels of groups: sites, families, sessions, reasons for missing outcomes."""
    if facts.aged or not facts.codes:
        return None
    for spelled, meaning in _GROUPS:
        if not spelled & {*facts.words, facts.joined}:
            continue
        # The mother's height is no family; her number is.
        if meaning != "family" or (facts.words - _FAMILY <= _CODE and not (facts.levels and facts.numeric)):
            return meaning, None
    return None


def names_gestation(name: str) -> bool:
    """Whether a column of this name may hold gestational ages at birth."""
    words = _words(name)
    return not _SCAN & set(words) and (_gestational(words, "".join(words)) or "ssw" in words)


def _gestational(words: Collection[str], joined: str) -> bool:
    return bool(_GA & set(words)) or any(part in joined for part in _GESTATION)


def _age(facts: _Facts) -> Meant | None:
    words, joined = facts.words, facts.joined
    if not facts.numeric:
        return None
    if "pma" in words or "postmenstrual" in joined:
        return "age", "postmenstrual"
    if _gestational(words, joined) or ("ssw" in words and not facts.aged):
        return "gestational_age", None
    if facts.aged and not _PARENT & words:
        return "age", "corrected" if {"corrected", "korrigiert", "korrigiertes", "corrige"} & words else None
    return None


def _plain(facts: _Facts) -> Meant | None:
    """Outcomes of a follow-up, and covariates."""
    if not facts.readable:
        return None
    if _FOLLOW_UP_WORDS & facts.words:
        return "outcome", None
    varies = len(set(facts.levels)) != 1 and not facts.counter
    return ("covariate", None) if facts.n_known and varies else None


_GROUPS: tuple[tuple[frozenset[str] | set[str], Meaning], ...] = (
    (_SITE, "site"),
    (_FAMILY, "family"),
    (_SESSION, "session"),
    (_STATUS, "status"),
)
_RULES: tuple[Callable[[_Facts], Meant | None], ...] = (_follow_up, _group, _age, _plain)


def _words(name: str) -> list[str]:
    """`birthWeight_g` as birth, weight, g; without accents."""
    letters = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name))
    plain = "".join(c for c in letters if not unicodedata.combining(c))
    return [word for word in re.split(r"[^a-z0-9]+", fold(plain)) if word]


def _number(cell: str) -> float:
    """A cell as a number, that of a limit (`<55`), or weeks and days; NaN for anything else."""
    weeks = weeks_and_days(cell)
    if weeks is not None:
        return weeks
    try:
        return float(cell.lstrip("<>≤≥= ").replace(",", "."))
    except ValueError:
        return float("nan")


def _edition(joined: str) -> str | None:
    found = re.search(r"(?:bayley|bsid)(iii|ii|iv|2|3|4)", joined)
    names = {"ii": "BSID-II", "2": "BSID-II", "iii": "Bayley-III", "3": "Bayley-III", "iv": "Bayley-4", "4": "Bayley-4"}
    return names[found[1]] if found else None


def negative_level(levels: Sequence[str]) -> str | None:
    """The one of two levels that denotes absence, as `no` or `no NDI`; None if the words do not determine it."""
    words = {level: _words(level) for level in levels}
    found = [
        level
        for level, own in words.items()
        if " ".join(own) in _NEGATIVE or (len(own) > 1 and own[0] in _NEGATIVE and own[1:] in words.values())
    ]
    return found[0] if len(found) == 1 else None


def numbers_of(column: pd.Series) -> np.ndarray:
    """Its known numbers, for a first look; codes of missing values and other cells are left out."""
    values = np.array([_number(cell) for cell in texts(column) if cell], dtype=float)
    values = without_codes(values, str(column.name), Findings())
    return values[np.isfinite(values)]
