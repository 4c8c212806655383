"""`select` and `exclude`: which rows of a table to keep, as a small safe language.

Comparisons of one column with one value (`age < 13`, `sex == 'F'`, `site in ['A', 'B']`), joined by
and, or, not and brackets. Nothing is evaluated as Python.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables import Findings, numbers, texts
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
_HOW = "comparisons such as age < 13 and sex == 'F', joined by and, or, not"


def selected(
    table: pd.DataFrame, expression: str, ids: Sequence[str], *, codes: Sequence[str] = (), file: str | Path = ""
) -> np.ndarray:
    """Rows to keep, (n_rows,) bool. A missing value fails every comparison, also `!=`.

    Raises:
        UsageError: not such an expression. DataError: an unknown column, or text compared by size.
    """
    if len(expression) > _MAX_LENGTH:
        raise UsageError("select is too long", expected=f"at most {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        return _Rows(table, ids, codes, file, expression).of(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError("select cannot be read", expected=_HOW, got=expression[:200]) from error


def unknown(table: pd.DataFrame, expression: str, *, codes: Sequence[str] = ()) -> np.ndarray:
    """Rows (n_rows,) that lack a value of any column the expression names; `selected` has read it before."""
    tree = ast.parse(expression.strip(), mode="eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    absent = np.zeros(len(table), dtype=bool)
    for name in names & set(table.columns):
        values = numbers(table[name], [""] * len(table), "", Findings(), codes=codes)
        cells = np.array([cell == "" for cell in texts(table[name], codes)], dtype=bool)
        coded = np.isnan(values) & np.array([bool(_NUMBER.match(cell)) for cell in table[name]], dtype=bool)
        absent |= cells | coded
    return absent


class _Rows:
    """Walks the expression; holds the table so that the walk's steps stay short."""

    def __init__(
        self, table: pd.DataFrame, ids: Sequence[str], codes: Sequence[str], file: str | Path, expression: str
    ) -> None:
        self.table, self.ids, self.codes, self.file, self.expression = table, ids, codes, file, expression

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
            if not isinstance(right, (ast.List, ast.Tuple)):
                raise self.refused()
            hits = np.logical_or.reduce([self.compared(left, ast.Eq(), item) for item in right.elts])
            return hits if isinstance(op, ast.In) else ~hits & self.known(column)
        value = self.constant(right)
        if isinstance(value, str):
            cells = np.array(texts(column, self.codes), dtype=object)
            if isinstance(op, ast.Eq):
                return np.asarray(cells == value)
            if isinstance(op, ast.NotEq):
                return np.asarray((cells != value) & (cells != ""))
            raise DataError(
                f"text has no size: select compares {left.id!r} with {value!r}", file=self.file, got=self.expression
            )
        compare = _NUMERIC.get(type(op))
        if compare is None:
            raise self.refused()
        findings = Findings()
        values = numbers(column, self.ids, self.file, findings, codes=self.codes)
        if findings.problems:
            raise DataError("select needs a number", problems=findings.problems)
        with np.errstate(invalid="ignore"):
            return np.asarray(compare(values, value) & ~np.isnan(values))

    def known(self, column: pd.Series) -> np.ndarray:
        return np.array([cell != "" for cell in texts(column, self.codes)], dtype=bool)

    def column(self, name: str) -> pd.Series:
        if name not in self.table.columns:
            near = difflib.get_close_matches(name, list(self.table.columns), n=1, cutoff=0.4)
            raise DataError(
                f"select names a column that is not there: {name!r}",
                file=self.file,
                remedy=f"Did you mean {near[0]}?" if near else None,
            )
        return self.table[name]

    def constant(self, node: ast.expr) -> float | str:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.constant(node.operand)
            if isinstance(value, str):
                raise self.refused()
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
            return node.value if isinstance(node.value, str) else float(node.value)
        raise self.refused()

    def refused(self) -> UsageError:
        return UsageError("select cannot be read", expected=_HOW, got=self.expression[:200])
