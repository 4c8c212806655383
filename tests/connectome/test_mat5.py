"""Our reader of MATLAB files agrees with scipy's, and does not crash where scipy's does."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from connectome_tl.connectome.formats.mat5 import DamagedMat, parse_mat

RNG = np.random.default_rng(0)
VARIABLES: dict[str, Any] = {
    "double": RNG.normal(size=(5, 7)),
    "single": RNG.normal(size=(3, 3)).astype(np.float32),
    "three": RNG.normal(size=(4, 5, 6)),
    **{f"i{n}": RNG.integers(-100, 100, (3, 4)).astype(f"i{n}") for n in (1, 2, 4, 8)},
    **{f"u{n}": RNG.integers(0, 200, (2, 9)).astype(f"u{n}") for n in (1, 2, 4, 8)},
    "one": 3.5,
    "flag": np.array([[True, False]]),
    "empty": np.zeros((0, 3)),
    "text": "left thalamus",
    "greek": "αβγ",
    "cells": np.array(["a", "bcd", "e f"], dtype=object),
    "rows": np.array(["abc", "de"]),
    "deep": {"inner": {"x": np.eye(3), "names": np.array(["p", "q"], dtype=object)}, "y": 2},
}


def written(variables: dict[str, Any], *, compress: bool) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=compress, long_field_names=True)
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_what_scipy_wrote_is_read_as_scipy_reads_it(compress: bool) -> None:
    data = written(VARIABLES, compress=compress)
    ours, theirs = parse_mat(data), loadmat(io.BytesIO(data))
    assert set(ours) == set(VARIABLES)
    for name in VARIABLES:
        expected = theirs[name]
        if isinstance(ours[name], np.ndarray):
            assert ours[name].shape == expected.shape, name
            np.testing.assert_array_equal(ours[name], expected, err_msg=name)
    assert ours["text"] == "left thalamus"
    assert ours["greek"] == "αβγ"
    assert ours["cells"] == ["a", "bcd", "e f"]
    assert [row.strip() for row in ours["rows"]] == ["abc", "de"]
    assert ours["deep"]["inner"]["names"] == ["p", "q"]
    np.testing.assert_array_equal(ours["deep"]["inner"]["x"], np.eye(3))


def test_arrays_of_structures_are_lists() -> None:
    records = np.array([(1.0, "a"), (2.0, "b")], dtype=[("x", object), ("n", object)])
    found = parse_mat(written({"s": records}, compress=False))["s"]
    assert [one["n"] for one in found] == ["a", "b"]


def test_complex_numbers_are_none() -> None:
    found = parse_mat(written({"c": np.array([[1j]]), "m": np.eye(2)}, compress=False))
    assert found["c"] is None
    np.testing.assert_array_equal(found["m"], np.eye(2))


@pytest.mark.parametrize("compress", [False, True])
def test_a_cut_file_is_damaged_wherever_it_is_cut(compress: bool) -> None:
    data = written({"m": RNG.normal(size=(6, 6)), "n": np.array(["a", "b"], dtype=object)}, compress=compress)
    whole = parse_mat(data)
    for end in range(0, len(data) - 8, 7):
        try:
            found = parse_mat(data[:end])
        except (DamagedMat, NotImplementedError):
            continue
        assert set(found) < set(whole)  # cut between two variables


def test_twenty_thousand_flipped_bytes_end_in_a_value_or_a_typed_error() -> None:
    """scipy 1.17 ends the process on some of these."""
    data = written({k: VARIABLES[k] for k in ("double", "cells", "deep", "rows")}, compress=False)
    rng = np.random.default_rng(7)
    damaged = 0
    for _ in range(20_000):
        mutant = bytearray(data)
        for at in rng.integers(116, len(data), size=int(rng.integers(1, 4))):
            mutant[at] = rng.integers(256)
        try:
            parse_mat(bytes(mutant))
        except (DamagedMat, NotImplementedError):
            damaged += 1
    assert damaged > 2_000


def test_other_versions_are_told_apart() -> None:
    with pytest.raises(NotImplementedError):
        parse_mat(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    with pytest.raises(NotImplementedError):
        parse_mat(b"MATLAB 7.3 MAT-file".ljust(200))
    buffer = io.BytesIO()
    savemat(buffer, {"m": np.eye(9)}, format="4")
    with pytest.raises((NotImplementedError, DamagedMat)):
        parse_mat(buffer.getvalue())
