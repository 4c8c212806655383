"""Average networks with as many from random weights, weighted by held-out likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from connectome_tl.tasks import Task
from connectome_tl.training.context import Context
from connectome_tl.training.fitted_models import NetworkModel
from connectome_tl.training.networks.outputs import columns_of, losses
from connectome_tl.training.networks.setting import Setting, State
from connectome_tl.training.plans import RANDOM

TRANSFERRED = "transferred"
_POWER = 0.5  # of the likelihood: a few dozen rows must not decide between two ensembles


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of one fit and their averages.

    Attributes:
        states: parameters, by "network/step". shares: weights of the states, by outcome.
        held_out: (n_rows, n_columns) predictions of training rows by networks that were trained without them.
        transferred: by outcome, the total weight of the networks from transferred weights.
    """

    states: Mapping[str, State]
    shares: Mapping[str, Mapping[str, float]]
    held_out: np.ndarray
    transferred: Mapping[str, float] = field(default_factory=dict)


def average_with_random(
    setting: Setting, context: Context, parts: Sequence[np.ndarray], networks: Networks
) -> Networks:
    """The networks together with those from random weights that are a parent of the plan, if any.

    The odds of the plan's own networks are the likelihood ratio of the held-out rows to the power of one half. They
    are near 1 if few rows are known, and near 0 if the earlier stages made the predictions worse. Held-out
    predictions of a part are averaged with weights from the other parts, so that they do not depend on the part's
    outcomes. In the control without earlier stages, the plan's own networks start from random weights as well.

    Args:
        parts: row numbers that each network did not see.
    """
    plan = setting.plan
    random = context.parent(plan, RANDOM)
    if random is None:
        return networks
    other = NetworkModel.of(random.arrays, random.plain)
    names = {name: f"{int(name.split('/')[0]) + len(parts)}/{name.split('/')[1]}" for name in other.states}
    other_held_out = np.array([random.held_out[subject] for subject in plan.train.ids])
    truth = outcomes_in_units(setting)
    held_out, shares, own_shares = networks.held_out.copy(), {}, {}
    for t, task in enumerate(setting.tasks):
        place = columns_of(setting.tasks)[task.name]
        one, two = networks.held_out[:, place], other_held_out[:, place]
        share = own_shares[task.name] = share_of(one, two, truth[:, t], task)
        for part in parts:
            rest = np.setdiff1d(np.arange(len(truth)), part)
            own = share_of(one[rest], two[rest], truth[rest, t], task)
            held_out[part, place] = own * one[part] + (1 - own) * two[part]
        mine = {name: share * each for name, each in networks.shares[task.name].items()}
        theirs = {names[name]: (1 - share) * each for name, each in other.shares[task.name].items()}
        shares[task.name] = mine | theirs
    states = {**networks.states, **{names[name]: state for name, state in other.states.items()}}
    return Networks(states, shares, held_out, {} if setting.parent is None else own_shares)


def outcomes_in_units(setting: Setting) -> np.ndarray:
    """(n_rows, n_tasks) outcomes of the training rows in their units, NaN where missing."""
    plan, cohort = setting.plan, setting.cohort
    return cohort.targets[list(plan.tasks)].to_numpy(float)[cohort.positions(plan.train.labels or plan.train.ids)]


def share_of(transferred: np.ndarray, random: np.ndarray, truth: np.ndarray, task: Task) -> float:
    """Weight of the transferred networks from held-out predictions (n_rows, n_columns) and outcomes (n_rows,)."""
    seen = np.isfinite(truth) & np.isfinite(transferred).all(axis=1) & np.isfinite(random).all(axis=1)
    if not seen.any():
        return 0.5
    sums = [float(losses(one[seen], truth[seen], task).sum()) for one in (transferred, random)]
    if task.form in ("value", "levels"):  # profile likelihood of normal errors with unknown variance
        tiny = 1e-12 * max(*sums, 1e-300)
        sums = [0.5 * float(seen.sum()) * float(np.log(max(one, tiny))) for one in sums]
    return float(expit(_POWER * (sums[1] - sums[0])))
