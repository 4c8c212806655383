"""A damaged or hostile bundle is refused with exit code 65; nothing is executed, nothing written, memory is bounded."""

from __future__ import annotations

import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bundle_mutations import MUTATIONS, SIGNED, UNSIGNED, judged, signed
from safetensors.numpy import save

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import SELF_TEST_ROWS, STRUCTURE, WEIGHTS
from connectome_tl.errors import DataError
from tests.bundle.bundle_study import run_of

EACH = 4  # mutants of each mutation


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose fits are networks: their settings and sizes can be attacked as well."""
    from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run

    folder = tmp_path_factory.mktemp("bundle")
    return bundle_run(run_of(folder), folder / "bundle", BundleOptions(model="network"))


@pytest.mark.slow
def test_mutants_are_refused_or_are_consistent_bundles(bundle: Path, tmp_path: Path) -> None:
    open_bundle(bundle)  # import what is imported on first use
    found = [judged(bundle, seed, tmp_path / "mutant") for seed in range(EACH * len(MUTATIONS))]
    wrong = [one for one in found if one.word not in ("refused", "consistent")]
    assert not wrong, wrong[:3]
    counts = Counter((one.mutation, one.word) for one in found)
    for mutation in UNSIGNED:
        assert counts[mutation.__name__, "refused"] == EACH
    assert sum(counts[mutation.__name__, "refused"] for mutation in SIGNED) > EACH / 2 * len(SIGNED)


@pytest.mark.slow  # memory: coverage allocates too
def test_memory_stays_below_twice_the_bundle(bundle: Path, tmp_path: Path) -> None:
    open_bundle(bundle)
    for seed in range(2 * len(MUTATIONS)):
        one = judged(bundle, seed, tmp_path / "mutant", memory=True)
        # A bundle of 120 kB: memory for parsing does not decrease with its size.
        assert one.memory < 2 * one.size + 500_000, one


def test_json_that_is_much_larger_than_a_bundle_needs_is_refused_before_it_is_parsed(
    bundle: Path, tmp_path: Path
) -> None:
    """Lists take up to thirty times their length when they are parsed; other files are not even decoded."""
    for name, content, said in (
        (STRUCTURE, b'{"a":[' + b"1," * 2_000_000 + b"1]}", "larger than this file of a bundle may be"),
        (STRUCTURE, b'{"a":[' + b"[]," * 33_000 + b"1]}", "has more values or longer texts"),
        (
            STRUCTURE,
            b'{"a":["' + b"a" * 110_000 + b'\\ud83d\\ude00"]}',
            "longer texts than this file of a bundle may have",
        ),
        (
            STRUCTURE,
            b'{"a":"' + b"a" * 110_000 + "\U0001f600".encode() + b'"}',
            "longer texts than this file of a bundle may have",
        ),
        (STRUCTURE, b"\x89" * 130_000, "does not begin with {"),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy)
        (copy / name).write_bytes(content)
        signed(copy)
        tracemalloc.start()
        with pytest.raises(DataError, match=said):
            open_bundle(copy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = sum(file.stat().st_size for file in bundle.rglob("*"))
        assert peak < 2 * size + 300_000, said


def test_a_file_of_many_empty_tensors_is_refused_before_they_are_made(bundle: Path, tmp_path: Path) -> None:
    """Each takes 50 bytes of a file and 300 of memory."""
    copy = tmp_path / "many"
    shutil.copytree(bundle, copy)
    for name in (WEIGHTS, SELF_TEST_ROWS):
        (copy / name).write_bytes(save({str(i): np.zeros(0, dtype=np.float32) for i in range(20_000)}))
        signed(copy)
        tracemalloc.start()
        with pytest.raises(DataError, match="more tensors than a file of this size may hold"):
            open_bundle(copy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4_000_000
        shutil.copy(bundle / name, copy / name)
