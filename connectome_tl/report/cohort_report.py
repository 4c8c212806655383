"""Cohort report: description, checks and figures of one cohort as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.report import labels
from connectome_tl.report.figures.cohort import (
    matrix_pngs,
    measure_figure,
    missing_figure,
    outliers,
    site_age_figure,
    volume_pngs,
)
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.settings.records.results import CohortQualityRecord, CohortRecord

_LEVELS = (("error", "Errors"), ("warning", "Warnings"), ("note", "Notes"))


def render_cohort_report(record: CohortRecord, quality: CohortQualityRecord) -> str:
    """The report of `connectome-tl cohort --report`: findings first. The same records give the same bytes.

    Args:
        record: subjects, exclusions and missing values of the cohort.
        quality: checks, measures and matrices of its subjects.

    Returns:
        One HTML document with inline styles and figures, without scripts or external resources.

    Raises:
        ValueError: the number of values of a measure is not the number of subjects, or a matrix is not square.
    """
    _check_lengths(quality)
    stamps = stamps_of(simulated=quality.simulated)
    sheet = Sheet(" · ".join(short for short, _ in stamps))
    findings = [
        (level, title, [finding for finding in quality.findings if finding.level == level]) for level, title in _LEVELS
    ]
    processing, own = _processing([one.text for one in quality.volumes])
    return render(
        "cohort.html",
        record=record,
        quality=quality,
        stamps=stamps,
        findings=[group for group in findings if group[2]],
        figures=_figures(quality, sheet),
        missing=sheet.draw(
            lambda name: missing_figure(quality, name, stamp=sheet.stamp),
            "Missing regions, subject by subject",
            f"{len({subject for subject, _ in quality.missing})} of {len(quality.subjects)} subjects lack a region. "
            "A missing region is masked; it is not a region without connections.",
        ),
        volumes=list(zip(quality.volumes, own, volume_pngs(quality.volumes), strict=True)),
        processing=processing,
        matrices=list(zip(quality.matrices, matrix_pngs(quality.matrices), strict=True)),
        subject_columns=_subject_columns(quality),
        subject_rows=_subject_rows(quality),
        task_labels={one.task: labels.plain(one.task) for one in record.outcomes},
    )


def _processing(texts: Sequence[str]) -> tuple[str, list[str]]:
    """What was done to all volumes, and the rest of the text of each; the former is empty if they differ."""
    parts = [text.rpartition("; ") for text in texts]
    common = {first for first, _, _ in parts}
    if len(texts) < 2 or len(common) > 1:
        return "", list(texts)
    return common.pop(), [last for _, _, last in parts]


def _check_lengths(quality: CohortQualityRecord) -> None:
    n_subjects = len(quality.subjects)
    for what, size in (
        *((f"measure {measure.name!r}", len(measure.values)) for measure in quality.measures),
        ("sites", len(quality.sites) or n_subjects),
        ("ages", len(quality.ages) or n_subjects),
    ):
        if size != n_subjects:
            raise ValueError(f"{what}: expected {n_subjects} values, one per subject, got {size}")


def _figures(quality: CohortQualityRecord, sheet: Sheet) -> list[Figure]:
    found = sheet.draw(
        lambda name: site_age_figure(quality, name, stamp=sheet.stamp),
        "Age by site" if any(quality.sites) else "Age at scan",
        "If sites differ in age, site and age effects cannot be separated."
        if any(quality.sites)
        else "No site was declared.",
    )
    for measure in quality.measures:
        n_out, n_undefined = int(outliers(measure).sum()), int(np.isnan(measure.values).sum())
        limited = measure.low is not None or measure.high is not None
        note = f"{n_out} of {len(measure.values)} beyond the limits (orange)." if limited else "No limits were set."
        found += sheet.draw(
            lambda name, measure=measure: measure_figure(measure, name, stamp=sheet.stamp),  # type: ignore[misc]
            labels.plain(measure.name),
            note + (f" Undefined for {n_undefined}." if n_undefined else ""),
        )
    return found


def _subject_columns(quality: CohortQualityRecord) -> list[str]:
    columns = ["Subject"]
    columns += ["Site"] if quality.sites else []
    columns += [f"Age ({quality.age_unit or 'unit unknown'})"] if quality.ages else []
    columns += ["Regions missing"] if quality.regions else []
    names = ((labels.plain(one.name), one.unit) for one in quality.measures)
    return columns + [f"{name} ({unit})" if unit else name for name, unit in names]


def _subject_rows(quality: CohortQualityRecord) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Per subject: its id, and each cell as text and whether it is flagged."""
    beyond = [outliers(measure) for measure in quality.measures]
    digits = [labels.column_digits(measure.values) for measure in quality.measures]
    missing = np.bincount([i for i, _ in quality.missing] or [0], minlength=len(quality.subjects))
    if not quality.missing:
        missing[:] = 0
    rows = []
    for i, subject in enumerate(quality.subjects):
        cells = [(quality.sites[i] or labels.UNDEFINED, False)] if quality.sites else []
        cells += [(labels.number(quality.ages[i], 1), False)] if quality.ages else []
        cells += [(str(missing[i]), bool(missing[i]))] if quality.regions else []
        cells += [
            (labels.number(measure.values[i], places), bool(out[i]))
            for measure, out, places in zip(quality.measures, beyond, digits, strict=True)
        ]
        rows.append((subject, cells))
    return rows
