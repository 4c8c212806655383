"""Arrays whose type was too small, or whose shape or kind is another, are refused with what to do, or read as meant."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import io as sio

from connectome_tl.cohort.arrays.stack_rows import stacked_values
from connectome_tl.connectome.formats.narrow import refuse_narrow
from connectome_tl.connectome.formats.stacks import open_arrays
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import DataError
from connectome_tl.settings.cohort import ConnectomeFiles

N = 12
STACK = ConnectomeFiles(stack="s.npy", labels="numbered")


def counts(largest: int, seed: int = 0) -> np.ndarray:
    drawn = np.triu(np.random.default_rng(seed).integers(0, largest // 2, (N, N)), 1)
    drawn[0, 1] = largest
    return drawn + drawn.T


def npz(path: Path, values: np.ndarray) -> None:
    np.savez(path, weights=values)


def mat(path: Path, values: np.ndarray) -> None:
    sio.savemat(path, {"SC": values})


SAVE: dict[str, Callable[[Path, np.ndarray], None]] = {".npy": np.save, ".npz": npz, ".mat": mat}


@pytest.mark.parametrize("suffix", SAVE)
@pytest.mark.parametrize(("kind", "largest"), [("int8", 300), ("uint8", 300), ("int16", 40_000), ("uint16", 80_000)])
def test_counts_that_wrapped_are_refused_and_int32_is_read(
    tmp_path: Path, suffix: str, kind: str, largest: int
) -> None:
    values = counts(largest)
    values[2, 3] = values[3, 2] = np.iinfo(kind).max
    SAVE[suffix](tmp_path / f"a{suffix}", values.astype(kind))
    with pytest.raises(DataError, match=f"stored as {kind}.*int32"):
        read_matrix(tmp_path / f"a{suffix}")
    SAVE[suffix](tmp_path / f"b{suffix}", values.astype(np.int32))
    np.testing.assert_array_equal(read_matrix(tmp_path / f"b{suffix}").values[0], values)


@pytest.mark.parametrize("suffix", SAVE)
def test_negative_numbers_show_that_counts_wrapped_though_the_limit_is_not_reached(tmp_path: Path, suffix: str) -> None:
    values = np.minimum(counts(60), 60)
    values[0, 1] = values[1, 0] = 156
    SAVE[suffix](tmp_path / f"a{suffix}", values.astype(np.uint8).astype(np.int8))
    with pytest.raises(DataError, match=r"stored as int8.*may have wrapped.*got -100 to"):
        read_matrix(tmp_path / f"a{suffix}")


def npz_named(path: Path, values: np.ndarray, measures: list[str]) -> None:
    np.savez(path, weights=values, measures=measures)


def mat_named(path: Path, values: np.ndarray, measures: list[str]) -> None:
    sio.savemat(path, {"SC": values, "measures": np.array(measures, object)})


@pytest.mark.parametrize(("suffix", "save"), [(".npz", npz_named), (".mat", mat_named)])
@pytest.mark.parametrize("axis", [0, -1])
def test_measures_are_on_the_first_or_the_last_axis_where_they_are_named(
    tmp_path: Path, suffix: str, save: Callable[[Path, np.ndarray, list[str]], None], axis: int
) -> None:
    parts = [counts(90, seed).astype(float) for seed in range(3)]
    save(tmp_path / f"a{suffix}", np.stack(parts, axis=axis), ["count", "fa", "md"])
    found = read_matrix(tmp_path / f"a{suffix}")
    assert found.measures == ("count", "fa", "md")
    np.testing.assert_array_equal(found.values, parts)


@pytest.mark.parametrize(("suffix", "said"), [(".npy", r"np\.moveaxis\(x, -1, 0\)"), (".mat", "save their names too")])
def test_unnamed_measures_on_the_last_axis_are_named_with_what_to_do(tmp_path: Path, suffix: str, said: str) -> None:
    SAVE[suffix](tmp_path / f"a{suffix}", np.stack([counts(90, seed) for seed in range(3)], axis=-1))
    with pytest.raises(DataError, match=said):
        read_matrix(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SAVE)
def test_small_integers_are_read_and_the_diagonal_says_nothing(tmp_path: Path, suffix: str) -> None:
    values = counts(100).astype(np.uint8)
    np.fill_diagonal(values, 255)
    SAVE[suffix](tmp_path / f"a{suffix}", values)
    np.testing.assert_array_equal(read_matrix(tmp_path / f"a{suffix}").values[0], values)


@pytest.mark.parametrize("version", ["4", "5"])
def test_numbers_that_matlab_stores_in_a_shorter_type_are_of_their_class(tmp_path: Path, version: str) -> None:
    sio.savemat(tmp_path / "a.mat", {"SC": counts(255).astype(float)}, format=version)
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat").values[0], counts(255))


def test_infinite_numbers_in_half_precision_name_their_cause() -> None:
    with np.errstate(over="ignore"):
        values = (1000.0 * counts(100)).astype(np.float16)
    with pytest.raises(DataError, match=r"float16.*65504.*float32"):
        refuse_narrow(values, "a.npy")
    refuse_narrow(counts(100).astype(np.float16), "a.npy")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (pickle.dumps(np.eye(3)), "pickled"),
        (b"0.0 1.0\n1.0 0.0\n", "not a NumPy file.*named .csv"),
        (b"\x89HDF\r\n", "not a NumPy file"),
    ],
)
@pytest.mark.parametrize("reader", [read_matrix, open_arrays])
def test_what_is_no_numpy_file_is_said_without_advice_to_unpickle(
    tmp_path: Path, data: bytes, said: str, reader: Callable[[Path], object]
) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(DataError, match=said) as caught:
        reader(tmp_path / "a.npy")
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("empty", [0.0, np.nan])
@pytest.mark.parametrize(("kept", "half"), [("upper", np.tri(N, k=-1)), ("lower", np.tri(N, k=-1).T)])
def test_a_matrix_with_one_half_says_its_layout_and_that_reads_it(
    tmp_path: Path, empty: float, kept: str, half: np.ndarray
) -> None:
    np.save(tmp_path / "a.npy", np.where(half > 0, empty, counts(100)))
    matrix, known = read_matrix(tmp_path / "a.npy"), RowNames(count_only=True)
    with pytest.raises(DataError, match=f"only its {kept} triangle.*layout: {kept}"):
        connectome_from(matrix, known, measures=("w",))
    found = connectome_from(matrix, known, measures=("w",), layout="upper" if kept == "upper" else "lower")
    np.testing.assert_array_equal(found.weights[0], counts(100))


@pytest.mark.parametrize(("error", "said"), [(1e-4, "due to rounding"), (0.3, "not supported")])
def test_a_small_asymmetry_is_told_from_directed_edges(error: float, said: str) -> None:
    values = counts(100).astype(float)
    values[0, 1] *= 1 + error
    with pytest.raises(DataError, match=said):
        connectome_from(MatrixFile(values[None]), RowNames(count_only=True), measures=("w",))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((N, N, 5), "moveaxis"), ((5, N * N), f"reshape.-1, {N}, {N}"), ((5, N, N + 1), "first axis counts")],
)
def test_a_stack_of_another_shape_says_how_to_turn_it(tmp_path: Path, shape: tuple[int, ...], said: str) -> None:
    np.save(tmp_path / "s.npy", np.ones(shape))
    with pytest.raises(DataError, match=said):
        stacked_values(open_arrays(tmp_path / "s.npy")[1], STACK, tmp_path / "s.npy")


@pytest.mark.parametrize("shape", [(5, N, N), (5, N, N, 1)])
@pytest.mark.parametrize("kind", [bool, np.int32, ">f4"])
def test_stacks_of_these_types_and_shapes_are_read(tmp_path: Path, shape: tuple[int, ...], kind: type | str) -> None:
    np.save(tmp_path / "s.npy", np.ones(shape).astype(kind))
    values, several = stacked_values(open_arrays(tmp_path / "s.npy")[1], STACK, tmp_path / "s.npy")
    assert not several
    assert np.concatenate(list(values.blocks())).shape == (5, N, N)
