"""Stage 2: adaptation on the pool without outcomes, and linear probes of its effect."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from connectome_tl.cohort.splits import families_of
from connectome_tl.errors import DataError, InternalError
from connectome_tl.nn.branch import Branch
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.training.fitted_models import NetworkModel, to_batch
from connectome_tl.training.networks.loop import Pool
from connectome_tl.training.networks.probe import Probed, Watch
from connectome_tl.training.networks.setting import (
    Setting,
    goal_of,
    outcomes_of,
    result_of_one,
    set_up,
    trained,
)
from connectome_tl.training.objectives.objective import PROBE, SOURCE, TRAIN, ObjectiveSizes
from connectome_tl.training.objectives.table import build_objective
from connectome_tl.training.plans import FitPlan, RowSet


def fit_adaptation(plan: FitPlan, context: Context) -> FitResult:
    """Stage 2: an unsupervised objective on the pool; heads are trained only with source replay.

    Linear probes after shares of the steps score the embedding for the pool's ages and the source's outcomes.
    """
    setting = set_up(plan, context)
    if plan.objective is None:
        raise InternalError("an adaptation needs an objective")
    model, carried = setting.fresh(0)
    widths = {name: branch.width for name, branch in model.branches.items() if isinstance(branch, Branch)}
    labels = setting.batch.image.n_labels if plan.objective.needs_labels else 0
    objective = build_objective(plan.objective, ObjectiveSizes(setting.sizes, widths, setting.outcomes, labels))
    ages = setting.cohort.age[setting.cohort.positions(plan.train.ids)].astype(float)
    pools = {TRAIN: Pool(setting.batch, _scaled_ages(ages) if plan.objective.needs_age else None)}
    probed = [Probed("pool", setting.batch, {"age": ages}, setting.families)]
    for role, rows in plan.others if setting.parent is not None else ():
        if role in (SOURCE, PROBE):
            probed.append(_source(setting, rows, context))
        if role != PROBE:
            pools[role] = _other_pool(setting, role, rows, context)
    step = setting.training.steps_for(len(setting.batch))
    probes = Watch(probed, plan.objective.modality, step)
    watched, watch = probes.steps.values(), partial(probes.look, model)
    curve = trained(setting, model, objective, carried, pools, context, watched=watched, watch=watch)
    result = result_of_one(setting, context, model, curve)
    if plan.parent("stage") is not None:
        result.facts[PREDICTABLE] = float(setting.learnt)
    result.facts.update(probes.facts)
    return result


def _scaled_ages(ages: np.ndarray) -> Tensor:
    """Standardised ages of the rows, (n, 1), NaN where unknown."""
    known = ages[np.isfinite(ages)]
    if not len(known):
        raise DataError("adaptation predicts the age, but no age of the pool is known")
    spread = float(known.std()) or 1.0
    return torch.from_numpy(((ages - known.mean()) / spread).astype(np.float32))[:, None]


def _other_pool(setting: Setting, role: str, rows: RowSet, context: Context) -> Pool:
    """Rows of another cohort in the fit's features or, for another atlas, in those of the previous stage."""
    other, features = context.cohort(rows.cohort), setting.features
    if other.regions != setting.cohort.regions and setting.parent is not None:
        features = NetworkModel.of(setting.parent.arrays, setting.parent.plain).features
    batch = to_batch(features.rows(other, rows.ids)).prepared()
    labels = rows.labels or rows.ids
    return Pool(batch, goal_of(other, labels, setting.tasks, setting.scaler) if role == SOURCE else None)


def _source(setting: Setting, rows: RowSet, context: Context) -> Probed:
    """The source with features of the previous stage, and its outcomes, without multiclass ones."""
    if setting.parent is None:
        raise InternalError("only a stage with a previous stage can be probed")
    other = context.cohort(rows.cohort)
    known = NetworkModel.of(setting.parent.arrays, setting.parent.plain)
    outcomes = outcomes_of(other, rows.labels or rows.ids, setting.tasks)
    named = {task.name: outcomes[:, t] for t, task in enumerate(setting.tasks) if task.form != "classes"}
    batch = to_batch(known.features.rows(other, rows.ids)).prepared()
    return Probed("source", batch, named, families_of(other, rows.ids))
