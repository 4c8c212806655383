"""Interface of all finished fits, and the check that a cohort has the regions of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.plurals import counted
from connectome_tl.tasks import Task


class FittedModel(Protocol):
    """Interface of all finished fits.

    Attributes:
        tasks: outcomes in the order of the columns.
        regions: names of the regions of the fit, in order; empty without connectomes.
    """

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    @property
    def regions(self) -> tuple[str, ...]: ...

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Probabilities, or values in the outcome's unit, (n_subjects, n_columns)."""
        ...

    def embed(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Embeddings before the heads, (n_subjects, width)."""
        ...


def check_regions(model: FittedModel, cohort: Cohort) -> None:
    """Check that a cohort has the regions of the model, in its order.

    Raises:
        DataError: regions or their order differ.
    """
    if model.regions and model.regions != cohort.regions:
        raise DataError(
            f"cohort {cohort.name!r} has other regions than the model, or another order",
            expected=f"{counted(len(model.regions), 'region')}: {', '.join(model.regions[:3])} ...",
            got=f"{cohort.n_regions}: {', '.join(cohort.regions[:3])} ...",
            remedy="Align its regions with `with_regions`.",
        )
