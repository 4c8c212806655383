"""Figures for notebooks: the report's own drawings and a cohort's."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from report_example import example_record
from small_study import cut

from connectome_tl.errors import UsageError
from connectome_tl.report.figures.plots import RunPlots
from connectome_tl.report.labels import number
from connectome_tl.report.tables.scores import interval_of
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.workflows.study.study_run import StudyRun

PLOTS = RunPlots(example_record())
COHORT = simulate_study(n_source=4, n_pool=4, n_target=6).target


@pytest.mark.parametrize(
    "name",
    ["roc", "risks", "calibration", "net_benefit", "permutations", "training", "probes", "scores", "differences"],
)
def test_every_plot_of_a_run_is_a_figure_with_something_in_it(name: str) -> None:
    figure = getattr(PLOTS, name)()
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert axes.lines or axes.collections or axes.patches


def test_differences_show_the_numbers_of_the_table() -> None:
    record = example_record()
    shown = sorted(line.get_xdata()[0] for line in PLOTS.differences().axes[0].lines if line.get_marker() == "o")
    wanted = [c for c in record.comparisons if (c.task, c.metric, c.model) == (record.tasks[0].name, "auc", "full")]
    np.testing.assert_allclose(shown, sorted(c.difference for c in wanted))


def test_training_curves_are_those_of_one_stage() -> None:
    """The losses of different stages have different units."""
    stages = {curve.stage for curve in example_record().curves}
    shown = {stage: len(PLOTS.training(stage).axes[0].lines) for stage in stages}
    assert all(shown.values())
    with pytest.raises(UsageError, match="no training curves of stage 'nothing'"):
        PLOTS.training("nothing")


def test_an_outcome_that_does_not_suit_the_figure_is_refused() -> None:
    with pytest.raises(UsageError, match="the run has no"):
        PLOTS.roc("nothing")
    with pytest.raises(UsageError, match="the run has no"):
        PLOTS.scatter(example_record().tasks[0].name)


def test_plots_of_a_cohort_show_its_numbers() -> None:
    cohort = simulate_study(n_source=4, n_pool=4, n_target=12).target
    mean = cohort.plot.matrix().axes[0].images[0].get_array()
    pair = cohort.node_mask[:, 0] & cohort.node_mask[:, 1]
    assert mean[0, 1] == pytest.approx(cohort.weights[pair, 0, 0, 1].mean(), rel=1e-5)
    few = cut(cohort, cohort.regions[:6]).plot.matrix().axes[0]
    assert [label.get_text() for label in few.get_yticklabels()] == list(cohort.regions[:6])
    one = cohort.plot.matrix(cohort.ids[0]).axes[0].images[0].get_array()
    np.testing.assert_allclose(one, cohort.weights[0, 0])
    heights = sum(patch.get_height() for patch in cohort.plot.ages().axes[0].patches[:20])
    assert heights > 0
    assert cohort.plot.outcomes().axes[0].patches[0].get_width() == cohort.targets.iloc[:, 0].notna().sum()


def test_a_notebook_shows_names_as_text() -> None:
    cohort = simulate_study(n_source=4, n_pool=4, n_target=6).target
    assert "6 subjects" in repr(cohort)
    from dataclasses import replace

    assert "<script>" not in replace(cohort, name="<script>")._repr_html_()


def test_a_notebook_shows_verdicts_and_scores_of_a_run() -> None:
    record = example_record().model_copy(update={"title": "<script>"})
    empty = pd.DataFrame()
    verdicts = pd.DataFrame([verdict.model_dump() for verdict in record.verdicts])
    run = StudyRun(Path("run"), Path("run/report.html"), empty, empty, empty, empty, verdicts, record)
    shown = run._repr_html_()
    assert "<script>" not in shown
    for task, verdict in zip(record.tasks, record.verdicts, strict=True):
        (score,) = (s for s in record.scores if (s.task, s.model, s.metric) == (task.name, "full", task.spec.primary))
        assert escape(verdict.headline) in shown
        assert f"<td>{escape(task.label)}</td>" in shown
        assert f"<td>{escape(number(score.value))}</td><td>{escape(interval_of(score))}</td>" in shown


@pytest.mark.parametrize("make", [PLOTS.roc, PLOTS.scores, COHORT.plot.ages, COHORT.plot.matrix])
def test_ipython_shows_a_figure_though_nobody_imported_pyplot(make: Callable[[], Figure]) -> None:
    """A notebook starts with a formatter without registered figures."""
    shown, _ = DisplayFormatter().format(make())
    assert shown["image/png"].startswith(b"\x89PNG")
