"""Linear probe of embeddings during adaptation.

A probe is a ridge regression on the embedding, scored on held-out rows. It does not change the network. It shows
whether adaptation helps (better prediction of the pool's age) or forgets (worse prediction of the source's outcomes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.closed_form.ridge import fit_few_columns
from connectome_tl.training.fitted_models import in_chunks

_FOLDS, _FEWEST = 5, 10
_PENALTIES = np.logspace(-2, 4, 13)
_SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0)
_SHARES_OF_IMAGES = (0.0, 1 / 2, 1.0)  # embedding all volumes takes about as long as some epochs


@dataclass(frozen=True, eq=False)
class Probed:
    """Rows on which an embedding is probed.

    Attributes:
        cohort: their cohort in words: pool or source.
        batch: their features.
        outcomes: values (n_subjects,) by name, NaN where missing. Values 0 and 1 are classes.
        families: (n_subjects,) codes; folds and penalties keep families together.
    """

    cohort: str
    batch: Batch
    outcomes: Mapping[str, np.ndarray]
    families: np.ndarray


@dataclass(eq=False)
class Watch:
    """Probes after shares of the steps of an adaptation.

    Attributes:
        probed: rows that are probed. modality: whose embedding. n_steps: number of all steps.
        scores: by step, then by name: `cohort, outcome, metric`.
    """

    probed: Sequence[Probed]
    modality: str
    n_steps: int
    scores: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def steps(self) -> dict[float, int]:
        """Probed steps by share of all steps."""
        shares = _SHARES_OF_IMAGES if self.modality == "image" else _SHARES
        return {share: round(share * self.n_steps) for share in shares}

    def look(self, model: OutcomeModel, step: int) -> bool:
        """Probe the model after a step; training goes on."""
        self.scores[step] = {
            f"{rows.cohort}, {name}, {metric}": score
            for rows in self.probed
            for (name, metric), score in probe(model, rows, self.modality).items()
        }
        return False

    @property
    def facts(self) -> dict[str, float]:
        """Scores by `probe SHARE, COHORT, OUTCOME, METRIC`."""
        return {
            f"probe {share:g}, {name}": score
            for share, step in self.steps.items()
            for name, score in self.scores[step].items()
        }


def probe(model: OutcomeModel, rows: Probed, modality: str = "connectome") -> dict[tuple[str, str], float]:
    """Score of each outcome, predicted from the embedding of one modality in 5-fold cross-validation.

    Args:
        model: in evaluation mode.

    Returns:
        By outcome and metric: R2, or AUC for classes. Outcomes known in fewer than 10 families, or a class of 5 of
        them, are omitted.
    """
    if modality not in rows.batch.modalities:
        return {}
    embedding = in_chunks(model, lambda part: model.branches[modality](part.modalities[modality]).embedding, rows.batch)
    found = {}
    for name, values in rows.outcomes.items():
        known = np.isfinite(values)
        y, groups = values[known], rows.families[known]
        binary = set(np.unique(y)) <= {0.0, 1.0}
        if len(np.unique(groups)) < _FEWEST or np.ptp(y) == 0:
            continue
        if binary and min(len(np.unique(groups[y == label])) for label in (0, 1)) < _FOLDS:
            continue
        found[name, "AUC" if binary else "R2"] = _score(embedding[known], y, groups, binary=binary)
    return found


def _score(x: np.ndarray, y: np.ndarray, families: np.ndarray, *, binary: bool) -> float:
    from sklearn.metrics import r2_score, roc_auc_score

    fold = _folds(y, families)
    read = np.empty(len(y))
    for k in range(_FOLDS):
        read[fold == k] = _ridge(x[fold != k], y[fold != k], families[fold != k], x[fold == k])
    if not binary:
        return float(r2_score(y, read))
    return float(np.mean([roc_auc_score(y[fold == k], read[fold == k]) for k in range(_FOLDS)]))


def _folds(y: np.ndarray, families: np.ndarray) -> np.ndarray:
    """(n_rows,) fold of each row; each fold covers the whole range of y."""
    _, which = np.unique(families, return_inverse=True)
    mean = np.bincount(which, y) / np.bincount(which)
    order = np.random.default_rng(0).permutation(len(mean))  # the order of ids may be related to the site
    fold = np.empty(len(mean), dtype=int)
    fold[order[np.argsort(mean[order], kind="stable")]] = np.arange(len(mean)) % _FOLDS
    return np.asarray(fold[which])


def _ridge(x: np.ndarray, y: np.ndarray, families: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions for `test` by a ridge regression on standardised columns."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale <= 1e-12 * np.abs(centre)] = 1.0  # a constant column
    slopes, intercept = fit_few_columns((x - centre) / scale, y, families, _PENALTIES)
    return np.asarray((test - centre) / scale @ slopes + intercept)
