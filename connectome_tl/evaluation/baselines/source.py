"""Ridge models of the source cohort's outcomes, for transfer baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, families_of, kinship_groups
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.gram import fit_kernel
from connectome_tl.features.steps import Features, fit_steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.closed_form.targets import one_vs_rest
from connectome_tl.training.core_stage import blocks_of
from connectome_tl.training.schemes import StudyCohorts, scored_by_source
from connectome_tl.training.stages import refuse_known


@dataclass(frozen=True, eq=False)
class SourceModels:
    """One ridge model per outcome of the source; each class of a multiclass outcome is a separate outcome.

    Attributes:
        features: steps fitted on the source: tangent space if its edges are correlations, else scaled edges.
        center: mean of the source's rows, (n_columns,). weights: (n_columns, n_outcomes). offset: (n_outcomes,).
        spread: standard deviation in the source, (n_outcomes,).
        tasks: the outcome of each model, (n_outcomes,).
        ids: ids of the source's rows.
    """

    features: Features
    in_tangent: bool
    center: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    spread: np.ndarray
    tasks: tuple[Task, ...]
    ids: tuple[str, ...]

    def rows(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Feature columns (n_subjects, n_columns) of a cohort with the same regions, by the steps of the source."""
        blocks = blocks_of(self.features, self.features if self.in_tangent else None, cohort, ids)
        (found,) = [b.values for b in blocks if b.name == ("tangent" if self.in_tangent else "edges")]
        return found - self.center

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predictions (n_subjects, n_outcomes) in the units of the source."""
        return rows @ self.weights + self.offset

    def own(self, task: Task) -> int | None:
        """Position of the same outcome in the source, or None.

        Also None for ordinal and multiclass tasks: their binary labels (above a level, one class against the rest)
        differ from the outcomes of the source.
        """
        same = [i for i, other in enumerate(self.tasks) if task.same_as(other)]
        return same[0] if same and not task.spec.by_level else None


def fit_source(study: StudySettings, source: Cohort) -> SourceModels:
    """Fit ridge models of every source outcome of the study; penalties by leave-one-family-out."""
    use = study.source
    names = use.tasks if use is not None and use.tasks is not None else tuple(task.name for task in source.tasks)
    edges = study.features.edges
    in_tangent = holds_correlations(source, source.ids) if edges.tangent is None else edges.projected is not None
    settings = study.features.in_tangent_space() if in_tangent else study.features
    features = fit_steps(source, source.ids, settings, ("connectome",))
    columns, labels = [], []
    for task in (source.task(name) for name in names):
        y = source.targets[task.name].to_numpy(float)
        made = one_vs_rest(y, task.n_levels) if task.form == "classes" else y[:, None]
        for column in made.T:
            known = column[np.isfinite(column)]
            if known.size > 1 and known.min() < known.max():
                columns.append(column)
                labels.append(task)
    y = np.array(columns).T
    blank = np.zeros(0)
    models = SourceModels(features, in_tangent, np.zeros(1), blank, blank, blank, tuple(labels), source.ids)
    raw = models.rows(source, source.ids)
    center = raw.mean(axis=0)
    rows = raw - center
    scale = max(float(np.einsum("ij,ij->", rows, rows)) / len(rows), 1e-300)
    fitted = fit_kernel(rows @ rows.T / scale, y, kinship_groups(source.family))
    weights = rows.T @ fitted.dual / scale
    spread = np.nanstd(y, axis=0)
    return SourceModels(features, in_tangent, center, weights, fitted.offset, spread, tuple(labels), source.ids)


@dataclass(eq=False)
class FromSource:
    """Rows of the target after the steps of the source, and the models of the source, fitted on first use."""

    study: StudySettings
    cohorts: StudyCohorts
    _models: SourceModels | None = None
    _rows: np.ndarray | None = None

    @property
    def there(self) -> bool:
        """Whether the source cohort has connectomes of the same regions and an outcome."""
        source = self.cohorts.source
        return "connectome" in scored_by_source(self.study, self.cohorts) and source is not None and bool(source.tasks)

    @property
    def models(self) -> SourceModels:
        """Models of the outcomes of the source cohort."""
        if self._models is None:
            assert self.cohorts.source is not None
            self._models = fit_source(self.study, self.cohorts.source)
        return self._models

    def design(self, fold: Fold) -> Design:
        """Rows after the steps of the source, which are fitted without subjects of the target.

        Raises:
            LeakageError: a subject of the test fold, or a relative, is in the source.
        """
        target, source = self.cohorts.target, self.cohorts.source
        assert source is not None
        refuse_known(source, target, fold)
        if self._rows is None:
            self._rows = self.models.rows(target, target.ids)
        train, test = (self._rows[target.positions(ids)] for ids in (fold.train, fold.test))
        families = families_of(target, fold.train)
        return Design(train, test, self.models.ids, families)
