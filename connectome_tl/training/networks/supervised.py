"""Stages 1 and 3: supervised training of the network."""

from __future__ import annotations

import numpy as np

from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.training.networks.ensemble import fit_ensemble
from connectome_tl.training.networks.heads import start_heads
from connectome_tl.training.networks.loop import Pool
from connectome_tl.training.networks.setting import result_of_one, set_up, trained
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.plans import FitPlan


def fit_supervised(plan: FitPlan, context: Context) -> FitResult:
    """Train stage 1 on the source or stage 3 on the target, with heads for all outcomes; missing outcomes are
    masked.
    """
    setting = set_up(plan, context)
    if plan.inner:
        return fit_ensemble(setting, context)
    model, carried = setting.fresh(0)
    start_heads(model, setting, np.arange(len(setting.batch)), carried)
    objective = setting.supervised(np.arange(len(setting.batch)))
    curve = trained(setting, model, objective, carried, {TRAIN: Pool(setting.batch, setting.goal)}, context)
    result = result_of_one(setting, context, model, curve)
    judge = context.parent(plan, "source")
    if judge is not None:
        result.facts[PREDICTABLE] = judge.facts[PREDICTABLE]
    return result
