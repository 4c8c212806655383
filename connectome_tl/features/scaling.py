"""Scalers and imputation, fitted on training rows; each stores the ids of these rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.settings.cohort import Covariate
from connectome_tl.tasks import Task

# Relative to the mean and to the typical size of the measure, so that the unit (m2/s or um2/ms) does not matter, but
# round-off is not treated as variance.
_TINY = 1e-8


@dataclass(frozen=True, eq=False)
class EdgeScaler:
    """Per-edge mean and standard deviation over the training rows that have the edge.

    Attributes:
        mean, scale: (n_measures, n_regions, n_regions); an edge that is constant or never present
            in training has scale 1 and becomes 0 in all rows.
        ids: the rows it was fitted on.
    """

    mean: np.ndarray
    scale: np.ndarray
    constant: np.ndarray
    ids: tuple[str, ...]

    @staticmethod
    def fit(weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> EdgeScaler:
        """Fit on weights (n_subjects, n_measures, n_regions, n_regions) and masks (n_subjects, n_regions)."""
        n_subjects, n_measures, n_regions, _ = weights.shape
        parts = chunks(n_subjects, 8 * n_measures * n_regions**2)
        count = np.zeros((1, n_regions, n_regions), dtype=np.int64)
        total, squares = np.zeros(weights.shape[1:]), np.zeros(n_measures)
        for part in parts:
            values, present = _present(weights[part], node_mask[part])
            count += present.sum(axis=0)
            total += values.sum(axis=0)
            squares += (values**2).sum(axis=(0, 2, 3))
        mean = total / np.maximum(count, 1)
        deviations = np.zeros(weights.shape[1:])
        for part in parts:
            values, present = _present(weights[part], node_mask[part])
            deviations += (((values - mean) * present) ** 2).sum(axis=0)
        scale = np.sqrt(deviations / np.maximum(count - 1, 1))
        size = np.sqrt(squares / np.maximum(count.sum(), 1))
        floor = _TINY * np.maximum(np.abs(mean), size[:, None, None])
        constant = (scale <= floor) | (count < 2)
        return EdgeScaler(mean, np.where(constant, 1.0, scale), constant, tuple(ids))

    def apply(self, weights: np.ndarray, node_mask: np.ndarray) -> np.ndarray:
        """Scaled edges, float32; absent and constant edges are 0, the training mean."""
        scaled = np.empty(weights.shape, dtype=np.float32)
        for part in chunks(len(weights), 8 * self.mean.size):
            keep = edge_mask(node_mask[part]) & ~self.constant
            scaled[part] = np.where(keep, (weights[part] - self.mean) / self.scale, 0.0)
        return scaled


def chunks(n_rows: int, n_bytes: int) -> list[slice]:
    """Slices of consecutive rows of `n_bytes` each, so that temporary arrays of a slice have about 64 MB."""
    step = max(1, 2**26 // max(n_bytes, 1))
    return [slice(start, start + step) for start in range(0, n_rows, step)]


def _present(weights: np.ndarray, node_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights in double precision, 0 where an edge is absent, and its presence (n, 1, n_regions, n_regions)."""
    present = edge_mask(node_mask)
    return np.where(present, weights, 0.0).astype(np.float64, copy=False), present


def edge_mask(node_mask: np.ndarray) -> np.ndarray:
    """(n_subjects, n_regions) to (n_subjects, 1, n_regions, n_regions): an edge needs both its regions."""
    return (node_mask[:, :, None] & node_mask[:, None, :])[:, None]


