"""`connectome-tl prune`: prune the networks of a finished image study and compare them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain.units import planned_folds
from connectome_tl.evaluation.images.study_pruning import pruned_fold
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.provenance import write_bytes, write_json, write_sidecar, write_text
from connectome_tl.report.volume_pages import render_pruning
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.records.volume_pruning import PrunedNetwork, VolumePruningRecord
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore, tensor_bytes
from connectome_tl.training.networks.volumes import device_again
from connectome_tl.training.threads import one_thread
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.images.grids import CACHE, with_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.results import read_record

FOLDER, SUMMARY, PAGE = "pruning", "pruning.json", "pruning.html"


def prune_run(
    run_dir: str | Path,
    *,
    task: str | None = None,
    settings: TaylorPruning | None = None,
    base: str | Path | None = None,
    show_progress: bool = False,
) -> VolumePruningRecord:
    """Prune every network of the first repeat, and write weights, a summary and a page to `pruning/` of the run.

    What an earlier call wrote there is removed when all networks are pruned; an interrupted call changes nothing.
    Each network is pruned and fine-tuned on its training rows, and compared on the test rows with the unpruned network
    after the same number of further steps.

    Args:
        task: outcome whose head is kept; the first of the study by default.
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

    Raises:
        UsageError: the study has no network on volumes alone, or no such outcome.
        MissingInputError: no finished run, or a fit is not stored.
        DataError: nothing, or less than requested, can be pruned.
    """
    folder, settings = Path(run_dir), settings or TaylorPruning()
    results = read_record(folder)
    study = read_study(folder)
    if not study.model.reads_volumes:
        raise UsageError("this study uses no volumes", file=folder / "study.yaml")
    splits, store = SplitPlan.load(folder / "split_plan.json"), FitStore(folder / "models")
    with Steps(shown=show_progress) as steps, claim(folder), one_thread():
        with steps.step("reading cohorts"):
            cohorts = with_grids(study, read_run_cohorts(study, folder, base), folder / CACHE)
        tasks = tasks_of(study, cohorts)
        chosen, device = _task(tasks, task), device_again(study.device)
        planned = [one for one in planned_folds(study, cohorts, splits, tasks, "network") if one.repeat == 0]
        n_networks = sum(max(1, len(one.plans[0].inner)) for one in planned)
        found: list[tuple[PrunedNetwork, dict[str, np.ndarray], str]] = []
        with steps.counted("pruning") as progress:
            count = 0

            def done() -> None:
                nonlocal count
                count += 1
                progress(count, n_networks)

            for fold in planned:
                pruned = pruned_fold(
                    fold,
                    cohorts.target,
                    study.image,
                    store,
                    chosen,
                    settings,
                    seed=study.seed,
                    device=device,
                    done=done,
                )
                found += [(one, state, fold.plans[0].key) for one, state in pruned]
        record = _written(folder / FOLDER, found, chosen, settings, study.seed)
        write_text(folder / FOLDER / PAGE, render_pruning(record, results, chosen.label))
    return record


def _written(
    out: Path,
    found: Sequence[tuple[PrunedNetwork, dict[str, np.ndarray], str]],
    task: Task,
    settings: TaylorPruning,
    seed: int,
) -> VolumePruningRecord:
    """Write weights and summary in place of those of an earlier call, whose settings may differ."""
    if out.exists():
        shutil.rmtree(out)
    kept = []
    for one, state, fit in found:
        name = f"{task.name}_fold{one.fold}_network{one.network}.safetensors"
        file = write_bytes(out / name, tensor_bytes(state))
        write_sidecar(file, settings=settings, seed=seed, Outcome=task.name, Fit=fit)
        kept.append(one.model_copy(update={"file": name}))
    record = _record(task, settings, kept)
    write_json(out / SUMMARY, record)
    return record


def _task(tasks: Sequence[Task], name: str | None) -> Task:
    if name is None:
        return tasks[0]
    found = next((task for task in tasks if task.name == name), None)
    if found is None:
        raise UsageError(f"the study has no outcome {name!r}", expected=", ".join(task.name for task in tasks))
    return found


def _record(task: Task, settings: TaylorPruning, networks: Sequence[PrunedNetwork]) -> VolumePruningRecord:
    folds = sorted({one.fold for one in networks})
    own = [[one for one in networks if one.fold == fold] for fold in folds]
    losses = np.array([[_mean(part, name) for name in ("pruned_loss", "tuned_loss")] for part in own])
    losses = losses[losses[:, 1] > 0]  # NaN: no tested subject with a volume and a known outcome
    ratios = losses[:, 0] / losses[:, 1] - 1
    half = float("nan")
    if len(ratios) > 1:
        half = float(stats.t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / np.sqrt(len(ratios)))
    mean = float(ratios.mean()) if len(ratios) else float("nan")
    return VolumePruningRecord(
        task=task.name,
        target=settings.target,
        networks=tuple(networks),
        relative_loss=mean,
        low=mean - half,
        high=mean + half,
    )


def _mean(networks: Sequence[PrunedNetwork], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in networks]))
