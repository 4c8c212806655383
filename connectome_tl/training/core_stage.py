"""Fit the closed-form core of a plan: blocks, source scores, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import families_of
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.errors import InternalError
from connectome_tl.features.arrays import Arrays
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.steps import Features, Steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.settings.core import CoreSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.closed_form.blocks import Block, SourceScores
from connectome_tl.training.closed_form.core import fit_core
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.closed_form.predictable import predictable_scores
from connectome_tl.training.closed_form.risks import RiskModel, fit_risks
from connectome_tl.training.closed_form.targets import class_probabilities, one_vs_rest
from connectome_tl.training.context import Context
from connectome_tl.training.interface import check_regions
from connectome_tl.training.networks.outputs import level_probabilities
from connectome_tl.training.plans import FitPlan

SCORES = "source scores"
CONNECTOME_PRESENCE = "connectome presence"
PREDICTABLE = "any outcome is predictable"
UNUSED_SOURCE = (
    "nothing of the source cohort was used: none of its outcomes is predicted better than by chance in held-out "
    "subjects of it (stages.pretrain.use_if)"
)
CLINICAL, UNPENALISED = "clinical", ", unpenalised"


@dataclass(frozen=True, eq=False)
class CoreModel:
    """A closed-form core with the steps that make its blocks.

    Attributes:
        features: of all modalities. tangent: of the connectome in tangent space, or None.
        fit: the core. thresholds: risk models of "above level k" for ordinal outcomes, by outcome.
        source: the core of the source cohort whose scores are one more block, or None.
        source_key: its fit.
        unpenalised: clinical covariates that enter without a penalty.
        predictable: (n_scores,), whether held-out rows of this core's own cohort were predicted better than by chance;
            None if that is unknown.
    """

    tasks: tuple[Task, ...]
    regions: tuple[str, ...]
    features: Features
    tangent: Features | None
    fit: CoreFit
    thresholds: Mapping[str, RiskModel]
    source: CoreModel | None = None
    source_key: str | None = None
    unpenalised: tuple[str, ...] = ()
    predictable: tuple[bool, ...] | None = None

    def blocks(self, cohort: Cohort, ids: Sequence[str]) -> list[Block]:
        """Blocks of these subjects, source scores included."""
        found = blocks_of(self.features, self.tangent, cohort, ids, self.unpenalised)
        return found if self.source is None else [*found, self.source.scores(cohort, ids)]

    def scores(self, cohort: Cohort, ids: Sequence[str]) -> Block:
        """Predictions of this core of a source cohort for subjects of another cohort, as a block."""
        return Block(SCORES, self.fit.predict(self.blocks(cohort, ids)))

    def scores_for(self, tasks: Sequence[Task], cohort: Cohort, ids: Sequence[str]) -> SourceScores:
        """`scores` for the fit of these outcomes. Covariates never count as covered: they differ between cohorts."""
        names = (columns.name for columns in self.fit.columns)
        covered = frozenset(name for name in names if name not in (CLINICAL, f"{CLINICAL}{UNPENALISED}", SCORES))
        return SourceScores(self.scores(cohort, ids), own_scores(tasks, self.tasks), covered, self.predictable)

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        check_regions(self, cohort)
        return self.from_scores(self.fit.predict(self.blocks(cohort, ids)))

    def embed(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """(n_subjects, n_scores) the core's linear scores."""
        check_regions(self, cohort)
        return self.fit.predict(self.blocks(cohort, ids))

    def from_scores(self, scores: np.ndarray) -> np.ndarray:
        """(n_subjects, n_columns) predictions from the core's scores (n_subjects, n_scores)."""
        risks = self.fit.risks.apply(scores)
        columns, at = [], 0
        for task in self.tasks:
            n = task.n_scores
            own = slice(at, at + n)
            at += n
            if task.form == "risk":
                columns.append(risks[:, own])
            elif task.form == "classes":
                columns.append(class_probabilities(risks[:, own]))
            elif task.form == "levels":
                model = self.thresholds[task.name]
                columns.append(level_probabilities(model.apply(np.repeat(scores[:, own], task.n_outputs, axis=1))))
            else:
                columns.append(task.spec.from_score(scores[:, own]))
        return np.concatenate(columns, axis=1)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and plain values of the model, the inverse of `of`."""
        arrays: dict[str, np.ndarray] = {}
        plain: dict[str, Any] = {
            "tasks": [task.model_dump(mode="json") for task in self.tasks],
            "regions": list(self.regions),
            "source": self.source_key,
            "unpenalised": list(self.unpenalised),
            "thresholds": sorted(self.thresholds),
            "predictable": None if self.predictable is None else list(self.predictable),
        }
        for name, features in (("features", self.features), ("tangent", self.tangent)):
            if features is not None:
                made, plain[name] = features.state()
                arrays |= {f"{name}/{key}": value for key, value in made.items()}
        made, plain["core"] = self.fit.state()
        arrays |= {f"core/{key}": value for key, value in made.items()}
        for task, model in self.thresholds.items():
            arrays |= {f"thresholds/{task}/{key}": value for key, value in vars(model).items()}
        return arrays, plain

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], plain: Mapping[str, Any], source: CoreModel | None = None) -> CoreModel:
        """The inverse of `state`; `source` is the core that `plain` names."""

        def below(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        if (plain["source"] is None) != (source is None):
            raise InternalError("a core needs the source core that it was fitted with")
        return CoreModel(
            tasks=tuple(Task.model_validate(task) for task in plain["tasks"]),
            regions=tuple(plain["regions"]),
            features=Features.of(below("features/"), plain["features"]),
            tangent=Features.of(below("tangent/"), plain["tangent"]) if "tangent" in plain else None,
            fit=CoreFit.of(below("core/"), plain["core"]),
            thresholds={task: RiskModel(**below(f"thresholds/{task}/")) for task in plain["thresholds"]},
            source=source,
            source_key=plain["source"],
            unpenalised=tuple(plain["unpenalised"]),
            predictable=None if plain.get("predictable") is None else tuple(plain["predictable"]),
        )


def source_core(plan: FitPlan, context: Context) -> tuple[CoreModel, str] | None:
    """The core of the source and the key of its fit; None where a plan has none or uses none.

    A core without a predictable outcome is not used, unless the settings request it.
    """
    parent = context.parent(plan, "source")
    if parent is None:
        return None
    model = CoreModel.of(parent.arrays, parent.plain)
    if plan.transfer.unpredictable:
        model = replace(model, predictable=None)
    return (model, parent.key) if model.predictable is None or any(model.predictable) else None


def fit_core_stage(plan: FitPlan, context: Context) -> FitResult:
    """The core of a source cohort or of the target's training rows."""
    cohort, ids = context.cohort(plan.train.cohort), plan.train.ids
    features = context.features(plan, cohort)
    in_tangent = tangent_features(plan, context, cohort)
    tasks = tuple(cohort.task(name) for name in plan.tasks)
    labels = plan.train.labels or ids
    raw = cohort.targets[[task.name for task in tasks]].to_numpy(float)[cohort.positions(labels)]
    families = [str(group) for group in families_of(cohort, ids)]
    source, source_key = source_core(plan, context) or (None, None)
    settings = plan.core or CoreSettings()
    fitted = fit_core(
        blocks_of(features, in_tangent, cohort, ids, settings.unpenalised),
        np.concatenate([labels_of(raw[:, t], task) for t, task in enumerate(tasks)], axis=1),
        [kind for task in tasks for kind in task.score_kinds],
        families,
        settings,
        source=None if source is None else source.scores_for(tasks, cohort, ids),
    )
    predictable = predictable_scores(fitted, families)
    model = CoreModel(
        tasks,
        cohort.regions if "connectome" in features.steps else (),
        features,
        in_tangent,
        fitted,
        _thresholds(tasks, fitted, raw, settings),
        source,
        source_key,
        settings.unpenalised,
        predictable,
    )
    arrays, plain = model.state()
    held_out = model.from_scores(fitted.steady)
    predictions = model.predict(cohort, plan.predict) if plan.predict else np.zeros((0, 0))
    notes: tuple[str, ...] = ()
    if fitted.form != "exact":
        notes = (f"the closed-form core was approximated ({fitted.form})",)
    if source is None and context.parent(plan, "source") is not None:
        notes += (UNUSED_SOURCE,)
    return FitResult(
        key=plan.key,
        stage=plan.stage,
        rows=context.seen(plan) | frozenset(features.ids),
        tasks=plan.tasks,
        arrays=arrays,
        plain=plain,
        predictions=dict(zip(plan.predict, predictions, strict=True)),
        held_out=dict(zip(ids, held_out, strict=True)),
        facts=_briers(tasks, fitted) | {PREDICTABLE: float(any(predictable))},
        notes=notes,
    )


