"""Maps of refitted models under permuted outcomes, for models without a closed form.

Each labelling is processed like the observed one: every fold of the first repeat, one seed, full training. Stages 1 and
2, which do not use the target's outcomes, are taken from the run. Fits are kept until the maps are written, so that an
interrupted command resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from connectome_tl.errors import DivergedError
from connectome_tl.evaluation.explain.items import Items, Values
from connectome_tl.evaluation.explain.null import NullMaps
from connectome_tl.evaluation.explain.targets import Target
from connectome_tl.evaluation.explain.units import UnitMap, by_repeat, maps_of_folds, pooled, standardised
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.evaluation.permutation.relabelled import relabelled_plan
from connectome_tl.settings.records.explanations import Method
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import fitted_model, stored_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.training.timing import cost_of, measure
from connectome_tl.training.work import last_stages

FEWEST_REFITTED, FEWEST_AT_ALL = 49, 19  # permutations with which a corrected p of 0.02, of 0.05 can be seen
LONGEST = 300.0  # seconds of permuted fits and their maps that are spent without being asked for


def refitted_null_maps(
    study: StudySettings,
    cohorts: StudyCohorts,
    planned: Sequence[PlannedFold],
    store: FitStore,
    scratch: Path,
    items: Items,
    permutations: np.ndarray,
    shown: Callable[[Task], bool],
    progress: Callable[[int, int], None] | None = None,
) -> NullMaps:
    """Maps of one model for the observed and all permuted outcomes, of the outcomes that are shown.

    Args:
        planned: folds of the model. store: of the run, which is not written to.
        scratch: folder for the fits under permuted outcomes; existing fits are reused.
        permutations: (n_permutations, n_subjects), see `exchangeable_permutations`.

    Returns:
        As `null_maps`; a labelling whose training diverged is NaN.

    Raises:
        MissingInputError: a fit of the run is not in the store.
    """
    target = cohorts.target
    first = [item for item in planned if item.repeat == 0]

    def maps(model_of: Callable[[str], FittedModel]) -> dict[tuple[str, str, Method], Values]:
        folds = ([(item, model_of(item.plans[0].key)) for item in members] for members in by_repeat(first))
        return _pooled([unit for fits in folds for unit in maps_of_folds(fits, 0, target, items, shown)], items)

    labellings = [maps(partial(stored_model, store))]
    kept = FitStore(scratch, below=store)
    total = len(first) * len(permutations)
    for done, row in enumerate(permutations):
        plans = {
            item.plans[0].key: relabelled_plan(
                study.of(item.repeat, item.fold_number), cohorts, item.model, item.fold, item.tasks, row, keep=True
            )
            for item in first
        }
        try:
            results = fit(list(plans.values()), cohorts.by_name(), store=kept, n_jobs=study.n_jobs)
        except DivergedError:
            labellings.append({})
        else:
            labellings.append(maps(partial(_refitted, plans, results)))
        if progress is not None:
            progress((done + 1) * len(first), total)
    return {
        key: {
            kind: np.stack([one[key][kind] if key in one else np.full(len(own), np.nan) for one in labellings], axis=1)
            for kind, own in by_kind.items()
        }
        for key, by_kind in labellings[0].items()
    }


def affordable(planned: Sequence[PlannedFold], cohorts: StudyCohorts, map_seconds: float, n_jobs: int) -> int:
    """The number of permutations that take at most `LONGEST` by a forecast: 49, 19, or 0 if even 19 take longer.

    Args:
        planned: folds of the model. map_seconds: time of the maps of one fit.
    """
    plans = [item.plans[0] for item in planned if item.repeat == 0]
    costs = measure(plans[:1], cohorts.by_name(), brief=True)
    fits = sum(cost_of(one, costs) for plan in plans for one in last_stages(plan))
    each = len(plans) * map_seconds + fits / n_jobs
    return next((n for n in (FEWEST_REFITTED, FEWEST_AT_ALL) if n * each <= LONGEST), 0)


def n_refits(planned: Sequence[PlannedFold], n_permutations: int) -> int:
    """Fits of the last stage that the null of a model takes."""
    return n_permutations * sum(item.repeat == 0 for item in planned)


def _refitted(plans: Mapping[str, FitPlan], results: dict[str, FitResult], key: str) -> FittedModel:
    return fitted_model(results[plans[key].key], lambda key: results[key])


def _pooled(units: Sequence[UnitMap], items: Items) -> dict[tuple[str, str, Method], Values]:
    """One map per outcome, class and method, over folds."""
    groups: dict[tuple[Target, Method], list[UnitMap]] = {}
    for unit in units:
        groups.setdefault((unit.target, unit.method), []).append(unit)
    return {
        (target.task.name, target.level, method): pooled(standardised(members), items)
        for (target, method), members in groups.items()
    }
