"""Exported files are read back bit for bit, with names, masks and sidecar."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome, from_upper
from connectome_tl.connectome.export import WRITERS, write_connectome
from connectome_tl.connectome.formats.graphs import from_networkx, to_networkx
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import DataError, UsageError
from connectome_tl.provenance import file_hash, sidecar_path
from connectome_tl.workflows.data.convert import convert_file

ATLAS = load_atlas("aal90")
SUFFIXES = list(WRITERS)


def example(*, n_measures: int = 1, missing: tuple[int, ...] = (7,), seed: int = 0) -> Connectome:
    values = (
        np.random.default_rng(seed).normal(size=(n_measures, 90, 90)) * 10.0 ** np.arange(90)[None, :, None] * 1e-40
    )
    weights = np.triu(values, 1)
    weights = weights + weights.swapaxes(1, 2)
    there = np.ones(90, dtype=bool)
    there[list(missing)] = False
    weights[:, ~there] = 0
    weights[:, :, ~there] = 0
    names = ("count", "fa", "length")[:n_measures]
    return Connectome(weights, ATLAS.names, names, there)


def again(path: Path) -> Connectome:
    return connectome_from(read_matrix(path), RowNames(atlas=ATLAS), measures=("count",), file=path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_is_exact_and_keeps_the_missing_region(tmp_path: Path, suffix: str) -> None:
    connectome = example()
    (path,) = write_connectome(connectome, tmp_path / f"sub-1_relmat{suffix}", atlas="aal90")
    back = again(path)
    np.testing.assert_array_equal(back.weights, connectome.weights)
    np.testing.assert_array_equal(back.node_mask, connectome.node_mask)
    assert back.regions == connectome.regions


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_measures(tmp_path: Path, suffix: str) -> None:
    connectome = example(n_measures=3, missing=())
    files = write_connectome(connectome, tmp_path / f"sub-1_relmat{suffix}")
    if len(files) == 1:
        back = again(files[0])
        assert back.measures == connectome.measures
        np.testing.assert_array_equal(back.weights, connectome.weights)
    else:
        assert [file.name for file in files] == [f"sub-1_meas-{m}_relmat{suffix}" for m in connectome.measures]
        for m, file in enumerate(files):
            np.testing.assert_array_equal(again(file).weights[0], connectome.weights[m])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_connectomes_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_connectome(example(), tmp_path / name / f"x{suffix}")
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_sidecar_has_the_keys_that_bids_requires(tmp_path: Path) -> None:
    (path,) = write_connectome(example(), tmp_path / "x_relmat.tsv", atlas="aal90", inputs={"x.csv": "00"})
    said = json.loads(sidecar_path(path).read_text())
    assert {"Directed", "RelationshipMeasure", "Software", "ValidDiagonal", "Weighted"} <= set(said)
    assert said["Directed"] is False
    assert said["MissingRegions"] == [ATLAS.names[7]]
    assert said["Sha256"] == file_hash(path)
    assert said["Inputs"] == {"x.csv": "00"}


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.graphml"):
        write_connectome(example(), tmp_path / "x.xlsx")


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    names = ("<img onerror=alert(1)>", "../../x", 'a"b,c', "=1+1", "ü", "x y", "'; drop")
    matrix = np.arange(49.0).reshape(7, 7)
    connectome = Connectome((matrix + matrix.T)[None], names, ("count",), np.ones(7, dtype=bool))
    for suffix in SUFFIXES:
        (path,) = write_connectome(connectome, tmp_path / "deep" / f"x{suffix}")
        back = connectome_from(read_matrix(path), RowNames(), measures=("count",), file=path)
        assert back.regions == names, suffix
        np.testing.assert_array_equal(back.weights, connectome.weights)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_a_measure_called_like_a_path_is_not_one(tmp_path: Path) -> None:
    hostile = replace(example(n_measures=2), measures=("../../etc/x", "con | rm"))
    files = write_connectome(hostile, tmp_path / "in" / "s_relmat.tsv")
    assert [file.name for file in files] == ["s_meas-etcx_relmat.tsv", "s_meas-conrm_relmat.tsv"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    for name in ("", "a\x07b", "\u202egnp", "a\ud800", "a\u200b"):  # empty, control, direction, surrogate, invisible
        np.savez(tmp_path / "x.npz", weights=np.ones((2, 2)), regions=np.array([name, "b"]))
        with pytest.raises(DataError, match="cannot be used"):
            connectome_from(read_matrix(tmp_path / "x.npz"), RowNames(), measures=("count",))


def test_regions_without_an_edge_are_said(tmp_path: Path) -> None:
    weights = np.abs(example(missing=()).weights[0])
    weights[4], weights[:, 4] = 0, 0
    np.save(tmp_path / "in.npy", weights)
    (path,) = convert_file(tmp_path / "in.npy", tmp_path / "out.tsv", atlas="aal90")
    assert any(ATLAS.names[4] in note for note in json.loads(sidecar_path(path).read_text())["Notes"])


def test_networkx_both_ways() -> None:
    connectome = example(n_measures=2)
    graph = to_networkx(connectome, ATLAS)
    assert graph.nodes["PreCG.L"]["lobe"] == "Frontal"
    assert graph.nodes[ATLAS.names[7]]["missing"] is True
    assert graph.number_of_edges() == 89 * 88 // 2
    back = from_networkx(graph)
    np.testing.assert_array_equal(back.weights, connectome.weights)
    np.testing.assert_array_equal(back.node_mask, connectome.node_mask)
    assert (back.regions, back.measures) == (connectome.regions, connectome.measures)


def test_an_empty_network_keeps_its_measures() -> None:
    empty = Connectome(np.zeros((1, 3, 3)), ("a", "b", "c"), ("count",), np.ones(3, dtype=bool))
    assert from_networkx(to_networkx(empty)).measures == ("count",)


def test_convert_names_rows_mirrors_and_records(tmp_path: Path) -> None:
    weights = np.abs(example(missing=()).weights[0])
    np.savetxt(tmp_path / "in.csv", np.triu(weights), delimiter=",", fmt="%.17g")
    (path,) = convert_file(tmp_path / "in.csv", tmp_path / "out.tsv", atlas="aal90")
    assert path.read_text().splitlines()[0].split("\t") == list(ATLAS.names)
    said = json.loads(sidecar_path(path).read_text())
    assumed, mirrored, *more = said["Notes"]
    assert "no names" in assumed
    assert "atlas aal90" in assumed
    assert mirrored == "the upper triangle was mirrored"
    assert [note for note in more if not note.startswith("WARNING: edge weights neither")] == []  # random weights
    assert said["Inputs"] == {"in.csv": file_hash(tmp_path / "in.csv")}
    np.testing.assert_array_equal(again(path).weights[0], weights)


def test_the_measure_may_be_said_by_the_name_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.abs(example(missing=()).weights[0]))
    out = tmp_path / "sub-1_atlas-AAL_meas-FBC_relmat.tsv"
    (path,) = convert_file(tmp_path / "in.npy", out, atlas="aal90")
    assert json.loads(sidecar_path(path).read_text())["RelationshipMeasure"] == "FBC"
    assert again(path).measures == ("FBC",)


def test_convert_refuses_unlabelled_input_and_writes_nothing(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "in.csv", example().weights[0], delimiter=",")
    with pytest.raises(DataError, match="--labels") as caught:
        convert_file(tmp_path / "in.csv", tmp_path / "out.tsv")
    assert caught.value.exit_code == 65
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_convert_with_a_label_table(tmp_path: Path) -> None:
    matrix = np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]])
    np.save(tmp_path / "in.npy", matrix)
    (tmp_path / "names.tsv").write_text("index\tname\n1\tthalamus\n2\tputamen\n3\tcaudate\n")
    (path,) = convert_file(tmp_path / "in.npy", tmp_path / "out.csv", labels=tmp_path / "names.tsv")
    assert path.read_text().splitlines()[1] == "thalamus,0.0,1.0,2.0"
    with pytest.raises(UsageError, match="same file"):
        convert_file(path, path)


@pytest.mark.slow
@pytest.mark.data
def test_real_matrices_through_every_format_and_back(tmp_path: Path, shared_data: Path) -> None:
    atlas = load_atlas("aal116")
    with np.load(shared_data / "abide_fc_aal116" / "fc_upper_f16.npz") as stored:
        upper = stored["fc"][:8].astype(float)
    for i, matrix in enumerate(from_upper(upper)):
        connectome = Connectome(matrix[None], atlas.names, ("pearson",), np.ones(116, dtype=bool))
        for suffix in SUFFIXES:
            (path,) = write_connectome(connectome, tmp_path / f"{i}_relmat{suffix}")
            back = connectome_from(read_matrix(path), RowNames(atlas=atlas), measures=("pearson",), file=path)
            np.testing.assert_array_equal(back.weights, connectome.weights)
