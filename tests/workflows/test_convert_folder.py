"""A whole folder, and a file with several atlases and measures, become BIDS-style tables; other files are unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.provenance import sidecar_path
from connectome_tl.workflows.data.convert import convert_folder

NAMES = ("a", "b", "c")


def symmetric(seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).gamma(1, 5, (3, 3)), 1)
    return upper + upper.T


def qsirecon(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array(NAMES, dtype=object)
    variables = {}
    for k, atlas in enumerate(("One", "Two")):
        variables |= {
            f"atlas_{atlas}_region_labels": names,
            f"atlas_{atlas}_radius2_count_connectivity": symmetric(seed + k),
        }
        variables[f"atlas_{atlas}_sift_radius2_count_connectivity"] = symmetric(seed + k) * 2
    savemat(path, variables, long_field_names=True)
    return path


def test_each_atlas_and_measure_of_a_file_becomes_a_table(tmp_path: Path) -> None:
    file = qsirecon(tmp_path / "in" / "sub-1_ses-1_space-ACPC_connectivity.mat", 0)
    (file.parent / "sub-1_ses-1_space-ACPC_model-sift2_mu.txt").write_text("0.5")
    made = convert_folder(file, tmp_path / "out")
    assert sorted(path.name for path in made) == [
        f"sub-1_ses-1_space-ACPC_atlas-{atlas}_meas-{measure}_relmat.tsv"
        for atlas in ("One", "Two")
        for measure in ("radius2count", "siftradius2count")
    ]
    for path in made:
        k = int("atlas-Two" in path.name)
        np.testing.assert_allclose(read_matrix(path).values[0], symmetric(k), rtol=1e-15)  # twice, times mu
        said = json.loads(sidecar_path(path).read_text())
        assert {"Directed", "RelationshipMeasure", "Software", "ValidDiagonal", "Weighted"} <= set(said)
        assert any("mu = 0.5" in note for note in said["Notes"])
        assert said["Atlas"] == ("Two" if k else "One")


def test_a_folder_keeps_its_folders_and_leaves_other_tables_alone(tmp_path: Path) -> None:
    for i in (1, 2):
        qsirecon(tmp_path / "in" / f"sub-{i}" / "dwi" / f"sub-{i}_connectivity.mat", i)
    np.save(tmp_path / "in" / "sub-1" / "sc.npy", symmetric(5))
    (tmp_path / "in" / "sub-1" / "sc_labels.txt").write_text("\n".join(NAMES))
    (tmp_path / "in" / "participants.tsv").write_text("participant_id\nsub-1\n")
    made = convert_folder(tmp_path / "in", tmp_path / "out")
    assert len(made) == 2 * 4 + 1
    assert {path.parent.relative_to(tmp_path / "out").as_posix() for path in made} == {
        "sub-1/dwi",
        "sub-2/dwi",
        "sub-1",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_plain_files_are_converted_where_a_pattern_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savetxt(tmp_path / "in" / "sub-7.csv", symmetric(1), delimiter=",")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    with pytest.raises(MissingInputError, match="--pattern"):
        convert_folder(tmp_path / "in", tmp_path / "out", labels=tmp_path / "labels.txt")
    (made,) = convert_folder(tmp_path / "in", tmp_path / "out", labels=tmp_path / "labels.txt", pattern="*.csv")
    assert made.name == "sub-7_meas-weight_relmat.tsv"
    for pattern in ("../*.txt", "/etc/*"):
        with pytest.raises(UsageError, match="inside"):
            convert_folder(tmp_path / "in", tmp_path / "out", pattern=pattern)


def test_what_can_be_converted_is_and_the_rest_is_listed(tmp_path: Path) -> None:
    qsirecon(tmp_path / "in" / "sub-1_connectivity.mat", 1)
    broken = qsirecon(tmp_path / "in" / "sub-2_connectivity.mat", 2)
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match="4 tables were written") as caught:
        convert_folder(tmp_path / "in", tmp_path / "out")
    assert "sub-2_connectivity.mat" in str(caught.value)
    assert len(list((tmp_path / "out").glob("*.tsv"))) == 4


def test_two_files_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for ending in ("npz", "graphml"):
        target = tmp_path / "in" / f"sub-1.{ending}"
        target.parent.mkdir(exist_ok=True)
        if ending == "npz":
            np.savez(target, weights=symmetric(1), regions=np.array(NAMES))
        else:
            import networkx as nx

            nx.write_graphml(nx.relabel_nodes(nx.from_numpy_array(symmetric(1)), dict(enumerate(NAMES))), target)
    with pytest.raises(DataError, match="would overwrite"):
        convert_folder(tmp_path / "in", tmp_path / "out")
    (made,) = (tmp_path / "out").glob("*.tsv")
    assert json.loads(sidecar_path(made).read_text())["Inputs"].keys() == {"sub-1.graphml"}  # the first one is used
