"""Columns that hold the unit of another column, row by row, such as `age_unit` beside `age`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.columns.guesses import unit_among
from connectome_tl.cohort.columns.numeric import unit_word
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, Marks, fold, texts
from connectome_tl.settings.cohort import CohortSettings

# In English, German, French, Spanish, Italian and Dutch.
_UNIT = ("units", "unit", "uom", "einheit", "unité", "unite", "unidad", "unità", "unita", "eenheid")


def check_unit_columns(
    settings: CohortSettings,
    table: pd.DataFrame,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
) -> None:
    """Report numbers whose unit, in a column of its own, is not that of the column or of most rows."""
    of_column = {_subject(str(name)): str(name) for name in table.columns}
    for column, unit in _declared(settings).items():
        beside = of_column.get(_squeezed(column))
        if beside is None and settings.age is not None and column == settings.age.column:
            beside = of_column.get("age")
        if beside is None or beside == column:
            continue
        cells = texts(table[beside], marks.missing)
        known = [_word(cell) for cell in cells if cell]
        wanted = unit_word(unit) or max(known, key=known.count, default="")
        remedy = f"Convert these numbers to {unit or wanted}, or leave the rows out with select."
        findings.several(
            [(ids[i], cell) for i, cell in enumerate(cells) if cell and _word(cell) != wanted],
            f"column {column!r} holds numbers in another unit than {unit or wanted}, says column {beside!r}",
            file,
            f"Set this unit for the column, or convert its numbers to {unit}." if len(set(known)) == 1 else remedy,
        )


def _declared(settings: CohortSettings) -> Mapping[str, str]:
    """Unit of each column of numbers, "" where none is declared."""
    ages = [(spec.column, spec.unit) for spec in (settings.age, settings.gestational_age) if spec is not None]
    others = [(spec.column, spec.unit) for spec in settings.covariates if spec.type == "numeric"]
    return {**dict(others), **{spec.column: spec.unit for spec in settings.outcomes}, **dict(ages)}


def _word(cell: str) -> str:
    return unit_word(unit_among(re.split(r"[\W_]+", fold(cell))) or cell.strip("()[]"))


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]+", "", fold(name))


def _subject(name: str) -> str:
    """The column that a column of units is about, squeezed; the name itself with a blank for other columns."""
    text = _squeezed(name)
    for word in _UNIT:
        if text.startswith(word) or text.endswith(word):
            return text.removeprefix(word).removeprefix("of") if text.startswith(word) else text.removesuffix(word)
    return f" {text}"
