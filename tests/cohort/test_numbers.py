"""Unambiguous numbers are read, others raise a question; and every printed answer works."""

from __future__ import annotations

import re
import time

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.columns import numeric
from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import Marks

from .conftest import OnDisk
from .test_missing_and_spellings import tables_only


def read(cells: list[str], **options: object) -> tuple[np.ndarray, Findings]:
    findings = Findings()
    ids = [str(i) for i in range(len(cells))]
    return numbers(pd.Series(cells, name="x"), ids, "t.tsv", findings, **options), findings  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cells",
    [["937,5", "1,234"], ["1,065", "980"], ["937,5", "1.234"], ["1,234,567", "3"], ["1.234,5", "2"], ["1,234.5", "2"]],
)
def test_a_mark_that_may_be_decimal_or_thousands_is_asked_about(cells: list[str]) -> None:
    _, findings = read(cells)
    assert len(findings.problems) == 1
    assert "decimal: ','" in str(findings.problems[0])


@pytest.mark.parametrize(
    ("cells", "decimal", "values"),
    [
        (["937,5", "1,234"], ",", [937.5, 1.234]),
        (["1,065", "980"], ".", [1065, 980]),
        (["1,065", "980"], ",", [1.065, 980]),
        (["1,234,567", "3"], ".", [1_234_567, 3]),
        (["1.234,5", "2"], ",", [1234.5, 2]),
        (["1,234.5", "2"], ".", [1234.5, 2]),
        (["39,5", "40.25"], None, [39.5, 40.25]),
        (["0,125", "0,5"], None, [0.125, 0.5]),
        (["\u22125", "3"], None, [-5, 3]),
    ],
)
def test_the_declared_mark_decides(cells: list[str], decimal: str | None, values: list[float]) -> None:
    from connectome_tl.cohort.tables.cells import clean

    found, findings = read([clean(cell) for cell in cells], marks=Marks(decimal=decimal))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, values)
    assert not findings.problems


def test_the_cohort_file_declares_the_mark_for_all_tables(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["weight"] = ["1,065", "937,5", "980", "1,2", "1,111", "n/a"]
    on_disk.settings["covariates"] = [{"column": "weight", "unit": "kg"}]
    assert "two ways" in on_disk.problems()[0]
    on_disk.settings["decimal"] = ","
    np.testing.assert_allclose(on_disk.read().covariates["weight"], [1.065, 937.5, 980, 1.2, 1.111, np.nan])


@pytest.mark.parametrize(
    ("cell", "weeks"),
    [
        ("29+4", 29 + 4 / 7),
        ("29 + 4", 29 + 4 / 7),
        ("29+4d", 29 + 4 / 7),
        ("29+4/7", 29 + 4 / 7),
        ("29 4/7", 29 + 4 / 7),
        ("29w4d", 29 + 4 / 7),
        ("29w 4d", 29 + 4 / 7),
        ("29wk4", 29 + 4 / 7),
        ("29 weeks 4 days", 29 + 4 / 7),
        ("29 Weeks and 4 Days", 29 + 4 / 7),
        ("29 wks, 4 days", 29 + 4 / 7),
        ("31w", 31),
        ("31 weeks", 31),
        ("31.5 wk", 31.5),
        ("29.4", 29.4),
    ],
)
def test_gestational_ages_as_people_write_them(cell: str, weeks: float) -> None:
    values, findings = read([cell, "30"], unit="weeks")
    assert not findings.problems
    assert values[0] == pytest.approx(weeks)


@pytest.mark.parametrize("cell", ["29+7", "29+8", "29 8/7", "29 4", "29/4", "4d", "29 months", "203 days", "2 9+4"])
def test_what_is_no_week_and_day_is_refused(cell: str) -> None:
    _, findings = read([cell, "30"], unit="weeks")
    assert len(findings.problems) == 1


@pytest.mark.parametrize(
    ("cell", "unit", "value"), [("937.5 g", "g", 937.5), ("12 mo", "months", 12), ("8yrs", "years", 8)]
)
def test_a_unit_behind_a_number_is_the_declared_one(cell: str, unit: str, value: float) -> None:
    values, findings = read([cell], unit=unit)
    assert values[0] == value
    assert not findings.problems
    _, findings = read([cell], unit="kg")
    assert "another unit" in str(findings.problems[0])


def test_censored_values_need_a_rule_and_both_rules_work(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["cog"] = ["<55", ">145", "84", "n/a", "n/a", "≤ 49"]
    problems = on_disk.problems()
    assert len(problems) == 1
    assert all(part in problems[0] for part in ("'<55'", "'>145'", "censored: limit"))
    on_disk.settings["outcomes"][0]["censored"] = "limit"
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.scores["cog"], [55, 145, 84, np.nan, np.nan, 49])
    np.testing.assert_array_equal(cohort.targets["cognitive"], [1, 0, 1, np.nan, 1, 1])
    on_disk.settings["outcomes"][0]["censored"] = "missing"
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.targets["cognitive"].iloc[:3], [np.nan, np.nan, 1])
    assert cohort.status["cognitive"].tolist()[:2] == ["unknown", "unknown"]


