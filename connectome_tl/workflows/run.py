"""`connectome-tl run`: a study from its settings to its report. What the command does, a notebook does too."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.errors import DataError, Problem, UsageError, raise_all
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.clinical.missing_outcomes import missingness_predictions
from connectome_tl.evaluation.clinical.recalibration import recalibrate_study
from connectome_tl.evaluation.clinical.site_only import site_predictions
from connectome_tl.evaluation.instability import study_instability
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation.beyond_clinical import beyond_clinical
from connectome_tl.evaluation.permutation.labels import core_statistics, network_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.provenance import write_json, write_sidecar, write_table, write_text
from connectome_tl.settings.results import RunRecord
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.stages import StudyCohorts, check_names
from connectome_tl.workflows.folder import claim, open_log
from connectome_tl.workflows.judge import Found, Judgement, judge
from connectome_tl.workflows.ledger import looks, reveal, with_ledger
from connectome_tl.workflows.progress import Steps

PREDICTION_COLUMNS = {
    "subject": "id of the infant",
    "task": "outcome",
    "model": "full model, control or baseline",
    "repeat": "repeat of the cross-validation, from 0",
    "fold": "outer fold in which the infant was tested, from 0",
    "y_true": "observed outcome; n/a where missing (predicted, not scored)",
    "y_score": "probability of the positive class, or the predicted value",
    "y_pred": "class at the threshold fixed in the settings, or the predicted value",
}
CALIBRATED_COLUMNS = {
    "y_score": "probability of the positive class, recalibrated on the inner folds of that outer fold",
    "y_pred": "class at the threshold that had the asked specificity on the inner folds",
}


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished run, as tables.

    Attributes:
        folder: where it was written.
        report: the HTML page.
        predictions: out-of-fold predictions, one row per subject, task, model and repeat.
        scores: one row per task, model and metric, with intervals.
        comparisons: paired differences to controls and baselines.
        permutations: label permutation tests.
        verdicts: the sentences that lead the report.
        record: everything the report shows.
    """

    folder: Path
    report: Path
    predictions: pd.DataFrame
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    permutations: pd.DataFrame
    verdicts: pd.DataFrame
    record: RunRecord


def run_study(
    study: str | Path | StudySettings,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    show_progress: bool = False,
    base: str | Path | None = None,
) -> StudyRun:
    """Run a study and write its folder; the same call resumes one that was stopped.

    Args:
        study: path of study.yaml, or settings made in Python (then cohort paths are relative to `base`).
        overrides: `key.sub=value` texts, as `--set` takes them.
        show_progress: draw progress bars.

    Raises:
        UsageError: settings are wrong, or the folder holds another study.
        DataError: a cohort is wrong (everything that is wrong is listed).
        LeakageError: something fitted saw a test row.
    """
    folder = Path(out)
    if isinstance(study, StudySettings):
        settings, home = study, Path(base) if base is not None else Path()
    else:
        settings, home = load_settings(study, StudySettings, overrides=overrides), Path(study).parent
    with Steps(shown=show_progress) as steps, claim(folder), open_log(folder, settings.title) as log:
        with steps.step("reading cohorts"):
            cohorts = read_cohorts(settings, home)
            tasks = tasks_of(settings, cohorts)
            check_names(settings, cohorts)
        settings = _seen_from(folder, settings, home)
        splits = _settle(folder, settings, cohorts.target)
        log.info("split plan %s", splits.hash)
        found = _fitted(folder, settings, cohorts, splits, tasks, steps)
        with steps.step("scores, comparisons, report"):
            judged = judge(settings, cohorts, splits, found)
            _write(folder, settings, cohorts, found, judged)
        log.info("done")
    record = judged.record
    return StudyRun(
        folder,
        folder / "report.html",
        found.predictions,
        _frame(record.scores),
        _frame(record.comparisons),
        _frame(record.permutations),
        _frame(record.verdicts),
        record,
    )


def _fitted(
    folder: Path, settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task], steps: Steps
) -> Found:
    """Everything that has to be fitted for the results of a study."""
    store, target = FitStore(folder / "models"), cohorts.target
    with steps.counted("fitting models") as progress:
        validation = cross_validate(settings, cohorts, splits, store=store, progress=progress)
    with steps.step("baselines"):
        tables = [validation.predictions, baseline_predictions(settings, target, splits, tasks)]
        tables.append(site_predictions(settings, target, splits, tasks))
        predictions = pd.concat([table for table in tables if len(table)], ignore_index=True)
        missingness = missingness_predictions(settings, target, splits, tasks)
    recalibrated = None
    if settings.splits.inner:
        with steps.step("recalibration"):
            recalibrated = recalibrate_study(settings, cohorts, splits, predictions, validation)
    with steps.counted("bootstrap refits") as progress:
        refits = FitStore(folder / "models" / "resampled")
        refitted = study_instability(settings, cohorts, splits, tasks, store=refits, progress=progress)
    permuted = _permute(settings, cohorts, splits, tasks, folder / "models", steps.counted)
    with steps.step("value beyond clinical covariates"):
        beyond = beyond_clinical(settings, target, splits, tasks)
    return Found(predictions, validation, permuted, beyond, recalibrated, refitted, missingness)


