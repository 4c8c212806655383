"""Optuna's plots of a search in the style of the report."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from connectome_tl.report.figures.drawing import GRID, INK, LINES, MUTED, style, to_svg
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.labels import metric_label
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.tuning import Dimension, SearchRecord, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from optuna import Study
    from optuna.distributions import BaseDistribution

_FEW, _MOST_SLICES = 4, 8  # folds drawn as separate lines; settings drawn as separate panels
_ENOUGH = 4  # completed trials needed to estimate importance


@dataclass(frozen=True)
class SearchFigures:
    """Figures of a search: small figures, drawn side by side, and wide figures."""

    small: list[Figure]
    wide: list[Figure]


def search_figures(record: SearchRecord, sheet: Sheet) -> SearchFigures:
    """Scores in the order of trials, importance of each setting, slices and parallel coordinates.

    All but the first pool the trials of all outer folds.
    """
    folds = sorted({(trial.repeat, trial.fold) for trial in record.trials})
    by_fold = [[t for t in record.trials if (t.repeat, t.fold) == fold and t.values] for fold in folds]
    complete = [trial for trials in by_fold for trial in trials]
    merged = _study(record, complete)
    found = SearchFigures([], [])
    for m, metric in enumerate(record.tuned.objectives):
        name, sign = metric_label(metric).label, METRICS[metric].sign
        found.small.extend(_history(record, by_fold, m, name, sheet))
        if len(complete) < _ENOUGH:
            continue

        def drawn(
            plot: str, title: str, note: str, m: int = m, name: str = name, sign: int = sign, **options: Any
        ) -> list[Figure]:
            return sheet.draw(
                lambda at: _svg(
                    plot,
                    at,
                    sheet.stamp,
                    merged,
                    sign,
                    target=lambda trial: trial.values[m],
                    target_name=name,
                    **options,
                ),
                title,
                note,
            )

        if len(record.space) > 1:
            note = "Relative importance of each setting (PED-ANOVA), all outer folds pooled."
            title = f"Importance of settings for {name}"
            found.small.extend(drawn("plot_param_importances", title, f"{note} With few trials it is uncertain."))
            note = "One line per completed trial, all outer folds together; the best are darkest."
            found.wide.extend(drawn("plot_parallel_coordinate", f"Trials as lines: {name}", note))
        note = "One dot per completed trial, all outer folds together."
        some = list(record.space)[:_MOST_SLICES]
        found.wide.extend(drawn("plot_slice", f"{name} against each setting", note, params=some))
    if len(record.tuned.objectives) == 2 and len(complete) >= _ENOUGH:
        names = [metric_label(metric).label for metric in record.tuned.objectives]
        found.small.extend(
            sheet.draw(
                lambda at: _svg("plot_pareto_front", at, sheet.stamp, merged, target_names=names),
                "Both objectives",
                "Red: Pareto-optimal trials. All outer folds pooled.",
            )
        )
    return found


def _history(
    record: SearchRecord, by_fold: Sequence[Sequence[TrialRecord]], m: int, name: str, sheet: Sheet
) -> list[Figure]:
    many = len(by_fold) > _FEW
    studies = [
        _study(record, trials, f"repeat {trials[0].repeat}, fold {trials[0].fold}") for trials in by_fold if trials
    ]
    return sheet.draw(
        lambda at: _svg(
            "plot_optimization_history",
            at,
            sheet.stamp,
            studies,
            target=lambda trial: trial.values[m],
            target_name=name,
            error_bar=many,
        ),
        f"{name} on the inner folds, in the order of trials",
        ("Mean and standard deviation over outer folds. " if many else "One colour per outer fold. ")
        + "The best of many inner scores is optimistic; report the outer score of the run.",
    )


def _study(record: SearchRecord, trials: Iterable[TrialRecord], name: str | None = None) -> Study:
    """The trials as an Optuna study in memory."""
    import optuna

    directions = ["maximize" if METRICS[metric].sign > 0 else "minimize" for metric in record.tuned.objectives]
    kinds = {key: _distribution(one) for key, one in record.space.items()}
    with _quietly():
        study = optuna.create_study(directions=directions, study_name=name)
        study.add_trials(
            [optuna.create_trial(params=t.params, distributions=kinds, values=list(t.values)) for t in trials]
        )
    return study


def _distribution(one: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices:
        return CategoricalDistribution(one.labels)
    kind: Any = IntDistribution if one.is_integer else FloatDistribution
    return kind(one.low, one.high, log=one.log)


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress Optuna's warnings that its plots are experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


_LABELS = {"Hyperparameter": "", "Hyperparameter Importance": "Importance"}


def _svg(plot: str, name: str, stamp: str, study: Study | Sequence[Study], sign: int = 1, **options: Any) -> str | None:
    """One of Optuna's matplotlib plots in the style of the report; `sign` is -1 if smaller scores are better."""
    import matplotlib
    from optuna.visualization import matplotlib as plots

    with style(), _quietly():
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator

        backend, theirs = matplotlib.get_backend(), set(pyplot.get_fignums())
        opens_windows = backend.lower() != "agg" and "inline" not in backend
        if opens_windows:  # in a notebook, a switch would end the display of figures
            pyplot.switch_backend("agg")
        try:
            made = getattr(plots, plot)(study, **options)
            panels: list[Axes] = list(made.flat) if hasattr(made, "flat") else [made]
            figure = panels[0].get_figure(root=True)
            assert figure is not None
            _lay_out(figure, plot, len(panels))
            if plot == "plot_parallel_coordinate":
                _darken(panels[0], sign)
            if plot == "plot_optimization_history":
                _recolour(panels[0])
                panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            return to_svg(figure, name, description=options.get("target_name", "Both objectives"), stamp=stamp)
        finally:
            for number in set(pyplot.get_fignums()) - theirs:
                pyplot.close(number)
            if opens_windows:
                pyplot.switch_backend(backend)


