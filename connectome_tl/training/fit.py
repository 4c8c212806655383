"""`fit(plans) -> results` for connectomes. Each key is fitted once; what is stored is not fitted again.

A fit does not depend on what else is fitted, nor on the number of processes: its random draws are a
function of its own seed and stage, on one thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, InternalError
from connectome_tl.features.batches import FittedFeatures, Rows, fit_features, fit_targets
from connectome_tl.nn.graph_encoder import build_encoder
from connectome_tl.nn.layers import Inputs, normalise_adjacency
from connectome_tl.nn.losses import multi_task_loss
from connectome_tl.nn.model import OutcomeModel, Sizes, build_model
from connectome_tl.provenance import content_hash
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.loop import StepHook, train
from connectome_tl.training.objectives import build_objective
from connectome_tl.training.plans import FitPlan

Progress = Callable[[int, int], None]


def fit(
    plans: Iterable[FitPlan],
    cohorts: Mapping[str, Cohort],
    *,
    store: FitStore | None = None,
    n_jobs: int = 1,
    progress: Progress | None = None,
    hook: StepHook | None = None,
) -> dict[str, FitResult]:
    """Make all these fits and the parents they need, each once.

    Args:
        cohorts: the cohorts that `plan.cohort` names.
        store: where finished fits lie; those are taken from there.
        n_jobs: processes, one thread each; the results are the same for any number.
        progress: called with (fits done, fits in all).
        hook: called after every epoch (only with n_jobs=1).

    Returns:
        Results by key, for every plan and its parents.
    """
    unique = _unique(plans)
    results: dict[str, FitResult] = {}
    for depth in range(1 + max((plan.depth for plan in unique.values()), default=-1)):
        level = [plan for plan in unique.values() if plan.depth == depth]
        for batch in _run(level, cohorts, results, store, n_jobs, hook):
            results.update({result.key: result for result in batch})
            if progress is not None:
                progress(len(results), len(unique))
    return results


def _unique(plans: Iterable[FitPlan]) -> dict[str, FitPlan]:
    """Plans and their parents by key. Two models may share a fit but predict other rows with it."""
    unique: dict[str, FitPlan] = {}
    for member in (member for plan in plans for member in plan.lineage()):
        seen = unique.get(member.key, member)
        unique[member.key] = replace(
            seen, predict=tuple(dict.fromkeys((*seen.predict, *member.predict))), keep=seen.keep or member.keep
        )
    parents = {plan.parent.key for plan in unique.values() if plan.parent is not None}
    return {key: replace(plan, keep=plan.keep or key in parents) for key, plan in unique.items()}


def _run(
    plans: Sequence[FitPlan],
    cohorts: Mapping[str, Cohort],
    done: Mapping[str, FitResult],
    store: FitStore | None,
    n_jobs: int,
    hook: StepHook | None,
) -> Iterable[list[FitResult]]:
    """Chunks of finished fits, as they are ready; a chunk shares cohort and parent."""
    from joblib import Parallel, delayed

    groups: dict[tuple[str, str | None], list[FitPlan]] = {}
    for plan in plans:
        groups.setdefault((plan.cohort, plan.parent.key if plan.parent else None), []).append(plan)
    jobs = []
    for (cohort, parent), members in groups.items():
        members.sort(key=lambda plan: plan.rows)  # fits of the same rows stand together and share their features
        size = max(1, min(16, -(-len(members) // (4 * n_jobs))))
        jobs += [
            (members[i : i + size], cohorts[cohort], done.get(parent) if parent else None)
            for i in range(0, len(members), size)
        ]
    if n_jobs == 1 or len(plans) == 1:
        for members, cohort_, parent_ in jobs:
            yield _fit_chunk(members, cohort_, parent_, store, hook)
        return
    parallel = Parallel(
        n_jobs=n_jobs,
        backend="loky",
        return_as="generator_unordered",
        inner_max_num_threads=1,
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    yield from parallel(delayed(_fit_chunk)(members, c, p, store, None) for members, c, p in jobs)


def _end_with(parent: int) -> None:
    """In a worker process: end when the parent is gone.

    A parent that was killed tells its workers nothing; they would wait on its pipes for ever, with their memory.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fit_chunk(
    plans: Sequence[FitPlan], cohort: Cohort, parent: FitResult | None, store: FitStore | None, hook: StepHook | None
) -> list[FitResult]:
    """Fits of one cohort and parent; features are fitted once per set of training rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on fits this small cost several times the CPU of one
    features: dict[str, FittedFeatures] = {}
    finished = []
    try:
        for plan in plans:
            stored = store.load(plan.key, state=plan.keep) if store is not None else None
            if stored is not None and set(plan.predict) <= set(stored.predictions):
                finished.append(stored)
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_seed(plan))
                result = _fit_one(plan, cohort, parent, features, hook)
            if store is not None:
                store.save(result, keep_state=plan.keep)
            finished.append(result)
    finally:
        torch.set_num_threads(threads)
    return finished


def _seed(plan: FitPlan) -> int:
    # The stage's name sets the stages' draws apart; nothing else does, so that a model and its control
    # that share a stage start from the same weights.
    return int(content_hash(plan.seed, plan.stage)[:15], 16)


def _fit_one(
    plan: FitPlan, cohort: Cohort, parent: FitResult | None, cache: dict[str, FittedFeatures], hook: StepHook | None
) -> FitResult:
    names = plan.confounds.columns if plan.confounds is not None else ()
    kept = parent.fitted if plan.scaling == "parent" and parent is not None else None
    where = content_hash(plan.rows, plan.clinical, names, plan.harmonise, plan.edges, plan.scaling)
    if where not in cache:
        sites, edges = plan.harmonise, plan.edges
        own = fit_features(cohort, plan.rows, clinical=plan.clinical, confounds=names, harmonise=sites, edges=edges)
        cache[where] = (
            own.with_edges_of(kept, parent.fitted_plain["ids"]) if kept is not None and parent is not None else own
        )
    features = cache[where]
    rows = features.rows(cohort, plan.rows)
    tasks = [cohort.task(name) for name in plan.tasks] if plan.stage != "adapt" else []
    sizes = Sizes(cohort.n_regions, cohort.n_measures, rows.regional.shape[2], rows.clinical.shape[1], plan.tasks)
    model = build_model(plan.model, sizes)
    if parent is not None:
        _carry(model, parent, plan)
    target_scaler, targets = fit_targets(cohort, plan.rows, tasks, plan.label_rows)
    inputs = to_inputs(rows)
    if plan.stage == "adapt":
        objective = _adaptation(plan, sizes)
        extra = list(objective.parameters())

        def loss_of(index: Tensor | None) -> Tensor:
            return objective(model.encoder, inputs if index is None else inputs.rows(index))
    else:
        extra = []
        goal = torch.from_numpy(targets.astype(np.float32))
        kinds = [task.kind for task in tasks]
        noise = plan.training.edge_noise

        def loss_of(index: Tensor | None) -> Tensor:
            batch = inputs if index is None else inputs.rows(index)
            if noise:
                batch = batch._replace(edges=_noisy(batch.edges, noise))
            return multi_task_loss(model(batch), goal if index is None else goal[index], kinds)

    curve = train(model, loss_of, len(rows.ids), plan.training, extra=extra, hook=hook)
    state = {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}
    if not all(np.isfinite(value).all() for value in state.values()):
        raise _diverged(plan, "weights are not finite")
    arrays, plain = features.state()
    arrays |= {"targets.mean": target_scaler.mean, "targets.scale": target_scaler.scale}
    result = FitResult(
        key=plan.key,
        rows=frozenset(plan.rows) | (parent.rows if parent is not None else frozenset()),
        tasks=plan.tasks,
        state=state,
        fitted=arrays,
        fitted_plain=plain,
        curve=curve,
    )
    if plan.predict and plan.stage != "adapt":
        outputs = _outputs(model, features.rows(cohort, plan.predict))
        values = np.where([t.is_binary for t in tasks], _sigmoid(outputs), target_scaler.undo(outputs))
        if not np.isfinite(values).all():
            raise _diverged(plan, "predictions are not finite")
        result = replace(result, predictions=dict(zip(plan.predict, values, strict=True)))
    return result if plan.keep else replace(result, state={}, fitted={}, fitted_plain={})


def _diverged(plan: FitPlan, how: str) -> DataError:
    return DataError(
        f"training of {plan.label} ({plan.stage}) diverged: {how}",
        remedy="Lower stages.*.training.learning_rate, or check the cohort for extreme values.",
    )


def predict(
    result: FitResult, plan: FitPlan, cohort: Cohort, ids: Sequence[str], *, features: FittedFeatures | None = None
) -> np.ndarray:
    """Outputs (n_subjects, n_tasks) of a kept fit for subjects of any cohort with the same regions.

    Args:
        features: scalers to use instead of the fit's own (for zero-shot use on another cohort, say).
    """
    if not result.state:
        raise InternalError("this fit did not keep its state", remedy="Plan it with keep=True.")
    if features is None:
        raise InternalError("no features given")
    rows = features.rows(cohort, ids)
    sizes = Sizes(cohort.n_regions, cohort.n_measures, rows.regional.shape[2], rows.clinical.shape[1], plan.tasks)
    model = build_model(plan.model, sizes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in result.state.items()})
    outputs = _outputs(model, rows)
    binary = [cohort.task(name).is_binary for name in plan.tasks]
    return np.where(binary, _sigmoid(outputs), outputs * result.fitted["targets.scale"] + result.fitted["targets.mean"])


def to_inputs(rows: Rows) -> Inputs:
    """Arrays of `Rows` as tensors, edges normalised into messages."""
    mask, messages = torch.from_numpy(rows.node_mask), torch.from_numpy(rows.messages)
    return Inputs(
        edges=torch.from_numpy(rows.edges),
        adjacency=normalise_adjacency(messages, mask),
        regional=torch.from_numpy(rows.regional),
        node_mask=mask,
        clinical=torch.from_numpy(rows.clinical),
        messages=messages,
    )


def _outputs(model: OutcomeModel, rows: Rows) -> np.ndarray:
    model.eval()
    inputs = to_inputs(rows)
    with torch.no_grad():
        chunks = [model(inputs.rows(index)) for index in torch.arange(len(rows.ids)).split(256)]
    return torch.cat(chunks).double().numpy()


def _adaptation(plan: FitPlan, sizes: Sizes) -> nn.Module:
    if plan.objective is None:
        raise InternalError("an adaptation needs an objective")
    _, embedding = build_encoder(plan.model.encoder, sizes.n_regions, sizes.n_measures, sizes.n_features)
    return build_objective(plan.objective, sizes, embedding)


def _carry(model: OutcomeModel, parent: FitResult, plan: FitPlan) -> None:
    """Take over the parent's weights of the named parts, tensor by tensor, where name and shape agree."""
    own, parts = model.state_dict(), plan.carry
    fresh = tuple(f"heads.{task}." for task in plan.fresh_heads)
    taken = {
        name: torch.tensor(value)  # copied: what comes from a worker by shared memory is read-only
        for name, value in parent.state.items()
        if name.split(".")[0] in parts and name in own and own[name].shape == value.shape and not name.startswith(fresh)
    }
    lost = [name for name in own if name.startswith("encoder.") and name not in taken]
    if "encoder" in parts and lost:
        raise DataError(
            "the encoder of the stage before does not fit this cohort",
            got=f"{lost[0]} differs",
            remedy="Use one atlas for all cohorts, or an encoder whose weights are free of it "
            "(node_features: strength, readout: mean).",
        )
    model.load_state_dict({**own, **taken})


def _noisy(edges: Tensor, strength: float) -> Tensor:
    noise = torch.randn_like(edges).triu(1) * strength
    return edges + (noise + noise.transpose(2, 3)) * (edges != 0)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60)))
