"""Compute the maps of all models of a finished study."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.evaluation.explain.forward import LARGEST
from connectome_tl.evaluation.explain.items import Items, encoded_names
from connectome_tl.evaluation.explain.models import features_of
from connectome_tl.evaluation.explain.null import NullMaps, null_maps
from connectome_tl.evaluation.explain.refitted_null import n_refits, refitted_null_maps
from connectome_tl.evaluation.explain.summary import FullMap, agreements, summaries
from connectome_tl.evaluation.explain.units import planned_folds, unit_maps
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations, families_and_sites
from connectome_tl.features.steps import Features
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, Withheld
from connectome_tl.settings.records.scores import Score
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.fitted import stored_model
from connectome_tl.training.schemes import StudyCohorts

FEWEST_REFITTED = 49  # permutations with which a corrected p of .02 can be seen
_NETWORK = re.compile(r"^\d+Networks_[LR]H_([A-Za-z]+)")
Counted = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The summary of all maps, and all items of each."""

    record: ExplanationRecord
    full: tuple[tuple[ExplanationMap, FullMap], ...]
    items: Items


def explain_study(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    scores: Sequence[Score],
    store: FitStore,
    scratch: Path,
    *,
    models: Sequence[str],
    n_permutations: int,
    n_refitted: int,
    configuration: str,
    counted: Counted,
) -> Explanation:
    """Maps of these models, withheld where a model is not above chance.

    Args:
        scores: of the run; its intervals decide what is withheld.
        scratch: folder for fits under permuted outcomes, reused after an interruption.
        n_permutations: permutations for the null of the core's maps, in closed form; 0 for none.
        n_refitted: permutations for the null of the other models, each with refits; 0 for none.

    Raises:
        UsageError: the study has no such model.
        MissingInputError: a fit is not in the store.
    """
    target = cohorts.target
    found: list[tuple[ExplanationMap, FullMap]] = []
    withheld: list[Withheld] = []
    items: Items | None = None
    notes: list[str] = []
    for model in models:
        planned = planned_folds(study, cohorts, splits, tasks, model)
        if not planned:
            raise UsageError(f"the study has no model {model!r}", expected="one of its models, such as full or core")
        refused = {task.name: reason for task in tasks if (reason := not_above_chance(task, model, scores))}
        withheld += [Withheld(task=name, model=model, reason=reason) for name, reason in refused.items()]
        if len(refused) == len(tasks):
            continue
        items = items or items_of(target, (features_of(stored_model(store, item.plans[0].key)) for item in planned))

        def shown(task: Task, refused: dict[str, str] = refused) -> bool:
            return task.name not in refused

        with counted(f"maps of the {model} model") as progress:
            units = list(unit_maps(planned, target, store, items, shown, progress))
        wanted = n_permutations if model == "core" else n_refitted
        nulls = _nulls(study, cohorts, planned, store, scratch, items, wanted, shown, counted, notes) if wanted else {}
        found += summaries(units, items, model, nulls)
        if model != "core":
            notes.append(_how_tested(model, planned, n_refitted))
    if items is not None and items.n_edges > LARGEST:
        notes.append(
            f"Patterns: with more than {LARGEST:,} edges, only correlations along principal components are used."
        )
    atlas = atlas_of(target)
    record = ExplanationRecord(
        configuration=configuration,
        models=tuple(models),
        atlas=target.atlas,
        space="" if atlas is None else atlas.space,
        regions=target.regions,
        lobes=() if atlas is None else tuple(region.lobe for region in atlas.regions),
        hemispheres=() if atlas is None else tuple(region.hemisphere for region in atlas.regions),
        coordinates=() if atlas is None else tuple((r.x, r.y, r.z) for r in atlas.regions),
        maps=tuple(one for one, _ in found),
        agreements=tuple(agreements(found)),
        withheld=tuple(withheld),
        notes=tuple(notes),
    )
    return Explanation(record, tuple(found), items or Items((), (), ()))


