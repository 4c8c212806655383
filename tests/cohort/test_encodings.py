"""Tables in the encoding of a spreadsheet program are read if unambiguous, and otherwise refused with one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.errors import DataError, Problem

GERMAN = "Proband;Größe (cm);Zentrum\n1;48,5;Köln\n2;50,0;Graz\n"
FRENCH = "Sujet;Hôpital;Né à\n1;Orléans;l’hôpital\n2;Sèvres;chez soi\n"


@pytest.mark.parametrize("text", [GERMAN, FRENCH, "id;sexe\n1;féminin\n", "id;sitio\n1;Logroño\n2;—\n"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_gives_the_same_cells(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding=encoding)
    notes: list[str] = []
    table = read_table(tmp_path / "t.csv", notes)
    assert [list(table.columns), *table.values.tolist()] == [line.split(";") for line in text.splitlines()]
    assert len(notes) == (encoding == "cp1252")


def test_a_recognised_encoding_is_noted_with_words_to_check(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(GERMAN, encoding="cp1252")
    notes: list[str] = []
    read_table(tmp_path / "t.csv", notes)
    assert notes == ["t.csv is not in UTF-8 and was read as Windows-1252 (Western European): Größe, Köln"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "mac_roman"),
        (GERMAN, "cp850"),
        ("id;город\n1;Москва\n", "cp1251"),
        ("id;πόλη\n1;Αθήνα\n", "cp1253"),
        ("id;miasto\n1;Łódź\n2;Częstochowa\n", "cp1250"),
        ("id;şehir\n1;Iğdır\n2;Ağrı\n", "cp1254"),
        ("id;都市\n1;東京\n", "shift_jis"),
    ],
)
def test_other_encodings_are_refused_with_the_line_and_what_to_do(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes(b"\n" + text.encode(encoding))
    with pytest.raises(DataError, match=r"t.csv, line [23]: not a text file in UTF-8; got byte 0x.*CSV UTF-8"):
        read_table(tmp_path / "t.csv", [])


def test_a_damaged_utf8_file_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id;Straße\n1;ä\n2;ö\n".encode() + b"3;\xe9\n")
    with pytest.raises(DataError, match="line 4: not a text file in UTF-8"):
        read_table(tmp_path / "t.csv", [])


def test_without_a_place_for_the_note_only_unicode_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(GERMAN, encoding="cp1252")
    with pytest.raises(DataError, match="UTF-8"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(12) + b"\xc2\xea\x81\x60" + bytes(50), "a SAS file"),
        (b"\x1f\x8b\x08\x00" + bytes(range(200, 255)), "compressed with gzip"),
        (b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!" + b"0" * 30, "a SAS transport file"),
        (b"PAR1\x15\x04\x00\x00", "a Parquet file"),
        (b"ARROW1\x00\x00\xff", "a Feather file"),
        (pickle.dumps(["id"]), "a pickle of Python"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
        (b"<html><table><tr><td>id</td></tr></table></html>", "a web page"),
        (b'{"url": "https://docs.example/x"}', "JSON"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=rf"t.csv: not a (text file|table) but {said}.*\.csv or \.tsv"):
        read_table(tmp_path / "t.csv", [])


def test_files_without_a_signature_are_named_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "t.por").write_bytes(b"\xc1\xe2\xc3\xc9\xc9" * 20)
    with pytest.raises(DataError, match="not a text file but an SPSS file"):
        read_table(tmp_path / "t.por", [])


def test_a_problem_of_a_row_without_id_names_no_subject() -> None:
    assert str(Problem("is wrong", subject="", file="t.csv")) == "file t.csv: is wrong"
