"""Rows of a cohort to arrays a model takes: scaled with what was fitted on training rows, never refitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.features.edge_selection import ConsensusMask, fit_edges
from connectome_tl.features.harmonise import Harmoniser, fit_harmoniser
from connectome_tl.features.scaling import (
    ConfoundModel,
    CovariateEncoder,
    EdgeScaler,
    RegionScaler,
    TargetScaler,
    confound_levels,
    confound_table,
    edge_mask,
)
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.features import ALL_EDGES, NO_HARMONISATION, EdgeSettings, HarmoniseSettings
from connectome_tl.tasks import Task


@dataclass(frozen=True, eq=False)
class Rows:
    """Arrays of some subjects, one row each; see `connectome_tl.nn.layers.Inputs` for the shapes.

    `messages` are the transformed (and, where asked, deconfounded) edges before scaling.
    """

    ids: tuple[str, ...]
    edges: np.ndarray
    messages: np.ndarray
    regional: np.ndarray
    node_mask: np.ndarray
    clinical: np.ndarray


@dataclass(frozen=True, eq=False)
class FittedFeatures:
    """Everything that was learned about features from training rows, and whose rows they were."""

    ids: tuple[str, ...]
    edges: EdgeScaler
    harmoniser: Harmoniser | None = None
    confounds: ConfoundModel | None = None
    regional: RegionScaler | None = None
    covariates: CovariateEncoder | None = None
    selection: ConsensusMask | None = None
    tangent: TangentEdges | None = None

    def rows(self, cohort: Cohort, ids: Sequence[str]) -> Rows:
        """Arrays of these subjects of a cohort with the same regions and measures."""
        at = cohort.positions(ids)
        taken = cohort.take(ids)
        node_mask, weights = taken.node_mask, taken.weights
        if self.tangent is not None:
            weights = self.tangent.apply(weights, node_mask, ids)
        if self.harmoniser is not None:
            weights = self.harmoniser.apply(replace(taken, weights=weights))
        if self.confounds is not None:
            table = _confounds(taken, self.confounds.names, self.confounds.levels)
            weights = self.confounds.apply(weights, table)
        if self.selection is not None:
            weights = self.selection.apply(weights)
        regional = np.zeros((len(at), cohort.n_regions, 0), dtype=np.float32)
        if self.regional is not None and cohort.region_features is not None:
            regional = self.regional.apply(_regional(cohort)[at])
        clinical = np.zeros((len(at), 0), dtype=np.float32)
        if self.covariates is not None:
            clinical = self.covariates.apply(cohort.covariates.iloc[at])
        return Rows(
            tuple(ids),
            self.edges.apply(weights, node_mask),
            np.where(edge_mask(node_mask), weights, 0.0).astype(np.float32),
            regional,
            node_mask.astype(np.float32),
            clinical,
        )

    def with_edges_of(self, arrays: Mapping[str, np.ndarray], ids: Sequence[str]) -> FittedFeatures:
        """The same, but edges (and confounds) scaled as a stage before did; `arrays` are its `state()`, of `ids`."""
        edges = EdgeScaler(arrays["edges.mean"], arrays["edges.scale"], arrays["edges.constant"], tuple(ids))
        selection, confounds = self.selection, self.confounds
        if selection is not None and "selection.keep" in arrays:
            selection = replace(selection, keep=arrays["selection.keep"], ids=tuple(ids))
        tangent = self.tangent
        if tangent is not None and "tangent.mean" in arrays:
            regions, mean, whitening = (arrays[f"tangent.{name}"] for name in ("regions", "mean", "whitening"))
            tangent = replace(tangent, regions=regions, mean=mean, whitening=whitening, ids=tuple(ids))
        if confounds is not None and "confounds.slopes" in arrays:
            slopes = arrays["confounds.slopes"]
            confounds = replace(confounds, center=arrays["confounds.center"], slopes=slopes, ids=tuple(ids))
        return replace(self, edges=edges, confounds=confounds, selection=selection, tangent=tangent)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All fitted state as (arrays, plain values): what a checkpoint saves and a poisoned fold must not move."""
        arrays: dict[str, np.ndarray] = {}
        plain: dict[str, Any] = {"ids": list(self.ids)}
        for name in ("edges", "confounds", "regional", "covariates", "selection", "tangent"):
            part = getattr(self, name)
            if part is None:
                continue
            for field in fields(part):
                value = getattr(part, field.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{name}.{field.name}"] = value
                elif field.name != "ids":
                    plain[f"{name}.{field.name}"] = value
        for m, model in enumerate(self.harmoniser.models if self.harmoniser is not None else ()):
            for field in fields(model):
                value = getattr(model, field.name)
                if isinstance(value, np.ndarray) and value.dtype != object:
                    arrays[f"harmoniser.{m}.{field.name}"] = value
                else:
                    plain[f"harmoniser.{m}.{field.name}"] = value
        return arrays, plain


def fit_features(
    cohort: Cohort,
    ids: Sequence[str],
    *,
    clinical: bool,
    confounds: Sequence[str] = (),
    harmonise: HarmoniseSettings = NO_HARMONISATION,
    edges: EdgeSettings = ALL_EDGES,
) -> FittedFeatures:
    """Fit site effects, confounds, which edges to keep, scalers and imputation on these rows alone, in this order.

    Args:
        clinical: fit an encoder of the clinical covariates too.
        confounds: columns (see `confound_table`) to take out of every edge.
        harmonise: how site effects are removed. edges: which edges are kept.
    """
    train = cohort.take(ids)
    tangent = TangentEdges.fit(train.weights, train.node_mask, ids) if edges.tangent else None
    if tangent is not None:
        train = replace(train, weights=tangent.apply(train.weights, train.node_mask, ids))
    harmoniser = fit_harmoniser(train, harmonise)
    weights, model = train.weights if harmoniser is None else harmoniser.apply(train), None
    if confounds:
        levels = confound_levels(confounds, train.covariates)
        table = _confounds(train, confounds, levels)
        model = ConfoundModel.fit(weights, train.node_mask, table, confounds, ids, levels)
        weights = model.apply(weights, table)
    selection = fit_edges(train.weights, weights, train.node_mask, ids, edges)
    weights = weights if selection is None else selection.apply(weights)
    specs = clinical_specs(train.covariate_specs)
    return FittedFeatures(
        ids=tuple(ids),
        edges=EdgeScaler.fit(weights, train.node_mask, ids),
        harmoniser=harmoniser,
        confounds=model,
        regional=None if train.region_features is None else RegionScaler.fit(_regional(train), ids),
        covariates=CovariateEncoder.fit(train.covariates, specs) if clinical and specs else None,
        selection=selection,
        tangent=tangent,
    )


def clinical_specs(specs: Sequence[Covariate]) -> tuple[Covariate, ...]:
    """The covariates that are fused with the connectome."""
    return tuple(spec for spec in specs if spec.role in ("clinical", "both"))


def fit_targets(
    cohort: Cohort, ids: Sequence[str], tasks: Sequence[Task], label_ids: Sequence[str] | None = None
) -> tuple[TargetScaler, np.ndarray]:
    """Target scaler and scaled targets (n_subjects, n_tasks), NaN where missing.

    Args:
        label_ids: whose outcome row each subject gets; a permutation test moves whole rows.
    """
    names = [task.name for task in tasks]
    raw = cohort.targets[names].to_numpy(dtype=float)[cohort.positions(ids if label_ids is None else label_ids)]
    scaler = TargetScaler.fit(raw, tasks, ids)
    return scaler, scaler.apply(raw)


def _confounds(cohort: Cohort, names: Sequence[str], levels: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    return confound_table(names, cohort.covariates, cohort.age, cohort.name, levels)


def _regional(cohort: Cohort) -> np.ndarray:
    """Regional measures, unknown where the region is missing, whatever the file has there."""
    assert cohort.region_features is not None
    return np.where(cohort.node_mask[:, :, None], cohort.region_features, np.nan)
