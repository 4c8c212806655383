"""Permutation test of the value that the connectome adds to clinical covariates.

Permuting labels would test whether covariates *or* connectome predict, and covariates usually do. Here,
each edge is split into the part explained by the covariates and a residual. Residuals are permuted between
subjects, outcomes and covariates are kept, and everything is refitted.

Least-squares residuals cannot be permuted directly, as in Freedman & Lane (1983): they are orthogonal to the
covariates and therefore dependent, so that permuted residuals leak information from training to test rows. With
thousands of edges this dependence dominates. Theil's residuals (1965, doi:10.1080/01621459.1965.10480851) are
defined for all subjects but as many as there are coefficients, and are uncorrelated. They are permuted and
transformed back (Winkler et al. 2020, doi:10.1016/j.neuroimage.2020.117065), which is exact for Gaussian edges.

Every step is linear in the edges, so that all permutations of a fold share one matrix of inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import qr

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.engines.linear import DEFAULT_ALPHAS, fit_ridge, missing_patterns, solve_ridge
from connectome_tl.evaluation.permutation.tests import no_parts, statistic, statistic_parts
from connectome_tl.plurals import counted
from connectome_tl.tasks import Task

COVARIATE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-1, 3, 9))
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class ResidualEdges:
    """Edges split by the covariates over the whole cohort, for the generation of null cohorts.

    Attributes:
        explained: (n_subjects, n_edges) least-squares fit on the covariates.
        residual: (n_kept, n_edges) Theil's uncorrelated residuals of the kept subjects.
        back: (n_subjects, n_kept) orthonormal columns that transform them to ordinary residuals.
        kept: (n_kept,) positions of the subjects whose residuals are permuted.
    """

    explained: np.ndarray
    residual: np.ndarray
    back: np.ndarray
    kept: np.ndarray

    @staticmethod
    def of(x: np.ndarray, covariates: np.ndarray, alone: np.ndarray | None = None) -> ResidualEdges:
        """Split edges (n_subjects, n_edges), NaN where masked, by complete covariates (n_subjects, n_covariates).

        Args:
            alone: (n_subjects,) True for subjects without relatives, which are excluded first from the permutation.

        Raises:
            DataError: covariates with missing values, or too many covariates to leave any residual.
        """
        if not np.isfinite(covariates).all():
            raise DataError("covariates must be complete here", remedy="Impute them first, without the outcome.")
        if len(x) - covariates.shape[1] - 1 < 10:
            raise DataError(
                "too many covariates to test what the connectome adds",
                expected="at least 10 subjects more than covariates",
                got=f"{counted(len(x), 'subject')}, {counted(covariates.shape[1], 'covariate')}",
            )
        x = np.asarray(x, dtype=float)
        filled = np.where(np.isnan(x), _column_means(x), x)
        spread = covariates.std(axis=0)
        design = np.column_stack(
            [np.ones(len(x)), (covariates - covariates.mean(axis=0)) / np.where(spread, spread, 1)]
        )
        basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
        basis = basis[:, sizes > _RANK_TOLERANCE * sizes[0]]
        # The excluded subjects must span the covariates; pivoting selects the best conditioned ones.
        preference = np.where(np.ones(len(x), dtype=bool) if alone is None else alone, 1.0, 1e-3)
        order = qr((basis * preference[:, None]).T, mode="r", pivoting=True)[1]
        kept = np.sort(order[basis.shape[1] :])
        # S'MS is the identity less a matrix of few columns, so its inverse root needs only their SVD.
        left, cosine, _ = np.linalg.svd(basis[kept], full_matrices=False)
        root = np.eye(len(kept)) + left * (1.0 / np.sqrt(1.0 - cosine**2) - 1.0) @ left.T
        back = -basis @ (basis[kept].T @ root)
        back[kept] += root
        return ResidualEdges(basis @ (basis.T @ filled), back.T @ filled, back, kept)

    def permuted(self, permutation: np.ndarray) -> np.ndarray:
        """Null edges (n_subjects, n_edges): the explained part is kept, and kept subject i gets the residual of kept
        subject `permutation[i]`."""
        return self.explained + self.back @ self.residual[permutation]


@dataclass(frozen=True, eq=False)
class FoldEdges:
    """One outer fold: positions of its subjects, and edges of all subjects after steps fitted on its training rows."""

    train: np.ndarray
    test: np.ndarray
    split: ResidualEdges


def added_value_statistics(
    folds: Sequence[FoldEdges],
    covariates: np.ndarray,
    targets: np.ndarray,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
) -> np.ndarray:
    """Gain of covariates + connectome over covariates alone, for every permutation of the residuals.

    In each outer fold, the prediction is the sum of ridge regression on the covariates and ridge regression of its
    residuals on edges adjusted for the covariates. Coefficients and penalties are fitted on training rows; each
    edge is scaled by the standard deviation of its residuals, which permutations do not change.

    Args:
        folds: every outer fold, split by these covariates with the same subjects kept.
        covariates: (n_subjects, n_covariates), complete.
        targets: (n_subjects, n_tasks), NaN missing.
        permutations: (n_permutations, n_kept) of the kept subjects.

    Returns:
        (1 + n_permutations, n_tasks), the observed first: difference of the tested metrics.
    """
    every = np.vstack([np.arange(len(folds[0].split.kept)), permutations])
    base, sums = [no_parts(task, 1) for task in tasks], [no_parts(task, len(every)) for task in tasks]
    for fold in folds:
        clinical = _Clinical.of(fold.train, fold.test, covariates, targets, tasks)
        products = _Products.of(fold, clinical)
        added = np.stack([products.ridge(order, clinical.rest, np.asarray(alphas, float)) for order in every], axis=-1)
        for t, task in enumerate(tasks):
            y_train, y_test = targets[fold.train][:, [t]], targets[fold.test][:, [t]]
            own = clinical.columns[t]
            score = clinical.score_test[:, own, None]
            base[t] += statistic_parts(_scores(score, task), y_train, y_test, task)
            many_train, many_test = (np.repeat(y, len(every), axis=1) for y in (y_train, y_test))
            sums[t] += statistic_parts(_scores(score + added[:, own], task), many_train, many_test, task)
    return statistic(sums, tasks) - statistic(base, tasks)


def _scores(score: np.ndarray, task: Task) -> np.ndarray:
    """(n_test, n_scores, n_labellings) as `statistic_parts` takes it."""
    return score.transpose(1, 0, 2) if task.form == "classes" else score[:, 0]


@dataclass(frozen=True, eq=False)
class _Clinical:
    """Model of the covariates in one fold: predictions, residuals, and the matrix that adjusts edges for them.

    Attributes:
        columns: of each task among the scores. score_test: (n_test, n_scores). rest: (n_train, n_scores).
        without: (n_train + n_test, n_train + n_test) matrix that adjusts rows for the covariates, fitted on
            training rows.
    """

    columns: tuple[slice, ...]
    score_test: np.ndarray
    rest: np.ndarray
    without: np.ndarray

    @staticmethod
    def of(
        train: np.ndarray, test: np.ndarray, covariates: np.ndarray, targets: np.ndarray, tasks: Sequence[Task]
    ) -> _Clinical:
        labels = [_labels(targets[train, t], task) for t, task in enumerate(tasks)]
        ends = np.cumsum([0, *(one.shape[1] for one in labels)])
        y = np.concatenate(labels, axis=1)
        model = fit_ridge(covariates[train], y, COVARIATE_ALPHAS)
        design, other = (
            np.column_stack([np.ones(len(rows)), model.scaler.transform(covariates[rows])]) for rows in (train, test)
        )
        without = np.eye(len(train) + len(test))
        without[:, : len(train)] -= np.vstack([design, other]) @ np.linalg.pinv(design, rcond=_RANK_TOLERANCE)
        return _Clinical(
            tuple(slice(int(a), int(b)) for a, b in pairwise(ends)),
            model.predict(covariates[test]),
            y - model.predict(covariates[train]),
            without,
        )


def _labels(y: np.ndarray, task: Task) -> np.ndarray:
    """Labels (n_train, n_scores): -1 and 1 for classes (one against the rest for multiclass tasks), else values."""
    if task.form == "classes":
        return np.where(np.isnan(y)[:, None], np.nan, 2.0 * (y[:, None] == np.arange(task.n_levels)) - 1.0)
    return (2.0 * y - 1.0 if task.is_binary else y)[:, None]


@dataclass(frozen=True, eq=False)
class _Products:
    """Inner products that determine the kernel of every null cohort of a fold.

    Attributes:
        gram: inner products of the explained edges of the fold's rows and the residuals of kept subjects, concatenated.
        explained, back: coefficients that combine these to the adjusted edges of each row of the fold.
        n_train: number of training rows, which come first.
    """

    gram: np.ndarray
    explained: np.ndarray
    back: np.ndarray
    n_train: int

    @staticmethod
    def of(fold: FoldEdges, clinical: _Clinical) -> _Products:
        rows, split = np.r_[fold.train, fold.test], fold.split
        spread = np.sqrt((split.residual**2).mean(axis=0))
        varies = spread > _RANK_TOLERANCE * max(float(spread.max(initial=0.0)), 1e-300)
        both = np.vstack([split.explained[rows], split.residual])[:, varies] / spread[varies]
        return _Products(both @ both.T, clinical.without, clinical.without @ split.back[rows], len(fold.train))

    def ridge(self, order: np.ndarray, rest: np.ndarray, alphas: np.ndarray) -> np.ndarray:
        """(n_test, n_scores) contribution of the edges, if kept subject k gets the residual of `order[k]`."""
        mixed = np.hstack([self.explained, self.back[:, np.argsort(order)]])
        kernel = mixed @ self.gram @ mixed.T
        train, cross = kernel[: self.n_train, : self.n_train], kernel[self.n_train :, : self.n_train]
        added = np.empty((len(cross), rest.shape[1]))
        for observed, columns in missing_patterns(rest):
            part, y = train[np.ix_(observed, observed)], rest[np.ix_(observed, columns)]
            dual = solve_ridge(part, y, alphas)[0]
            added[:, columns] = cross[:, observed] @ dual + y.mean(axis=0) - (part @ dual).mean(axis=0)
        return added


def _column_means(x: np.ndarray) -> np.ndarray:
    known = ~np.isnan(x)
    return np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
