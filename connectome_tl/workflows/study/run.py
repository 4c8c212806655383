"""`connectome-tl run`: run a study from its settings to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from connectome_tl.arguments import checked_arguments
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.config import differences, load_settings
from connectome_tl.errors import ConnectomeTLError, UsageError
from connectome_tl.files import traced
from connectome_tl.provenance import write_json, write_sidecar, write_table, write_text
from connectome_tl.settings.study import ROLES, StudySettings
from connectome_tl.settings_lines import names_lines
from connectome_tl.tasks import Task
from connectome_tl.workflows.folder import claim, open_log
from connectome_tl.workflows.images.grids import CACHE, needs_grids, settled, with_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.scans.study import make_cohort, scan_cohorts, with_connectomes
from connectome_tl.workflows.study.finished import forget_results, is_finished, mark_finished
from connectome_tl.workflows.study.inputs import SEARCH, STUDY, make_learnable_plan, read_cohorts, seen_from, written
from connectome_tl.workflows.study.ledger import looks, reveal, with_ledger
from connectome_tl.workflows.study.results import as_frame
from connectome_tl.workflows.study.study_run import StudyRun, read_run
from connectome_tl.workflows.study.tuned import check_tuned, read_tuned

if TYPE_CHECKING:  # what fits imports torch, which a finished run does not need
    from connectome_tl.cohort.cohort import Cohort
    from connectome_tl.settings.records.results import RunRecord
    from connectome_tl.training.schemes import StudyCohorts
    from connectome_tl.workflows.study.fitting import Found
    from connectome_tl.workflows.study.judge import Judgement

_PLAN = "split_plan.json"
_OTHER = "Give another --out, or delete the folder if that run is not needed."
_SHOWN = 120  # characters of one changed setting


@checked_arguments
@names_lines
def run_study(
    study: str | Path | StudySettings,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    show_progress: bool = False,
    base: str | Path | None = None,
    check: bool = False,
    tuned: str | Path | None = None,
    scheduler: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> StudyRun:
    """Run a study and write its folder; the same call resumes an interrupted run.

    Connectomes of cohorts with a `scans:` block are computed first, by default in `scans/` of the folder.

    Args:
        study: path of study.yaml, or settings made in Python (then cohort paths are relative to `base`).
        overrides: `key.sub=value` texts, as for `--set`.
        show_progress: draw progress bars.
        check: read and hash all inputs even if the run is finished and no size or time stamp has changed.
        tuned: folder of a finished `tune`, whose settings are used for each outer fold.
        scheduler: address of a Dask scheduler for the fits; results do not depend on it.
        tell: called before a study of more than a minute with a line on its cost (`forecast_study`).

    Raises:
        UsageError: settings are wrong, the folder contains another study, or `tuned` belongs to another study.
        DataError: a cohort is invalid; all problems are listed.
        LeakageError: a fitted step used a test row.
    """
    folder = Path(out)
    if isinstance(study, StudySettings):
        settings, home = study, Path(base) if base is not None else Path()
    else:
        settings, home = load_settings(study, StudySettings, overrides=overrides), Path(study).parent
    if tuned is not None:
        settings = settings.model_copy(update={"tuned": read_tuned(tuned)})
    with traced() as inputs:
        from_scans = scan_cohorts(settings, home, folder)
        settings = settled(with_connectomes(settings, home, from_scans), home, folder)
    seen_from_there = seen_from(folder, settings, home)
    if not check and is_finished(folder, seen_from_there):
        found_run = read_run(folder)
        reveal(folder, "run", found_run.record)  # record that the scores are shown again
        return found_run
    with (
        Steps(shown=show_progress) as steps,
        claim(folder),
        open_log(folder, settings.title) as log,
        traced(inputs),
    ):
        for one in from_scans:
            with steps.counted(f"connectomes of {one.settings.name}") as progress:
                made_from, made = make_cohort(one, settings.n_jobs, progress=progress)
                inputs.files |= made_from
            for scan, problem, _ in made.failed:
                log.warning("scan %s: %s", scan, problem)
        with steps.step("reading cohorts"):
            cohorts = read_cohorts(settings, home)
        from connectome_tl.evaluation.images.age_gaps import check_brain_age
        from connectome_tl.evaluation.nested_cv import tasks_of
        from connectome_tl.training.checks import check_bins, check_embedded, check_inputs, check_names
        from connectome_tl.training.cluster import on_scheduler
        from connectome_tl.workflows.study.fitting import fit_study, permutation_notes
        from connectome_tl.workflows.study.judge import judge, measure

        tasks = tasks_of(settings, cohorts)
        check_names(settings, cohorts)
        check_brain_age(settings, cohorts.target, tasks, cohorts.source)
        asked = make_learnable_plan(settings, home, cohorts)
        check_tuned(settings, cohorts, asked, any_code=False)
        check_embedded(cohorts.target, asked)
        check_inputs(settings, cohorts, asked)
        check_bins(settings, cohorts.target, asked)
        if needs_grids(settings, cohorts):
            with steps.counted("volumes") as progress:
                cohorts = with_grids(settings, cohorts, folder / CACHE, progress=progress)
        settings = seen_from_there
        splits = _settle(folder, settings, cohorts.target)
        log.info("split plan %s", splits.hash)
        for note in permutation_notes(settings, cohorts.target, tasks):
            log.warning(note)
            if tell is not None:
                tell(note)
        if tell is not None:
            _tell_cost(tell, settings, cohorts, splits, tasks, folder)
        with on_scheduler(scheduler):
            found = fit_study(folder, settings, cohorts, splits, tasks, steps)
        with steps.step("scores, comparisons, report"):
            # Numbers are on disk before any sentence is composed about them.
            measured = measure(settings, cohorts, splits, found)
            forget_results(folder)
            _write_numbers(folder, settings, cohorts, found, measured)
            _write_report(folder, judge(settings, cohorts, splits, found, measured))
        mark_finished(folder, settings, cohorts.kinds, inputs)
        log.info("done")
    return read_run(folder)


def _tell_cost(
    tell: Callable[[str], None],
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    folder: Path,
) -> None:
    from connectome_tl.workflows.study.forecast import WORTH_SAYING, forecast, is_long

    if is_long(settings, cohorts, splits, tasks):
        try:
            found = forecast(settings, cohorts, splits, tasks, folder, brief=True)
        except ConnectomeTLError as error:  # raised by a short timed fit; the actual fits may succeed
            tell(f"the cost was not predicted: {error}")
            return
        if found.seconds > WORTH_SAYING:
            tell(f"{found.line}; --dry-run lists cheaper settings")


def _settle(folder: Path, settings: StudySettings, target: Cohort) -> SplitPlan:
    """Write the resolved settings and the split plan, or check that they equal those of the run to resume.

    Raises:
        UsageError: the folder contains a run with other settings or splits.
    """
    splits = make_split_plan(target, settings.splits)
    _refuse_another_run(folder, settings, splits)
    write_text(folder / STUDY, written(folder, settings))
    splits.save(folder / _PLAN)
    return splits


def _refuse_another_run(folder: Path, settings: StudySettings, splits: SplitPlan) -> None:
    """Check that a folder contains no run, or the one with these settings, whose paths are seen from the folder.

    Raises:
        UsageError: the folder contains a run with other settings or splits, or a search.
    """
    if (folder / SEARCH).exists():
        raise UsageError("the folder contains a search by tune", file=folder, remedy="Give another --out.")
    settings_file, plan_file = folder / STUDY, folder / _PLAN
    begun = any((folder / "models").rglob("*.json"))  # settings may change if the run failed before its first fit
    if begun and settings_file.is_file():
        _refuse_other(settings_file, written(folder, settings))
    if begun and plan_file.is_file() and SplitPlan.load(plan_file).hash != splits.hash:
        raise UsageError(
            "the folder contains a run with another split plan: the target cohort has changed",
            file=plan_file,
            remedy="Give another --out.",
        )


def _refuse_other(begun: Path, text: str) -> None:
    """Compare the settings of an interrupted run with those of this call.

    Raises:
        UsageError: settings differ, except for the number of processes and the paths of the data, which do not affect
            results.
    """
    try:
        before, now = (yaml.safe_load(one) or {} for one in (begun.read_text("utf-8"), text))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError("the settings of the run in this folder cannot be read", file=begun, remedy=_OTHER) from error
    changed = [line for line in differences(_in_one_place(before, now), now) if not line.startswith("n_jobs: ")]
    if not changed:
        return
    remedy = _OTHER
    if len(changed) == 1 and changed[0].startswith("device: "):
        there = before.get("device")
        if there in ("cpu", "cuda"):
            where = " on a machine with a GPU" if there == "cuda" else ""
            remedy = (
                f"A run continues on the device it began with. Give --set device={there}{where}, or give another --out."
            )
    raise UsageError(
        "the folder contains a run with other settings",
        got="; ".join(line[:_SHOWN] for line in changed[:4]) + (" ..." if len(changed) > 4 else ""),
        file=begun,
        remedy=remedy,
    )


def _in_one_place(before: Any, now: Any) -> Any:
    """The settings of an interrupted run, with current paths for files of the same folder and name.

    Their contents are compared with those of the run by the keys of its fits and by its split plan.
    """
    if not isinstance(before, dict) or not isinstance(now, dict):
        return before
    found = dict(before)
    for key, value in before.items():
        if key in (*ROLES, "image", "embedding"):
            found[key] = _in_one_place(value, now.get(key))
        elif key in ("cohort", "file") and PurePath(str(value)).parts[-2:] == PurePath(str(now.get(key))).parts[-2:]:
            found[key] = now.get(key)
    return found


def _write_numbers(
    folder: Path,
    settings: StudySettings,
    cohorts: StudyCohorts,
    fitted: Found,
    measured: RunRecord,
) -> None:
    """Predictions, scores and comparisons; before them the entry in the ledger."""
    from connectome_tl.workflows.study.prediction_files import prediction_files

    reveal(folder, "run", measured)
    inputs = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    for file in prediction_files(fitted):
        table = write_table(folder / file.name, file.rows)
        write_sidecar(table, inputs=inputs, settings=settings.decisive, seed=settings.seed, Columns=file.columns)
    write_json(folder / "scores.json", measured.scores)
    for name, records in (("scores", measured.scores), ("comparisons", measured.comparisons)):
        write_table(folder / f"{name}.tsv", as_frame(records))
    if measured.learning_curve:
        write_table(folder / "learning_curve.tsv", as_frame(measured.learning_curve))


def _write_report(folder: Path, found: Judgement) -> None:
    from connectome_tl.report.render import render_report

    write_json(folder / "results.json", found.record)
    seen = looks(folder, found.record)
    write_text(folder / "report.html", render_report(with_ledger(found.record, seen, until_first=True)))
    write_json(folder / "provenance.json", found.provenance)
