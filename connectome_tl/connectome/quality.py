"""Quality checks of matrices, with the subject and region of each finding.

The checks are descriptive and exclude no subject. Limits for outliers are fitted on given rows and record their ids;
within a fold these are training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from connectome_tl.atlas import Atlas
from connectome_tl.plurals import counted
from connectome_tl.settings.records.results import MatrixImage, QualityFinding, SubjectMeasure

_SAME = 0.999  # correlation of edges above which two subjects are reported as duplicates
_LIMIT = 4.0  # robust standard deviations
_MAD = 1.4826  # factor from the median absolute deviation to a standard deviation for normal data
_SHOWN = 5
_PIXELS = 300
_BLOCK_BYTES = 8_000_000
_SKETCH, _SLACK = 64, 3.0  # directions of the projection; chance to miss a pair above 0.999 is 10^-13
_UNITS = {"isolated regions": "regions", "components": "networks", "left to right": "log2", "length": "Spearman"}


def subject_measures(
    weights: np.ndarray, node_mask: np.ndarray, regions: Sequence[str], atlas: Atlas | None = None
) -> dict[str, np.ndarray]:
    """Quality measures of each subject, name to (n_subjects,), NaN where undefined.

    Args:
        weights: (n_subjects, n_regions, n_regions), one measure. node_mask: (n_subjects, n_regions).
        atlas: gives hemispheres, partners and distances; without it those measures are left out.

    Measures: density; isolated regions; components; mean strength; fraction of negative edges; typicality (correlation
    with the mean of the other subjects). With an atlas also: left to right (log2 ratio of the summed weights within
    hemispheres), homotopic edges (their mean divided by the mean of all edges), length (rank correlation of weight and
    distance, normally negative), swap (typicality minus typicality with exchanged hemispheres; a negative value
    suggests that left and right were exchanged).
    """
    others = _Others.of(weights, node_mask)
    parts = [
        _of_block(weights[rows], node_mask[rows], regions, atlas, others) for rows in _blocks(len(weights), weights[:1])
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def _of_block(
    weights: np.ndarray, node_mask: np.ndarray, regions: Sequence[str], atlas: Atlas | None, others: _Others
) -> dict[str, np.ndarray]:
    first, second = np.triu_indices(weights.shape[1], 1)
    edges = weights[:, first, second].astype(float)
    present = node_mask[:, first] & node_mask[:, second]
    n_present = np.maximum(present.sum(axis=1), 1)
    connected = (edges != 0) & present
    degree = ((weights != 0) & ~np.eye(weights.shape[1], dtype=bool)).sum(axis=2)
    n_regions = node_mask.sum(axis=1)
    absent = weights.shape[1] - n_regions
    found = {
        "density": connected.sum(axis=1) / n_present,
        "isolated regions": ((degree == 0) & node_mask).sum(axis=1).astype(float),
        "components": np.array([connected_components(csr_array(w != 0))[0] for w in weights], dtype=float) - absent,
        "mean strength": 2 * edges.sum(axis=1, where=present) / np.maximum(n_regions, 1),
        "negative edges": ((edges < 0) & present).sum(axis=1) / n_present,
        "typicality": others.correlation(edges, present, edges, present),
    }
    if atlas is None or not set(regions) <= set(atlas.names):
        return found
    rows = atlas.order_of(regions)
    side = np.array([atlas.regions[i].hemisphere for i in rows])
    size = np.where(present, np.abs(edges), 0.0)
    left, right = ((side[first] == s) & (side[second] == s) for s in "LR")
    with np.errstate(divide="ignore", invalid="ignore"):
        found["left to right"] = _finite(np.log2(size[:, left].sum(axis=1) / size[:, right].sum(axis=1)))
    position = {int(row): i for i, row in enumerate(rows)}
    partner = np.array([position.get(int(atlas.partners[row]), i) for i, row in enumerate(rows)])
    if (partner != np.arange(len(partner))).any():
        homotopic = partner[first] == second
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = size.sum(axis=1) / n_present
            pairs = size[:, homotopic].sum(axis=1) / present[:, homotopic].sum(axis=1)
            found["homotopic edges"] = _finite(pairs / mean)
        turned = weights[:, partner[:, None], partner[None, :]][:, first, second].astype(float)
        there = node_mask[:, partner]
        turned_present = there[:, first] & there[:, second]
        found["swap"] = found["typicality"] - others.correlation(turned, turned_present, edges, present)
    if not atlas.has_centroids:
        return found
    at = atlas.coordinates[rows]
    distance = np.linalg.norm(at[first] - at[second], axis=1)
    found["length"] = np.array([_rank_correlation(e[p], distance[p]) for e, p in zip(edges, connected, strict=True)])
    return found


def _blocks(n_subjects: int, one: np.ndarray) -> Iterator[slice]:
    """Slices of rows of a cohort that may exceed memory; `one` is the weights of a single subject."""
    size = max(1, _BLOCK_BYTES // max(1, one.nbytes))
    return (slice(start, start + size) for start in range(0, n_subjects, size))


@dataclass(frozen=True, eq=False)
class _Others:
    """Sum and count of each edge over all subjects, (n_edges,), from which leave-one-out means are computed."""

    total: np.ndarray
    count: np.ndarray

    @staticmethod
    def of(weights: np.ndarray, node_mask: np.ndarray) -> _Others:
        first, second = np.triu_indices(weights.shape[1], 1)
        total, count = np.zeros(first.size), np.zeros(first.size)
        for rows in _blocks(len(weights), weights[:1]):
            present = node_mask[rows][:, first] & node_mask[rows][:, second]
            total += np.where(present, weights[rows][:, first, second], 0.0).sum(axis=0, dtype=float)
            count += present.sum(axis=0)
        return _Others(total, count)

    def correlation(
        self, edges: np.ndarray, present: np.ndarray, own: np.ndarray, own_present: np.ndarray
    ) -> np.ndarray:
        """Correlation of each row of `edges` with the mean of all other subjects, over present edges."""
        out = np.full(len(edges), np.nan)
        for i in range(len(edges)):
            others = self.count - own_present[i]
            use = present[i] & (others > 0)
            if use.sum() > 2:
                total = self.total - np.where(own_present[i], own[i], 0.0)
                out[i] = _correlation(edges[i, use], total[use] / others[use])
        return out


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return _correlation(rankdata(a), rankdata(b)) if a.size > 2 else float("nan")


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


@dataclass(frozen=True)
class QualityLimits:
    """Limits beyond which a subject is an outlier: median plus or minus 4 robust standard deviations.

    `ids` are the training rows.
    """

    limits: Mapping[str, tuple[float, float]]
    ids: tuple[str, ...]

    @staticmethod
    def fit(measures: Mapping[str, np.ndarray], ids: Sequence[str]) -> QualityLimits:
        """Fit on the measures of training rows; a measure that hardly varies has no limits."""
        found = {}
        for name, values in measures.items():
            known = values[~np.isnan(values)]
            middle = float(np.median(known)) if known.size else float("nan")
            spread = _MAD * float(np.median(np.abs(known - middle))) if known.size else 0.0
            if known.size >= 10 and spread > 0:
                found[name] = (middle - _LIMIT * spread, middle + _LIMIT * spread)
        return QualityLimits(found, tuple(ids))

    def outliers(self, measures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name to (n_subjects,) bool, for the measures that have limits."""
        return {
            name: (measures[name] < low) | (measures[name] > high)
            for name, (low, high) in self.limits.items()
            if name in measures
        }


