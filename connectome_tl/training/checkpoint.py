"""Fits on disk: safetensors for numbers, JSON for the rest; nothing that runs code on load is ever read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.errors import OutputError
from connectome_tl.provenance import read_json, write_bytes, write_json


@dataclass(frozen=True, eq=False)
class FitResult:
    """One finished fit.

    Attributes:
        key: of its plan.
        rows: the ids every fitted number has seen, those of its parents included.
        state: parameters of the model by name; empty when the plan did not keep them.
        fitted: feature and target scalers by name; empty when not kept.
        fitted_plain: the parts of the scalers that are not arrays (levels, names).
        curve: training loss of each epoch, (n_epochs,).
        predictions: subject to (n_tasks,) outputs: probabilities or values in the outcome's unit.
    """

    key: str
    rows: frozenset[str]
    tasks: tuple[str, ...]
    state: dict[str, np.ndarray]
    fitted: dict[str, np.ndarray]
    fitted_plain: dict[str, Any]
    curve: np.ndarray
    predictions: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class FitStore:
    """Finished fits in one folder, found by key: the unit of resume."""

    folder: Path

    def load(self, key: str, *, state: bool) -> FitResult | None:
        """The stored fit of that key, or None. `state=False` leaves the tensors on disk.

        Raises:
            OutputError: the files are there but damaged.
        """
        record_file = self.folder / f"{key}.json"
        if not record_file.is_file():
            return None
        record = read_json(record_file)
        tensors: dict[str, np.ndarray] = {}
        if state:
            tensor_file = self.folder / f"{key}.safetensors"
            if not tensor_file.is_file():
                return None
            tensors = _read_tensors(tensor_file)
        try:
            return FitResult(
                key=record["key"],
                rows=frozenset(record["rows"]),
                tasks=tuple(record["tasks"]),
                state=_below("state/", tensors),
                fitted=_below("fitted/", tensors),
                fitted_plain=record["fitted_plain"],
                curve=np.array(record["curve"], dtype=float),
                predictions={s: np.array(v, dtype=float) for s, v in record["predictions"].items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(
                f"a damaged fit: {error!r}",
                file=record_file,
                remedy="Delete the file and run again; it will be fitted anew.",
            ) from error

    def save(self, result: FitResult, *, keep_state: bool) -> None:
        """Tensors first, the JSON last: the JSON is the mark that a fit is whole."""
        if keep_state:
            tensors = {f"state/{name}": value for name, value in result.state.items()}
            tensors |= {f"fitted/{name}": value for name, value in result.fitted.items()}
            write_bytes(self.folder / f"{result.key}.safetensors", tensor_bytes(tensors))
        write_json(
            self.folder / f"{result.key}.json",
            {
                "key": result.key,
                "rows": sorted(result.rows),
                "tasks": result.tasks,
                "fitted_plain": result.fitted_plain,
                "curve": result.curve,
                "predictions": result.predictions,
            },
        )


def tensor_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """safetensors bytes, names in order: equal tensors give equal bytes."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)})


def _read_tensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise OutputError(
            f"cannot be read as safetensors: {error}",
            file=file,
            remedy="Delete the file and its .json and run again; it will be fitted anew.",
        ) from error


def _below(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
