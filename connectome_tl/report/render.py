"""One run, or one cohort, to one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from connectome_tl.report import labels, tables
from connectome_tl.report.brain import glass_brain
from connectome_tl.report.figures import permutation_figure, training_figure
from connectome_tl.report.out_of_fold import OutOfFold, group_predictions
from connectome_tl.report.prediction_figures import (
    calibration_figure,
    decision_figure,
    instability_figure,
    risk_figure,
    roc_figure,
    scatter_figure,
)
from connectome_tl.report.views import TaskView, task_views
from connectome_tl.settings.models import model_order
from connectome_tl.settings.results import PermutationResult, RegionImportance, RunRecord
from connectome_tl.settings.scores import Score
from connectome_tl.settings.statistics import Recalibrated
from connectome_tl.tasks import Task

if TYPE_CHECKING:
    from jinja2 import Environment

# What each stamp says, and what it means; the short form stands on every table and figure.
_STAMPS = {
    "simulated": ("Simulated data", "These are not real infants: the data come from a simulation with a known truth."),
    "transductive": (
        "Transductive",
        "Adaptation saw the scans (never the outcomes) of the test infants. "
        "The scores do not hold for infants whom the model has not seen.",
    ),
    "exploratory": (
        "Exploratory",
        "The analysis was not fixed beforehand, or scans came without correction of susceptibility, eddy currents "
        "and motion within volumes. It can suggest, it cannot confirm.",
    ),
}


class Figure:
    """One drawn figure: its SVG with title and note."""

    def __init__(self, svg: str, title: str, note: str) -> None:
        from markupsafe import Markup

        self.svg = Markup(svg)  # made by us; names in it are escaped by the XML writer
        self.title = title
        self.note = note


class Sheet:
    """Draws figures under running names, so that every id on a page is used once."""

    def __init__(self, stamp: str) -> None:
        self.stamp = stamp
        self._drawn = 0

    def draw(self, make: Callable[[str], str | None], title: str, note: str = "") -> list[Figure]:
        """The figure in a list, or an empty list where there is nothing to draw."""
        self._drawn += 1
        svg = make(f"f{self._drawn}")
        return [] if svg is None else [Figure(svg, title, note)]


def render_report(record: RunRecord) -> str:
    """The report of a run, verdict first. The same record gives the same bytes.

    Args:
        record: everything that is shown; an undefined number (NaN) is printed as `n/a`.

    Returns:
        One HTML document with inline styles and figures; it loads nothing and runs nothing.
    """
    stamps = stamps_of(simulated=record.simulated, transductive=record.transductive, exploratory=record.exploratory)
    sheet = Sheet(" · ".join(short for short, _ in stamps))
    by_key = group_predictions(record.predictions)
    views = task_views(record)
    return render(
        "run.html",
        record=record,
        stamps=stamps,
        views=views,
        verdicts={verdict.task: verdict for verdict in record.verdicts},
        figures={view.task.name: _task_figures(view, record, by_key, sheet) for view in views},
        training=_training_figures(record, sheet),
        importances=[(importance, _importance(importance, record, sheet)) for importance in record.importances],
        task_labels={task.name: task.label for task in record.tasks},
    )


def stamps_of(**flags: bool) -> list[tuple[str, str]]:
    """Short and long form of every stamp whose flag is set."""
    return [_STAMPS[name] for name, is_set in flags.items() if is_set]


def render(template: str, **context: object) -> str:
    """Fill one template; every text is escaped."""
    html = environment().get_template(template).render(**context)
    return html.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1)
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["label"] = labels
    for rows in (
        tables.cohort_rows,
        tables.subgroup_table,
        tables.conformal_table,
        tables.sample_size_rows,
        tables.power_rows,
        tables.instability_rows,
        tables.recalibration_rows,
        tables.threshold_rows,
        tables.missingness_rows,
        tables.returner_rows,
        tables.missing_outcome_table,
        tables.importance_rows,
        tables.permutation_rows,
        tables.comparison_rows,
    ):
        made.globals[rows.__name__] = rows
    return made


def _task_figures(
    view: TaskView, record: RunRecord, by_key: dict[tuple[str, str], OutOfFold], sheet: Sheet
) -> list[Figure]:
    task = view.task
    by_model = {model: rows for (name, model), rows in by_key.items() if name == task.name}
    full = by_model.get("full")
    found: list[Figure] = []
    if full is not None and task.is_binary:
        found += _binary_figures(view, record, by_model, sheet)
    elif full is not None and task.spec.ordered:
        found += sheet.draw(
            lambda name: scatter_figure(full, name, unit=task.unit, stamp=sheet.stamp),
            "Predicted against observed",
            f"Full model, out of fold, {view.n_text}. A dot is one infant (mean over {_repeats(full)}); "
            "its line is the range over repeats.",
        )
    for test in record.permutations:
        if test.task == task.name:
            found += _permutation(test, sheet)
    return found


def _binary_figures(view: TaskView, record: RunRecord, by_model: dict[str, OutOfFold], sheet: Sheet) -> list[Figure]:
    task, full, stamp = view.task, by_model["full"], sheet.stamp
    positive, negative = class_names(task)
    scores = {s.metric: s for s in record.scores if s.task == task.name and s.model == "full"}
    decisions = {c.model: c for c in record.decision_curves if c.task == task.name}
    curves = {c.model: c for c in record.calibration_curves if c.task == task.name}
    mended = next((r for r in record.recalibrated if (r.task, r.model) == (task.name, "full")), None)
    rivals = {model: rows for model, rows in by_model.items() if model in ("clinical_only", "nuisance_only")}
    unstable = [one for one in record.instability if one.task == task.name]
    found = sheet.draw(
        lambda name: roc_figure(by_model, name, stamp=stamp),
        "ROC",
        f"{view.n_text}. Infants are compared within a test fold only: one curve per fold, averaged by their "
        f"number of pairs, so that the area is the AUC of the table. Median over {_repeats(full)}; band: range.",
    )
    found += sheet.draw(
        lambda name: risk_figure(full, name, positive=positive, negative=negative, rivals=rivals, stamp=stamp),
        "Predicted risk by outcome",
        f"Full model, {view.n_text}. A dot is one infant (mean over {_repeats(full)}), its line the range over "
        f"repeats; black: median of the class.{' Below: quartiles of the rivals.' if rivals else ''}",
    )
    found += sheet.draw(
        lambda name: calibration_figure(full, name, curves=curves, recalibrated=mended, stamp=stamp),
        "Calibration",
        f"{view.n_text}. Groups of infants by predicted risk (mean over {_repeats(full)}) with 95 % intervals of the "
        "observed share; marks: single infants, positive above, negative below. " + _calibration_note(scores, mended),
    )
    found += sheet.draw(
        lambda name: decision_figure(decisions, name, stamp=stamp),
        "Net benefit",
        f"{view.n_text}. A model is of use at a threshold where it lies above both treating all and treating none; "
        "band: 95 % interval.",
    )
    for one in sorted(unstable, key=lambda one: model_order(one.model))[:1]:
        found += sheet.draw(
            lambda name, one=one: instability_figure(one, name, stamp=stamp),  # type: ignore[misc]
            "Instability of single risks",
            f"{labels.model_label(one.model).label}: 95 % of the risks that {one.n_refits} bootstrap refits give each "
            f"infant. Mean distance from the fitted model's risk {labels.number(one.mean_absolute_error)}; "
            f"{labels.number(100 * one.classification, 0)} % of refits call an infant otherwise.",
        )
    return found


def _calibration_note(scores: dict[str, Score], mended: Recalibrated | None) -> str:
    """Intercept and slope of the raw risks, and of the recalibrated ones where there are inner folds."""

    def said(found: dict[str, Score]) -> str:
        parts = [
            f"{word} {labels.number(score.value)} {labels.interval(score.low, score.high)}"
            for key, word in (("calibration_intercept", "intercept"), ("calibration_slope", "slope"))
            if (score := found.get(key)) is not None
        ]
        return ", ".join(parts) + "."

    if mended is None:
        return f"Raw risks, not recalibrated (no inner folds): {said(scores)}"
    new = {score.metric: score for score in mended.scores}
    return f"Full model, raw: {said(scores)} Recalibrated on inner folds of the training rows: {said(new)}"


def _permutation(test: PermutationResult, sheet: Sheet) -> list[Figure]:
    return sheet.draw(
        lambda name: permutation_figure(test, name, stamp=sheet.stamp),
        f"Permutation test: {test.question}" if test.question else "Permutation test",
        f"{labels.model_label(test.model).label}, {test.n_permutations} permutations: "
        f"p = {labels.p_value(test.p_value, test.n_permutations)}, corrected over tasks "
        f"p = {labels.p_value(test.p_value_max, test.n_permutations)}. Orange: as large as observed, or larger. "
        f"{labels.plain(test.method)}{'.' if test.method else ''}",
    )


def _training_figures(record: RunRecord, sheet: Sheet) -> list[Figure]:
    stages = sorted({curve.stage for curve in record.curves}, key=labels.stage_order)
    found: list[Figure] = []
    for stage in stages:
        curves = [curve for curve in record.curves if curve.stage == stage]
        found += sheet.draw(
            lambda name, curves=curves: training_figure(curves, name, stamp=sheet.stamp),  # type: ignore[misc]
            labels.stage_label(stage),
            "Training loss: median over fits, band: quartiles. It says how training went, not how well it predicts.",
        )
    return found


def _importance(importance: RegionImportance, record: RunRecord, sheet: Sheet) -> list[Figure]:
    return sheet.draw(
        lambda name: glass_brain(
            importance.coordinates,
            importance.value,
            edges=[(edge.first, edge.second, edge.value) for edge in importance.edges],
            name=name,
            stamp=sheet.stamp,
        ),
        next((t.label for t in record.tasks if t.name == importance.task), importance.task),
        f"{labels.model_label(importance.model).label}: {importance.method}. Importance shows what the model "
        "uses, not what causes the outcome.",
    )


def class_names(task: Task) -> tuple[str, str]:
    """What the positive and the negative class of a binary task are called."""
    if task.operator is not None and task.cutoff is not None:
        opposite = {"<": "≥", "<=": ">", ">": "≤", ">=": "<"}[task.operator]
        shown = {"<=": "≤", ">=": "≥"}.get(task.operator, task.operator)
        return f"{task.column} {shown} {task.cutoff:g}", f"{task.column} {opposite} {task.cutoff:g}"
    return (task.levels[1], task.levels[0]) if len(task.levels) == 2 else ("positive", "negative")


def _repeats(rows: OutOfFold) -> str:
    return f"{rows.n_repeats} repeat{'' if rows.n_repeats == 1 else 's'}"
