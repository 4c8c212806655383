"""Numbers in text: unambiguous text is read, ambiguous text is refused, quickly."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.formats.cells import numbers
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0,5", "1,25"], [0.5, 1.25]),
        (["0,123", "12,345"], [0.123, 12.345]),  # 0,123 cannot be thousands
        (["0,1234", "1,234"], [0.1234, 1.234]),
        (["937,5", "12,25"], [937.5, 12.25]),
        (["-0,5", "1,2e3"], [-0.5, 1200]),
        (["1e-3", ".5", "2."], [0.001, 0.5, 2]),
        (["NA", "n/a", "1"], [np.nan, np.nan, 1]),
    ],
)
def test_one_way_to_read_it(cells: list[str], expected: list[float]) -> None:
    np.testing.assert_array_equal(numbers([cells], "m", first_line=1)[0], expected)


@pytest.mark.parametrize(
    "cells",
    [
        ["1,065", "65"],
        ["937,5", "1,234"],
        ["1,234", "0.5"],
        ["0,5", "1.5"],
        ["1,234,567", "3"],
        ["1,234.5", "3"],
        ["12,345", "-1,000"],
    ],
)
def test_two_ways_to_read_it(cells: list[str]) -> None:
    with pytest.raises(DataError, match="comma that may be decimal"):
        numbers([cells], "m", first_line=1)


def test_points_that_may_separate_thousands(tmp_path: Path) -> None:
    """2.073 and 65 in one matrix of counts, as a German spreadsheet writes them; decimals of any kind are read."""
    rng = np.random.default_rng(0)
    upper = np.triu(rng.integers(1, 30_000, (12, 12)), 1)
    upper[0, 1:6] = 65
    counts = upper + upper.T
    text = "\n".join("\t".join(f"{value:,d}".replace(",", ".") for value in row) for row in counts)
    (tmp_path / "m.tsv").write_text(text + "\n")
    with pytest.raises(DataError, match="points that may be decimal"):
        read_matrix(tmp_path / "m.tsv")
    for form in ("%.3f", "%g", "%.4g", "%.17g"):
        np.savetxt(tmp_path / "m.tsv", counts / 1000, fmt=form, delimiter="\t")
        np.testing.assert_allclose(read_matrix(tmp_path / "m.tsv").values[0], counts / 1000, rtol=1e-3)


CELLS = ("1" * 200_000 + "x", "1" * 200_000, "1." * 100_000, "1,000" * 40_000, "\u0663", "1_0", "0x1")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("place", [0, 1])
def test_no_cell_takes_long_or_is_read_otherwise(tmp_path: Path, cell: str, place: int) -> None:
    rows = [["0", "1", "2"], ["1", "0", "3"], ["2", "3", "0"]]
    rows[place][place] = cell
    (tmp_path / "m.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    start = time.process_time()
    with pytest.raises(DataError):
        read_matrix(tmp_path / "m.tsv")
    assert time.process_time() - start < 2


def test_a_text_cell_is_said_as_such_and_not_as_a_shape(tmp_path: Path) -> None:
    for at in (0, 1, 2):
        rows = [["0", "1", "2"], ["1", "0", "3"], ["2", "3", "0"]]
        rows[1][at] = "abc"
        (tmp_path / "m.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
        with pytest.raises(DataError, match=r"line 2.*is text, not a number.*abc"):
            read_matrix(tmp_path / "m.csv")


@pytest.mark.parametrize("word", ["#N/A", '"#N/A"', "NA"])
def test_a_first_region_that_excel_calls_missing_is_no_comment(word: str, tmp_path: Path) -> None:
    rows = [[word] * 4, *([word, *(str(abs(i - j)) for j in range(3))] for i in range(3))]
    (tmp_path / "m.csv").write_text("# made by hand\n" + "\n".join(",".join(row) for row in rows))
    values = read_matrix(tmp_path / "m.csv").values[0]
    assert np.isnan(values[0]).all()
    np.testing.assert_array_equal(values[1:, 1:], np.abs(np.subtract.outer(np.arange(3), np.arange(3))))


def test_names_that_begin_with_a_hash_are_no_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("#a,0,1\n#b,1,0\n")
    with pytest.raises(DataError, match="as comments do"):
        read_matrix(tmp_path / "m.csv")


def test_an_array_of_one_measure_may_have_a_last_axis_of_one(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((3, 3, 1)))
    assert read_matrix(tmp_path / "m.npy").values.shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("start", "mark", "end", "last"),
    [
        ("[[", ", ", "],\n [", "]]\n"),  # NumPy and JSON
        ("[", " ", ";\n ", "];\n"),  # MATLAB
        ("", " ", ";\n", ";\n"),
        ("", ",", ";\n", "\n"),
        ("[[", " ", "]\n [", "]]\n"),  # print of NumPy
    ],
)
def test_a_printed_matrix_is_read_without_its_brackets(
    tmp_path: Path, start: str, mark: str, end: str, last: str
) -> None:
    values = np.arange(25.0).reshape(5, 5)
    values = values + values.T
    text = start + end.join(mark.join(f"{value:g}" for value in row) for row in values) + last
    (tmp_path / "m.txt").write_text(text)
    np.testing.assert_array_equal(read_matrix(tmp_path / "m.txt").values[0], values)


def test_semicolons_as_separators_and_names_in_brackets_stay(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(";[a];b;c;\n[a];0;1;2;\nb;1;0;3;\nc;2;3;0;\n")
    found = read_matrix(tmp_path / "m.csv")
    assert found.names == ("[a]", "b", "c")
    np.testing.assert_array_equal(found.values[0], [[0, 1, 2], [1, 0, 3], [2, 3, 0]])