def _lay_out(figure: MatplotlibFigure, plot: str, n_panels: int) -> None:
    """Sizes, margins and tick labels; the colour scale is at the right."""
    if figure.get_suptitle():
        figure.suptitle("")
    scales = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    for axes in figure.axes:
        _restyle(axes)
    if plot == "plot_parallel_coordinate":
        figure.set_size_inches(9.0, 3.6)
    elif scales:
        figure.set_size_inches(min(9.0, 1.6 + 2.4 * n_panels), 3.0)
        width = figure.get_figwidth()
        figure.subplots_adjust(left=0.62 / width, right=1 - 0.95 / width, bottom=0.18, top=0.9, wspace=0.3)
    else:
        figure.set_size_inches(3.6, 2.9)
        figure.tight_layout(rect=(0, 0, 1, 0.96))
    width = figure.get_figwidth()
    if scales and n_panels == 1:  # its panel and the colour scale have one grid, which limits `subplots_adjust`
        bottom = 0.26 if plot == "plot_parallel_coordinate" else 0.18
        for axes in figure.axes:
            axes.set_position((0.62 / width, bottom, 1 - 1.6 / width, 0.9 - bottom))
    for axes in scales:
        axes.set_position((1 - 0.7 / width, 0.22, 0.11 / width, 0.66))


def _darken(axes: Axes, sign: int) -> None:
    """Draw the lines of the best trials darkest, and none in white, in which Optuna draws the largest."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    colours = colormaps["Blues"](np.linspace(0.3, 1.0, 64)[::sign])
    for lines in axes.collections:
        lines.set_cmap(LinearSegmentedColormap.from_list("trials", colours))


def _restyle(axes: Axes) -> None:
    """Replace Optuna's style by the background, lines and sizes of the report."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_facecolor("white")
    for place in ("left", "center", "right"):
        axes.set_title("", loc=place)
    axes.grid(visible=True, color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#9AA5B1")
    axes.tick_params(colors=MUTED, labelsize=7.0, length=2.5)
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        axis.label.set(color=INK, fontsize=8.0, text=_LABELS.get(axis.label.get_text(), axis.label.get_text()))
        if scale == "log":  # plain numbers, since powers would need a second font
            axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    for text in axes.texts:
        text.set(color=INK, fontsize=7.0)
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        legend.set_visible(len(legend.get_texts()) > 1)
        for text in legend.get_texts():
            text.set_fontsize(6.5)


def _recolour(axes: Axes) -> None:
    """Give each of a few folds its own colour and a line of its best value, with a short legend in the panel."""
    handles, names = axes.get_legend_handles_labels()
    folds = list(dict.fromkeys(name.rpartition(" of ")[2] for name in names))
    if len(folds) > _FEW or not all(" of repeat " in name for name in names):
        return
    for handle, name in zip(handles, names, strict=True):
        handle.set(color=LINES[folds.index(name.rpartition(" of ")[2])])
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([9.0])
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    first = {
        name.rpartition(" of ")[2]: handle for name, handle in zip(reversed(names), reversed(handles), strict=True)
    }
    axes.legend([first[fold] for fold in folds], folds, fontsize=6.5, frameon=False, loc="best")
    axes.figure.tight_layout(rect=(0, 0, 1, 0.96))  # type: ignore[union-attr]
