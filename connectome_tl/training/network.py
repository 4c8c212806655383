"""Fitters of the three stages of the network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, DivergedError, InternalError
from connectome_tl.features.scaling import TargetScaler
from connectome_tl.features.steps import Features
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.branch import Branch
from connectome_tl.nn.losses import Outcomes, row_losses
from connectome_tl.nn.model import OutcomeModel, build_model, part_of
from connectome_tl.provenance import content_hash
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Ensemble, Training
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.fitted import NetworkModel, outputs_of, to_batch
from connectome_tl.training.loop import Pool, has_settled, train
from connectome_tl.training.objectives.objective import PROBE, SOURCE, TRAIN, Objective, ObjectiveSizes
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.objectives.table import build_objective
from connectome_tl.training.outputs import columns_of, predictions_of
from connectome_tl.training.plans import FitPlan, RowSet
from connectome_tl.training.probe import probe
from connectome_tl.training.volumes import Work, augmentation
from connectome_tl.training.weights import start_from_files

State = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all networks of one fit share."""

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

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes({task.name: task.kind for task in self.tasks}, self.heads)

    @property
    def model(self) -> ModelSettings:
        if self.plan.model is None:
            raise InternalError("a network needs model settings")
        return self.plan.model

    @property
    def training(self) -> Training:
        if self.plan.training is None:
            raise InternalError("a network needs training settings")
        return self.plan.training

    def supervised(self, rows: np.ndarray) -> Supervised:
        """The loss of the heads; classes are weighted by their frequency among these training rows if asked for."""
        positives = {}
        if self.training.class_weights == "balanced":
            for t, task in enumerate(self.tasks):
                known = self.goal[rows, t][torch.isfinite(self.goal[rows, t])]
                if task.is_binary and len(known) and 0 < float(known.mean()) < 1:
                    positives[task.name] = float(known.mean())
        return Supervised(self.outcomes, self.training, positives)

    def fresh(self, number: int) -> tuple[OutcomeModel, frozenset[str]]:
        """A network with random weights but for those that the parent gives, and the names of these."""
        torch.manual_seed(_seed(self.plan, "weights", number))
        model = build_model(self.model, self.sizes, self.heads)
        start_from_files(model, self.model.branches)
        return model, frozenset() if self.parent is None else _carry(model, self.parent, self.plan)


def fit_supervised(plan: FitPlan, context: Context) -> FitResult:
    """Stage 1 on the source, or stage 3 on the target: heads of all outcomes, missing ones masked."""
    setting = _set_up(plan, context)
    if plan.inner:
        return _ensemble(setting, context)
    model, carried = setting.fresh(0)
    objective = setting.supervised(np.arange(len(setting.batch)))
    curve = _trained(setting, model, objective, carried, {TRAIN: Pool(setting.batch, setting.goal)}, context)
    step = setting.training.steps_for(len(setting.batch))
    states = {f"0/{step}": _state(model)}
    return _result(setting, context, states, dict.fromkeys(setting.heads, step), curve, _unsettled(curve))


def fit_adaptation(plan: FitPlan, context: Context) -> FitResult:
    """Stage 2: an objective without outcomes on the pool; heads move only where the source is replayed.

    A probe before and after says what the embedding tells of the pool's ages and the source's outcomes.
    """
    setting = _set_up(plan, context)
    if plan.objective is None:
        raise InternalError("an adaptation needs an objective")
    model, carried = setting.fresh(0)
    widths = {name: branch.width for name, branch in model.branches.items() if isinstance(branch, Branch)}
    objective = build_objective(plan.objective, ObjectiveSizes(setting.sizes, widths, setting.outcomes))
    ages = setting.cohort.age[setting.cohort.positions(plan.train.ids)].astype(float)
    pools = {TRAIN: Pool(setting.batch, _scaled_ages(ages) if plan.objective.needs_age else None)}
    probed = [("pool", setting.batch, {"age": ages})]
    for role, rows in plan.others:
        if role in (SOURCE, PROBE):
            probed.append(("source", *_for_probe(setting, rows, context)))
        if role != PROBE:
            pools[role] = _other_pool(setting, role, rows, context)
    modality = plan.objective.modality
    before = [probe(model, batch, outcomes, modality) for _, batch, outcomes in probed]
    curve = _trained(setting, model, objective, carried, pools, context)
    step = setting.training.steps_for(len(setting.batch))
    states = {f"0/{step}": _state(model)}
    result = _result(setting, context, states, dict.fromkeys(setting.heads, step), curve, _unsettled(curve))
    for (whose, batch, outcomes), scores in zip(probed, before, strict=True):
        for when, found in (("before", scores), ("after", probe(model, batch, outcomes, modality))):
            result.facts.update({f"probe {when}, {whose}, {name}, {metric}": v for (name, metric), v in found.items()})
    return result


