"""Ensemble within one fit: each network leaves out one inner fold for early stopping."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import row_losses
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.training import Ensemble
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context, check_name
from connectome_tl.training.fitted_models import outputs_of, to_batch
from connectome_tl.training.networks.heads import start_heads
from connectome_tl.training.networks.loop import Pool, train
from connectome_tl.training.networks.outputs import columns_of, predictions_of
from connectome_tl.training.networks.random_start import TRANSFERRED, Networks, average_with_random
from connectome_tl.training.networks.setting import (
    Setting,
    State,
    outcomes_of,
    result_of,
    seed_of,
    seed_torch,
    state_of,
    work_of,
)
from connectome_tl.training.networks.shrinkage import shrink
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.plans import RowSet


def fit_ensemble(setting: Setting, context: Context) -> FitResult:
    """One network per inner part, trained without it; the step of each outcome is chosen on held-out rows."""
    plan, place = setting.plan, {subject: i for i, subject in enumerate(setting.plan.train.ids)}
    n_rows, tasks = len(setting.batch), setting.tasks
    parts = [np.array([place[subject] for subject in part], dtype=int) for part in plan.inner]
    # Parts may differ by a row or two; all networks have the same number of steps.
    total = setting.training.steps_for(n_rows - min(map(len, parts)))
    steps = Ensemble(checkpoints=plan.checkpoints).steps_at(total)
    tested = None if plan.chosen_by is None else _tested(setting, plan.chosen_by)
    looks = [
        _HeldOut(setting, steps, part, context if number == 0 else None, tested) for number, part in enumerate(parts)
    ]
    curves = [_member(setting, look, number, total, context) for number, look in enumerate(looks)]
    loss = np.full((len(steps), n_rows, len(tasks)), np.nan)
    out = np.full((len(steps), n_rows, sum(task.n_columns for task in tasks)), np.nan)
    for look in looks:
        loss[:, look.part], out[:, look.part] = look.loss, look.out
    mean = _means(loss if tested is None else np.concatenate([look.tested_loss for look in looks], axis=1))
    best = {task.name: steps[int(mean[:, t].argmin())] for t, task in enumerate(tasks)}
    chosen = sorted(set(best.values()))
    # Copies of the dictionaries: a network that stopped early has the same state at all later checkpoints.
    states = {f"{number}/{step}": dict(look.states[step]) for number, look in enumerate(looks) for step in chosen}
    shares = {task: {f"{number}/{step}": 1 / len(looks) for number in range(len(looks))} for task, step in best.items()}
    held_out = np.full(out.shape[1:], np.nan)
    for task in tasks:
        where = columns_of(tasks)[task.name]
        held_out[:, where] = out[steps.index(best[task.name])][:, where]
    slopes = shrink(setting, parts, states, held_out)
    late = [name for name, step in best.items() if step == total and total > 0]
    notes = (f"still improving at the last step: {', '.join(late)}",) if late else ()
    length = max(map(len, curves))
    curve = np.array([np.pad(one, (0, length - len(one)), constant_values=np.nan) for one in curves])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no network reached this step
        mean_curve = np.nanmean(curve, axis=0)
    averaged = average_with_random(setting, context, parts, Networks(states, shares, held_out))
    result = result_of(setting, context, averaged.states, averaged.shares, mean_curve, notes)
    result.held_out.update(dict(zip(plan.train.ids, averaged.held_out, strict=True)))
    result.facts.update({f"{TRANSFERRED} {name}": share for name, share in averaged.transferred.items()})
    result.facts.update({f"steps {name}": float(step) for name, step in best.items()})
    result.facts.update({f"slope {name}": slope for name, slope in slopes.items()})
    for number, losses in enumerate(looks[0].checked):
        result.facts.update({check_name(number, name): value for name, value in losses.items()})
    return result


Rows = tuple[Batch, Tensor]  # features, and scaled outcomes (n_rows, n_tasks) in double precision


def _tested(setting: Setting, rows: RowSet) -> Rows:
    """The tested rows, if the settings choose the step on them."""
    batch = to_batch(setting.features.rows(setting.cohort, rows.ids)).prepared()
    values = setting.scaler.apply(outcomes_of(setting.cohort, rows.ids, setting.tasks))
    return batch, torch.from_numpy(values).double()


def _means(loss: np.ndarray) -> np.ndarray:
    """Means of losses (n_steps, n_rows, n_tasks) over known rows, (n_steps, n_tasks); 0 if none is known."""
    seen = np.isfinite(loss)
    return np.asarray(np.where(seen, loss, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1))


class _HeldOut:
    """Loss, predictions and weights at the checkpoints of one network, for its held-out rows.

    Training stops early if the best step of every outcome is in the first quarter of the steps so far; later
    checkpoints are assumed to equal the last one.

    Args:
        told: context whose `check` is called with the mean loss of each outcome at each checkpoint, if any.
        tested: rows used to choose the step instead, if the settings request this leak.
    """

    def __init__(
        self, setting: Setting, steps: Sequence[int], part: np.ndarray, told: Context | None, tested: Rows | None
    ) -> None:
        self.tested = tested
        self.tested_loss = np.full((len(steps), 0 if tested is None else len(tested[1]), len(setting.tasks)), np.nan)
        self.setting, self.steps, self.part, self.told = setting, tuple(steps), part, told
        self.checked: list[dict[str, float]] = []
        at = torch.from_numpy(part)
        self.batch, self.goal = setting.batch.rows(at), setting.goal[at].double()
        n_columns = sum(task.n_columns for task in setting.tasks)
        self.loss = np.full((len(steps), len(part), len(setting.tasks)), np.nan)
        self.out = np.full((len(steps), len(part), n_columns), np.nan)
        self.states: dict[int, State] = {}

    def look(self, model: OutcomeModel, step: int) -> bool:
        """Record a checkpoint; returns whether training may stop."""
        at = self.steps.index(step)
        outputs = outputs_of(model, self.batch)
        loss = self._losses(outputs, self.goal)
        out, state = predictions_of(outputs, self.setting.tasks, self.setting.scaler), state_of(model)
        self.loss[at:], self.out[at:] = loss, out
        self.states.update(dict.fromkeys(self.steps[at:], state))
        mean = _means(self.loss[: at + 1])
        self._tell(at, mean[at], np.isfinite(self.loss[at]).any(axis=0))
        if self.tested is not None:
            self.tested_loss[at:] = self._losses(outputs_of(model, self.tested[0]), self.tested[1])
            mean = _means(self.tested_loss[: at + 1])
        best = np.array(self.steps)[mean.argmin(axis=0)]
        return step > 0 and bool((best * 4 <= step).all())

    def _losses(self, outputs: np.ndarray, goal: Tensor) -> np.ndarray:
        """(n_rows, n_tasks), NaN where an outcome is unknown."""
        loss = row_losses(torch.from_numpy(outputs), goal, self.setting.outcomes).numpy()
        return np.where(np.isfinite(goal.numpy()), loss, np.nan)

    def _tell(self, at: int, mean: np.ndarray, known: np.ndarray) -> None:
        tasks = self.setting.tasks
        self.checked.append({task.name: float(mean[t]) for t, task in enumerate(tasks) if known[t]})
        if self.told is not None and self.told.check is not None:
            self.told.check(self.setting.plan, at, self.checked[-1])


def _member(setting: Setting, held: _HeldOut, number: int, total: int, context: Context) -> np.ndarray:
    """Train one network without the held-out rows of `held`; returns its training curve."""
    plan = setting.plan
    model, carried = setting.fresh(number)
    others = torch.from_numpy(np.setdiff1d(np.arange(len(setting.batch)), held.part))
    start_heads(model, setting, others.numpy(), carried)
    pool = {TRAIN: Pool(setting.batch.rows(others), setting.goal[others])}
    seed_torch(seed_of(plan, "noise", number))
    return train(
        model,
        setting.supervised(others.numpy()),
        pool,
        setting.training.model_copy(update={"steps": total}),
        np.random.default_rng(seed_of(plan, "batches", number)),
        carried=carried,
        work=work_of(plan, number),
        watched=held.steps,
        watch=lambda step: held.look(model, step),
        hook=context.hook,
    )
