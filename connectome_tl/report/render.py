"""Render a run as one self-contained HTML file without scripts or network access."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from connectome_tl.report import labels
from connectome_tl.report.explanations import explanation_views, file_rows, withheld_rows
from connectome_tl.report.figures.fits import probe_figure, training_figure
from connectome_tl.report.figures.flow import flow_figure
from connectome_tl.report.figures.out_of_fold import group_predictions
from connectome_tl.report.figures.sheet import Export, Figure, Sheet
from connectome_tl.report.figures.tasks import task_figures
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.report.tables.tuned_settings import tuning_view
from connectome_tl.report.text.answer import answer
from connectome_tl.report.text.references import references_of
from connectome_tl.report.text.standards import checklists, shared_answers
from connectome_tl.report.views import task_views
from connectome_tl.settings.records.explanations import ExplanationRecord
from connectome_tl.settings.records.results import RunRecord

if TYPE_CHECKING:
    pass


def render_report(
    record: RunRecord,
    explained: ExplanationRecord | None = None,
    *,
    timing: Sequence[tuple[str, str]] = (),
    export: Export | None = None,
) -> str:
    """The report of a run, verdict first. The same record gives the same bytes.

    Args:
        record: results of the run; an undefined number (NaN) is printed as `n/a`.
        explained: maps of this run, if available.
        timing: labels and values of dates and durations; empty for pages that must be reproducible byte by byte.
        export: called with every figure, to save it beside the page.

    Returns:
        One HTML document with inline styles and figures, without scripts or external resources.
    """
    stamps = stamps_of(simulated=record.simulated, transductive=record.transductive, exploratory=record.exploratory)
    sheet = Sheet(" · ".join(short for short, _ in stamps), export=export)
    by_key = group_predictions(record.predictions)
    views = task_views(record)
    standards = checklists(record, explained)
    return render(
        "run.html",
        record=record,
        stamps=stamps,
        views=views,
        answer=answer(record),
        timing=list(timing),
        flow=_flow(record, sheet),
        references=references_of(record, explained),
        standards=standards,
        answered=shared_answers(standards),
        verdicts={verdict.task: verdict for verdict in record.verdicts},
        figures={view.task.name: task_figures(view, record, by_key, sheet) for view in views},
        training=_training_figures(record, sheet),
        task_labels={task.name: task.label for task in record.tasks},
        tuning=tuning_view(record),
        found=explained,
        explained=[] if explained is None else explanation_views(explained, record, sheet),
        withheld=[] if explained is None else withheld_rows(explained, record),
        files=[] if explained is None else file_rows(explained),
    )


def _training_figures(record: RunRecord, sheet: Sheet) -> list[Figure]:
    stages = sorted({curve.stage for curve in record.curves}, key=labels.stage_order)
    found: list[Figure] = []
    for stage in stages:
        curves = [curve for curve in record.curves if curve.stage == stage]
        found += sheet.draw(
            lambda name, curves=curves: training_figure(curves, name, stamp=sheet.stamp),  # type: ignore[misc]
            labels.stage_label(stage),
            "Training loss: median over fits, band: quartiles. It describes training, not predictive performance.",
        )
    return found + sheet.draw(
        lambda name: probe_figure(record.probes, name, stamp=sheet.stamp),
        "Linear probes of stage 2",
        "Mean score, on held-out rows, of a ridge regression from the network's embedding. A rising line: stage 2 "
        "improves the prediction of the outcome; a falling line of the source: stage 1 is forgotten.",
    )


def _flow(record: RunRecord, sheet: Sheet) -> list[Figure]:
    return sheet.draw(
        lambda name: flow_figure(record, name, sheet.stamp),
        "Flow of subjects",
        "Boxes: remaining subjects. Next to arrows: exclusions and reasons. Last row: tested subjects by outcome.",
    )