def _scaled_ages(ages: np.ndarray) -> Tensor:
    """(n, 1) ages of the rows in units of their own mean and standard deviation, NaN where unknown."""
    known = ages[np.isfinite(ages)]
    if not len(known):
        raise DataError("no age of the pool is known, and adaptation was to predict it")
    spread = float(known.std()) or 1.0
    return torch.from_numpy(((ages - known.mean()) / spread).astype(np.float32))[:, None]


def _other_pool(setting: _Setting, role: str, rows: RowSet, context: Context) -> Pool:
    """Rows of another cohort, in the fit's own features; of another atlas, in those of the stage before."""
    other, features = context.cohort(rows.cohort), setting.features
    if other.regions != setting.cohort.regions and setting.parent is not None:
        features = NetworkModel.of(setting.parent.arrays, setting.parent.plain).features
    batch = to_batch(features.rows(other, rows.ids)).prepared()
    labels = rows.labels or rows.ids
    return Pool(batch, _goal(other, labels, setting.tasks, setting.scaler) if role == SOURCE else None)


def _for_probe(setting: _Setting, rows: RowSet, context: Context) -> tuple[Batch, dict[str, np.ndarray]]:
    """The source as the stage before saw it, and the outcomes that it learnt, classes without an order left out."""
    if setting.parent is None:
        raise InternalError("only a stage with a stage before can be probed")
    other = context.cohort(rows.cohort)
    known = NetworkModel.of(setting.parent.arrays, setting.parent.plain)
    outcomes = _outcomes(other, rows.labels or rows.ids, setting.tasks)
    named = {task.name: outcomes[:, t] for t, task in enumerate(setting.tasks) if task.kind != "multiclass"}
    return to_batch(known.features.rows(other, rows.ids)).prepared(), named


