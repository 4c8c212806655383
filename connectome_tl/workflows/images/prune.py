"""`connectome-tl prune`: prune the networks of a finished image study and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import DataError, OutputError, UsageError
from connectome_tl.evaluation.explain.units import planned_folds
from connectome_tl.evaluation.images.study_pruning import pruned_network, pruning_key
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.provenance import (
    file_hash,
    read_own_json_object,
    sidecar_path,
    write_bytes,
    write_json,
    write_sidecar,
    write_text,
)
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
from connectome_tl.workflows.study.unchanged import refuse_changed

FOLDER, SUMMARY, PAGE = "pruning", "pruning.json", "pruning.html"
TIMES = "log/pruning_seconds.json"  # of the run folder: measured times, by file of weights


def prune_run(
    run_dir: str | Path,
    *,
    task: str | None = None,
    settings: TaylorPruning | None = None,
    base: str | Path | None = None,
    show_progress: bool = False,
) -> VolumePruningRecord:
    """Prune every network of the first repeat, and write weights, a summary and a page to `pruning/` of the run.

    Each network is pruned and fine-tuned on its training rows, and compared on the test rows with the unpruned network
    after the same number of further steps. An interrupted call resumes with the networks that it has pruned; those of
    calls with other settings are removed at the end. Measured times are written to `log/`, so that all other files are
    equal after equal calls.

    Args:
        task: outcome whose head is kept; the first of the study by default.
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

    Raises:
        UsageError: the study has no network on volumes alone, or no such outcome.
        MissingInputError: no finished run, or a fit is not stored.
        DataError: nothing, or less than requested, can be pruned; the data are not those of the run.
    """
    folder, settings = Path(run_dir), settings or TaylorPruning()
    results = read_record(folder)
    study = read_study(folder)
    if not study.model.reads_volumes:
        raise UsageError("this study uses no volumes", file=folder / "study.yaml")
    splits, store = SplitPlan.load(folder / "split_plan.json"), FitStore(folder / "models")
    with Steps(shown=show_progress) as steps, claim(folder), one_thread():
        with steps.step("reading cohorts"):
            cohorts = read_run_cohorts(study, folder, base)
            refuse_changed(folder, cohorts, study)
            cohorts = with_grids(study, cohorts, folder / CACHE)
        tasks = tasks_of(study, cohorts)
        chosen, device = _task(tasks, task), device_again(study.device)
        planned = [one for one in planned_folds(study, cohorts, splits, tasks, "network") if one.repeat == 0]
        every = [(fold, number) for fold in planned for number in range(max(1, len(fold.plans[0].inner)))]
        networks, out, times = [], folder / FOLDER, _times(folder)
        with steps.counted("pruning") as progress:
            for fold, number in every:
                key = pruning_key(fold, number, cohorts.target, chosen, settings, seed=study.seed, device=device)
                file = out / f"{key}.safetensors"
                if not _is_complete(file):
                    made, state = pruned_network(
                        fold,
                        number,
                        cohorts.target,
                        study.image,
                        store,
                        chosen,
                        settings,
                        seed=study.seed,
                        device=device,
                    )
                    times[file.name] = made.seconds
                    write_json(folder / TIMES, times)
                    write_bytes(file, tensor_bytes(state))
                    made = made.model_copy(update={"file": file.name})
                    fit = fold.plans[0].key
                    write_sidecar(file, settings=settings, seed=study.seed, Outcome=chosen.name, Fit=fit, Network=made)
                found = PrunedNetwork.model_validate(read_own_json_object(sidecar_path(file))["Network"])
                networks.append(found.model_copy(update={"seconds": times.get(file.name)}))
                progress(len(networks), len(every))
        record = _record(chosen, settings, networks)
        write_json(out / SUMMARY, record)
        write_text(out / PAGE, render_pruning(record, results, chosen.label))
        kept = {SUMMARY, PAGE, *(one.file for one in networks)}
        for old in out.iterdir():  # of an earlier call with other settings
            if old.is_file() and old.name not in kept and old.with_suffix(".safetensors").name not in kept:
                old.unlink()
        write_json(folder / TIMES, {name: seconds for name, seconds in times.items() if name in kept})
    return record


def _times(folder: Path) -> dict[str, tuple[float, float] | None]:
    """Measured seconds of the networks of an earlier call, by file; empty if there are none that can be read."""
    try:
        found = read_own_json_object(folder / TIMES) if (folder / TIMES).is_file() else {}
        return {str(name): (float(before), float(after)) for name, (before, after) in found.items()}
    except (DataError, OutputError, TypeError, ValueError):
        return {}


def _is_complete(file: Path) -> bool:
    """Whether a network and its sidecar, which is written last, are there."""
    sidecar = sidecar_path(file)
    return file.is_file() and sidecar.is_file() and read_own_json_object(sidecar).get("Sha256") == file_hash(file)


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
