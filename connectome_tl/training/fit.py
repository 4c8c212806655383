"""`fit(plans) -> results`: fit each key once and reuse stored fits.

A fit depends neither on other fits nor on the number of processes: its random draws are determined by its seed and
stage, on one thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.training.checkpoint import FitResult, FitStore, damaged
from connectome_tl.training.cluster import Cluster, as_worker, current_cluster
from connectome_tl.training.context import Check, Context
from connectome_tl.training.core_stage import fit_core_stage
from connectome_tl.training.extension import calls, extend_learning
from connectome_tl.training.fitted_models import fitted_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.mixture import fit_mixture
from connectome_tl.training.networks.adaptation import fit_adaptation
from connectome_tl.training.networks.loop import StepHook
from connectome_tl.training.networks.parallel import fit_in_processes
from connectome_tl.training.networks.setting import diverged
from connectome_tl.training.networks.supervised import fit_supervised
from connectome_tl.training.plans import RANDOM, FitPlan, code_version
from connectome_tl.training.threads import one_thread
from connectome_tl.training.work import work_of

Fitter = Callable[[FitPlan, Context], FitResult]

FITTERS: dict[str, Fitter] = {
    "pretrain": fit_supervised,
    "adapt": fit_adaptation,
    "finetune": fit_supervised,
    "source": fit_core_stage,
    "core": fit_core_stage,
    "mixture": fit_mixture,
}
_LARGEST_CHUNK = 16


class Progress(Protocol):
    """Function that is told how much of a step is done.

    Args:
        done, total: numbers of finished items, and of all.
        share: share of the time of this call that is spent, where items differ in length or were finished before.
    """

    def __call__(self, done: int, total: int, share: float | None = None, /) -> None: ...


def fit(
    plans: Iterable[FitPlan],
    cohorts: Mapping[str, Cohort],
    *,
    store: FitStore | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
    hook: StepHook | None = None,
    check: Check | None = None,
) -> dict[str, FitResult]:
    """Make all these fits and the parents that they need, each once.

    Args:
        cohorts: the cohorts by the role that row sets name.
        store: store of finished fits, which are reused.
        n_jobs: number of processes with one thread each; the results do not depend on it.
        progress: called with the number of finished fits, stored ones included, and the total number.
        hook: called after every optimiser step (only with n_jobs=1).
        check: called at each checkpoint of the first network of an ensemble. Fits are then made one after another in
            this process, so that its decisions do not depend on the number of processes. It is not called for
            stored fits; `checks_of` returns their values.

    Returns:
        Results by key, for every plan and its parents.
    """
    unique = unique_plans(plans)
    results: dict[str, FitResult] = {}
    left = {key: work_of(plan) for key, plan in unique.items() if store is None or not store.has(key)}
    whole, kept, made = sum(left.values()), len(unique) - len(left), list[float]()
    if progress is not None and kept:
        progress(kept, len(unique), 0.0)
    for depth in range(1 + max((plan.depth for plan in unique.values()), default=-1)):
        level = [plan for plan in unique.values() if plan.depth == depth]
        for batch in _run(level, cohorts, results, store, n_jobs, hook, check):
            results.update({result.key: result for result in batch})
            made += [left[result.key] for result in batch if result.key in left]
            if progress is not None and any(result.key in left for result in batch):
                progress(kept + len(made), len(unique), sum(made) / whole)
    return results


def unique_plans(plans: Iterable[FitPlan]) -> dict[str, FitPlan]:
    """Plans and their parents by key. Models may share a fit but predict different rows.

    Core and network of a mixture also predict the rows of the mixture.
    """
    unique: dict[str, FitPlan] = {}

    def add(plan: FitPlan, predict: tuple[str, ...]) -> None:
        for _, parent in plan.parents:
            add(parent, predict if plan.stage == "mixture" else ())
        seen = unique.get(plan.key, plan)
        wanted = tuple(dict.fromkeys((*seen.predict, *plan.predict, *predict)))
        unique[plan.key] = replace(seen, predict=wanted, keep=seen.keep or plan.keep)

    for plan in plans:
        add(plan, ())
    # A mixture needs the predictions of its parents, other fits need the state of their parents.
    parents = {
        parent.key for plan in unique.values() for _, parent in plan.parents if plan.stage != "mixture" or plan.keep
    }
    return {key: replace(plan, keep=plan.keep or key in parents) for key, plan in unique.items()}


def _run(
    plans: Sequence[FitPlan],
    cohorts: Mapping[str, Cohort],
    done: Mapping[str, FitResult],
    store: FitStore | None,
    n_jobs: int,
    hook: StepHook | None,
    check: Check | None,
) -> Iterable[list[FitResult]]:
    """Yield chunks of finished fits; the fits of a chunk share cohorts and parents."""
    from joblib import Parallel, delayed

    for plan in plans:
        _ = plan.key  # computed here and sent with the plan, since an older worker may lack extensions
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[FitPlan]] = {}
    for plan in plans:
        roles = tuple(sorted({plan.train.cohort, *(rows.cohort for _, rows in plan.others)}))
        # Not by random start or parts of a mixture, which are fits of the same training rows.
        shared = tuple(one.key for name, one in plan.parents if name != RANDOM) if plan.stage != "mixture" else ()
        groups.setdefault((roles, shared), []).append(plan)
    jobs: list[Job] = []
    cluster = current_cluster() if check is None else None
    n_workers = n_jobs if cluster is None else cluster.n_workers
    for (roles, _), members in groups.items():
        members.sort(key=lambda plan: plan.train.ids)  # fits of the same rows share their features
        size = max(1, min(_LARGEST_CHUNK, -(-len(members) // (4 * n_workers))))
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            keys = {key for plan in chunk for key in _needed(plan)}
            jobs.append((chunk, {role: cohorts[role] for role in roles}, {key: done[key] for key in sorted(keys)}))
    quick = all(plan.stage == "mixture" for plan in plans)
    if cluster is not None and not quick:
        yield from _on_cluster(cluster, jobs, store)
        return
    if n_jobs == 1 or len(plans) == 1 or quick or check is not None:
        for chunk, known, parents in jobs:
            yield _fit_chunk(chunk, known, parents, store, hook, check)
        return
    parallel = Parallel(
        n_jobs=n_jobs,
        backend="loky",
        return_as="generator_unordered",
        inner_max_num_threads=1,
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    yield from parallel(
        delayed(_fit_elsewhere)(chunk, known, parents, store, calls()) for chunk, known, parents in jobs
    )


Job = tuple[list[FitPlan], dict[str, Cohort], dict[str, FitResult]]


def _on_cluster(cluster: Cluster, jobs: Sequence[Job], store: FitStore | None) -> Iterator[list[FitResult]]:
    """Reuse stored fits; other fits are made by the workers and stored here."""
    left: list[Job] = []
    for chunk, known, parents in jobs:
        context = Context(known, parents)
        found = {plan.key: _stored(plan, context, store) for plan in chunk}
        yield [result for result in found.values() if result is not None]
        missing = [plan for plan in chunk if found[plan.key] is None]
        if missing:
            left.append((missing, known, parents))
    keeps = {plan.key: plan.keep for chunk, _, _ in left for plan in chunk}
    parts = {part for chunk, _, _ in left for plan in chunk for one in plan.lineage() for part in one.parts}
    for results in cluster.run(_fit_as_worker, left, calls(), sorted(parts), code_version(parts)):
        for result in results:
            if store is not None:
                store.save(result, keep_state=keeps[result.key])
        yield results


def _fit_as_worker(
    plans: Sequence[FitPlan],
    cohorts: Mapping[str, Cohort],
    parents: Mapping[str, FitResult],
    extensions: Sequence[dict[str, Any]],
    parts: Sequence[str],
    code: str,
) -> list[FitResult]:
    _extend(extensions)
    with as_worker(code, partial(code_version, parts)):
        return _fit_chunk(plans, cohorts, parents, None, None)


def _needed(plan: FitPlan) -> Iterator[str]:
    """Keys of the parents, and of the parents of a mixture's core, which may have to predict again."""
    for _, parent in plan.parents:
        yield parent.key
        if plan.stage == "mixture":
            yield from (source.key for name, source in parent.parents if name == "source")


