"""Linear probe of embeddings before and after adaptation.

A probe is a ridge regression on the embedding, scored on held-out rows. It does not change the network. It shows
whether adaptation helps (better prediction of the pool's age) or forgets (worse prediction of the source's outcomes).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel

_FOLDS, _FEWEST = 5, 10
_PENALTIES = np.logspace(-2, 4, 13)


def probe(
    model: OutcomeModel, batch: Batch, outcomes: Mapping[str, np.ndarray], modality: str = "connectome"
) -> dict[tuple[str, str], float]:
    """Score of each outcome, predicted from the embedding of one modality in 5-fold cross-validation.

    Args:
        outcomes: values (n_subjects,) by name, NaN where missing. Values 0 and 1 are classes.

    Returns:
        By outcome and metric: R2, or AUC for classes. Outcomes with fewer than 10 known rows, or 5 of a class,
        are omitted.
    """
    if modality not in batch.modalities:
        return {}
    embedding = _embedding(model, batch, modality)
    found = {}
    for name, values in outcomes.items():
        known = np.isfinite(values)
        y = values[known]
        binary = set(np.unique(y)) <= {0.0, 1.0}
        if len(y) < _FEWEST or np.ptp(y) == 0 or (binary and min(y.sum(), (1 - y).sum()) < _FOLDS):
            continue
        found[name, "AUC" if binary else "R2"] = _score(embedding[known], y, binary=binary)
    return found


def _embedding(model: OutcomeModel, batch: Batch, modality: str) -> np.ndarray:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        parts = [
            model.branches[modality](batch.rows(index).modalities[modality]).embedding
            for index in torch.arange(len(batch)).split(8 if modality == "image" else 256)
        ]
    model.train(was_training)
    return torch.cat(parts).double().numpy()


def _score(x: np.ndarray, y: np.ndarray, *, binary: bool) -> float:
    from sklearn.metrics import r2_score, roc_auc_score

    order = np.random.default_rng(0).permutation(len(y))  # the order of ids may be related to the site
    fold = np.empty(len(y), dtype=int)
    fold[order[np.argsort(y[order], kind="stable")]] = np.arange(len(y)) % _FOLDS  # each fold covers the whole range
    read = np.empty(len(y))
    for k in range(_FOLDS):
        read[fold == k] = _ridge(x[fold != k], y[fold != k], x[fold == k])
    if not binary:
        return float(r2_score(y, read))
    return float(np.mean([roc_auc_score(y[fold == k], read[fold == k]) for k in range(_FOLDS)]))


def _ridge(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions for `test` by a ridge regression on standardised columns, its penalty chosen by leaving one row out.

    From one decomposition, as scikit-learn's `RidgeCV` after a `StandardScaler`, without their checks of the input.
    """
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale <= 1e-12 * np.abs(centre)] = 1.0  # a constant column
    left, size, right = np.linalg.svd((x - centre) / scale, full_matrices=False)
    target = y - y.mean()
    along = left.T @ target
    kept = size[:, None] ** 2 / (size[:, None] ** 2 + _PENALTIES)
    leverage = left**2 @ kept + 1 / len(y)
    error = (target[:, None] - left @ (along[:, None] * kept)) / (1 - leverage)
    penalty = _PENALTIES[np.argmin((error**2).mean(axis=0))]
    weights = right.T @ (along * size / (size**2 + penalty))
    return np.asarray(y.mean() + (test - centre) / scale @ weights)
