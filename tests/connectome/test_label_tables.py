"""Label tables of the tools that labs use, each with the names and numbers that the tool means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.connectome.regions import regions_of_table
from connectome_tl.errors import DataError

KINDS = {
    "mrtrix with two names for one number": (
        "t.txt",
        "36 L.TH Left-Thalamus 0 118 14 255\n36 L.TH Left-Thalamus-Proper 0 118 14 255\n37 L.CA Left-Caudate 1 1 1 0\n",
        ("Left-Thalamus", "Left-Caudate"),
        (36, 37),
    ),
    "brainlife": (
        "label.json",
        json.dumps([{"name": "a", "label": "1001", "voxel_value": 1}, {"name": "b", "label": "9", "voxel_value": 2}]),
        ("a", "b"),
        (1, 2),
    ),
    "list of names": ("x.json", json.dumps(["a", "b"]), ("a", "b"), None),
    "list under a key": ("x.json", json.dumps({"region_labels": ["a", "b"], "n_regions": 2}), ("a", "b"), None),
    "number to name": ("x.json", json.dumps({"3": "a", "1": "b"}), ("a", "b"), (3, 1)),
    "name to number": ("x.json", json.dumps({"a": 3, "b": 1}), ("a", "b"), (3, 1)),
    "SPM": ("aal.txt", "1 Precentral_L 2001\n2 Precentral_R 2002\n", ("Precentral_L", "Precentral_R"), (1, 2)),
    "DSI Studio": (
        "a.txt",
        "1\tleft precentral\n2\tright precentral\n",
        ("left precentral", "right precentral"),
        (1, 2),
    ),
    "quoted names": (
        "m.txt",
        '0 "Unknown" 0 0 0 0\n1 "Left Thalamus" 0 118 14 255\n2 "Region 2" 1 2 3 255\n',
        ("Left Thalamus", "Region 2"),
        (1, 2),
    ),
    "blanks in names": (
        "f.txt",
        "1 Left Thalamus 0 118 14 0\n2 Left Thalamus Proper 0 118 14 0\n",
        ("Left Thalamus", "Left Thalamus Proper"),
        (1, 2),
    ),
    "number in names": ("f.txt", "3 Region 3 1 2 3 255\n1 Region 1 1 2 3 255\n", ("Region 3", "Region 1"), (3, 1)),
    "colours without opacity": ("f.txt", "3 a 1 2 3\n1 b 4 5 6\n", ("a", "b"), (3, 1)),
    "decimal numbers of pandas": ("t.tsv", "index\tname\n3.0\ta\n1.0\tb\n", ("a", "b"), (3, 1)),
    "numbers as labels": ("t.tsv", "label\tname\n3\ta\n1\tb\n", ("a", "b"), (3, 1)),
    "numbers as labels of regions": ("t.csv", "label,region\n3,a\n1,b\n", ("a", "b"), (3, 1)),
    "abbreviations as labels": ("t.tsv", "label\tname\nA\ta\nB\tb\n", ("a", "b"), None),
    "a measure as value": ("t.tsv", "name\tvalue\na\t1\nb\t0.53\n", ("a", "b"), None),
    "a negative background": ("t.tsv", "label\tname\n-1\tUnknown\n3\ta\n1\tb\n", ("a", "b"), (3, 1)),
    "no header": ("a.csv", "5,a\n9,b\n", ("a", "b"), (5, 9)),
    "Connectome Workbench": ("w.txt", "L_V1\n1 255 0 0 255\nR_V1\n2 0 255 0 255\n", ("L_V1", "R_V1"), (1, 2)),
    "counted from 0": ("t.csv", "id,name\n0,a\n1,b\n", ("a", "b"), None),
    "with a background": ("t.csv", "id,name\n0,Unclassified\n1,b\n2,c\n", ("b", "c"), (1, 2)),
    "FSL, probabilistic": (
        "h.xml",
        '<?xml version="1.0"?><atlas><header><type>Probabalistic</type></header><data>'
        '<label index="0" x="4">Frontal Pole</label><label index="1" x="1">A &amp; B</label></data></atlas>',
        ("Frontal Pole", "A & B"),
        (1, 2),
    ),
    "FSL, labels": (
        "j.xml",
        '<atlas><header><type>Label</type></header><data><label index="0" x="0">Unclassified</label>'
        '<label index="1" x="0">Tract</label></data></atlas>',
        ("Tract",),
        (1,),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_other_tools(tmp_path: Path, kind: str) -> None:
    file, content, names, numbers = KINDS[kind]
    (tmp_path / file).write_text(content)
    table = read_labels(tmp_path / file)
    assert (table.names, table.numbers) == (names, numbers)


@pytest.mark.parametrize("cell", ["n/a", "", "0x4", "4.5e1x"])
@pytest.mark.parametrize("column", ["index", "label"])
def test_a_number_that_cannot_be_read_is_named_and_never_drops_the_others(
    tmp_path: Path, cell: str, column: str
) -> None:
    (tmp_path / "t.tsv").write_text(f"{column}\tname\n3\ta\n{cell}\tb\n1\tc\n")
    with pytest.raises(DataError, match=f"{column}.*{cell}.* in line 3"):
        read_labels(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text(f"{column}\tname\n3\ta\n-1\tb\n")
    with pytest.raises(DataError, match=r"negative.*-1"):
        read_labels(tmp_path / "t.tsv")


def test_second_names_are_aliases_only_where_the_table_shows_it(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(KINDS["mrtrix with two names for one number"][1])
    assert read_labels(tmp_path / "t.txt").aliases == {"Left-Thalamus-Proper": "Left-Thalamus"}
    for other in ("index\tname\n36\ta\n36\tb\n", "36 L.TH a 0 1 1 255\n36 L.XX b 0 1 1 255\n"):
        (tmp_path / "t.txt").write_text(other)
        with pytest.raises(DataError, match="36 occurs twice"):
            read_labels(tmp_path / "t.txt")


def test_one_cause_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("index\tname\n" + "".join(f"{i}\n" for i in range(181)))
    with pytest.raises(DataError, match="180 more lines") as caught:
        read_labels(tmp_path / "t.tsv")
    assert len(caught.value.problems) == 1


def test_endless_lines_and_hostile_names_are_refused_at_once(tmp_path: Path) -> None:
    for content in ("1 " + '"' * 400_000 + "\n", "9" * 200_000 + " x\n", "a\u202eb\nc\n"):
        (tmp_path / "t.txt").write_text(content, encoding="utf-8")
        with pytest.raises(DataError):
            read_labels(tmp_path / "t.txt")


@pytest.mark.parametrize(
    "text",
    [
        "Index,name\n3,b\n1,a\n",
        "ROI_ID\tlabel\n3\tb\n1\ta\n",
        "index;name\n3.0;b\n1.0;a\n",
        "label,region\n3,b\n1,a\n",
        "b 3\na 1\n",
        "3 b -1.5 2 30\n1 a 4 -5.25 6\n",
        "3.0 b\n1.0 a\n",
        "fs_id\tname\tlobe_id\n3\tb\t1\n1\ta\t1\n",
        "3 b 1 2 3 0 # the second\n1 a 1 2 3 0\n",
        "// made by hand\n3 b 1 2 3 0\n% and more\n1 a 1 2 3 0\n",
        ";index;name\n1;3;b\n2;1;a\n",
        "# made by hand\nindex\tname\n3\tb\n# and more\n1\ta\n",
        'index  name\n3  "b"\n1  a \n',
    ],
)
def test_numbers_of_a_table_are_found_wherever_they_stand(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    table = read_labels(tmp_path / "l.txt")
    assert (table.names, table.numbers) == (("b", "a"), (3, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index\tname\n0x3\tb\n0x1\ta\n", "cannot be read.*0x3"),
        ("index\tname\n1,003\tb\n1,001\ta\n", "cannot be read.*1,003"),
        ("lut_id\tfs_id\tname\n2\t1003\tb\n1\t1001\ta\n", "several columns.*lut_id, fs_id"),
        ("3 b 1 2 3 0\n2 c\n1 a 1 2 3 0\n", "line of the colour table cannot be read.*got 2 c"),
    ],
)
def test_rows_are_not_numbered_by_their_order_where_the_table_has_numbers(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "t.tsv")


@pytest.mark.parametrize("column", ["label", "value", "intensity"])
def test_positions_of_rows_are_no_numbers_in_the_image(tmp_path: Path, column: str) -> None:
    (tmp_path / "t.tsv").write_text(f"index\t{column}\tname\n1\t30\tb\n2\t10\ta\n")
    assert regions_of_table(read_labels(tmp_path / "t.tsv")).numbers == (30, 10)
    (tmp_path / "t.tsv").write_text("index\tvalue\tname\n1\t7\tb\n2\t7\ta\n")
    assert regions_of_table(read_labels(tmp_path / "t.tsv")).numbers == (1, 2)


def test_numbers_that_are_part_of_names_stay_there(tmp_path: Path) -> None:
    for text, names in (
        ("area 1\narea 2\n", ("area 1", "area 2")),
        ("1 area 1 #2\n2 area 2\n", ("area 1 #2", "area 2")),
    ):
        (tmp_path / "l.txt").write_text(text)
        assert read_labels(tmp_path / "l.txt").names == names


def test_a_table_whose_numbers_do_not_rise_needs_an_order(tmp_path: Path) -> None:
    """The rows may follow its lines or its numbers."""
    (tmp_path / "l.csv").write_text("index,name\n3,c\n1,a\n2,b\n")
    table = read_labels(tmp_path / "l.csv")
    file = MatrixFile(np.array([[[0.0, 1, 2], [1, 0, 3], [2, 3, 0]]]))
    with pytest.raises(DataError, match="order: table"):
        connectome_from(file, RowNames(table=table), measures=("x",))
    for order, edge in (("table", 3.0), ("label", 1.0)):
        found = connectome_from(file, RowNames(table=table, order=order), measures=("x",))  # type: ignore[arg-type]
        a, b = found.regions.index("a"), found.regions.index("b")
        assert found.weights[0, a, b] == edge


@pytest.mark.parametrize(
    "text",
    [
        "index\tname\themi\n1\tA\tL\n2\tA\tR\n",
        "index|name|side\n1|A|L\n2|A|R\n",
        "num\u00e9ro;nom\n1;A_L\n2;A_R\n",
        "parcel\tparcel_label\tsize\n1\tA_L\t4\n2\tA_R\t4\n",
        "# my regions\nA_L\nA_R\n",
        "# index\tname\n1\tA_L\n2\tA_R\n",
    ],
)
def test_names_are_found_by_what_they_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt").names == ("A_L", "A_R")
