"""Wrong arguments of the public functions and settings are answered in plain words, before anything is written."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import connectome_tl
import connectome_tl.errors
from connectome_tl import StudySettings, Task
from connectome_tl.arguments import ArgumentError, checked_arguments
from connectome_tl.errors import UsageError
from connectome_tl.models import SettingsError
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.settings.training import Training

FUNCTIONS = [
    name for name in connectome_tl.__all__ if inspect.isfunction(getattr(connectome_tl, name)) and name != "extend"
]
NOTHING = object()
NO_VALUES: dict[str, Any] = {}


def _arguments() -> list[tuple[str, str]]:
    return [
        (name, parameter)
        for name in FUNCTIONS
        for parameter in inspect.signature(getattr(connectome_tl, name)).parameters
    ]


@pytest.mark.parametrize(("name", "parameter"), _arguments())
def test_every_argument_of_every_public_function_refuses_an_object_of_no_use(
    name: str, parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function: Callable[..., Any] = getattr(connectome_tl, name)
    needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is inspect.Parameter.empty]
    with pytest.raises(ArgumentError, match=f"^{name}: ") as caught:
        function(**{**dict.fromkeys(needed, tmp_path / "nothing"), parameter: NOTHING})
    assert "expected" in str(caught.value)
    assert not list(tmp_path.iterdir())


@checked_arguments
def _takes(path: str | Path, words: Any = (), *, n: int = 1, share: float = 0.5, flag: bool = False) -> tuple[Any, ...]:
    return path, words, n, share, flag


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ArgumentError, match="path is empty"):
        _takes("")
    assert _takes(".")[0] == "."


@pytest.mark.parametrize(
    "wrong", [{"n": True}, {"n": 1.0}, {"n": "1"}, {"share": "1"}, {"share": False}, {"flag": 1}, {"flag": "no"}]
)
def test_numbers_and_truth_values_are_no_texts_and_not_each_other(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"_takes: {next(iter(wrong))} is wrong"):
        _takes("x", **wrong)


def test_numbers_of_numpy_become_those_of_python() -> None:
    numbers: dict[str, Any] = {"n": np.int64(3), "share": np.float32(0.25)}
    _, _, n, share, _ = _takes("x", **numbers)
    assert type(n) is int
    assert share == 0.25


def test_texts_may_come_as_one_text_or_in_an_array(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    for models in ("core", ["core"], np.array(["core"]), pd.Series(["core"])):
        with pytest.raises(connectome_tl.errors.MissingInputError, match="nothing"):
            connectome_tl.explain_run(missing, models=models)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no model is named"):
        connectome_tl.explain_run(missing, models=[])


def test_a_run_in_place_of_its_folder_is_answered_with_the_folder(tmp_path: Path) -> None:
    class Run:
        folder = tmp_path

    with pytest.raises(ArgumentError, match=f"Give its folder: {tmp_path}"):
        connectome_tl.audit_run(Run())  # type: ignore[arg-type]


def test_negative_counts_are_refused() -> None:
    for call in (
        lambda: connectome_tl.simulate_study(seed=-1),
        lambda: connectome_tl.explain_run("x", n_permutations=-1),
        lambda: connectome_tl.explain_run("x", n_refitted=-1),
        lambda: connectome_tl.tune_study("x", "y", trials=0),
        lambda: connectome_tl.build_connectomes("x", "y", n_workers=0),
    ):
        with pytest.raises(ArgumentError, match="a whole number of at least"):
            call()


@pytest.mark.parametrize("name", ["read_cohort", "run_study", "tune_study"])
def test_the_first_argument_may_be_named(name: str, tmp_path: Path) -> None:
    function = getattr(connectome_tl, name)
    needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is inspect.Parameter.empty]
    with pytest.raises(connectome_tl.errors.MissingInputError):
        function(**dict.fromkeys(needed, tmp_path / "nothing.yaml"))


def test_settings_made_in_python_name_every_fault_as_those_of_a_file_do() -> None:
    wrong: dict[str, Any] = {
        "n_seeds": "a",
        "target": {"cohort": "x"},
        "splitz": 3,
        "stages": {"finetune": {"training": {"steps": "x"}}},
    }
    with pytest.raises(SettingsError) as caught:
        StudySettings(**wrong)
    assert [problem.what for problem in caught.value.problems] == [
        "stages.finetune.training.steps: a whole number is needed, or one of auto",
        "n_seeds: a whole number is needed",
        "splitz: unknown key",
    ]
    assert "Did you mean splits?" in str(caught.value)
    assert isinstance(caught.value, (UsageError, ValueError))
    assert "pydantic" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StudySettings(**NO_VALUES), "target: this key is required"),
        (lambda: SplitSettings(outer=1), "outer: "),
        (lambda: Training(learning_rate=float("nan")), "learning_rate: a finite number is needed; got nan"),
        (lambda: Task(name="a b", kind="binary", column="c"), "name: must match"),
        (lambda: Task(name="a", kind="binary", column="c", cutoff=3), "operator and cutoff go together"),
    ],
)
def test_settings_and_outcomes_refuse_single_faults(make: Callable[[], object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make()


def test_paths_in_settings_may_be_path_objects() -> None:
    assert CohortUse(cohort=Path("a") / "b.yaml").cohort == "a/b.yaml"
    assert StudySettings(target=CohortUse(cohort=Path("x"))).target.cohort == "x"
