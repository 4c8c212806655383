"""Find the names of the rows of a file: its own names or numbers, or a list in the file or its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connectome_tl.connectome.matrix_file import MatrixFile, RowList, RowNames
from connectome_tl.connectome.names.labels import listed
from connectome_tl.connectome.names.spelling import BACKGROUND, counted_names, resolved_names
from connectome_tl.errors import DataError
from connectome_tl.plurals import counted

_DIGITS = re.compile(r"[0-9]{1,9}")
SHORT = (
    "Tools that size the matrix by the largest label drop the last regions; "
    "export it again with names, or with every label present."
)


@dataclass(frozen=True)
class Place:
    """Subject and file, for messages."""

    subject: str | None
    file: str | Path | None

    def error(
        self, what: str, *, expected: str | None = None, got: str | None = None, remedy: str | None = None
    ) -> DataError:
        """A `DataError` with this subject and file."""
        return DataError(what, expected=expected, got=got, subject=self.subject, file=self.file, remedy=remedy)


def identity(matrix: MatrixFile, known: RowNames, place: Place) -> tuple[RowList | None, tuple[str, ...]]:
    """Find the names of the rows: the file's own names or numbers, else a list in the file or its folder."""
    if matrix.names is not None:
        return _as_numbers(RowList("the file", names=matrix.names), known)
    if matrix.labels is not None:
        return RowList("the file", numbers=matrix.labels), ()
    fitting = [one for one in matrix.lists if len(one) in matrix.row_counts and one.differs]
    own = [one for one in fitting if not one.shared]
    texts = _chosen_names([one for one in own if one.names is not None], known, place)
    if texts is not None:
        chosen, notes = _as_numbers(texts, known)
        return chosen, (f"the rows were named by {texts.where}", *notes)
    faulty = _faulty_names([one for one in matrix.lists if one not in fitting and not one.shared], matrix, known, place)
    if faulty is not None:
        return faulty, ()
    numbers = _chosen_numbers([one for one in own if one.numbers is not None], known, place)
    if numbers is None:
        _check_unused([one for one in own if one.numbers is not None], place)
    if numbers is not None:
        return numbers, (f"the rows were numbered by {numbers.where}",)
    _check_shared([one for one in fitting if one.shared], matrix, known, place)
    return None, ()


def _as_numbers(one: RowList, known: RowNames) -> tuple[RowList, tuple[str, ...]]:
    """Convert integers stored as text, and names that only count the regions, to numbers; and notes on it."""
    names = one.names or ()
    if not names or set(names) <= set(known.names or ()):
        return one, ()
    if all(_DIGITS.fullmatch(name.strip()) for name in names):
        return replace(one, names=None, numbers=tuple(int(name) for name in names)), ()
    numbers = counted_names(names, known)
    if numbers is None:
        return one, ()
    kind = "positions" if sorted(numbers) == list(range(len(numbers))) else "label numbers"
    note = f"{names[0]} to {names[-1]} are not names of {known.where} and were read as {kind}"
    return replace(one, names=None, numbers=numbers), (note,)


def _chosen_names(lists: Sequence[RowList], known: RowNames, place: Place) -> RowList | None:
    """The list of names; where there are several, those that fit the atlas or table must agree."""
    different = {one.names: one for one in reversed(lists)}
    if len(different) <= 1:
        return next(iter(different.values()), None)
    found = list(different.values())[::-1]
    if known.names is not None:
        target = set(known.names)
        fits: dict[tuple[str, ...], RowList] = {}
        for one in found:
            names, _ = resolved_names(one.names or (), known)
            if set(names) - target <= BACKGROUND:
                fits.setdefault(tuple(names), one)
        if len(fits) == 1:
            return next(iter(fits.values()))
        found = list(fits.values()) or found
    else:
        telling = [one for one in found if one.tells]
        if len(telling) == 1:
            return telling[0]
    raise place.error(
        "several lists could name the rows, and they differ",
        got=", ".join(one.where for one in found),
        remedy="Keep one of them in the file"
        + ("." if known.names is not None else ", or give an atlas or labels: the list that fits is then taken."),
    )


def _faulty_names(lists: Sequence[RowList], matrix: MatrixFile, known: RowNames, place: Place) -> RowList | None:
    """A list with mostly names of the atlas, but with a repeated name or of another length.

    Raises:
        DataError: a list of another length.
    """
    for one in lists:
        names, _ = resolved_names(one.names or (), known)
        n_known = len(set(names) & set(known.names or ()))
        if 2 * n_known <= len(names) and not (known.names is None and one.tells and len(one) in matrix.row_counts):
            continue
        if len(one) in matrix.row_counts:
            return one  # the repeated name is reported with the other problems
        raise place.error(
            f"matrix and names in {one.where} differ in size",
            expected=counted(len(one), "row"),
            got=" or ".join(str(n) for n in matrix.row_counts),
            remedy=SHORT if matrix.n_rows < len(one) else "A name was lost; export the file again.",
        )
    return None


def _chosen_numbers(lists: Sequence[RowList], known: RowNames, place: Place) -> RowList | None:
    """The list of label numbers: one whose name indicates it, or whose numbers are all known."""
    numbered = known.numbered()
    fits = [
        one
        for one in lists
        if one.tells or (numbered and all(number in numbered or number == 0 for number in one.numbers or ()))
    ]
    different = {one.numbers: one for one in reversed(fits)}
    if len(different) > 1 and numbered:
        different = {n: one for n, one in different.items() if set(n or ()) <= {0, *numbered}} or different
    if len(different) > 1:
        raise place.error(
            "several lists could number the rows, and they differ",
            got=", ".join(one.where for one in different.values()),
            remedy="Keep one of them in the file.",
        )
    return next(iter(different.values()), None)


def _check_unused(lists: Sequence[RowList], place: Place) -> None:
    """Refuse unknown numbers that may define an order of the rows."""
    for one in lists:
        numbers = list(one.numbers or ())
        first = min(numbers)
        if first in (0, 1) and numbers != sorted(numbers) and max(numbers) - first == len(numbers) - 1:
            raise place.error(
                f"{one.where} contains 1 to n in another order, which may be that of the rows",
                got=listed(numbers),
                remedy="Leave it out if it is not; write names, or label numbers as `labels`, if it is.",
            )


def _check_shared(lists: Sequence[RowList], matrix: MatrixFile, known: RowNames, place: Place) -> None:
    """Refuse a list in the folder that names the rows in another order than assumed."""
    declared = known.unnamed(matrix.order)
    if known.table is not None or declared is None:
        return
    for one in lists:
        names = one.names
        if names is None:
            numbered = known.numbered()
            names = tuple(numbered.get(number, "") for number in one.numbers or ())
        found, _ = resolved_names(names, known)
        if set(found) <= set(declared) and tuple(found) != declared:
            raise place.error(
                f"{one.where} in the same folder names as many rows in another order than {known.where}",
                expected=f"row 1 is {declared[0]}" if found[0] != declared[0] else f"the order of {known.where}",
                got=listed(found, 3),
                remedy=f"If it belongs to this file, give it as labels: {one.where}.",
            )
