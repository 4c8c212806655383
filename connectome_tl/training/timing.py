"""Estimate the CPU time of fits from a few timed ones on the study's own rows.

One fit of each kind is timed: a network twice, with different small numbers of steps, to separate the cost per step
from the fixed cost; a closed-form core once. The fits are not kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.provenance import content_hash
from connectome_tl.settings.training import Training
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.context import Context
from connectome_tl.training.fit import FITTERS, unique_plans
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.threads import one_thread
from connectome_tl.training.work import steps_of

Kind = tuple[str, tuple[str, ...], int, bool, str]
_SHORT, _LONG = 4, 16  # optimiser steps of the two fits that are timed
_COSTLY, _FEW = 15.0, (2, 4)  # CPU seconds of a fit of one step above which fewer steps are timed
_COSTLY_IN_BRIEF = 3.0
_WHOLE = 12.0  # CPU seconds; ensembles up to this time are trained completely, to find the step where they stop
_STOPPED = 0.6  # assumed fraction of the steps of an ensemble if it was not measured


@dataclass(frozen=True)
class FitCost:
    """Cost of a kind of fit in CPU seconds.

    Attributes:
        fixed: cost of a fit without steps. per_step: cost of an optimiser step of all networks of an ensemble.
        taken: share of the steps until early stopping.
        networks: number of networks of the timed ensemble; 1 without an ensemble.
    """

    fixed: float
    per_step: float = 0.0
    taken: float = 1.0
    networks: int = 1


def kind_of(plan: FitPlan) -> Kind:
    """Kind of fits of equal cost per step: stage, modalities, number of outcomes, whether they start from another fit,
    and the network, which tuned settings may change between folds."""
    training = None if plan.training is None else plan.training.model_copy(update={"steps": "auto"})
    return plan.stage, plan.modalities, len(plan.tasks), bool(plan.parents), content_hash(plan.model, training)


def cost_of(plan: FitPlan, costs: Mapping[Kind, FitCost]) -> float:
    """Predicted CPU seconds of one fit."""
    cost = costs.get(kind_of(plan)) or next((c for kind, c in costs.items() if kind[0] == plan.stage), FitCost(0.0))
    networks = max(len(plan.inner), 1) / cost.networks
    return networks * (cost.fixed + cost.per_step * cost.taken * steps_of(plan))


def measure(plans: Iterable[FitPlan], cohorts: Mapping[str, Cohort], *, brief: bool = False) -> dict[Kind, FitCost]:
    """Time one fit of each kind among these plans and their parents.

    Args:
        brief: one fit of each stage and no complete training: faster and less accurate.
    """
    unique = unique_plans(plans)
    chosen: dict[Kind, FitPlan] = {}
    for plan in unique.values():
        if not brief or all(stage != plan.stage for stage, *_ in chosen):
            chosen.setdefault(kind_of(plan), plan)
    with one_thread():  # as fits are made
        return _measured(chosen, cohorts, brief=brief)


def _measured(chosen: Mapping[Kind, FitPlan], cohorts: Mapping[str, Cohort], *, brief: bool) -> dict[Kind, FitCost]:
    done: dict[str, FitResult] = {}
    context = Context(cohorts, done)
    found: dict[Kind, FitCost] = {}
    warm: set[tuple[str, ...]] = set()
    few, many = _SHORT, _LONG
    costly, longest = (_COSTLY_IN_BRIEF, 0.0) if brief else (_COSTLY, _WHOLE)
    for kind, plan in sorted(chosen.items(), key=lambda item: item[1].depth):
        for parent in plan.lineage()[:-1]:
            _timed(_shortened(parent, few), context, done)
        context.features(plan, context.cohort(plan.train.cohort))  # shared by the fits of the same rows
        if plan.training is not None and plan.modalities not in warm:
            # Libraries are loaded in the first fit, which hides the steps.
            if _timed(_shortened(plan, 1), context, done) > costly:
                few, many = _FEW
            warm.add(plan.modalities)
        short = _shortened(plan, few)
        first = _timed(short, context, done)
        if plan.training is None:
            found[kind] = FitCost(first)
            continue
        longer = _timed(replace(short, training=_steps(plan, many)), context, done)
        per_step = max(longer - first, 0.0) / (many - few)
        cost = FitCost(max(first - few * per_step, 0.0), per_step, networks=max(len(plan.inner), 1))
        found[kind] = replace(cost, taken=_share_taken(plan, short, cost, found, context, done, longest=longest))
    return found


def _share_taken(
    plan: FitPlan,
    short: FitPlan,
    cost: FitCost,
    found: Mapping[Kind, FitCost],
    context: Context,
    done: dict[str, FitResult],
    *,
    longest: float,
) -> float:
    """Share of the steps that an ensemble takes: measured if this takes at most `longest` seconds, else assumed."""
    if not plan.inner:
        return 1.0
    seen = [other.taken for (stage, *_), other in found.items() if stage == plan.stage]
    if seen:
        return seen[0]
    steps = steps_of(plan)
    if steps <= _LONG or cost.fixed + cost.per_step * steps > longest:
        return 1.0 if steps <= _LONG else _STOPPED
    whole = _timed(replace(plan, parents=short.parents), context, done)
    return min(max((whole - cost.fixed) / max(cost.per_step * steps, 1e-9), 0.1), 1.0)


def _steps(plan: FitPlan, steps: int) -> Training:
    assert plan.training is not None
    return plan.training.model_copy(update={"steps": steps})


def _shortened(plan: FitPlan, steps: int) -> FitPlan:
    """The plan and its parents with few steps, which are all made: held-out rows are evaluated after the last one."""
    parents = tuple((name, _shortened(parent, steps)) for name, parent in plan.parents)
    if plan.training is None:
        return replace(plan, parents=parents)
    return replace(plan, parents=parents, training=_steps(plan, steps), checkpoints=())


def _timed(plan: FitPlan, context: Context, done: dict[str, FitResult]) -> float:
    """Make a new fit; returns its CPU seconds, or wall-clock seconds on a GPU."""
    if plan.key in done:
        return 0.0
    clock = time.process_time if plan.device == "cpu" else time.perf_counter
    start = clock()
    with torch.random.fork_rng(devices=[]):
        done[plan.key] = FITTERS[plan.stage](plan, context)
    return clock() - start
