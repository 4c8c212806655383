"""Match rows of a file to regions by name, by label number, or by declared order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, atlas_names, load_atlas
from connectome_tl.connectome.matrix_file import MatrixFile, RowList, RowNames
from connectome_tl.connectome.names.labels import LabelTable, listed, name_problems, twice_problems
from connectome_tl.connectome.names.own_names import SHORT, Place, identity
from connectome_tl.connectome.names.spelling import AAL_CODES, BACKGROUND, resolved_names
from connectome_tl.errors import Problem, raise_all
from connectome_tl.plurals import counted

_SUMMARIES = {"total", "totals", "sum", "mean", "average", "median", "sd", "strength", "degree", "grand total"}
_SUMMARIES |= {"summe", "gesamt", "mittelwert", "somme", "moyenne", "suma", "media", "totale", "totaal"}


@dataclass(frozen=True, eq=False)
class Rows:
    """Regions of a file's rows.

    Attributes:
        names, kept: (n_kept,) names, and their positions in the file; background rows are left out.
        n_rows: number of rows of the file.
        assumed: True where the file does not name its rows, so that a declared order is used.
        notes: decisions made.
        otherwise: (n_kept,) regions if label numbers were positions from 0, or the reverse; () where that is excluded.
    """

    names: tuple[str, ...]
    kept: np.ndarray
    n_rows: int
    assumed: bool = False
    notes: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()

    def needs_check(self, matrix: MatrixFile) -> bool:
        """Whether the order of the rows, the origin of their numbers, or a triangle was assumed."""
        return self.assumed or bool(self.otherwise) or (matrix.values.ndim == 2 and len(self.kept) == self.n_rows)


def named_rows(
    matrix: MatrixFile, known: RowNames, *, subject: str | None = None, file: str | Path | None = None
) -> Rows:
    """Names of the rows that are regions.

    Raises:
        DataError: no names and no atlas or label table; inconsistent sizes; unknown or repeated names or numbers, with
        the most similar known ones; contradictory lists.
    """
    place = Place(subject, file)
    chosen, notes = identity(matrix, known, place)
    if chosen is None:
        rows = _unnamed(matrix, known, place)
    elif chosen.names is not None:
        rows = _by_name(matrix, chosen, known, place)
    else:
        rows = _by_number(matrix, chosen, known, place)
    problems = twice_problems(rows.names, "region", file, subject) + name_problems(rows.names, file, subject)
    if rows.names and rows.names[-1].strip().casefold() in _SUMMARIES:
        remedy = "Delete this row and column."
        problems.append(
            Problem(f"the last row is a summary, {rows.names[-1]!r}", "a region", None, subject, file, remedy)
        )
    raise_all("the region names cannot be used", problems)
    return replace(rows, notes=(*notes, *rows.notes))


def in_atlas(table: LabelTable, atlas: Atlas) -> LabelTable:
    """A label table with names of an atlas; a bare list of label numbers gets the names of these numbers.

    Raises:
        DataError: a region that the atlas does not have.
    """
    if table.numbers is not None and table.names == tuple(str(number) for number in table.numbers):
        numbered = {region.index: region.name for region in atlas.regions}
        table = replace(table, names=tuple(numbered.get(n, str(n)) for n in table.numbers))
    names, _ = resolved_names(table.names, RowNames(atlas))
    _refuse_unknown(names, RowNames(atlas), Place(None, None))
    return replace(table, names=tuple(names), aliases=dict(zip(table.names, names, strict=True)))


def _by_name(matrix: MatrixFile, chosen: RowList, known: RowNames, place: Place) -> Rows:
    given = chosen.names or ()
    n_rows = _agreed_size(matrix, len(given), "names", place)
    counts = matrix.row_counts
    if n_rows != counts[0] and known.names is not None and len(known.names) == counts[0]:
        raise place.error(
            f"the values may be a triangle of {counts[0]} regions without diagonal, or of {n_rows} with it",
            expected=f"{counts[0]} names, as many as {known.where} has",
            got=f"{n_rows} names",
            remedy="Write the whole matrix.",
        )
    found, note = resolved_names(given, known)
    _check_numbers(found, matrix.labels, known, place)
    kept = [i for i, name in enumerate(found) if not (name.strip().casefold() in BACKGROUND and i == 0)]
    names = tuple(found[i] for i in kept)
    if known.names is not None:
        _refuse_unknown(names, known, place, chosen.where)
    return Rows(names, np.array(kept, dtype=int), n_rows, notes=(note,) if note else ())


def _refuse_unknown(names: Sequence[str], known: RowNames, place: Place, where: str = "the file") -> None:
    """One problem for all names that the atlas or table does not have."""
    target = known.names or ()
    unknown = [name for name in dict.fromkeys(names) if name not in set(target)]
    if not unknown or name_problems(names):
        return  # invalid names are reported separately
    near = difflib.get_close_matches(unknown[0][:60], target, n=3, cutoff=0.5)
    remedy = f"Nearest names: {', '.join(near)}." if near else None
    other = atlases_that_know(names)[:3] if known.table is None else ()
    if other:
        remedy = f"All {len(names)} names are those of atlas {' or '.join(other)}."
    what = (
        f"region {unknown[0][:60]!r} is not in {known.where}"
        if len(unknown) == 1
        else f"{len(unknown)} of {len(names)} regions are not in {known.where}"
    )
    what += "" if where == "the file" else f" (the rows are named by {where})"
    got = None if len(unknown) == 1 else listed(unknown)
    raise_all(
        f"region names do not fit {known.where}",
        [Problem(what, got=got, subject=place.subject, file=place.file, remedy=remedy)],
    )


def atlases_that_know(names: Sequence[str]) -> tuple[str, ...]:
    """The smallest atlases that have all of the names."""
    atlases = [load_atlas(name) for name in atlas_names()]
    fits = [atlas for atlas in atlases if set(atlas.resolved(names)) <= set(atlas.names)]
    least = min((atlas.n_regions for atlas in fits), default=0)
    return tuple(atlas.name for atlas in fits if atlas.n_regions == least)


def _by_number(matrix: MatrixFile, chosen: RowList, known: RowNames, place: Place) -> Rows:
    labels = chosen.numbers or ()
    n_rows = _agreed_size(matrix, len(labels), "label numbers", place)
    positions = _positions(labels, matrix, known)
    numbered = known.numbered()
    if positions is not None:
        rows = _unnamed(matrix, known, place)
        names = tuple(rows.names[i] for i in positions)
        others = tuple(numbered.get(label, "") for label in labels)
        return replace(rows, names=names, otherwise=others if any(others) else ())
    _refuse_from_zero(labels, matrix, known, place)
    kept = [i for i, label in enumerate(labels) if label != 0]
    if not numbered and known.names is not None:
        # In a table without numbers the first row is number 1.
        if sorted(labels) != list(range(1, len(known.names) + 1)):
            raise place.error(
                "the file numbers its rows, but the label table has no numbers",
                got=listed(labels),
                remedy="Give a label table with a column index.",
            )
        numbered = dict(enumerate(known.names, 1))
    if not numbered:
        found = [str(label) for label in labels]
        return Rows(tuple(found[i] for i in kept), np.array(kept, dtype=int), n_rows)
    unknown = [labels[i] for i in kept if labels[i] not in numbered]
    by_toolbox = _by_toolbox(labels, known) if unknown else None
    if unknown and by_toolbox is None:
        raise_all(f"label numbers do not fit {known.where}", [_unknown_numbers(unknown, labels, known, place)])
    found = by_toolbox or [numbered.get(label, "") for label in labels]
    declared = known.unnamed(matrix.order) or ()
    others = tuple(declared[label] for label in labels) if max(labels) < len(declared) else ()
    return Rows(tuple(found[i] for i in kept), np.array(kept, dtype=int), n_rows, otherwise=others)


def _refuse_from_zero(labels: Sequence[int], matrix: MatrixFile, known: RowNames, place: Place) -> None:
    """Refuse numbers with gaps of which 0 may be the first region (pandas, networkx) or the background."""
    if 0 not in labels or max(labels) >= len(known.names or ()) > 0:
        return
    first = labels.index(0)
    values = matrix.values[:, first] if matrix.values.ndim == 3 else np.ones((1, len(labels)))
    if known.names is not None or np.delete(np.nan_to_num(values), first, axis=1).any():
        raise place.error(
            "the numbers of the rows may be positions from 0, or label numbers with the background",
            expected="region names" + (f", or numbers up to {len(known.names)}" if known.names else ""),
            got=f"{counted(len(labels), 'number')}, 0 to {max(labels)}",
            remedy="Write region names; or leave row 0 out if it is the background.",
        )


def _unknown_numbers(unknown: Sequence[int], labels: Sequence[int], known: RowNames, place: Place) -> Problem:
    atlases = [load_atlas(name) for name in atlas_names()]
    other = [a.name for a in atlases if set(labels) - {0} == {region.index for region in a.regions}]
    what = (
        f"label {unknown[0]} is not in {known.where}"
        if len(unknown) == 1
        else f"{len(unknown)} of {len(labels)} labels are not in {known.where}"
    )
    remedy = f"These are the numbers of atlas {' or '.join(other)}." if other and known.table is None else None
    if not other and len(unknown) == len(labels) and min(labels) >= 1 and max(labels) <= len(known.names or ()):
        remedy = (
            "If they count the regions, give a label table (labels) with the columns index, as in the file, and name."
        )
    return Problem(
        what,
        expected=f"numbers as {listed(sorted(known.numbered()), 4)}",
        got=listed(unknown) if len(unknown) > 1 else None,
        subject=place.subject,
        file=place.file,
        remedy=remedy,
    )


def _by_toolbox(labels: Sequence[int], known: RowNames) -> list[str] | None:
    """Map numbers of the AAL toolbox (2001 to 9170) to the regions of an AAL atlas."""
    code = dict(zip(AAL_CODES, range(1, len(AAL_CODES) + 1), strict=True))
    if known.table is not None or known.atlas is None or "aal" not in known.atlas.name:
        return None
    numbered = known.numbered()
    found = [numbered.get(code.get(label, 0), "") for label in labels]
    return found if all(found) else None


def _positions(labels: Sequence[int], matrix: MatrixFile, known: RowNames) -> list[int] | None:
    """Positions, if the numbers are 0 to n_regions - 1 as written by pandas and networkx."""
    n = len(labels)
    if sorted(labels) != list(range(n)):
        return None
    declared = known.unnamed(matrix.order)
    if declared is not None and n == len(declared) + 1:
        return None  # the background and every label
    return list(labels)


def _unnamed(matrix: MatrixFile, known: RowNames, place: Place) -> Rows:
    declared = known.unnamed(matrix.order)
    counts = matrix.row_counts
    if not counts:
        got = f"{matrix.values.shape[-1]} values"
        raise place.error("not a triangle of a matrix", expected="n (n - 1) / 2 or n (n + 1) / 2 values", got=got)
    if declared is None and known.count_only:
        names = tuple(str(i) for i in range(1, counts[0] + 1))
        note = f"the {counts[0]} rows have no names and were numbered; their order is taken to be the same in all files"
        notes = (note, *([] if matrix.values.ndim == 3 else [_triangle_note(matrix)]))
        return Rows(names, np.arange(counts[0]), counts[0], True, notes)
    if declared is None:
        raise place.error(
            "the rows have no names",
            expected="region names in the file, or a label table (labels), or an atlas",
            remedy=_way_to_names(matrix),
        )
    if len(declared) not in counts:
        raise place.error(
            "an unnamed matrix and its labels differ in size",
            expected=f"{counted(len(declared), 'row')} ({known.where})",
            got=" or ".join(str(n) for n in counts),
            remedy=_size_remedy(matrix, counts[0], len(declared), known),
        )
    table = known.table
    if table is not None and table.by_number() != table.names and (matrix.order or known.order) is None:
        raise place.error(
            "the rows have no names, and the label table lists its numbers in another order than its lines",
            got=listed(table.numbers or ()),
            remedy="Set order: table (--order table) if the rows follow the lines, order: label if the numbers.",
        )
    order = "the label numbers" if (matrix.order or known.order) == "label" else "the rows"
    note = f"the rows have no names and were taken in the order of {order} of {known.where}"
    return Rows(declared, np.arange(len(declared)), len(declared), True, (note,))


def _triangle_note(matrix: MatrixFile) -> str:
    """The size that was taken for a triangle, which without names may have another one."""
    n_values, counts = matrix.values.shape[-1], matrix.row_counts
    without = counts[0] * (counts[0] - 1) // 2 == n_values
    kind, other = ("without", "with") if without else ("with", "without")
    return (
        f"{n_values} values were read as a triangle {kind} diagonal, of {counts[0]} regions; {other} it, they are "
        f"those of {counts[0] + (-1 if without else 1)}"
    )


def _way_to_names(matrix: MatrixFile) -> str:
    beside = [one.where for one in matrix.lists if one.shared and len(one) in matrix.row_counts]
    if beside:
        return f"If {beside[0]} next to it names the rows, give --labels {beside[0]} (labels in cohort.yaml)."
    return "Give --labels TABLE or --atlas NAME (see `connectome-tl atlas list`); --labels numbered uses no names."


def _size_remedy(matrix: MatrixFile, n_rows: int, n_known: int, known: RowNames) -> str | None:
    if matrix.n_frames == n_known:
        return f"The table has {n_known} rows: if these are the regions, transpose it."
    same = [name for name in atlas_names() if load_atlas(name).n_regions == n_rows] if known.table is None else []
    if same:
        return f"{n_rows} is the size of atlas {' or '.join(same)}."
    if n_rows < n_known:
        return SHORT
    first = matrix.values[0, 0] if matrix.values.ndim == 3 else np.zeros(0)
    numbers = first[1:]
    if numbers.size and (numbers == np.round(numbers)).all() and len(set(numbers.tolist())) == numbers.size:
        return "The first row may hold label numbers; write it with an empty first cell, or as names."
    if n_rows == n_known + 1 and matrix.values.ndim == 3:
        return "If row 0 is the background, set format: dipy."
    return None


def _agreed_size(matrix: MatrixFile, n_names: int, what: str, place: Place) -> int:
    counts = matrix.row_counts
    if n_names in counts:
        return n_names
    n_rows = counts[0] if counts else 0
    raise place.error(
        f"matrix and {what} differ in size",
        expected=f"{n_names} rows",
        got=str(n_rows),
        remedy=SHORT if n_rows < n_names else None,
    )


def _check_numbers(names: Sequence[str], labels: tuple[int, ...] | None, known: RowNames, place: Place) -> None:
    """Refuse exchanged names: nearly all have the number of the atlas, and a few have each other's number.

    Files with another numbering are not checked."""
    numbered = known.numbered()
    if labels is None or len(labels) != len(names) or not numbered:
        return
    number = {name: index for index, name in numbered.items()}
    pairs = [(name, label) for name, label in zip(names, labels, strict=True) if name in number]
    wrong = [(name, label) for name, label in pairs if number[name] != label]
    exchanged = {number[name] for name, _ in wrong} == {label for _, label in wrong}
    if wrong and exchanged and len(wrong) <= 0.2 * len(pairs):
        raise place.error(
            "names and label numbers of the rows contradict each other",
            expected=f"{wrong[0][0]} is label {number[wrong[0][0]]} of {known.where}",
            got=f"{wrong[0][0]} beside {wrong[0][1]}" + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            remedy="Were names exchanged? Compare the file with the table it was made with.",
        )
