"""What every finished fit offers, and the check that a cohort has a fit's regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.plurals import counted
from connectome_tl.tasks import Task


class FittedModel(Protocol):
    """What every finished fit offers.

    Attributes:
        tasks: outcomes in the order of the columns.
        regions: names of the regions it was fitted on, in order; empty without connectomes.
    """

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    @property
    def regions(self) -> tuple[str, ...]: ...

    def predict(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """(n_subjects, n_columns): probabilities, or values in the outcome's unit."""
        ...

    def embed(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """(n_subjects, width) what the model makes of a subject before its heads."""
        ...


def check_regions(model: FittedModel, cohort: Cohort) -> None:
    """Refuse a cohort whose regions are not those of the model, in its order.

    Raises:
        DataError: other regions, or another order.
    """
    if model.regions and model.regions != cohort.regions:
        raise DataError(
            f"cohort {cohort.name!r} has other regions than the model, or another order",
            expected=f"{counted(len(model.regions), 'region')}: {', '.join(model.regions[:3])} ...",
            got=f"{cohort.n_regions}: {', '.join(cohort.regions[:3])} ...",
            remedy="Align its regions with `with_regions`.",
        )
