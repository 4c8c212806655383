"""`connectome-tl power`: what a study of this size can show, estimated by simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_subjects
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.planning import plan_binary, plan_regression
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.statistics import Plan
from connectome_tl.tasks import Task
from connectome_tl.workflows.progress import Ticker


def power_of_cohort(path: str | Path, *, console: Console | None = None) -> list[Plan]:
    """Power and precision for every outcome of a cohort, from its numbers of known outcomes; prints each plan.

    Raises:
        UsageError: the cohort has no outcome.
        DataError, MissingInputError: the cohort cannot be read.
    """
    screen = console or Console()
    cohort = read_subjects(path)
    if not cohort.tasks:
        raise UsageError("the cohort has no outcome", file=path, remedy="Give `outcomes` in cohort.yaml.")
    plans = []
    for task in cohort.tasks:
        with _waiting(screen, f"{task.label}: simulating studies"):
            plan, why = plan_of(cohort, task)
        if plan is None:
            screen.print(Text(f"{task.label}: no plan, {why}"))
        else:
            print_plan(task, plan, screen)
            plans.append(plan)
    return plans


def power_of_size(n: int, share: float | None, *, console: Console | None = None) -> Plan:
    """Power and precision for `n` subjects: binary with this fraction of positives, or a regression if None.

    Raises:
        UsageError: a share outside (0, 1), or a size that is too small or too large to be simulated.
    """
    if share is not None and not 0 < share < 1:
        raise UsageError("the share of positives is between 0 and 1", got=f"{share:g}")
    screen = console or Console()
    with _waiting(screen, "simulating studies"):
        if share is None:
            task, plan = Task(name="score", kind="regression", column="score"), None
            plan = plan_regression(task, n)
        else:
            task = Task(name="outcome", kind="binary", column="outcome")
            n_positive = round(share * n)
            plan = plan_binary(task, n_positive, n - n_positive)
    if plan is None:
        what = counted(n, "subject") + ("" if share is None else f", {round(share * n)} of them positive")
        raise UsageError(
            "no plan for this size",
            expected="20 to 500 subjects" if share is None else "at least 3 of each class, at most 500 subjects",
            got=what,
        )
    print_plan(task, plan, screen)
    return plan


@contextmanager
def _waiting(screen: Console, step: str) -> Iterator[None]:
    """A line on stderr every ten seconds of a step."""
    with Ticker(Console(stderr=True, quiet=screen.quiet)) as ticker:
        ticker.say(step)
        yield


def summary(plan: Plan) -> str:
    """One line with the width of the interval and the power at the middle true value."""
    metric, middle = METRICS[plan.metric], len(plan.truth) // 2
    return (
        f"{plan.task}, n = {plan.n}: at a true {metric.words} of {plan.truth[middle]:.2f} the interval is "
        f"{plan.width[middle]:.2f} wide and above {metric.chance:g} in {plan.found[middle]:.0%} of studies."
    )


def plan_of(cohort: Cohort, task: Task) -> tuple[Plan | None, str]:
    """The plan of one outcome, for subjects rather than scans, or None and the reason."""
    values, notes = known_subjects(cohort, task)
    known = values.to_numpy(dtype=float)
    if task.is_binary:
        n_positive = int(known.sum())
        plan = plan_binary(task, n_positive, known.size - n_positive)
        why = f"{n_positive} positive of {known.size}: at least 3 of each class and at most 500 are simulated"
    elif task.form == "value":
        plan, why = plan_regression(task, known.size), f"{known.size} known: 20 to 500 are simulated"
    else:
        return None, f"{task.kind} outcomes are not simulated; plan for a cut-off of it (binary)"
    if plan is not None and notes:
        plan = plan.model_copy(update={"method": ". ".join((plan.method, *notes))})
    return plan, why


def known_subjects(cohort: Cohort, task: Task) -> tuple[pd.Series, list[str]]:
    """The known outcomes of a task, one per subject, and sentences on repeated scans and on families."""
    known = cohort.targets[task.name].dropna()
    child = dict(zip(cohort.ids, cohort.children or cohort.ids, strict=True))
    family = cohort.families
    each = known[~known.index.map(child).duplicated()]
    alone = [i for i in each.index if i not in family]
    n_families = len(alone) + len({family[i] for i in each.index if i in family})
    notes = []
    if each.size < known.size:
        notes.append(f"The {known.size} scans are of {counted(each.size, 'subject')}, each of whom counts once")
    if n_families < each.size:
        notes.append(
            f"The {each.size} subjects are from {counted(n_families, 'family', 'families')}; relatives count as "
            f"independent here, so that intervals will be wider, at most as with n = {n_families}"
        )
    return each, notes


def print_plan(task: Task, plan: Plan, screen: Console) -> None:
    """Print two tables: the score itself, and a gain over a control."""
    metric = METRICS[plan.metric]
    size = f"n = {plan.n}" + ("" if plan.n_positive is None else f", {plan.n_positive} positive")
    columns = {f"true {metric.words}": plan.truth, "width of its interval": plan.width}
    columns[f"interval above {metric.chance:g}"] = plan.found
    if plan.permutation:
        columns["permutation test rejects"] = plan.permutation
    screen.print(_table(f"{task.label}: {size}", columns))
    gains = {
        "true gain": plan.gain,
        "width of its interval": plan.gain_width,
        'verdict "helps"': plan.gain_found,
    }
    screen.print(_table(f"gain over a control with a true {metric.words} of {plan.base:g}", gains))
    screen.print(Text(f"Widths are medians, the others are probabilities. {plan.method}.\n"))


def _table(title: str, columns: dict[str, tuple[float, ...]]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in columns:
        table.add_column(name, justify="right")
    for values in zip(*columns.values(), strict=True):
        table.add_row(*(f"{value:.2f}" for value in values))
    return table