def _nulls(
    study: StudySettings,
    cohorts: StudyCohorts,
    planned: Sequence[PlannedFold],
    store: FitStore,
    scratch: Path,
    items: Items,
    n_permutations: int,
    shown: Callable[[Task], bool],
    counted: Counted,
    notes: list[str],
) -> NullMaps:
    target = cohorts.target
    try:
        moves = exchangeable_permutations(target.ids, n_permutations, study.seed, *families_and_sites(target))
    except DataError as error:
        notes.append(f"No null: {error}")
        return {}
    model = planned[0].model
    with counted(f"maps of the {model} model under permuted outcomes") as progress:
        if model == "core":
            return null_maps(planned, cohorts, store, items, moves, shown, progress)
        return refitted_null_maps(study, cohorts, planned, store, scratch, items, moves, shown, progress)


def _how_tested(model: str, planned: Sequence[PlannedFold], n_refitted: int) -> str:
    n_fits = n_refits(planned, n_refitted or FEWEST_REFITTED)
    if n_refitted:
        return (
            f"p values of the {model} model: {counted(n_refitted, 'permutation')} of the outcomes, "
            f"{counted(n_fits, 'fit')} of its last "
            "stage (first repeat, one seed)."
        )
    return (
        f"The maps of the {model} model have no p values: they need its last stage fitted again, {n_fits} times for "
        f"{FEWEST_REFITTED} permutations (--refitted {FEWEST_REFITTED})."
    )


def not_above_chance(task: Task, model: str, scores: Sequence[Score]) -> str:
    """Return why the maps of an outcome are withheld; empty if its interval is above chance."""
    metric = metric_named(task.spec.primary)
    score = next((s for s in scores if (s.task, s.model, s.metric) == (task.name, model, metric.name)), None)
    if score is None or metric.chance is None:
        return "it has no score"
    if not np.isfinite([score.value, score.low]).all():
        return f"its {metric.words} is undefined"
    if score.low > metric.chance:
        return ""
    return (
        f"{metric.words} {score.value:.2f}, 95 % interval {score.low:.2f} to {score.high:.2f}: "
        f"not distinguishable from {metric.uninformed}"
    )


def items_of(cohort: Cohort, fitted: Iterable[Features]) -> Items:
    """Items of the maps.

    Args:
        fitted: steps of all folds, which may encode different covariates.
    """
    names: dict[str, None] = {}
    modalities: dict[str, None] = {"edges": None} if cohort.regions else {}
    if cohort.regions and cohort.region_features is not None and cohort.region_features.shape[2]:
        modalities["regional measures"] = None
    for features in fitted:
        names |= dict.fromkeys(encoded_names(features))
        modalities |= dict.fromkeys(name for name in features.steps if name != "connectome")
    return Items(
        cohort.regions, cohort.measures if cohort.regions else (), tuple(names), groups_of(cohort), tuple(modalities)
    )


def atlas_of(cohort: Cohort) -> Atlas | None:
    """The cohort's atlas with regions in the order of the cohort; None if unknown or if the regions differ."""
    try:
        atlas = load_atlas(cohort.atlas)
        order = atlas.order_of(cohort.regions)
    except ConnectomeTLError:
        return None
    return replace(atlas, regions=tuple(atlas.regions[i] for i in order)) if len(order) else None


def groups_of(cohort: Cohort) -> dict[str, np.ndarray]:
    """Positions of the regions of each lobe, or of each network if region names contain it."""
    atlas = atlas_of(cohort)
    if atlas is None:
        return {}
    networks = [_NETWORK.match(name) for name in cohort.regions]
    labels = [m.group(1) if m else region.lobe for m, region in zip(networks, atlas.regions, strict=True)]
    return {label: np.array([i for i, own in enumerate(labels) if own == label]) for label in sorted(set(labels))}
