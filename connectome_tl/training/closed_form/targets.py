"""Encode outcomes of more than two classes as columns of the core, and decode them."""

from __future__ import annotations

import numpy as np


def one_vs_rest(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Class codes (n_rows,), NaN where missing, to binary columns (n_rows, n_classes)."""
    codes = np.asarray(codes, dtype=float)
    hit = (codes[:, None] == np.arange(n_classes)).astype(float)
    return np.where(np.isnan(codes)[:, None], np.nan, hit)


def class_probabilities(risks: np.ndarray) -> np.ndarray:
    """Risks of each class against the rest (n_rows, n_classes) to probabilities that sum to 1."""
    return np.asarray(risks / risks.sum(axis=1, keepdims=True))
