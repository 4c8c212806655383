"""Compute the maps of all models of a finished study."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.evaluation.explain.cells import Cells, cells_of, no_cells
from connectome_tl.evaluation.explain.forward import LARGEST
from connectome_tl.evaluation.explain.items import Items, encoded_names
from connectome_tl.evaluation.explain.models import features_of
from connectome_tl.evaluation.explain.null import NullMaps, null_maps
from connectome_tl.evaluation.explain.refitted_null import (
    FEWEST_REFITTED,
    LONGEST,
    affordable,
    n_refits,
    refitted_null_maps,
)
from connectome_tl.evaluation.explain.summary import FullMap, agreements, summaries
from connectome_tl.evaluation.explain.units import planned_folds, unit_maps
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations, families_and_sites
from connectome_tl.features.steps import Features
from connectome_tl.features.volumes import VolumeSteps
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.model_table import model_named
from connectome_tl.settings.records.explanations import CellPlace, ExplanationMap, ExplanationRecord, Withheld
from connectome_tl.settings.records.scores import Score
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import Progress
from connectome_tl.training.fitted_models import MixtureModel, stored_model
from connectome_tl.training.schemes import StudyCohorts

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
    n_refitted: int | None,
    configuration: str,
    counted: Counted,
) -> Explanation:
    """Maps of these models, withheld where a model is not above chance.

    Args:
        scores: of the run; its intervals decide what is withheld.
        scratch: folder for fits under permuted outcomes, reused after an interruption.
        n_permutations: permutations for the null of the core's maps, in closed form; 0 for none.
        n_refitted: permutations for the null of the other models, each with refits; 0 for none, None for as many as
            take a few minutes (`refitted_null.affordable`).

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

        start = time.perf_counter()
        with counted(f"maps: {model_named(model).label}") as progress:
            units = list(unit_maps(planned, target, store, items, shown, progress))
        each = (time.perf_counter() - start) / sum(len(item.plans) for item in planned)
        core = [task for task in tasks if shown(task) and is_core(task, planned, store)]
        rest = [task for task in tasks if shown(task) and task not in core]
        null = Nulls(study, cohorts, store, scratch, items, counted, notes)
        nulls = null.of_core(planned_folds(study, cohorts, splits, tasks, "core"), n_permutations, core) if core else {}
        why = {task.name: null.reason(n_permutations, "--permutations 0") for task in core}
        if rest:
            n_used = affordable(planned, cohorts, each, study.n_jobs) if n_refitted is None else n_refitted
            nulls |= null.of_refits(planned, n_used, rest)
            asked = "" if n_refitted is None else "--refitted 0"
            why |= {task.name: null.reason(n_used, asked or _too_long(planned)) for task in rest}
            notes.append(_how_tested(model, planned, n_used))
        if core and model != "core":
            notes.append(_same_as_core(model, core))
        found += summaries(units, items, model, nulls, why)
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
        cells=() if items is None else _cell_places(items.cells),
        cell_space=_cell_space(items.cells) if items is not None and items.cells else "",
        maps=tuple(one for one, _ in found),
        agreements=tuple(agreements(found)),
        withheld=tuple(withheld),
        notes=tuple(notes),
    )
    return Explanation(record, tuple(found), items or Items((), (), ()))


def _cell_places(cells: Cells) -> tuple[CellPlace, ...]:
    placed = zip(cells.names, cells.coordinates.tolist(), cells.regions, strict=True)
    return tuple(CellPlace(name=name, x=x, y=y, z=z, region=region) for name, (x, y, z), region in placed)


def _cell_space(cells: Cells) -> str:
    if not cells.is_one_space:
        return "relative to the centre of each volume's grid; the grids have different places in the volumes"
    where = "the space of the volumes, in which all grids have the same place"
    return where + ("" if any(cells.regions) else "; no regions: no known atlas is in this space")


