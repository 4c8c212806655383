"""Every importer reads its golden file and rejects a damaged one, with one clear message.

Golden files are made here by the tool's own writer if it can be installed (scipy, networkx, NumPy, MRtrix3), otherwise
according to the tool's documentation.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import networkx as nx
import numpy as np
import pytest
from scipy.io import savemat

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import FORMATS, format_named, read_matrix, recognised
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError

ATLAS = load_atlas("aal90")
NAMES = ATLAS.names


def symmetric(n_regions: int = 90, seed: int = 1) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(0.5, 20.0, (n_regions, n_regions))
    matrix = np.triu(values, 1)
    return matrix + matrix.T


def _text(path: Path, matrix: np.ndarray, rows: list[str] | None, columns: list[str] | None, mark: str) -> Path:
    lines = [] if columns is None else [mark.join(([""] if rows is not None else []) + columns)]
    for i, row in enumerate(matrix):
        lines.append(mark.join(([rows[i]] if rows is not None else []) + [repr(float(v)) for v in row]))
    path.write_text("\n".join(lines) + "\n")
    return path


def relmat(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = _text(folder / "sub-1_atlas-AAL_meas-count_relmat.tsv", matrix, None, names, "\t")
    path.with_suffix(".json").write_text(json.dumps({"Directed": False, "RelationshipMeasure": "count"}))
    return path


def text(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    return _text(folder / "one.csv", matrix, names, names, ",")


def qsiparc(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = _text(folder / "sub-1_desc-count_connmatrix.csv", matrix, None, None, ",")
    path.with_suffix(".json").write_text(
        json.dumps({"region_labels": names, "n_regions": len(names), "measure": "count"})
    )
    return path


def qsirecon(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = folder / "sub-1_space-ACPC_connectivity.mat"
    variables = {
        "command": "tck2connectome",
        "atlas_AAL_region_ids": np.arange(1, len(names) + 1),
        "atlas_AAL_region_labels": np.array(names, dtype=object),
        "atlas_AAL_radius2_count_connectivity": matrix,
    }
    savemat(path, variables, long_field_names=True)
    return path


def cmp3(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = folder / "connectome_scale1.mat"
    nodes = {"dn_name": np.array(names, dtype=object), "dn_multiscaleID": np.arange(1, len(names) + 1)}
    savemat(path, {"sc": {"number_of_fibers": matrix}, "nodes": nodes}, long_field_names=True)
    return path


def conn(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = folder / "resultsROI_Subject001_Condition001.mat"
    z = np.column_stack([matrix, np.ones(len(matrix))])
    z[np.arange(len(z)), np.arange(len(z))] = np.nan
    cells = np.array(names, dtype=object)
    savemat(path, {"Z": z, "names": cells, "names2": np.array([*names, "effect of rest"], dtype=object)})
    return path


def mat(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    path = folder / "subject.mat"
    savemat(path, {"SC": matrix, "names": np.array(names, dtype=object)})
    return path


def hdf5(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    with h5py.File(folder / "subject.h5", "w") as file:
        file["SC"], file["names"] = matrix, names
    return folder / "subject.h5"


def graphml(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    graph = nx.Graph()
    for i, name in enumerate(names):
        graph.add_node(i + 1, dn_name=name, dn_multiscaleID=i + 1, dn_hemisphere="left")
    for i, j in np.argwhere(np.triu(matrix)):
        graph.add_edge(int(i) + 1, int(j) + 1, number_of_fibers=float(matrix[i, j]))
    path = folder / "connectome.graphml"
    nx.write_graphml(graph, path)
    return path


def npz(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    np.savez(folder / "one.npz", weights=matrix, regions=np.array(names))
    return folder / "one.npz"


def scilpy(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    np.save(folder / "sc.npy", matrix)
    numbers = {name: i for i, name in enumerate(NAMES, 1)}
    (folder / "sc_labels.txt").write_text("\n".join(str(numbers.get(name, name)) for name in names) + "\n")
    return folder / "sc.npy"


def edges(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    """As Connectome Mapper 3 writes its network: existing edges only."""
    lines = ["source\ttarget\tnumber_of_fibers"]
    lines += [f"{names[i]}\t{names[j]}\t{float(matrix[i, j])!r}" for i, j in np.argwhere(np.triu(matrix))]
    path = folder / "sub-1_conndata-network_connectivity.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def npy(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    np.save(folder / "bare.npy", matrix)
    return folder / "bare.npy"


def mrtrix(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    return _text(folder / "mrtrix.csv", np.triu(matrix), None, None, ",")


def dipy(folder: Path, matrix: np.ndarray, names: list[str]) -> Path:
    with_background = np.zeros((len(matrix) + 1,) * 2)
    with_background[1:, 1:] = matrix
    with_background[0, 5] = with_background[5, 0] = 3
    np.save(folder / "dipy.npy", with_background)
    return folder / "dipy.npy"


Maker = Callable[[Path, np.ndarray, list[str]], Path]
MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        relmat,
        text,
        qsiparc,
        qsirecon,
        cmp3,
        conn,
        mat,
        hdf5,
        graphml,
        npz,
        edges,
        scilpy,
        npy,
        mrtrix,
        dipy,
    )
}
NAMED = [name for name in MAKERS if name not in ("npy", "mrtrix", "dipy", "scilpy")]
ALL_NAMES = list(NAMES)


def imported(path: Path, name: str) -> Connectome:
    matrix = read_matrix(path, format=name)
    return connectome_from(matrix, RowNames(atlas=ATLAS), measures=("weight",), file=path, subject="sub-1")


def test_every_format_has_a_golden_file() -> None:
    assert set(MAKERS) == {known.name for known in FORMATS} - {"series"}  # not a matrix; see test_series_files


@pytest.mark.parametrize("name", MAKERS)
def test_the_golden_file_is_read_exactly(tmp_path: Path, name: str) -> None:
    matrix = symmetric()
    path = MAKERS[name](tmp_path, matrix, ALL_NAMES)
    connectome = imported(path, name)
    assert connectome.regions == NAMES
    np.testing.assert_array_equal(connectome.weights[0], matrix)
    assert connectome.node_mask.all()


@pytest.mark.parametrize("name", [n for n in MAKERS if format_named(n).automatic])
def test_the_format_is_recognised(tmp_path: Path, name: str) -> None:
    assert recognised(MAKERS[name](tmp_path, symmetric(), ALL_NAMES)).name == name


@pytest.mark.parametrize("name", NAMED)
def test_rows_in_another_order_are_lined_up(tmp_path: Path, name: str) -> None:
    matrix, turn = symmetric(), np.random.default_rng(0).permutation(90)
    path = MAKERS[name](tmp_path, matrix[np.ix_(turn, turn)], [NAMES[i] for i in turn])
    np.testing.assert_array_equal(imported(path, name).weights[0], matrix)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("name", MAKERS)
def test_a_truncated_file_is_rejected(tmp_path: Path, name: str, share: float) -> None:
    path = MAKERS[name](tmp_path, symmetric(), ALL_NAMES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError) as caught:
        imported(path, name)
    assert len(caught.value.problems) == 1
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", [*NAMED, "scilpy"])
def test_a_renamed_region_is_rejected_with_the_nearest_name(tmp_path: Path, name: str) -> None:
    renamed = ["PreCGG.L", *ALL_NAMES[1:]] if name != "scilpy" else ["999", *ALL_NAMES[1:]]
    path = MAKERS[name](tmp_path, symmetric(), renamed)
    with pytest.raises(DataError) as caught:
        imported(path, name)
    assert len(caught.value.problems) == 1
    problem = str(caught.value.problems[0])
    assert "sub-1" in problem
    assert "PreCG.L" in problem or "999" in problem


@pytest.mark.parametrize("name", [*NAMED, "scilpy"])
def test_a_doubled_label_is_rejected(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path, symmetric(), [*ALL_NAMES[:-1], ALL_NAMES[0]])
    with pytest.raises(DataError, match="twice"):
        imported(path, name)


def test_labels_that_disagree_between_rows_and_columns_are_rejected(tmp_path: Path) -> None:
    """Two labels exchanged on one side only: the matrix does not match its names."""
    swapped = [ALL_NAMES[1], ALL_NAMES[0], *ALL_NAMES[2:]]
    _text(tmp_path / "one.csv", symmetric(), swapped, ALL_NAMES, ",")
    with pytest.raises(DataError, match="different names"):
        imported(tmp_path / "one.csv", "text")
    _text(tmp_path / "x_relmat.tsv", symmetric(), swapped, ALL_NAMES, "\t")
    with pytest.raises(DataError, match="different names"):
        imported(tmp_path / "x_relmat.tsv", "relmat")
    z = symmetric()
    cells = {"names": np.array(ALL_NAMES, dtype=object), "names2": np.array(swapped, dtype=object)}
    savemat(tmp_path / "conn.mat", {"Z": z, **cells})
    with pytest.raises(DataError, match="different names"):
        imported(tmp_path / "conn.mat", "conn")


@pytest.mark.parametrize("name", ["qsirecon", "cmp3", "graphml"])
def test_exchanged_names_are_rejected_where_the_file_also_has_numbers(tmp_path: Path, name: str) -> None:
    """A single list of names cannot show that two were exchanged; additional numbers can."""
    swapped = [ALL_NAMES[1], ALL_NAMES[0], *ALL_NAMES[2:]]
    with pytest.raises(DataError, match="contradict") as caught:
        imported(MAKERS[name](tmp_path, symmetric(), swapped), name)
    assert len(caught.value.problems) == 1
    assert ALL_NAMES[1] in str(caught.value)


@pytest.mark.parametrize("name", ["qsirecon", "cmp3", "graphml"])
def test_numbers_of_another_table_say_nothing(tmp_path: Path, name: str) -> None:
    turn = np.random.default_rng(0).permutation(90)
    matrix = symmetric()
    path = MAKERS[name](tmp_path, matrix[np.ix_(turn, turn)], [NAMES[i] for i in turn])
    np.testing.assert_array_equal(imported(path, name).weights[0], matrix)


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in ("graphml", "dipy")])
def test_a_matrix_one_region_short_is_rejected(tmp_path: Path, name: str) -> None:
    """A tool that sizes the matrix by the largest label wrote 89 rows for 90 names."""
    maker = MAKERS[name]
    path = maker(tmp_path, symmetric(), ALL_NAMES)
    if name in ("relmat", "text"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:-1]) + "\n")
    elif name == "qsiparc":
        _text(path, symmetric(89), None, None, ",")
    elif name == "qsirecon":
        shutil.move(path, tmp_path / "old.mat")
        cells = {"atlas_AAL_region_labels": np.array(ALL_NAMES, dtype=object)}
        savemat(path, {**cells, "atlas_AAL_radius2_count_connectivity": symmetric(89)}, long_field_names=True)
    elif name in ("cmp3", "conn", "mat"):
        cells = np.array(ALL_NAMES, dtype=object)
        short = {
            "cmp3": {"sc": {"n": symmetric(89)}, "nodes": {"dn_name": cells}},
            "conn": {"Z": symmetric(89), "names": cells},
            "mat": {"SC": symmetric(89), "names": cells},
        }
        savemat(path, short[name])
    elif name == "npz":
        np.savez(path, weights=symmetric(89), regions=np.array(ALL_NAMES))
    elif name in ("scilpy", "npy"):
        np.save(path, symmetric(89))
    else:
        _text(path, np.triu(symmetric(89)), None, None, ",")
    with pytest.raises(DataError) as caught:
        imported(path, name)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", [*NAMED, "scilpy", "dipy"])
def test_a_region_the_file_does_not_list_is_masked(tmp_path: Path, name: str) -> None:
    matrix = symmetric()
    if name == "dipy":
        matrix[-1], matrix[:, -1] = 0, 0
        path = MAKERS[name](tmp_path, matrix[:-1, :-1], ALL_NAMES)
    else:
        path = MAKERS[name](tmp_path, matrix[:-1, :-1], ALL_NAMES[:-1])
    connectome = imported(path, name)
    assert connectome.node_mask.tolist() == [True] * 89 + [False]
    np.testing.assert_array_equal(connectome.weights[0, :-1, :-1], matrix[:-1, :-1])


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in ("mrtrix", "graphml", "edges")])
def test_an_asymmetric_matrix_is_rejected(tmp_path: Path, name: str) -> None:
    matrix = symmetric()
    matrix[3, 7] += 1
    with pytest.raises(DataError, match="not symmetric"):
        imported(MAKERS[name](tmp_path, matrix, ALL_NAMES), name)


def test_unnamed_rows_need_labels_or_an_atlas(tmp_path: Path) -> None:
    matrix = read_matrix(npy(tmp_path, symmetric(), ALL_NAMES))
    with pytest.raises(DataError, match="--labels"):
        connectome_from(matrix, RowNames())


def test_xcpd_rows_of_nan_are_missing_regions(tmp_path: Path) -> None:
    matrix = symmetric()
    matrix[4], matrix[:, 4] = np.nan, np.nan
    path = _text(tmp_path / "sub-1_stat-pearsoncorrelation_relmat.tsv", matrix, ALL_NAMES, ALL_NAMES, "\t")
    connectome = imported(path, "relmat")
    assert np.flatnonzero(~connectome.node_mask).tolist() == [4]
    assert connectome.measures == ("pearsoncorrelation",)
    matrix[5, 6] = matrix[6, 5] = np.nan
    _text(path, matrix, ALL_NAMES, ALL_NAMES, "\t")
    with pytest.raises(DataError, match="NaN"):
        imported(path, "relmat")


def test_qsirecon_before_version_one_and_with_several_atlases(tmp_path: Path) -> None:
    matrix = symmetric()
    labels = np.array(ALL_NAMES, dtype=object)
    path = tmp_path / "x_connectivity.mat"
    variables = {"AAL_region_labels": labels, "AAL_count_connectivity": matrix, "AAL_fa_connectivity": matrix / 2}
    savemat(path, variables, long_field_names=True)
    matrix_file = read_matrix(path)
    assert matrix_file.measures == ("count", "fa")
    more = {"AALmore_region_labels": labels[:5], "AALmore_count_connectivity": matrix[:5, :5]}
    savemat(path, {**variables, **more}, long_field_names=True)
    with pytest.raises(DataError, match="several atlases"):
        read_matrix(path)
    assert read_matrix(path, format="qsirecon:AALmore").n_rows == 5
    with pytest.raises(DataError, match="not in the file"):
        read_matrix(path, format="qsirecon:Other")


def test_mu_beside_qsirecon_is_applied_once_to_sift_measures_and_said(tmp_path: Path) -> None:
    matrix = symmetric()
    path = tmp_path / "sub-1_space-ACPC_connectivity.mat"
    keys = {"atlas_AAL_sift_radius2_count_connectivity": matrix, "atlas_AAL_radius2_count_connectivity": matrix}
    savemat(path, {"atlas_AAL_region_labels": np.array(ALL_NAMES, dtype=object), **keys}, long_field_names=True)
    assert any("are not comparable" in note for note in read_matrix(path).notes)
    (tmp_path / "sub-1_space-ACPC_model-sift2_mu.txt").write_text("0.25\n")
    found = read_matrix(path)
    by_measure = dict(zip(found.measures, found.values, strict=True))
    np.testing.assert_array_equal(by_measure["sift_radius2_count"], matrix * 0.25)
    np.testing.assert_array_equal(by_measure["radius2_count"], matrix)
    assert any("mu = 0.25" in note for note in found.notes)
    (tmp_path / "sub-1_space-ACPC_model-sift2_mu.txt").write_text("-3\n")
    with pytest.raises(DataError, match="above 0"):
        read_matrix(path)


def test_unknown_formats_pickles_and_choices_are_refused(tmp_path: Path) -> None:
    path = npy(tmp_path, symmetric(), ALL_NAMES)
    with pytest.raises(UsageError, match="qsirecon"):
        read_matrix(path, format="qsirekon")
    with pytest.raises(UsageError, match="nothing to choose"):
        read_matrix(path, format="npy:x")
    (tmp_path / "x.gpickle").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match="are not read"):
        read_matrix(tmp_path / "x.gpickle")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="is pickled"):
        read_matrix(tmp_path / "objects.npy")


def test_graphml_with_entities_is_not_read(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><graphml>&a;</graphml>'
    (tmp_path / "x.graphml").write_text(bomb)
    with pytest.raises(DataError, match="entities"):
        read_matrix(tmp_path / "x.graphml")


HEADERS = {
    "nothing": (None, None, ","),
    "header": (None, ALL_NAMES, "\t"),
    "both": (ALL_NAMES, ALL_NAMES, ";"),
    "rows only": (ALL_NAMES, None, ","),
    "label numbers": (None, [str(i) for i in range(1, 91)], "\t"),
    "numbered on both sides": ([str(i) for i in range(1, 91)], [str(i) for i in range(1, 91)], ","),
    "positions, as pandas writes": ([str(i) for i in range(90)], [str(i) for i in range(90)], ","),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_text_with_every_kind_of_heading(tmp_path: Path, kind: str) -> None:
    matrix = symmetric()
    rows, columns, mark = HEADERS[kind]
    path = _text(tmp_path / "x.txt", matrix, rows, columns, mark)
    np.testing.assert_array_equal(imported(path, "text").weights[0], matrix)


def test_blanks_and_decimal_commas(tmp_path: Path) -> None:
    matrix = np.round(symmetric(), 3)
    lines = ["   ".join(str(value) for value in row) for row in matrix]
    (tmp_path / "x.txt").write_text("\n".join(lines))
    np.testing.assert_array_equal(imported(tmp_path / "x.txt", "text").weights[0], matrix)
    lines = [";".join(str(value).replace(".", ",") for value in row) for row in matrix]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    np.testing.assert_array_equal(imported(tmp_path / "x.csv", "text").weights[0], matrix)


def test_a_header_of_counts_is_not_taken_for_numbers(tmp_path: Path) -> None:
    """A first row of whole numbers in a square file is data, not label numbers."""
    matrix = np.array([[0.0, 1, 2], [1, 0, 5], [2, 5, 0]])
    path = _text(tmp_path / "x.csv", matrix, None, None, ",")
    found = read_matrix(path)
    assert found.labels is None
    np.testing.assert_array_equal(found.values[0], matrix)


@pytest.mark.parametrize(
    ("content", "names", "numbers"),
    [
        ("index\tname\n1\tA\n7\tB\n", ("A", "B"), (1, 7)),
        ("A\nB\n", ("A", "B"), None),
        ("#No. Name R G B A\n0 Unknown 0 0 0 0\n1001 ctx-lh-bankssts 25 100 40 0\n", ("ctx-lh-bankssts",), (1001,)),
        ('0 0 0 0 0 0 0 "Clear"\n9 0 118 14 1 1 1 "Left-Thalamus"\n', ("Left-Thalamus",), (9,)),
        ("# LUT\n1 L.BSTS ctx-lh-bankssts 25 5 25 255\n", ("ctx-lh-bankssts",), (1,)),
        ("id,label,hemisphere,structure\n1,cuneus,L,cortex\n2,cuneus,R,cortex\n", ("cuneus_L", "cuneus_R"), (1, 2)),
        ("2001\n2002\n", ("2001", "2002"), (2001, 2002)),
    ],
)
def test_label_tables_of_all_kinds(tmp_path: Path, content: str, names: tuple, numbers: tuple | None) -> None:
    (tmp_path / "labels.txt").write_text(content)
    table = read_labels(tmp_path / "labels.txt")
    assert (table.names, table.numbers) == (names, numbers)


@pytest.mark.parametrize("content", ["", "index\tname\n1\n", "x,y\n1,2\n", "A\nA\n", "index\tname\n1\tA\n1\tB\n"])
def test_broken_label_tables_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_text(content)
    with pytest.raises(DataError):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.mrtrix
def test_tck2connectome_itself(tmp_path: Path, shared_data: Path) -> None:
    """Its own output, upper triangle and symmetric; and the matrix shrinks when the last label is missing."""
    if shutil.which("tck2connectome") is None:
        pytest.skip("MRtrix3 is not installed")
    folder = shared_data / "tractseg_peaks"
    out = tmp_path / "mrtrix.csv"
    command = ["tck2connectome", str(folder / "fact_4000.tck"), str(folder / "aal_nodes_approx.nii.gz"), str(out)]
    subprocess.run([*command, "-quiet", "-force"], check=True)
    upper = read_matrix(out, format="mrtrix")
    subprocess.run([*command, "-quiet", "-force", "-symmetric"], check=True)
    full = read_matrix(out, format="mrtrix")
    names = RowNames(table=read_labels(shared_data / "adult_atlases" / "labels_aal.csv"))
    one = connectome_from(upper, names, measures=("count",))
    other = connectome_from(full, names, measures=("count",))
    np.testing.assert_array_equal(one.weights, other.weights)
    assert one.weights.sum() > 0
    with pytest.raises(ConnectomeTLError, match="differ in size"):
        connectome_from(full, RowNames(atlas=load_atlas("aal116")))
