"""Maps of the closed-form core under permuted outcomes, and family-wise thresholds.

All maps of a fold share its decompositions. Each item is studentised by its standard deviation over the labelings.
The maximum over items of each labeling, including the observed one, gives p values that are corrected over all items
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
from connectome_tl.evaluation.explain.units import rows_of, weight_of
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.settings.records.explanations import Method
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.closed_form.fitted import CoreFit
from connectome_tl.training.core import CoreModel
from connectome_tl.training.fitted import stored_model
from connectome_tl.training.refits import refitted_cores
from connectome_tl.training.schemes import StudyCohorts

_AT_ONCE = 32  # labelings; a bound on memory
NullMaps = dict[tuple[str, str, Method], Values]
"""By outcome, class and method: values (n_items, 1 + n_permutations) by kind, the observed labeling first, each in
standard deviations of that labeling's predictions; NaN for a labeling that could not be fitted."""


def core_values(
    view: CoreView, seen: CoreView, plain: PlainColumns, fit: CoreFit, target: Target, columns: np.ndarray
) -> dict[Method, tuple[Values, np.ndarray]]:
    """Maps of many outcomes of one core, one per column of the fit, and the squared deviations of each
    explained number from its mean over the rows of the map.

    Integrated gradients are omitted if the core has radial parts, which need one pass per outcome.

    Args:
        view: of the held-out rows. seen: of the training rows.
    """
    slopes = np.array([slope_of(fit, int(column), is_risk=target.is_risk) for column in columns])
    explained = view.score(fit)[:, columns] * slopes
    whole = np.concatenate([seen.score(fit)[:, columns] * slopes, explained])
    lost = view.occlusions(fit)[:, :, columns] * slopes
    squares = ((explained - explained.mean(axis=0)) ** 2).sum(axis=0)
    found: dict[Method, tuple[Values, np.ndarray]] = {
        "pattern": (plain.patterns(whole), ((whole - whole.mean(axis=0)) ** 2).sum(axis=0)),
        "occlusion": (split_sets(np.abs(lost).mean(axis=1), view.items), squares),
    }
    if not fit.radial:
        found["integrated gradients"] = _linear_gradients(view, plain, fit, columns, slopes), squares
    return found


