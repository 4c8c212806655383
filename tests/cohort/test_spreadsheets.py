"""Excel sheets and exports of spreadsheet programs: read as a person would read them, or refused with a remedy."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from pathlib import Path

import pytest

from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError


def book(path: Path, rows: list[list[object]], *, more: dict[str, list[list[object]]] | None = None) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    for title, other in (more or {}).items():
        sheet = made.create_sheet(title)
        for row in other:
            sheet.append(row)
    made.save(path)
    return path


def test_a_sheet_is_read_as_it_is_shown(tmp_path: Path) -> None:
    rows = [
        ["id", "age", "score", "day", "sex"],
        ["sub-01", 40.5, 101, datetime.datetime(2020, 3, 1), "F "],
        ["sub-02", 41.0, None, None, "M"],
    ]
    for name in ("t.xlsx", "t.csv"):  # recognised by content, not by name
        table = read_table(book(tmp_path / name, rows))
        assert table.columns.tolist() == rows[0]
        assert table.values.tolist() == [["sub-01", "40.5", "101", "2020-03-01", "F"], ["sub-02", "41", "", "", "M"]]


def test_a_sheet_and_its_text_are_one_table(tmp_path: Path) -> None:
    rows: list[list[object]] = [["id", "x"], ["a", "1"], ["b", "n/a"]]
    (tmp_path / "t.tsv").write_text("\n".join("\t".join(map(str, row)) for row in rows))
    assert read_table(book(tmp_path / "t.xlsx", rows)).equals(read_table(tmp_path / "t.tsv"))


def test_what_a_sheet_leaves_open_is_refused_with_a_remedy(tmp_path: Path) -> None:
    several = book(tmp_path / "a.xlsx", [["id"], ["1"]], more={"Codes": [["x"], ["y"]]})
    with pytest.raises(DataError, match=r"several sheets.*'Codes'.*separate file"):
        read_table(several)
    book(tmp_path / "b.xlsx", [["id", "x"], ["a", "=1+1"]])
    with pytest.raises(DataError, match=r"cell B2.*save it again"):
        read_table(tmp_path / "b.xlsx")


def merged(path: Path, rows: list[list[object]], *ranges: str) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.load_workbook(book(path, rows))
    for one in ranges:
        made.active.merge_cells(one)
    made.save(path)
    return path


GROUPED: list[list[object]] = [
    ["Infant", "Bayley-III", None, "Age"],
    [None, "cognitive", "motor", "weeks"],
    ["a", 90, 85, 40],
    ["b", 100, 95, 41],
]


@pytest.mark.parametrize(
    ("rows", "ranges", "columns", "said"),
    [
        (
            [*GROUPED[:1], [None, "cognitive", "motor", None], *GROUPED[2:]],
            ["B1:C1", "A1:A2", "D1:D2"],
            ["Infant", "Bayley-III cognitive", "Bayley-III motor", "Age"],
            "rows 1 to 2 was joined",
        ),
        (
            [["Follow-up of 2024", None, None], ["id", "x", "y"], ["a", 1, 2]],
            ["A1:C1"],
            ["id", "x", "y"],
            "title 'Follow-up of 2024' (A1:C1) was not read",
        ),
        (
            [["Study", None, None], ["id", "z-score", None], [None, "x", "y"], ["a", 1, 2]],
            ["A1:C1", "B2:C2"],
            ["id", "z-score x", "z-score y"],
            "rows 2 to 3 was joined",
        ),
        ([["id", "x"], ["a", 1], [None, None]], ["A3:B3"], ["id", "x"], ""),
        (
            [["id", "Bayley-III ", "\u00a0"], [" ", "cognitive", "motor"], ["a", 90, 85]],
            ["B1:C1"],
            ["id", "Bayley-III cognitive", "Bayley-III motor"],
            "rows 1 to 2 was joined",
        ),
    ],
    ids=["groups", "title", "both", "empty", "blanks"],
)
def test_merged_cells_above_the_rows_are_titles_and_groups(
    tmp_path: Path, rows: list[list[object]], ranges: list[str], columns: list[str], said: str
) -> None:
    notes: list[str] = []
    table = read_table(merged(tmp_path / "t.xlsx", rows, *ranges), notes)
    assert table.columns.tolist() == columns
    assert table.iloc[0].tolist() == [str(cell) for cell in next(row for row in rows if row[0] == "a")]
    assert said in " ".join(notes)
    assert len(notes) == (said != "") + (len(ranges) > 1 and said.startswith("rows 2"))


@pytest.mark.parametrize(
    ("rows", "ranges", "said"),
    [
        ([["id", "x"], ["a", 1], ["b", None]], ["B2:B3"], r"B2:B3 \('1'\).*Unmerge"),
        ([["id", "x", None], ["a", 1, 2], ["b", 3, 4]], ["B1:C1"], r"without names.*B1:C1 \('x'\)"),
        ([["id", "site", None], ["a", "Ulm", "x"], ["b", "Bern", "y"]], ["B1:C1"], "two names for column 1"),
        (GROUPED, ["B1:C1"], r"two names for column 4 \(Age, weeks\).*B1:C1.*Unmerge"),
        ([["id", "x"], ["a", 1], ["b", 2]], ["A1:A2"], r"two names for column 2"),
        ([["participant_id", None], ["sub-01", None], ["sub-02", None]], ["A1:B1"], "without names"),
    ],
    ids=["rows", "numbers", "text", "second name", "one over a row", "a list under one name"],
)
def test_merged_cells_that_leave_names_or_values_open_are_refused_with_their_place(
    tmp_path: Path, rows: list[list[object]], ranges: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_table(merged(tmp_path / "t.xlsx", rows, *ranges))


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ([["", "Bayley", "Age"], ["id", "score", "weeks"], ["a", "90", "40"], ["b", "n/a", "41"]], True),
        ([["id", "score", "weeks", "z"], ["", "weeks", "weeks", ""], ["b", "1", "2", "3"]], True),
        ([["", "Bayley", "Age"], ["a", "90", "40"], ["b", "95", "41"]], False),
        ([["", "Bayley", "Age"], ["a", "n/a", "n/a"], ["b", "95", "41"]], False),
        ([["", "Bayley", "site"], ["a", "declined", "Ulm"], ["b", "95", "Ulm"]], False),
        ([["", "sex", "site"], ["a", "F", "Ulm"], ["b", "M", "Ulm"]], False),
    ],
    ids=["two lines", "units", "one line", "missing values", "a word among numbers", "words"],
)
def test_a_second_line_of_a_header_is_told_from_a_row(rows: list[list[str]], refused: bool, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("".join(",".join(row) + "\n" for row in rows))
    if refused:
        with pytest.raises(DataError, match=r"the header has two lines.*Delete that line if.*one name per column"):
            read_table(file)
    else:
        assert len(read_table(file)) == len(rows) - 1


def test_an_empty_second_sheet_is_no_matter(tmp_path: Path) -> None:
    assert len(read_table(book(tmp_path / "a.xlsx", [["id"], ["1"]], more={"Sheet2": []}))) == 1


def test_without_openpyxl_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = book(tmp_path / "t.xlsx", [["id"], ["1"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"connectome-tl\[xlsx\].*\.csv"):
        read_table(path)


@pytest.mark.parametrize(
    "data",
    [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), b"PK\x03\x04 and no more", b"PK\x03\x04" + bytes(5000)],
    ids=["xls", "cut", "zeros"],
)
def test_other_and_damaged_spreadsheets_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.xlsx").write_bytes(data)
    with pytest.raises(DataError, match=r"\.csv"):
        read_table(tmp_path / "t.xlsx")


def test_a_damaged_sheet_inside_a_sound_archive_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["id"], ["1"]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for broken in ("xl/worksheets/sheet1.xml", "xl/workbook.xml", "[Content_Types].xml"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data[: len(data) // 2] if name == broken else data)
        path.write_bytes(out.getvalue())
        with pytest.raises(ConnectomeTLError):
            read_table(path)


@pytest.mark.parametrize(
    "text",
    [
        "\nid,age\n1,2\n",
        "\n\n\nid\tage\n\n1\t2\n",
        "sep=;\nid;age\n1;2\n",
        ",,\nid,age,\n1,2,\n,,\n",
        "id,age,,\n1,2,,\n",
        "\ufeffid,age\n1\u200b,2\u00a0\n",
    ],
)
def test_empty_lines_and_columns_of_a_spreadsheet_program_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    table = read_table(tmp_path / "t.csv")
    assert table.columns.tolist() == ["id", "age"]
    assert table.values.tolist() == [["1", "2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("My study,,\nid,age,sex\n1,2,F\n", "column 2 has cells and no name"),
        ("My study\nid,age,sex\n1,2,F\n", "lines above its header"),
        ("id,age\n1,2,3\n", "line 2 has 3 cells"),
        ("id,age,age\n1,2,3\n", "'age' occurs twice"),
        ("\n\n , \n", "empty"),
    ],
)
def test_a_header_that_is_none_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / "t.csv")


def test_a_column_that_repeats_another_is_one_and_different_ones_of_a_name_are_not(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,icv,x,icv\na,1,2,1\nb,3,4,3\n")
    table = read_table(tmp_path / "t.csv")
    assert table.columns.tolist() == ["id", "icv", "x"]
    assert table["icv"].tolist() == ["1", "3"]
    (tmp_path / "t.csv").write_text("id,icv,x,icv\na,1,2,1\nb,3,4,5\n")
    with pytest.raises(DataError, match="'icv' occurs twice"):
        read_table(tmp_path / "t.csv")


def test_what_is_hidden_or_struck_out_is_read_and_said_and_hidden_sheets_are_not_read(tmp_path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.styles import Font

    wanted = Workbook()
    for row in (["id", "x", "y"], ["a", 1, 2], ["b", 3, 4], ["c", 5, 6]):
        wanted.active.append(row)
    wanted.active.row_dimensions[3].hidden = True
    wanted.active.column_dimensions["C"].hidden = True
    wanted.active["A4"].font = Font(strike=True)
    old = wanted.create_sheet("old")
    old.append(["id", "x"])
    old.sheet_state = "veryHidden"
    wanted.save(tmp_path / "t.xlsx")
    notes: list[str] = []
    assert read_table(tmp_path / "t.xlsx", notes)["x"].tolist() == ["1", "3", "5"]
    for said in ("hidden sheets were not read: 'old'", "hidden rows", "hidden columns", "struck-out rows"):
        assert any(said in note for note in notes), said
    wanted.active.sheet_state = "hidden"
    old.sheet_state = "visible"
    wanted.active = 1
    wanted.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="no rows"):
        read_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.21, "0%", "21%"),
        (0.2134, "0%", "21.34%"),
        (0.3, "0.00 %", "30%"),
        (7, "000", "007"),
        (7, '"sub-"00', "sub-07"),
        (3.25, '0.0 "kg"', "3.25 kg"),
        (3, '0.0\\ "kg"', "3 kg"),
        (12.5, '"€"#,##0.00', "12.5"),
        (1250, "#,##0", "1250"),
        (-3, "00", "-3"),
        (40.5, "0", "40.5"),
    ],
)
def test_a_number_is_read_with_what_its_format_adds(tmp_path: Path, value: float, form: str, shown: str) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.Workbook()
    for row in (["id", "x"], ["a", value]):
        made.active.append(row)
    made.active["B2"].number_format = form
    made.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx")["x"].tolist() == [shown]
