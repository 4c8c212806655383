"""Label tables: map rows or label numbers of a matrix to regions.

`label_tables` has one reader per format; this module has the common part.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from connectome_tl.connectome.names.label_tables import LabelRow, label_rows
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.files import read_text

_MAX_BYTES = 5_000_000
_MOST_ROWS = 100_000
_SHOWN = 5
_MOST_CHARACTERS = 500  # of a name
_LONGEST = 60  # characters of a name in a message
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_BACKGROUND = re.compile(
    r"back|unknown|clear|unclass|unassign|exterior|outside|none|null|void|wall|^0?$|\?\?", re.IGNORECASE
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class LabelTable:
    """Names in row order, and their numbers in the label image where the table has them.

    `aliases` maps other names of the same region to the name in `names`. `in_image` has the numbers in the image where
    `numbers` are the positions of the rows, as in the tables that this package writes beside a connectome.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    in_image: tuple[int, ...] | None = None

    def by_number(self) -> tuple[str, ...]:
        """Names sorted by label number, or in row order without numbers."""
        if self.numbers is None:
            return self.names
        return tuple(name for _, name in sorted(zip(self.numbers, self.names, strict=True)))


def read_labels(path: str | Path) -> LabelTable:
    """Read a label table of any known format; background (number 0, or a negative one with such a name) is left out.

    Numbers 0 to n - 1 whose first name is not the background are positions and not label numbers.

    Two names for one number are one region with an alias where consecutive lines have the same short name or the same
    colour, as in MRtrix3's `fs_default.txt`.

    Raises:
        MissingInputError: no such file. DataError: no names, or a repeated name or number.
    """
    rows = label_rows(read_text(path, limit=_MAX_BYTES), path)
    counted = bool(rows) and [row.number for row in rows] == list(range(len(rows)))
    if counted and not _BACKGROUND.search(rows[0].name):
        rows = [row._replace(number=None) for row in rows]  # positions as written by pandas: no row is background
    rows = [row for row in rows if row.number is None or row.number > 0 or not _is_background(row)]
    if not rows:
        raise DataError("holds no region names", file=path)
    if len(rows) > _MOST_ROWS:
        raise DataError("too many lines for a label table", file=path, got=str(len(rows)))
    kept, aliases = _without_aliases(rows)
    numbers = tuple(row.number for row in kept if row.number is not None)
    in_image = tuple(row.label for row in kept if row.label is not None)
    problems = twice_problems([row.name for row in kept], "region", path)
    problems += twice_problems(in_image or numbers, "label number", path)
    problems += [Problem("a label number is negative", got=f"{n}", file=path) for n in (*numbers, *in_image) if n < 0][
        :1
    ]
    problems += name_problems([row.name for row in kept], file=path)
    raise_all("the label table is wrong", problems)
    names = tuple(row.name for row in kept)
    return LabelTable(names, numbers if len(numbers) == len(names) else None, aliases, in_image or None)


def _is_background(row: LabelRow) -> bool:
    return row.number == 0 or _BACKGROUND.search(row.name) is not None


def _without_aliases(rows: Sequence[LabelRow]) -> tuple[list[LabelRow], dict[str, str]]:
    """Rows without aliases of the preceding number, and the aliases."""
    kept: list[LabelRow] = []
    aliases: dict[str, str] = {}
    names = {row.name for row in rows}
    for row in rows:
        before = kept[-1] if kept else None
        if before is None or row.number is None or row.number != before.number or row.name == before.name:
            kept.append(row)
        elif row.mark and row.mark == before.mark and len(names) == len(rows):
            aliases[row.name] = before.name
        else:
            kept.append(row)
    return kept, aliases


def doubled(values: Sequence[_T]) -> list[_T]:
    """Values that occur more than once, in order of their first repetition."""
    seen: set[_T] = set()
    twice: dict[_T, None] = {}
    for value in values:
        if value in seen:
            twice[value] = None
        seen.add(value)
    return list(twice)


def twice_problems(
    values: Sequence[object], what: str, file: str | Path | None = None, subject: str | None = None
) -> list[Problem]:
    """One problem for all names or numbers that occur more than once."""
    twice = doubled(values)
    if not twice:
        return []
    first = twice[0][:_LONGEST] if isinstance(twice[0], str) else twice[0]
    text = f"{what} {first!r} occurs twice" if len(twice) == 1 else f"{len(twice)} {what}s occur twice"
    return [Problem(text, got=listed(twice) if len(twice) > 1 else None, subject=subject, file=file)]


def name_problems(names: Sequence[str], file: str | Path | None = None, subject: str | None = None) -> list[Problem]:
    """One problem for all names that are empty or contain unprintable characters."""
    wrong = [name for name in names if not name.strip() or not printable(name) or len(name) > _MOST_CHARACTERS]
    if not wrong:
        return []
    shown = [ascii(name[:_LONGEST]) for name in wrong]
    text = f"region name {shown[0]} cannot be used" if len(wrong) == 1 else f"{len(wrong)} region names cannot be used"
    return [
        Problem(
            text,
            expected=f"up to {_MOST_CHARACTERS} characters, without control, text direction or surrogate characters",
            got=listed(shown) if len(wrong) > 1 else None,
            subject=subject,
            file=file,
        )
    ]


def printable(text: str) -> bool:
    """Whether text contains no control, format (text direction), surrogate or private character."""
    return not any(unicodedata.category(character) in _UNPRINTABLE for character in text)


def listed(values: Sequence[object], shown: int = _SHOWN) -> str:
    """The first values as text, and the number of further ones."""
    more = len(values) - shown
    return ", ".join(str(value)[:_LONGEST] for value in values[:shown]) + (f" and {more} more" if more > 0 else "")
