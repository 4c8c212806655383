"""Does the connectome add to the clinical covariates? By permuting what it holds beyond them.

Permuting labels would test whether covariates *or* connectome predict, and the covariates do. Here
each edge is split into the part the covariates explain and the rest; the rest moves between subjects,
outcomes and covariates stay, and everything is refitted.

Least-squares residuals cannot simply be permuted, as Freedman & Lane (1983) do: they are orthogonal to
the covariates and so depend on each other, and moved, they tell test rows what training rows hold. With
thousands of edges that dependence drowns the rest. Theil's residuals (1965,
doi:10.1080/01621459.1965.10480851) of all subjects but as many as there are coefficients are
uncorrelated; these are permuted and turned back (Winkler et al. 2020,
doi:10.1016/j.neuroimage.2020.117065), which is exact for Gaussian edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.linear import DEFAULT_ALPHAS, fit_ridge
from connectome_tl.evaluation.permutation.tests import statistic, statistic_parts
from connectome_tl.tasks import Task

COVARIATE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-1, 3, 9))
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class ResidualEdges:
    """Edges split by the covariates over the whole cohort, to make null cohorts from.

    Attributes:
        x: (n_subjects, n_edges) the edges themselves, NaN masked.
        explained: (n_subjects, n_edges) least-squares fit on the covariates.
        residual: (n_kept, n_edges) Theil's uncorrelated residuals of the kept subjects.
        back: (n_subjects, n_kept) orthonormal columns, turns them into the usual residuals.
        kept: (n_kept,) positions of the subjects whose residuals move.
    """

    x: np.ndarray
    explained: np.ndarray
    residual: np.ndarray
    back: np.ndarray
    kept: np.ndarray

    @staticmethod
    def of(x: np.ndarray, covariates: np.ndarray, alone: np.ndarray | None = None) -> ResidualEdges:
        """Split edges (n_subjects, n_edges) by complete covariates (n_subjects, n_covariates).

        Args:
            alone: (n_subjects,) True for subjects without relatives, which are left out of the moving first.

        Raises:
            DataError: covariates with gaps, or so many that nothing is left to move.
        """
        if not np.isfinite(covariates).all():
            raise DataError("covariates must be complete here", remedy="Impute them first, without the outcome.")
        if len(x) - covariates.shape[1] - 1 < 10:
            raise DataError(
                "too many covariates to test what the connectome adds",
                expected="at least 10 subjects more than covariates",
                got=f"{len(x)} subjects, {covariates.shape[1]} covariates",
            )
        x = np.asarray(x, dtype=float)
        filled = np.where(np.isnan(x), _column_means(x), x)
        spread = covariates.std(axis=0)
        design = np.column_stack(
            [np.ones(len(x)), (covariates - covariates.mean(axis=0)) / np.where(spread, spread, 1)]
        )
        basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
        basis = basis[:, sizes > _RANK_TOLERANCE * sizes[0]]
        # The subjects left out must span the covariates; pivoting picks the most telling ones.
        preference = np.where(np.ones(len(x), dtype=bool) if alone is None else alone, 1.0, 1e-3)
        order = qr((basis * preference[:, None]).T, mode="r", pivoting=True)[1]
        kept = np.sort(order[basis.shape[1] :])
        # S'MS is the identity less a matrix of few columns, so its inverse root needs only their SVD.
        left, cosine, _ = np.linalg.svd(basis[kept], full_matrices=False)
        root = np.eye(len(kept)) + left * (1.0 / np.sqrt(1.0 - cosine**2) - 1.0) @ left.T
        back = -basis @ (basis[kept].T @ root)
        back[kept] += root
        return ResidualEdges(x, basis @ (basis.T @ filled), back.T @ filled, back, kept)

    def permuted(self, permutation: np.ndarray) -> np.ndarray:
        """Null edges (n_subjects, n_edges): what the covariates explain stays, the rest of kept subject
        `permutation[i]` goes to kept subject i."""
        return self.explained + self.back @ self.residual[permutation]


def added_value_statistics(
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    split: ResidualEdges,
    covariates: np.ndarray,
    targets: np.ndarray,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
) -> np.ndarray:
    """Gain of covariates + connectome over covariates alone, under every permutation of the rest.

    In each outer fold: ridge on the covariates; ridge of its residuals on the edges that training
    rows' covariates leave unexplained; the sum predicts. Scaling, coefficients and alphas come from
    training rows.

    Args:
        folds: (train, test) positions of every outer fold of every repeat.
        split: the edges, split by these covariates.
        covariates: (n_subjects, n_covariates), complete.
        targets: (n_subjects, n_tasks), NaN missing.
        permutations: (n_permutations, n_kept) of the kept subjects.

    Returns:
        (1 + n_permutations, n_tasks), the observed first: difference of AUC within folds, or of R2.
    """
    clinical = [_Clinical.of(train, test, covariates, targets, tasks) for train, test in folds]
    base = statistic(np.sum([_parts(c, c.score_test, targets, tasks) for c in clinical], axis=0), tasks)[0]
    found = np.empty((1 + len(permutations), len(tasks)))
    for k in range(len(found)):
        edges = split.permuted(permutations[k - 1]) if k else split.x
        parts = np.zeros((len(tasks), 2, 1))
        for c in clinical:
            train, test = c.unexplained(edges)
            model = fit_ridge(train, c.rest, alphas)
            parts += _parts(c, c.score_test + model.predict(test), targets, tasks)
        found[k] = statistic(parts, tasks)[0] - base
    return found


@dataclass(frozen=True, eq=False)
class _Clinical:
    """The covariates' model of one fold: what it predicts, what it leaves, how it explains edges."""

    train: np.ndarray
    test: np.ndarray
    design_train: np.ndarray
    design_test: np.ndarray
    score_test: np.ndarray
    rest: np.ndarray

    @staticmethod
    def of(
        train: np.ndarray, test: np.ndarray, covariates: np.ndarray, targets: np.ndarray, tasks: Sequence[Task]
    ) -> _Clinical:
        y = np.column_stack(
            [2 * targets[train, t] - 1 if task.is_binary else targets[train, t] for t, task in enumerate(tasks)]
        )
        model = fit_ridge(covariates[train], y, COVARIATE_ALPHAS)
        scaled = (model.scaler.transform(covariates[rows]) for rows in (train, test))
        design_train, design_test = (np.column_stack([np.ones(len(z)), z]) for z in scaled)
        score_train, score_test = model.predict(covariates[train]), model.predict(covariates[test])
        return _Clinical(train, test, design_train, design_test, score_test, y - score_train)

    def unexplained(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training and test edges without what the covariates explain in training; masked ones are 0."""
        train, test = edges[self.train], edges[self.test]
        mean = _column_means(train)
        train, test = (np.where(np.isnan(rows), mean, rows) for rows in (train, test))
        weights = np.linalg.lstsq(self.design_train, train, rcond=None)[0]
        return train - self.design_train @ weights, test - self.design_test @ weights


def _column_means(x: np.ndarray) -> np.ndarray:
    known = ~np.isnan(x)
    return np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _parts(c: _Clinical, score: np.ndarray, targets: np.ndarray, tasks: Sequence[Task]) -> np.ndarray:
    """(n_tasks, 2, 1) of this fold."""
    train, test = targets[c.train], targets[c.test]
    return np.array([statistic_parts(score[:, [t]], train[:, [t]], test[:, [t]], task) for t, task in enumerate(tasks)])
