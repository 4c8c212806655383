"""`select` and `exclude`: parse and evaluate conditions on rows, without `eval`.

Comparisons of one column with one value (`age < 13`, `sex == 'F'`, `site in ['A', 'B']`), joined by
and, or, not and parentheses; column names that are not words are quoted by backticks (`` `Age (weeks)` > 38 ``).
Texts are compared like categories, ignoring case and blanks. Nothing is evaluated as Python.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.columns.spellings import is_sex, same_category
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, Marks, is_missing, nearest, texts
from connectome_tl.errors import DataError, UsageError

_NUMERIC: dict[type[ast.cmpop], Callable[[np.ndarray, float], np.ndarray]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_NUMBER = re.compile(r"^[+-]?[\d.,]+$")
_MAX_LENGTH = 2_000
_HOW = "comparisons such as age < 13 and sex == 'F', joined by and, or, not; `a column's name` in backticks"
_QUOTED = re.compile(r"`([^`]*)`")


def selected(
    table: pd.DataFrame,
    expression: str,
    ids: Sequence[str],
    *,
    marks: Marks = PLAIN,
    file: str | Path = "",
    notes: list[str] | None = None,
) -> np.ndarray:
    """Rows to keep, (n_rows,) bool. A missing value fails every comparison, also `!=`.

    Args:
        notes: gets a line for each text that does not occur in its column.

    Raises:
        UsageError: an invalid expression. DataError: an unknown column, or text compared by order.
    """
    if len(expression) > _MAX_LENGTH:
        raise UsageError("select is too long", expected=f"at most {_MAX_LENGTH} characters")
    try:
        tree, names = _parsed(expression)
        rows = _Rows(table, ids, marks, file, expression, names)
        kept = rows.of(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UsageError("select cannot be read", expected=_HOW, got=expression[:200]) from error
    if notes is not None:
        notes += rows.notes
    return kept


def _parsed(expression: str) -> tuple[ast.expr, dict[str, str]]:
    """The expression's tree, and the column of each of its names."""
    names: dict[str, str] = {}

    def placed(match: re.Match[str]) -> str:
        name = f"_column_{len(names)}_"
        names[name] = match.group(1)
        return name

    return ast.parse(_QUOTED.sub(placed, expression).strip(), mode="eval").body, names


def columns_of(expression: str) -> set[str]:
    """The columns that an expression names; empty if it cannot be parsed (`selected` reports the reason)."""
    try:
        tree, names = _parsed(expression[:_MAX_LENGTH])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {names.get(node.id, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)}


def unknown(table: pd.DataFrame, expression: str, *, marks: Marks = PLAIN) -> np.ndarray:
    """Rows (n_rows,) that lack a value of any column the expression names; `selected` has read it before."""
    absent = np.zeros(len(table), dtype=bool)
    for name in columns_of(expression) & set(table.columns):
        values = numbers(table[name], [""] * len(table), "", Findings(), marks=marks)
        cells = np.array([cell == "" for cell in texts(table[name], marks.missing)], dtype=bool)
        coded = np.isnan(values) & np.array([bool(_NUMBER.match(cell[:60])) for cell in table[name]], dtype=bool)
        absent |= cells | coded
    return absent


class _Rows:
    """Evaluator of the expression on a table."""

    def __init__(
        self,
        table: pd.DataFrame,
        ids: Sequence[str],
        marks: Marks,
        file: str | Path,
        expression: str,
        names: Mapping[str, str],
    ) -> None:
        self.table, self.ids, self.marks, self.file, self.expression = table, ids, marks, file, expression
        self.names = names
        self.notes: list[str] = []

    def of(self, node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.of(value) for value in node.values]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.of(node.operand)
        if isinstance(node, ast.Compare):
            steps = zip([node.left, *node.comparators], node.ops, node.comparators)
            return np.asarray(np.logical_and.reduce([self.compared(left, op, right) for left, op, right in steps]))
        raise self.refused()

    def compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> np.ndarray:
        if isinstance(right, ast.Name) and not isinstance(left, ast.Name):
            turned = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
            if isinstance(op, (ast.In, ast.NotIn)):
                raise self.refused()
            return self.compared(right, turned.get(type(op), type(op))(), left)
        if not isinstance(left, ast.Name):
            raise self.refused()
        column = self.column(left.id)
        if isinstance(op, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.List, ast.Tuple)) or not right.elts:
                raise self.refused("a list of one or more values after in")
            hits = np.logical_or.reduce([self.compared(left, ast.Eq(), item) for item in right.elts])
            return hits if isinstance(op, ast.In) else ~hits & self.known(column)
        value = self.constant(right)
        if isinstance(value, str):
            return self.alike(column, value, op, left.id)
        compare = _NUMERIC.get(type(op))
        if compare is None:
            raise self.refused()
        findings = Findings()
        values = numbers(column, self.ids, self.file, findings, marks=self.marks)
        if findings.problems:
            raise DataError("select needs a number", problems=findings.problems)
        with np.errstate(invalid="ignore"):
            return np.asarray(compare(values, value) & ~np.isnan(values))

    def alike(self, column: pd.Series, value: str, op: ast.cmpop, name: str) -> np.ndarray:
        """Whether cells equal (or differ from) the category `value`; "" and words for missing match missing cells."""
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            raise DataError(
                f"text cannot be compared by size: select compares {self.names.get(name, name)!r} with {value!r}",
                file=self.file,
                got=self.expression,
            )
        sex = is_sex(str(column.name))
        cells = texts(column, self.marks.missing)
        wanted = "" if is_missing(value, self.marks.missing) else same_category(value, sex=sex)
        hits = np.array([same_category(cell, sex=sex) == wanted for cell in cells], dtype=bool)
        if wanted and not hits.any():
            self.notes.append(f"select: no row has {self.names.get(name, name)} {value!r}")
        known = np.array([cell != "" for cell in cells], dtype=bool)
        return hits if isinstance(op, ast.Eq) else ~hits & known

    def known(self, column: pd.Series) -> np.ndarray:
        return np.array([cell != "" for cell in texts(column, self.marks.missing)], dtype=bool)

    def column(self, name: str) -> pd.Series:
        name = self.names.get(name, name)
        if name not in self.table.columns:
            near = nearest(name, self.table.columns, 1)
            written = [one if one.isidentifier() else f"`{one}`" for one in near]
            raise DataError(
                f"select uses a column that does not exist: {name!r}",
                file=self.file,
                remedy=f"Did you mean {written[0]}?" if near else None,
            )
        return self.table[name]

    def constant(self, node: ast.expr) -> float | str:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.constant(node.operand)
            if isinstance(value, str):
                raise self.refused()
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
            value = node.value if isinstance(node.value, str) else float(node.value)
            if isinstance(value, float) and not math.isfinite(value):
                raise self.refused("a number that is not infinite")
            return value
        raise self.refused()

    def refused(self, expected: str = _HOW) -> UsageError:
        return UsageError("select cannot be read", expected=expected, got=self.expression[:200])