def blocks_of(
    features: Features, tangent: Features | None, cohort: Cohort, ids: Sequence[str], unpenalised: Sequence[str] = ()
) -> list[Block]:
    """Features as blocks of the core: `edges`, `tangent`, `regional`, `clinical` and one per further modality.

    Where several training rows lack the connectome, `connectome presence` is 1 for those that have it and 0 for the
    others, whose edges and regional measures are set to the training mean. Further modalities have this as a column.

    Args:
        unpenalised: clinical covariates that become a block of their own, which is not penalised.
    """
    blocks = []
    for name, arrays in features.rows(cohort, ids).arrays.items():
        if name == "connectome":
            edges = _edges(arrays)
            blocks.append(
                Block("edges", edges, summed=False) if tangent is not None else Block("edges", edges, kernel="both")
            )
            regional = arrays.rows["regional"].reshape(len(ids), -1).astype(float)
            if regional.shape[1]:
                blocks.append(Block("regional", regional, kernel="both"))
            steps = features.steps[name]
            if isinstance(steps, ConnectomeSteps) and steps.some_absent:
                blocks.append(Block(CONNECTOME_PRESENCE, arrays.present[:, None].astype(float)))
        elif arrays.blocks:
            present = arrays.present[:, None].astype(float)
            for i, (block, columns) in enumerate(arrays.blocks.items()):
                told = np.concatenate([columns, present], axis=1) if i == 0 else columns
                blocks.append(Block(block, told.astype(float), kernel="both"))
        else:
            values = [value for value in arrays.rows.values() if value.ndim == 2]
            present = arrays.present[:, None].astype(float)
            whole = np.concatenate([*values, present], axis=1).astype(float)
            free = unpenalised_columns(features.steps[name], whole.shape[1], unpenalised)
            blocks.append(Block(name, whole[:, ~free]))
            if free.any():
                blocks.append(Block(f"{name}{UNPENALISED}", whole[:, free], penalised=False))
    if tangent is not None:
        arrays = tangent.rows(cohort, ids).arrays["connectome"]
        blocks.append(Block("tangent", _displacements(arrays), kernel="both", relax=True))
    return blocks