def _end_with(parent: int) -> None:
    """In a worker process: exit when the parent process has ended.

    If the parent is killed, its workers are not notified and would keep waiting on its pipes.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fit_elsewhere(
    plans: Sequence[FitPlan],
    cohorts: Mapping[str, Cohort],
    parents: Mapping[str, FitResult],
    store: FitStore | None,
    extensions: Sequence[dict[str, Any]],
) -> list[FitResult]:
    """In a worker process of this machine."""
    _extend(extensions)
    return _fit_chunk(plans, cohorts, parents, store, None)


def _extend(extensions: Sequence[dict[str, Any]]) -> None:
    """Repeat the registrations of the first process."""
    known = calls()
    for call in extensions:
        if call not in known:
            extend_learning(**call)


def _fit_chunk(
    plans: Sequence[FitPlan],
    cohorts: Mapping[str, Cohort],
    parents: Mapping[str, FitResult],
    store: FitStore | None,
    hook: StepHook | None = None,
    check: Check | None = None,
) -> list[FitResult]:
    """Fits of the same cohorts; features are fitted once per set of training rows."""
    context = Context(cohorts, parents, hook, check)
    with one_thread():
        return [_stored(plan, context, store) or _fitted(plan, context, store) for plan in plans]


def _stored(plan: FitPlan, context: Context, store: FitStore | None) -> FitResult | None:
    """The stored fit, if it contains predictions of the requested rows with their current content."""
    found = store.load(plan.key, state=plan.keep) if store is not None else None
    if found is None or store is None:
        return None
    if found.stage != plan.stage or not found.rows >= {*plan.train.ids}:
        raise damaged(store.folder / f"{plan.key}.json", "it is of another stage, or has seen other rows")
    wanted = _contents(plan, context)
    changed = [subject for subject, content in wanted.items() if found.predicted.get(subject) != content]
    if not changed:
        return found
    if not found.plain:
        return None
    full = found if plan.keep else store.load(plan.key, state=True)
    if full is None:
        return None
    values = _model_of(full, context).predict(context.cohort(plan.train.cohort), changed)
    again = replace(
        full,
        predictions={**full.predictions, **dict(zip(changed, values, strict=True))},
        predicted={**full.predicted, **{subject: wanted[subject] for subject in changed}},
    )
    store.save(again, keep_state=True)
    return again


def _model_of(result: FitResult, context: Context) -> FittedModel:
    return fitted_model(result, lambda key: context.done[key])


def _fitted(plan: FitPlan, context: Context, store: FitStore | None) -> FitResult:
    with torch.random.fork_rng(devices=[]):
        result = _made(plan, context) if plan.devices == 1 else fit_in_processes(_made, plan, context)
    if store is not None:
        store.save(result, keep_state=plan.keep)
    return result if plan.keep else replace(result, arrays={}, plain={})


def _made(plan: FitPlan, context: Context) -> FitResult:
    result = FITTERS[plan.stage](plan, context)
    for values in result.predictions.values():
        if not bool((abs(values) < float("inf")).all()):
            raise diverged(plan, "predictions are not finite")
    return replace(result, predicted=_contents(plan, context) if plan.stage != "adapt" else {})


def _contents(plan: FitPlan, context: Context) -> dict[str, str]:
    """Hash of the inputs of each predicted subject, without outcomes."""
    if plan.stage == "adapt":
        return {}
    cohort = context.cohort(plan.train.cohort)
    hashes = cohort.input_hashes
    return {subject: hashes[i] for subject, i in zip(plan.predict, cohort.positions(plan.predict), strict=True)}
