"""Clean a table cell, and decide whether it means "missing"."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

MISSING_WORDS = frozenset(
    {
        *(
            "",
            "n/a",
            "na",
            "n.a.",
            "n.a",
            "n.d.",
            "nan",
            "nat",
            "null",
            "(null)",
            "<na>",
            "nil",
            "\\n",
            ".",
            "..",
            "?",
            "??",
        ),
        *("-", "--", "---", "–", "—", "missing", "unknown", "unk", "n/k", "not known", "not available", "not recorded"),
        *("not applicable", "not done", "not measured", "not collected", "not assessed", "missing value"),
        *("missing data", "no data", "#n/a", "#null!"),
        *("k.a.", "k. a.", "keine angabe", "unbekannt", "nicht bekannt", "nicht erhoben", "fehlt", "fehlend"),
        *("nicht verfügbar", "nicht vorhanden", "nicht bestimmt", "entfällt", "ohne angabe"),
        *("inconnu", "inconnue", "manquant", "manquante", "non disponible", "non renseigné", "non renseignée"),
        *("non connu", "non mesuré", "non mesurée", "donnée manquante", "valeur manquante", "pas de données"),
        *("desconocido", "desconocida", "sin dato", "sin datos", "no disponible", "no consta", "no medido"),
        *("sconosciuto", "sconosciuta", "non noto", "non nota", "mancante", "non disponibile", "dato mancante"),
        *("desconhecido", "desconhecida", "sem dados", "não disponível", "onbekend", "niet bekend"),
        *("ontbreekt", "niet beschikbaar", "geen gegevens", "no value"),
        *(f".{letter}" for letter in "abcdefghijklmnopqrstuvwxyz_"),  # of Stata and SAS
    }
)
_WITHOUT_POINT = {word.rstrip(".") for word in MISSING_WORDS}
# Also missing where they name a level; as text in other columns they may be data.
NO_VALUE = MISSING_WORDS | {
    *("refused", "declined", "not tested", "no answer", "don't know", "do not know", "prefer not to say"),
}
NOBODY = frozenset({"none", "no", "single", "singleton", "singletons", "sporadic", "unrelated", "n", "false"})
SPREADSHEET_ERRORS = frozenset(
    {"#value!", "#ref!", "#div/0!", "#num!", "#name?", "#spill!", "#calc!"}
    | {"#wert!", "#bezug!", "#zahl!", "#valeur!", "#nombre!", "#nom?", "#¡valor!", "#¡ref!", "#¡div/0!", "#¡num!"}
)
# Invisible characters: zero-width characters, direction marks, soft hyphens, byte order marks.
_BRACKETS = re.compile(r"\((.+)\)|\[(.+)\]|<(.+)>|'(.+)'|\"(.+)\"")
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\ufff9-\ufffb]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LONGEST = 100
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?")


@dataclass(frozen=True)
class Marks:
    """Declarations of the user about the notation of table cells.

    Attributes:
        missing: further codes for a missing value.
        decimal: the decimal mark; None if it is determined from the cells.
        of_column: those of the codes that are declared for one column; the others are those of all tables.
    """

    missing: tuple[str, ...] = ()
    decimal: Literal[".", ","] | None = None
    of_column: tuple[str, ...] = ()

    def with_codes(self, codes: tuple[str, ...]) -> Marks:
        """The same with the codes of one column."""
        return replace(self, missing=(*self.missing, *codes), of_column=codes)


PLAIN = Marks()


def clean(text: str) -> str:
    """Normalise a cell: no surrounding blanks or invisible characters, composed letters, ASCII minus signs."""
    if text.isascii():
        return text.strip()
    text = _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", text)).replace("\u2212", "-")
    text = "".join(" " if c.isspace() and c != "\n" else c for c in unicodedata.normalize("NFC", text))
    return text.strip()


def fold(text: str) -> str:
    """Fold a text for comparisons: case, width, encoding of accents and runs of blanks are ignored."""
    return " ".join(unicodedata.normalize("NFKC", clean(text)).casefold().split())


def whole(text: str) -> str:
    """Write `1.0`, as from spreadsheets and pandas, as `1`; other text is unchanged."""
    return text.split(".")[0] if "." in text and _WHOLE.fullmatch(text) else text


def missing_cells(cells: Iterable[str], codes: Iterable[str] = ()) -> set[str]:
    """Those of the cells that mean a missing value, by a word or by one of the codes."""
    wanted = {whole(fold(code)) for code in codes}
    return {cell for cell in set(cells) if is_missing_word(word := fold(cell)) or whole(word) in wanted}


def is_missing_word(word: str) -> bool:
    """Whether a folded cell is a word for a missing value, with a point or brackets around it or without."""
    inside = _BRACKETS.fullmatch(word) if len(word) <= _LONGEST else None
    word = next(filter(None, inside.groups())) if inside else word
    return word in MISSING_WORDS or word.rstrip(".") in _WITHOUT_POINT


def is_missing(value: str, codes: Iterable[str] = ()) -> bool:
    """Whether a cell denotes a missing value."""
    return bool(missing_cells([value], codes))


def texts(column: pd.Series, codes: Iterable[str] = ()) -> list[str]:
    """Cells as text, "" where missing."""
    gone = missing_cells(column, codes)
    return ["" if value in gone else value for value in column]


def nearest(name: str, names: Iterable[str], n: int = 2) -> list[str]:
    """Names similar to a misspelt one, ignoring case and blanks; the nearest first."""
    by_fold = {fold(one[:_LONGEST]): one for one in names}
    return [by_fold[key] for key in difflib.get_close_matches(fold(name[:_LONGEST]), list(by_fold), n=n, cutoff=0.4)]
