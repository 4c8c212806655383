"""Feature arrays before their conversion to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Arrays:
    """One modality of some subjects.

    Attributes:
        rows: arrays with one row per subject.
        constants: arrays that all rows share (means and scales that undo the scaling, say).
        present: (n_subjects,) bool, False where a subject lacks the modality; its rows are then 0.
        blocks: (n_subjects, n_columns) arrays by name that the closed-form core takes in place of `rows`; empty where
            it takes these.
        shared: what all rows share and is no array (where volumes are read from).
    """

    rows: Mapping[str, np.ndarray]
    present: np.ndarray
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    blocks: Mapping[str, np.ndarray] = field(default_factory=dict)
    shared: Mapping[str, object] = field(default_factory=dict)
