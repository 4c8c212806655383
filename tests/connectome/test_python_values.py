"""Values that a notebook passes are converted where that is safe, and otherwise refused with what to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from connectome_tl import Connectome, load_atlas, read_connectome, simulate_study
from connectome_tl.errors import ConnectomeTLError, DataError, InternalError, UsageError

NAMES = ("a", "b", "c")
MATRIX = np.array([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]])


def made(
    weights: Any = MATRIX[None], regions: Any = NAMES, measures: Any = ("w",), mask: Any = (True,) * 3
) -> Connectome:
    return Connectome(weights, regions, measures, mask)


@pytest.mark.parametrize(
    "given",
    [
        {"weights": [MATRIX.tolist()]},
        {"weights": MATRIX[None].astype(object)},
        {"weights": np.asarray(pd.DataFrame(MATRIX))[None]},
        {"regions": list(NAMES)},
        {"regions": pd.Index(NAMES)},
        {"regions": np.array(NAMES)},
        {"measures": "w"},
        {"mask": np.ones(3, dtype=bool)},
    ],
)
def test_lists_and_pandas_objects_are_converted(given: dict[str, Any]) -> None:
    found = made(**given)
    assert found.regions == NAMES
    assert found.measures == ("w",)
    assert found.node_mask.dtype == bool
    np.testing.assert_array_equal(found.weights, MATRIX[None])


def test_a_tensor_is_converted() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(made(torch.tensor(MATRIX)[None]).weights, MATRIX[None])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": MATRIX}, "weights\\[None\\]"),
        ({"weights": MATRIX[None] * 1j}, "real part"),
        ({"weights": MATRIX[None].astype(str)}, "does not hold real numbers"),
        ({"weights": np.array([[["a"]]], dtype=object)}, "cannot be read as an array of numbers"),
        ({"regions": ("a", "a", "c")}, "region names occur twice; got a"),
        ({"mask": np.array([1, 1, 0])}, "expected bool"),
        ({"mask": (True,)}, "wrong size or type"),
    ],
)
def test_other_values_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        made(**given)


@pytest.mark.parametrize(("name", "value"), [("layout", "uper"), ("order", "lables")])
def test_an_unknown_choice_is_never_taken_for_another_one(tmp_path: Path, name: str, value: str) -> None:
    pd.DataFrame(MATRIX, index=NAMES, columns=NAMES).to_csv(tmp_path / "x.csv")
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"unknown {name}; expected one of"):
        read_connectome(tmp_path / "x.csv", **wrong)


@pytest.mark.parametrize("atlas", [0, None, load_atlas("aal90")])
def test_an_atlas_is_given_by_its_name(atlas: Any) -> None:
    with pytest.raises(
        UsageError, match=r"name is wrong.*Give its name: 'aal90'" if atlas else "name is wrong"
    ) as caught:
        load_atlas(atlas)
    assert "expected a text" in str(caught.value)


@pytest.mark.parametrize("given", [{"n_target": 0}, {"n_pool": -3}, {"n_source": 10.5}, {"effect": float("nan")}])
def test_impossible_numbers_are_not_simulated(given: dict[str, Any]) -> None:
    with pytest.raises(ConnectomeTLError, match=next(iter(given))):
        simulate_study(**given)


def test_a_cohort_has_the_edges_of_its_regions() -> None:
    cohort = simulate_study(n_source=4, n_pool=4, n_target=4).pool
    for wrong in ({"regions": cohort.regions[:5]}, {"node_mask": cohort.node_mask[:, :5]}):
        with pytest.raises(InternalError, match="wrong shape"):
            replace(cohort, **wrong)
