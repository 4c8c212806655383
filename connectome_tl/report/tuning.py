"""Report of a hyperparameter search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectome_tl.report import labels
from connectome_tl.report.figures.sheet import Sheet
from connectome_tl.report.figures.tuning import search_figures
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.report.tables.tuned_settings import choice_columns, choice_rows, shown
from connectome_tl.settings.tuning import Dimension, SearchRecord, TrialRecord


def render_search(record: SearchRecord) -> str:
    """Render the page of `connectome-tl tune`. The same record gives the same bytes.

    Returns:
        One HTML document with inline styles and figures, without scripts or external resources.
    """
    stamps = stamps_of(simulated=record.simulated, transductive=record.transductive, exploratory=record.exploratory)
    tuned = record.tuned
    stopped = sum(trial.state == "stopped" for trial in record.trials)
    return render(
        "tuning.html",
        record=record,
        stamps=stamps,
        metrics=[labels.metric_label(metric).label for metric in tuned.objectives],
        model=labels.model_label(tuned.model).label,
        n_complete=len(record.trials) - stopped,
        n_stopped=stopped,
        space_rows=space_rows(record.space),
        columns=choice_columns(tuned.objectives),
        choices=choice_rows(tuned.folds),
        warning=_all_alike(record.trials),
        figures=search_figures(record, Sheet(" · ".join(short for short, _ in stamps))),
    )


def _all_alike(trials: Sequence[TrialRecord]) -> str:
    """A warning if trials with different settings have the same scores in some fold, else empty."""
    complete: dict[tuple[int, int], list[TrialRecord]] = {}
    for trial in trials:
        if trial.state == "complete":
            complete.setdefault((trial.repeat, trial.fold), []).append(trial)
    alike = [
        f"repeat {repeat}, fold {fold}"
        for (repeat, fold), found in complete.items()
        if len({str(trial.params) for trial in found}) > 1 and len({trial.values for trial in found}) == 1
    ]
    if not alike:
        return ""
    return f"All completed trials have the same scores in {'; '.join(alike)}: there, the first one was chosen."


def space_rows(space: Mapping[str, Dimension]) -> list[tuple[str, str]]:
    """Key and range or choices of every setting."""
    return [(key, _range(one)) for key, one in space.items()]


def _range(one: Dimension) -> str:
    if one.choices:
        return ", ".join(shown(choice) for choice in one.choices)
    kind = "integers, " if one.is_integer else ""
    return f"{one.low:g} to {one.high:g} ({kind}{'logarithmic' if one.log else 'linear'} scale)"
