"""`convert` of one file: files of the user are not overwritten, empty results are refused, decisions are reported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from connectome_tl import convert, read_connectome
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError, UsageError
from connectome_tl.provenance import sidecar_path
from connectome_tl.workflows.data.convert import convert_file, convert_folder
from connectome_tl.workflows.data.convert_names import bids_name, cohort_patterns

NAMES = ("a", "b", "c", "d")


def symmetric(seed: int = 1) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).gamma(1, 5, (4, 4)), 1)
    return upper + upper.T


def qsiparc(folder: Path) -> Path:
    path = folder / "q_connmatrix.csv"
    np.savetxt(path, symmetric(), delimiter=",")
    path.with_suffix(".json").write_text(json.dumps({"region_labels": list(NAMES), "mine": "keep"}))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ending", ["tsv", "npz", "npy", "mat", "graphml"])
def test_the_json_beside_the_input_is_never_overwritten(tmp_path: Path, ending: str) -> None:
    source = qsiparc(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"q_connmatrix\.json"):
        convert_file(source, tmp_path / f"q_connmatrix.{ending}")
    assert contents(tmp_path) == before


def test_no_input_and_no_list_of_labels_is_overwritten(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", symmetric())
    for name in ("labels.tsv", "z_labels.txt"):
        (tmp_path / name).write_text("\n".join(NAMES) + "\n")
    os.link(tmp_path / "labels.tsv", tmp_path / "hard.tsv")
    os.symlink(tmp_path / "labels.tsv", tmp_path / "soft.tsv")
    before = contents(tmp_path)
    for out in ("labels.tsv", "hard.tsv", "soft.tsv", "z.npy"):
        with pytest.raises(UsageError, match="would overwrite"):
            convert_file(tmp_path / "a.npy", tmp_path / out, labels=tmp_path / "labels.tsv")
    assert contents(tmp_path) == before


def test_what_convert_wrote_itself_may_be_written_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", symmetric())
    (tmp_path / "labels.tsv").write_text("\n".join(NAMES) + "\n")
    for out in ("b.npy", "b.tsv"):
        first = convert_file(tmp_path / "a.npy", tmp_path / out, labels=tmp_path / "labels.tsv")
        assert convert_file(tmp_path / "a.npy", tmp_path / out, labels=tmp_path / "labels.tsv") == first


def test_a_folder_does_not_overwrite_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "sub-1_meas-count_relmat.tsv").write_text(
        "\t".join(NAMES) + "\n" + "\n".join(["0\t1\t2\t3"] * 4) + "\n"
    )
    matrix = symmetric()
    rows = "\n".join("\t".join(map(str, row)) for row in matrix)
    (tmp_path / "sub-1_meas-count_relmat.tsv").write_text("\t".join(NAMES) + "\n" + rows + "\n")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="would overwrite"):
        convert_folder(tmp_path, tmp_path)
    assert contents(tmp_path) == before


def test_an_empty_connectome_is_refused_and_a_constant_one_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "zero.npz", weights=np.eye(4), regions=np.array(NAMES))
    with pytest.raises(DataError, match="no edge"):
        convert_file(tmp_path / "zero.npz", tmp_path / "o.tsv")
    np.savez(tmp_path / "nan.npz", weights=np.full((4, 4), np.nan), regions=np.array(NAMES))
    with pytest.raises(DataError, match="no region has a value"):
        convert_file(tmp_path / "nan.npz", tmp_path / "o.tsv")
    np.savez(tmp_path / "one.npz", weights=np.ones((4, 4)), regions=np.array(NAMES))
    said: list[str] = []
    convert_file(tmp_path / "one.npz", tmp_path / "o.tsv", say=said.append)
    assert any(note.startswith("WARNING: all edges") for note in said)


def test_decisions_are_said_and_recorded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", symmetric()[np.triu_indices(4, 1)])
    (tmp_path / "t.tsv").write_text("\n".join(NAMES) + "\n")
    said: list[str] = []
    (made,) = convert_file(tmp_path / "a.npy", tmp_path / "o.tsv", labels=tmp_path / "t.tsv", say=said.append)
    assert any("no names" in note for note in said)
    assert any("--layout lower" in note for note in said)
    assert json.loads(sidecar_path(made).read_text())["Notes"] == said


def test_one_measure_of_several_and_the_name_of_the_only_one(tmp_path: Path) -> None:
    variables = {"atlas_A_region_labels": np.array(NAMES, dtype=object)}
    variables |= {f"atlas_A_{m}_connectivity": symmetric(i) for i, m in enumerate(("count", "fa"))}
    savemat(tmp_path / "s_connectivity.mat", variables, long_field_names=True)
    (made,) = convert_file(tmp_path / "s_connectivity.mat", tmp_path / "o.tsv", measure="fa")
    np.testing.assert_array_equal(read_matrix(made).values[0], symmetric(1))
    with pytest.raises(DataError, match="Nearest: fa"):
        convert_file(tmp_path / "s_connectivity.mat", tmp_path / "o.tsv", measure="fas")
    np.savez(tmp_path / "a.npz", full=symmetric(2), partial=symmetric(3), regions=np.array(NAMES))
    (made,) = convert_file(tmp_path / "a.npz", tmp_path / "p.tsv", measure="partial")
    np.testing.assert_array_equal(read_matrix(made).values[0], symmetric(3))
    assert json.loads(sidecar_path(made).read_text())["RelationshipMeasure"] == "partial"
    np.savez(tmp_path / "b.npz", weights=symmetric(4), regions=np.array(NAMES))
    (made,) = convert_file(tmp_path / "b.npz", tmp_path / "q.tsv", measure="SIFT2")
    assert json.loads(sidecar_path(made).read_text())["RelationshipMeasure"] == "SIFT2"


def test_a_variable_is_a_measure_and_never_an_atlas(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    content = {"SC": symmetric(1), "FC": symmetric(2), "names": np.array(NAMES, dtype=object)}
    savemat(tmp_path / "in" / "sub-1.mat", content)
    made = convert_folder(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in made) == ["sub-1_meas-FC_relmat.tsv", "sub-1_meas-SC_relmat.tsv"]
    for path in made:
        said = json.loads(sidecar_path(path).read_text())
        assert said["Atlas"] is None
        np.testing.assert_array_equal(read_matrix(path).values[0], content[said["RelationshipMeasure"]])


def test_the_only_atlas_of_a_file_is_kept(tmp_path: Path) -> None:
    variables = {"atlas_Own_region_labels": np.array(NAMES, dtype=object), "atlas_Own_count_connectivity": symmetric()}
    savemat(tmp_path / "sub-1_space-T1w_desc-x_space-T1w_connectivity.mat", variables, long_field_names=True)
    (made,) = convert_folder(tmp_path, tmp_path / "out")
    assert made.name == "sub-1_space-T1w_atlas-Own_meas-count_relmat.tsv"
    assert json.loads(sidecar_path(made).read_text())["Atlas"] == "Own"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-1_space-T1w_desc-preproc_space-T1w_x.mat", "sub-1_space-T1w_atlas-A_relmat.tsv"),
        ("sub-1_ses-2_seg-B_stat-pearson_relmat.tsv", "sub-1_ses-2_atlas-A_relmat.tsv"),
        ("1234.csv", "1234_atlas-A_relmat.tsv"),
    ],
)
def test_names_keep_each_entity_once(name: str, expected: str) -> None:
    assert bids_name(Path(name), "A") == expected


def test_the_printed_files_line_reads_the_cohort(tmp_path: Path) -> None:
    """The printed remedy works: the pattern is used in a cohort.yaml unchanged."""
    ids = [f"sub-{i}_ses-{s}" for i in (1, 2) for s in (1, 2)]
    for k, scan in enumerate(ids):
        folder = tmp_path / "in" / scan.split("_")[0] / "dwi"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{scan}_dwi.npz", weights=symmetric(k), regions=np.array(NAMES))
    (tmp_path / "labels.tsv").write_text("\n".join(NAMES) + "\n")
    (tmp_path / "p.tsv").write_text(
        "participant_id\tsession_id\n" + "\n".join(i.replace("_", "\t") for i in ids) + "\n"
    )
    made = convert_folder(tmp_path / "in", tmp_path / "out")
    (line,) = cohort_patterns([path.relative_to(tmp_path) for path in made])
    yaml = (
        f"participants: p.tsv\nid: [participant_id, session_id]\nconnectomes: {{files: '{line}', labels: labels.tsv}}\n"
    )
    (tmp_path / "cohort.yaml").write_text(yaml)
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert list(cohort.ids) == ids
    for k in range(4):
        np.testing.assert_allclose(cohort.weights[k, 0], symmetric(k), rtol=1e-6)


def test_a_connectome_is_read_as_it_is_converted(tmp_path: Path) -> None:
    """By the functions of the package, from a file without names and from one with several arrays."""
    np.save(tmp_path / "a.npy", symmetric())
    (tmp_path / "labels.tsv").write_text("\n".join(NAMES) + "\n")
    one = read_connectome(tmp_path / "a.npy", labels=tmp_path / "labels.tsv", measure="fa")
    assert (one.regions, one.measures) == (NAMES, ("fa",))
    np.testing.assert_array_equal(one.weights[0], symmetric())
    (made,) = convert(tmp_path / "a.npy", tmp_path / "b_relmat.tsv", labels=tmp_path / "labels.tsv", measure="fa")
    np.testing.assert_allclose(read_connectome(made).weights, one.weights, rtol=1e-6)
    savemat(tmp_path / "c.mat", {"fa": symmetric(), "count": symmetric(2)})
    chosen = read_connectome(tmp_path / "c.mat", measure="count", labels=tmp_path / "labels.tsv")
    np.testing.assert_array_equal(chosen.weights[0], symmetric(2))
    with pytest.raises(DataError):
        read_connectome(tmp_path / "a.npy")


def test_one_function_converts_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", weights=symmetric(), regions=np.array(NAMES))
    to_file = convert(tmp_path / "in" / "a.npz", tmp_path / "b.tsv")
    to_folder = convert(tmp_path / "in", tmp_path / "out")
    assert to_file == (tmp_path / "b.tsv",)
    assert [path.parent for path in to_folder] == [tmp_path / "out"]
