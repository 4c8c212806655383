"""MATLAB 7.3 files by another program are read like the same data in version 5; external references are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_array

from connectome_tl.connectome.formats.mat5 import DamagedMat, parse_mat
from connectome_tl.connectome.formats.mat73 import parse_mat73
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError

RNG = np.random.default_rng(0)
VARIABLES: dict[str, Any] = {
    "double": RNG.normal(size=(5, 7)),
    "three": RNG.normal(size=(4, 5, 6)),
    "single": RNG.normal(size=(3, 3)).astype(np.float32),
    "whole": RNG.integers(-100, 100, (3, 4)).astype(np.int16),
    "flag": np.array([[True, False]]),
    "text": "left thalamus",
    "greek": "αβγ",
    "cells": np.array(["a", "bcd", "e f"], dtype=object),
    "empty": np.zeros((0, 3)),
    "deep": {"inner": {"x": np.eye(3), "names": np.array(["p", "q"], dtype=object)}, "y": np.array([[2.0]])},
}


def write73(path: Path, variables: dict[str, Any]) -> Path:
    """By hdf5storage, as MATLAB's `save -v7.3` writes."""
    hdf5storage.savemat(str(path), variables, format="7.3", store_python_metadata=False, matlab_compatible=True)
    return path


def alike(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert set(one) == set(other)
        for name in one:
            alike(one[name], other[name])
    elif isinstance(one, np.ndarray) and one.size:
        np.testing.assert_array_equal(one, other)
    elif not isinstance(one, np.ndarray):
        assert one == other


def test_both_versions_say_the_same(tmp_path: Path) -> None:
    savemat(tmp_path / "five.mat", VARIABLES, long_field_names=True)
    alike(parse_mat((tmp_path / "five.mat").read_bytes()), parse_mat73(write73(tmp_path / "new.mat", VARIABLES)))


@pytest.mark.parametrize("name", ["conn", "cmp3", "mat", "qsirecon"])
def test_every_kind_of_matlab_file_may_be_of_version_seven_three(tmp_path: Path, name: str) -> None:
    matrix = np.abs(RNG.normal(size=(4, 4)))
    matrix = matrix + matrix.T
    names = np.array(["a", "b", "c", "dd"], dtype=object)
    variables: dict[str, dict[str, Any]] = {
        "conn": {"Z": matrix, "names": names, "names2": names},
        "cmp3": {"sc": {"number_of_fibers": matrix}, "nodes": {"dn_name": names}},
        "mat": {"SC": matrix, "names": names},
        "qsirecon": {"atlas_A_region_labels": names, "atlas_A_count_connectivity": matrix},
    }
    found = read_matrix(write73(tmp_path / "x.mat", variables[name]))
    assert found.names == ("a", "b", "c", "dd")
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(found.values[0][off], matrix[off])


def sparse_file(path: Path, matrix: np.ndarray) -> Path:
    """A sparse variable as MATLAB keeps it: a group with data, rows and column starts."""
    stored = csc_array(matrix)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("SC")
        group.attrs["MATLAB_class"] = np.bytes_("double")
        group.attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
        group["data"], group["ir"], group["jc"] = stored.data, stored.indices.astype("u8"), stored.indptr.astype("u8")
    return path


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_sparse_matrices_are_read(tmp_path: Path, version: str) -> None:
    matrix = np.where(RNG.random((9, 9)) < 0.3, RNG.normal(size=(9, 9)), 0.0)
    matrix[:, 4], matrix[4] = 0, 0
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    if version == "5":
        savemat(tmp_path / "x.mat", {"SC": csc_array(matrix)})
    else:
        sparse_file(tmp_path / "x.mat", matrix)
    np.testing.assert_array_equal(read_matrix(tmp_path / "x.mat").values[0], matrix)


@pytest.mark.parametrize("part", ["ir", "jc"])
def test_a_sparse_matrix_that_does_not_fit_together_is_damaged(tmp_path: Path, part: str) -> None:
    path = sparse_file(tmp_path / "x.mat", np.eye(5))
    with h5py.File(path, "r+") as file:
        file["SC"][part][2] = 99
    with pytest.raises(DamagedMat):
        parse_mat73(path)


def test_nothing_outside_the_file_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["SC"] = np.eye(3)
    with h5py.File(tmp_path / "link.mat", "w", userblock_size=512) as file:
        file["SC"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/SC")
    with h5py.File(tmp_path / "virtual.mat", "w", userblock_size=512) as file:
        layout = h5py.VirtualLayout((3, 3), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "SC", (3, 3))
        file.create_virtual_dataset("SC", layout)
    (tmp_path / "raw").write_bytes(np.eye(3).tobytes())
    with h5py.File(tmp_path / "external.mat", "w", userblock_size=512) as file:
        file.create_dataset("SC", (3, 3), "f8", external=[(str(tmp_path / "raw"), 0, 72)])
    for name in ("link", "virtual", "external"):
        with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
            read_matrix(tmp_path / f"{name}.mat")


def test_a_claim_larger_than_the_file_can_hold_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file.create_dataset("SC", (100_000, 100_000), "f8", chunks=(100, 100))  # nothing is stored yet
    with pytest.raises(DamagedMat, match="this small"):
        parse_mat73(tmp_path / "x.mat")


def test_cells_that_hold_themselves_come_to_an_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        cell = file.create_dataset("c", (1, 2), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[0, 0] = cell[0, 1] = cell.ref
    with pytest.raises(DamagedMat, match="nested"):
        parse_mat73(tmp_path / "x.mat")


def test_flipped_and_cut_files_end_in_a_value_or_a_typed_error(tmp_path: Path) -> None:
    data = write73(tmp_path / "x.mat", {k: VARIABLES[k] for k in ("double", "cells", "deep")}).read_bytes()
    rng = np.random.default_rng(7)
    damaged = 0
    for _ in range(400):
        mutant = bytearray(data)
        for at in rng.integers(512, len(data), size=int(rng.integers(1, 9))):
            mutant[at] = rng.integers(256)
        (tmp_path / "x.mat").write_bytes(mutant if rng.random() > 0.2 else mutant[: int(rng.integers(len(data)))])
        try:
            parse_mat73(tmp_path / "x.mat")
        except DamagedMat:
            damaged += 1
    assert damaged > 80


def test_the_axes_of_a_file_of_another_program_stay_as_they_are(tmp_path: Path) -> None:
    matrix = RNG.normal(size=(2, 4, 5))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/three", data=matrix, compression="lzf")
        file["group/names"] = ["a", "β"]
        file["fixed"], file["one"] = np.array([b"a", b"b"]), "text"
        file["mask"], file["phase"] = np.array([True, False]), np.ones(3, dtype=complex)
    found = parse_mat73(tmp_path / "x.h5")
    assert list(found) == ["fixed", "group/names", "group/three", "mask", "one", "phase"]
    np.testing.assert_array_equal(found["group/three"], matrix)
    texts = {name: found[name] for name in ("group/names", "fixed", "one")}
    assert texts == {"group/names": ["a", "β"], "fixed": ["a", "b"], "one": "text"}
    assert found["mask"].tolist() == [True, False]
    assert found["phase"] is None


@pytest.mark.parametrize("ending", [".h5", ".hdf5"])
def test_an_hdf5_file_is_read_with_its_names_or_refused_with_its_datasets(tmp_path: Path, ending: str) -> None:
    matrix = RNG.normal(size=(4, 4))
    matrix = matrix + matrix.T
    path = tmp_path / f"x{ending}"
    with h5py.File(path, "w") as file:
        file["connectivity/sc"], file["labels"] = matrix, ["a", "b", "c", "d"]
    found = read_matrix(path)
    np.testing.assert_array_equal(found.values, [matrix])
    assert found.names == ("a", "b", "c", "d")
    with h5py.File(path, "r+") as file:
        file["fc"] = matrix / 2
    with pytest.raises(DataError, match=r"connectivity/sc, fc.* Choose it: format: hdf5:connectivity/sc"):
        read_matrix(path)
    np.testing.assert_array_equal(read_matrix(path, format="hdf5:fc").values, [matrix / 2])
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="not an HDF5 file"):
        read_matrix(path)


def test_a_matlab_file_with_the_ending_of_hdf5_is_read_as_matlab_wrote_it(tmp_path: Path) -> None:
    variables = {"three": VARIABLES["three"], "cells": VARIABLES["cells"]}
    found = parse_mat73(write73(tmp_path / "x.mat", variables))
    alike(found, parse_mat73((tmp_path / "x.mat").rename(tmp_path / "x.h5")))
