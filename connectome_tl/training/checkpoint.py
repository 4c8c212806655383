"""Save and load fits as safetensors and JSON. Nothing that executes code is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.errors import OutputError
from connectome_tl.provenance import content_hash, file_hash, read_json, write_bytes, write_json


@dataclass(frozen=True, eq=False)
class FitResult:
    """One finished fit.

    Attributes:
        key: key of its plan.
        stage: name of the stage.
        rows: ids of all rows that the fit and its parents were fitted on.
        tasks: names of the outcomes, in the order of the columns of the predictions.
        arrays, plain: state of the fitted model (see `training.fitted_models`); empty if not kept.
        curve: training loss, one value per block of steps.
        predictions: outputs (n_columns,) by subject: probabilities, or values in the outcome's unit.
        predicted: hash of the predicted content by subject (`Cohort.input_hashes`).
        held_out: held-out predictions (n_columns,) of training rows, by subject.
        facts: numbers about the fit for the report, by name (weight of the network, best step).
        notes: messages for the report (for example, training that has not converged).
    """

    key: str
    stage: str
    rows: frozenset[str]
    tasks: tuple[str, ...]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    curve: np.ndarray = field(default_factory=lambda: np.zeros(0))
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    predicted: dict[str, str] = field(default_factory=dict)
    held_out: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitStore:
    """Finished fits in one folder, by key; a fit is the unit of resume.

    Attributes:
        below: another store that fits are also read from, and not written to.
    """

    folder: Path
    below: FitStore | None = None

    def has(self, key: str) -> bool:
        """Whether there is a fit of that key."""
        return (self.folder / f"{key}.json").is_file() or (self.below is not None and self.below.has(key))

    def load(self, key: str, *, state: bool) -> FitResult | None:
        """The stored fit of that key, or None. `state=False` leaves the arrays on disk.

        Raises:
            OutputError: the files are damaged, edited or of another fit.
        """
        found = self._own(key, state=state)
        return self.below.load(key, state=state) if found is None and self.below is not None else found

    def _own(self, key: str, *, state: bool) -> FitResult | None:
        record_file = self.folder / f"{key}.json"
        if not record_file.is_file():
            return None
        try:
            record = read_json(record_file)
            result = _result(record)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise damaged(record_file, repr(error)) from error
        except RecursionError as error:
            raise damaged(record_file, "nested too deeply") from error
        if result.key != key:
            raise damaged(record_file, "it is the record of another fit")
        tensor_file = self.folder / f"{key}.safetensors"
        if not state or record["tensors"] is None:
            return None if state and not tensor_file.is_file() else result
        if not tensor_file.is_file():
            return None
        if file_hash(tensor_file) != record["tensors"]:
            raise damaged(tensor_file, "its content is not the saved one")
        result.arrays.update(read_tensors(tensor_file))
        return result

    def save(self, result: FitResult, *, keep_state: bool) -> None:
        """Save a fit: arrays first, then the JSON file, which marks the fit as complete."""
        tensors = None
        if keep_state:
            tensors = file_hash(
                write_bytes(self.folder / f"{result.key}.safetensors", tensor_bytes(result.arrays)),
            )
        record = {
            "key": result.key,
            "stage": result.stage,
            "rows": sorted(result.rows),
            "tasks": list(result.tasks),
            "plain": result.plain if keep_state else {},
            "curve": result.curve.tolist(),
            "predictions": {subject: values.tolist() for subject, values in result.predictions.items()},
            "predicted": result.predicted,
            "held_out": {subject: values.tolist() for subject, values in result.held_out.items()},
            "facts": result.facts,
            "notes": list(result.notes),
            "tensors": tensors,
        }
        write_json(self.folder / f"{result.key}.json", {**record, "content": content_hash(record)})


def _result(record: dict[str, Any]) -> FitResult:
    content = record.pop("content")
    if content != content_hash(record):
        raise ValueError("the record was changed after it was saved")
    predictions = _vectors(record["predictions"])
    if not isinstance(record["tensors"], (str, type(None))) or set(record["predicted"]) != set(predictions):
        raise ValueError("the parts of the record do not match")
    rows = _texts(record["rows"])
    if not rows or len(set(rows)) < len(rows):
        raise ValueError("the rows that the fit has seen are missing or occur twice")
    if not isinstance(record["plain"], dict):
        raise ValueError("the state of the fit is not an object")
    _texts(list(record["predicted"].values()))
    return FitResult(
        key=record["key"],
        stage=record["stage"],
        rows=frozenset(rows),
        tasks=tuple(_texts(record["tasks"])),
        plain=record["plain"],
        curve=np.array(_numbers(record["curve"], missing=True), dtype=float),
        predictions=predictions,
        predicted=dict(record["predicted"]),
        held_out=_vectors(record["held_out"], finite=False),
        facts={name: math.nan if value is None else float(value) for name, value in record["facts"].items()},
        notes=tuple(_texts(record["notes"])),
    )


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("a list of ids, names or notes contains something else")
    return values


def _numbers(values: Any, *, missing: bool) -> list[float | None]:
    allowed = (int, float, type(None)) if missing else (int, float)
    if not isinstance(values, list) or not all(type(value) in allowed for value in values):
        raise ValueError("a prediction or a loss is not a list of numbers")
    return values


def _vectors(record: Mapping[str, Any], *, finite: bool = True) -> dict[str, np.ndarray]:
    """Lists of numbers by subject, all of one length; None represents NaN and is refused if `finite`."""
    found = {subject: np.array(_numbers(values, missing=not finite), dtype=float) for subject, values in record.items()}
    if len({len(values) for values in found.values()}) > 1:
        raise ValueError("predictions differ in length")
    if finite and not all(np.isfinite(values).all() for values in found.values()):
        raise ValueError("a prediction is not a finite number")
    return found


def damaged(file: Path | None, how: str) -> OutputError:
    """The error of a stored fit that cannot be used."""
    return OutputError(
        f"a damaged fit: {how}",
        file=file,
        remedy="Delete the file and run again; it will be fitted again.",
    )


def tensor_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """safetensors bytes, names in order: equal arrays give equal bytes."""
    from safetensors.numpy import save

    return save({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)})


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file that this package wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(file, f"cannot be read as safetensors: {error}") from error
