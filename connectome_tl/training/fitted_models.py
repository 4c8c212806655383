"""Fitted models: `predict` and `embed` for subjects of any compatible cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import InternalError, MissingInputError
from connectome_tl.features.scaling import TargetScaler
from connectome_tl.features.steps import Features, Rows
from connectome_tl.nn.batch import ROWS, Batch
from connectome_tl.nn.devices import device_of_network
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.model import ModelSettings
from connectome_tl.tasks import Task, values_of
from connectome_tl.training.checkpoint import FitResult, FitStore, damaged
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.interface import FittedModel, check_regions
from connectome_tl.training.networks.outputs import columns_of, mixed, predictions_of

_CHUNK, _VOLUMES = 256, 8  # rows predicted at once, without and with volumes
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """One network or the weighted mean of several, at the step chosen on held-out rows for each outcome.

    Attributes:
        settings: settings of the network. sizes: sizes by modality. regions: names of the regions in order.
        states: parameters, by "network/step".
        shares: by outcome, the states whose predictions are averaged, and their weights (sum 1).
        flip_test: average the predictions of each volume and its mirror image.
    """

    settings: ModelSettings
    sizes: Mapping[str, Mapping[str, int]]
    tasks: tuple[Task, ...]
    regions: tuple[str, ...]
    features: Features
    targets: TargetScaler
    states: Mapping[str, Arrays]
    shares: Mapping[str, Mapping[str, float]]
    flip_test: bool = False

    @property
    def heads(self) -> dict[str, int]:
        """Number of outputs of each outcome's head, in order."""
        return {task.name: task.n_outputs for task in self.tasks}

    def model(self, state: Arrays) -> OutcomeModel:
        """A network with this state, in evaluation mode.

        Raises:
            OutputError: parameters that are not those of its settings.
        """
        model = build_model(self.settings, self.sizes, self.heads, values_of(self.tasks))
        try:
            model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        except RuntimeError as error:
            raise damaged(None, "its parameters are not those of its settings") from error
        return model.eval()

    def networks(self, task: str | None = None) -> list[OutcomeModel]:
        """The networks that predict this outcome, in the order of its shares (all, at their first step, if None)."""
        if task is None:
            chosen = [*{name.split("/")[0]: name for name in reversed([*self.states])}.values()][::-1]
        else:
            chosen = [*self.shares[task]]
        return [self.model(self.states[name]) for name in chosen]

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        check_regions(self, cohort)
        return self.predict_rows(self.features.rows(cohort, ids))

    def predict_rows(self, rows: Rows) -> np.ndarray:
        """Predictions (n_subjects, n_columns) from features made by the steps of this model."""
        batch = to_batch(rows).prepared()  # once for all networks
        views = [batch, mirrored(batch)] if self.flip_test and "image" in batch.modalities else [batch]
        places = columns_of(self.tasks)
        found = np.zeros((len(rows.ids), sum(task.n_columns for task in self.tasks)))
        for name, state in self.states.items():
            mine = {task: own[name] / len(views) for task, own in self.shares.items() if name in own}
            if not mine:
                continue
            network = self.model(state)
            for made in (predictions_of(outputs_of(network, view), self.tasks, self.targets) for view in views):
                for task, share in mine.items():
                    found[:, places[task]] += share * made[:, places[task]]
        return found

    def embed(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Concatenated fused embeddings of all networks, (n_subjects, n_networks * fused_width)."""
        check_regions(self, cohort)
        batch = to_batch(self.features.rows(cohort, ids))
        with torch.no_grad():
            return np.concatenate([in_chunks(network, network.embed, batch) for network in self.networks()], axis=1)

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and plain values of the model, the inverse of `of`."""
        arrays, features = self.features.state()
        arrays = {f"features/{name}": value for name, value in arrays.items()}
        arrays |= {"targets/mean": self.targets.mean, "targets/scale": self.targets.scale}
        for name, state in self.states.items():
            arrays |= {f"state/{name}/{parameter}": value for parameter, value in state.items()}
        plain = {
            "features": features,
            "settings": self.settings.model_dump(mode="json"),
            "sizes": [[name, dict(sizes)] for name, sizes in self.sizes.items()],
            "tasks": [task.model_dump(mode="json") for task in self.tasks],
            "regions": list(self.regions),
            "target_ids": list(self.targets.ids),
            "shares": {task: dict(own) for task, own in self.shares.items()},
            "states": list(self.states),
            "flip_test": self.flip_test,
        }
        return arrays, plain

    @staticmethod
    def of(arrays: Arrays, plain: Mapping[str, Any]) -> NetworkModel:
        """The inverse of `state`."""
        states = {
            name: {
                key.removeprefix(f"state/{name}/"): value
                for key, value in arrays.items()
                if key.startswith(f"state/{name}/")
            }
            for name in plain["states"]
        }
        fitted = {k.removeprefix("features/"): v for k, v in arrays.items() if k.startswith("features/")}
        return NetworkModel(
            settings=ModelSettings.model_validate(plain["settings"]),
            sizes=dict(plain["sizes"]),
            tasks=tuple(Task.model_validate(task) for task in plain["tasks"]),
            regions=tuple(plain["regions"]),
            features=Features.of(fitted, plain["features"]),
            targets=TargetScaler(arrays["targets/mean"], arrays["targets/scale"], tuple(plain["target_ids"])),
            states=states,
            shares=plain["shares"] if "shares" in plain else _equal_shares(plain["step"], states),
            flip_test=plain["flip_test"],
        )


def _equal_shares(step: Mapping[str, int], states: Iterable[str]) -> dict[str, dict[str, float]]:
    """Shares of a bundle from before averages of two ensembles, which names the step of each outcome."""
    names = {task: [name for name in states if name.endswith(f"/{at}")] for task, at in step.items()}
    return {task: dict.fromkeys(own, 1 / len(own)) for task, own in names.items()}


@dataclass(frozen=True, eq=False)
class MixtureModel:
    """`(1 - weight) core + weight network`, a weight per outcome."""

    core: FittedModel
    network: FittedModel
    weights: Mapping[str, float]

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.core.tasks

    @property
    def regions(self) -> tuple[str, ...]:
        return self.core.regions

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        return self.mix(self.core.predict(cohort, ids), self.network.predict(cohort, ids))

    def mix(self, core: np.ndarray, network: np.ndarray) -> np.ndarray:
        """Weighted mean of both predictions, (n_subjects, n_columns)."""
        found = core.copy()
        for task in self.tasks:
            place = columns_of(self.tasks)[task.name]
            found[:, place] = mixed(core[:, place], network[:, place], self.weights[task.name], task)
        return found

    def embed(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        return self.network.embed(cohort, ids)


Finder = Callable[[str], FitResult]


def fitted_model(result: FitResult, find: Finder | None = None) -> FittedModel:
    """The model of a finished fit.

    Args:
        find: returns a fit by its key; needed for the parts of a mixture and for the source of a core.

    Raises:
        InternalError: the fit did not keep its state.
        OutputError: its state is not that of a fit.
    """
    if not result.plain:
        raise InternalError("this fit did not keep its state", remedy="Plan it with keep=True.")
    try:
        return _model_of(result, find)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise damaged(None, f"{result.key}: {error!r}") from error


def _model_of(result: FitResult, find: Finder | None) -> FittedModel:
    if result.stage == "mixture":
        if find is None:
            raise InternalError("a mixture needs the fits it is made of")
        core, network = (fitted_model(find(result.plain[name]), find) for name in ("core", "network"))
        return MixtureModel(core, network, result.plain["weights"])
    if result.stage in ("core", "source"):
        source_key = result.plain["source"]
        if source_key is not None and find is None:
            raise InternalError("a core needs the source core that it was fitted with")
        source = find(source_key) if source_key is not None and find is not None else None
        of_source = None if source is None else CoreModel.of(source.arrays, source.plain)
        return CoreModel.of(result.arrays, result.plain, of_source)
    return NetworkModel.of(result.arrays, result.plain)


def stored_model(store: FitStore, key: str) -> FittedModel:
    """The model of a stored fit, including the fits that it consists of.

    Raises:
        MissingInputError, OutputError: as `stored_fit`.
    """
    return fitted_model(stored_fit(store, key), lambda wanted: stored_fit(store, wanted))


def stored_fit(store: FitStore, key: str) -> FitResult:
    """A stored fit with its arrays.

    Raises:
        MissingInputError: the store lacks the fit or its arrays. OutputError: the stored fit is damaged.
    """
    found = store.load(key, state=True)
    if found is None:
        raise MissingInputError(
            f"the fit {key} or its arrays are missing",
            file=store.folder,
            remedy="Run the study again: fits of another version of this package or its libraries are not used.",
        )
    return found


def to_batch(rows: Rows) -> Batch:
    """Features as tensors."""
    modalities = {}
    for name, arrays in rows.arrays.items():
        # Copy only read-only arrays, since edges are the largest part of the memory of a fit.
        tensors = {key: torch.from_numpy(np.require(value, requirements="W")) for key, value in arrays.rows.items()}
        constants = {key: torch.from_numpy(np.array(value)) for key, value in arrays.constants.items()}
        modalities[name] = ROWS[name](**tensors, **constants, **arrays.shared)
    return Batch(modalities, {name: torch.from_numpy(np.array(arrays.present)) for name, arrays in rows.arrays.items()})


def outputs_of(model: OutcomeModel, batch: Batch) -> np.ndarray:
    """(n, n_outputs) of all heads."""
    return in_chunks(model, model, batch)


def embeddings_of(model: OutcomeModel, batch: Batch) -> np.ndarray:
    """(n, fused_width) fused embeddings."""
    return in_chunks(model, model.embed, batch)


def in_chunks(model: OutcomeModel, apply: Callable[[Batch], torch.Tensor], batch: Batch) -> np.ndarray:
    """Apply the model to a batch in parts, on the device of its weights."""
    size = _VOLUMES if "image" in batch.modalities else _CHUNK
    device = device_of_network(model)
    parts = [batch] if len(batch) <= size else [batch.rows(at) for at in torch.arange(len(batch)).split(size)]
    with torch.no_grad():
        found = [apply(part if device.type == "cpu" else part.to(device)) for part in parts]
    return torch.cat(found).double().cpu().numpy()


def mirrored(batch: Batch) -> Batch:
    """The batch with its volumes mirrored from left to right."""
    return batch.with_image(replace(batch.image, volume=batch.image.volumes.flip(2), where=None, source=None))
