"""Maps of the closed-form core under permuted outcomes, and family-wise thresholds.

All maps of a fold share its decompositions. Each item is studentised by its standard deviation over the labellings.
The maximum over items of each labelling, including the observed one, gives p values that are corrected over all items
(Westfall & Young 1993). Maps are in standard deviations of their predictions, so that a larger spread of the
predictions alone does not make an item significant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from connectome_tl.errors import InternalError, MissingInputError
from connectome_tl.evaluation.explain.core_view import CoreView
from connectome_tl.evaluation.explain.items import Items, Values, by_item, split_sets, with_regions
from connectome_tl.evaluation.explain.plain import PlainColumns
from connectome_tl.evaluation.explain.targets import Target, slope_of, targets_of
from connectome_tl.evaluation.explain.units import METHODS, by_repeat
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.settings.records.explanations import Method
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.refits import refitted_cores
from connectome_tl.training.schemes import StudyCohorts

_AT_ONCE = 32  # labellings; a bound on memory
NullMaps = dict[tuple[str, str, Method], Values]
"""By outcome, class and method: values (n_items, 1 + n_permutations) by kind, the observed labelling first, each in
standard deviations of that labelling's predictions; NaN for a labelling that could not be fitted."""


def core_values(
    view: CoreView, plain: PlainColumns, fit: CoreFit, target: Target, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[Method, Values]]:
    """Explained numbers (n_rows, n_outcomes), linear weights (n_columns, n_outcomes) and maps of many outcomes of one
    core, one per column of the fit.

    Patterns, whose covariance is that of several folds, are not among the maps.
    """
    slopes = np.array([slope_of(fit, int(column), is_risk=target.is_risk) for column in columns])
    lost = view.occlusions(fit)[:, :, columns] * slopes
    gradients, weights = _gradients(view, plain, fit, columns, slopes)
    occluded = split_sets(np.abs(lost).mean(axis=1), view.items)
    return (
        view.score(fit)[:, columns] * slopes,
        weights,
        {"occlusion": occluded, "integrated gradients": gradients},
    )


def _gradients(
    view: CoreView, plain: PlainColumns, fit: CoreFit, columns: np.ndarray, slopes: np.ndarray
) -> tuple[Values, np.ndarray]:
    """`PlainColumns.signed` and `weights` of the attributions of each outcome, without computing the attributions."""
    items, edges = view.items, view.items.n_edges
    alone = np.flatnonzero(view.places.region >= 0)
    onto_regions = view.onto[edges : edges + items.n_regions][:, alone]
    curved = view.curved_paths(fit)
    factors = [np.asarray(view.onto.T @ one.T).T for one in (plain.signs / view.n_rows, *plain.levers)]
    straight = [(view.delta * one).sum(axis=0)[:, None] for one in factors]
    parts, found = [], []
    for start in range(0, len(columns), _AT_ONCE):
        cut = slice(start, start + _AT_ONCE)
        weights = view.weights(fit, columns[cut])
        sums = []
        for factor, linear in zip(factors, straight, strict=True):
            summed = linear * weights
            for at, path in curved:
                summed[at] += path.summed_gradients(factor[:, at], columns[cut])
            sums.append(np.asarray(view.onto @ (summed * slopes[cut])))
        own = np.zeros((items.n_regions, weights.shape[1]))
        for r, row in enumerate(view.delta if alone.size else ()):
            gradients = row[:, None] * weights
            for at, path in curved:
                gradients[at] += path.gradients_of_row(r, columns[cut])
            own += np.abs(onto_regions @ (gradients[alone] * slopes[cut])) / view.n_rows
        signed, *levered = sums
        parts.append(by_item(signed, own, items))
        found.append(plain.weights(levered))
    whole = {kind: np.concatenate([part[kind] for part in parts], axis=1) for kind in parts[0]}
    return whole, np.concatenate(found, axis=1)


