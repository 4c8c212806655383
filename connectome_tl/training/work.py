"""Rough CPU time of a fit from its numbers of rows and steps, without timing."""

from __future__ import annotations

from math import prod

from connectome_tl.training.plans import FitPlan

_STEP, _CORE = 0.001, 0.02  # CPU s of a step of one small network, early stopping included, and of a closed-form fit
_VOXEL = 1e-7  # CPU s per voxel and row in a step of a narrow network on volumes


def n_trained(plan: FitPlan) -> int:
    """Training rows of one network of a plan."""
    return len(plan.train.ids) - min(map(len, plan.inner), default=0)


def steps_of(plan: FitPlan) -> int:
    """Optimiser steps of a network's plan; 0 for other fits."""
    return 0 if plan.training is None else plan.training.steps_for(n_trained(plan))


def last_stages(plan: FitPlan) -> tuple[FitPlan, ...]:
    """The plan and its ancestors that use outcomes of the target: what is fitted again if these are permuted."""
    return tuple(one for one in plan.lineage() if one.train.cohort == "target")


def work_of(plan: FitPlan) -> float:
    """CPU seconds of a fit of a small model; larger models take longer, in similar proportions."""
    if plan.training is None:
        return _CORE
    each = _STEP
    if "image" in plan.modalities and plan.model is not None and plan.model.reads_volumes:
        rows = plan.training.batch_for(n_trained(plan), images=True)
        each += _VOXEL * rows * prod(plan.features.image.shape3)
    return _CORE + each * steps_of(plan) * max(len(plan.inner), 1)
