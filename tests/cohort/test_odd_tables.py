"""Further ways in which people write tables and numbers: read as meant, or refused with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.columns.ids import subject_ids
from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.tables.cells import clean
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.errors import DataError

from .conftest import OnDisk

ROWS = [
    ["id", "age", "score", "sex"],
    *([f"sub-{i:02d}", f"4{i % 3}.5", str(90 + i), "FM"[i % 2]] for i in range(1, 7)),
]


def saved(path: Path, text: str) -> Path:
    (path / "t.tsv").write_text(text)
    return path / "t.tsv"


def text_of(rows: list[list[str]], mark: str = "\t") -> str:
    return "".join(mark.join(row) + "\n" for row in rows)


PLAIN = text_of(ROWS)
SPELLED = {
    "quoted by apostrophes": text_of([[f"'{cell}'" for cell in row] for row in ROWS], ","),
    "kept as text for Excel": text_of([ROWS[0], *([f'="{row[0]}"', *row[1:]] for row in ROWS[1:])], ","),
    "header behind a comment mark": "#" + PLAIN,
    "lines of comments": "# exported on Monday\n# by nobody\n" + PLAIN,
    "rule of Markdown": text_of(ROWS[:1]) + text_of([["---", ":--", "--:", "---"]]) + text_of(ROWS[1:]),
    "header twice": PLAIN + text_of(ROWS[:1]),
    "counted rows without a name": text_of([ROWS[0], *([str(i), *row] for i, row in enumerate(ROWS[1:], 1))]),
}


@pytest.mark.parametrize("text", SPELLED.values(), ids=SPELLED)
def test_a_table_is_the_same_in_every_spelling(tmp_path: Path, text: str) -> None:
    table = read_table(saved(tmp_path, text), [])
    assert table[ROWS[0]].values.tolist() == ROWS[1:]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (text_of([ROWS[0], ["", "weeks", "points", ""], *ROWS[1:]]), "two lines.*one line"),
        (text_of([ROWS[0], ["Infant", "Age at scan", "Bayley", "Sex"], *ROWS[1:]]), "two lines"),
        ('[{"id": 1}]', "JSON.*csv"),
        ("[[1, 2], [3, 4]]", "JSON"),
        (PLAIN.encode("utf-16-le").decode("latin1"), "UTF-16.*save it again"),
    ],
)
def test_what_is_no_table_of_one_header_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s){said}"):
        read_table(saved(tmp_path, text), [])


def exchanged(rows: list[list[str]]) -> str:
    return text_of([list(row) for row in zip(*rows, strict=True)])


def long(rows: list[list[str]]) -> str:
    cells = [[row[0], name, cell] for row in rows[1:] for name, cell in zip(rows[0][1:], row[1:], strict=True)]
    return text_of([["participant_id", "name", "value"], *cells])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (exchanged, "columns and rows are exchanged: 'pma' is a row"),
        (long, "long format: column 'name' holds 'pma'"),
        (lambda rows: text_of(rows, "~"), "has one column.*Separate"),
    ],
)
def test_a_table_of_another_shape_is_one_problem(
    on_disk: OnDisk, shape: Callable[[list[list[str]]], str], said: str
) -> None:
    file = on_disk.write()
    rows = [list(on_disk.table), *map(list, zip(*on_disk.table.values(), strict=True))]
    (on_disk.folder / "participants.tsv").write_text(shape(rows))
    with pytest.raises(DataError) as caught:
        read_cohort(file)
    first, *others = map(str, caught.value.problems)
    assert re.search(said, first)
    assert not any("is not in the table" in one for one in others)


@pytest.mark.parametrize(
    "line", ["Mean", "Mean ± SD", "average (n=12)", "SD:", "(12 rows)", "N = 6", "Total / all", "* excluded"]
)
@pytest.mark.parametrize("at", [0, 6])
def test_a_line_of_summaries_is_no_subject_wherever_it_stands(line: str, at: int) -> None:
    ids = [f"sub-{i:02d}" for i in range(6)]
    findings = Findings()
    subject_ids(pd.Series([*ids[:at], line, *ids[at:]]), "t.tsv", findings, table=pd.DataFrame())
    assert any("is not a subject" in str(one) for one in findings.problems)


@pytest.mark.parametrize("one", ["SUM-01", "max01", "MEAN3", "min_7", "N12", "SD-A"])
def test_ids_that_begin_like_a_summary_are_ids(one: str) -> None:
    findings = Findings()
    subject_ids(pd.Series([one, *(f"sub-{i:02d}" for i in range(6))]), "t.tsv", findings, table=pd.DataFrame())
    assert not findings.problems


def read(cells: list[str], unit: str = "") -> tuple[np.ndarray, Findings]:
    findings = Findings()
    return numbers(pd.Series(cells, name="x"), [str(i) for i in range(len(cells))], "t", findings, unit=unit), findings


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("–0.5", -0.5), ("—0.5", -0.5), ("‐0.5", -0.5), ("－0.5", -0.5), ("１２．５", 12.5), ("1 250", 1250.0),
        ("1\u00a0250", 1250.0), ("1\u202f250\u202f000", 1250000.0), ("1'250.5", 1250.5), ("1’250", 1250.0),
        ("12 500,5", 12500.5),
    ],
)  # fmt: skip
def test_signs_digits_and_separators_of_other_keyboards_are_read(cell: str, value: float) -> None:
    column = pd.Series([cell, "3", "7"])
    found, findings = read([clean(one) for one in column])
    assert not findings.problems
    assert found[0] == value


@pytest.mark.parametrize(
    ("cells", "unit", "said"),
    [
        (["38-4", "39"], "weeks", "38+4"),
        (["38:4", "39"], "weeks", "38+4"),
        (["38 4", "39"], "weeks", "38+4"),
        (["2019-03-01", "2019-03-02"], "weeks", "difference of two dates"),
        (["01.03.2019", "3"], "years", "difference of two dates"),
        (["2019-W10", "2019-W11"], "weeks", "difference of two dates"),
        (["3.10", "4.5", "3.11", "7.2", "5"], "years", "eleven months"),
        (["(0.5)", "3"], "", "plain numbers"),
        (["~38", "3"], "weeks", "plain numbers"),
        (["29½", "3"], "weeks", "plain numbers"),
        (["38²", "3"], "weeks", "plain numbers"),
        (["1 25", "3"], "g", "plain numbers"),
    ],
)
def test_cells_that_may_mean_something_else_are_refused_with_what_to_write(
    cells: list[str], unit: str, said: str
) -> None:
    _, findings = read(cells, unit)
    assert said in str(findings.problems[0])


@pytest.mark.parametrize("cells", [["3.10", "4.50", "3.11"], ["3.1", "4.5", "3.12"], ["3.1", "4.5"], ["10", "3.5"]])
def test_decimals_that_are_no_months_are_years(cells: list[str]) -> None:
    found, findings = read(cells, "years")
    assert not findings.problems
    assert found.tolist() == [float(cell) for cell in cells]
