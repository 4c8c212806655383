"""Figures of a search, drawn with Optuna's plots through pyplot."""

from __future__ import annotations

import matplotlib
import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from optuna.distributions import FloatDistribution
from optuna.visualization import matplotlib as plots

from connectome_tl.report.figures.tuning import _darken, _lay_out, _svg

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
VALUES = [0.2, 0.9, 0.5, 0.1]


def study_of(sign: int, n_settings: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize")
    kinds = {f"model.setting{i}": FloatDistribution(0, 1) for i in range(n_settings)}
    for value in VALUES:
        trial = optuna.create_trial(params=dict.fromkeys(kinds, value), distributions=kinds, values=[value])  # type: ignore[arg-type]
        study.add_trial(trial)
    return study


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_trial_is_the_darkest_line_and_none_is_white(sign: int) -> None:
    matplotlib.use("agg")
    axes = plots.plot_parallel_coordinate(study_of(sign, 2), target=lambda trial: trial.values[0], target_name="AUC")
    _darken(axes, sign)
    (lines,) = axes.collections
    values = lines.get_array()
    light = lines.to_rgba(values)[:, :3].mean(axis=1)
    pyplot.close(axes.figure)
    assert light.max() < 0.9
    assert values[np.argmin(light)] == sign * max(sign * value for value in VALUES)


@pytest.mark.parametrize("n_settings", [1, 2, 3, 6])
@pytest.mark.parametrize("plot", ["plot_slice", "plot_parallel_coordinate"])
def test_nothing_is_cut_off_at_the_right_of_the_colour_scale(plot: str, n_settings: int) -> None:
    matplotlib.use("agg")
    made = getattr(plots, plot)(study_of(1, n_settings), target=lambda trial: trial.values[0], target_name="AUC")
    first = made.flat[0] if hasattr(made, "flat") else made
    figure = first.get_figure(root=True)
    _lay_out(figure, plot, n_settings if plot == "plot_slice" else 1)
    figure.canvas.draw()
    (scale,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    ends = [axes.get_window_extent().x1 for axes in figure.axes if axes is not scale]
    box, width = scale.get_tightbbox(), figure.bbox.width
    pyplot.close(figure)
    assert max(ends) < box.x0 < box.x1 < width
    assert box.x0 - max(ends) < 0.1 * width


def test_drawing_a_search_leaves_figures_and_backend_of_the_caller_alone() -> None:
    """In a notebook a switch of the backend ended the display of every later figure."""
    matplotlib.use("agg")
    own = pyplot.figure()
    study = optuna.create_study(direction="maximize")
    study.add_trials([optuna.create_trial(params={}, distributions={}, values=[0.1 * i]) for i in range(3)])
    before = pyplot.get_fignums()
    try:
        drawn = _svg("plot_optimization_history", "history", "", study, target=lambda trial: trial.values[0])
        assert drawn is not None
        assert pyplot.get_fignums() == before
        assert matplotlib.get_backend().lower() == "agg"
    finally:
        pyplot.close(own)
