"""Feature steps of the built-in modalities: connectome with regional measures, clinical covariates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.features.arrays import Arrays
from connectome_tl.features.confounds import ConfoundModel, fit_confounds
from connectome_tl.features.edge_selection import ConsensusMask, fit_edges
from connectome_tl.features.harmonise import Harmoniser, fit_harmoniser
from connectome_tl.features.scaling import CovariateEncoder, EdgeScaler, RegionScaler
from connectome_tl.features.tangent import TangentEdges, fit_tangent
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.features import FeatureSettings

_ENOUGH = 5  # rows with and without the modality needed to learn from its absence
EdgeStep = TangentEdges | Harmoniser | ConfoundModel | ConsensusMask


@dataclass(frozen=True, eq=False)
class ConnectomeSteps:
    """Feature steps of edges: tangent space, site effects, confounds, edge selection, scaling.

    Attributes:
        edge_steps: steps in the order of application.
        scaler: scaler of the resulting edges. regional: scaler of regional measures.
        some_absent: whether enough training rows lack, and enough have, the connectome for the closed-form core to
            use its absence.
    """

    edge_steps: tuple[EdgeStep, ...]
    scaler: EdgeScaler
    regional: RegionScaler | None
    some_absent: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The training rows."""
        return self.scaler.ids

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        """Rows `edges` (n_subjects, n_measures, n_regions, n_regions) scaled, 0 where absent; `regional`
        (n_subjects, n_regions, n_features); `node_mask` (n_subjects, n_regions). The constants `mean`
        and `scale` (n_measures, n_regions, n_regions) give the edges before scaling; `places`
        (n_regions, n_place_columns) is the location of the regions, if the atlas provides it."""
        taken = cohort.take(ids)
        for step in self.edge_steps:
            taken = step.transform(taken)
        regional = np.zeros((len(ids), cohort.n_regions, 0), dtype=np.float32)
        if self.regional is not None and cohort.region_features is not None:
            regional = self.regional.apply(_regional(taken))
        rows = {
            "edges": self.scaler.apply(taken.weights, taken.node_mask),
            "regional": regional,
            "node_mask": taken.node_mask.astype(np.float32),
        }
        constants = {"mean": self.scaler.mean.astype(np.float32), "scale": self.scaler.scale.astype(np.float32)}
        if cohort.places is not None:
            constants["places"] = cohort.places
        return Arrays(rows, np.asarray(taken.node_mask.any(axis=1)), constants)


def fit_connectome(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> ConnectomeSteps | None:
    """Fit tangent space, site effects, confounds, edge selection and scalers on these rows, in this order."""
    if not cohort.regions:
        return None
    train = cohort.take(ids)
    read = train
    steps: list[EdgeStep] = []

    def add(step: EdgeStep | None) -> None:
        nonlocal train
        if step is not None:
            steps.append(step)
            train = step.transform(train)

    if settings.edges.projected is not None:
        add(fit_tangent(train, settings.edges.projected))
        read = train  # presence of edges is determined in tangent space
    add(fit_harmoniser(train, settings.harmonise))
    if settings.confounds is not None:
        add(fit_confounds(train, settings.confounds.columns))
    add(fit_edges(read.weights, train.weights, train.node_mask, ids, settings.edges))
    return ConnectomeSteps(
        tuple(steps),
        EdgeScaler.fit(train.weights, train.node_mask, ids),
        None if train.region_features is None else RegionScaler.fit(_regional(train), ids),
        both_are_many(np.asarray(train.node_mask.any(axis=1))),
    )


def both_are_many(present: np.ndarray) -> bool:
    """Whether enough rows have the modality, and enough lack it, to learn from its absence."""
    return bool(min(present.sum(), (~present).sum()) >= _ENOUGH)


@dataclass(frozen=True, eq=False)
class ClinicalSteps:
    """Imputation, encoding and scaling of the covariates."""

    encoder: CovariateEncoder

    @property
    def ids(self) -> tuple[str, ...]:
        """The training rows."""
        return self.encoder.ids

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        """Rows `values` (n_subjects, n_columns). A subject without any covariate lacks the modality."""
        table = cohort.covariates.iloc[cohort.positions(ids)]
        known = table[list(self.encoder.columns)].notna().any(axis=1).to_numpy(dtype=bool)
        values = self.encoder.apply(table)
        return Arrays({"values": np.where(known[:, None], values, np.float32(0.0))}, known)


def fit_clinical(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> ClinicalSteps | None:
    """Fit the encoder of the clinical covariates on these rows."""
    del settings
    specs = clinical_specs(cohort.covariate_specs)
    return ClinicalSteps(CovariateEncoder.fit(cohort.take(ids).covariates, specs)) if specs else None


def clinical_specs(specs: Sequence[Covariate]) -> tuple[Covariate, ...]:
    """The covariates that are fused with the connectome."""
    return tuple(spec for spec in specs if spec.role in ("clinical", "both"))


def _regional(cohort: Cohort) -> np.ndarray:
    """Regional measures, NaN for missing regions."""
    assert cohort.region_features is not None
    return np.where(cohort.node_mask[:, :, None], cohort.region_features, np.nan)
