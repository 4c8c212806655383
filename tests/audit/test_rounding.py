"""Fits made on a GPU: the rounding of the device, measured by a second fit, is the unit of every difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from connectome_tl.audit.compared import compared
from connectome_tl.audit.rounding import noise_between, same_state
from connectome_tl.training.checkpoint import FitResult

SIZES = {"state/0/3/trunk.weight": (40, 25), "state/0/3/before_norm.bias": (8,), "state/0/3/head.bias": (1,)}


def fitted(rng: np.random.Generator, base: FitResult | None = None, rounding: float = 1e-6) -> FitResult:
    """A fit, or `base` with other rounding; what only rounding determines (a bias before a norm) is new each time."""
    if base is None:
        arrays = {name: rng.normal(size=size).astype(np.float32) for name, size in SIZES.items()}
        arrays["state/0/3/head.bias"] *= np.float32(0.02)
        arrays["features/mean"] = rng.normal(size=5)
        return FitResult("k", "finetune", frozenset("ab"), ("delay",), arrays=arrays, curve=np.array([0.7, 0.6, 0.4]))
    arrays = {
        name: value if name.startswith("features") else value * (1 + rounding * rng.normal(size=value.shape))
        for name, value in base.arrays.items()
    }
    noise = 0.03 * rng.normal(size=8)
    arrays["state/0/3/before_norm.bias"] = noise.astype(np.float32)
    return replace(base, arrays=arrays, curve=base.curve * (1 + rounding * rng.normal(size=3)))


def moved(fit: FitResult, name: str, by: float) -> FitResult:
    return replace(fit, arrays={**fit.arrays, name: fit.arrays[name] + by})


def test_two_hundred_repetitions_are_not_accused() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        first = fitted(rng, fitted(rng))
        twin, other = fitted(rng, first), fitted(rng, first)
        assert same_state(first, other, exactly=False, twin=twin)


def test_a_small_array_that_moved_is_found_although_all_weights_together_hardly_did() -> None:
    rng = np.random.default_rng(6)
    first = fitted(rng, fitted(rng))
    twin = fitted(rng, first)
    leak = moved(fitted(rng, first), "state/0/3/head.bias", 0.01)
    assert same_state(first, leak, exactly=False)  # the share of all weights
    assert not same_state(first, leak, exactly=False, twin=twin)


@pytest.mark.parametrize("change", ["weights", "curve", "nan", "shape", "processor"])
def test_what_rounding_does_not_explain_is_found(change: str) -> None:
    rng = np.random.default_rng(7)
    first = fitted(rng, fitted(rng))
    twin, other = fitted(rng, first), fitted(rng, first)
    name = "state/0/3/trunk.weight"
    changed = {
        "weights": moved(other, name, 3e-3),
        "curve": replace(other, curve=other.curve * 1.003),
        "nan": moved(other, name, np.nan),
        "shape": replace(other, arrays={**other.arrays, name: other.arrays[name][:39]}),
        "processor": moved(other, "features/mean", 1e-12),
    }[change]
    assert same_state(first, other, exactly=False, twin=twin)
    assert not same_state(first, changed, exactly=False, twin=twin)


def test_a_device_that_repeats_to_the_last_bit_has_next_to_no_room() -> None:
    rng = np.random.default_rng(8)
    first = fitted(rng)
    assert same_state(first, first, exactly=False, twin=first)
    assert not same_state(first, moved(first, "state/0/3/trunk.weight", 1e-4), exactly=False, twin=first)


def test_the_noise_of_a_device_is_that_of_the_median_array() -> None:
    rng = np.random.default_rng(9)
    first = fitted(rng, fitted(rng))
    assert noise_between(first, first) == 0
    assert 0 < noise_between(first, fitted(rng, first)) < 1e-4
    loud = {name: value * 1.05 if name.startswith("state") else value for name, value in first.arrays.items()}
    assert noise_between(first, replace(first, arrays=loud)) == pytest.approx(0.05, rel=1e-3)


def test_recorded_scores_beyond_the_rounding_of_the_device_are_a_warning() -> None:
    rows = {"task": "delay", "model": "full", "repeat": 0, "fold": 0, "subject": [f"s{k}" for k in range(20)]}
    again = pd.DataFrame({**rows, "y_score": np.linspace(0.1, 0.9, 20), "y_pred": 0.0})
    spread = float(again["y_score"].std())
    for share, status in ((0.0, "passed"), (5e-5, "passed"), (5e-3, "warning"), (0.05, "failed")):
        recorded = again.assign(y_score=again["y_score"] + share * spread * np.eye(20)[4])
        assert compared("c", again, recorded, rounding=1e-5).status == status
    assert (
        compared("c", again, again.assign(y_score=again["y_score"] + 5e-3 * spread * np.eye(20)[4])).status == "passed"
    )
