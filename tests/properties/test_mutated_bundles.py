"""A damaged or hostile bundle is refused with exit code 65; nothing is executed, nothing written, memory is bounded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from bundle_mutations import MUTATIONS, SIGNED, UNSIGNED, judged

from connectome_tl.bundle.bundle import open_bundle
from tests.bundle.bundle_study import run_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose fits are networks: their settings and sizes can be attacked, too."""
    from connectome_tl.workflows.bundle import BundleOptions, bundle_run

    folder = tmp_path_factory.mktemp("bundle")
    return bundle_run(run_of(folder), folder / "bundle", BundleOptions(model="network"))


def test_mutants_are_refused_or_are_consistent_bundles(bundle: Path, tmp_path: Path) -> None:
    open_bundle(bundle)  # what is imported on first use is imported
    found = [judged(bundle, seed, tmp_path / "mutant") for seed in range(10 * len(MUTATIONS))]
    wrong = [one for one in found if one.word not in ("refused", "consistent")]
    assert not wrong, wrong[:3]
    counts = Counter((one.mutation, one.word) for one in found)
    for mutation in UNSIGNED:
        assert counts[mutation.__name__, "refused"] == 10
    assert sum(counts[mutation.__name__, "refused"] for mutation in SIGNED) > 5 * len(SIGNED)


def test_memory_stays_below_twice_the_bundle(bundle: Path, tmp_path: Path) -> None:
    open_bundle(bundle)
    for seed in range(2 * len(MUTATIONS)):
        one = judged(bundle, seed, tmp_path / "mutant", memory=True)
        # A bundle of some kilobytes: what parsing and predicting six subjects takes does not shrink with it.
        assert one.memory < 2 * one.size + 2_000_000, one
