"""Optuna's own plots of a search, in the look of the house."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from connectome_tl.report.drawing import GRID, INK, MUTED, clean, style, to_svg
from connectome_tl.report.labels import metric_label
from connectome_tl.report.sheet import Figure, Sheet
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.tuning import Dimension, SearchRecord, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna import Study
    from optuna.distributions import BaseDistribution

_FEW, _MOST_SLICES = 4, 8  # folds with a line each; settings with a panel each
_ENOUGH = 4  # completed trials below which importance says nothing


def search_figures(record: SearchRecord, sheet: Sheet) -> list[Figure]:
    """Scores in the order of trials, importance of each setting, slices and parallel coordinates.

    All but the first take the trials of all outer folds together.
    """
    folds = sorted({(trial.repeat, trial.fold) for trial in record.trials})
    by_fold = [[t for t in record.trials if (t.repeat, t.fold) == fold and t.values] for fold in folds]
    complete = [trial for trials in by_fold for trial in trials]
    drawn: list[Figure] = []
    for m, metric in enumerate(record.tuned.objectives):
        name = metric_label(metric).label
        drawn += _history(record, by_fold, m, f"{name}, inner folds", sheet)
        if len(complete) < _ENOUGH:
            continue
        merged = _study(record, complete)
        target: Callable[[Any], float] = lambda trial, m=m: trial.values[m]  # type: ignore[misc]  # noqa: E731
        if len(record.space) > 1:
            drawn += _drawn(sheet, "plot_param_importances", f"What mattered for {name}",
                            "Share of each setting in the differences between trials (PED-ANOVA), all outer folds "
                            "together. With few trials it is uncertain.", merged, target, name)  # fmt: skip
            drawn += _drawn(sheet, "plot_parallel_coordinate", f"Trials as lines: {name}",
                            "One line per trial, all outer folds together.", merged, target, name)  # fmt: skip
        drawn += _drawn(sheet, "plot_slice", f"{name} against each setting",
                        "One dot per completed trial, all outer folds together.", merged, target, name,
                        params=list(record.space)[:_MOST_SLICES])  # fmt: skip
    if len(record.tuned.objectives) == 2 and len(complete) >= _ENOUGH:
        names = [metric_label(metric).label for metric in record.tuned.objectives]
        drawn += sheet.draw(
            lambda at: _svg("plot_pareto_front", at, sheet.stamp, _study(record, complete), target_names=names),
            "Both objectives",
            "Red: trials that no other one beats in both. All outer folds together.",
        )
    return drawn


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
        "Scores in the order of trials",
        ("Mean and standard deviation over outer folds. " if many else "One colour per outer fold. ")
        + "The best of many inner scores is too good: what counts is the outer score of the run.",
    )


def _drawn(
    sheet: Sheet, plot: str, title: str, note: str, study: Study, target: Callable[[Any], float], name: str,
    **options: Any,
) -> list[Figure]:  # fmt: skip
    return sheet.draw(
        lambda at: _svg(plot, at, sheet.stamp, study, target=target, target_name=name, **options), title, note
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
    """Without Optuna's notes that its plots are experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _svg(plot: str, name: str, stamp: str, study: Study | Sequence[Study], **options: Any) -> str | None:
    """One of Optuna's matplotlib plots, redrawn in our colours."""
    import matplotlib
    from optuna.visualization import matplotlib as plots

    with style(), _quietly():
        from matplotlib import pyplot

        backend = matplotlib.get_backend()
        pyplot.switch_backend("agg")  # no window, whatever the machine has
        try:
            made = getattr(plots, plot)(study, **options)
            axes: list[Axes] = list(made.flat) if hasattr(made, "flat") else [made]
            figure = axes[0].get_figure(root=True)
            assert figure is not None
            wide = plot != "plot_param_importances" and len(axes) * 1.5
            figure.set_size_inches(max(5.2, min(9.0, float(wide or 0) * 1.3)), 3.2)
            for one in figure.axes:
                _restyle(one)
            if plot != "plot_parallel_coordinate":
                figure.tight_layout()
            return to_svg(figure, name, description=options.get("target_name", "Both objectives"), stamp=stamp)
        finally:
            pyplot.close("all")
            pyplot.switch_backend(backend)


def _restyle(axes: Axes) -> None:
    """Our background, lines and sizes instead of the style that Optuna switches to."""
    axes.set_facecolor("white")
    axes.set_title("")
    axes.grid(visible=True, color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#9AA5B1")
    axes.tick_params(colors=MUTED, labelsize=7.0, length=2.5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=8.0)
    for text in (axes.xaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_text(clean(text.get_text()))
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_fontsize(7.0)
