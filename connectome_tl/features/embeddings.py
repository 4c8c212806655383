"""Precomputed image embeddings as features, with the ids that their encoder was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, InternalError
from connectome_tl.features.arrays import Arrays
from connectome_tl.settings.images.embedding import EmbeddedFit, EmbeddingUse

_TINY = 1e-8


@dataclass(frozen=True, eq=False)
class EmbeddingSteps:
    """Embeddings of one encoder fit, and their scale over the training rows.

    Attributes:
        fit: key of the encoder's fit. what: as `EmbeddingUse.what`.
        line: (2,) slope and intercept of the age gap by age over the training rows; zeros for embeddings.
        mean, scale: (n_columns,) after subtraction of the line.
        ids: the training rows, including those of the encoder.
    """

    fit: str
    what: str
    line: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    ids: tuple[str, ...]

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        """Rows `embedding` (n_subjects, n_columns), scaled; 0 for a subject without an embedding."""
        values, present = _values(cohort, ids, self.fit, self.what)
        values = _without_line(values, cohort, ids, self.line)
        scaled = np.where(present[:, None], (values - self.mean) / self.scale, 0.0)
        return Arrays({"embedding": scaled.astype(np.float32)}, present)


def fit_embedding(cohort: Cohort, ids: Sequence[str], use: EmbeddingUse) -> EmbeddingSteps | None:
    """Fit scale and age line on these rows; None if none of them has an embedding."""
    values, present = _values(cohort, ids, use.fit, use.what)
    if not present.any():
        return None
    line = np.zeros(2)
    if use.what == "age_gap":
        age = cohort.age[cohort.positions(ids)][present]
        if np.ptp(age) > 0:
            line = np.polyfit(age, values[present, 0], 1)
    seen = _without_line(values, cohort, ids, line)[present]
    spread = seen.std(axis=0)
    encoder = _fit_of(cohort, use.fit).seen
    return EmbeddingSteps(
        use.fit,
        use.what,
        line,
        seen.mean(axis=0),
        np.where(spread > _TINY, spread, np.inf),
        tuple(dict.fromkeys((*ids, *encoder))),
    )


def _without_line(values: np.ndarray, cohort: Cohort, ids: Sequence[str], line: np.ndarray) -> np.ndarray:
    if not line.any():
        return values
    return values - np.polyval(line, cohort.age[cohort.positions(ids)])[:, None]


def _fit_of(cohort: Cohort, fit: str) -> EmbeddedFit:
    found = None if cohort.embeddings is None else cohort.embeddings.of(fit)
    if found is None:
        raise InternalError(f"cohort {cohort.name!r} has no embeddings of fit {fit[:12]}")
    return found


def _values(cohort: Cohort, ids: Sequence[str], fit: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Unscaled values (n_subjects, n_columns), NaN if missing, and whether each subject has one (n_subjects,) bool."""
    made = _fit_of(cohort, fit)
    if what == "age_gap" and not made.gap:
        raise DataError(
            "no age gap is in the file of embeddings",
            remedy="Use embeddings of a network that predicts age, for a cohort whose ages are known.",
        )
    if what == "age_gap" and not np.isfinite(cohort.age).any():
        raise DataError(
            f"the age gap needs the ages of cohort {cohort.name!r}", remedy="Name their column in `age` of cohort.yaml."
        )
    there = {i for i, image in zip(cohort.ids, cohort.volumes, strict=False) if image}
    table = {i: (gap,) for i, gap in made.gap.items()} if what == "age_gap" else dict(made.embedding)
    width = len(next(iter(table.values())))
    rows = [table[i] if i in there and i in table else (np.nan,) * width for i in ids]
    values = np.array(rows, dtype=float).reshape(len(ids), width)
    if what == "age_gap":  # the line over age needs the age, which may be unknown in this cohort
        values[~np.isfinite(cohort.age[cohort.positions(ids)])] = np.nan
    return values, np.isfinite(values).all(axis=1)
