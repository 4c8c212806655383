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
from test_explanation_figures import example

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import UsageError
from connectome_tl.report.figures.plots import RunPlots
from connectome_tl.report.figures.voxels import MapImages
from connectome_tl.report.labels import number
from connectome_tl.report.tables.scores import interval_of
from connectome_tl.settings.records.results import LearningPoint
from connectome_tl.settings.records.volume_maps import VolumeMap, VolumeMapsRecord
from connectome_tl.settings.tuning import Optimism
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.study.study_run import StudyRun

TASK = example_record().tasks[0].name
TUNED = Optimism(task=TASK, model="core", metric="auc", inner=0.8, outer=0.6, low=0.5, high=0.7, difference=0.2)
CURVE = tuple(
    LearningPoint(task=TASK, model="full", metric="auc", n_labelled=n, value=0.6, low=0.5, high=0.7, n=33)
    for n in (10, 20)
)
PLOTS = RunPlots(example_record().model_copy(update={"optimism": (TUNED,), "learning_curve": CURVE}))
COHORT = simulate_study(n_source=4, n_pool=4, n_target=6).target


@pytest.mark.parametrize(
    "name",
    [
        "roc", "risks", "calibration", "net_benefit", "permutations", "training", "probes", "scores", "differences",
        "instability", "flow", "learning_curve", "optimism",
    ],
)  # fmt: skip
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
    assert str(Path("run/report.html").resolve()) in shown
    assert f"{record.cohorts[0].n_subjects} {record.cohorts[0].role}" in shown
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


@pytest.mark.parametrize("name", ["brain", "edges", "circle", "regions", "covariates"])
def test_every_figure_of_an_explanation_is_drawn(name: str) -> None:
    plots = RunPlots(example_record(), explanations=lambda: example("unc_aal90"))
    axes = getattr(plots, name)("cognitive_delay", model="core").axes
    assert any(one.lines or one.collections or one.patches or one.images for one in axes)
    with pytest.raises(UsageError, match=r"no such map; got withheld: .*at chance"):
        getattr(plots, name)(model="full")
    with pytest.raises(UsageError, match="no explanations"):
        getattr(PLOTS, name)()


def test_voxel_maps_are_drawn_on_the_mean_volume_of_their_outcome() -> None:
    one = VolumeMap(
        task="injury", kind="occlusion", n_subjects=2, deletion=0, insertion=0, random_deletion=0, random_insertion=0,
        agreement=0, randomised=0, file="injury_occlusion.nii.gz",
    )  # fmt: skip
    values = np.random.default_rng(0).random((8, 8, 8))
    head = {"injury": np.ones((8, 8, 8), dtype=bool)}
    record = VolumeMapsRecord(model="network", maps=(one,), withheld={"death": "at chance"})
    found = MapImages(record, {one.file: values}, {"injury": values}, head, {"injury": np.diag([2.0, 2.0, 2.0, 1.0])})
    plots = RunPlots(example_record(), maps=lambda: found)
    assert len([axes for axes in plots.maps().axes if axes.images]) >= 3
    with pytest.raises(UsageError, match=r"withheld: death, .*at chance"):
        plots.maps("death")
    with pytest.raises(UsageError, match="no voxel maps"):
        PLOTS.maps()


def test_the_volume_of_a_subject_is_drawn(tmp_path: Path) -> None:
    write_volume_cohort(2, VolumeSettings(size=16), tmp_path, name="heads", seed=1)
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert len([axes for axes in cohort.plot.volume(cohort.ids[1]).axes if axes.images]) >= 3
    with pytest.raises(UsageError, match="no volume of this subject"):
        cohort.plot.volume("nobody")
    with pytest.raises(UsageError, match="no volumes"):
        COHORT.plot.volume()
