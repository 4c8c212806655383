"""A stored fit that was damaged, edited or exchanged is an output error and is never used; corrected data are
predicted again without a refit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import plan_of, small_cohorts, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import OutputError
from connectome_tl.provenance import content_hash
from connectome_tl.settings.study import SplitSettings
from connectome_tl.training import fit as fitting
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.plans import FitPlan

COHORTS = small_cohorts()
FOLDS = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0]
FOLD = FOLDS[0]
PLAN = plan_of(FOLD, scheme="network_scratch")
FIRST = FOLD.test[0]


def one(plan: FitPlan, store: FitStore) -> FitResult:
    return fit([plan], COHORTS.by_name(), store=store)[plan.key]


@pytest.fixture
def store(tmp_path: Path) -> FitStore:
    made = FitStore(tmp_path)
    one(PLAN, made)
    return made


def refused(store: FitStore) -> None:
    with pytest.raises(OutputError, match="Delete the file") as caught:
        one(PLAN, store)
    assert caught.value.exit_code == 74


def file_of(store: FitStore, plan: FitPlan = PLAN, suffix: str = ".json") -> Path:
    return store.folder / f"{plan.key}{suffix}"


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda _: b"",
        lambda raw: b"\x93NUMPY" + raw,
        lambda raw: raw + b" 1",
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.decode("latin-1").encode("utf-16"),
    ],
)
def test_a_damaged_file_is_an_output_error(store: FitStore, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    file = file_of(store, suffix=suffix)
    file.write_bytes(damage(file.read_bytes()))
    refused(store)


@pytest.mark.parametrize("text", ["{}", "[]", "null", "3", '{"key": 1, "rows": 2}', "[" * 100_000, '{"a":' * 100_000])
def test_json_of_something_else_is_an_output_error(store: FitStore, text: str) -> None:
    file_of(store).write_text(text)
    refused(store)


@pytest.mark.parametrize("depth", [300, 900, 3000])
def test_json_that_is_nested_deeply_is_an_output_error(store: FitStore, depth: int) -> None:
    record = json.loads(file_of(store).read_text())
    text = json.dumps({**record, "plain": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
    file_of(store).write_text(text)
    refused(store)


def test_an_edited_prediction_is_an_output_error(store: FitStore) -> None:
    text = file_of(store).read_text()
    value = json.loads(text)["predictions"][FIRST][0]
    edited = text.replace(json.dumps(value), json.dumps(1 - value), 1)
    assert edited != text
    file_of(store).write_text(edited)
    refused(store)


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({name: value})


def _first(value: Any, part: str = "predictions") -> Callable[[dict[str, Any]], None]:
    return lambda record: record[part].update({FIRST if part != "held_out" else FOLD.train[0]: value})


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "prediction is NaN": _first([math.nan, 1.0]),
    "prediction is infinite": _first([math.inf, 1.0]),
    "prediction is null": _first([None, 1.0]),
    "prediction is text": _first(["0.5", 1.0]),
    "prediction is true": _first([True, 1.0]),
    "prediction is one number": _first(0.5),
    "prediction is nested": _first([[0.5], [1.0]]),
    "prediction is too short": _first([0.5]),
    "held-out prediction is text": _first(["0.5", 1.0], "held_out"),
    "no rows": _set("rows", []),
    "rows are a text": _set("rows", "target001"),
    "rows are numbers": _set("rows", [1, 2]),
    "predictions are a list": _set("predictions", [0.5]),
    "no record of what was predicted": _set("predicted", {}),
    "another key": _set("key", "0" * 64),
    "tensors are a number": _set("tensors", 3),
    "no tensors": lambda record: record.pop("tensors"),
    "no rows at all": lambda record: record.pop("rows"),
    "facts are text": _set("facts", {"weight cognitive": "all"}),
    "curve is text": _set("curve", ["steep"]),
    "curve is a number": _set("curve", 0.5),
    "a row occurs twice": lambda record: record["rows"].append(record["rows"][0]),
    "a training row is missing": lambda record: record["rows"].remove(FOLD.train[0]),
    "another stage": _set("stage", "core"),
    "outcomes are a text": _set("tasks", "cognitive"),
    "notes are a text": _set("notes", "none"),
    "hashes of predicted rows are numbers": lambda record: record["predicted"].update({FIRST: 1}),
    "state is a list": _set("plain", ["settings"]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_record_that_no_fit_makes_is_an_output_error_even_with_a_right_hash(
    store: FitStore, edit: Callable[[dict[str, Any]], None]
) -> None:
    record = json.loads(file_of(store).read_text())
    record.pop("content")
    edit(record)
    try:
        record["content"] = content_hash(record)
    except ValueError:  # infinity has no canonical form
        record["content"] = "0" * 64
    file_of(store).write_text(json.dumps(record))
    refused(store)


@pytest.mark.parametrize(
    "edit",
    [
        lambda plain: plain.pop("settings"),
        lambda plain: plain.update(tasks=[]),
        lambda plain: plain.update(features={"modalities": [["connectome", {"record": "Path", "fields": {}}]]}),
        lambda plain: plain["settings"]["encoder"].update(kind="unknown"),
    ],
)
def test_a_state_that_no_fit_has_is_an_output_error_when_it_is_used(
    store: FitStore, edit: Callable[[dict[str, Any]], None]
) -> None:
    record = json.loads(file_of(store).read_text())
    record.pop("content")
    edit(record["plain"])
    file_of(store).write_text(json.dumps({**record, "content": content_hash(record)}))
    with pytest.raises(OutputError) as caught:
        stored_model(store, PLAN.key).predict(COHORTS.target, FOLD.test)
    assert caught.value.exit_code == 74


def test_exchanged_fits_are_an_output_error(store: FitStore) -> None:
    other = replace(PLAN, seed=1)
    one(other, store)
    for suffixes in ((".json",), (".safetensors",), (".json", ".safetensors")):
        files = [(file_of(store, PLAN, suffix), file_of(store, other, suffix)) for suffix in suffixes]
        for a, b in files:
            content = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(content)
        refused(store)
        for a, b in files:
            content = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(content)
    one(PLAN, store)


def test_edited_tensors_are_an_output_error(store: FitStore) -> None:
    from safetensors.numpy import load_file, save_file

    file = file_of(store, suffix=".safetensors")
    arrays = load_file(file)
    name = next(name for name in arrays if name.endswith("heads.cognitive.bias"))
    save_file({**arrays, name: arrays[name] + 1}, file)
    refused(store)


def test_missing_tensors_are_fitted_again(store: FitStore) -> None:
    want = file_of(store, suffix=".safetensors").read_bytes()
    file_of(store, suffix=".safetensors").unlink()
    one(PLAN, store)
    assert file_of(store, suffix=".safetensors").read_bytes() == want


def _covariate(cohort: Cohort) -> Cohort:
    table = cohort.covariates.copy()
    table.loc[FIRST, "gestational_age"] = 23.0
    return replace(cohort, covariates=table)


CORRECTIONS: dict[str, Callable[[Cohort], Cohort]] = {
    "matrix": lambda c: with_rows(c, [FIRST], weights=1.3 * c.weights[c.positions([FIRST])]),
    "covariate": _covariate,
}


@pytest.mark.parametrize("scheme", ["full", "network", "core", "network_scratch"])
def test_a_corrected_test_infant_is_predicted_again_without_a_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    plan = plan_of(FOLD, scheme=scheme)
    before = one(plan, FitStore(tmp_path / "before")).predictions
    for name, correct in CORRECTIONS.items():
        store = FitStore(Path(shutil.copytree(tmp_path / "before", tmp_path / name)))
        corrected = COHORTS.with_role("target", correct(COHORTS.target))
        assert plan_of(FOLD, cohorts=corrected, scheme=scheme).key == plan.key
        fresh = fit([plan], corrected.by_name())[plan.key].predictions
        refits: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(fitting, "_fitted", lambda plan, *_, refits=refits: refits.append(plan.key))
            again = fit([plan], corrected.by_name(), store=store)[plan.key].predictions
        assert refits == [], name
        assert not np.allclose(again[FIRST], before[FIRST], rtol=1e-9), name
        np.testing.assert_allclose(again[FIRST], fresh[FIRST], rtol=1e-5)
        assert all((again[subject] == before[subject]).all() for subject in FOLD.test[1:])
        stored = store.load(plan.key, state=False)
        assert stored is not None
        assert (stored.predictions[FIRST] == again[FIRST]).all()


def test_a_corrected_training_infant_is_another_fit() -> None:
    for correct in (
        lambda c: with_rows(c, FOLD.train[:1], weights=1.3 * c.weights[c.positions(FOLD.train[:1])]),
        lambda c: with_rows(c, FOLD.train[:1], age=1.0),
    ):
        corrected = COHORTS.with_role("target", correct(COHORTS.target))
        assert plan_of(FOLD, cohorts=corrected).key != plan_of(FOLD).key
