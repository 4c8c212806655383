"""Mixture of core and network, with weights per outcome chosen on held-out training rows."""

from __future__ import annotations

import numpy as np

from connectome_tl.cohort.splits import families_of
from connectome_tl.errors import InternalError
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.networks.outputs import columns_of, losses, mixed
from connectome_tl.training.plans import FitPlan

WEIGHTS = tuple(round(0.1 * i, 1) for i in range(11))
_GATE = 1.0  # standard errors by which the held-out gain of the network must exceed 0


def fit_mixture(plan: FitPlan, context: Context) -> FitResult:
    """Choose the weight of the network per outcome."""
    core, network = context.parent(plan, "core"), context.parent(plan, "network")
    if core is None or network is None:
        raise InternalError("a mixture needs a core and a network")
    cohort, ids = context.cohort(plan.train.cohort), plan.train.ids
    tasks = tuple(cohort.task(name) for name in plan.tasks)
    truth = cohort.targets[list(plan.tasks)].to_numpy(float)[cohort.positions(plan.train.labels or ids)]
    places = columns_of(tasks)
    weights: dict[str, float] = {}
    gains: dict[str, float] = {}
    for t, task in enumerate(tasks):
        if not network.held_out:
            weights[task.name] = 0.0
            continue
        one, two = (np.array([side.held_out[i][places[task.name]] for i in ids]) for side in (core, network))
        scale = np.nanstd(truth[:, t]) if task.form == "value" else 1.0
        weights[task.name], gains[task.name] = choose_weight(
            one, two, truth[:, t], task, families_of(cohort, ids), float(scale) or 1.0
        )

    def mix(one: dict[str, np.ndarray], two: dict[str, np.ndarray], subjects: tuple[str, ...]) -> dict[str, np.ndarray]:
        found = {}
        for subject in subjects:
            parts = [
                mixed(one[subject][None, places[t.name]], two[subject][None, places[t.name]], weights[t.name], t)[0]
                for t in tasks
            ]
            found[subject] = np.concatenate(parts)
        return found

    return FitResult(
        key=plan.key,
        stage=plan.stage,
        rows=context.seen(plan),
        tasks=plan.tasks,
        plain={"core": core.key, "network": network.key, "weights": weights},
        predictions=mix(core.predictions, network.predictions, plan.predict),
        held_out=mix(core.held_out, network.held_out, ids) if network.held_out else core.held_out,
        facts={f"weight {task}": weight for task, weight in weights.items()}
        | {f"held-out gain {task}": gain for task, gain in gains.items()},
    )


def choose_weight(
    core: np.ndarray, network: np.ndarray, truth: np.ndarray, task: Task, families: np.ndarray, scale: float = 1.0
) -> tuple[float, float]:
    """The weight of the network with the smallest held-out loss, and its gain over the core alone.

    The weight is 0 unless the gain exceeds its standard error over families. Predictions of the core leave out one
    family and those of the network a whole inner part, so that the comparison favours the core.

    Args:
        core, network: held-out predictions, (n_rows, n_columns), NaN where unavailable.
        truth: (n_rows,), NaN where missing. families: (n_rows,) codes. scale: unit of a squared error.
    """
    seen = np.isfinite(truth) & np.isfinite(core).all(axis=1) & np.isfinite(network).all(axis=1)
    if seen.sum() < 4:
        return 0.0, 0.0
    parts = [losses(mixed(core[seen], network[seen], weight, task), truth[seen], task) / scale**2 for weight in WEIGHTS]
    table = np.array(parts)
    best = int(table.mean(axis=1).argmin())
    gain = table[0] - table[best]
    groups = np.unique(families[seen], return_inverse=True)[1]
    summed = np.bincount(groups, weights=gain - gain.mean())
    error = float(np.sqrt((summed**2).sum())) / len(gain)
    passed = best > 0 and float(gain.mean()) > _GATE * error
    return (WEIGHTS[best] if passed else 0.0), float(gain.mean())