def _linear_gradients(
    view: CoreView, plain: PlainColumns, fit: CoreFit, columns: np.ndarray, slopes: np.ndarray
) -> Values:
    """`PlainColumns.signed` of the attributions of each outcome, without computing the attributions."""
    items, edges = view.items, view.items.n_edges
    signs = view.onto.T @ plain.signs.T  # (n_columns, n_rows): the sign of each column's item
    mean = (view.delta * np.asarray(signs).T).mean(axis=0)
    alone = np.flatnonzero(view.places.region >= 0)
    onto_regions = view.onto[edges : edges + items.n_regions][:, alone]
    parts = []
    for start in range(0, len(columns), _AT_ONCE):
        cut = slice(start, start + _AT_ONCE)
        weights = view.weights(fit, columns[cut]) * slopes[cut]
        summed = view.onto @ (mean[:, None] * weights)
        own = np.zeros((items.n_regions, weights.shape[1]))
        for row in view.delta[:, alone]:
            own += np.abs(onto_regions @ (row[:, None] * weights[alone])) / len(view.delta)
        parts.append(by_item(summed[:edges], own, summed[edges + items.n_regions :]))
    return {kind: np.concatenate([part[kind] for part in parts], axis=1) for kind in parts[0]}


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
    sums: NullMaps = {}
    squares: dict[tuple[str, str, Method], np.ndarray] = {}
    folds = [item.fold for item in first]
    for f, item in enumerate(first):
        plan = item.plans[0]
        model = stored_model(store, plan.key)
        if not isinstance(model, CoreModel):
            raise InternalError("only the closed-form core is fitted again by algebra")
        view = CoreView.of(model, target_cohort, item.fold.test, items)
        seen = CoreView.of(model, target_cohort, item.fold.train, items)
        plain = PlainColumns.of(model.features, target_cohort, item.fold.test, item.fold.train, items)
        outcomes = target_cohort.targets[list(plan.tasks)].to_numpy(float)[
            every[:, target_cohort.positions(plan.train.ids)]
        ]
        done = {parent.key: _parent(store, parent.key) for _, parent in plan.parents}
        for refit in refitted_cores(plan, cohorts.by_name(), done, outcomes, [t.name for t in item.tasks if shown(t)]):
            for target in (one for one in targets_of(item.tasks) if one.task.name == refit.task.name):
                columns = np.arange(len(refit.usable)) * refit.n_scores + target.which
                for method, (values, square) in core_values(view, seen, plain, refit.fit, target, columns).items():
                    where = target.task.name, target.level, method
                    squares[where] = squares.get(where, 0.0) + _spread_out(square[None], refit.usable, len(every))[0]
                    _add(sums, where, values, refit.usable, len(every), rows_of(method, item.fold))
        if progress is not None:
            progress(f + 1, len(first))
    found: NullMaps = {}
    for (task, level, method), by_kind in sums.items():
        rows = [rows_of(method, fold) for fold in folds]
        total = sum(weight_of(method, n) for n in rows)
        scale = np.sqrt(squares[task, level, method] / max(sum(n - 1 for n in rows), 1))
        factor = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), np.where(np.isnan(scale), np.nan, 0.0))
        scaled = {kind: values / total * factor for kind, values in by_kind.items()}
        found[task, level, method] = with_regions(scaled, items)
    return found


def _add(
    sums: NullMaps, key: tuple[str, str, Method], values: Values, usable: Sequence[int], n_labelings: int, n_rows: int
) -> None:
    """Add one fold."""
    own = sums.setdefault(key, {kind: np.zeros((len(one), n_labelings)) for kind, one in values.items()})
    for kind, one in values.items():
        own[kind] = own[kind] + _spread_out(one * weight_of(key[2], n_rows), usable, n_labelings)


def _spread_out(values: np.ndarray, usable: Sequence[int], n_labelings: int) -> np.ndarray:
    """Expand to (n_items, n_labelings); labelings that could not be fitted in a fold are undefined."""
    whole = np.full((len(values), n_labelings), np.nan)
    whole[:, list(usable)] = values
    return whole


def _parent(store: FitStore, key: str) -> FitResult:
    found = store.load(key, state=True)
    if found is None:
        raise MissingInputError(f"the fit {key} is missing", file=store.folder, remedy="Run the study again.")
    return found


def beyond_largest(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """p of every item, corrected over all by the largest studentised one of each labeling.

    Args:
        values: (n_items, 1 + n_permutations), the observed first; their magnitudes count. NaN: not fitted.

    Returns:
        p (n_items,); the 95 % quantile of the largest; the largest observed. An item that is the same under all
        labelings has p 1.
    """
    size = np.abs(values)
    known = np.isfinite(size).all(axis=0)
    if not known[0]:
        return np.full(len(size), np.nan), float("nan"), float("nan")
    centre, spread = size[:, known].mean(axis=1), size[:, known].std(axis=1)
    varies = spread > 1e-12 * np.maximum(np.abs(centre), 1e-300)
    z = np.where(varies[:, None], (size - centre[:, None]) / np.where(varies, spread, 1.0)[:, None], -np.inf)
    largest = np.where(known, z.max(axis=0), np.inf)  # labelings that could not be fitted count as extreme
    p = (largest[None, :] >= z[:, [0]] - 1e-12).mean(axis=1)
    finite = np.sort(largest)
    threshold = float(finite[int(np.ceil(0.95 * len(finite))) - 1])
    return np.where(varies, p, 1.0), threshold, float(z[:, 0].max())
