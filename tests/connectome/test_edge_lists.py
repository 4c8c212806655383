"""Edge lists and triangles as programs write them, without a standard header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.naming import RowNames, lined_up
from connectome_tl.errors import DataError

KNOWN = RowNames(load_atlas("dk68"))
NAMES = np.array(load_atlas("dk68").names)
NUMBERS = np.array([region.index for region in load_atlas("dk68").regions])
HALF = np.triu(np.random.default_rng(0).integers(1, 900, (68, 68)), 1) / 8
MATRIX = HALF + HALF.T
EVERY = np.indices((68, 68)).reshape(2, -1)
UPPER = np.array(np.triu_indices(68, 1))


def table(ends: np.ndarray, names: np.ndarray = NAMES, header: str = "a b w") -> pd.DataFrame:
    columns = dict(zip(header.split(), (names[ends[0]], names[ends[1]], MATRIX[tuple(ends)]), strict=True))
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("edges", "options"),
    [
        (table(EVERY, header="Var1 Var2 value"), {"index": False}),
        (table(EVERY, NUMBERS, header="Var1 Var2 value"), {}),
        (table(UPPER, NUMBERS, header="row col value"), {"index": False, "sep": "\t", "encoding": "utf-16"}),
        (table(UPPER), {"index": False, "header": False, "sep": " "}),
        (table(UPPER, NUMBERS), {"index": False, "header": False}),
        (table(UPPER), {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}),
        (table(UPPER, NUMBERS.astype(float), "i j w"), {"index": False, "lineterminator": "\r\n"}),
    ],
)
def test_edge_lists_are_recognised_whatever_their_header(tmp_path: Path, edges: pd.DataFrame, options: dict) -> None:
    edges.to_csv(tmp_path / "m.csv", **options)
    found, _ = lined_up(read_matrix(tmp_path / "m.csv"), KNOWN, measures=("x",))
    np.testing.assert_array_equal(found.weights[0], MATRIX)


def test_a_table_of_subjects_is_no_edge_list(tmp_path: Path) -> None:
    for ids in ([f"sub-{i}" for i in range(30)], list(range(30))):
        sexes = ["F", "M"] * 15 if isinstance(ids[0], str) else [1, 2] * 15
        pd.DataFrame({"id": ids, "sex": sexes, "age": np.arange(30) / 4}).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(DataError, match=r"not square|is text"):
            read_matrix(tmp_path / "t.csv")


@pytest.mark.parametrize("diagonal", [0, 1])
@pytest.mark.parametrize("layout", ["lower", "upper"])
@pytest.mark.parametrize("mark", [",", "\t", " "])
def test_a_triangle_may_have_one_line_per_region(tmp_path: Path, mark: str, layout: str, diagonal: int) -> None:
    if layout == "lower":
        rows = [MATRIX[i, : i + diagonal] for i in range(1 - diagonal, 68)]
    else:
        rows = [MATRIX[i, i + 1 - diagonal :] for i in range(67 + diagonal)]
    (tmp_path / "m.txt").write_text("\n".join(mark.join(map(str, row)) for row in rows) + "\n")
    matrix = read_matrix(tmp_path / "m.txt")
    found, _ = lined_up(matrix, KNOWN, layout=layout, measures=("x",))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.weights[0], MATRIX)


def test_decimal_commas_one_per_line_and_bars_are_read(tmp_path: Path) -> None:
    values = [f"{value:.4f}".replace(".", ",") for value in MATRIX[tuple(UPPER)]]
    (tmp_path / "list.csv").write_text("\n".join(values) + "\n")
    pd.DataFrame(MATRIX, index=NAMES, columns=NAMES).to_csv(tmp_path / "bars.txt", sep="|")
    for name in ("list.csv", "bars.txt"):
        found, _ = lined_up(read_matrix(tmp_path / name), KNOWN, layout="upper", measures=("x",))
        np.testing.assert_array_equal(found.weights[0], MATRIX)


@pytest.mark.parametrize("name", ["m.xlsx", "m.ods", "m.h5", "m.pconn.nii", "m.gii"])
def test_files_of_other_programs_get_a_way_that_works(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"as a \.csv file"):
        read_matrix(tmp_path / name)


@pytest.mark.parametrize("header", [[f"X{number}" for number in NUMBERS], [f"V{i}" for i in range(1, 69)]])
def test_r_writes_label_numbers_as_names_of_rows(tmp_path: Path, header: list[str]) -> None:
    turn = np.random.default_rng(1).permutation(68)
    turned = pd.DataFrame(MATRIX[np.ix_(turn, turn)], index=NUMBERS[turn])
    turned.columns = pd.Index([header[i] for i in turn] if header[0] == f"X{NUMBERS[0]}" else header)
    turned.to_csv(tmp_path / "m.csv")
    found, _ = lined_up(read_matrix(tmp_path / "m.csv"), KNOWN, measures=("x",))
    np.testing.assert_array_equal(found.weights[0], MATRIX)
