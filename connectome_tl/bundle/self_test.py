"""Self-test of a bundle: simulated subjects with the predictions that it must reproduce."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from connectome_tl.bundle.images import as_grid, as_record, simulated_grids
from connectome_tl.bundle.members import Members
from connectome_tl.bundle.tensors import RowTable
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.modalities import ConnectomeSteps
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.imaging.volumes.grids import Gridded
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.records.bundles import BundleFacts, CovariateInput, SelfTest, SelfTestRow
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel
from connectome_tl.training.interface import FittedModel

N_ROWS = 6
TOLERANCE = 1e-5  # absolute for probabilities, else relative; the order of 32-bit sums depends on the processor
_SPREAD = 0.7
_SHARE = 24  # arrays of the subjects predicted at once take 1 / _SHARE of the bundle: features need several times that


def simulated_rows(members: Members, facts: BundleFacts) -> tuple[list[SelfTestRow], dict[str, np.ndarray]]:
    """Subjects drawn from pooled means and standard deviations, and their matrices and volumes by name."""
    rng = np.random.default_rng(20)
    arrays: dict[str, np.ndarray] = {}
    if facts.inputs.regions:
        n_regions = len(facts.inputs.regions)
        steps = next(f.steps["connectome"] for f in members.features() if "connectome" in f.steps)
        assert isinstance(steps, ConnectomeSteps)
        tangent = _tangent_of(members)
        arrays["node_mask"] = np.ones((N_ROWS, n_regions), dtype=bool)
        if tangent is not None:
            arrays["weights"] = _covariances(rng, tangent, n_regions, facts.inputs.transforms[:1] == ("fisher_z",))
        else:
            arrays["weights"] = _edges(rng, steps.scaler.mean, steps.scaler.scale)
        arrays["node_mask"][-1, -1] = False  # one of them lacks a region
        arrays["weights"][-1, :, -1, :] = arrays["weights"][-1, :, :, -1] = 0.0
        if steps.regional is not None:
            scale = np.where(np.isfinite(steps.regional.scale), steps.regional.scale, 0.0)
            drawn = steps.regional.mean + _SPREAD * scale * rng.normal(size=(N_ROWS, *scale.shape))
            arrays["region_features"] = drawn
    volumes = simulated_grids(facts.inputs.image) if facts.inputs.image is not None else []
    if volumes:  # the other subjects lack one
        arrays["volumes"] = np.stack([one.values.astype(np.float32) for one in volumes])
    age = np.full(N_ROWS, np.nan)
    if facts.limits.age is not None:
        age = np.round(rng.uniform(facts.limits.age.low, facts.limits.age.high, N_ROWS), 2)
    rows = [
        SelfTestRow(
            covariates={c.column: _covariate(rng, c, i) for c in facts.limits.covariates},
            age=age[i],
            volume=as_record(volumes[i]) if i < len(volumes) else None,
        )
        for i in range(N_ROWS)
    ]
    return rows, arrays


def _edges(rng: np.random.Generator, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    drawn = mean + _SPREAD * scale * rng.normal(size=(N_ROWS, *mean.shape))
    drawn = (drawn + drawn.swapaxes(-1, -2)) / 2
    drawn[..., np.arange(mean.shape[-1]), np.arange(mean.shape[-1])] = 0.0
    return np.where(mean >= 0, np.maximum(drawn, 0.0), drawn).astype(np.float32)


def _covariances(rng: np.random.Generator, tangent: TangentEdges, n_regions: int, fisher: bool) -> np.ndarray:
    """Covariances (or correlations, as for the reference) of simulated time series around the reference."""
    at = np.flatnonzero(tangent.regions)
    reference = np.eye(n_regions) * float(np.trace(tangent.mean) / len(at))
    reference[np.ix_(at, at)] = tangent.mean
    root = np.linalg.cholesky(reference)
    series = rng.normal(size=(N_ROWS, 4 * n_regions, n_regions)) @ root.T
    found = series.swapaxes(1, 2) @ series / series.shape[1]
    if tangent.correlation:
        sd = np.sqrt(np.einsum("nii->ni", found))
        found = found / (sd[:, :, None] * sd[:, None, :])
        if fisher:
            found[:, np.arange(n_regions), np.arange(n_regions)] = 0.0
            found = np.arctanh(np.clip(found, -0.999, 0.999))
    return found.astype(np.float32)[:, None]


def _tangent_of(members: Members) -> TangentEdges | None:
    for model in members.models:
        for steps in _connectome_steps(model):
            for step in steps.edge_steps:
                if isinstance(step, TangentEdges):
                    return step
    return None


def _connectome_steps(model: FittedModel) -> list[ConnectomeSteps]:
    if isinstance(model, MixtureModel):
        return [*_connectome_steps(model.core), *_connectome_steps(model.network)]
    features = [getattr(model, "features", None)]
    if isinstance(model, CoreModel):
        features += [model.tangent, *([] if model.source is None else [model.source.features, model.source.tangent])]
    found = [steps for one in features if one is not None for steps in one.steps.values()]
    return [steps for steps in found if isinstance(steps, ConnectomeSteps)]


def _covariate(rng: np.random.Generator, spec: CovariateInput, row: int) -> float | str | None:
    if row == 1:
        return None  # one subject has only a connectome
    if spec.type == "categorical":
        return str(rng.choice(spec.levels)) if spec.levels else None
    return None if spec.span is None else round(float(rng.uniform(spec.span.low, spec.span.high)), 4)


def _check_rows(rows: Sequence[SelfTestRow], table: RowTable, facts: BundleFacts) -> None:
    """Check names, shapes and types of all arrays before any of them is read.

    Raises:
        DataError: arrays that are not those of these subjects.
    """
    n_rows, inputs = len(rows), facts.inputs
    n_regions, n_measures = len(inputs.regions), len(inputs.measures)
    features = (n_rows, n_regions, len(inputs.region_features))
    shapes = {"weights": (n_rows, n_measures, n_regions, n_regions), "node_mask": (n_rows, n_regions)}
    wanted = (shapes | ({"region_features": features} if features[2] else {})) if n_regions else {}
    n_volumes = sum(row.volume is not None for row in rows)
    if inputs.image is not None and n_volumes:
        wanted["volumes"] = (n_volumes, *inputs.image.grid.shape3)
    if dict(table.shapes) != wanted:
        raise DataError("the matrices of the self-test do not match its subjects")
    if n_regions and table.types["node_mask"] != "bool":
        raise DataError("the matrices of the self-test are not numeric")


def _parts(n_rows: int, table: RowTable, bundle_bytes: int) -> Iterator[range]:
    """Ranges of rows, as many at once as the size of the bundle allows: networks are built for each part."""
    each = sum(math.prod(shape[1:]) * np.dtype(table.types[name]).itemsize for name, shape in table.shapes.items())
    n = min(max(bundle_bytes // (_SHARE * max(each, 1)), 1), n_rows)
    yield from (range(start, min(start + n, n_rows)) for start in range(0, n_rows, n))


def _cohort_of(rows: Sequence[SelfTestRow], part: range, table: RowTable, facts: BundleFacts) -> Cohort:
    """Some of the simulated subjects as a cohort.

    Raises:
        DataError: matrices that are not numeric.
    """
    n_rows, inputs = len(part), facts.inputs
    n_regions, n_measures = len(inputs.regions), len(inputs.measures)
    arrays = {name: table.read(name, part.start, part.stop) for name in table.shapes if name != "volumes"}
    if not np.isfinite(arrays.get("weights", np.zeros(0))).all():
        raise DataError("the matrices of the self-test are not numeric")
    ids = tuple(f"simulated{i + 1}" for i in part)
    grids = {f"simulated volume {i + 1}": grid for i, grid in _grids_of(rows, part, table)}
    names = tuple(f"simulated volume {i + 1}" if rows[i].volume is not None else "" for i in part)
    covariates = pd.DataFrame(index=list(ids))
    for spec in facts.limits.covariates:
        values = [rows[i].covariates[spec.column] for i in part]
        if spec.type == "numeric":
            covariates[spec.column] = np.array([np.nan if one is None else float(one) for one in values])
        else:
            covariates[spec.column] = pd.array([None if one is None else str(one) for one in values], dtype="str")
    nothing = pd.DataFrame(index=list(ids))
    return Cohort(
        name="self-test",
        ids=ids,
        regions=inputs.regions,
        atlas=inputs.atlas,
        measures=inputs.measures,
        weights=arrays.get("weights", np.zeros((n_rows, n_measures, n_regions, n_regions), dtype=np.float32)),
        node_mask=arrays.get("node_mask", np.zeros((n_rows, n_regions), dtype=bool)),
        covariates=covariates,
        covariate_specs=tuple(
            Covariate(column=spec.column, type=spec.type, unit=spec.unit or _any_unit(spec))
            for spec in facts.limits.covariates
        ),
        tasks=(),
        targets=nothing,
        status=nothing,
        age=np.array([rows[i].age for i in part], dtype=float),
        age_unit=facts.limits.age_unit,
        age_reference=facts.limits.age_reference,
        site=np.full(n_rows, facts.limits.sites[0] if facts.limits.sites else "simulated", dtype=object),
        family=np.full(n_rows, "", dtype=object),
        region_features=arrays.get("region_features"),
        region_feature_names=inputs.region_features,
        simulated=True,
        transforms=inputs.transforms,
        volumes=names if inputs.image is not None else (),
        grids=grids,
    )


def _grids_of(rows: Sequence[SelfTestRow], part: range, table: RowTable) -> Iterator[tuple[int, Gridded]]:
    """The simulated volumes of these rows, by number of the row."""
    having = [i for i, row in enumerate(rows) if row.volume is not None]
    for at, i in enumerate(having):
        record = rows[i].volume
        if i in part and record is not None and "volumes" in table.shapes:
            voxels = table.read("volumes", at, at + 1)[0]
            if not np.isfinite(voxels).all():
                raise DataError("the matrices of the self-test are not numeric")
            yield i, as_grid(record, voxels)


def _predicted(
    rows: Sequence[SelfTestRow], table: RowTable, members: Members, facts: BundleFacts, bundle_bytes: int = 0
) -> np.ndarray:
    """Predictions of all simulated subjects, (n_rows, n_columns)."""
    _check_rows(rows, table, facts)
    found = []
    for part in _parts(len(rows), table, bundle_bytes):
        cohort = _cohort_of(rows, part, table, facts)
        found.append(members.predict(cohort, cohort.ids))
        del cohort  # before the next is made
    return np.concatenate(found)


def _any_unit(spec: CovariateInput) -> str:
    return "as given" if spec.type == "numeric" else ""  # an age must have one; nothing is computed with it


def self_test_of(members: Members, facts: BundleFacts) -> tuple[SelfTest, dict[str, np.ndarray]]:
    """The rows, their predictions and their matrices."""
    rows, arrays = simulated_rows(members, facts)
    predicted = _predicted(rows, RowTable.of(arrays), members, facts)
    return SelfTest(rows=tuple(rows), predictions=tuple(tuple(map(float, row)) for row in predicted)), arrays


def run_self_test(
    members: Members, facts: BundleFacts, test: SelfTest, table: RowTable, bundle_bytes: int = 0
) -> float:
    """Predict the simulated subjects; returns the largest difference to the stored predictions.

    Args:
        bundle_bytes: size of the bundle, which limits the memory.

    Raises:
        DataError: a prediction differs by more than the tolerance.
    """
    expected = np.array(test.predictions, dtype=float)
    found = _predicted(test.rows, table, members, facts, bundle_bytes)
    if expected.shape != found.shape or not np.isfinite(found).all():
        raise DataError("the bundle does not reproduce the predictions of its self-test")
    distance = float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max())
    if not distance <= TOLERANCE:
        raise DataError(
            "the bundle does not reproduce the predictions of its self-test",
            expected=f"the same to {TOLERANCE:g}",
            got=f"a difference of {distance:.3g}",
            remedy="It was changed, or the installed numpy and torch compute differently: see its model card.",
        )
    return distance
