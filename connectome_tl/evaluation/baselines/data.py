"""Data of a study in the form that baselines use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, families_of
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.evaluation.baselines.design import Baseline, Design, VolumeFit
from connectome_tl.evaluation.baselines.source import FromSource
from connectome_tl.features.steps import Features, fit_steps
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.schemes import StudyCohorts


@dataclass(eq=False)
class BaselineData:
    """Settings, cohorts and outcomes. Edges of the last fold are cached, since several baselines use them.

    Attributes:
        fits: if it is a list, baselines on volumes append their fits.
    """

    study: StudySettings
    cohorts: StudyCohorts
    tasks: tuple[Task, ...]
    fits: list[VolumeFit] | None = None
    _last: tuple[Fold, Design] | None = None

    @cached_property
    def source(self) -> FromSource:
        """Features and models of the source cohort."""
        return FromSource(self.study, self.cohorts)

    @property
    def target(self) -> Cohort:
        """The cohort that is predicted."""
        return self.cohorts.target

    def families(self, fold: Fold) -> np.ndarray:
        """(n_train,) family codes."""
        return families_of(self.target, fold.train)

    def edges(self, fold: Fold) -> Design:
        """Upper-triangle edges of all measures after the study's feature steps, without scaling; NaN if absent."""
        if self._last is None or self._last[0] is not fold:
            features = fit_steps(self.target, fold.train, self.study.features, ("connectome",))
            train, test = (edge_rows(features, self.target, ids) for ids in (fold.train, fold.test))
            self._last = fold, Design(train, test, features.ids, self.families(fold))
        return self._last[1]


Maker = Callable[[BaselineData], list[Baseline]]


def edge_rows(features: Features, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
    """Edges (n_subjects, n_measures * n_edges) as in the model but without scaling; NaN if absent."""
    found = features.rows(cohort, ids).arrays["connectome"]
    edges = found.rows["edges"].astype(float) * found.constants["scale"] + found.constants["mean"]
    mask = found.rows["node_mask"] > 0
    rows, columns = upper_indices(edges.shape[-1])
    present = (mask[:, rows] & mask[:, columns])[:, None]
    return np.where(present, edges[:, :, rows, columns], np.nan).reshape(len(ids), -1)
