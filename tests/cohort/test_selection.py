"""`select` keeps the rows that pandas would, and evaluates nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.tables.selection import selected
from connectome_tl.errors import DataError, UsageError

TABLE = pd.DataFrame(
    {
        "age": ["10", "13", "n/a", "40.5", "7"],
        "sex": ["F", "M", "F", "n/a", "M"],
        "site": ["A", "B", "C", "A", "B"],
    }
)
IDS = list("abcde")


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("age < 13", "ae"),
        ("age <= 13 and sex == 'M'", "be"),
        ("13 > age", "ae"),
        ("5 < age <= 13", "abe"),
        ("sex == 'F' or site in ['B']", "abce"),
        ("site not in ('A', 'B')", "c"),
        ("not age < 13", "bcd"),
        ("sex != 'F'", "be"),
        ("age != 13", "ade"),
        ("age > -1 and (site == 'A' or site == 'C')", "ad"),
    ],
)
def test_rows_kept(expression: str, kept: str) -> None:
    assert "".join(np.array(IDS)[selected(TABLE, expression, IDS)]) == kept


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch pwned')",
        "age.__class__ == 1",
        "[x for x in age] == 1",
        "age < sex",
        "age + 1 < 3",
        "age < ",
        "lambda: 1",
        "age < 13; sex == 'F'",
        "age if age else 1",
        "(" * 300 + "age < 1" + ")" * 300,
        "age in sex",
        "'A' in site",
        "True",
        "",
        "a" * 3000,
    ],
)
def test_nothing_else_is_understood(expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="select"):
        selected(TABLE, expression, IDS)
    assert not list(tmp_path.iterdir())


def test_unknown_columns_and_text_by_size_are_named() -> None:
    with pytest.raises(DataError, match="Did you mean age"):
        selected(TABLE, "agee < 3", IDS)
    with pytest.raises(DataError, match="cannot be compared by size"):
        selected(TABLE, "site < 'B'", IDS)
    with pytest.raises(DataError, match="text where a number"):
        selected(TABLE, "sex < 2", IDS)


@pytest.mark.parametrize(
    "expression", ["site in []", "site not in ()", f"age > 1{'0' * 400}", "age > 1e999", "age < -1e999"]
)
def test_lists_and_numbers_that_mean_nothing_are_wrong_usage(expression: str) -> None:
    with pytest.raises(UsageError, match="select cannot be read"):
        selected(TABLE, expression, IDS)


def test_texts_are_compared_as_categories() -> None:
    table = pd.DataFrame({"sex": ["Male", "m", "F", "-", "female"], "Study group": ["A b", "a  B", "c", "n/a", "C "]})
    kept = {
        "sex == 'M'": "ab",
        "sex != 'male'": "ce",
        "sex in ['woman']": "ce",
        "`Study group` == 'a b'": "ab",
        "`Study group` not in ['C']": "ab",
        "`Study group` == ''": "d",
        "`Study group` == 'n/a' or sex == 'unknown'": "d",
    }
    for expression, ids in kept.items():
        assert "".join(np.array(IDS)[selected(table, expression, IDS)]) == ids, expression


def test_a_text_that_no_row_holds_is_noted() -> None:
    notes: list[str] = []
    selected(TABLE, "site == 'A' or site == 'D'", IDS, notes=notes)
    assert notes == ["select: no row has site 'D'"]
    with pytest.raises(DataError, match="Did you mean `Study group`"):
        selected(pd.DataFrame({"Study group": ["a"]}), "study_group == 'a'", ["1"])
