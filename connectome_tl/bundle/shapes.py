"""Check the shape of every tensor of a bundle before anything is computed with it.

A tensor of another shape could be broadcast to any size, and settings could define a network of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from connectome_tl.bundle.extensions import OWN_STEPS
from connectome_tl.errors import DataError
from connectome_tl.features.combat import ComBat
from connectome_tl.features.confounds import ConfoundModel
from connectome_tl.features.edge_selection import ConsensusMask
from connectome_tl.features.gamma_sites import GammaSites
from connectome_tl.features.harmonise import Harmoniser
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.scaling import CovariateEncoder, EdgeScaler, RegionScaler
from connectome_tl.features.steps import MODALITIES, Features
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.features.volumes import VolumeSteps, n_coarse
from connectome_tl.imaging.volumes.grids import QUANTILES
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.bundles import Inputs

DTYPES = ("float32", "float64", "bool", "int64")


@dataclass(frozen=True)
class Sizes:
    """Sizes that determine the shapes."""

    n_measures: int
    n_regions: int
    n_features: int
    grid: ImageSettings | None = None
    bundle_bytes: int = 0

    @staticmethod
    def of(inputs: Inputs, bundle_bytes: int = 0) -> Sizes:
        """Sizes of these inputs."""
        grid = None if inputs.image is None else inputs.image.grid
        return Sizes(len(inputs.measures), len(inputs.regions), len(inputs.region_features), grid, bundle_bytes)

    @property
    def matrices(self) -> tuple[int, ...]:
        """Shape of the matrices of one subject."""
        return self.n_measures, self.n_regions, self.n_regions

    @property
    def n_edges(self) -> int:
        """Number of edges of one measure."""
        return self.n_regions * (self.n_regions - 1) // 2


def check_features(features: Features, sizes: Sizes) -> None:
    """Check type and shapes of the feature steps of every modality.

    Raises:
        DataError: unknown steps, or arrays of another shape.
    """
    for name, steps in features.steps.items():
        wanted = OWN_STEPS.get(name)
        if wanted is None and MODALITIES.get(name) is not None:  # an extension, whose arrays have any shape
            _check_arrays(steps)
            continue
        if wanted is None or type(steps) is not wanted:
            raise DataError(f"unknown feature steps for the modality {name!r}"[:120])
        _check_record(steps, sizes)


def _check_arrays(value: Any) -> None:
    if isinstance(value, np.ndarray):
        check_shape("an array of an extension", value, value.shape, None)
    elif is_dataclass(value):
        _check_arrays([getattr(value, one.name) for one in fields(value)])
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _check_arrays(part)


def _check_record(record: Any, sizes: Sizes) -> None:
    check = CHECKS.get(type(record))
    if check is None:
        raise DataError(f"a feature step of the type {type(record).__name__} is not allowed in a bundle")
    check(record, sizes)


def _connectome(steps: ConnectomeSteps, sizes: Sizes) -> None:
    if type(steps.scaler) is not EdgeScaler or type(steps.edge_steps) is not tuple:
        raise DataError("the steps of the connectome are in the wrong order")
    if steps.regional is not None and type(steps.regional) is not RegionScaler:
        raise DataError("the steps of the connectome are in the wrong order")
    if (steps.regional is not None) != (sizes.n_features > 0):
        raise DataError("regional measures do not match their scaler")
    for step in (*steps.edge_steps, steps.scaler, *([steps.regional] if steps.regional is not None else [])):
        _check_record(step, sizes)


def _clinical(steps: ClinicalSteps, sizes: Sizes) -> None:
    if type(steps.encoder) is not CovariateEncoder:
        raise DataError("the steps of the covariates are in the wrong order")
    _check_record(steps.encoder, sizes)


def _tangent(step: TangentEdges, sizes: Sizes) -> None:
    check_shape("tangent regions", step.regions, (sizes.n_regions,), bool)
    kept = int(step.regions.sum())
    check_shape("tangent mean", step.mean, (kept, kept))
    check_shape("tangent whitening", step.whitening, (kept, kept))
    if type(step.correlation) is not bool or not 0 <= _number(step.shrinkage) < 1 or sizes.n_measures != 1:
        raise DataError("a tangent space has been altered")


def _harmoniser(step: Harmoniser, sizes: Sizes) -> None:
    if len(step.models) != sizes.n_measures or step.unseen not in ("refuse", "reference", "none"):
        raise DataError("site effects have been altered")
    n_columns = len(step.columns)
    for model in step.models:
        n_sites = len(model.sites)
        if step.reference not in model.sites or model.sites != step.models[0].sites:
            raise DataError("site effects have been altered")
        if isinstance(model, ComBat):
            for name in ("mean", "pooled"):
                check_shape(name, getattr(model, name), (sizes.n_edges,))
            check_shape("adjustable", model.adjustable, (sizes.n_edges,), bool)
            check_shape("slopes", model.slopes, (n_columns, sizes.n_edges))
            for name in ("gamma", "delta"):
                check_shape(name, getattr(model, name), (n_sites, sizes.n_edges))
        elif isinstance(model, GammaSites):
            check_shape("effect", model.effect, (n_sites, sizes.n_edges))
        else:
            raise DataError("site effects of an unknown kind")


def _confounds(step: ConfoundModel, sizes: Sizes) -> None:
    check_shape("confound centre", step.center, (len(step.names),))
    check_shape("confound slopes", step.slopes, (len(step.names), *sizes.matrices))


def _mask(step: ConsensusMask, sizes: Sizes) -> None:
    check_shape("edges kept", step.keep, sizes.matrices, bool)


def _edges(scaler: EdgeScaler, sizes: Sizes) -> None:
    check_shape("edge mean", scaler.mean, sizes.matrices)
    check_shape("edge scale", scaler.scale, sizes.matrices)
    check_shape("constant edges", scaler.constant, sizes.matrices, bool)


def _regional(scaler: RegionScaler, sizes: Sizes) -> None:
    check_shape("regional mean", scaler.mean, (sizes.n_regions, sizes.n_features))
    check_shape("regional scale", scaler.scale, (sizes.n_regions, sizes.n_features), infinite=True)


def _covariates(encoder: CovariateEncoder, sizes: Sizes) -> None:
    del sizes
    n = len(encoder.names)
    n_levels = sum(len(levels) - (len(levels) == 2) for levels in encoder.levels.values())
    if n != len(encoder.medians) + len(encoder.indicators) + n_levels or n > 100_000:
        raise DataError("the columns of the covariates do not match")
    if not set(encoder.indicators) <= set(encoder.columns):
        raise DataError("the columns of the covariates do not match")
    check_shape("covariate mean", encoder.mean, (n,))
    check_shape("covariate scale", encoder.scale, (n,), infinite=True)
    for value in encoder.medians.values():
        _number(value)


def n_summary() -> int:
    """Columns of the summary of a volume: head, three tissues, quantiles."""
    return 4 + len(QUANTILES)


def _volumes(steps: VolumeSteps, sizes: Sizes) -> None:
    if sizes.grid is None or type(steps.grid) is not str or steps.grid != sizes.grid.model_dump_json():
        raise DataError("volumes of a fit have another grid than the bundle")
    for mean, scale, n in (
        (steps.mean, steps.scale, n_summary()),
        (steps.coarse_mean, steps.coarse_scale, n_coarse(sizes.grid.shape3)),
    ):
        check_shape("volume mean", mean, (n,))
        check_shape("volume scale", scale, (n,), infinite=True)


CHECKS: dict[type, Callable[[Any, Sizes], None]] = {
    ConnectomeSteps: _connectome,
    ClinicalSteps: _clinical,
    TangentEdges: _tangent,
    Harmoniser: _harmoniser,
    ConfoundModel: _confounds,
    ConsensusMask: _mask,
    EdgeScaler: _edges,
    RegionScaler: _regional,
    CovariateEncoder: _covariates,
    VolumeSteps: _volumes,
}


def check_shape(
    what: str,
    array: Any,
    shape: tuple[int, ...],
    kind: type | None = float,
    *,
    infinite: bool = False,
    undefined: bool = False,
) -> None:
    """Check shape and type of an array, and that its values are finite where required."""
    if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
        raise DataError(f"{what} is not a numeric array")
    if array.shape != shape:
        raise DataError(f"{what} has an unexpected shape", expected=str(shape), got=str(array.shape))
    if kind is bool and array.dtype != bool:
        raise DataError(f"{what} is not boolean")
    if kind is float and array.dtype.kind != "f":
        raise DataError(f"{what} is not numeric")
    if array.dtype.kind == "f":
        wrong = np.isinf(array) if undefined else np.isnan(array) if infinite else ~np.isfinite(array)
        if wrong.any():
            raise DataError(f"{what} has numbers that are not finite")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError("a value of a feature step is not a number")
    return float(value)
