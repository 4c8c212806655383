"""Maps of single fits (fold, repeat, seed), each on rows that the fit has not seen.

A pattern is a covariance times linear weights. The weights are those of the attributions of held-out rows. The
covariance, which uses no outcomes, is that of the held-out rows of all folds of a repeat, since those of one fold are
too few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.evaluation.explain.items import Items, Values, split_sets, with_regions
from connectome_tl.evaluation.explain.models import explained, features_of
from connectome_tl.evaluation.explain.plain import PlainColumns
from connectome_tl.evaluation.explain.targets import Target, targets_of
from connectome_tl.evaluation.nested_cv import PlannedFold, plan_folds
from connectome_tl.evaluation.permutation.tests import no_parts, statistic, statistic_parts
from connectome_tl.settings.records.explanations import Method
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.schemes import StudyCohorts

METHODS: tuple[Method, ...] = ("pattern", "integrated gradients", "occlusion")


@dataclass(frozen=True, eq=False)
class UnitMap:
    """One map of one fit.

    Attributes:
        n_rows: held-out rows, the weight of the fold in a mean.
        square: squared deviations of the explained number from its mean over these rows.
        values: by kind of item, in the unit of the explained number.
        parts: of the outcome's metric, whole and for each occluded set (`statistic_parts`), for occlusion.
        gap: mean completeness error of the attributions.
    """

    target: Target
    method: Method
    repeat: int
    fold: int
    seed: int
    n_rows: int
    square: float
    values: Values
    parts: np.ndarray | None = None
    gap: float = 0.0


def planned_folds(
    study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task], model: str
) -> tuple[PlannedFold, ...]:
    """The folds of one model of the study."""
    return tuple(item for item in plan_folds(study, cohorts, splits, tasks) if item.model == model)


def unit_maps(
    planned: Sequence[PlannedFold],
    cohort: Cohort,
    store: FitStore,
    items: Items,
    shown: Callable[[Task], bool],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[UnitMap]:
    """All maps of all fits of one model. Fits are loaded; nothing is fitted.

    Args:
        shown: the outcomes whose maps are made.

    Raises:
        MissingInputError: a fit is not in the store.
        LeakageError: a fit has seen a row that it is explained on.
    """
    total, done = sum(len(item.plans) for item in planned), 0

    def loaded(folds: Sequence[PlannedFold], seed: int) -> Iterator[tuple[PlannedFold, FittedModel]]:
        nonlocal done
        for item in folds:
            model = stored_model(store, item.plans[seed].key)
            item.fold.admit(f"explanation of {item.model}", features_of(model).ids)
            yield item, model
            done += 1
            if progress is not None:
                progress(done, total)

    for folds in by_repeat(planned):
        if any(shown(task) for task in folds[0].tasks):
            for seed in range(len(folds[0].plans)):
                yield from maps_of_folds(loaded(folds, seed), seed, cohort, items, shown)
        else:
            done += sum(len(item.plans) for item in folds)


def by_repeat(planned: Sequence[PlannedFold]) -> list[list[PlannedFold]]:
    """The folds of each repeat and of each group of outcomes that are fitted together."""
    found: dict[tuple[int, tuple[str, ...]], list[PlannedFold]] = {}
    for item in planned:
        found.setdefault((item.repeat, tuple(task.name for task in item.tasks)), []).append(item)
    return list(found.values())


def maps_of_folds(
    fits: Iterable[tuple[PlannedFold, FittedModel]],
    seed: int,
    cohort: Cohort,
    items: Items,
    shown: Callable[[Task], bool],
) -> Iterator[UnitMap]:
    """All maps of the fits of one repeat and seed, by fold, outcome and method."""
    columns: list[PlainColumns] = []
    held: dict[Target, list[tuple[UnitMap, np.ndarray]]] = {}  # units of the folds, and linear weights
    for item, model in fits:
        ids = item.fold.test
        looked = explained(model, cohort, ids, items)
        plain = PlainColumns.of(features_of(model), cohort, ids, item.fold.train, items)
        columns.append(plain)
        for target in (one for one in targets_of(item.tasks) if shown(one.task)):
            value = looked.value(target)
            lost = looked.occlusions(target)
            occluded = UnitMap(
                target,
                "occlusion",
                item.repeat,
                item.fold_number,
                seed,
                len(ids),
                float(((value - value.mean()) ** 2).sum()),
                split_sets(np.abs(lost).mean(axis=1), items),
                _metric_parts(value, lost, target, cohort, item.fold),
            )
            unit = replace(occluded, parts=None)
            attributed = looked.attributions(target)
            weights = plain.weights([(one * attributed).sum(axis=0) for one in plain.levers])
            yield occluded
            yield replace(unit, method="integrated gradients", values=plain.signed(attributed), gap=looked.gap(target))
            held.setdefault(target, []).append((unit, weights))
    whole = PlainColumns.joined(columns)
    for of_target in held.values():
        values = whole.patterns(np.stack([weights for _, weights in of_target], axis=1))
        for f, (unit, _) in enumerate(of_target):
            yield replace(unit, method="pattern", values={kind: one[:, f] for kind, one in values.items()})


def _metric_parts(value: np.ndarray, lost: np.ndarray, target: Target, cohort: Cohort, fold: Fold) -> np.ndarray | None:
    """`statistic_parts` of the whole model and with each set occluded; None for an outcome of classes."""
    if target.task.form == "classes":
        return None
    truth = target.task.spec.to_score(cohort.targets[target.task.name].to_numpy(float))
    scores = np.concatenate([value[:, None], (value - lost).T], axis=1)
    train, test = (
        np.repeat(truth[cohort.positions(rows)][:, None], scores.shape[1], axis=1) for rows in (fold.train, fold.test)
    )
    return statistic_parts(scores, train, test, target.task)


def standardised(units: Sequence[UnitMap]) -> list[UnitMap]:
    """Maps of one method and target in standard deviations of the explained number.

    The standard deviation is computed within the folds of the same repeat and seed, over the held-out rows.
    Folds with one row have no standard deviation and no map.
    """
    squares: dict[tuple[int, int], float] = {}
    freedom: dict[tuple[int, int], int] = {}
    for unit in units:
        key = unit.repeat, unit.seed
        squares[key] = squares.get(key, 0.0) + unit.square
        freedom[key] = freedom.get(key, 0) + unit.n_rows - 1
    found = []
    for unit in units:
        key = unit.repeat, unit.seed
        scale = np.sqrt(squares[key] / freedom[key]) if freedom[key] else 0.0
        factor = 1.0 / scale if scale > 0 else 0.0  # a constant prediction has no map
        found.append(
            replace(unit, values={kind: one * factor for kind, one in unit.values.items()}, gap=unit.gap * factor)
        )
    return found


def drops(units: Sequence[UnitMap], items: Items) -> Values:
    """Drop in the outcome's metric if each set is occluded, over all folds; empty if it was not scored."""
    parts = [unit.parts for unit in units if unit.parts is not None]
    if not parts:
        return {}
    task = units[0].target.task
    found = statistic([np.sum(parts, axis=0, initial=0.0) + no_parts(task, parts[0].shape[-1])], [task])[:, 0]
    return split_sets(found[0] - found[1:], items)


def pooled(units: Sequence[UnitMap], items: Items) -> Values:
    """The weighted mean of maps, regions summed from the mean edges."""
    weights = np.array([float(unit.n_rows) for unit in units])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(units), 1.0 / len(units))
    mean = {
        kind: np.tensordot(weights, np.stack([unit.values[kind] for unit in units]), axes=1) for kind in units[0].values
    }
    return with_regions(mean, items)
