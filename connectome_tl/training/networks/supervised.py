"""Stages 1 and 3: supervised training of the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context, check_name, checks_of
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.training.networks.ensemble import fit_ensemble
from connectome_tl.training.networks.heads import start_heads
from connectome_tl.training.networks.loop import Pool
from connectome_tl.training.networks.outputs import columns_of, losses
from connectome_tl.training.networks.setting import (
    Setting,
    result_of,
    set_up,
    state_of,
    trained,
    unsettled,
)
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.plans import FitPlan

RANDOM_START = (
    "its networks started from random weights: these predicted held-out training rows better than those of stage 1 "
    "(stages.pretrain.use_if)"
)
_MOST = 400  # families; with more, a second ensemble takes too long


def fit_supervised(plan: FitPlan, context: Context) -> FitResult:
    """Train stage 1 on the source or stage 3 on the target, with heads for all outcomes; missing outcomes are
    masked.
    """
    setting = set_up(plan, context)
    if plan.inner:
        return _better_start(setting, context)
    model, carried = setting.fresh(0)
    start_heads(model, setting, np.arange(len(setting.batch)), carried)
    objective = setting.supervised(np.arange(len(setting.batch)))
    curve = trained(setting, model, objective, carried, {TRAIN: Pool(setting.batch, setting.goal)}, context)
    step = setting.training.steps_for(len(setting.batch))
    states = {f"0/{step}": state_of(model)}
    result = result_of(
        setting, context, states, dict.fromkeys(setting.heads, step), curve, unsettled(curve, setting.plan.stage)
    )
    judge = context.parent(plan, "source")
    if judge is not None:
        result.facts[PREDICTABLE] = judge.facts[PREDICTABLE]
    return result


def _better_start(setting: Setting, context: Context) -> FitResult:
    """The ensemble that starts from stage 1, or the one from random weights if it predicts held-out rows better.

    A source may be predictable and yet of no use for the outcomes of the target. Only held-out training rows tell. All
    outcomes are weighted equally. The networks from random weights are those of the control without earlier stages.
    Networks of volumes always start from stage 1, whose first layers are of use for other outcomes as well.
    """
    plan, parent = setting.plan, setting.parent
    first = fit_ensemble(setting, context)
    if parent is None or not parent.facts.get(PREDICTABLE, 0.0) or plan.transfer.unpredictable:
        return first
    if plan.chosen_by is not None or "image" in plan.modalities or len(np.unique(setting.families)) > _MOST:
        return first
    second = fit_ensemble(replace(setting, parent=None), replace(context, check=None))
    if not _predicts_better(second, first, setting):
        return first
    rest = {name: value for name, value in second.facts.items() if name not in _checks(second)}
    return replace(second, notes=(*second.notes, RANDOM_START), facts=rest | _checks(first))


def _checks(result: FitResult) -> dict[str, float]:
    """Facts with the losses that were reported during training."""
    return {check_name(at, task): loss for at, known in checks_of(result).items() for task, loss in known.items()}


def _predicts_better(one: FitResult, other: FitResult, setting: Setting) -> bool:
    """Whether `one` has the smaller loss of held-out rows, summed over outcomes."""
    ids, places = setting.plan.train.ids, columns_of(setting.tasks)
    at = setting.cohort.positions(setting.plan.train.labels or ids)
    first, second = (np.array([result.held_out[i] for i in ids]) for result in (one, other))
    gain = 0.0
    for task in setting.tasks:
        truth = setting.cohort.targets[task.name].to_numpy(float)[at]
        known, place = np.isfinite(truth), places[task.name]
        of_one, of_other = (losses(side[known][:, place], truth[known], task) for side in (first, second))
        scale = float(truth[known].std()) or 1.0 if task.form == "value" else 1.0
        gain += float((of_other - of_one).mean()) / scale**2 if known.any() else 0.0
    return gain > 0
