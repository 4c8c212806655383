"""`connectome-tl cohort`: check a cohort whole, say what is in it, draw its quality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.describing import describe
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.settings.results import CohortRecord

_ENOUGH_FOR_A_BAR = 200


def check_cohort(path: str | Path, report: Path | None = None, *, console: Console | None = None) -> Cohort:
    """Read a cohort, print what is in it, and write its quality page where one is asked for.

    Raises:
        UsageError, MissingInputError, DataError: everything wrong, in one list.
    """
    screen = console or Console()

    def bar(files: Sequence[Path], what: str) -> Iterable[Path]:
        return track(files, what, console=screen) if len(files) >= _ENOUGH_FOR_A_BAR else files

    cohort = read_cohort(path, track=bar)
    print_cohort(describe(cohort), cohort.notes, screen)
    return cohort


def print_cohort(record: CohortRecord, notes: Sequence[str], console: Console) -> None:
    """The cohort as tables on a terminal. Names from files are shown as text, never as markup."""
    measures = ", ".join(record.measures) or "no connectomes"
    console.print(
        Text(f"{record.name}: {record.n_subjects} subjects, {record.n_regions} regions ({record.atlas}), {measures}")
    )
    flow = Table(title="Flow", title_justify="left")
    for heading in ("step", "left", "excluded", "why"):
        flow.add_column(heading, justify="right" if heading in ("left", "excluded") else "left")
    for step in record.flow:
        flow.add_row(Text(step.label), str(step.n_left), str(step.n_excluded or ""), Text(step.reason))
    console.print(flow)
    if record.table:
        table = Table(title=Text("Subjects: median [quartiles], or n (%)"), title_justify="left")
        table.add_column("variable")
        for group in record.table_groups:
            table.add_column(Text(group), justify="right")
        for row in record.table:
            table.add_row(Text(row.variable), *(Text(value) for value in row.values))
        console.print(table)
    if record.outcomes:
        outcomes = Table(title="Outcomes", title_justify="left")
        for heading in ("task", "observed", "lost", "died", "untestable", "positive"):
            outcomes.add_column(heading, justify="left" if heading == "task" else "right")
        for one in record.outcomes:
            positive = "" if one.n_positive is None else str(one.n_positive)
            counts = (str(n) for n in (one.observed, one.lost, one.died, one.untestable))
            outcomes.add_row(Text(one.task), *counts, positive)
        console.print(outcomes)
    for note in notes:
        console.print(Text(f"note: {note}"))
