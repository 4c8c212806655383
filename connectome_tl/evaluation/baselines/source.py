"""Ridge models of the source cohort's outcomes, for transfer baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, kinship_groups
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.gram import fit_kernel
from connectome_tl.features.steps import Features, fit_steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.closed_form.targets import one_vs_rest
from connectome_tl.training.core import blocks_of
from connectome_tl.training.schemes import StudyCohorts, scored_by_source
from connectome_tl.training.stages import refuse_known


@dataclass(frozen=True, eq=False)
class SourceModels:
    """One ridge per outcome of the source; a class of an outcome without order is an outcome of its own.

    Attributes:
        features: steps fitted on the source: tangent space where its edges are correlations, else scaled edges.
        center: (n_columns,) mean of the source's rows. weights: (n_columns, n_outcomes). offset: (n_outcomes,).
        spread: (n_outcomes,) standard deviation in the source.
        names: (n_outcomes,) outcome and kind.
        ids: the source's rows.
    """

    features: Features
    in_tangent: bool
    center: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    spread: np.ndarray
    names: tuple[tuple[str, str], ...]
    ids: tuple[str, ...]

    def rows(self, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
        """Feature columns of any cohort of the same regions, by the source's steps, (n_subjects, n_columns)."""
        blocks = blocks_of(self.features, self.features if self.in_tangent else None, cohort, ids)
        (found,) = [b.values for b in blocks if b.name == ("tangent" if self.in_tangent else "edges")]
        return found - self.center

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n_subjects, n_outcomes) in the source's units."""
        return rows @ self.weights + self.offset

    def own(self, task: Task) -> int | None:
        """The outcome of the same name and kind; None where there is none.

        None for levels and classes too: the labels that are learnt there (above a level, one class against the rest)
        are other outcomes than the source's.
        """
        same = [i for i, name in enumerate(self.names) if name == (task.name, task.kind)]
        return same[0] if same and task.kind in ("binary", "regression") else None


def fit_source(study: StudySettings, source: Cohort) -> SourceModels:
    """Ridge of every source outcome that the study uses, penalties by leaving out families."""
    use = study.source
    names = use.tasks if use is not None and use.tasks is not None else tuple(task.name for task in source.tasks)
    in_tangent = study.features.edges.tangent is not None or holds_correlations(source, source.ids)
    settings = study.features.in_tangent_space() if in_tangent else study.features
    features = fit_steps(source, source.ids, settings, ("connectome",))
    columns, labels = [], []
    for task in (source.task(name) for name in names):
        y = source.targets[task.name].to_numpy(float)
        made = one_vs_rest(y, task.n_levels) if task.kind == "multiclass" else y[:, None]
        for column in made.T:
            known = column[np.isfinite(column)]
            if known.size > 1 and known.min() < known.max():
                columns.append(column)
                labels.append((task.name, task.kind))
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
    """The target's rows as the source's steps make them, and the source's models, made when first asked for."""

    study: StudySettings
    cohorts: StudyCohorts
    _models: SourceModels | None = None
    _rows: np.ndarray | None = None

    @property
    def there(self) -> bool:
        """Whether a source cohort has connectomes of the same regions, and an outcome."""
        source = self.cohorts.source
        return "connectome" in scored_by_source(self.study, self.cohorts) and source is not None and bool(source.tasks)

    @property
    def models(self) -> SourceModels:
        if self._models is None:
            assert self.cohorts.source is not None
            self._models = fit_source(self.study, self.cohorts.source)
        return self._models

    def design(self, fold: Fold) -> Design:
        """Rows by the source's steps, which have seen nobody of the target.

        Raises:
            LeakageError: a subject of the test fold, or kin, is in the source.
        """
        target, source = self.cohorts.target, self.cohorts.source
        assert source is not None
        refuse_known(source, target, fold)
        if self._rows is None:
            self._rows = self.models.rows(target, target.ids)
        train, test = (self._rows[target.positions(ids)] for ids in (fold.train, fold.test))
        families = kinship_groups(target.family[target.positions(fold.train)])
        return Design(train, test, self.models.ids, families)
