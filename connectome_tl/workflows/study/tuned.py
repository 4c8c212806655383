"""Results of a search: write, read, apply to a study, compare with outer scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import ValidationError

from connectome_tl.cohort.people import people_of
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.provenance import content_hash, read_json, write_json, write_sidecar, write_table, write_text
from connectome_tl.report import labels
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.parts import parts_of
from connectome_tl.settings.records.results import RunRecord, Score
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import Optimism, SearchRecord, TrialRecord, Tuned

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from connectome_tl.evaluation.tuning.search import FoldSearch
    from connectome_tl.training.schemes import StudyCohorts

TUNED = "tuned.json"
_COLUMNS = {
    "repeat": "repeat of the cross-validation, from 0",
    "fold": "outer fold on whose training rows the trial was scored, from 0",
    "trial": "number of the trial in this fold; lost ones are left out, since each was run again",
    "state": "complete, or stopped before its last inner fold",
}


def cohorts_hash(cohorts: StudyCohorts) -> str:
    """Hash of all rows of all cohorts."""
    return content_hash({role: cohort.rows_hash(cohort.ids) for role, cohort in cohorts.by_name().items()})


_DECISIVE = (
    "target", "source", "pool", "stages", "model", "core", "splits", "confounds", "harmonise", "edges", "image",
)  # fmt: skip


def tuned_from(settings: StudySettings) -> str:
    """Hash of all settings that affect the inner scores of a trial."""
    own = settings.nameless
    return content_hash({name: getattr(own, name) for name in (*_DECISIVE, "n_seeds", "seed", "threshold")})


def read_tuned(folder: str | Path) -> Tuned:
    """Read the result of `tune`.

    Raises:
        MissingInputError: the folder contains no finished search.
        DataError: the file was changed or is of another version.
    """
    file = Path(folder) / TUNED
    if not Path(folder).is_dir():
        raise MissingInputError("folder not found", expected="the folder of a finished search", file=folder)
    if not file.is_file():
        raise MissingInputError(
            "not a finished search", file=file, remedy="Run `connectome-tl tune` to its end; it resumes."
        )
    content = read_json(file)
    try:
        saved = content.pop("content")
        tuned = Tuned.model_validate(content)
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not the result of a search: {type(error).__name__}", file=file) from error
    if saved != content_hash(tuned):
        raise DataError(
            "the result of the search was changed after it was saved",
            file=file,
            remedy="Run `connectome-tl tune` again with the same --out; finished trials are kept.",
        )
    return tuned


def check_tuned(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, *, any_code: bool) -> None:
    """Check that tuned settings belong to this study, data and splits.

    Args:
        any_code: accept scores of any code of fits, which an audit does not repeat.

    Raises:
        UsageError: lists all differences.
    """
    tuned = settings.tuned
    if tuned is None:
        return
    code = tuned.code if any_code else code_of_tuned(settings, cohorts, tuned)
    wrong = [
        what
        for what, found, own in (
            ("settings (stages, model, core, features, splits, seeds)", tuned.study, tuned_from(settings)),
            ("split plan", tuned.split_plan, splits.hash),
            ("cohorts", tuned.data, cohorts_hash(cohorts)),
            ("code of fits (versions of this package, libraries, extensions)", tuned.code, code),
        )
        if found != own
    ]
    if wrong:
        raise UsageError(
            f"the tuned settings belong to other {' and '.join(wrong)}",
            remedy="Run `connectome-tl tune` for this study, with a new --out.",
        )
    for repeat, number, _ in splits.folds():
        settings.of(repeat, number)


def code_of_tuned(settings: StudySettings, cohorts: StudyCohorts, tuned: Tuned) -> str:
    """Hash of the code of the fits of a tuned study, extensions that it uses included."""
    from connectome_tl.training.plans import code_version

    searched = settings.model_copy(update={"tuned": tuned, "controls": (), "baselines": ()})
    return code_version(parts_of(searched, cohorts.kinds))


def write_tuned(
    folder: Path, settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, searches: Sequence[FoldSearch]
) -> Tuned:
    """Write result, table of trials and page of a finished search; all workers write the same bytes."""
    from connectome_tl.report.tuning import render_search

    inner, tune = searches[0].inner, searches[0].tune
    tuned = Tuned(
        study=tuned_from(settings),
        split_plan=splits.hash,
        data=cohorts_hash(cohorts),
        model=tune.model,
        task=inner.task.name,
        objectives=inner.metrics,
        trials=min(search.n_complete() for search in searches),
        sampler=tune.sampler,
        folds=tuple(search.best() for search in searches),
    )
    tuned = tuned.model_copy(update={"code": code_of_tuned(settings, cohorts, tuned)})
    trials = tuple(_record(search, at, trial) for search in searches for at, trial in enumerate(search.trials()))
    table = write_table(folder / "trials.tsv", _table(trials, tuned, tuple(tune.space)))
    write_sidecar(
        table,
        inputs={"cohorts": tuned.data},
        settings=settings,
        seed=settings.seed,
        libraries=["optuna"],
        Columns=_COLUMNS,
    )
    every = list(cohorts.by_name().values())
    record = SearchRecord(
        title=settings.title,
        outcome=inner.task.label,
        noun=people_of(cohorts.target).noun,
        space=tune.space,
        tuned=tuned,
        trials=trials,
        simulated=any(cohort.simulated for cohort in every),
        exploratory=bool(settings.leaks) or any(cohort.exploratory for cohort in every),
        transductive=settings.stages.adapt is not None and settings.stages.adapt.transductive,
    )
    write_text(folder / "report.html", render_search(record))
    write_json(folder / TUNED, {**tuned.model_dump(mode="json"), "content": content_hash(tuned)})
    return tuned


def _record(search: FoldSearch, at: int, trial: FrozenTrial) -> TrialRecord:
    from connectome_tl.evaluation.tuning.watch import last_score

    whole = trial.state.name == "COMPLETE"
    return TrialRecord(
        repeat=search.repeat,
        fold=search.number,
        trial=at,
        state="complete" if whole else "stopped",
        params=dict(trial.params),
        values=tuple(trial.values or ()) if whole else (),
        reached=float("nan") if whole else last_score(trial.intermediate_values),
        why="" if whole else str(trial.user_attrs.get("stopped", "")),
    )


def _table(trials: Sequence[TrialRecord], tuned: Tuned, keys: Sequence[str]) -> pd.DataFrame:
    nothing = (float("nan"),) * len(tuned.objectives)
    return pd.DataFrame(
        [
            {
                **{name: getattr(trial, name) for name in _COLUMNS},
                **{key: trial.params.get(key) for key in keys},
                **dict(zip(tuned.objectives, trial.values or nothing, strict=True)),
                "reached": trial.reached,
                "why": trial.why,
            }
            for trial in trials
        ]
    )


def optimism(tuned: Tuned | None, scores: Sequence[Score]) -> tuple[Optimism, ...]:
    """Inner scores of the best trials compared with outer scores, per metric."""
    if tuned is None:
        return ()
    found = []
    for m, metric in enumerate(tuned.objectives):
        outer = next(
            (s for s in scores if (s.task, s.model, s.metric) == (tuned.task, tuned.model, metric)),
            None,
        )
        if outer is None:
            continue
        inner = float(np.mean([one.values[m] for one in tuned.folds]))
        found.append(
            Optimism(
                task=tuned.task,
                model=tuned.model,
                metric=metric,
                inner=inner,
                outer=outer.value,
                low=outer.low,
                high=outer.high,
                difference=METRICS[metric].sign * (inner - outer.value),
            )
        )
    return tuple(found)


def optimism_lines(record: RunRecord) -> list[str]:
    """One printed line per metric of a tuned run."""
    return [
        f"Tuned {one.model}, {one.task}: {METRICS[one.metric].label} {labels.number(one.inner, 3)} on the inner folds "
        f"that chose the settings, {labels.number(one.outer, 3)} on the outer folds; optimism "
        f"{labels.signed(one.difference, 3)}"
        for one in record.optimism
    ]
