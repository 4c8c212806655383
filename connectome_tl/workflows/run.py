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
from connectome_tl.evaluation.clinical.recalibration import RecalibratedStudy, recalibrate_study
from connectome_tl.evaluation.instability import study_instability
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.provenance import write_json, write_sidecar, write_table, write_text
from connectome_tl.settings.results import RunRecord
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.stages import StudyCohorts, check_names
from connectome_tl.workflows.folder import claim, open_log
from connectome_tl.workflows.judge import Judgement, judge
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
            _refuse_own_covariates(settings, cohorts, tasks)
        settings = _seen_from(folder, settings, home)
        splits = _settle(folder, settings, cohorts.target)
        log.info("split plan %s", splits.hash)
        store = FitStore(folder / "models")
        with steps.counted("fitting models") as progress:
            validation = cross_validate(settings, cohorts, splits, store=store, progress=progress)
        with steps.step("baselines"):
            baselines = baseline_predictions(settings, cohorts.target, splits, tasks)
        predictions = pd.concat([validation.predictions, baselines], ignore_index=True)
        mended: RecalibratedStudy | None = None
        if settings.splits.inner:
            with steps.counted("inner folds") as progress:
                mended = recalibrate_study(settings, cohorts, splits, predictions, store=store, progress=progress)
        with steps.counted("bootstrap refits") as progress:
            refitted = study_instability(
                settings, cohorts, splits, tasks, store=FitStore(folder / "models" / "resampled"), progress=progress
            )
        permuted = _permute(settings, cohorts, splits, tasks, FitStore(folder / "models" / "permuted"), steps.counted)
        with steps.step("scores, comparisons, report"):
            found = judge(settings, cohorts, splits, predictions, permuted, validation, mended, refitted)
            _write(folder, settings, cohorts, predictions, mended, found)
        log.info("done")
    record = found.record
    return StudyRun(
        folder,
        folder / "report.html",
        predictions,
        _frame(record.scores),
        _frame(record.comparisons),
        _frame(record.permutations),
        _frame(record.verdicts),
        record,
    )


def read_cohorts(settings: StudySettings, home: Path) -> StudyCohorts:
    """The study's cohorts, lined up by region name in the target's order.

    Raises:
        DataError: a cohort is wrong, or its regions or measures do not fit the target's.
    """
    read: dict[Path, Cohort] = {}

    def load(use: CohortUse | None) -> Cohort | None:
        if use is None:
            return None
        path = home / use.cohort
        if path not in read:
            read[path] = read_cohort(path)
        return read[path]

    target = load(settings.target)
    assert target is not None
    bound = settings.model.encoder.is_atlas_bound
    others = [_fitted_to(target, cohort, atlas_bound=bound) for cohort in (load(settings.source), load(settings.pool))]
    return StudyCohorts(target, *others)


def _refuse_own_covariates(settings: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task]) -> None:
    """A column may be a covariate and an outcome of a cohort; a study that predicts it must not also see it."""
    source = cohorts.source if settings.source is not None and settings.stages.pretrain is not None else None
    asked = [(cohorts.target, [task.name for task in tasks])]
    if source is not None and settings.source is not None:
        names = settings.source.tasks
        asked.append((source, list(names) if names is not None else [task.name for task in source.tasks]))
    problems = [
        Problem(
            f"in cohort {cohort.name!r} an outcome of this study is its own covariate",
            got=", ".join(cohort.own_covariates(names)),
            remedy="Name other tasks, or give the covariate role: nuisance in the cohort file.",
        )
        for cohort, names in asked
        if cohort.own_covariates(names)
    ]
    raise_all("the study cannot be run", problems, UsageError)


def _fitted_to(target: Cohort, cohort: Cohort | None, *, atlas_bound: bool) -> Cohort | None:
    if cohort is None:
        return None
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
    store: FitStore,
    counted: Callable[[str], AbstractContextManager[Progress]],
) -> np.ndarray | None:
    """Statistics of the observed and the permuted fine-tuning, or None where no permutation is asked for."""
    if not settings.permutations:
        return None
    target = cohorts.target
    families = dict(zip(target.ids, (str(name) for name in target.family), strict=True))
    moves = exchangeable_permutations(target.ids, settings.permutations, settings.seed, families)
    with counted("permuted fine-tuning") as progress:
        return network_statistics(settings, cohorts, splits, tasks, moves, store=store, progress=progress)


def _write(
    folder: Path,
    settings: StudySettings,
    cohorts: StudyCohorts,
    predictions: pd.DataFrame,
    mended: RecalibratedStudy | None,
    found: Judgement,
) -> None:
    from connectome_tl.report.render import render_report

    reveal(folder, "run", found.record)
    inputs = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    tables = {"predictions.tsv": (predictions, PREDICTION_COLUMNS)}
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
