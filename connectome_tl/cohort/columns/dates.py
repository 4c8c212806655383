"""Dates in table cells. They are never numbers; the reader of numbers and the guesses of `init` recognise them."""

from __future__ import annotations

import re
from collections.abc import Collection

_IN_NUMBERS = re.compile(
    r"(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:[0-9]{4}|[0-9]{2})|[0-9]{4}-?W[0-9]{2})"
    r"(?:[T ].*)?"
)
# 15-Apr-2020 and 15APR2020, as SPSS, SAS and Stata print dates, 15. April 2020 and April 15, 2020.
_IN_WORDS = re.compile(
    r"[0-9]{1,2}[-./ ]{0,2}(?P<a>[^\W\d_]{3,10})[-./, ]{0,2}(?:[0-9]{4}|[0-9]{2})(?:[:T ].*)?"
    r"|(?P<b>[^\W\d_]{3,10})\.? [0-9]{1,2},? [0-9]{4}|[0-9]{4}[-./ ](?P<c>[^\W\d_]{3,10})[-./ ][0-9]{1,2}"
)
_PACKED = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
# Days since 1900 or 1904, from 1954 to 2068, in a column that is named after a date: 43831 is 1 January 2020 in Excel.
_SERIAL = re.compile(r"[2-5][0-9]{4}(?:\.[0-9]+)?")
_OF_DATES = re.compile(r"(?:^|[^a-z])(?:date|datum|fecha)|(?:date|datum|dob)(?:$|[^a-z])", re.IGNORECASE)
_FEWEST = 3
# First letters, in English, German, French, Spanish, Portuguese, Italian and Dutch.
_MONTHS = frozenset(
    {
        *("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
        *("mär", "mai", "okt", "dez", "fév", "fev", "avr", "jui", "aoû", "aou", "déc", "ene", "abr", "ago", "set"),
        *("out", "dic", "gen", "mag", "giu", "lug", "ott", "mrt", "mei"),
    }
)


def is_date(cell: str) -> bool:
    """Whether a cell is a date with separators or with the name of its month."""
    if _IN_NUMBERS.fullmatch(cell):
        return True
    found = _IN_WORDS.fullmatch(cell)
    return found is not None and next(filter(None, found.groups()))[:3].lower() in _MONTHS


def are_packed_dates(cells: Collection[str]) -> bool:
    """Whether all of at least three cells are dates without separators (20200415)."""
    return len(cells) >= _FEWEST and all(_PACKED.fullmatch(cell) for cell in cells)


def are_dates_in_digits(name: str, cells: Collection[str]) -> bool:
    """Whether the cells of a column are packed dates, or serial numbers of dates as Excel exports them (43831)."""
    serial = len(cells) > 0 and _OF_DATES.search(name) is not None and all(_SERIAL.fullmatch(cell) for cell in cells)
    return serial or are_packed_dates(cells)
