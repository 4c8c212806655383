"""Information on rows in a file, or in a list next to it, is used or named in a refusal; order is assumed last."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from scipy.io import savemat

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.labels import LabelTable
from connectome_tl.connectome.names.naming import RowNames, lined_up
from connectome_tl.connectome.names.row_order import check_row_order
from connectome_tl.connectome.names.rows import Rows, atlases_that_know
from connectome_tl.errors import DataError
from connectome_tl.workflows.data.convert import convert_file

ATLAS = load_atlas("dk68")
NAMES = np.array(ATLAS.names)
TURN = np.random.default_rng(0).permutation(68)
TABLE = LabelTable(("a", "b", "c", "d"), (1, 2, 3, 4))


def symmetric(n_regions: int = 68, seed: int = 1) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).integers(1, 500, (n_regions, n_regions)), 1).astype(float)
    return upper + upper.T


MATRIX = symmetric()
TURNED = MATRIX[np.ix_(TURN, TURN)]


def read(path: Path, format: str = "auto", known: RowNames | None = None) -> tuple[Connectome, Rows]:
    return lined_up(read_matrix(path, format=format), known or RowNames(ATLAS), measures=("x",), file=path)


@pytest.mark.parametrize("key", ["ROInames", "name", "nodes", "rois", "parcel_names", "Labels", "anything"])
def test_names_of_a_mat_or_npz_are_used_whatever_they_are_called(tmp_path: Path, key: str) -> None:
    savemat(tmp_path / "a.mat", {"SC": TURNED, key: NAMES[TURN].astype(object)})
    savemat(tmp_path / "b.mat", {"SC": TURNED, "info": {key: NAMES[TURN].astype(object)}})
    savemat(tmp_path / "c.mat", {"SC": TURNED, key: NAMES[TURN]})  # rows of letters
    np.savez(tmp_path / "d.npz", arr_0=TURNED, **{key: NAMES[TURN]})
    np.savez(tmp_path / "e.npz", weights=TURNED, **{key: np.char.encode(NAMES[TURN])})
    for path in sorted(tmp_path.iterdir()):
        found, rows = read(path)
        np.testing.assert_array_equal(found.weights[0], MATRIX)
        assert not rows.assumed


def test_label_numbers_of_a_mat_or_npz_are_used(tmp_path: Path) -> None:
    numbers = np.array([region.index for region in ATLAS.regions])[TURN]
    savemat(tmp_path / "a.mat", {"SC": TURNED, "roi_ids": numbers.astype(float)})
    np.savez(tmp_path / "b.npz", weights=TURNED, numbers=numbers, volumes=np.arange(68) * 7.5)
    for path in (tmp_path / "a.mat", tmp_path / "b.npz"):
        np.testing.assert_array_equal(read(path)[0].weights[0], MATRIX)


def test_lists_that_name_nothing_do_not_stand_in_the_way(tmp_path: Path) -> None:
    lobes = np.array(["frontal", "parietal"] * 34, dtype=object)
    savemat(tmp_path / "a.mat", {"SC": TURNED, "lobe": lobes, "roi": NAMES[TURN].astype(object)})
    np.testing.assert_array_equal(read(tmp_path / "a.mat")[0].weights[0], MATRIX)


def test_two_lists_that_differ_are_refused_with_both_names(tmp_path: Path) -> None:
    """The one that fits the atlas is taken; where both fit, neither."""
    plain = np.array([f"region {i}" for i in range(68)], dtype=object)
    savemat(tmp_path / "a.mat", {"SC": TURNED, "short": plain, "long": NAMES[TURN].astype(object)})
    np.testing.assert_array_equal(read(tmp_path / "a.mat")[0].weights[0], MATRIX)
    savemat(tmp_path / "a.mat", {"SC": TURNED, "rois": NAMES.astype(object), "roi_names2": NAMES[TURN].astype(object)})
    with pytest.raises(DataError, match=r"rois.*roi_names2|roi_names2.*rois"):
        read(tmp_path / "a.mat")


def test_a_list_that_is_no_list_of_regions_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"SC": TURNED, "files": np.array([f"f{i}.nii" for i in range(68)], dtype=object)})
    with pytest.raises(DataError, match="named by files") as caught:
        read(tmp_path / "a.mat")
    assert len(caught.value.problems) == 1


def test_a_list_that_lost_a_name_or_has_one_twice_is_refused(tmp_path: Path) -> None:
    for names, said in ((NAMES[TURN][:-1], "differ in size"), ([*NAMES[TURN][:-1], NAMES[TURN][0]], "twice")):
        savemat(tmp_path / "a.mat", {"SC": TURNED, "my_rois": np.array(names, dtype=object)})
        with pytest.raises(DataError, match=said):
            read(tmp_path / "a.mat")


@pytest.mark.parametrize("name", ["m_labels.txt", "m.regions.tsv", "labels_m.csv", "m.json", "m_names.npy"])
def test_a_list_beside_a_bare_matrix_names_it(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "m.npy", TURNED)
    np.savetxt(tmp_path / "m.txt", TURNED)
    text = "\n".join(["name", *NAMES[TURN]] if name.endswith("v") else NAMES[TURN]) + "\n"
    if name.endswith("npy"):
        np.save(tmp_path / name, NAMES[TURN])
    else:
        (tmp_path / name).write_text(json.dumps({"ROIs": NAMES[TURN].tolist()}) if name == "m.json" else text)
    for path in (tmp_path / "m.npy", tmp_path / "m.txt"):
        np.testing.assert_array_equal(read(path)[0].weights[0], MATRIX)


def test_names_in_comment_lines_are_used(tmp_path: Path) -> None:
    """`numpy.savetxt(header=...)` writes them after a `#`."""
    np.savetxt(tmp_path / "m.csv", TURNED, delimiter=",", header=",".join(NAMES[TURN]))
    np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    np.savetxt(tmp_path / "m.csv", TURNED, header="\n".join(NAMES[TURN]))
    np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    numbers = [str(ATLAS.regions[i].index) for i in TURN]
    np.savetxt(tmp_path / "m.csv", TURNED, delimiter=",", header=",".join(numbers))
    np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)


def test_label_numbers_kept_as_text_or_as_floats_are_label_numbers(tmp_path: Path) -> None:
    numbers = [ATLAS.regions[i].index for i in TURN]
    savemat(tmp_path / "m.mat", {"SC": TURNED, "labels": np.array([str(n) for n in numbers], dtype=object)})
    header = ",".join(f"{n}.0" for n in numbers)
    (tmp_path / "m.csv").write_text(header + "\n" + "\n".join(",".join(map(str, row)) for row in TURNED) + "\n")
    for path in (tmp_path / "m.mat", tmp_path / "m.csv"):
        np.testing.assert_array_equal(read(path)[0].weights[0], MATRIX)


def test_counts_beside_names_say_nothing_and_label_numbers_are_compared(tmp_path: Path) -> None:
    """pandas writes 0, 1, 2 ... as row names of a table with a header of names."""
    for start in (0, 1):
        rows = [",".join(["", *NAMES[TURN]])]
        rows += [",".join([str(i), *map(str, row)]) for i, row in enumerate(TURNED, start)]
        (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
        np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    numbers = [region.index for region in ATLAS.regions]
    rows = [
        ",".join(["", *NAMES]),
        *(",".join([str(k), *map(str, row)]) for k, row in zip(numbers, MATRIX, strict=True)),
    ]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    numbers[0], numbers[1] = numbers[1], numbers[0]
    rows[1:] = [",".join([str(k), *map(str, row)]) for k, row in zip(numbers, MATRIX, strict=True)]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="contradict"):
        read(tmp_path / "m.csv")


def test_an_order_kept_under_a_name_of_its_own_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "m.mat", {"SC": TURNED, "perm": TURN + 1})
    with pytest.raises(DataError, match="perm contains"):
        read(tmp_path / "m.mat")
    savemat(tmp_path / "m.mat", {"SC": MATRIX, "count": np.arange(1, 69), "volumes": 10 + 3 * TURN})
    np.testing.assert_array_equal(read(tmp_path / "m.mat")[0].weights[0], MATRIX)


@pytest.mark.parametrize("mark", ["\n", ",", "; ", "|"])
def test_names_in_one_text_or_in_json_are_used(tmp_path: Path, mark: str) -> None:
    np.savez(tmp_path / "a.npz", weights=TURNED, regions_text=np.array(mark.join(NAMES[TURN])))
    np.savez(tmp_path / "b.npz", weights=TURNED, meta=np.array(json.dumps({"rois": NAMES[TURN].tolist()})))
    savemat(tmp_path / "c.mat", {"SC": TURNED, "names": mark.join(NAMES[TURN])})
    for path in (tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.mat"):
        np.testing.assert_array_equal(read(path)[0].weights[0], MATRIX)


def test_a_relmat_without_a_header_takes_the_names_of_its_json(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "sub-1_relmat.tsv", TURNED, delimiter="\t")
    (tmp_path / "sub-1_relmat.json").write_text(json.dumps({"Directed": False, "Nodes": NAMES[TURN].tolist()}))
    np.testing.assert_array_equal(read(tmp_path / "sub-1_relmat.tsv")[0].weights[0], MATRIX)


def test_a_list_of_the_folder_must_not_contradict_the_assumed_order(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", TURNED)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES[TURN]) + "\n")
    with pytest.raises(DataError, match=r"labels\.txt"):
        read(tmp_path / "m.npy")
    with pytest.raises(DataError, match=r"--labels labels\.txt"):
        read(tmp_path / "m.npy", known=RowNames())
    (tmp_path / "labels.txt").write_text("\n".join(NAMES) + "\n")
    found, rows = read(tmp_path / "m.npy")
    assert rows.assumed
    np.testing.assert_array_equal(found.weights[0], TURNED)


def test_nodes_from_zero_are_positions(tmp_path: Path) -> None:
    """`from_numpy_array` numbers nodes from 0: node 0 is the first region and not the background."""
    small = symmetric(4)
    nx.write_graphml(nx.from_numpy_array(small), tmp_path / "a.graphml")
    graph = nx.relabel_nodes(nx.from_numpy_array(small[::-1, ::-1]), {i: f"n{3 - i}" for i in range(4)})
    nx.write_graphml(graph, tmp_path / "b.graphml")
    for path in (tmp_path / "a.graphml", tmp_path / "b.graphml"):
        found, _ = read(path, known=RowNames(table=TABLE))
        np.testing.assert_array_equal(found.weights[0], small)
        assert found.node_mask.all()


def test_label_numbers_in_any_order(tmp_path: Path) -> None:
    """A header and a first column of whole numbers that do not rise; a corner that is empty or is not."""
    numbers = [str(region.index) for region in ATLAS.regions]
    rows = [[numbers[i], *map(str, row)] for i, row in zip(TURN, TURNED, strict=True)]
    body = "\n".join(",".join(row) for row in rows)
    for corner in ("", "id"):
        (tmp_path / "m.csv").write_text(f"{corner}," + ",".join(numbers[i] for i in TURN) + "\n" + body + "\n")
        np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    (tmp_path / "m.csv").write_text("0," + ",".join(str(i + 1) for i in TURN) + "\n" + body + "\n")
    with pytest.raises(DataError):
        read(tmp_path / "m.csv")


def test_no_remedy_that_would_read_label_numbers_as_data(tmp_path: Path) -> None:
    numbered = np.vstack([np.r_[0, TURN + 1], np.column_stack([TURN + 1, TURNED])])
    np.savetxt(tmp_path / "m.csv", numbered, fmt="%g", delimiter=",")
    for format in ("auto", "dipy", "mrtrix"):
        with pytest.raises(DataError) as caught:
            read(tmp_path / "m.csv", format=format)
        assert "set format: dipy" not in str(caught.value)


def test_formats_that_go_by_row_number_refuse_names(tmp_path: Path) -> None:
    header = ",".join(NAMES[TURN]) + "\n"
    (tmp_path / "m.csv").write_text(header + "\n".join(",".join(map(str, row)) for row in TURNED) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "m.csv")[0].weights[0], MATRIX)
    for format in ("dipy", "mrtrix"):
        with pytest.raises(DataError, match="format: auto"):
            read(tmp_path / "m.csv", format=format)


@pytest.mark.parametrize(
    ("write", "note"),
    [
        (lambda name: f"AAL.{name} (AAL label 7)", "AAL."),
        (lambda name: f'"{name}"', "quotes"),
        (lambda name: f"  {name.upper()} ", ""),
        (lambda name: f"atlas/{name}", "in front"),
    ],
)
def test_names_as_tools_change_them(tmp_path: Path, write: object, note: str) -> None:
    changed = [write(name) for name in NAMES[TURN]]  # type: ignore[operator]
    savemat(tmp_path / "m.mat", {"Z": TURNED, "names": np.array(changed, dtype=object)})
    found, rows = read(tmp_path / "m.mat")
    np.testing.assert_array_equal(found.weights[0], MATRIX)
    assert note in " ".join(rows.notes)


def test_names_as_r_changes_them(tmp_path: Path) -> None:
    """`check.names` changes the header and not the row names; V1, V2 are positions, not names."""
    atlas = load_atlas("schaefer100")
    matrix = symmetric(100)
    mangled = ["X" + name.replace("-", ".") for name in atlas.names]
    lines = ['"",' + ",".join(f'"{name}"' for name in mangled)]
    lines += [f'"{name}",' + ",".join(map(str, row)) for name, row in zip(atlas.names, matrix, strict=True)]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "m.csv", known=RowNames(atlas))[0].weights[0], matrix)
    lines = [",".join(mangled), *(",".join(map(str, row)) for row in matrix)]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "m.csv", known=RowNames(atlas))[0].weights[0], matrix)
    lines[0] = ",".join(f"V{i}" for i in range(1, 101))
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    found, rows = read(tmp_path / "m.csv", known=RowNames(atlas))
    np.testing.assert_array_equal(found.weights[0], matrix)
    assert rows.assumed


def test_names_of_another_atlas_are_one_line_that_says_which(tmp_path: Path) -> None:
    big = load_atlas("aal116")
    np.savez(tmp_path / "m.npz", weights=symmetric(116), regions=np.array(big.names))
    with pytest.raises(DataError, match="atlas aal116") as caught:
        read(tmp_path / "m.npz", known=RowNames(load_atlas("aal90")))
    assert len(caught.value.problems) == 1
    np.save(tmp_path / "bare.npy", symmetric(116))
    with pytest.raises(DataError, match="size of atlas aal116"):
        read(tmp_path / "bare.npy", known=RowNames(load_atlas("aal90")))


def near_is_strong(name: str) -> np.ndarray:
    at = load_atlas(name).coordinates
    matrix = np.exp(-np.linalg.norm(at[:, None] - at[None], axis=-1) / 30)
    np.fill_diagonal(matrix, 0)
    return matrix


@pytest.mark.parametrize("atlas", ["aal90", "dk68", "schaefer100"])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("half", ["upper", "lower"])
def test_a_triangle_is_read_as_said_and_the_wrong_one_is_refused(atlas: str, diagonal: bool, half: str) -> None:
    """Oracle: the indices of NumPy."""
    known = RowNames(load_atlas(atlas))
    matrix = near_is_strong(atlas)
    shift = 0 if diagonal else 1
    at = np.triu_indices(len(matrix), shift) if half == "upper" else np.tril_indices(len(matrix), -shift)
    from connectome_tl.connectome.matrix_file import MatrixFile

    file = MatrixFile(matrix[at][None])
    found, rows = lined_up(file, known, measures=("x",), layout=half)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.weights[0], matrix)
    assert check_row_order(matrix[at], rows.names, known, "m", layout=half) == ""  # type: ignore[arg-type]
    other = "lower" if half == "upper" else "upper"
    with pytest.raises(DataError, match=f"layout: {half}"):
        check_row_order(matrix[at], rows.names, known, "m", layout=other)  # type: ignore[arg-type]


def test_named_rows_do_not_settle_the_triangle(tmp_path: Path) -> None:
    """Regions in any order, with a lower triangle: the names are right and the values would be scrambled."""
    matrix = near_is_strong("dk68")[np.ix_(TURN, TURN)]
    np.savez(tmp_path / "m.npz", fc=matrix[np.tril_indices(68, -1)], regions=NAMES[TURN])
    with pytest.raises(DataError, match="layout: lower"):
        convert_file(tmp_path / "m.npz", tmp_path / "o.tsv", atlas="dk68")
    (made,) = convert_file(tmp_path / "m.npz", tmp_path / "o.tsv", atlas="dk68", layout="lower")
    np.testing.assert_array_equal(read(made)[0].weights[0], near_is_strong("dk68"))


def test_an_order_that_the_atlas_does_not_support_is_said() -> None:
    known = RowNames(ATLAS)
    assert "check that it is right" in check_row_order(MATRIX, ATLAS.names, known, "m")
    assert check_row_order(near_is_strong("dk68"), ATLAS.names, known, "m") == ""


def test_homotopic_edges_settle_the_order_where_no_centroids_are_known() -> None:
    atlas = load_atlas("drawem87")
    assert not atlas.has_centroids
    matrix = symmetric(87) / 1000
    matrix[np.arange(87), atlas.partners] += 2 * (atlas.partners != np.arange(87))
    known = RowNames(atlas)
    assert check_row_order(matrix, atlas.names, known, "m") == ""
    turn = np.lexsort((np.arange(87), np.array(["LRM".index(region.hemisphere) for region in atlas.regions])))
    with pytest.raises(DataError, match="left hemisphere"):
        check_row_order(matrix[np.ix_(turn, turn)], atlas.names, known, "m")


def test_rows_without_names_may_be_numbered_and_that_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", symmetric(4))
    found, rows = read(tmp_path / "m.npy", known=RowNames(count_only=True))
    assert found.regions == ("1", "2", "3", "4")
    assert "numbered" in rows.notes[0]


@pytest.mark.parametrize("word", ["nan", "NA", "n/a", "NaN", "", "None", "NULL", "<NA>", "1.#QNAN", "-nan(ind)"])
def test_a_row_of_any_word_for_missing_is_a_missing_region(tmp_path: Path, word: str) -> None:
    matrix = symmetric(4)
    cells = [[str(v) if 2 not in (i, j) else word for j, v in enumerate(row)] for i, row in enumerate(matrix)]
    (tmp_path / "m.csv").write_text("a,b,c,d\n" + "\n".join(",".join(row) for row in cells) + "\n")
    found, _ = read(tmp_path / "m.csv", known=RowNames(table=TABLE))
    assert found.node_mask.tolist() == [True, True, False, True]
    keep = [0, 1, 3]
    np.testing.assert_array_equal(found.weights[0][np.ix_(keep, keep)], matrix[np.ix_(keep, keep)])
    cells[2] = ["1"] * 4  # no longer consistent
    (tmp_path / "m.csv").write_text("a,b,c,d\n" + "\n".join(",".join(row) for row in cells) + "\n")
    with pytest.raises(DataError, match="NaN"):
        read(tmp_path / "m.csv", known=RowNames(table=TABLE))


@pytest.mark.parametrize("code", [-9.0, -999.0, -9999.0])
def test_codes_for_missing_are_no_weights(tmp_path: Path, code: float) -> None:
    matrix = symmetric(4)
    matrix[2], matrix[:, 2] = code, code
    np.save(tmp_path / "m.npy", matrix)
    with pytest.raises(DataError, match="code for a missing value"):
        read(tmp_path / "m.npy", known=RowNames(table=TABLE))


@pytest.mark.parametrize("code", [-1.0, 99.0, 999.0, 0.5])
def test_a_row_of_one_value_is_a_code_whatever_the_value(code: float) -> None:
    """Also beside a region of NaN; a row that is full in a matrix of 0 and 1 is a hub."""
    from connectome_tl.connectome.matrix_file import MatrixFile

    names = tuple(NAMES)
    matrix = MATRIX.copy()
    matrix[3], matrix[:, 3] = np.nan, np.nan
    matrix[[5, 9]], matrix[:, [5, 9]] = code, code
    np.fill_diagonal(matrix, 0)
    with pytest.raises(DataError, match=f"^{code:g} looks like a code"):
        lined_up(MatrixFile(matrix[None], names=names), RowNames(ATLAS), measures=("x",))
    hub = (MATRIX > 300) * 1.0
    hub[5], hub[:, 5] = 1, 1
    assert lined_up(MatrixFile(hub[None], names=names), RowNames(ATLAS), measures=("x",))[0].node_mask.all()


@pytest.mark.parametrize("filler", [np.nan, np.inf, -np.inf])
def test_a_diagonal_without_a_number_is_zero_and_rows_without_one_are_missing(filler: float) -> None:
    """`arctanh` of a correlation matrix has an infinite diagonal."""
    from connectome_tl.connectome.matrix_file import MatrixFile

    matrix = MATRIX.copy()
    np.fill_diagonal(matrix, filler)
    matrix[3], matrix[:, 3] = np.nan, np.nan
    found, rows = lined_up(MatrixFile(matrix[None], names=tuple(NAMES)), RowNames(ATLAS), measures=("x",))
    keep = np.delete(np.arange(68), 3)
    np.testing.assert_array_equal(found.weights[0][np.ix_(keep, keep)], MATRIX[np.ix_(keep, keep)])
    assert np.flatnonzero(~found.node_mask).tolist() == [3]
    assert "diagonal" in " ".join(rows.notes)


NUMBERS = [region.index for region in ATLAS.regions]
ROWS = [(NUMBERS[i], str(NAMES[i])) for i in TURN]


@pytest.mark.parametrize("key", ["labels", "lut", "rois"])
def test_each_column_of_a_table_in_a_file_may_name_its_rows(tmp_path: Path, key: str) -> None:
    """Cells, structured and 2-D arrays, and rows in JSON; a column that counts the rows says nothing."""
    cells = np.array(ROWS, dtype=object)
    sides = np.array([(name, "left" if "-lh-" in name else "right") for _, name in ROWS], dtype=object)
    numbers = np.column_stack([[number for number, _ in ROWS], np.arange(68)])
    savemat(tmp_path / "a.mat", {"C": TURNED, key: cells})
    savemat(tmp_path / "b.mat", {"C": TURNED, key: sides})
    savemat(tmp_path / "c.mat", {"C": TURNED, key: numbers})
    np.savez(tmp_path / "d.npz", C=TURNED, **{key: np.array(ROWS, dtype=[("n", int), ("name", "U60")])})
    np.savez(tmp_path / "e.npz", C=TURNED, **{key: numbers})
    np.savez(tmp_path / "f.npz", C=TURNED, **{key: np.array(ROWS, dtype="U60").T})
    np.savez(tmp_path / "g.npz", C=TURNED, **{key: np.array(json.dumps(ROWS))})
    for path in sorted(tmp_path.iterdir()):
        found, rows = read(path)
        np.testing.assert_array_equal(found.weights[0], MATRIX, err_msg=path.name)
        assert not rows.assumed


@pytest.mark.parametrize("name", ["sub-01_labels.txt", "sub-01_atlas-DK.tsv", "sub-01_conn_atlas-DK.tsv"])
def test_a_list_of_the_same_prefix_names_the_matrix(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "sub-01_conn.npy", TURNED)
    (tmp_path / name).write_text("\n".join(NAMES[TURN]) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "sub-01_conn.npy")[0].weights[0], MATRIX)
    np.save(tmp_path / "sub-01_small.npy", symmetric(4))
    if "conn" not in name:  # a list of another length belongs to another file
        assert read(tmp_path / "sub-01_small.npy", known=RowNames(table=TABLE))[1].assumed


@pytest.mark.parametrize("name", ["aal90", "dk68", "aal116"])
def test_names_belong_to_the_smallest_atlas_that_has_them(name: str) -> None:
    atlas = load_atlas(name)
    assert name in atlases_that_know(atlas.names)
    assert {load_atlas(one).n_regions for one in atlases_that_know(atlas.names)} == {atlas.n_regions}
    assert atlases_that_know(["no such region"]) == ()
