"""Opening a bundle: each network is built once where memory allows, and small tensors take little more than values."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import SELF_TEST, SELF_TEST_ROWS, WEIGHTS, open_folder
from connectome_tl.bundle.self_test import run_self_test
from connectome_tl.bundle.tensors import all_tensors
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.records.bundles import SelfTest
from connectome_tl.training.fitted_models import Arrays, NetworkModel
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run


@pytest.mark.slow
def test_the_self_test_builds_each_network_once_in_a_large_bundle_and_predicts_one_subject_at_a_time_in_a_small_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_run(home / "run", tmp_path / "b", BundleOptions(model="network"))
    opened, folder = open_bundle(bundle), open_folder(bundle)
    test = SelfTest.model_validate(folder.json(SELF_TEST))
    built: list[int] = []
    build = NetworkModel.model

    def counted(model: NetworkModel, state: Arrays) -> OutcomeModel:
        built.append(id(state))
        return build(model, state)

    monkeypatch.setattr(NetworkModel, "model", counted)
    differences = []
    for size, n_parts in ((folder.size, 1), (0, len(test.rows))):
        built.clear()
        with folder.rows(SELF_TEST_ROWS) as rows:
            differences.append(run_self_test(opened.members, opened.facts, test, rows, size))
        assert built
        assert set(np.unique(built, return_counts=True)[1]) == {n_parts}
    assert max(differences) < 1e-6


@pytest.mark.slow  # memory: coverage allocates too
def test_small_tensors_take_little_more_memory_than_their_values(home: Path) -> None:
    file = home / "bundle" / WEIGHTS
    all_tensors(file)
    tracemalloc.start()
    found = all_tensors(file)
    now = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(found) > 100
    assert now < sum(array.nbytes + len(name) for name, array in found.items()) + 400 * len(found)
