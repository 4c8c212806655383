"""`connectome-tl tune`: search settings for each outer fold on its inner folds.

Any number of processes may share one folder or database; each may be interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from connectome_tl.arguments import Positive, checked_arguments
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.provenance import content_hash, write_text
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.parts import parts_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import Tuned, TuneSettings
from connectome_tl.settings_lines import names_lines
from connectome_tl.workflows.folder import open_log, refuse_not_begun, shared
from connectome_tl.workflows.images.grids import CACHE, settled, with_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.scans.study import make_cohort, scan_cohorts, with_connectomes
from connectome_tl.workflows.study.inputs import SEARCH, STUDY, make_learnable_plan, read_cohorts, seen_from, written
from connectome_tl.workflows.study.tuned import cohorts_hash, tuned_from, write_tuned

if TYPE_CHECKING:  # what fits imports torch
    from optuna.storages import RDBStorage

    from connectome_tl.evaluation.tuning.search import FoldSearch
    from connectome_tl.training.schemes import StudyCohorts

HEARTBEAT = 60  # seconds; with shorter intervals, running trials may be considered dead on a busy machine
_POLL = 1.0


@checked_arguments
@names_lines
def tune_study(
    study: str | Path | StudySettings,
    out: str | Path,
    *,
    storage: str | None = None,
    trials: Positive | None = None,
    space: str | Path | None = None,
    overrides: Sequence[str] = (),
    heartbeat: Positive = HEARTBEAT,
    show_progress: bool = False,
    base: str | Path | None = None,
    scheduler: str | None = None,
) -> Tuned:
    """Search settings for every outer fold of a study; the same call resumes an interrupted search.

    Args:
        study: path of study.yaml, or settings made in Python (then cohort paths are relative to `base`).
        storage: SQLAlchemy URL of the database of trials; a SQLite file in the folder by default.
        trials: completed trials per outer fold, instead of `tune.trials`.
        space: a file with the contents of `tune:` in study.yaml.
        overrides: `key.sub=value` texts, as for `--set`.
        heartbeat: seconds between heartbeats; after three missed ones a worker's trial is requeued.
        scheduler: address of a Dask scheduler for the fits; results do not depend on it.

    Returns:
        The tuned settings, as used by `run --tuned`.

    Raises:
        UsageError: the study has no search space or no inner folds, or the folder contains another search.
        DataError: a cohort is invalid, or an inner fold has no score.
        OutputError: the database cannot be reached.
    """
    folder = Path(out)
    if isinstance(study, StudySettings):
        settings, home = study, Path(base) if base is not None else Path()
    else:
        settings, home = load_settings(study, StudySettings, overrides=overrides), Path(study).parent
    settings = _with_space(settings, space, trials)
    refuse_not_begun(folder)
    from_scans = scan_cohorts(settings, home, folder)
    settings = settled(with_connectomes(settings, home, from_scans), home, folder)
    with Steps(shown=show_progress) as steps:
        for one in from_scans:
            with steps.counted(f"connectomes of {one.settings.name}") as progress:
                make_cohort(one, settings.n_jobs, progress=progress)
        with steps.step("reading cohorts"):
            cohorts = read_cohorts(settings, home)
        splits = make_learnable_plan(settings, home, cohorts)
        from connectome_tl.training.checks import check_embedded, check_inputs

        check_embedded(cohorts.target, splits)
        check_inputs(settings, cohorts, splits)
        cohorts = with_grids(settings, cohorts, folder / CACHE)  # trials add grids of other settings
        identity = _identity(settings, cohorts, splits)
        _refuse_other(folder, identity)
        from connectome_tl.evaluation.tuning.storage import LOCKED_S, is_locked, open_storage, wait_while_locked
        from connectome_tl.training.cluster import on_scheduler

        (folder / "log").mkdir(parents=True, exist_ok=True)
        url = storage or f"sqlite:///{(folder / 'trials.sqlite').resolve()}"
        if is_locked(url):
            with steps.step(f"waiting up to {LOCKED_S} s: another program has locked the database of trials"):
                wait_while_locked(url)
        with (
            shared(folder) as membership,
            open_log(folder, f"tune: {settings.title}") as log,
            _translated(url),
            open_storage(url, heartbeat=heartbeat) as database,
        ):
            write_text(folder / STUDY, written(folder, seen_from(folder, settings, home)))
            write_text(folder / SEARCH, identity + "\n")
            splits.save(folder / "split_plan.json")
            searches = _searches(settings, cohorts, splits, folder, identity, database)
            for search in searches:
                search.requeue(all_running=membership.alone and storage is None)
            membership.join()
            with on_scheduler(scheduler), steps.counted("trials") as progress:
                total = len(searches) * _tune(settings).trials
                kept = min(sum(search.n_complete() for search in searches), total)
                _search(
                    searches, lambda n: progress(min(n, total), total, (min(n, total) - kept) / max(total - kept, 1))
                )
            found = write_tuned(folder, settings, cohorts, splits, searches)
            log.info("done: %s", identity)
    return found


def _tune(settings: StudySettings) -> TuneSettings:
    if settings.tune is None:
        raise UsageError("the study has no search space", remedy="Give `tune:` in study.yaml, or --space FILE.")
    return settings.tune


def _with_space(settings: StudySettings, space: str | Path | None, trials: int | None) -> StudySettings:
    """The study with the search space.

    Raises:
        UsageError: there is no space, the study has no inner folds, or it is already tuned.
    """
    if space is not None:
        settings = settings.model_copy(update={"tune": load_settings(space, TuneSettings)})
    tune = _tune(settings)
    if trials is not None:
        tune = TuneSettings.model_validate({**tune.model_dump(), "trials": trials})
    if settings.tuned is not None:
        raise UsageError("the study already has tuned settings", remedy="Tune the original study.")
    if settings.splits.inner < 2:
        raise UsageError(
            "settings are chosen on inner folds, and the study has none",
            expected="splits.inner of 2 or more",
            got=f"splits.inner: {settings.splits.inner}",
            remedy="Set `inner: 3` below `splits` in study.yaml, or --set splits.inner=3.",
        )
    return settings.model_copy(update={"tune": tune})


def _identity(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan) -> str:
    """Hash that identifies a search: study, data, splits, space and code, but not the number of trials."""
    from connectome_tl.training.plans import code_version

    tune = _tune(settings)
    searched = settings.model_copy(update={"controls": (), "baselines": ()})
    code = code_version(parts_of(searched, cohorts.kinds, tune))
    space = tune.model_dump(mode="json", exclude={"trials"})
    return content_hash(tuned_from(settings), cohorts_hash(cohorts), splits.hash, space, code)


def _refuse_other(folder: Path, identity: str) -> None:
    known = folder / SEARCH
    begun = not known.is_file() and any((folder / "models").rglob("*.json"))  # by a run that was interrupted
    if begun or (folder / "results.json").exists():
        raise UsageError("the folder contains a run", file=folder, remedy="Give another --out.")
    if known.is_file() and known.read_text("utf-8", errors="replace").strip() != identity:
        raise UsageError(
            "the folder contains the search of another study, space, cohort or split plan, or of another version",
            file=folder,
            remedy="Give another --out, or delete the folder if that search is not needed.",
        )


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Convert database errors to one-line messages."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    from connectome_tl.evaluation.tuning.storage import unreachable

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise unreachable(url, error) from error


def _check_metrics(metrics: Sequence[str], kind: str) -> None:
    wrong = [name for name in metrics if not METRICS[name].of(kind)]
    if wrong:
        known = [name for name, metric in METRICS.items() if metric.of(kind) and metric.sign]
        raise UsageError(f"a {kind} outcome has no {wrong[0]}", expected=f"tune.objectives of {', '.join(known)}")


def _searches(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    folder: Path,
    identity: str,
    database: RDBStorage,
) -> list[FoldSearch]:
    import optuna

    from connectome_tl.evaluation.nested_cv import tasks_of
    from connectome_tl.evaluation.tuning.inner import InnerFolds, tuned_task
    from connectome_tl.evaluation.tuning.search import FoldSearch
    from connectome_tl.evaluation.tuning.space import check_space
    from connectome_tl.training.checkpoint import FitStore

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tune = _tune(settings)
    task = tuned_task(tune, tasks_of(settings, cohorts))
    metrics = tune.objectives or (task.spec.primary,)
    _check_metrics(metrics, task.kind)
    check_space(settings, cohorts, tune, splits.repeats[0][0])
    store = FitStore(folder / "models")
    return [
        FoldSearch(
            f"{identity[:16]} repeat {repeat} fold {number}",
            repeat,
            number,
            InnerFolds(settings, cohorts, fold, tune.model, task, metrics, store, f"repeat {repeat}, fold {number}"),
            tune,
            database,
            settings.seed,
        )
        for repeat, number, fold in splits.folds()
    ]


def _search(searches: Sequence[FoldSearch], progress: Callable[[int], None]) -> None:
    """Run trials until every fold has enough; wait for other workers, and requeue trials of dead ones."""
    while True:
        idle, open_folds = True, 0
        for search in searches:
            while (wants := search.wants()) == "a trial":
                search.run_trial()
                idle = False
                progress(sum(one.n_complete() for one in searches))
            open_folds += wants != "nothing"
        progress(sum(one.n_complete() for one in searches))
        if not open_folds:
            return
        if idle:
            time.sleep(_POLL)
            for search in searches:
                search.requeue()
