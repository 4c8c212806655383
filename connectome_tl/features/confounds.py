"""Remove linear effects of confounds from edges, fitted on training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.features.scaling import edge_mask
from connectome_tl.plurals import counted


@dataclass(frozen=True, eq=False)
class ConfoundModel:
    """Linear effects of confounds on every edge, by least squares on training rows; the mean is preserved.

    `log(column)` in the names stands for the natural logarithm. `levels` are the two training levels of a
    categorical confound.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    center: np.ndarray  # (n_confounds,)
    slopes: np.ndarray  # (n_confounds, n_measures, n_regions, n_regions)
    ids: tuple[str, ...]

    @staticmethod
    def fit(
        weights: np.ndarray,
        node_mask: np.ndarray,
        confounds: np.ndarray,
        names: Sequence[str],
        ids: Sequence[str],
        levels: Mapping[str, tuple[str, ...]] | None = None,
    ) -> ConfoundModel:
        """Fit on weights and masks as in `EdgeScaler.fit`, and confounds (n_subjects, n_confounds).

        Each edge is fitted on the subjects in which it is present.
        """
        known = np.isfinite(confounds)
        center = np.where(known, confounds, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        design = np.where(known, confounds - center, 0.0)
        present = np.broadcast_to(edge_mask(node_mask), weights.shape).reshape(len(weights), -1)
        flat = np.where(present, weights.reshape(len(weights), -1), 0.0).astype(np.float64)
        slopes = np.zeros((len(names), flat.shape[1]))
        # Edges present in the same subjects share one decomposition; without missing regions these are all edges.
        patterns, which = np.unique(present, axis=1, return_inverse=True)
        for i, pattern in enumerate(patterns.T):
            if pattern.any():
                edges, own = flat[np.ix_(pattern, which.ravel() == i)], design[pattern]
                own = own - own.mean(axis=0)
                slopes[:, which.ravel() == i] = np.linalg.lstsq(own, edges - edges.mean(axis=0), rcond=1e-6)[0]
        shape = (len(names), *weights.shape[1:])
        return ConfoundModel(tuple(names), dict(levels or {}), center, slopes.reshape(shape), tuple(ids))

    def transform(self, cohort: Cohort) -> Cohort:
        """The cohort with adjusted weights."""
        table = confound_table(self.names, cohort.covariates, cohort.age, cohort.name, self.levels)
        return replace(cohort, weights=self.apply(cohort.weights, table))

    def apply(self, weights: np.ndarray, confounds: np.ndarray) -> np.ndarray:
        """Weights without the effects of the confounds; an unknown confound is replaced by the training mean."""
        design = np.where(np.isfinite(confounds), confounds - self.center, 0.0)
        return (weights - np.tensordot(design, self.slopes, axes=1)).astype(np.float32)


def fit_confounds(train: Cohort, names: Sequence[str]) -> ConfoundModel:
    """Fit on a cohort of training rows.

    Raises:
        UsageError: no such column, or a category with more than two levels.
    """
    levels = confound_levels(names, train.covariates)
    table = confound_table(names, train.covariates, train.age, train.name, levels)
    return ConfoundModel.fit(train.weights, train.node_mask, table, names, train.ids, levels)


def confound_levels(names: Sequence[str], covariates: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Levels of each categorical confound, in order.

    Raises:
        UsageError: a confound has more than two.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in covariates.columns and not pd.api.types.is_numeric_dtype(covariates[name]):
            found[name] = tuple(sorted(str(level) for level in covariates[name].dropna().unique()))
            if len(found[name]) > 2:
                raise UsageError(
                    f"confounds: {name!r} has {counted(len(found[name]), 'category')}, at most 2 can be a confound"
                )
    return found


def confound_column(name: str) -> tuple[str, bool]:
    """The column of a confound, and whether its logarithm is used (`log(column)`)."""
    logarithm = name.startswith("log(") and name.endswith(")")
    return (name[4:-1] if logarithm else name), logarithm


def confound_table(
    names: Sequence[str],
    covariates: pd.DataFrame,
    age: np.ndarray,
    cohort_name: str,
    levels: Mapping[str, tuple[str, ...]],
) -> np.ndarray:
    """(n_subjects, n_confounds) numbers: numeric columns, two-level categories as 0/1, `age`, `log(column)`.

    Args:
        levels: `confound_levels` of the training rows; other categories are unknown (NaN).

    Raises:
        UsageError: no such column.
        DataError: a logarithm of a number that is not positive.
    """
    columns = []
    for name in names:
        column, logarithm = confound_column(name)
        if column == "age" and "age" not in covariates.columns:
            values = np.asarray(age, dtype=float)
        elif column not in covariates.columns:
            raise UsageError(
                f"confounds: cohort {cohort_name!r} has no column {column!r}",
                expected=f"age or one of {', '.join(covariates.columns)}",
            )
        elif pd.api.types.is_numeric_dtype(covariates[column]):
            values = covariates[column].to_numpy(dtype=float)
        else:
            codes = {level: float(code) for code, level in enumerate(levels.get(column, ()))}
            values = np.array([codes.get(str(value), np.nan) for value in covariates[column]], dtype=float)
        if logarithm:
            if np.any(values[np.isfinite(values)] <= 0):
                raise DataError(f"confounds: {column!r} has values of 0 or less, which have no logarithm")
            values = np.log(values)
        columns.append(values)
    return np.column_stack(columns)