def read_cohorts(settings: StudySettings, home: Path) -> StudyCohorts:
    """The study's cohorts, lined up by region name in the target's order.

    Raises:
        DataError: a cohort is wrong, or its regions or measures do not fit the target's.
    """
    read: dict[Path, Cohort] = {}

    def load(use: CohortUse) -> Cohort:
        path = home / use.cohort
        if path not in read:
            read[path] = read_cohort(path)
        return read[path]

    target = load(settings.target)
    bound = settings.model.encoder.is_atlas_bound
    others = {
        role: _fitted_to(target, load(use), atlas_bound=bound)
        for role, use in settings.uses.items()
        if role != "target"
    }
    return StudyCohorts({"target": target, **others})


def _fitted_to(target: Cohort, cohort: Cohort, *, atlas_bound: bool) -> Cohort:
    """The cohort with its regions lined up; one without connectomes stays as it is."""
    if not cohort.regions or not target.regions:
        return cohort
    if cohort.measures != target.measures:
        raise DataError(
            f"cohorts {cohort.name!r} and {target.name!r} have different edge measures",
            expected=", ".join(target.measures),
            got=", ".join(cohort.measures),
            remedy="Weights of different kinds (counts, FBC, correlations) cannot share an encoder.",
        )
    if not atlas_bound and set(cohort.regions) != set(target.regions):
        return cohort
    try:
        return cohort.with_regions(target.regions)
    except DataError as error:
        raise DataError(
            f"cohort {cohort.name!r} ({cohort.atlas}) does not fit the target's atlas ({target.atlas})",
            problems=(*error.problems[:5],),
        ) from error


def _settle(folder: Path, settings: StudySettings, target: Cohort) -> SplitPlan:
    """Write the resolved settings and the split plan, or find that they are those of the run to resume.

    Raises:
        UsageError: the folder holds a run with other settings or splits.
    """
    text = dump_settings(settings)
    settings_file, plan_file = folder / "study.yaml", folder / "split_plan.json"
    splits = make_split_plan(target, settings.splits)
    begun = any((folder / "models").rglob("*.json"))  # settings that failed before the first fit bind nobody
    if begun and settings_file.is_file() and _without_jobs(settings_file.read_text("utf-8")) != _without_jobs(text):
        raise UsageError(
            "the folder holds a run with other settings",
            file=settings_file,
            remedy="Give another --out, or delete the folder if that run is not needed.",
        )
    if begun and plan_file.is_file() and SplitPlan.load(plan_file).hash != splits.hash:
        raise UsageError(
            "the folder holds a run with another split plan: the target cohort has changed",
            file=plan_file,
            remedy="Give another --out.",
        )
    write_text(settings_file, text)
    splits.save(plan_file)
    return splits


def _seen_from(folder: Path, settings: StudySettings, home: Path) -> StudySettings:
    """The same settings with cohort paths relative to the run folder, so that its study.yaml runs as it lies."""

    def moved(use: CohortUse | None) -> CohortUse | None:
        if use is None or Path(use.cohort).is_absolute():
            return use
        return use.model_copy(update={"cohort": Path(os.path.relpath(home / use.cohort, folder)).as_posix()})

    return settings.model_copy(
        update={"source": moved(settings.source), "pool": moved(settings.pool), "target": moved(settings.target)}
    )


def _without_jobs(text: str) -> str:
    # The number of processes changes no result, so a run may resume with another.
    return "\n".join(line for line in text.splitlines() if not line.startswith("n_jobs:"))


def _permute(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    models: Path,
    counted: Callable[[str], AbstractContextManager[Progress]],
) -> dict[str, np.ndarray]:
    """Statistics of observed and permuted outcomes by model; empty where no permutation is asked for."""
    target, found = cohorts.target, {}
    families = dict(zip(target.ids, (str(name) for name in target.family), strict=True))
    sites = dict(zip(target.ids, (str(site) for site in target.site), strict=True)) if any(target.site) else None
    asked = {
        "core": (settings.permutations, core_statistics),
        "full": (settings.network_permutations, network_statistics),
    }
    for model, (n_permutations, statistics) in asked.items():
        if n_permutations:
            moves = exchangeable_permutations(target.ids, n_permutations, settings.seed, families, sites)
            with counted(f"permutations of the {model} model") as progress:
                store = FitStore(models if model == "core" else models / "permuted")
                found[model] = statistics(settings, cohorts, splits, tasks, moves, store=store, progress=progress)
    return found


def _write(
    folder: Path,
    settings: StudySettings,
    cohorts: StudyCohorts,
    fitted: Found,
    found: Judgement,
) -> None:
    from connectome_tl.report.render import render_report

    reveal(folder, "run", found.record)
    mended = fitted.recalibrated
    inputs = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    tables = {"predictions.tsv": (fitted.predictions, PREDICTION_COLUMNS)}
    if mended is not None:
        tables["calibrated.tsv"] = (mended.predictions, PREDICTION_COLUMNS | CALIBRATED_COLUMNS)
    for name, (rows, columns) in tables.items():
        table = write_table(folder / name, rows)
        write_sidecar(table, inputs=inputs, settings=settings.decisive, seed=settings.seed, Columns=columns)
    write_json(folder / "scores.json", found.record.scores)
    write_json(folder / "results.json", found.record)
    seen = looks(folder, found.record.provenance["infants"])
    write_text(folder / "report.html", render_report(with_ledger(found.record, seen, until_first=True)))
    write_json(folder / "provenance.json", found.provenance)


def _frame(records: Sequence) -> pd.DataFrame:
    return pd.DataFrame([record.model_dump() for record in records])
