"""Forecast of a study: fits, CPU time, memory, finished fits, cheaper alternatives."""

from __future__ import annotations

import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.settings.base import Record
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings_lines import names_lines
from connectome_tl.tasks import Task
from connectome_tl.workflows.scans.forecast import duration
from connectome_tl.workflows.scans.study import forecast_of, scan_cohorts, with_connectomes
from connectome_tl.workflows.study.finished import is_finished
from connectome_tl.workflows.study.tuned import check_tuned, read_tuned, tuned_from

if TYPE_CHECKING:  # what fits imports torch
    from connectome_tl.evaluation.cost import Cost, Measured
    from connectome_tl.training.schemes import StudyCohorts

WORTH_SAYING = 60.0  # CPU seconds; no forecast is printed for shorter studies
_SAVES = 0.02  # smallest fraction of the total cost that a suggested change must save


class FitCount(Record):
    """Fits of one model and stage: total number, number of finished ones, CPU seconds of the others."""

    model: str
    stage: str
    n_fits: int
    n_done: int
    seconds: float


class Saving(Record):
    """A change of the settings, in the syntax of `--set`, and the CPU seconds that it saves."""

    change: str
    seconds: float


class Forecast(Record):
    """Predicted remaining cost of a study.

    Attributes:
        fits: fits by model and stage; shared fits are listed under the first model. steps: CPU seconds of other steps.
        n_jobs: number of processes. divided: CPU seconds of fits, those of the steps included, divided among them.
        memory: peak memory of all processes, in bytes. savings: largest first; none if the run has begun, since its
            settings cannot be changed.
        scans: lines on scans to be processed first; if there are any, the rest is not predicted.
        notes: permutation tests that will be left out, or that have too few permutations.
        omitted: controls of the settings that are not fitted, with the reason.
        finished: whether the run is finished, so that nothing is computed.
    """

    fits: tuple[FitCount, ...] = ()
    steps: tuple[tuple[str, float], ...] = ()
    n_jobs: int = 1
    divided: float = 0.0
    memory: float = 0.0
    savings: tuple[Saving, ...] = ()
    scans: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    finished: bool = False

    @property
    def seconds(self) -> float:
        """CPU seconds."""
        return sum(count.seconds for count in self.fits) + sum(seconds for _, seconds in self.steps)

    @property
    def line(self) -> str:
        """Summary in one line."""
        if self.finished:
            return "The run is finished: nothing is to be computed."
        if self.scans:
            return "The fits are predicted after the connectomes are computed."
        n_left = sum(count.n_fits - count.n_done for count in self.fits)
        wall = self.divided / self.n_jobs + self.seconds - self.divided
        at_once = f", {_time(wall)} with {self.n_jobs} processes" if self.n_jobs > 1 else ""
        return (
            f"{n_left} of {sum(count.n_fits for count in self.fits)} fits to make: roughly {_time(self.seconds)} of "
            f"CPU time{at_once}, and {self.memory / 1e9:.1f} GB of memory"
        )


