"""State shared by the networks of one fit: rows, sizes, initial weights, result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import families_of
from connectome_tl.errors import DataError, DivergedError, InternalError
from connectome_tl.features.scaling import TargetScaler
from connectome_tl.features.steps import Features
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import OutcomeModel, build_model, part_of
from connectome_tl.provenance import content_hash
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.model_table import STAGES, model_named
from connectome_tl.settings.training import Training
from connectome_tl.tasks import Task, values_of
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.core_stage import PREDICTABLE, UNUSED_SOURCE
from connectome_tl.training.fitted_models import NetworkModel, to_batch
from connectome_tl.training.networks.augmentation import augmentation
from connectome_tl.training.networks.loop import Pool, has_settled, train
from connectome_tl.training.networks.volumes import Work, device_of
from connectome_tl.training.networks.weights import start_from_files
from connectome_tl.training.objectives.objective import Objective
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.plans import FitPlan

State = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Setting:
    """State shared by all networks of one fit."""

    plan: FitPlan
    cohort: Cohort
    features: Features
    batch: Batch
    tasks: tuple[Task, ...]
    scaler: TargetScaler
    goal: Tensor
    sizes: dict[str, dict[str, int]]
    heads: dict[str, int]
    parent: FitResult | None
    learnt: bool  # whether the stages before learned anything from the source, or there is none

    @property
    def outcomes(self) -> Outcomes:
        """Kinds of the outcomes and the heads that predict them."""
        return Outcomes({task.name: task.kind for task in self.tasks}, self.heads)

    @property
    def families(self) -> np.ndarray:
        """(n_rows,) family codes of the training rows."""
        return families_of(self.cohort, self.plan.train.ids)

    @property
    def model(self) -> ModelSettings:
        """Settings of the network."""
        if self.plan.model is None:
            raise InternalError("a network needs model settings")
        return self.plan.model

    @property
    def training(self) -> Training:
        """Settings of the training."""
        if self.plan.training is None:
            raise InternalError("a network needs training settings")
        return self.plan.training

    def supervised(self, rows: np.ndarray) -> Supervised:
        """The loss of the heads, optionally with class weights from the frequencies in these training rows."""
        positives = {}
        if self.training.class_weights == "balanced":
            for t, task in enumerate(self.tasks):
                known = self.goal[rows, t][torch.isfinite(self.goal[rows, t])]
                if task.is_binary and len(known) and 0 < float(known.mean()) < 1:
                    positives[task.name] = float(known.mean())
        return Supervised(self.outcomes, self.training, positives)

    def fresh(self, number: int) -> tuple[OutcomeModel, frozenset[str]]:
        """A network with random and transferred weights, and the names of the latter."""
        seed_torch(seed_of(self.plan, "weights", number))
        model = build_model(self.model, self.sizes, self.heads, values_of(self.tasks))
        for t, task in enumerate(self.tasks):
            if task.name in model.soft_heads and self.goal.shape[1]:
                model.soft_heads[task.name].cover(self.goal[:, t])
        model.start(self.batch)
        start_from_files(model, self.model.branches)
        return model, frozenset() if self.parent is None else _carry(model, self.parent, self.plan)


def set_up(plan: FitPlan, context: Context) -> Setting:
    """The state of a fit: features fitted on its training rows, tensors, scaled outcomes, sizes and the parent."""
    cohort = context.cohort(plan.train.cohort)
    parent = context.parent(plan, "stage")
    learnt = parent is None or plan.transfer.unpredictable or bool(parent.facts.get(PREDICTABLE, 1.0))
    if parent is not None and parent.stage == "pretrain" and not learnt:
        parent = None  # as in the control without stage 1
    features = context.features(plan, cohort)
    if plan.transfer.scaling == "parent" and parent is not None:
        features = features.with_steps_of(NetworkModel.of(parent.arrays, parent.plain).features)
    lower = plan.stage != "adapt" and plan.training is not None and plan.training.precision == "bf16"
    batch = to_batch(features.rows(cohort, plan.train.ids)).prepared(torch.bfloat16 if lower else None)
    if plan.stage == "adapt" and parent is not None:
        known = NetworkModel.of(parent.arrays, parent.plain)
        tasks, scaler, heads = known.tasks, known.targets, dict(known.heads)
        goal = torch.zeros((len(batch), 0))
    else:
        tasks = tuple(cohort.task(name) for name in plan.tasks if plan.stage != "adapt")
        raw = outcomes_of(cohort, plan.train.labels or plan.train.ids, tasks)
        scaler = TargetScaler.fit(raw, tasks, plan.train.ids)
        goal = torch.from_numpy(scaler.apply(raw).astype(np.float32))
        heads = {task.name: task.n_outputs for task in tasks}
    sizes = {name: modality.sizes for name, modality in batch.modalities.items()}
    if plan.stage == "adapt" and parent is not None:
        # Parts of modalities that the pool lacks are passed on unchanged.
        sizes = {name: dict(size) for name, size in known.sizes.items()} | sizes
    return Setting(plan, cohort, features, batch, tasks, scaler, goal, sizes, heads, parent, learnt)


def outcomes_of(cohort: Cohort, ids: Sequence[str], tasks: Sequence[Task]) -> np.ndarray:
    """(n_rows, n_tasks) scores that networks learn, see `TaskKind.to_score`."""
    raw = cohort.targets[[task.name for task in tasks]].to_numpy(dtype=float)[cohort.positions(ids)]
    for t, task in enumerate(tasks):
        raw[:, t] = task.spec.to_score(raw[:, t])
    return raw


def goal_of(cohort: Cohort, ids: Sequence[str], tasks: Sequence[Task], scaler: TargetScaler) -> Tensor | None:
    """Scaled outcomes of other rows, if their cohort has the outcomes."""
    known = {task.name for task in cohort.tasks}
    if not tasks or not all(task.name in known for task in tasks):
        return None
    return torch.from_numpy(scaler.apply(outcomes_of(cohort, ids, tasks)).astype(np.float32))


def trained(
    setting: Setting,
    model: OutcomeModel,
    objective: Objective,
    carried: frozenset[str],
    pools: dict[str, Pool],
    context: Context,
    *,
    watched: Iterable[int] = (),
    watch: Callable[[int], bool] | None = None,
) -> np.ndarray:
    """Train one network of a fit in place; returns its training curve, as `train` does."""
    seed_torch(seed_of(setting.plan, "noise", 0))
    return train(
        model,
        objective,
        pools,
        setting.training,
        np.random.default_rng(seed_of(setting.plan, "batches", 0)),
        carried=carried,
        work=work_of(setting.plan, 0),
        watched=watched,
        watch=watch,
        hook=context.hook,
    )


def work_of(plan: FitPlan, number: int) -> Work:
    """Device, precision and augmentation of one network."""
    if "image" not in plan.modalities:
        return Work(torch.device(device_of(plan.device)))
    image = plan.features.image
    precision = "float32" if image.precision == "auto" else image.precision
    augment = augmentation(image.augment, seed_of(plan, "augmentation", number))
    labelled = plan.objective is not None and plan.objective.needs_labels
    return Work(torch.device(device_of(plan.device)), precision, augment, labelled)


def seed_torch(seed: int) -> None:
    """Seed torch's generators. Without an accelerator `torch.manual_seed` records the stack for each absent device."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def seed_of(plan: FitPlan, purpose: str, number: int) -> int:
    """Seed of one purpose (such as initial weights) of network `number`."""
    # Draws depend on the stage's name only, so that a model and its control that share a stage start from the
    # same weights.
    return int(content_hash(plan.seed, plan.stage, purpose, number)[:15], 16)