def _ensemble(setting: _Setting, context: Context) -> FitResult:
    """One network per inner part, trained without it; held-out rows choose the step of each outcome."""
    plan, place = setting.plan, {subject: i for i, subject in enumerate(setting.plan.train.ids)}
    n_rows, tasks = len(setting.batch), setting.tasks
    parts = [np.array([place[subject] for subject in part], dtype=int) for part in plan.inner]
    # Parts may differ by a row or two; all networks take the same steps.
    total = setting.training.steps_for(n_rows - min(map(len, parts)))
    steps = Ensemble(checkpoints=plan.checkpoints).steps_at(total)
    looks = [_HeldOut(setting, steps, part) for part in parts]
    curves = [_member(setting, look, number, total, context) for number, look in enumerate(looks)]
    loss = np.full((len(steps), n_rows, len(tasks)), np.nan)
    out = np.full((len(steps), n_rows, sum(task.n_columns for task in tasks)), np.nan)
    for look in looks:
        loss[:, look.part], out[:, look.part] = look.loss, look.out
    seen = np.isfinite(loss)
    mean = np.where(seen, loss, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    best = {task.name: steps[int(mean[:, t].argmin())] for t, task in enumerate(tasks)}
    chosen = sorted(set(best.values()))
    states = {f"{number}/{step}": look.states[step] for number, look in enumerate(looks) for step in chosen}
    held_out = np.full(out.shape[1:], np.nan)
    for task in tasks:
        where = columns_of(tasks)[task.name]
        held_out[:, where] = out[steps.index(best[task.name])][:, where]
    late = [name for name, step in best.items() if step == total and total > 0]
    notes = (f"still improving at the last step: {', '.join(late)}",) if late else ()
    length = max(map(len, curves))
    curve = np.array([np.pad(one, (0, length - len(one)), constant_values=np.nan) for one in curves])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no network came as far
        mean_curve = np.nanmean(curve, axis=0)
    result = _result(setting, context, states, best, mean_curve, notes)
    result.held_out.update(dict(zip(plan.train.ids, held_out, strict=True)))
    result.facts.update({f"steps {name}": float(step) for name, step in best.items()})
    return result


class _HeldOut:
    """Loss, predictions and weights at the checkpoints of one network, of the rows that it does not see.

    Training stops early where every outcome was predicted best in the first quarter of the steps taken; what
    would have come later is taken to be as it is then.
    """

    def __init__(self, setting: _Setting, steps: Sequence[int], part: np.ndarray) -> None:
        self.setting, self.steps, self.part = setting, tuple(steps), part
        at = torch.from_numpy(part)
        self.batch, self.goal = setting.batch.rows(at), setting.goal[at].double()
        n_columns = sum(task.n_columns for task in setting.tasks)
        self.loss = np.full((len(steps), len(part), len(setting.tasks)), np.nan)
        self.out = np.full((len(steps), len(part), n_columns), np.nan)
        self.states: dict[int, State] = {}

    def look(self, model: OutcomeModel, step: int) -> bool:
        """Record a checkpoint; whether training may stop."""
        at = self.steps.index(step)
        outputs = outputs_of(model, self.batch)
        loss = row_losses(torch.from_numpy(outputs), self.goal, self.setting.outcomes).numpy()
        loss = np.where(np.isfinite(self.goal.numpy()), loss, np.nan)
        out, state = predictions_of(outputs, self.setting.tasks, self.setting.scaler), _state(model)
        self.loss[at:], self.out[at:] = loss, out
        self.states.update(dict.fromkeys(self.steps[at:], state))
        seen = np.isfinite(self.loss[: at + 1])
        mean = np.where(seen, self.loss[: at + 1], 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        best = np.array(self.steps)[mean.argmin(axis=0)]
        return step > 0 and bool((best * 4 <= step).all())


def _member(setting: _Setting, held: _HeldOut, number: int, total: int, context: Context) -> np.ndarray:
    """Train one network without the rows that `held` looks at; its training curve."""
    plan = setting.plan
    model, carried = setting.fresh(number)
    others = torch.from_numpy(np.setdiff1d(np.arange(len(setting.batch)), held.part))
    pool = {TRAIN: Pool(setting.batch.rows(others), setting.goal[others])}
    torch.manual_seed(_seed(plan, "noise", number))
    return train(
        model,
        setting.supervised(others.numpy()),
        pool,
        setting.training.model_copy(update={"steps": total}),
        np.random.default_rng(_seed(plan, "batches", number)),
        carried=carried,
        work=_work(plan, number),
        watched=held.steps,
        watch=lambda step: held.look(model, step),
        hook=context.hook,
    )


def _set_up(plan: FitPlan, context: Context) -> _Setting:
    cohort = context.cohort(plan.train.cohort)
    parent = context.parent(plan, "stage")
    features = context.features(plan, cohort)
    if plan.transfer.scaling == "parent" and parent is not None:
        features = features.with_steps_of(NetworkModel.of(parent.arrays, parent.plain).features)
    batch = to_batch(features.rows(cohort, plan.train.ids)).prepared()
    if plan.stage == "adapt" and parent is not None:
        known = NetworkModel.of(parent.arrays, parent.plain)
        tasks, scaler, heads = known.tasks, known.targets, dict(known.heads)
        goal = torch.zeros((len(batch), 0))
    else:
        tasks = tuple(cohort.task(name) for name in plan.tasks)
        raw = _outcomes(cohort, plan.train.labels or plan.train.ids, tasks)
        scaler = TargetScaler.fit(raw, tasks, plan.train.ids)
        goal = torch.from_numpy(scaler.apply(raw).astype(np.float32))
        heads = {task.name: task.n_outputs for task in tasks}
    sizes = {name: modality.sizes for name, modality in batch.modalities.items()}
    if plan.stage == "adapt" and parent is not None:
        # What the pool lacks is handed on as it is.
        sizes = {name: dict(size) for name, size in known.sizes.items()} | sizes
    return _Setting(plan, cohort, features, batch, tasks, scaler, goal, sizes, heads, parent)


def _outcomes(cohort: Cohort, ids: Sequence[str], tasks: Sequence[Task]) -> np.ndarray:
    return cohort.targets[[task.name for task in tasks]].to_numpy(dtype=float)[cohort.positions(ids)]


def _goal(cohort: Cohort, ids: Sequence[str], tasks: Sequence[Task], scaler: TargetScaler) -> Tensor | None:
    """Scaled outcomes of other rows, where their cohort has the outcomes."""
    known = {task.name for task in cohort.tasks}
    if not tasks or not all(task.name in known for task in tasks):
        return None
    return torch.from_numpy(scaler.apply(_outcomes(cohort, ids, tasks)).astype(np.float32))


def _trained(
    setting: _Setting,
    model: OutcomeModel,
    objective: Objective,
    carried: frozenset[str],
    pools: dict[str, Pool],
    context: Context,
) -> np.ndarray:
    torch.manual_seed(_seed(setting.plan, "noise", 0))
    rng = np.random.default_rng(_seed(setting.plan, "batches", 0))
    work = _work(setting.plan, 0)
    return train(model, objective, pools, setting.training, rng, carried=carried, work=work, hook=context.hook)


def _work(plan: FitPlan, number: int) -> Work:
    """Device, arithmetic and augmentation of one network."""
    if "image" not in plan.modalities:
        return Work(torch.device(plan.device))
    image = plan.features.image
    precision = "float32" if image.precision == "auto" else image.precision
    augment = augmentation(image.augment, _seed(plan, "augmentation", number))
    return Work(torch.device(plan.device), precision, augment)


def _seed(plan: FitPlan, purpose: str, number: int) -> int:
    # The stage's name sets the stages' draws apart; nothing else does, so that a model and its control that
    # share a stage start from the same weights.
    return int(content_hash(plan.seed, plan.stage, purpose, number)[:15], 16)


def _carry(model: OutcomeModel, parent: FitResult, plan: FitPlan) -> frozenset[str]:
    """Take over the parent's weights of the carried parts, where name and shape agree; their names.

    Raises:
        DataError: a branch of the parent does not fit.
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
            "the encoder of the stage before does not fit this cohort",
            got=f"{lost[0]} differs",
            remedy="Use one atlas for all cohorts, or an encoder whose weights are free of it "
            "(model.encoder: node_features: identity, readout: attention, direct: false).",
        )
    model.load_state_dict({**own, **taken})
    return frozenset(taken)


def _state(model: OutcomeModel) -> State:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def _unsettled(curve: np.ndarray) -> tuple[str, ...]:
    return () if has_settled(curve) else ("the training loss was still falling at the last step",)


def _result(
    setting: _Setting,
    context: Context,
    states: dict[str, State],
    step: dict[str, int],
    curve: np.ndarray,
    notes: tuple[str, ...],
) -> FitResult:
    plan = setting.plan
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
        step,
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


def diverged(plan: FitPlan, how: str) -> DivergedError:
    return DivergedError(
        f"training of {plan.label} ({plan.stage}) diverged: {how}",
        remedy="Lower stages.*.training.learning_rate, or check the cohort for extreme values.",
    )