def null_maps(
    planned: Sequence[PlannedFold],
    cohorts: StudyCohorts,
    store: FitStore,
    items: Items,
    permutations: np.ndarray,
    shown: Callable[[Task], bool],
    progress: Callable[[int, int], None] | None = None,
) -> NullMaps:
    """Maps of the core on the first repeat's folds for the observed and all permuted outcomes.

    Args:
        planned: folds of the core. permutations: (n_permutations, n_subjects), see `exchangeable_permutations`.

    Raises:
        MissingInputError: a fit is not in the store.
    """
    target_cohort = cohorts.target
    every = np.vstack([np.arange(target_cohort.n_subjects), permutations])
    first = [item for item in planned if item.repeat == 0]
    found: NullMaps = {}
    done = 0
    for folds in by_repeat(first):
        sums: NullMaps = {}
        plains: list[PlainColumns] = []
        squares: dict[tuple[str, str], np.ndarray] = {}
        linear: dict[tuple[str, str], np.ndarray] = {}
        for item in folds:
            plan = item.plans[0]
            model = stored_model(store, plan.key)
            if not isinstance(model, CoreModel):
                raise InternalError("only the closed-form core is fitted again by algebra")
            view = CoreView.of(model, target_cohort, item.fold.test, items)
            plain = PlainColumns.of(model.features, target_cohort, item.fold.test, item.fold.train, items)
            plains.append(plain)
            outcomes = target_cohort.targets[list(plan.tasks)].to_numpy(float)[
                every[:, target_cohort.positions(plan.train.ids)]
            ]
            parents = {parent.key: _parent(store, parent.key) for _, parent in plan.parents}
            names = [task.name for task in item.tasks if shown(task)]
            for refit in refitted_cores(plan, cohorts.by_name(), parents, outcomes, names):
                for target in (one for one in targets_of(item.tasks) if one.task.name == refit.task.name):
                    columns = np.arange(len(refit.usable)) * refit.n_scores + target.which
                    value, weights, maps = core_values(view, plain, refit.fit, target, columns)
                    where = target.task.name, target.level

                    def spread(one: np.ndarray, usable: Sequence[int] = refit.usable) -> np.ndarray:
                        return _spread_out(one, usable, len(every))

                    square = spread(((value - value.mean(axis=0)) ** 2).sum(axis=0)[None])[0]
                    squares[where] = squares.get(where, 0.0) + square
                    linear[where] = linear.get(where, 0.0) + len(value) * spread(weights)
                    for method, values in maps.items():
                        own = sums.setdefault((*where, method), {})
                        for kind, one in values.items():
                            own[kind] = own.get(kind, 0.0) + len(value) * spread(one)
            done += 1
            if progress is not None:
                progress(done, len(first))
        whole = PlainColumns.joined(plains)
        n_rows = sum(len(item.fold.test) for item in folds)
        for where, square in squares.items():
            unusable = np.isnan(square)
            patterns = whole.patterns(np.where(unusable, 0.0, linear[where]))
            sums[*where, "pattern"] = {kind: np.where(unusable, np.nan, one) for kind, one in patterns.items()}
            scale = np.sqrt(square / max(n_rows - len(folds), 1))
            factor = np.where(unusable, np.nan, np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0))
            for method in METHODS:
                scaled = {kind: one / n_rows * factor for kind, one in sums[*where, method].items()}
                found[*where, method] = with_regions(scaled, items)
    return found


def _spread_out(values: np.ndarray, usable: Sequence[int], n_labellings: int) -> np.ndarray:
    """Expand to (n_items, n_labellings); labellings that could not be fitted in a fold are undefined."""
    whole = np.full((len(values), n_labellings), np.nan)
    whole[:, list(usable)] = values
    return whole


def _parent(store: FitStore, key: str) -> FitResult:
    found = store.load(key, state=True)
    if found is None:
        raise MissingInputError(f"the fit {key} is missing", file=store.folder, remedy="Run the study again.")
    return found


def beyond_largest(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """p of every item, corrected over all by the largest studentised one of each labelling.

    Args:
        values: (n_items, 1 + n_permutations), the observed first; their magnitudes count. NaN: not fitted.

    Returns:
        p (n_items,); the 95 % quantile of the largest; the largest observed. An item that is the same under all
        labellings has p 1.
    """
    size = np.abs(values)
    known = np.isfinite(size).all(axis=0)
    if not known[0]:
        return np.full(len(size), np.nan), float("nan"), float("nan")
    centre, spread = size[:, known].mean(axis=1), size[:, known].std(axis=1)
    varies = spread > 1e-12 * np.maximum(np.abs(centre), 1e-300)
    z = np.where(varies[:, None], (size - centre[:, None]) / np.where(varies, spread, 1.0)[:, None], -np.inf)
    largest = np.where(known, z.max(axis=0), np.inf)  # labellings that could not be fitted count as extreme
    p = (largest[None, :] >= z[:, [0]] - 1e-12).mean(axis=1)
    finite = np.sort(largest)
    threshold = float(finite[int(np.ceil(0.95 * len(finite))) - 1])
    return np.where(varies, p, 1.0), threshold, float(z[:, 0].max())
