"""`connectome-tl audit`: check a finished run against its settings and data."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.arguments import checked_arguments
from connectome_tl.audit.duplicates import duplicate_findings, stand_apart
from connectome_tl.audit.names import name_findings
from connectome_tl.audit.nuisance import nuisance_findings, nuisance_scores
from connectome_tl.audit.replay import Replay, replay_findings
from connectome_tl.audit.results import of_other_version
from connectome_tl.audit.same_rows import same_row_findings
from connectome_tl.audit.single_values import alone_findings
from connectome_tl.audit.tables import null_findings, prediction_findings, score_findings, split_findings
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, OutputError, UsageError
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash, read_json, read_own_json_object, versions, write_json
from connectome_tl.settings.records.audit import AuditRecord, Finding
from connectome_tl.settings.records.results import RunRecord, Score
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.audit.results import judged_findings, shown_findings
from connectome_tl.workflows.images.grids import CACHE, needs_grids, with_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.inputs import path_from, read_run_cohorts, read_study
from connectome_tl.workflows.study.ledger import LEDGER, doubts, looks, reveal
from connectome_tl.workflows.study.results import read_predictions, read_record
from connectome_tl.workflows.study.tuned import check_tuned
from connectome_tl.workflows.study.unchanged import changed_cohorts

_FILES = ("study.yaml", "split_plan.json", "predictions.tsv", "scores.json", "results.json", "provenance.json")


@checked_arguments
def audit_run(
    run_dir: str | Path, *, base: str | Path | None = None, repeat: int = 0, fold: int = 0, show_progress: bool = False
) -> AuditRecord:
    """Run all checks of a finished run, and write `audit.json` to its folder.

    Args:
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.
        repeat, fold: fold whose test rows are corrupted to test whether any fitted state changes.

    Raises:
        MissingInputError: a file of the run, or a cohort, does not exist.
        DataError: a file of the run cannot be read. UsageError: no such repeat or fold.
    """
    folder = Path(run_dir)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise MissingInputError(
            f"not a finished run: no {', '.join(missing)}",
            file=folder,
            remedy=f"Complete it first: connectome-tl run STUDY.yaml --out {folder}.",
        )
    settings = read_study(folder)
    predictions = read_predictions(folder / "predictions.tsv")
    calibrated = read_predictions(folder / "calibrated.tsv") if (folder / "calibrated.tsv").is_file() else None
    recorded = _scores(folder / "scores.json")
    results = read_record(folder)
    with Steps(shown=show_progress) as steps:
        with steps.step("reading cohorts"):
            cohorts = read_run_cohorts(settings, folder, base)
            reveal(folder, "audit", results)
            cohorts = with_grids(settings, cohorts, folder / CACHE)
            tasks = tasks_of(settings, cohorts)
        target = cohorts.target
        findings = [
            *_settled(folder, cohorts),
            *_embedded(settings, folder if base is None else Path(base)),
            _ledger(folder, results),
            *shown_findings(folder, results, recorded),
        ]
        try:
            splits = SplitPlan.load(folder / "split_plan.json")
        except DataError as error:
            findings.append(Finding(check="split plan", status="failed", what=str(error)))
            return _written(folder, settings, findings)
        findings += [_made_by_settings(splits, settings, cohorts), *split_findings(splits, target.families)]
        findings += [*_tuned(settings, cohorts, splits), _leaks(settings)]
        placed = prediction_findings(predictions, splits, target.targets, tasks, settings.threshold)
        findings += placed
        findings += score_findings(
            predictions,
            recorded,
            tasks,
            target.families,
            settings.splits.n_labelled,
            other_version=of_other_version(results, versions()),
        )
        findings += nuisance_findings(recorded, nuisance_scores(target, splits, tasks), tasks)
        findings += [*alone_findings(target, tasks), *name_findings(target, tasks)]
        findings += null_findings(results.permutations)
        with steps.step("searching for duplicate subjects"):
            image = settings.image if needs_grids(settings, cohorts) else None
            findings += duplicate_findings(cohorts.by_name(), splits, image)
            findings += same_row_findings(target, splits, stand_apart)
        if not 0 <= repeat < splits.n_repeats or not 0 <= fold < len(splits.repeats[repeat]):
            raise UsageError(
                "no such fold in the split plan",
                expected=f"repeat 0 to {splits.n_repeats - 1}, and a fold of it from 0",
                got=f"repeat {repeat}, fold {fold}",
            )
        try:
            with steps.counted("fitting again") as progress:
                replay = Replay(settings, cohorts, splits, tasks, repeat, fold)
                fits = replay.refitted(progress)
            with steps.counted("comparing, and fitting a fold with corrupted test rows") as progress:
                findings += replay_findings(replay, fits, predictions, calibrated, progress)
            if all(finding.status == "passed" for finding in placed):
                findings += judged_findings(folder, replay, fits, predictions, results, steps)
        except ConnectomeTLError as error:
            findings.append(Finding(check="fitted again", status="failed", what=str(error)))
    return _written(folder, settings, findings)


def _leaks(settings: StudySettings) -> Finding:
    check = "settings that leak"
    if not settings.leaks:
        return Finding(check=check, status="passed", what="none")
    return Finding(
        check=check,
        status="failed",
        what="; ".join(settings.leaks),
        remedy="The run shows the effect of an error. For scores, leave these settings out and run the study again.",
    )


def _ledger(folder: Path, record: RunRecord) -> Finding:
    """Numbers of times and of configurations with which test scores of these subjects were viewed."""
    check = "ledger of test scores"
    provenance = read_own_json_object(folder / "provenance.json")
    seen = [one for one in looks(folder, record) if one.how != "audit"]
    configurations = {one.configuration for one in seen}
    if provenance.get("configuration") not in configurations:
        return Finding(
            check=check,
            status="warning",
            what=f"this run is not in its own ledger (log/{LEDGER}): it was removed, or another version made the run",
            remedy="How often these subjects were scored is unknown: report this with the scores.",
        )
    strange = doubts(folder)
    if strange:
        return Finding(
            check=check,
            status="failed",
            what="; ".join(strange),
            remedy="The ledger was edited or damaged after it was written. Restore it, or report this with the scores.",
        )
    if len(configurations) > 1:
        return Finding(
            check=check,
            status="warning",
            what=f"scores of these subjects were evaluated {len(seen)} times, with "
            f"{counted(len(configurations), 'configuration')}",
            remedy="If this one was chosen by its test scores, these are optimistic: report the number tried.",
        )
    return Finding(check=check, status="passed", what=f"evaluated {len(seen)} times, with this configuration only")


def _settled(folder: Path, cohorts: StudyCohorts) -> list[Finding]:
    """Check that the cohorts are those of the run."""
    check = "the data are those of the run"
    changed = changed_cohorts(folder, cohorts)
    if changed:
        text = f"changed since the run: {', '.join(changed)}"
        return [Finding(check=check, status="failed", what=text, remedy="Restore the data, or run the study again.")]
    return [Finding(check=check, status="passed", what="all cohorts are unchanged")]


def _embedded(settings: StudySettings, home: Path) -> list[Finding]:
    """The file of image embeddings, which is no part of a cohort, is that of the run."""
    use = settings.image.embedding
    if use is None or not use.hash:
        return []
    check = "the embeddings are those of the run"
    if file_hash(path_from(home, use.file)) == use.hash:
        return [Finding(check=check, status="passed", what="the file is unchanged")]
    what = f"{use.file} was changed since the run"
    return [Finding(check=check, status="failed", what=what, remedy="Restore the file, or run the study again.")]


def _tuned(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan) -> list[Finding]:
    """Check that tuned settings belong to this study, data and folds. The search is not repeated."""
    if settings.tuned is None:
        return []
    check = "tuned settings belong to this study"
    try:
        check_tuned(settings, cohorts, splits, any_code=True)
    except UsageError as error:
        return [Finding(check=check, status="failed", what=str(error))]
    text = (
        f"{counted(settings.tuned.trials, 'trial')} per fold, found on these data and splits; the search was "
        f"not repeated"
    )
    return [Finding(check=check, status="passed", what=text)]


def _made_by_settings(splits: SplitPlan, settings: StudySettings, cohorts: StudyCohorts) -> Finding:
    check = "the split plan is that of the settings"
    if make_split_plan(cohorts.target, settings.splits).hash == splits.hash:
        return Finding(check=check, status="passed", what="made again, it has the same hash")
    return Finding(
        check=check,
        status="failed",
        what="made again from the settings and the cohort, it has other folds",
        remedy="split_plan.json, study.yaml or the cohort was edited. Restore it, or run the study again.",
    )


def _scores(path: Path) -> list[Score]:
    try:
        # Undefined numbers are written as null.
        rows = [{k: float("nan") if v is None and k in ("value", "low", "high") else v for k, v in row.items()}
                for row in read_json(path)]  # fmt: skip
        return [Score(**row) for row in rows]
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"not a list of scores: {error}", file=path) from error


def _written(folder: Path, settings: StudySettings, findings: list[Finding]) -> AuditRecord:
    record = AuditRecord(title=settings.title, findings=tuple(findings))
    try:
        write_json(folder / "audit.json", record)
    except OutputError as error:  # an archived run, or one of another user
        unwritten = Finding(check="audit.json", status="warning", what=str(error))
        return record.model_copy(update={"findings": (*record.findings, unwritten)})
    return record
