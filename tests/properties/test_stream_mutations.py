"""Tractograms, label images, weights and gradient tables, mutated: the right numbers or a refusal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.properties.stream_scene import expected, nifti, scene, tck
from tests.properties.stream_trials import N_MUTATIONS, trials


def test_every_mutation_gives_the_right_numbers_or_a_refusal() -> None:
    outcomes, faults = trials(12, N_MUTATIONS)
    assert faults == []
    # A test in which everything is refused, or everything is right, would prove nothing.
    assert outcomes["right"] > 40
    assert outcomes["refused"] > 60
    assert sum(outcomes.values()) == N_MUTATIONS


@pytest.mark.skipif(shutil.which("tck2connectome") is None, reason="MRtrix3 is not on the PATH")
@pytest.mark.parametrize("seed", range(5))
def test_the_expected_table_is_that_of_tck2connectome(seed: int, tmp_path: Path) -> None:
    """The oracle is tested against another one."""
    given = scene(np.random.default_rng(seed))
    nodes = np.zeros_like(given.labels)
    for row, number in enumerate(given.numbers, 1):
        nodes[given.labels == number] = row
    (tmp_path / "t.tck").write_bytes(tck(given.lines))
    (tmp_path / "n.nii").write_bytes(nifti(nodes, given.affine))
    np.savetxt(tmp_path / "w.txt", given.weights)
    for weighted in (True, False):
        weights = ["-tck_weights_in", "w.txt"] if weighted else []
        options = ["-quiet", "-force", "-symmetric", "-zero_diagonal", *weights]
        subprocess.run(
            ["tck2connectome", *options, "t.tck", "n.nii", "c.csv"], cwd=tmp_path, check=True, capture_output=True
        )
        found = np.loadtxt(tmp_path / "c.csv", delimiter=",")
        np.testing.assert_allclose(expected(given, weighted=weighted), found, rtol=1e-5)