def _carry(model: OutcomeModel, parent: FitResult, plan: FitPlan) -> frozenset[str]:
    """Copy the parent's weights of the transferred parts if name and shape agree; returns their names.

    Raises:
        DataError: the shapes of a branch of the parent differ.
    """
    known = NetworkModel.of(parent.arrays, parent.plain)
    given = next(iter(known.states.values()))
    own = model.state_dict()
    fresh = {f"heads.{task}" for task in plan.transfer.fresh_heads}

    def wanted(name: str) -> bool:
        part = part_of(name)
        kind = part if part in ("fusion", "heads") else "encoder"
        return kind in plan.transfer.carry and ".".join(name.split(".")[:2]) not in fresh

    taken = {
        name: torch.tensor(value)
        for name, value in given.items()
        if wanted(name) and name in own and own[name].shape == value.shape
    }
    given_parts = {part_of(name) for name in given}
    lost = [
        name
        for name in own
        if name.startswith("branches.") and wanted(name) and part_of(name) in given_parts and name not in taken
    ]
    if lost:
        raise DataError(
            "the encoder of the previous stage does not match this cohort",
            got=f"{lost[0]} differs",
            remedy="Use one atlas for all cohorts, or an encoder that does not depend on the atlas "
            "(model.encoder: node_features: identity, readout: attention, direct: false).",
        )
    model.load_state_dict({**own, **taken})
    return frozenset(taken)


