"""The learning curve in a report: one figure and one table per outcome."""

from __future__ import annotations

import re

from report_example import example_record

from connectome_tl.report.figures.learning_curve import curve_figure, curve_table, shown_models
from connectome_tl.report.render import render_report
from connectome_tl.settings.records.results import LearningPoint


def made_points() -> list[LearningPoint]:
    values = {"full": 0.7, "scratch": 0.6, "ridge": 0.72, "cpm": 0.5, "prevalence": 0.5, "elastic_net": 0.71}
    return [
        LearningPoint(
            task="motor", model=model, metric="auc", n_labelled=n, value=value + n / 1000, low=0.4, high=0.9, n=30
        )
        for model, value in values.items()
        for n in (10, 20)
    ]


def test_the_figure_shows_the_model_its_controls_and_the_baselines_that_end_best() -> None:
    points = made_points()
    assert shown_models(points) == ["full", "scratch", "ridge", "elastic_net", "cpm"]
    svg = curve_figure(points, "f1", stamp="Simulated data")
    assert svg is not None
    for text in ("Labelled subjects in training", "Ridge on edges", "Simulated data", "AUC"):
        assert text in svg
    assert svg == curve_figure(points, "f1", stamp="Simulated data")
    assert curve_figure([p.model_copy(update={"value": float("nan")}) for p in points], "f1") is None


def test_the_table_has_a_cell_per_size_with_its_interval() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0).model_copy(
        update={"learning_curve": tuple(made_points()[1:])}
    )
    header, rows = curve_table(record, "motor")
    assert header == ("Model", "10 labelled", "20 labelled")
    assert rows[0] == ("Full model", "n/a", "0.72 [0.40, 0.90]")
    assert curve_table(record, "other")[1] == []


def test_a_report_with_a_curve_has_its_figure_and_table_and_one_without_has_neither() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    task = record.tasks[0].name
    points = tuple(point.model_copy(update={"task": task}) for point in made_points())
    html = render_report(record.model_copy(update={"learning_curve": points}))
    assert len(re.findall("<caption>Learning curve: ", html)) == 1
    assert "Labelled subjects in training" in html
    assert "Learning curve" not in render_report(record)
