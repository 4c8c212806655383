"""Figures of a search, drawn with Optuna's plots through pyplot."""

from __future__ import annotations

import matplotlib
import optuna
from matplotlib import pyplot

from connectome_tl.report.figures.tuning import _svg


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