def state_of(model: OutcomeModel) -> State:
    """Copies of all parameters and buffers by name, as NumPy arrays."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def unsettled(curve: np.ndarray, stage: str) -> tuple[str, ...]:
    """A note with a remedy if training has not converged."""
    falling = f"the training loss was still falling at the last step (remedy: more stages.{stage}.training.steps)"
    return () if has_settled(curve) else (falling,)


def result_of(
    setting: Setting,
    context: Context,
    states: Mapping[str, State],
    shares: Mapping[str, Mapping[str, float]],
    curve: np.ndarray,
    notes: tuple[str, ...],
) -> FitResult:
    """The finished fit with its state and the predictions of the requested rows.

    Raises:
        DivergedError: weights or predictions are not finite.
    """
    plan = setting.plan
    if not setting.learnt:
        notes = (*notes, UNUSED_SOURCE)
    if not all(np.isfinite(value).all() for state in states.values() for value in state.values()):
        raise diverged(plan, "weights are not finite")
    fitted = NetworkModel(
        setting.model,
        setting.sizes,
        setting.tasks,
        setting.cohort.regions if "connectome" in setting.features.steps else (),
        setting.features,
        setting.scaler,
        states,
        shares,
        plan.features.image.flip_test,
    )
    arrays, plain = fitted.state()
    predictions: dict[str, np.ndarray] = {}
    if plan.predict and plan.stage != "adapt":
        values = fitted.predict_rows(setting.features.rows(setting.cohort, plan.predict))
        if not np.isfinite(values).all():
            raise diverged(plan, "predictions are not finite")
        predictions = dict(zip(plan.predict, values, strict=True))
    return FitResult(
        key=plan.key,
        stage=plan.stage,
        rows=context.seen(plan) | frozenset(setting.features.ids),
        tasks=tuple(task.name for task in setting.tasks),
        arrays=arrays,
        plain=plain,
        curve=curve,
        predictions=predictions,
        notes=notes,
    )


def result_of_one(setting: Setting, context: Context, model: OutcomeModel, curve: np.ndarray) -> FitResult:
    """`result_of` for a single network after all its steps, with a note if it has not converged."""
    name = f"0/{setting.training.steps_for(len(setting.batch))}"
    shares = {task: {name: 1.0} for task in setting.heads}
    notes = unsettled(curve, setting.plan.stage)
    return result_of(setting, context, {name: state_of(model)}, shares, curve, notes)


def diverged(plan: FitPlan, how: str) -> DivergedError:
    """The error of a fit with numbers that are not finite; its remedy names the setting to change."""
    stage = STAGES[plan.stage]
    where = f"{model_named(plan.label).label} ({stage.lower()})" if plan.label else stage
    remedy = f"Check the {plan.train.cohort} cohort for extreme values."
    if plan.training is not None:
        key = f"stages.{plan.stage}.training.learning_rate"
        remedy = f"Lower {key} (now {plan.training.learning_rate:g}). {remedy}"
    return DivergedError(f"{where}: training diverged, {how}", remedy=remedy)