def unpenalised_columns(steps: Steps, n_columns: int, columns: Sequence[str]) -> np.ndarray:
    """(n_columns,) bool, which columns of a modality enter without a penalty."""
    found = np.zeros(n_columns, dtype=bool)
    if columns and isinstance(steps, ClinicalSteps):
        own = steps.encoder.made_of(columns)
        found[: own.size] = own
    return found


def _edges(arrays: Arrays) -> np.ndarray:
    """(n_subjects, n_measures * n_edges) scaled edges."""
    edges = arrays.rows["edges"]
    rows, columns = upper_indices(edges.shape[-1])
    return edges[:, :, rows, columns].reshape(len(edges), -1).astype(float)


def _displacements(arrays: Arrays) -> np.ndarray:
    """(n_subjects, n) displacements in tangent space, in its own units: off-diagonal ones count twice."""
    edges = arrays.rows["edges"] * arrays.constants["scale"]
    rows, columns = upper_indices(edges.shape[-1])
    diagonal = np.arange(edges.shape[-1])
    off = edges[:, :, rows, columns].reshape(len(edges), -1) * np.sqrt(2.0)
    return np.concatenate([off, edges[:, :, diagonal, diagonal].reshape(len(edges), -1)], axis=1).astype(float)


def tangent_features(plan: FitPlan, context: Context, cohort: Cohort) -> Features | None:
    """The connectome in tangent space in addition to its edges, if these are correlations."""
    if "connectome" not in plan.modalities or plan.features.edges.tangent is not None:
        return None
    if not holds_correlations(cohort, plan.train.ids):
        return None
    return context.features(replace(plan, modalities=("connectome",)), cohort, plan.features.in_tangent_space())


def labels_of(values: np.ndarray, task: Task) -> np.ndarray:
    """(n_rows, n_scores) outcomes as the core takes them."""
    return one_vs_rest(values, task.n_levels) if task.form == "classes" else task.spec.to_score(values)[:, None]


def own_scores(tasks: Sequence[Task], source: Sequence[Task]) -> tuple[int | None, ...]:
    """For every score of the target, the column of the source's scores with the same outcome, or None."""
    starts = np.cumsum([0, *(task.n_scores for task in source)])
    found: list[int | None] = []
    for task in tasks:
        start = next((int(at) for at, other in zip(starts, source, strict=False) if task.same_as(other)), None)
        found += [None if start is None else start + i for i in range(task.n_scores)]
    return tuple(found)


def _thresholds(
    tasks: Sequence[Task], fitted: CoreFit, raw: np.ndarray, settings: CoreSettings
) -> dict[str, RiskModel]:
    """For every ordinal outcome, the chance of lying above each level given the score."""
    found: dict[str, RiskModel] = {}
    at = 0
    for t, task in enumerate(tasks):
        if task.form == "levels":
            levels = np.arange(task.n_outputs)
            known = np.isfinite(raw[:, [t]])
            above = np.where(known, raw[:, [t]] > levels, np.nan)
            scores = np.repeat(fitted.steady[:, [at]], levels.size, axis=1)
            sizes = np.repeat(fitted.sizes[at], levels.size)
            found[task.name] = fit_risks(scores, above, sizes, settings.risks_from, settings.least_slope)
        at += task.n_scores
    return found


def _briers(tasks: Sequence[Task], fitted: CoreFit) -> dict[str, float]:
    """Left-out Brier score of each binary outcome and that of the base rate."""
    ours, base = fitted.brier()
    found: dict[str, float] = {}
    at = 0
    for task in tasks:
        if task.is_binary:
            found |= {f"brier {task.name}": float(ours[at]), f"base-rate brier {task.name}": float(base[at])}
        at += task.n_scores
    return found
