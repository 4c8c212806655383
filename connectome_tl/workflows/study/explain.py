"""`connectome-tl explain`: explain the models of a finished run from its stored fits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from connectome_tl.arguments import Count, checked_arguments
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import MissingInputError, UsageError
from connectome_tl.evaluation.explain.study import Explanation, explain_study
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.provenance import write_json, write_sidecar, write_table, write_text
from connectome_tl.report.explanations import render_explanations
from connectome_tl.settings.model_table import model_named
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapFile, MapItem
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.images.grids import CACHE, with_grids
from connectome_tl.workflows.images.maps import PAGE as VOXEL_PAGE
from connectome_tl.workflows.images.maps import map_volumes
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.explain_files import (
    FOLDER,
    PAGE,
    PERMUTED,
    SUMMARY,
    item_rows,
    predictions_hash,
    table_name,
)
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.ledger import reveal
from connectome_tl.workflows.study.results import read_record
from connectome_tl.workflows.study.unchanged import refuse_changed

MODELS = ("core", "full")
VOXEL_MAPS = f"{FOLDER}/volume_maps"
COLUMNS = {
    "value": "see `Unit` in this file",
    "stability": "share of the test folds in which the item is among the largest",
    "stability_low, stability_high": "95 % Wilson interval, with the folds of one repeat as units; they "
    "share most of their training rows, so that it is too narrow if anything",
    "p_corrected": "by permuted outcomes, corrected over all rows of the table (first repeat)",
    "no_p": "why there are no p values",
    "drop": "fall of the AUC, R2, concordance or macro AUC when the item is occluded",
}


@checked_arguments
def explain_run(
    run_dir: str | Path,
    *,
    models: Sequence[str] = MODELS,
    n_permutations: Count = 199,
    n_refitted: Count | None = None,
    base: str | Path | None = None,
    show_progress: bool = False,
) -> ExplanationRecord:
    """Compute maps of a finished run; writes tables, a summary and a page to `explanations/` of its folder.

    The same call resumes an interrupted one: fits under permuted outcomes are kept until the page is written.

    Args:
        models: names of models of the run (full, core, network or a control).
        n_permutations: permutations for the null of the core's maps, in closed form; 0 for none.
        n_refitted: permutations for the null of the other models, whose last stage is refitted; 0 for none, by default
            as many as take a few minutes: 49, 19 or none.
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

    Raises:
        MissingInputError: no finished run, a cohort does not exist, or a fit is not stored.
        DataError: the data are not those of the run.
        UsageError: no model, or one that the study does not have.
    """
    if not models:
        raise UsageError("no model is named", expected="models of the run, such as full or core")
    folder = Path(run_dir)
    results = read_record(folder)
    settings = read_study(folder)
    splits = SplitPlan.load(folder / "split_plan.json")
    with Steps(shown=show_progress) as steps, claim(folder):
        with steps.step("reading cohorts"):
            cohorts = read_run_cohorts(settings, folder, base)
            tasks = tasks_of(settings, cohorts)
        refuse_changed(folder, cohorts, settings)
        cohorts = with_grids(settings, cohorts, folder / CACHE)
        reveal(folder, "explain", results)
        try:
            found = explain_study(
                settings,
                cohorts,
                splits,
                tasks,
                results.scores,
                FitStore(folder / "models"),
                folder / FOLDER / PERMUTED,
                models=models,
                n_permutations=n_permutations,
                n_refitted=n_refitted,
                configuration=results.provenance.get("configuration", ""),
                counted=steps.counted,
            )
        except MissingInputError as error:
            raise MissingInputError(
                "the run's fits are not those of these settings, data and version of the package",
                file=folder / "models",
                remedy=f"Run it again with this version: connectome-tl run {folder / 'study.yaml'} --out {folder}",
            ) from error
    note = _voxel_maps(folder, found.record, settings, base, show_progress=show_progress)
    record = found.record.model_copy(update={"notes": (*found.record.notes, *note)})
    with claim(folder):
        made = _write(folder, replace(found, record=record), settings)
        shutil.rmtree(folder / FOLDER / PERMUTED, ignore_errors=True)
        return made


def _voxel_maps(
    folder: Path, found: ExplanationRecord, settings: StudySettings, base: str | Path | None, *, show_progress: bool
) -> tuple[str, ...]:
    """Voxel maps of the first explained model that has a network, as by `connectome-tl maps`; a note on them."""
    shutil.rmtree(folder / VOXEL_MAPS, ignore_errors=True)  # of an earlier call
    model = next((name for name in found.models if name != "core"), None)
    if not settings.model.reads_volumes or model is None or all(one.model != model for one in found.maps):
        return ()
    try:
        made = map_volumes(
            folder,
            model=model,
            kinds=("occlusion", "gradients"),
            subfolder=VOXEL_MAPS,
            base=base,
            show_progress=show_progress,
        )
    except UsageError as error:
        return (f"No voxel maps: {error}",)
    if not made.maps:
        return tuple(f"No voxel maps of {task}: {reason}." for task, reason in made.withheld.items())
    part = "" if model == "network" else " of its network alone"
    return (f"{model_named(model).label}: voxel maps{part} are in {VOXEL_MAPS}/{VOXEL_PAGE} of the run folder.",)


def _write(folder: Path, found: Explanation, settings: StudySettings) -> ExplanationRecord:
    out = folder / FOLDER
    for stale in (*out.glob("*.tsv"), *out.glob("*.json"), *out.glob("*.html")):  # of models that are no longer shown
        stale.unlink()
    files = []
    for record, full in found.full:
        for kind, items in full.items():
            if items:
                files.append(_table(out, record, kind, items, found.record, settings))
    whole = found.record.model_copy(update={"files": tuple(files), "predictions": predictions_hash(folder)})
    write_text(out / PAGE, render_explanations(whole, read_record(folder)))
    write_json(out / SUMMARY, whole)  # written last, as the mark of completion
    return whole


def _table(
    out: Path,
    record: ExplanationMap,
    kind: str,
    items: Sequence[MapItem],
    whole: ExplanationRecord,
    settings: StudySettings,
) -> MapFile:
    name = table_name(record, kind)
    rows = item_rows(items, kind, record, whole)
    path = write_table(out / name, pd.DataFrame(rows))
    write_sidecar(
        path,
        settings=settings.decisive,
        seed=settings.seed,
        units={"x, y, z": "mm (RAS+)"} if kind in ("edge", "region", "cell") else None,
        Unit=record.unit,
        Columns=COLUMNS,
        Rows="held-out rows of every fold",
        Space=whole.cell_space if kind == "cell" else whole.space,
    )
    return MapFile(name=name, n_rows=len(rows), n_bytes=path.stat().st_size)
