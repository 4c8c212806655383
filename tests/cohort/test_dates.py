"""Dates are no numbers, however a program prints them."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import pytest

from connectome_tl.cohort.columns.dates import are_packed_dates, is_date
from connectome_tl.cohort.columns.guesses import guess_columns
from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings

from .test_numbers import read

DAYS = [date(2019, 1, 3) + timedelta(days=37 * i) for i in range(24)]
FORMATS = ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%y", "%Y-%m-%dT%H:%M:%S", "%G-W%V", "%d-%b-%Y", "%d%b%Y", "%d. %B %Y"]
FORMATS += ["%B %d, %Y", "%Y-%b-%d", "%d-%b-%y", "%d %b %Y 10:30", "%d%b%Y:10:30:00", "%Y%m%d"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_column_of_dates_is_refused_as_dates_and_is_no_age(form: str) -> None:
    cells = [day.strftime(form) for day in DAYS]
    _, findings = read(cells)
    (problem,) = findings.problems
    assert problem.what == "column 'x' holds dates where a number belongs, in 24 rows"
    ids = [f"s{i}" for i in range(24)]
    guess = guess_columns(pd.DataFrame({"id": ids, "pma": cells}), ids)[1]
    assert guess.date
    assert guess.meaning == "other"


@pytest.mark.parametrize("cell", ["12. März 2020", "3 août 2019", "1 mei 2020", "15 Dezember 2018"])
def test_months_are_known_in_other_languages(cell: str) -> None:
    assert is_date(cell)


@pytest.mark.parametrize(
    "cell", ["29 weeks 4", "38+4", "1250 g", "3 days 12", "20", "May", "29.4", "12-18", "10 mg 20"]
)
def test_weeks_units_and_ranges_are_no_dates(cell: str) -> None:
    assert not is_date(cell)


def test_large_counts_are_read_unless_all_of_them_are_dates() -> None:
    values, findings = read(["20190103", "20190210", "20993131", "19870000"])
    assert not findings.problems
    assert values[0] == 20190103
    assert not are_packed_dates(["20190103", "20190210"])
    values, findings = read(["20190103", "20190210", "20190319", "-999"])
    assert len(findings.problems) == 1
    assert "-999" not in str(findings.problems[0])


@pytest.mark.parametrize("name", ["dob", "Date of birth", "scanDate", "MRI_DATE", "geburtsdatum", "birth_date2"])
def test_serial_numbers_of_a_spreadsheet_are_dates_in_columns_of_dates(name: str) -> None:
    cells = [str((day - date(1899, 12, 30)).days) for day in DAYS]
    cells[3] += ".5"
    cells[4] = ""
    findings = Findings()
    numbers(pd.Series(cells, name=name), [f"s{i}" for i in range(24)], "x.csv", findings)
    (problem,) = findings.problems
    assert problem.what == f"column {name!r} holds dates where a number belongs, in 23 rows"
    guess = guess_columns(pd.DataFrame({"id": [f"s{i}" for i in range(24)], name: cells}), ["id"])[0]
    assert guess.date == cells[0]


@pytest.mark.parametrize("name", ["candidates", "volume", "updated_count", "dobutamine"])
def test_large_numbers_in_other_columns_are_numbers(name: str) -> None:
    findings = Findings()
    read_values = numbers(pd.Series(["43831", "41000", "39000"], name=name), ["a", "b", "c"], "x.csv", findings)
    assert not findings.problems
    assert read_values.tolist() == [43831, 41000, 39000]
