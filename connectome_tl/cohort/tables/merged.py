"""Lines above the rows of a sheet: titles, and headers of two or more lines, with merged cells or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectome_tl.cohort.tables.cells import clean, missing_cells
from connectome_tl.connectome.names.labels import listed
from connectome_tl.errors import DataError

_REMEDY = "Unmerge them and give each cell its own value (in the header: one name per column, in one row)."


@dataclass(frozen=True)
class Merged:
    """A range of merged cells with its text; rows and columns count from 0, the last ones included."""

    name: str
    text: str
    top: int
    bottom: int
    left: int
    right: int

    @property
    def wide(self) -> bool:
        """Whether the range has several columns."""
        return self.right > self.left


def plain_header(
    rows: Sequence[Sequence[str]], merged: Sequence[Merged], path: str | Path, notes: list[str] | None = None
) -> list[list[str]]:
    """The rows with one line of column names, if cells of the header were merged.

    A title above the table is dropped. A group over several columns is joined with the names below it ("Bayley
    cognitive"). Dropped and joined lines become empty, so that rows keep their numbers.

    Args:
        rows: cells as text; merged cells hold their text in the first cell. notes: takes a line for what was dropped
            or joined.

    Raises:
        DataError: merged cells among the rows, or columns that the merged header does not name.
    """
    out = [[clean(cell) for cell in row] for row in rows]
    left = sorted((one for one in merged if one.text), key=lambda one: (one.top, one.left))
    said: list[str] = []
    while left and _is_title(left[0], out):
        title = left.pop(0)
        out[title.top : title.bottom + 1] = [[] for _ in range(title.top, title.bottom + 1)]
        said.append(f"the title {title.text!r} ({title.name}) was not read")
    if left:
        first = next(i for i, row in enumerate(out) if any(row))
        last = _last_line(first, left, len(out))
        below = [one for one in left if one.bottom > last or one.top > last]
        if below:
            raise _refused("merged cells hold one value for several rows or columns", below, path)
        out[last] = _joined(out, first, last, left, path)
        out[first:last] = [[] for _ in range(first, last)]
        said.append(
            f"the header in rows {first + 1} to {last + 1} was joined: {listed([n for n in out[last] if n], 4)}"
        )
    if notes is not None:
        notes += [f"{Path(path).name}: {line}" for line in said]
    return out


def _is_title(one: Merged, rows: Sequence[Sequence[str]]) -> bool:
    """Whether cells are alone in the first filled line, over several columns from the first one on."""
    first = next(i for i, row in enumerate(rows) if any(row))
    alone = all(not cell or k == one.left for row in rows[one.top : one.bottom + 1] for k, cell in enumerate(row))
    below = next((row for row in rows[one.bottom + 1 :] if any(row)), [])
    # Merged cells over a list of one column are its header, not a title.
    return one.top == first and one.left == 0 and one.wide and alone and sum(map(bool, below)) > 1


def _last_line(first: int, merged: Sequence[Merged], n_rows: int) -> int:
    """The last line of a header that begins at `first`: the line below a group of columns belongs to it."""
    last = first
    for one in merged:
        if one.top <= last:
            last = max(last, one.bottom + one.wide)
    return min(last, n_rows - 1)


def _joined(
    rows: Sequence[Sequence[str]], first: int, last: int, merged: Sequence[Merged], path: str | Path
) -> list[str]:
    """The name of each column from all lines of the header."""
    columns = range(max(map(len, rows)))
    groups = {k: [one for one in merged if one.wide and one.left <= k <= one.right] for k in columns}
    own: dict[int, list[str]] = {}
    for k in columns:
        own[k] = [
            row[k]
            for i, row in enumerate(rows[first : last + 1], first)
            if k < len(row) and row[k] and not any(one.top <= i <= one.bottom for one in groups[k])
        ]
    nameless = {one for k in columns for one in groups[k] if not own[k] or any(map(_is_number, own[k]))}
    if nameless:
        found = sorted(nameless, key=lambda one: (one.top, one.left))
        raise _refused("merged cells over columns without names", found, path)
    for k in columns:
        if not groups[k] and len(own[k]) > 1:  # the second one may be the value of the first subject
            what = f"a header with merged cells has two names for column {k + 1} ({listed(own[k], 3)})"
            raise _refused(what, merged, path)
    return [" ".join([*(one.text for one in groups[k]), *own[k]]) for k in columns]


def is_second_line(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a row holds no number, and words (units, labels) over at least two columns of numbers."""
    if any(map(_is_number, first)):
        return False
    over = []
    for k, cell in enumerate(first):
        column = [row[k] for row in below]
        known = set(column) - missing_cells(column)
        if known and all(map(_is_number, known)):
            over.append(cell)
    gone = missing_cells(over)
    return sum(cell not in gone for cell in over) > 1


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _refused(what: str, merged: Sequence[Merged], path: str | Path) -> DataError:
    cells = [f"{one.name} ({one.text[:40]!r})" for one in merged]
    return DataError(what, got=listed(cells, 5), file=path, remedy=_REMEDY)