def duplicates(weights: np.ndarray, ids: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of subjects whose edges correlate above 0.999, which suggests one scan under two ids.

    Only pairs that are close in a small random projection are compared in full. This limits memory and avoids millions
    of correlations for thousands of subjects.

    Args:
        weights: (n_subjects, n_regions, n_regions).
    """
    first, second = np.triu_indices(weights.shape[1], 1)
    directions = np.random.default_rng(0).standard_normal((first.size, _SKETCH)) / np.sqrt(_SKETCH)

    def unit(rows: slice | list[int]) -> np.ndarray:
        edges = weights[rows][:, first, second].astype(float)
        centred = edges - edges.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)

    sketch = np.concatenate([unit(rows) @ directions for rows in _blocks(len(weights), weights[:1])])
    found = []
    for i in range(len(sketch) - 1):
        apart = ((sketch[i + 1 :] - sketch[i]) ** 2).sum(axis=1)  # approximately 2 (1 - r)
        for j in (i + 1 + np.flatnonzero(apart < _SLACK * 2 * (1 - _SAME))).tolist():
            pair = unit([i, j])
            r = float(pair[0] @ pair[1])
            if r > _SAME:
                found.append((ids[i], ids[j], r))
    return found


def findings(
    weights: np.ndarray,
    node_mask: np.ndarray,
    ids: Sequence[str],
    regions: Sequence[str],
    measures: Mapping[str, np.ndarray],
    limits: QualityLimits,
) -> list[QualityFinding]:
    """Findings of the checks, errors first: duplicates, exchanged hemispheres, isolated regions, outliers."""
    found = [
        QualityFinding(level="error", check="duplicate", subject=a, message=f"the same matrix as {b} (r = {r:.4f})")
        for a, b, r in duplicates(weights, ids)
    ]
    swap = measures.get("swap", np.zeros(0))
    # A negative value alone may be noise where hemispheres are nearly equal, as in functional networks.
    low = limits.limits.get("swap", (-np.inf, np.inf))[0]
    for i in np.flatnonzero((swap < 0) & (swap < low)).tolist():
        found.append(
            QualityFinding(
                level="warning",
                check="swap",
                subject=ids[i],
                message=f"fits the cohort better with left and right exchanged ({measures['swap'][i]:.3f})",
            )
        )
    for i in np.flatnonzero(measures["isolated regions"] > 0).tolist():
        linked = ((weights[i] != 0) & ~np.eye(len(regions), dtype=bool)).any(axis=1)
        lonely = [regions[r] for r in np.flatnonzero(~linked & node_mask[i]).tolist()]
        found.append(
            QualityFinding(
                level="warning",
                check="isolated",
                subject=ids[i],
                regions=tuple(lonely),
                message=f"{counted(len(lonely), 'region')} without a single edge: {', '.join(lonely[:_SHOWN])}"
                + (" ..." if len(lonely) > _SHOWN else "")
                + "; if they were not measured, set zero_rows: missing",
            )
        )
    length = measures.get("length")
    if length is not None and (length > 0).any():
        odd = [ids[i] for i in np.flatnonzero(length > 0).tolist()]
        text = f"{counted(len(odd), 'subject')} whose far regions are connected more strongly than near ones"
        found.append(QualityFinding(level="warning", check="length", message=f"{text}: {', '.join(odd[:_SHOWN])}"))
    for name, beyond in limits.outliers(measures).items():
        low, high = limits.limits[name]
        for i in np.flatnonzero(beyond).tolist():
            value = f"{measures[name][i]:.3g}, beyond {low:.3g} to {high:.3g}"
            found.append(QualityFinding(level="note", check="outlier", subject=ids[i], message=f"{name} is {value}"))
    return found


def measure_records(measures: Mapping[str, np.ndarray], limits: QualityLimits) -> tuple[SubjectMeasure, ...]:
    """Measures for the report; a measure that is equal for all subjects is left out."""
    records = []
    for name, values in measures.items():
        known = values[~np.isnan(values)]
        if known.size == 0 or np.ptp(known) == 0:
            continue
        low, high = limits.limits.get(name, (None, None))
        records.append(
            SubjectMeasure(name=name, values=tuple(values.tolist()), unit=_UNITS.get(name, ""), low=low, high=high)
        )
    return tuple(records)


def matrix_images(
    weights: np.ndarray,
    node_mask: np.ndarray,
    ids: Sequence[str],
    typical: np.ndarray,
    flagged: Sequence[str] = (),
    *,
    n_shown: int = 6,
) -> tuple[MatrixImage, ...]:
    """Images of the mean and of some subjects, least typical first, on one scale.

    Values are sign(w) |w|^0.5, NaN where a region is missing. More than 300 regions are shown as means over blocks of
    neighbouring regions."""
    mask = node_mask.astype(float)
    present = mask.T @ mask  # number of subjects with both regions
    mean = weights.sum(axis=0, dtype=float) / np.maximum(present, 1)
    order = np.argsort(np.where(np.isnan(typical), -np.inf, typical), kind="stable")[:n_shown]
    mean = np.where(present > 0, mean, np.nan)
    seen = ((i, np.where(np.outer(mask[i], mask[i]) > 0, weights[i], np.nan)) for i in order)
    chosen = [("mean of all", _shrunk(mean), False)]
    chosen += [(ids[i], _shrunk(matrix), ids[i] in flagged) for i, matrix in seen]
    return tuple(
        MatrixImage(
            title=title,
            n_rows=len(matrix),
            values=tuple(np.round(np.sign(matrix) * np.sqrt(np.abs(matrix)), 4).astype(float).ravel().tolist()),
            flagged=bad,
        )
        for title, matrix, bad in chosen
    )


def _shrunk(matrix: np.ndarray) -> np.ndarray:
    """Reduce (n, n) to at most 300 rows by the mean of the defined values in square blocks."""
    step = -(-len(matrix) // _PIXELS)
    if step == 1:
        return matrix
    starts = np.arange(0, len(matrix), step)
    known = np.isfinite(matrix)
    total = np.add.reduceat(np.add.reduceat(np.where(known, matrix, 0.0), starts, axis=0), starts, axis=1)
    count = np.add.reduceat(np.add.reduceat(known.astype(float), starts, axis=0), starts, axis=1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
