"""Prune networks of a finished study on training rows and evaluate them on held-out rows."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.images.study_maps import rows_of
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.provenance import content_hash
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.volume_pruning import PrunedNetwork
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import NetworkModel, stored_model
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.plain import loss_between, network_of, plain_networks, training_loss
from connectome_tl.training.images.pruning import Pruned, prune
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded
from connectome_tl.training.plans import code_version

State = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Goal:
    """Volumes and scaled outcomes of some subjects."""

    rows: VolumeRows
    values: Tensor

    def loss(self, network: nn.Module, task: Task, at: np.ndarray) -> Tensor:
        return training_loss(network, self.rows.batch(at), self.values[at].to(self.rows.device), task)

    def mean_loss(self, network: nn.Module, task: Task) -> float:
        if not len(self.rows):
            return float("nan")
        outputs = in_batches(network.eval(), self.rows.volumes, device=self.rows.device)
        return float(loss_between(outputs, self.values, task))


def pruning_key(
    planned: PlannedFold,
    number: int,
    cohort: Cohort,
    task: Task,
    settings: TaylorPruning,
    *,
    seed: int,
    device: torch.device,
) -> str:
    """Key of a pruned network: hash of everything that `pruned_network` depends on, this code included."""
    rows = cohort.rows_hash((*planned.fold.train, *planned.fold.test))
    own = Path(__file__).read_bytes()
    return content_hash(
        code_version(()), own, planned.plans[0].key, number, rows, task.name, settings, seed, str(device)
    )[:32]


def pruned_network(
    planned: PlannedFold,
    number: int,
    cohort: Cohort,
    image: ImageSettings,
    store: FitStore,
    task: Task,
    settings: TaylorPruning,
    *,
    seed: int,
    device: torch.device,
) -> tuple[PrunedNetwork, State]:
    """One network of a fold, pruned on its training rows, with its weights; `file` is empty.

    Raises:
        UsageError: not a network on volumes alone, or another outcome.
        MissingInputError: the fit is not stored. DataError: nothing, or less than requested, can be pruned.
    """
    plan = planned.plans[0]
    model = network_of(stored_model(store, plan.key))
    network = plain_networks(model, task.name)[number].to(device)
    test = _goal(cohort, planned.fold.test, image, model, task, device)
    own = set(plan.inner[number]) if plan.inner else set()
    train = _goal(cohort, [i for i in planned.fold.train if i not in own], image, model, task, device)
    small, tuned = _pruned(network, train, task, settings, seed)
    record = PrunedNetwork(
        fold=planned.fold_number,
        network=number,
        macs=(small.before.macs, small.after.macs),
        parameters=(small.before.parameters, small.after.parameters),
        seconds=(small.before.seconds, small.after.seconds),
        memory=(small.before.memory, small.after.memory),
        loss=test.mean_loss(network, task),
        tuned_loss=test.mean_loss(tuned, task),
        pruned_loss=test.mean_loss(small.network, task),
        removed=small.removed,
        left_alone=small.left_alone,
        steps=len(small.removals) * settings.between.steps + settings.after.steps,
        file="",
    )
    return record, {name: value.cpu().numpy() for name, value in small.network.state_dict().items()}


def _pruned(
    network: nn.Module, train: _Goal, task: Task, settings: TaylorPruning, seed: int
) -> tuple[Pruned, nn.Module]:
    """The pruned network, and the unpruned one after as many further steps."""

    def loss(one: nn.Module, at: np.ndarray) -> Tensor:
        return train.loss(one, task, at)

    with seeded(seed) as rng:
        small = prune(network, loss, len(train.rows), settings, rng, train.rows.batch(np.arange(1)))
    tuned = copy.deepcopy(network).train()
    # as many training runs as for the pruned network, each with its own optimiser and schedule
    with seeded(seed) as rng:
        for descent in (*[settings.between] * len(small.removals), settings.after):
            descend(tuned.parameters(), lambda at: loss(tuned, at), len(train.rows), descent, rng)
    return small, tuned.eval()


def _goal(
    cohort: Cohort, ids: object, image: ImageSettings, model: NetworkModel, task: Task, device: torch.device
) -> _Goal:
    """Subjects with a volume whose outcome is known."""
    assert isinstance(ids, (list, tuple))
    truth = cohort.targets[task.name].to_numpy(dtype=float)
    known = [i for i, at in zip(ids, cohort.positions(ids), strict=True) if np.isfinite(truth[at])]
    rows = rows_of(cohort, known, image, device)
    values = truth[cohort.positions(rows.ids)]
    t = [one.name for one in model.tasks].index(task.name)
    scaled = (values - model.targets.mean[t]) / model.targets.scale[t]
    return _Goal(replace(rows, ages=values), torch.from_numpy(scaled.astype(np.float32)))
