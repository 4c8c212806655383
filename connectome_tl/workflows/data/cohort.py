"""`connectome-tl cohort`: check and describe a cohort, and report its quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectome_tl.atlas import atlas_names, load_atlas
from connectome_tl.cohort.arrays.degenerate import degenerate
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.describing import describe
from connectome_tl.cohort.findings import is_benign
from connectome_tl.cohort.reading import read_subjects
from connectome_tl.config import load_settings
from connectome_tl.connectome.quality import (
    QualityLimits,
    findings,
    matrix_images,
    measure_records,
    subject_measures,
)
from connectome_tl.errors import DataError, Problem, UsageError, raise_all
from connectome_tl.plurals import counted
from connectome_tl.provenance import remove_halves, versions, write_text
from connectome_tl.settings.records.results import CohortQualityRecord, CohortRecord, QualityFinding
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.images.cohort_volumes import volume_images
from connectome_tl.workflows.progress import Ticker, bar

_READING = "reading"  # the check of findings that come from reading the files


@dataclass(frozen=True, eq=False)
class CheckedCohort:
    """A cohort, its description, the findings of the checks, and the quality page if requested."""

    cohort: Cohort
    record: CohortRecord
    findings: tuple[QualityFinding, ...]
    page: Path | None = None


def check_cohort(
    path: str | Path,
    report: Path | None = None,
    *,
    study: str | Path | None = None,
    console: Console | None = None,
) -> CheckedCohort:
    """Read a cohort, print its description, and optionally write its quality page.

    Volumes are read only for the page, which is written before an error on them is raised.

    Args:
        study: a study.yaml whose `image` settings are used for the figures of volumes.

    Raises:
        UsageError, MissingInputError, DataError: lists all problems.
    """
    screen = console or Console()
    waiting = Console(stderr=True, quiet=screen.quiet)
    with Ticker(waiting) as ticker:
        ticker.say("reading the cohort")
        cohort = read_subjects(path, track=bar(waiting))
        record = describe(cohort)
        print_cohort(record, cohort.notes, screen)
        seen = [cohort.ids[i] for i in np.flatnonzero(cohort.node_mask.any(axis=1))]
        connected = bool(cohort.n_regions) and len(seen) >= 2
        if not connected and (report is None or not any(cohort.volumes)):
            found = (*degenerate(cohort), *_readings(cohort.notes))
            print_findings(found, screen)
            if report is not None:
                raise UsageError(
                    "a quality report needs volumes, or the connectomes of at least two subjects", file=path
                )
            return CheckedCohort(cohort, record, found)
        if connected:
            quality = cohort_quality(cohort if len(seen) == cohort.n_subjects else cohort.take(seen), said=ticker.say)
        else:
            quality = _without_connectomes(cohort)
        if report is not None and any(cohort.volumes):
            image = load_settings(study, StudySettings).image if study is not None else None
            ticker.say("drawing the volumes")
            images, shown = volume_images(cohort, image)
            quality = quality.model_copy(update={"volumes": images, "findings": (*shown, *quality.findings)})
        unusable = [one for one in quality.findings if (one.check, one.level) == ("volume", "error")]
        print_findings([one for one in quality.findings if one not in unusable], screen)
        page = None
        if report is not None:
            from connectome_tl.report.cohort_report import render_cohort_report

            ticker.say("writing the report")
            remove_halves(report)
            page = write_text(report, render_cohort_report(record, quality))
            screen.print(Text(f"report: {page}"))
        by = "" if study is not None else " with the default image settings; --study STUDY.yaml takes those of a study"
        raise_all(
            f"volumes cannot be used{by}",
            [Problem(one.message, subject=one.subject or None) for one in unusable],
            DataError,
        )
    return CheckedCohort(cohort, record, tuple(quality.findings), page)


def _readings(notes: Sequence[str]) -> list[QualityFinding]:
    """Notes on reading the files, as warnings if they need attention or an action."""
    return [
        QualityFinding(level="note" if is_benign(note) else "warning", check=_READING, message=note) for note in notes
    ]


def _without_connectomes(cohort: Cohort) -> CohortQualityRecord:
    """Contents of the page of a cohort without connectomes, except its volumes."""
    return CohortQualityRecord(
        subjects=cohort.ids,
        regions=(),
        **_known(cohort),
        findings=(*degenerate(cohort), *_readings(cohort.notes)),
        simulated=cohort.simulated,
        versions=versions(),
    )


def _known(cohort: Cohort) -> dict[str, Any]:
    """Sites and ages, where they are known."""
    known_sites, known_ages = any(cohort.site), not np.isnan(cohort.age).all()
    return {
        "sites": tuple(str(site) for site in cohort.site) if known_sites else (),
        "ages": tuple(cohort.age.tolist()) if known_ages else (),
        "age_unit": cohort.age_unit,
    }


def cohort_quality(cohort: Cohort, *, said: Callable[[str], None] = lambda _: None) -> CohortQualityRecord:
    """Checks, measures and pictures of a cohort's first edge measure, as the cohort report shows them.

    Args:
        said: called with the name of each step at its start.
    """
    weights, mask = cohort.weights[:, 0], cohort.node_mask
    atlas = load_atlas(cohort.atlas) if cohort.atlas in atlas_names() else None
    said("measures of each connectome")
    measures = subject_measures(weights, mask, cohort.regions, atlas)
    if cohort.as_read is not None:
        measures |= {str(name): values.to_numpy(dtype=float) for name, values in cohort.as_read.items()}
    limits = QualityLimits.fit(measures, cohort.ids)
    said("checks of the connectomes")
    found = [*degenerate(cohort), *findings(weights, mask, cohort.ids, cohort.regions, measures, limits)]
    said("pictures of the connectomes")
    return CohortQualityRecord(
        subjects=cohort.ids,
        regions=cohort.regions,
        **_known(cohort),
        missing=tuple((int(i), int(r)) for i, r in np.argwhere(~mask)),
        measures=measure_records(measures, limits),
        findings=(*found, *_readings(cohort.notes)),
        matrices=matrix_images(weights, mask, cohort.ids, measures["typicality"], [one.subject for one in found]),
        simulated=cohort.simulated,
        versions=versions(),
    )


def print_findings(found: Sequence[QualityFinding], console: Console) -> None:
    """Print errors and warnings, except those of reading, which are printed already; and the number of notes."""
    for one in found:
        if one.level != "note" and one.check != _READING:
            console.print(Text(f"{one.level}: {f'{one.subject}: ' if one.subject else ''}{one.message}"))
    outliers = sum(one.level == "note" and one.check == "outlier" for one in found)
    if outliers:
        console.print(Text(f"note: {counted(outliers, 'outlying value')}; --report shows them"))


def print_cohort(record: CohortRecord, notes: Sequence[str], console: Console) -> None:
    """Print the cohort as tables. Names from files are printed as text, never as markup."""
    volumes = counted(record.n_volumes, "volume") if record.n_volumes else ""
    measures = ", ".join([*record.measures, *([volumes] if volumes else [])]) or "no connectomes"
    who = record.people.text if record.people is not None else counted(record.n_subjects, "subject")
    regions = f"{counted(record.n_regions, 'region')} ({record.atlas}), " if record.n_regions else ""
    console.print(Text(f"{record.name}: {who}, {regions}{measures}"))
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
        outcomes = Table("task", title="Outcomes", title_justify="left")
        counts: dict[str, list[int | None]] = {
            "observed": [one.observed for one in record.outcomes],
            "by status": [one.by_status for one in record.outcomes],
            "lost": [one.lost for one in record.outcomes],
            "died": [one.died for one in record.outcomes],
            "untestable": [one.untestable for one in record.outcomes],
            "unknown": [one.unknown for one in record.outcomes],
            "positive": [one.n_positive for one in record.outcomes],
        }
        always = ("observed", "positive")
        shown = {name: ns for name, ns in counts.items() if any(n is not None and (n or name in always) for n in ns)}
        for name in shown:
            outcomes.add_column(name, justify="right")
        for i, one in enumerate(record.outcomes):
            cells = ("" if numbers[i] is None else str(numbers[i]) for numbers in shown.values())
            outcomes.add_row(Text(one.task), *cells)
        console.print(outcomes)
    for note in notes:
        console.print(Text(f"{'note' if is_benign(note) else 'warning'}: {note}"))
