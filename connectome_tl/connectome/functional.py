"""Functional connectomes from region time series, through nilearn.

Correlation and partial correlation use a single subject. Tangent space requires a reference that is fitted on
training rows (Varoquaux et al. 2010, doi:10.1007/978-3-642-15705-9_25).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import DataError, Problem, raise_all

Kind = Literal["correlation", "partial correlation", "covariance"]
_LEAST_FRAMES = 10


def functional_connectome(
    series: np.ndarray,
    regions: Sequence[str],
    *,
    kind: Kind = "correlation",
    subject: str | None = None,
    file: str | None = None,
) -> Connectome:
    """One subject's functional connectome.

    A region whose signal is constant or entirely NaN is missing, since its correlation is undefined. The covariance is
    estimated with Ledoit-Wolf shrinkage, nilearn's default. Series are standardised before correlation, because the
    shrinkage depends on their scale and the result should not depend on the unit of a region.

    Args:
        series: (n_frames, n_regions), cleaned.

    Returns:
        A connectome with the measure `kind`; correlations have a diagonal of 1 and are not Fisher-transformed.

    Raises:
        DataError: too few frames, single NaN, or numbers of columns and names that differ.
    """
    values, present = _checked(series, regions, subject, file)
    matrix = np.zeros((1, len(regions), len(regions)))
    at = np.flatnonzero(present)
    if at.size:
        used = values[:, present]
        if kind != "covariance":
            used = (used - used.mean(axis=0)) / used.std(axis=0)
        matrix[0][np.ix_(at, at)] = _measure(kind).fit_transform([used])[0]
    matrix = (matrix + matrix.swapaxes(1, 2)) / 2
    return Connectome(matrix, tuple(regions), (kind.replace(" ", "_"),), present, subject=subject, file=file)


@dataclass(frozen=True, eq=False)
class TangentSpace:
    """A tangent space fitted on training rows.

    Attributes:
        measure: nilearn's fitted ConnectivityMeasure; `mean` and `whitening` are the fitted matrices.
        regions: the regions that every training row has.
        ids: the training rows.
    """

    measure: Any
    regions: tuple[str, ...]
    ids: tuple[str, ...]

    @staticmethod
    def fit(series: Sequence[np.ndarray], regions: Sequence[str], ids: Sequence[str]) -> TangentSpace:
        """Fit on the time series of training rows, each (n_frames, n_regions).

        Regions that are missing in any of them are left out, since the mean covariance requires all.

        Raises:
            DataError: fewer than two rows, or an unusable series; the message names the subject.
        """
        if len(series) < 2 or len(series) != len(ids):
            raise DataError("a tangent space needs two training rows or more", got=str(len(series)))
        problems: list[Problem] = []
        checked = []
        for one, subject in zip(series, ids, strict=True):
            try:
                checked.append(_checked(one, regions, subject, None))
            except DataError as error:
                problems += error.problems
        raise_all("time series are not usable", problems)
        everywhere = np.logical_and.reduce([present for _, present in checked])
        if everywhere.sum() < 2:
            raise DataError("fewer than two regions are present in every training row")
        measure = _measure("tangent")
        measure.fit([values[:, everywhere] for values, _ in checked])
        kept = tuple(name for name, there in zip(regions, everywhere, strict=True) if there)
        return TangentSpace(measure, kept, tuple(ids))

    @property
    def mean(self) -> np.ndarray:
        """The reference covariance, (n_kept, n_kept)."""
        return np.asarray(self.measure.mean_)

    @property
    def whitening(self) -> np.ndarray:
        """Inverse square root of the reference covariance, (n_kept, n_kept)."""
        return np.asarray(self.measure.whitening_)

    def apply(self, series: np.ndarray, regions: Sequence[str], *, subject: str | None = None) -> Connectome:
        """One subject's tangent-space displacement from the reference.

        Raises:
            DataError: the series is unusable, or lacks a region of the fitted space.
        """
        values, present = _checked(series, regions, subject, None)
        position = {name: i for i, name in enumerate(regions) if present[i]}
        absent = [name for name in self.regions if name not in position]
        if absent:
            raise DataError(
                "lacks regions of the tangent space",
                subject=subject,
                got=", ".join(absent[:5]),
                remedy="A displacement needs every region; use correlation, which masks missing ones.",
            )
        columns = [position[name] for name in self.regions]
        # nilearn transforms groups only. Rows are projected independently, so the subject is passed twice.
        matrix = np.asarray(self.measure.transform([values[:, columns]] * 2))[:1]
        matrix = (matrix + matrix.swapaxes(1, 2)) / 2
        there = np.ones(len(self.regions), dtype=bool)
        return Connectome(matrix, self.regions, ("tangent",), there, subject=subject)


def fisher_z(connectome: Connectome) -> Connectome:
    """Fisher transform (artanh) of the correlations; the diagonal becomes 0.

    Raises:
        DataError: a correlation of 1 or more off the diagonal.
    """
    weights = connectome.weights.copy()
    diagonal = np.arange(connectome.n_regions)
    weights[:, diagonal, diagonal] = 0.0
    if (np.abs(weights) >= 1).any():
        _, i, j = np.argwhere(np.abs(weights) >= 1)[0]
        raise DataError(
            "a correlation of 1 between two regions",
            subject=connectome.subject,
            file=connectome.file,
            got=f"{connectome.regions[i]} and {connectome.regions[j]}",
        )
    return replace(connectome, weights=np.arctanh(weights))


def _measure(kind: str) -> Any:
    from nilearn.connectome import ConnectivityMeasure

    return ConnectivityMeasure(kind=kind, standardize=True)


def _checked(
    series: np.ndarray, regions: Sequence[str], subject: str | None, file: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """The series as float64, and the mask of regions with a signal, (n_regions,)."""
    values = np.asarray(series)
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != len(regions):
        raise DataError(
            "not a table of time series",
            subject=subject,
            file=file,
            expected=f"(n_frames, {len(regions)})",
            got=f"{values.dtype} {values.shape}",
        )
    if len(values) < _LEAST_FRAMES:
        raise DataError(
            "too few frames", subject=subject, file=file, expected=f"{_LEAST_FRAMES} or more", got=str(len(values))
        )
    values = values.astype(float)
    with np.errstate(invalid="ignore"):
        scale = np.abs(np.nan_to_num(values)).max(axis=0)
        present = ~np.isnan(values).all(axis=0) & ~(np.nan_to_num(values).std(axis=0) <= 1e-12 * scale)
    if not np.isfinite(values[:, present]).all():
        frame, column = np.argwhere(~np.isfinite(values[:, present]))[0]
        name = np.array(list(regions))[present][column]
        raise DataError(
            "a value is NaN or infinite", subject=subject, file=file, got=f"frame {frame + 1}, region {name}"
        )
    return values, present
