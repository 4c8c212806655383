"""A stack of any file type is read in blocks of subjects, and damage after the header is reported."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5storage
import numpy as np
import pytest
from scipy.io import savemat

from connectome_tl.cohort.arrays.stack import open_stack
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.connectome.formats.stacks import open_arrays
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError

from .conftest import OnDisk


def stacked(on_disk: OnDisk, name: str, **settings: str) -> Path:
    on_disk.settings["connectomes"] = {"stack": name, "atlas": "aal90", "rows": "participants.tsv", **settings}
    return on_disk.write()


def same(one: Cohort, other: Cohort) -> None:
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.parametrize("kind", ["npy", "npz", "packed", "columns", "mat73", "h5"])
def test_every_kind_of_stack_gives_the_same_cohort_in_small_blocks(
    on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("connectome_tl.connectome.formats.stacks._MOST_ROWS", 2)
    monkeypatch.setattr("connectome_tl.cohort.arrays.matrices.IN_MEMORY", 1000)
    matrices = np.stack(list(on_disk.matrices.values()))
    path = on_disk.folder / f"all.{ {'mat73': 'mat', 'packed': 'npz', 'columns': 'npy'}.get(kind, kind) }"
    if kind == "mat73":
        names = np.array(on_disk.names, dtype=object)
        variables = {"Z": np.moveaxis(matrices, 0, 2), "names": names, "names2": names}
        hdf5storage.savemat(str(path), variables, format="7.3", store_python_metadata=False, matlab_compatible=True)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["w"], file["regions"] = matrices, list(on_disk.names)
    elif kind in ("npz", "packed"):
        (np.savez_compressed if kind == "packed" else np.savez)(path, w=matrices, regions=np.array(on_disk.names))
    else:
        np.save(path, np.asfortranarray(matrices) if kind == "columns" else matrices)
    cohort = read_cohort(stacked(on_disk, path.name, measure="count", transform="log1p"))
    assert isinstance(cohort.weights, np.memmap)
    on_disk.settings["connectomes"] = {"files": "{id}.tsv", "atlas": "aal90", "measure": "count", "transform": "log1p"}
    same(cohort, on_disk.read())


@pytest.mark.parametrize("pack", [False, True])
def test_damage_behind_the_header_is_named(tmp_path: Path, pack: bool) -> None:
    path = tmp_path / "all.npz"
    (np.savez_compressed if pack else np.savez)(path, w=np.random.default_rng(0).normal(size=(5, 4, 4)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        list(open_arrays(path)[1]["w"].blocks())


def test_pickles_cut_files_and_false_sizes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", np.ones((5, 4, 4)))
    data = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-9])
    (tmp_path / "huge.npy").write_bytes(data.replace(b"(5, 4, 4)", b"(9999999999, 4, 4)"))
    for name in ("o.npy", "o.npz", "cut.npy", "huge.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            open_arrays(tmp_path / name)


def test_codes_and_diagonals_of_a_stack_are_treated_as_in_single_files(on_disk: OnDisk) -> None:
    matrices = np.stack(list(on_disk.matrices.values()))
    np.einsum("sii->si", matrices)[:] = np.inf
    path = on_disk.folder / "all.npz"
    np.savez(path, w=matrices, regions=np.array(on_disk.names))
    cohort = read_cohort(stacked(on_disk, path.name, measure="count", transform="log1p"))
    on_disk.settings["connectomes"] = {"files": "{id}.tsv", "atlas": "aal90", "measure": "count", "transform": "log1p"}
    same(cohort, on_disk.read())
    matrices[2, 5], matrices[2, :, 5] = 999, 999
    np.savez(path, w=matrices, regions=np.array(on_disk.names))
    stacked(on_disk, path.name)
    with pytest.raises(DataError, match="999 looks like a code") as caught:
        read_cohort(on_disk.folder / "cohort.yaml")
    assert [problem.subject for problem in caught.value.problems] == ["sub-03"]


@pytest.mark.parametrize("n", [6, 90])
@pytest.mark.parametrize("axis", [0, -1])
def test_subjects_of_a_matlab_array_are_on_the_axis_of_their_number(tmp_path: Path, axis: int, n: int) -> None:
    """Of the first or the last axis; a cube is decided by the symmetry of the matrices."""
    values = np.random.default_rng(0).normal(size=(n, 90, 90))
    values += values.swapaxes(1, 2)
    ids = [f"S{i}" for i in range(n)]
    savemat(tmp_path / "all.mat", {"fc": np.moveaxis(values, 0, axis), "sub": np.arange(n), "ids": ids})
    small, large = open_stack(tmp_path / "all.mat")
    assert list(large) == ["fc"]
    assert list(small["ids"]) == ids
    np.testing.assert_array_equal(np.concatenate(list(large["fc"].blocks())), values)


def test_a_matlab_array_of_many_subjects_is_no_matrix_of_one(tmp_path: Path) -> None:
    savemat(tmp_path / "all.mat", {"fc": np.ones((90, 90, 6))})
    with pytest.raises(DataError, match=r"holds many subjects; got fc \(90, 90, 6\).*give it as stack"):
        read_matrix(tmp_path / "all.mat")


def test_a_cube_without_symmetric_matrices_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "all.mat", {"fc": np.random.default_rng(0).normal(size=(9, 9, 9))})
    with pytest.raises(DataError, match="not clear which axis counts the subjects"):
        open_stack(tmp_path / "all.mat")
    savemat(tmp_path / "all.mat", {"age": np.ones((1, 9))})
    with pytest.raises(DataError, match=r"expected one of \(n_regions, n_regions, n_subjects\)"):
        open_stack(tmp_path / "all.mat")