@pytest.mark.parametrize(
    ("cell", "operator", "target"),
    [
        ("<85", "<", 1), ("<=85", "<", None), ("<90", "<", None), (">85", "<", 0), (">=85", "<", 0), (">80", "<", None),
        ("<=85", "<=", 1), (">85", "<=", 0), (">=85", "<=", None), ("85+", "<", 0), ("<85", ">=", 0), (">=85", ">=", 1),
    ],
)  # fmt: skip
def test_a_limit_decides_a_class_only_on_its_own_side_of_the_cut(
    on_disk: OnDisk, cell: str, operator: str, target: int | None
) -> None:
    tables_only(on_disk)
    on_disk.table["cog"][0] = cell
    on_disk.settings["outcomes"][0] |= {"censored": "limit", "operator": operator}
    if target is None:
        assert "does not decide" in on_disk.problems()[0]
    else:
        assert on_disk.read().targets["cognitive"].iloc[0] == target


def test_ages_of_ninety_and_more(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["pma"] = ["61", "72", "89+", ">90", "68", "70"]
    del on_disk.settings["gestational_age"]
    on_disk.settings["age"] = {"column": "pma", "unit": "years"}
    assert "'89+'" in on_disk.problems()[0]
    on_disk.settings["age"]["censored"] = "limit"
    np.testing.assert_array_equal(on_disk.read().age, [61, 72, 89, 90, 68, 70])
    on_disk.table["pma"][0] = "35-40"
    assert "missing: [" in on_disk.problems()[0]
    on_disk.settings["missing"] = ["35-40"]
    assert np.isnan(on_disk.read().age[0])


def test_a_cell_of_two_hundred_thousand_digits_is_text_at_once() -> None:
    started = time.process_time()
    for cell in ("1" * 200_000 + "x", "1," * 100_000, "1 " * 100_000, "<" * 200_000, "0" * 200_000):
        values, findings = read([cell, "1"], unit="weeks")
        assert np.isnan(values[0])
        assert len(findings.problems) == 1
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("cells", "unit", "values"),
    [
        (["45%", "30 %", "0"], "%", [45, 30, 0]),
        (["45%", "30%"], "", [45, 30]),
        (["45%", "0.5%", "20"], "percent", [45, 0.5, 20]),
        (["0.45", "0.30"], "%", [0.45, 0.3]),
        (["3.2 kg", "2.1kg", "999"], "", [3.2, 2.1, np.nan]),
        (["45%", ".30"], "%", None),
        (["45%", ".30"], "", None),
        (["45%", "30"], "", None),
        (["3.2 kg", "2100 g"], "", None),
    ],
)
def test_a_column_has_one_unit(cells: list[str], unit: str, values: list[float] | None) -> None:
    found, findings = read(cells, unit=unit)
    assert bool(findings.problems) == (values is None)
    if values is None:
        assert "another unit" in str(findings.problems[0])
    else:
        np.testing.assert_allclose(found, values)


@pytest.mark.parametrize("options", [{}, {"unit": "weeks"}, {"unit": "years"}, {"marks": Marks(decimal=",")}])
@pytest.mark.parametrize(
    "cells",
    [
        ["0.1234", "", "-1.50000", "1.5e3"],
        ["0.1234", "12.34567", "-9.0000", "+3.25000e-2"],
        ["999.0000", "1.2500", "1.2700", "2.0000"],
        ["100.0000", "1.0001", "1.0002", "1.0003", "1.0004"],
        ["38.1000", "38.2000", "0.00001", "8.0000"],
        ["", "n/a"],
        ["1.234567", "12.3456789", "1.2000"],
    ],
)
def test_columns_of_long_decimals_are_read_as_cell_by_cell(
    cells: list[str], options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, findings = read(cells, **options)
    monkeypatch.setattr(numeric, "_EXACT", re.compile("never"))
    wanted, others = read(cells, **options)
    np.testing.assert_array_equal(found, wanted)
    assert findings.notes == others.notes
    assert not findings.problems
    assert not others.problems
