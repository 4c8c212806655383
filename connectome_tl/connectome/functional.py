"""Functional connectomes from region time series, through nilearn.

They use a single subject. The tangent space, which needs a reference, is a step of features (`features.tangent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import DataError

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
        known = np.nan_to_num(values)
        scale = np.abs(known).max(axis=0)
        # Relative to the largest value, since squares of large ones are infinite.
        spread = (known / np.where(scale > 0, scale, 1.0)).std(axis=0)
        present = ~np.isnan(values).all(axis=0) & ~(spread <= 1e-12)
    if not np.isfinite(values[:, present]).all():
        frame, column = np.argwhere(~np.isfinite(values[:, present]))[0]
        name = np.array(list(regions))[present][column]
        raise DataError(
            "a value is NaN or infinite", subject=subject, file=file, got=f"frame {frame + 1}, region {name}"
        )
    return values, present
