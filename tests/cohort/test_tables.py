"""Tables from hospitals, spreadsheets and REDCap are read in one way only, or raise a question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.columns.ages import in_unit, reckoned
from connectome_tl.cohort.columns.ids import bare, joined
from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.errors import DataError
from connectome_tl.settings.cohort import AgeColumn
from tests.cohort.conftest import OnDisk


@pytest.mark.parametrize(
    "data",
    [
        b"id\tage\n1\t2\n",
        b"\xef\xbb\xbfid\tage\r\n1\t2\r\n",
        b"id,age\n1,2\n\n",
        b"id;age\n1;2\n",
        b'"id","age"\n"1","2"\n',
        "id\tage\n1\t2\n".encode("utf-16"),
        b"id\tage\r1\t2\r",
    ],
    ids=["tsv", "mark and crlf", "csv", "semicolon", "quoted", "utf-16", "old mac"],
)
def test_one_table_however_it_was_saved(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    table = read_table(path)
    assert table.columns.tolist() == ["id", "age"]
    assert table.values.tolist() == [["1", "2"]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"id\tage\n", "no rows"),
        (b"id\tage\n1\n", "line 2 has 1 cell"),
        (b"id\tid\n1\t2\n", "occurs twice"),
        (b"id\tage\n\xff\xfe1\t2\n", "UTF-8"),
        (b"id\tage\n\x00\t2\n", "zero bytes"),
        (b'id,age\n"1,2\n', "1 cell"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_table(path)


def read(cells: list[str], **options: str) -> tuple[np.ndarray, Findings]:
    findings = Findings()
    ids = [str(i) for i in range(len(cells))]
    return numbers(pd.Series(cells, name="x"), ids, "t.tsv", findings, **options), findings


def test_missing_words_are_nan() -> None:
    values, findings = read(["1", "n/a", "NA", "", "nan", "NULL", "None", "-2.5e3"])
    np.testing.assert_array_equal(values, [1, *[np.nan] * 6, -2500])
    assert not findings.problems


def test_decimal_commas_are_read_unless_they_may_be_thousands() -> None:
    values, findings = read(["39,5", "40,25", "41"])
    np.testing.assert_array_equal(values, [39.5, 40.25, 41])
    assert findings.notes
    _, findings = read(["1,250", "2,400"])
    assert len(findings.problems) == 1
    assert "'1,250'" in str(findings.problems[0])
    assert "'2,400'" in str(findings.problems[0])
    assert "thousands" in str(findings.problems[0])


def test_weeks_and_days_only_where_weeks_are_meant() -> None:
    values, _ = read(["29+4", "30 + 0", "31w2d"], unit="weeks")
    np.testing.assert_allclose(values, [29 + 4 / 7, 30, 31 + 2 / 7])
    for cell in ("29+4", "29+7"):
        _, findings = read([cell], unit="weeks" if cell.endswith("7") else "")
        assert findings.problems


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (["100", "95", "-9", "999"], [100, 95, np.nan, 9]),
        (["0.1", "0.3", "-999", "0.2"], [0.1, 0.3, np.nan, 0.2]),
        (["-1.2", "0.4", "-9", "1.1"], [-1.2, 0.4, np.nan, 1.1]),
        (["-8", "-12", "-9", "5"], [-8, -12, -9, 5]),
        (["800", "1100", "999"], [800, 1100, 999]),
    ],
)
def test_codes_far_from_all_values_are_missing_and_said(cells: list[str], kept: list[float]) -> None:
    if "999" in cells and "-9" in cells:
        kept = [100, 95, np.nan, np.nan]
    values, findings = read(cells)
    np.testing.assert_array_equal(values, kept)
    assert any("was read as missing" in note for note in findings.notes) == bool(np.isnan(values).any())
    kept_code = "999" in cells and 999 in kept
    assert any("999 in 1 row was read as a value" in note for note in findings.notes) == kept_code


@pytest.mark.parametrize("cell", ["1_000", "0x1f", "inf", "=1+1", "12abc", "1e999", "<img onerror=alert(1)>"])
def test_what_is_no_number_is_a_problem(cell: str) -> None:
    values, findings = read([cell, "1"])
    assert len(findings.problems) == 1
    assert np.isnan(values[0])


def test_many_faults_of_one_kind_are_counted() -> None:
    _, findings = read(["x"] * 100)
    assert len(findings.problems) == 1
    assert "in 100 rows" in str(findings.problems[0])
    assert "88 more" in str(findings.problems[0])


def test_units_of_age() -> None:
    np.testing.assert_allclose(in_unit(np.array([52.17857]), "weeks", "years"), 1.0, rtol=1e-5)
    np.testing.assert_allclose(in_unit(np.array([24.0]), "months", "years"), 2.0)


def test_one_infant_in_every_reckoning() -> None:
    """Born at 28 weeks, scanned 12 weeks later: 40 weeks postmenstrual, corrected age 0."""
    born = np.array([28.0, np.nan])
    ages = {"birth": 12.0, "postmenstrual": 40.0, "corrected": 0.0}
    for given, value in ages.items():
        for wanted, expected in ages.items():
            spec = AgeColumn.model_validate({"column": "a", "unit": "weeks", "reference": given, "to": wanted})
            found = reckoned(np.array([value, value]), spec, born)
            assert found[0] == pytest.approx(expected)
            assert np.isnan(found[1]) == ("birth" in (given, wanted) and given != wanted) or given == wanted == "birth"
    months = AgeColumn(column="a", unit="months", reference="birth", to="corrected")
    assert reckoned(np.array([24.0]), months, np.array([28.0]))[0] == pytest.approx(24 - 12 * 7 / 30.4375)


def test_kin_is_joined_through_others() -> None:
    """A second scan of a twin belongs with both: subject 1 and 2 are twins, 2 and 3 one child."""
    family = ["f1", "f1", "", "", "f2"]
    child = ["a", "b", "b", "", "c"]
    labels = joined([family, child])
    assert labels[0] == labels[1] == labels[2] != ""
    assert labels[3] == ""
    assert labels[4] not in ("", labels[0])


@pytest.mark.parametrize(("one", "other"), [("sub-007", "7"), ("007", "7"), ("A01x02", "a1x2")])
def test_ids_are_compared_without_padding(one: str, other: str) -> None:
    assert bare(one) == bare(other)
    assert bare("100") != bare("10")


@pytest.mark.parametrize("last", ["Total", "Mean", "N = 20", "* corrected age", "Note: preliminary"])
def test_a_line_below_the_table_is_no_subject(on_disk: OnDisk, last: str) -> None:
    for cells in on_disk.table.values():
        cells.append("n/a")
    on_disk.table["participant_id"][-1] = last
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    assert "a line above or below the rows of the table is not a subject" in on_disk.problems()[0]


@pytest.mark.parametrize("prefix", ["SET-", "mar ", "GEN-0"])
def test_a_month_as_the_prefix_of_a_study_is_no_date(on_disk: OnDisk, prefix: str) -> None:
    ids = on_disk.table["participant_id"]
    ids[:] = [f"{prefix}{i + 10}" for i in range(len(ids))]
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    assert not any("changed by a spreadsheet" in problem for problem in on_disk.problems())


@pytest.mark.parametrize("name", ["01. Mrz", "1-avr", "4-sept", "01.03.2021", "5-okt", "Mär 21"])
def test_ids_that_a_spreadsheet_took_for_dates_are_named(on_disk: OnDisk, name: str) -> None:
    on_disk.table["participant_id"][0] = name
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    assert any("changed by a spreadsheet" in problem for problem in on_disk.problems())


@pytest.mark.parametrize(
    "text",
    [
        "id x y\na 1 2\nb 3 4\n",
        "id   x  y\na    1  2\nb   3  4\n",
        '"id" "x" "y"\n"1" "a" 1 2\n"2" "b" 3 4\n',
    ],
)
def test_blanks_may_separate_the_columns(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    table = read_table(tmp_path / "t.txt")
    assert table[["id", "x", "y"]].to_numpy().tolist() == [["a", "1", "2"], ["b", "3", "4"]]


@pytest.mark.parametrize("first", ["#N/A", "Study of 2020"])
@pytest.mark.parametrize("mark", ["\t", ",", ";"])
def test_a_line_above_the_header_is_named(tmp_path: Path, first: str, mark: str) -> None:
    (tmp_path / "t.txt").write_text(f"{first}\nid{mark}x\na{mark}1\n")
    with pytest.raises(DataError, match="line 1 is no header"):
        read_table(tmp_path / "t.txt")


def test_a_list_of_names_with_blanks_stays_one_column(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("name\nsub 1\nsub 2\n")
    assert read_table(tmp_path / "t.txt")["name"].tolist() == ["sub 1", "sub 2"]
