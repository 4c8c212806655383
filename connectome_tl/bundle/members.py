"""Convert the fits of a bundle to tensors and JSON and back. A bundle predicts the mean of its fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.steps import Features
from connectome_tl.tasks import Task
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.networks.outputs import columns_of

Arrays = dict[str, np.ndarray]
Plain = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Members:
    """Fits whose predictions are averaged.

    Attributes:
        models: fits of all tasks, or of some of them (single-task fits).
        tasks: tasks in the order of the columns.
    """

    models: tuple[FittedModel, ...]
    tasks: tuple[Task, ...]

    def predict_each(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Predictions of every fit, (n_models, n_subjects, n_columns), NaN for outcomes that it lacks."""
        places, width = columns_of(self.tasks), sum(task.n_columns for task in self.tasks)
        found = np.full((len(self.models), len(ids), width), np.nan)
        for number, model in enumerate(self.models):
            own, values = columns_of(model.tasks), model.predict(cohort, ids)
            for task in model.tasks:
                found[number, :, places[task.name]] = values[:, own[task.name]]
        return found

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Mean predictions over the fits, (n_subjects, n_columns)."""
        return mean_of(self.predict_each(cohort, ids))

    def features(self) -> Iterator[Features]:
        """The feature steps of every part that was fitted on the target cohort."""
        for model in self.models:
            yield from _features(model)


def mean_of(each: np.ndarray) -> np.ndarray:
    """Mean over the fits that have an outcome, (n_subjects, n_columns); NaN if none has it."""
    known = np.isfinite(each)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, each, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _features(model: FittedModel) -> Iterator[Features]:
    if isinstance(model, MixtureModel):
        yield from _features(model.core)
        yield from _features(model.network)
    elif isinstance(model, (CoreModel, NetworkModel)):
        yield model.features


def packed(models: Sequence[FittedModel]) -> tuple[Arrays, Plain]:
    """Convert all fits to named tensors and plain JSON; shared source cores are stored once.

    Raises:
        DataError: a type of model that is not supported.
    """
    arrays: Arrays = {}
    sources: dict[str, CoreModel] = {}
    members = [_pack(model, f"fits/{i}", arrays, sources) for i, model in enumerate(models)]
    known = [_core(source, f"sources/{i}", arrays, None) for i, source in enumerate(sources.values())]
    return arrays, {"sources": known, "fits": members}


def _pack(model: FittedModel, prefix: str, arrays: Arrays, sources: dict[str, CoreModel]) -> Plain:
    if isinstance(model, MixtureModel):
        return {
            "kind": "mixture",
            "weights": [[task, weight] for task, weight in model.weights.items()],
            "core": _pack(model.core, f"{prefix}/core", arrays, sources),
            "network": _pack(model.network, f"{prefix}/network", arrays, sources),
        }
    if isinstance(model, CoreModel):
        number = None
        if model.source is not None:
            key = model.source_key or ""
            sources.setdefault(key, model.source)
            number = list(sources).index(key)
        return _core(model, prefix, arrays, number)
    if isinstance(model, NetworkModel):
        made, plain = model.state()
        arrays |= {f"{prefix}/{name}": value for name, value in made.items()}
        return {"kind": "network", "state": plain}
    raise DataError(f"a bundle cannot contain a model of the type {type(model).__name__}")


def _core(model: CoreModel, prefix: str, arrays: Arrays, source: int | None) -> Plain:
    made, plain = replace(model, source_key=None).state()
    arrays |= {f"{prefix}/{name}": value for name, value in made.items()}
    return {"kind": "core", "state": {**plain, "source": source}}


def unpacked(arrays: Mapping[str, np.ndarray], plain: Mapping[str, Any], tasks: tuple[Task, ...]) -> Members:
    """The inverse of `packed`, without checks (see `bundle.shapes`).

    Raises:
        DataError: state of another form. (Others, such as KeyError, where the content is damaged.)
    """
    sources = [_core_of(one, f"sources/{i}", arrays, []) for i, one in enumerate(plain["sources"])]
    models = tuple(_unpack(one, f"fits/{i}", arrays, sources) for i, one in enumerate(plain["fits"]))
    known = {task.name for model in models for task in model.tasks}
    if not models or known != {task.name for task in tasks}:
        raise DataError("the fits of the bundle do not have its outcomes")
    return Members(models, tasks)


def _unpack(
    plain: Mapping[str, Any], prefix: str, arrays: Mapping[str, np.ndarray], sources: Sequence[CoreModel]
) -> FittedModel:
    kind = plain["kind"]
    if kind == "mixture":
        parts = {name: _unpack(plain[name], f"{prefix}/{name}", arrays, sources) for name in ("core", "network")}
        if not isinstance(parts["core"], CoreModel) or not isinstance(parts["network"], NetworkModel):
            raise DataError("a mixture needs a core and a network")
        return MixtureModel(parts["core"], parts["network"], {str(k): float(v) for k, v in plain["weights"]})
    if kind == "core":
        return _core_of(plain, prefix, arrays, sources)
    if kind == "network":
        return NetworkModel.of(_below(arrays, prefix), plain["state"])
    raise DataError("a fit of unknown kind", expected="mixture, core or network", got=repr(kind)[:40])


def _core_of(
    plain: Mapping[str, Any], prefix: str, arrays: Mapping[str, np.ndarray], sources: Sequence[CoreModel]
) -> CoreModel:
    state = plain["state"]
    number = state["source"]
    if number is not None and (type(number) is not int or not 0 <= number < len(sources)):
        raise DataError("the source core that a core refers to is missing")
    found = CoreModel.of(_below(arrays, prefix), state, None if number is None else sources[number])
    return replace(found, source_key=None if number is None else str(number))


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
