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
        constants: arrays common to all rows (for example, means and scales for the inverse scaling).
        present: (n_subjects,) bool, False if a subject lacks the modality; its rows are then 0.
        blocks: (n_subjects, n_columns) arrays by name that the closed-form core uses instead of `rows`; empty if it
            uses `rows`.
        shared: objects common to all rows that are not arrays (readers of volumes).
    """

    rows: Mapping[str, np.ndarray]
    present: np.ndarray
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    blocks: Mapping[str, np.ndarray] = field(default_factory=dict)
    shared: Mapping[str, object] = field(default_factory=dict)
