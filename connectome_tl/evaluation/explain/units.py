"""Maps of single fits (fold, repeat, seed), each on rows that the fit has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from connectome_tl.training.fitted import stored_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.schemes import StudyCohorts

METHODS: tuple[Method, ...] = ("pattern", "integrated gradients", "occlusion")


@dataclass(frozen=True, eq=False)
class UnitMap:
    """One map of one fit.

    Attributes:
        n_rows: held-out rows. over: rows that the values are taken over: the held-out ones, and the training rows
            too for a pattern. weight: what it counts for in a mean, see `weight_of`.
        square: squared deviations of the explained number from its mean over these rows.
        values: by kind of item, in the unit of the explained number.
        parts: of the outcome's metric, whole and for each occluded set (`statistic_parts`), for occlusion.
        gap: by how much attributions do not add up.
    """

    target: Target
    method: Method
    repeat: int
    fold: int
    seed: int
    n_rows: int
    over: int
    square: float
    values: Values
    parts: np.ndarray | None = None
    gap: float = 0.0

    @property
    def weight(self) -> float:
        return weight_of(self.method, self.over)


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
    for item in planned:
        wanted = [target for target in targets_of(item.tasks) if shown(target.task)]
        for seed, plan in enumerate(item.plans):
            if wanted:
                model = stored_model(store, plan.key)
                item.fold.admit(f"explanation of {item.model}", features_of(model).ids)
                yield from maps_of_fit(model, item, seed, cohort, items, wanted)
            done += 1
            if progress is not None:
                progress(done, total)


def maps_of_fit(
    model: FittedModel, item: PlannedFold, seed: int, cohort: Cohort, items: Items, wanted: Sequence[Target]
) -> Iterator[UnitMap]:
    """All maps of one fit of a fold, by outcome and method."""
    ids, train = item.fold.test, item.fold.train
    looked, seen = explained(model, cohort, ids, items), explained(model, cohort, train, items)
    plain = PlainColumns.of(features_of(model), cohort, ids, train, items)
    for target in wanted:
        value = looked.value(target)
        whole = np.concatenate([seen.value(target), value])
        patterns = {kind: one[:, 0] for kind, one in plain.patterns(whole[:, None]).items()}
        lost = looked.occlusions(target)
        made: dict[Method, Values] = {
            "pattern": patterns,
            "integrated gradients": plain.signed(looked.attributions(target)),
            "occlusion": split_sets(np.abs(lost).mean(axis=1), items),
        }
        for method, values in made.items():
            over = whole[-rows_of(method, item.fold) :]
            yield UnitMap(
                target,
                method,
                item.repeat,
                item.fold_number,
                seed,
                len(ids),
                len(over),
                float(((over - over.mean()) ** 2).sum()),
                values,
                _metric_parts(value, lost, target, cohort, item.fold) if method == "occlusion" else None,
                looked.gap(target) if method == "integrated gradients" else 0.0,
            )


def rows_of(method: Method, fold: Fold) -> int:
    """Number of rows of a map: the held-out rows and, for a pattern, also the training rows."""
    return len(fold.test) + (len(fold.train) if method == "pattern" else 0)


def weight_of(method: Method, n_rows: int) -> float:
    """Weight of a fold in a mean over folds; a covariance has one degree of freedom less."""
    return n_rows - 1.0 if method == "pattern" else float(n_rows)


def _metric_parts(value: np.ndarray, lost: np.ndarray, target: Target, cohort: Cohort, fold: Fold) -> np.ndarray | None:
    """`statistic_parts` of the whole model and with each set occluded; None for an outcome of classes."""
    if target.task.kind == "multiclass":
        return None
    truth = cohort.targets[target.task.name].to_numpy(float)
    scores = np.concatenate([value[:, None], (value - lost).T], axis=1)
    train, test = (
        np.repeat(truth[cohort.positions(rows)][:, None], scores.shape[1], axis=1) for rows in (fold.train, fold.test)
    )
    return statistic_parts(scores, train, test, target.task)


def standardised(units: Sequence[UnitMap]) -> list[UnitMap]:
    """Maps of one method and target in standard deviations of the explained number.

    The standard deviation is computed within the folds of the same repeat and seed, over the rows of the map.
    Folds with one row have no standard deviation and no map.
    """
    squares: dict[tuple[int, int], float] = {}
    freedom: dict[tuple[int, int], int] = {}
    for unit in units:
        key = unit.repeat, unit.seed
        squares[key] = squares.get(key, 0.0) + unit.square
        freedom[key] = freedom.get(key, 0) + unit.over - 1
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
    weights = np.array([unit.weight for unit in units])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(units), 1.0 / len(units))
    mean = {
        kind: np.tensordot(weights, np.stack([unit.values[kind] for unit in units]), axes=1) for kind in units[0].values
    }
    return with_regions(mean, items)