@dataclass(frozen=True, eq=False)
class RegionScaler:
    """Mean and standard deviation per region and feature; unknown values become the training mean."""

    mean: np.ndarray  # (n_regions, n_features)
    scale: np.ndarray
    ids: tuple[str, ...]

    @staticmethod
    def fit(features: np.ndarray, ids: Sequence[str]) -> RegionScaler:
        """Fit to regional features (n_subjects, n_regions, n_features) of the training rows; NaN if unknown."""
        known = np.isfinite(features)
        count = known.sum(axis=0)
        mean = np.where(known, features, 0.0).sum(axis=0) / np.maximum(count, 1)
        variance = (np.where(known, features - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count - 1, 1)
        scale = np.sqrt(variance)
        size = np.sqrt((np.where(known, features, 0.0) ** 2).sum(axis=(0, 1)) / np.maximum(known.sum(axis=(0, 1)), 1))
        constant = scale <= _TINY * np.maximum(np.abs(mean), size)
        # As for edges, a feature that is constant in training is uninformative.
        return RegionScaler(mean, np.where(constant, np.inf, scale), tuple(ids))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Standardised features of the same shape, float32; unknown and uninformative ones are 0."""
        scaled = (features - self.mean) / self.scale
        return np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CovariateEncoder:
    """Encode covariates: median imputation with indicators, standardisation, one-hot encoding of categories.

    Missing categories, and those not seen in training, are encoded as the training means of the columns. Columns with
    missing values in training have an indicator. Columns that are constant in training are dropped.
    """

    names: tuple[str, ...]  # of the encoded columns
    medians: Mapping[str, float]
    levels: Mapping[str, tuple[str, ...]]
    indicators: tuple[str, ...]  # columns with missing values in training
    mean: np.ndarray
    scale: np.ndarray
    ids: tuple[str, ...]

    @staticmethod
    def fit(table: pd.DataFrame, specs: Sequence[Covariate]) -> CovariateEncoder:
        """Fit on a table with one row per training subject, indexed by id."""
        medians, levels = {}, {}
        for spec in specs:
            column = table[spec.column]
            if spec.type == "numeric":
                numbers = column.to_numpy(dtype=float)
                medians[spec.column] = float(np.nanmedian(numbers)) if np.isfinite(numbers).any() else 0.0
            else:
                levels[spec.column] = tuple(sorted({str(value) for value in column.dropna()}))
        indicators = tuple(name for name in (*medians, *levels) if table[name].isna().any())
        names = (
            *medians,
            *(f"{c} missing" for c in indicators),
            *(f"{c}={v}" for c, vs in levels.items() for v in _shown(vs)),
        )
        ids = tuple(str(i) for i in table.index)
        encoder = CovariateEncoder(names, medians, levels, indicators, np.zeros(len(names)), np.ones(len(names)), ids)
        raw = encoder._encode(table)
        known = np.isfinite(raw)
        count = known.sum(axis=0)
        mean = np.where(known, raw, 0.0).sum(axis=0) / np.maximum(count, 1)
        spread = np.sqrt((np.where(known, raw - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count - 1, 1))
        constant = (spread <= _TINY * np.abs(mean)) | (count < 2)
        # A column that is constant in training must not affect test rows: infinite scale, zero value.
        return CovariateEncoder(names, medians, levels, indicators, mean, np.where(constant, np.inf, spread), ids)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the required columns of the table."""
        return (*self.medians, *self.levels)

    def made_of(self, columns: Collection[str]) -> np.ndarray:
        """Whether each encoded column is derived from these columns of the table, (n_encoded,) bool."""
        origins = (*self.medians, *self.indicators, *(c for c, vs in self.levels.items() for _ in _shown(vs)))
        return np.array([origin in columns for origin in origins], dtype=bool)

    def apply(self, table: pd.DataFrame) -> np.ndarray:
        """(n_subjects, n_encoded) float32, finite."""
        scaled = (self._encode(table) - self.mean) / self.scale
        return np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)

    def _encode(self, table: pd.DataFrame) -> np.ndarray:
        """(n_subjects, n_encoded), NaN where a category is missing."""
        columns = []
        for column, median in self.medians.items():
            numbers = table[column].to_numpy(dtype=float)
            columns.append(np.where(np.isnan(numbers), median, numbers))
        columns += [table[column].isna().to_numpy(dtype=float) for column in self.indicators]
        for column, values in self.levels.items():
            text = table[column].astype("string")
            known = text.isin(values).to_numpy(dtype=bool)
            columns += [np.where(known, (text == value).fillna(False), np.nan) for value in _shown(values)]
        return np.column_stack(columns) if columns else np.zeros((len(table), 0))


def _shown(levels: tuple[str, ...]) -> tuple[str, ...]:
    """Levels with a column: one column for two levels, else one column per level."""
    return levels[1:] if len(levels) == 2 else levels


@dataclass(frozen=True, eq=False)
class TargetScaler:
    """Mean and spread of each outcome's scores over training rows (`TaskKind.scale`); risks are unchanged."""

    mean: np.ndarray  # (n_tasks,)
    scale: np.ndarray
    ids: tuple[str, ...]

    @staticmethod
    def fit(targets: np.ndarray, tasks: Sequence[Task], ids: Sequence[str]) -> TargetScaler:
        """Fit to outcomes (n_subjects, n_tasks) of the training rows; NaN if unknown."""
        mean, scale = np.zeros(len(tasks)), np.ones(len(tasks))
        for t, task in enumerate(tasks):
            seen = targets[np.isfinite(targets[:, t]), t]
            if len(seen):
                mean[t], scale[t] = task.spec.scale(seen)
        return TargetScaler(mean, scale, tuple(ids))

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """Standardise outcomes (n_subjects, n_tasks)."""
        return (targets - self.mean) / self.scale

    def undo(self, outputs: np.ndarray) -> np.ndarray:
        """Inverse of `apply`."""
        return outputs * self.scale + self.mean
