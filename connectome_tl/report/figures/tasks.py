"""The figures of one task, with their titles and notes."""

from __future__ import annotations

from connectome_tl.plurals import counted
from connectome_tl.report import labels
from connectome_tl.report.figures.fits import permutation_figure
from connectome_tl.report.figures.learning_curve import curve_figure
from connectome_tl.report.figures.out_of_fold import OutOfFold
from connectome_tl.report.figures.predictions import (
    calibration_figure,
    decision_figure,
    instability_figure,
    risk_figure,
    roc_figure,
    scatter_figure,
)
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.text.verdict import is_of_baseline
from connectome_tl.report.views import TaskView
from connectome_tl.settings.model_table import FULL, model_order
from connectome_tl.settings.records.results import PermutationResult, RunRecord
from connectome_tl.settings.records.statistics import ENOUGH_FOR_QUANTILES
from connectome_tl.tasks import Task

RIVALS = ("clinical_only", "nuisance_only", "site_only")


def task_figures(
    view: TaskView, record: RunRecord, by_key: dict[tuple[str, str], OutOfFold], sheet: Sheet
) -> list[Figure]:
    """Figures of one task: risks or values of the full model, and its permutation tests."""
    task = view.task
    by_model = {model: rows for (name, model), rows in by_key.items() if name == task.name}
    full = by_model.get(FULL)
    found: list[Figure] = []
    levels = task.levels if task.form == "levels" else ()
    if full is not None and task.is_binary:
        found += _binary_figures(view, record, by_model, sheet)
    elif full is not None and task.form != "classes":
        found += sheet.draw(
            lambda name: scatter_figure(full, name, unit=task.unit, levels=levels, stamp=sheet.stamp),
            "Predicted against observed",
            f"A dot is one {labels.one(record.noun)} (mean over {_repeats(full)}), its line the range over repeats.",
        )
    curve = [point for point in record.learning_curve if point.task == task.name]
    if curve:
        found += sheet.draw(
            lambda name: curve_figure(curve, name, stamp=sheet.stamp),
            "Learning curve",
            f"Tested on the same {record.noun} at every size; band: 95 % interval of the full model, dashed: the "
            "baselines that end best.",
        )
    for test in record.permutations:
        if test.task == task.name and not is_of_baseline(test):  # baselines are in the table only
            found += _permutation(test, sheet)
    return found


def _binary_figures(view: TaskView, record: RunRecord, by_model: dict[str, OutOfFold], sheet: Sheet) -> list[Figure]:
    task, full, stamp = view.task, by_model[FULL], sheet.stamp
    positive, negative = class_names(task)
    who = labels.one(record.noun)
    decisions = {c.model: c for c in record.decision_curves if c.task == task.name}
    curves = {c.model: c for c in record.calibration_curves if c.task == task.name}
    fixed = next((r for r in record.recalibrated if (r.task, r.model) == (task.name, FULL)), None)
    rivals = {model: rows for model, rows in by_model.items() if model in RIVALS}
    unstable = [one for one in record.instability if one.task == task.name]
    found = sheet.draw(
        lambda name: roc_figure(by_model, name, stamp=stamp),
        "ROC",
        f"Curves of the test folds, averaged by their number of pairs; median over {_repeats(full)}, band: range.",
    )
    found += sheet.draw(
        lambda name: risk_figure(full, name, positive=positive, negative=negative, rivals=rivals, stamp=stamp),
        "Predicted risk by outcome",
        f"A dot is one {who} (mean over {_repeats(full)}), its line the range; black: median of the class"
        f"{'; below: quartiles of other models' if rivals else ''}.",
    )
    found += sheet.draw(
        lambda name: calibration_figure(full, name, curves=curves, recalibrated=fixed, stamp=stamp),
        "Calibration",
        f"Groups of {record.noun} by predicted risk, with 95 % intervals of the observed share; marks: single "
        f"{record.noun}, positive above, negative below.",
    )
    found += sheet.draw(
        lambda name: decision_figure(decisions, name, stamp=stamp),
        "Net benefit",
        "A model is useful at thresholds where it is above treating all and treating none; band: 95 % interval.",
    )
    for one in sorted(unstable, key=lambda one: model_order(one.model))[:1]:
        found += sheet.draw(
            lambda name, one=one: instability_figure(one, name, stamp=stamp),  # type: ignore[misc]
            "Instability of single risks",
            f"{labels.model_label(one.model).label}: {_range(one.n_refits)} bootstrap refits give each {who}.",
        )
    return found


def _range(n_refits: int) -> str:
    """Description of the ends of an instability interval."""
    few = n_refits < ENOUGH_FOR_QUANTILES
    return f"the range of the risks that {n_refits}" if few else f"95 % of the risks that {n_refits}"


def _permutation(test: PermutationResult, sheet: Sheet) -> list[Figure]:
    return sheet.draw(
        lambda name: permutation_figure(test, name, stamp=sheet.stamp),
        f"Permutation test: {test.question}" if test.question else "Permutation test",
        f"{labels.model_label(test.model).label}, {counted(test.n_permutations, 'permutation')}; orange: as large as "
        "observed, or larger.",
    )


def class_names(task: Task) -> tuple[str, str]:
    """Names of the positive and the negative class of a binary task."""
    if task.operator is not None and task.cutoff is not None:
        opposite = {"<": "≥", "<=": ">", ">": "≤", ">=": "<"}[task.operator]
        shown = {"<=": "≤", ">=": "≥"}.get(task.operator, task.operator)
        return f"{task.column} {shown} {task.cutoff:g}", f"{task.column} {opposite} {task.cutoff:g}"
    return (task.levels[1], task.levels[0]) if len(task.levels) == 2 else ("positive", "negative")


def _repeats(rows: OutOfFold) -> str:
    return f"{rows.n_repeats} repeat{'' if rows.n_repeats == 1 else 's'}"