@names_lines
def forecast_study(
    study: str | Path | StudySettings,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    base: str | Path | None = None,
    tuned: str | Path | None = None,
) -> Forecast:
    """Predict the cost of `run_study` with the same arguments, without writing to its folder.

    A few short fits on the study's rows are timed. If connectomes remain to be computed from scans, only their cost is
    predicted; those of an earlier run are used.

    Raises:
        UsageError, DataError, MissingInputError: as raised by `run_study` before any fit, except for a folder with
            another run.
    """
    folder = Path(out)
    if isinstance(study, StudySettings):
        settings, home = study, Path(base) if base is not None else Path()
    else:
        settings, home = load_settings(study, StudySettings, overrides=overrides), Path(study).parent
    if tuned is not None:
        settings = settings.model_copy(update={"tuned": read_tuned(tuned)})
    from_scans = scan_cohorts(settings, home, folder)
    if not all(one.file.is_file() for one in from_scans):
        return Forecast(n_jobs=settings.n_jobs, scans=tuple(forecast_of(one, settings.n_jobs) for one in from_scans))
    settings = with_connectomes(settings, home, from_scans)
    from connectome_tl.evaluation.images.age_gaps import check_brain_age
    from connectome_tl.evaluation.nested_cv import tasks_of
    from connectome_tl.training.checks import check_bins, check_embedded, check_inputs, check_names
    from connectome_tl.workflows.images.grids import CACHE, settled, with_grids
    from connectome_tl.workflows.study.inputs import make_learnable_plan, read_cohorts, seen_from

    with tempfile.TemporaryDirectory() as scratch:
        made = folder / CACHE
        settings = settled(settings, home, Path(scratch) if not folder.is_dir() else folder)
        if is_finished(folder, seen_from(folder, settings, home)):
            return Forecast(n_jobs=settings.n_jobs, finished=True)
        cohorts = read_cohorts(settings, home)
        check_names(settings, cohorts)
        tasks = tasks_of(settings, cohorts)
        check_brain_age(settings, cohorts.target, tasks, cohorts.source)
        splits = make_learnable_plan(settings, home, cohorts)
        check_tuned(settings, cohorts, splits, any_code=False)
        check_embedded(cohorts.target, splits)
        check_inputs(settings, cohorts, splits)
        check_bins(settings, cohorts.target, splits)
        started = time.process_time()
        cohorts = with_grids(settings, cohorts, made if made.is_dir() else Path(scratch))
        resampling = 0.0 if made.is_dir() else time.process_time() - started
        return forecast(settings, cohorts, splits, tasks, folder, resampling=resampling)


def forecast(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    folder: Path,
    *,
    brief: bool = False,
    resampling: float = 0.0,
) -> Forecast:
    """Forecast of a study from its cohorts; fits in its folder count as finished.

    Args:
        resampling: CPU seconds to resample its volumes.
        brief: less accurate timing without suggestions, sufficient for the summary line.
    """
    from connectome_tl.evaluation.cost import Finished, measured, predicted
    from connectome_tl.evaluation.nested_cv import plan_folds
    from connectome_tl.training.fit import unique_plans
    from connectome_tl.workflows.study.fitting import permutation_notes

    planned = plan_folds(settings, cohorts, splits, tasks)
    unique = unique_plans(plan for item in planned for plan in item.plans)
    done = Finished.of(folder / "models")
    left = [plan for key, plan in unique.items() if key not in done.keys]
    fitted_later = settings.refits.network or settings.network_permutations or settings.learning_curve
    timed = list(unique.values()) if fitted_later else left
    with tempfile.TemporaryDirectory() as scratch:
        known = measured(settings, cohorts, splits, tasks, timed, Path(scratch), brief=brief)
    cost = predicted(settings, cohorts, splits, tasks, known, done)
    volumes = (("volumes", resampling),) if resampling else ()
    n_jobs = settings.n_jobs
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Forecast(
        fits=_counts(cost, done.keys),
        steps=(*volumes, *cost.steps.items()),
        n_jobs=n_jobs,
        divided=cost.divided,
        memory=peak * (1 + n_jobs if n_jobs > 1 and len(left) > 1 else 1),
        notes=permutation_notes(settings, cohorts.target, tasks),
        omitted=_omitted(settings, cohorts, tasks),
        savings=() if brief or done.keys else _savings(settings, cohorts, tasks, known, cost),
    )


def is_long(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]) -> bool:
    """Whether a study may take long enough for a forecast, estimated without timing."""
    from connectome_tl.evaluation.nested_cv import plan_folds
    from connectome_tl.training.fit import unique_plans
    from connectome_tl.training.work import work_of

    planned = plan_folds(settings, cohorts, splits, tasks)
    plans = unique_plans(plan for item in planned for plan in item.plans).values()
    return sum(map(work_of, plans)) > WORTH_SAYING