@dataclass(frozen=True, eq=False)
class Nulls:
    """Maps under permuted outcomes; a note says where there are none."""

    study: StudySettings
    cohorts: StudyCohorts
    store: FitStore
    scratch: Path
    items: Items
    counted: Counted
    notes: list[str]

    def reason(self, n_permutations: int, without: str) -> str:
        """Why there is no null, given the number of permutations."""
        return without if not n_permutations else self._refused

    def of_core(self, planned: Sequence[PlannedFold], n_permutations: int, tasks: Sequence[Task]) -> NullMaps:
        """In closed form."""
        moves = self._permutations(n_permutations)
        if moves is None:
            return {}
        with self.counted("maps under permuted outcomes: closed-form core") as progress:
            return null_maps(planned, self.cohorts, self.store, self.items, moves, tasks.__contains__, progress)

    def of_refits(self, planned: Sequence[PlannedFold], n_permutations: int, tasks: Sequence[Task]) -> NullMaps:
        """Refitted for each permutation."""
        moves = self._permutations(n_permutations)
        if moves is None:
            return {}
        with self.counted(f"maps under permuted outcomes: {model_named(planned[0].model).label}") as progress:
            return refitted_null_maps(
                self.study,
                self.cohorts,
                planned,
                self.store,
                self.scratch,
                self.items,
                moves,
                tasks.__contains__,
                progress,
            )

    def _permutations(self, n_permutations: int) -> np.ndarray | None:
        if not n_permutations or self._refused:
            return None
        target = self.cohorts.target
        return exchangeable_permutations(target.ids, n_permutations, self.study.seed, *families_and_sites(target))

    @cached_property
    def _refused(self) -> str:
        """Why the outcomes cannot be permuted; empty if they can."""
        target = self.cohorts.target
        try:
            exchangeable_permutations(target.ids, 1, self.study.seed, *families_and_sites(target))
        except DataError as error:
            return f"no permutations: {error}"
        return ""


def is_core(task: Task, planned: Sequence[PlannedFold], store: FitStore) -> bool:
    """Whether a model is the core for this outcome: the core itself, or a mixture in which the network has no weight
    in any fold of the first repeat, whose fits are compared with those of permuted outcomes.
    """
    fits = (stored_model(store, item.plans[0].key) for item in planned if item.repeat == 0 and task in item.tasks)
    return all(
        isinstance(fit, CoreModel) or (isinstance(fit, MixtureModel) and fit.weights[task.name] == 0) for fit in fits
    )


def _same_as_core(model: str, tasks: Sequence[Task]) -> str:
    names = ", ".join(task.name for task in tasks)
    label = model_named(model).label
    return f"{label}, {names}: p values are those of the core, since the network has no weight in these folds."


def _too_long(planned: Sequence[PlannedFold]) -> str:
    n = n_refits(planned, FEWEST_REFITTED)
    return f"no permutations: {n} refits and their maps take more than {LONGEST / 60:.0f} min (--refitted)"


def _how_tested(model: str, planned: Sequence[PlannedFold], n_refitted: int) -> str:
    label, n_fits = model_named(model).label, n_refits(planned, n_refitted or FEWEST_REFITTED)
    if n_refitted:
        return (
            f"{label}: p values from {counted(n_refitted, 'permutation')} of the outcomes, {counted(n_fits, 'fit')} of "
            "the last stage (first repeat, one seed)."
        )
    return (
        f"{label}: no p values, since these need {counted(n_fits, 'fit')} of the last stage for {FEWEST_REFITTED} "
        f"permutations (--refitted {FEWEST_REFITTED})."
    )


def not_above_chance(task: Task, model: str, scores: Sequence[Score]) -> str:
    """Return why the maps of an outcome are withheld; empty if its interval is above chance."""
    metric = metric_named(task.spec.primary)
    score = next((s for s in scores if (s.task, s.model, s.metric) == (task.name, model, metric.name)), None)
    if score is None or metric.chance is None:
        return "it has no score"
    if not np.isfinite([score.value, score.low]).all():
        return f"its {metric.words} is undefined"
    if metric.beyond_chance(score.low, score.high) > 0:
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
    cells = no_cells()
    for features in fitted:
        names |= dict.fromkeys(encoded_names(features))
        modalities |= dict.fromkeys(name for name in features.steps if name != "connectome")
        volumes = features.steps.get("image")
        if isinstance(volumes, VolumeSteps) and not cells:
            cells = cells_of(cohort, volumes.settings)
    measures = cohort.measures if cohort.regions else ()
    return Items(cohort.regions, measures, tuple(names), groups_of(cohort), tuple(modalities), cells)


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
