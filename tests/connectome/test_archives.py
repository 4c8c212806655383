"""Archives: MATLAB 4 as DSI Studio writes it, several arrays as measures, and archives of implausible size."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from scipy import sparse
from scipy.io import loadmat, savemat

from connectome_tl.connectome.formats.matlab import read_mat
from connectome_tl.connectome.formats.stacks import open_arrays
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import DataError

MATRIX = np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]])


def test_version_4_equals_scipys_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"connectivity": MATRIX, "n": np.int16([[7, 8]]), "name": "a\nb\nc\n"}, format="4")
    ours, theirs = read_mat(path), loadmat(path)
    np.testing.assert_array_equal(ours["connectivity"], theirs["connectivity"])
    np.testing.assert_array_equal(ours["n"], theirs["n"])
    found = connectome_from(read_matrix(path), RowNames(), measures=("count",))
    assert found.regions == ("a", "b", "c")
    np.testing.assert_array_equal(found.weights[0], MATRIX)


def test_a_damaged_file_of_version_4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"connectivity": MATRIX, "name": "a\nb\nc\n"}, format="4")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(400):
        mutant = bytearray(data)
        mutant[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(bytes(mutant) if k % 2 else data[: int(rng.integers(1, len(data)))])
        try:
            read_mat(path)
        except DataError:
            continue
    path.write_bytes(data[:-3])
    with pytest.raises(DataError, match="cut off"):
        read_mat(path)


def test_several_arrays_are_measures_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", full=MATRIX, partial=2 * MATRIX, other=np.ones((2, 2)))
    savemat(tmp_path / "b.mat", {"full": MATRIX, "partial": 2 * MATRIX})
    for path, kind in ((tmp_path / "a.npz", "npz"), (tmp_path / "b.mat", "mat")):
        found = read_matrix(path, format=f"{kind}:partial,full")
        assert found.measures == ("partial", "full")
        np.testing.assert_array_equal(found.values, [2 * MATRIX, MATRIX])
        with pytest.raises(DataError, match="full"):
            read_matrix(path)


def zeros(archive: zipfile.ZipFile, name: str, n_bytes: int) -> None:
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (n_bytes // 8,)})
    with archive.open(name, "w") as stream:
        stream.write(head.getvalue())
        for _ in range(n_bytes // 1_000_000):
            stream.write(bytes(1_000_000))


def test_the_sum_of_an_archive_is_limited_and_not_each_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("weights.npy", "w") as stream:
            npy.write_array(stream, MATRIX)
        for k in range(6):
            zeros(archive, f"junk{k}.npy", 80_000_000)
    with pytest.raises(DataError, match="too large"):
        read_matrix(tmp_path / "x.npz")


def test_the_sum_of_the_variables_of_a_mat_is_limited(tmp_path: Path) -> None:
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    n_bytes = 80_000_000
    blocks = []
    for k in range(4):
        head = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<ii", 1, n_bytes))
        head += element(1, f"v{k}".encode()) + struct.pack("<II", 2, n_bytes)
        pressed = zlib.compress(struct.pack("<II", 14, len(head) + n_bytes) + head + bytes(n_bytes), 1)
        blocks.append(struct.pack("<II", 15, len(pressed)) + pressed)
    start = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "x.mat").write_bytes(start + b"".join(blocks))
    with pytest.raises(DataError, match="far larger than the file"):
        read_mat(tmp_path / "x.mat")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for factor in (1, 2):
            buffer = io.BytesIO()
            np.save(buffer, MATRIX * factor)
            archive.writestr("weights.npy", buffer.getvalue())
    with pytest.raises(DataError, match="one name"):
        read_matrix(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_sparse_matrices_of_scipy_are_read_and_damaged_ones_refused(tmp_path: Path, kind: str) -> None:
    sparse.save_npz(tmp_path / "m.npz", sparse.coo_array(MATRIX).asformat(kind))
    np.testing.assert_array_equal(read_matrix(tmp_path / "m.npz").values[0], MATRIX)
    parts = dict(np.load(tmp_path / "m.npz"))
    beyond = "col" if kind == "coo" else "shape" if kind == "dia" else "indices"
    np.savez(tmp_path / "m.npz", **(parts | {beyond: parts[beyond] + 10_000_000}))
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path / "m.npz")


NAMES = np.array(["a", "b", "c"], dtype=object)


def cells(*members: object) -> np.ndarray:
    made = np.empty((1, len(members)), dtype=object)
    made[0] = [*members]
    return made


@pytest.mark.parametrize(
    ("variables", "choice"),
    [
        ({"data": {"SC": MATRIX, "names": NAMES}}, ""),
        ({"out": {"sub": {"connectivity": MATRIX, "regions": NAMES}}}, ""),
        ({"M": cells(MATRIX), "names": NAMES}, ""),
        ({"M": cells(MATRIX, NAMES)}, ""),
        ({"data": {"SC": MATRIX, "FC": 2 * MATRIX}, "names": NAMES}, ":data.SC"),
        ({"M": cells(MATRIX, 2 * MATRIX), "names": NAMES}, ":M{1}"),
        ({"SC": MATRIX, "options": {"window": np.eye(2)}, "names": NAMES}, ""),
    ],
)
def test_matrices_in_structures_and_cells_are_read_with_their_names(
    variables: dict[str, object], choice: str, tmp_path: Path
) -> None:
    savemat(tmp_path / "m.mat", variables)
    read = connectome_from(read_matrix(tmp_path / "m.mat", format=f"mat{choice}"), RowNames(), measures=("w",))
    assert read.regions == ("a", "b", "c")
    np.testing.assert_array_equal(read.weights[0], MATRIX)


def test_several_matrices_in_a_structure_are_named_with_a_remedy_that_works(tmp_path: Path) -> None:
    savemat(tmp_path / "m.mat", {"data": {"SC": MATRIX, "FC": 2 * MATRIX}})
    with pytest.raises(DataError, match=r"format: mat:data\.SC"):
        read_matrix(tmp_path / "m.mat")


def test_names_that_dsi_studio_writes_as_numbers_are_text(tmp_path: Path) -> None:
    matrix = np.ones((3, 3)) - np.eye(3)
    letters = np.frombuffer(b"left_a\nright_a\nb\n", dtype=np.uint8)[None]
    savemat(tmp_path / "x.connectivity.mat", {"connectivity": matrix, "name": letters}, format="4")
    assert [one.names for one in read_matrix(tmp_path / "x.connectivity.mat").lists] == [("left_a", "right_a", "b")]
    savemat(
        tmp_path / "y.mat", {"connectivity": matrix, "labels": np.array([[10, 40, 50]], dtype=np.uint8)}, format="4"
    )
    assert [one.numbers for one in read_matrix(tmp_path / "y.mat").lists] == [(10, 40, 50)]


def test_a_connectogram_of_dsi_studio_is_read_with_its_names(tmp_path: Path) -> None:
    matrix = np.array([[0, 3, 5], [3, 0, 7], [5, 7, 0]])
    head = ["data\tdata\t8\t10\t12", "data\tdata\ta\tb\tc"]
    rows = ["\t".join(map(str, [row.sum(), name, *row])) for name, row in zip("abc", matrix, strict=True)]
    (tmp_path / "x.connectogram.txt").write_text("\n".join([*head, *rows]) + "\n")
    found = read_matrix(tmp_path / "x.connectogram.txt")
    assert found.names == ("a", "b", "c")
    np.testing.assert_array_equal(found.values, [matrix])


def test_names_kept_as_python_objects_are_refused_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    matrix, names = np.ones((3, 3)), np.array(["a", "b", "c"], dtype=object)
    np.savez(path, weights=matrix, labels=names)
    for reader in (read_matrix, open_arrays):
        with pytest.raises(DataError, match=r"Python objects.*dtype=str"):
            reader(path)
    np.savez(path, weights=matrix, labels=np.array(names, dtype=str))
    assert read_matrix(path).lists[0].names == ("a", "b", "c")
