"""Checks of matrices that name subject and region: what to look at before anything is trained.

Everything here describes; nothing is excluded. Limits for outliers are fitted on the rows given and
remember them, so that inside a fold they come from training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from connectome_tl.atlas import Atlas
from connectome_tl.settings.results import MatrixImage, QualityFinding, SubjectMeasure

_SAME = 0.999  # correlation of edges at which two subjects are taken for one matrix
_LIMIT = 4.0  # robust standard deviations
_MAD = 1.4826  # makes the median absolute deviation a standard deviation under normality
_SHOWN = 5
_UNITS = {"isolated regions": "regions", "components": "networks", "left to right": "log2", "length": "Spearman"}


def subject_measures(
    weights: np.ndarray, node_mask: np.ndarray, regions: Sequence[str], atlas: Atlas | None = None
) -> dict[str, np.ndarray]:
    """Quality measures of each subject, name to (n_subjects,), NaN where undefined.

    Args:
        weights: (n_subjects, n_regions, n_regions), one measure. node_mask: (n_subjects, n_regions).
        atlas: gives hemispheres, partners and distances; without it those measures are left out.

    Measures: density; isolated regions; components; mean strength; negative edges (share); typicality
    (correlation with the mean of the others); and with an atlas left to right (log2 of the summed
    weights within hemispheres), homotopic edges (their mean over the mean of all), length (rank
    correlation of weight and distance, negative in a brain), swap (typicality as it is less that with
    the hemispheres exchanged; below 0, left and right may have been exchanged).
    """
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
        "components": np.array([connected_components(w != 0)[0] for w in weights], dtype=float) - absent,
        "mean strength": 2 * edges.sum(axis=1, where=present) / np.maximum(n_regions, 1),
        "negative edges": ((edges < 0) & present).sum(axis=1) / n_present,
        "typicality": typicality(edges, present),
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
        found["swap"] = found["typicality"] - _swapped(weights, node_mask, partner)
    if not atlas.has_centroids:
        return found
    at = atlas.coordinates[rows]
    distance = np.linalg.norm(at[first] - at[second], axis=1)
    found["length"] = np.array([_rank_correlation(e[p], distance[p]) for e, p in zip(edges, connected, strict=True)])
    return found


def typicality(edges: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Correlation of each row of (n_subjects, n_edges) with the mean of the others, over present edges."""
    return _against_others(edges, present, edges, present)


def _against_others(
    edges: np.ndarray, present: np.ndarray, reference: np.ndarray, reference_present: np.ndarray
) -> np.ndarray:
    """Correlation of row i with the mean of all reference rows but i."""
    known = np.where(reference_present, reference, 0.0)
    total, count = known.sum(axis=0), reference_present.sum(axis=0)
    out = np.full(len(edges), np.nan)
    for i in range(len(edges)):
        others = count - reference_present[i]
        use = present[i] & (others > 0)
        if use.sum() > 2:
            mean = (total - known[i])[use] / others[use]
            out[i] = _correlation(edges[i, use], mean)
    return out


def _swapped(weights: np.ndarray, node_mask: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Typicality of each subject with its hemispheres exchanged."""
    first, second = np.triu_indices(weights.shape[1], 1)
    turned = weights[:, partner[:, None], partner[None, :]][:, first, second].astype(float)
    there = node_mask[:, partner]
    straight = weights[:, first, second].astype(float)
    return _against_others(
        turned, there[:, first] & there[:, second], straight, node_mask[:, first] & node_mask[:, second]
    )


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

    `ids` are the rows they were fitted on.
    """

    limits: Mapping[str, tuple[float, float]]
    ids: tuple[str, ...]

    @staticmethod
    def fit(measures: Mapping[str, np.ndarray], ids: Sequence[str]) -> QualityLimits:
        """From the measures of training rows; a measure that hardly varies has no limits."""
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


def duplicates(edges: np.ndarray, ids: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of subjects whose edges (n_subjects, n_edges) correlate above .999: one scan under two ids?"""
    centred = edges - edges.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    alike = unit @ unit.T
    return [(ids[i], ids[j], float(alike[i, j])) for i, j in np.argwhere(np.triu(alike, 1) > _SAME).tolist()]


def findings(
    weights: np.ndarray,
    node_mask: np.ndarray,
    ids: Sequence[str],
    regions: Sequence[str],
    measures: Mapping[str, np.ndarray],
    limits: QualityLimits,
) -> list[QualityFinding]:
    """What the checks found, errors first: duplicates, exchanged hemispheres, isolated regions, outliers."""
    first, second = np.triu_indices(weights.shape[1], 1)
    found = [
        QualityFinding(level="error", check="duplicate", subject=a, message=f"the same matrix as {b} (r = {r:.4f})")
        for a, b, r in duplicates(weights[:, first, second].astype(float), ids)
    ]
    swap = measures.get("swap", np.zeros(0))
    # Below 0 alone is noise where hemispheres are nearly alike, as in functional networks.
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
    degree = ((weights != 0) & ~np.eye(weights.shape[1], dtype=bool)).sum(axis=2)
    for i in np.flatnonzero(measures["isolated regions"] > 0).tolist():
        lonely = [regions[r] for r in np.flatnonzero((degree[i] == 0) & node_mask[i]).tolist()]
        found.append(
            QualityFinding(
                level="warning",
                check="isolated",
                subject=ids[i],
                regions=tuple(lonely),
                message=f"{len(lonely)} regions without a single edge: {', '.join(lonely[:_SHOWN])}"
                + (" ..." if len(lonely) > _SHOWN else "")
                + "; if they were not measured, say zero_rows: missing",
            )
        )
    length = measures.get("length")
    if length is not None and (length > 0).any():
        odd = [ids[i] for i in np.flatnonzero(length > 0).tolist()]
        text = f"{len(odd)} subjects whose far regions are connected more strongly than near ones"
        found.append(QualityFinding(level="warning", check="length", message=f"{text}: {', '.join(odd[:_SHOWN])}"))
    for name, beyond in limits.outliers(measures).items():
        low, high = limits.limits[name]
        for i in np.flatnonzero(beyond).tolist():
            value = f"{measures[name][i]:.3g}, beyond {low:.3g} to {high:.3g}"
            found.append(QualityFinding(level="note", check="outlier", subject=ids[i], message=f"{name} is {value}"))
    return found


def measure_records(measures: Mapping[str, np.ndarray], limits: QualityLimits) -> tuple[SubjectMeasure, ...]:
    """The measures as the report shows them; one that is the same for everybody is left out."""
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
    """The mean and some subjects, least typical first, on one scale: |w| to the power .5, sign kept; NaN where a
    region is missing."""
    there = node_mask[:, :, None] & node_mask[:, None, :]
    present = there.sum(axis=0)
    mean = weights.sum(axis=0) / np.maximum(present, 1)
    order = np.argsort(np.where(np.isnan(typical), -np.inf, typical), kind="stable")[:n_shown]
    mean = np.where(present > 0, mean, np.nan)
    seen = ((i, np.where(there[i], weights[i], np.nan)) for i in order)
    chosen = [("mean of all", mean, False)] + [(ids[i], matrix, ids[i] in flagged) for i, matrix in seen]
    return tuple(
        MatrixImage(
            title=title,
            n_rows=len(matrix),
            values=tuple(np.round(np.sign(matrix) * np.sqrt(np.abs(matrix)), 4).astype(float).ravel().tolist()),
            flagged=bad,
        )
        for title, matrix, bad in chosen
    )