def _counts(cost: Cost, done: frozenset[str]) -> tuple[FitCount, ...]:
    found: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    for plan, seconds in cost.fits:
        found.setdefault((plan.label, plan.stage), []).append((plan.key in done, seconds))
    return tuple(
        FitCount(
            model=model,
            stage=stage,
            n_fits=len(rows),
            n_done=sum(is_done for is_done, _ in rows),
            seconds=sum(seconds for _, seconds in rows),
        )
        for (model, stage), rows in found.items()
    )


def _omitted(settings: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task]) -> tuple[str, ...]:
    """A line per reason, with the controls that it applies to."""
    from connectome_tl.training.schemes import omitted_controls

    names: dict[str, list[str]] = {}
    for name, reason in omitted_controls(settings, cohorts, len(tasks)).items():
        names.setdefault(reason, []).append(name)
    return tuple(f"{', '.join(of)}: {reason}" for reason, of in names.items())


def _savings(
    settings: StudySettings,
    cohorts: StudyCohorts,
    tasks: Sequence[Task],
    known: Measured,
    cost: Cost,
) -> tuple[Saving, ...]:
    """Savings of several changes, each on its own, without those that another setting of the study rules out."""
    from connectome_tl.evaluation.cost import predicted

    found = []
    for change, key, value in _changes(settings):
        try:
            other = settings.with_settings({key: value})
        except UsageError:  # for example, `recalibration` needs inner folds
            continue
        if settings.tuned is not None and tuned_from(other) != tuned_from(settings):
            continue
        splits = make_split_plan(cohorts.target, other.splits)
        saved = cost.total - predicted(other, cohorts, splits, tasks, known).total
        if saved > _SAVES * cost.total:
            found.append(Saving(change=change, seconds=saved))
    return tuple(sorted(found, key=lambda saving: -saving.seconds))


def _changes(settings: StudySettings) -> list[tuple[str, str, object]]:
    """Changes that make a study cheaper: text for `--set`, key, value."""
    networks = settings.stages.finetune.ensemble.networks
    wanted: list[tuple[str, object, bool]] = [
        ("splits.repeats", 1, settings.splits.repeats > 1),
        ("splits.inner", 0, settings.splits.inner > 0),
        ("n_seeds", 1, settings.n_seeds > 1),
        ("stages.finetune.ensemble.networks", 2, networks > 2),
        ("controls", (), bool(settings.controls)),
        ("permutations", 0, settings.permutations > 0),
        ("network_permutations", 0, settings.network_permutations > 0),
        ("baseline_permutations", 0, settings.baseline_permutations > 0),
        ("refits.network", 0, settings.refits.network > 0),
        ("refits.linear", 0, settings.refits.linear > 0),
        ("learning_curve", (), bool(settings.learning_curve)),
    ]
    return [(f"{key}={'[]' if value == () else value}", key, value) for key, value, asked in wanted if asked]


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 15 else f"{seconds:.1f} s"


def print_forecast(found: Forecast, console: Console | None = None) -> None:
    """Print the tables of a forecast."""
    screen = console or Console()
    for line in found.scans:
        screen.print(Text(line))
    if found.scans or found.finished:
        return
    table = Table(title="Fits", title_justify="left")
    for heading in ("model", "stage", "fits", "done", "CPU time left"):
        table.add_column(heading, justify="left" if heading in ("model", "stage") else "right")
    for count in found.fits:
        left = _time(count.seconds) if count.n_done < count.n_fits else ""
        table.add_row(Text(count.model), count.stage, str(count.n_fits), str(count.n_done or ""), left)
    screen.print(table)
    for name, seconds in found.steps:
        screen.print(Text(f"{name}: {_time(seconds)}"))
    for line in found.omitted:
        screen.print(Text(f"not fitted: {line}"))
    for note in found.notes:
        screen.print(Text(f"warning: {note}"))
    if found.savings:
        screen.print(Text("Each of these changes alone reduces the cost:"))
    for saving in found.savings:
        screen.print(Text(f"  --set {shlex.quote(saving.change)}: {_time(saving.seconds)} less"))
