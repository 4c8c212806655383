"""Ridge for few rows and many edges: one eigendecomposition per fold for all labellings.

Label permutations share the kernel: after one decomposition of the (n, n) kernel, every permutation
and every alpha is a matrix product. Scores equal scikit-learn's `RidgeClassifierCV`
and `RidgeCV` with their closed-form leave-one-out choice of alpha (Rifkin & Lippert 2007,
MIT-CSAIL-TR-2007-025).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError, InternalError
from connectome_tl.plurals import counted

DEFAULT_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(0, 6, 13))


@dataclass(frozen=True, eq=False)
class EdgeScaler:
    """Mean and standard deviation per edge, from training rows only.

    Attributes:
        mean, scale: (n_edges,) of the training rows, ignoring NaN (masked edges).
        kept: (n_edges,) False for an edge that is constant or always masked in training; it is dropped.
        train_ids: ids of the training rows.
    """

    mean: np.ndarray
    scale: np.ndarray
    kept: np.ndarray
    train_ids: tuple[str, ...]

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scale (n_rows, n_edges) to (n_rows, n_kept); a masked edge (NaN) becomes 0, the training mean."""
        if x.ndim != 2 or x.shape[1] != self.kept.size:
            raise DataError("rows do not fit the scaler", expected=counted(self.kept.size, "edge"), got=str(x.shape))
        z = (x[:, self.kept] - self.mean[self.kept]) / self.scale[self.kept]
        return np.nan_to_num(z, copy=False, nan=0.0)


def fit_edge_scaler(x_train: np.ndarray, train_ids: Sequence[str] = ()) -> EdgeScaler:
    """Standardise each edge on the training rows, with the population standard deviation as in scikit-learn.

    Args:
        x_train: (n_train, n_edges) float, NaN where an edge is masked in a subject.
        train_ids: (n_train,) ids, stored with the scaler.

    Raises:
        DataError: no rows, an infinite value, or no edge that varies.
    """
    x_train = np.asarray(x_train, dtype=float)
    if x_train.ndim != 2 or len(x_train) < 2:
        raise DataError("a scaler needs two training rows or more", got=str(x_train.shape))
    if train_ids and len(train_ids) != len(x_train):
        raise InternalError("training ids and rows differ", expected=str(len(x_train)), got=str(len(train_ids)))
    if np.isinf(x_train).any():
        raise DataError("infinite edge weights in the training rows", remedy="Mask them (NaN) or fix the files.")
    masked = np.isnan(x_train)
    n_seen = (~masked).sum(axis=0)
    filled = np.where(masked, 0.0, x_train)
    mean = filled.sum(axis=0) / np.maximum(n_seen, 1)
    centred = np.where(masked, 0.0, x_train - mean)
    scale = np.sqrt((centred**2).sum(axis=0) / np.maximum(n_seen, 1))
    # By round-off a constant edge has a tiny standard deviation; scaling would turn it into noise.
    kept = scale > 10 * np.finfo(float).eps * np.maximum(np.abs(mean), 1e-300)
    if not kept.any():
        raise DataError("no edge varies over the training rows", got=f"{x_train.shape[1]} constant or masked edges")
    return EdgeScaler(mean, np.where(kept, scale, 1.0), kept, tuple(train_ids))


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Linear models of the same rows, one per labelling.

    Attributes:
        scaler: fitted on the same training rows.
        z_train: (n_train, n_kept) scaled training rows.
        dual: (n_train, n_labellings); the weights are `z_train.T @ dual`. 0 where a label is missing.
        intercept, alpha: (n_labellings,).
        link: "identity" for ridge (targets of a classifier are -1 and 1), "logit" for logistic.
    """

    scaler: EdgeScaler
    z_train: np.ndarray
    dual: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray
    link: str = "identity"

    @property
    def train_ids(self) -> tuple[str, ...]:
        """The training rows."""
        return self.scaler.train_ids

    def predict(self, x_test: np.ndarray) -> np.ndarray:
        """Decision values (n_test, n_labellings) of raw rows (n_test, n_edges)."""
        kernel = self.scaler.transform(np.asarray(x_test, dtype=float)) @ self.z_train.T
        return kernel @ self.dual + self.intercept

    def predict_probability(self, x_test: np.ndarray) -> np.ndarray:
        """Probability of the positive class (n_test, n_labellings), for classifiers."""
        decision = self.predict(x_test)
        if self.link == "logit":
            return 1.0 / (1.0 + np.exp(-np.clip(decision, -500, 500)))
        return probability_from_ridge(decision)

    def coefficients(self) -> np.ndarray:
        """(n_edges, n_labellings) weights on the standardised edges, 0 where an edge was dropped."""
        weights = np.zeros((self.scaler.kept.size, self.dual.shape[1]))
        weights[self.scaler.kept] = self.z_train.T @ self.dual
        return weights


def probability_from_ridge(decision: np.ndarray) -> np.ndarray:
    """Probabilities from ridge decision values; with targets -1 and 1, p = (1 + f) / 2 within [0.05, 0.95].

    Outside, exponential tails with the same value and slope keep p inside (0, 1) and strictly
    increasing, so that there are no ties and the AUC equals that of the decision values.
    """
    inner = (1.0 + decision) / 2.0
    upper = 1.0 - 0.05 * np.exp(-np.maximum(decision - 0.9, 0.0) * 10.0)
    lower = 0.05 * np.exp(np.minimum(decision + 0.9, 0.0) * 10.0)
    return np.where(decision > 0.9, upper, np.where(decision < -0.9, lower, inner))


def fit_ridge(
    x_train: np.ndarray,
    y_train: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    train_ids: Sequence[str] = (),
) -> LinearFit:
    """Ridge regression with unpenalised intercept; alpha by closed-form leave-one-out, per labelling.

    Args:
        x_train: (n_train, n_edges), NaN where an edge is masked.
        y_train: (n_train, n_labellings) or (n_train,); -1 and 1 for a classifier, values for a
            regression. Rows with NaN, a missing outcome, are excluded from that labelling. (The
            scaler uses every training row, so that all labellings share it.)
            alphas: candidate penalties, on standardised edges.
            train_ids: stored with the fit.

    Raises:
        DataError: a labelling with fewer than two observed rows; unusable edges.
    """
    y_train, scaler, z_train, kernel = prepare(x_train, y_train, alphas, train_ids)
    grid = np.asarray(alphas, dtype=float)
    dual = np.zeros_like(y_train)
    intercept, chosen = np.empty(y_train.shape[1]), np.empty(y_train.shape[1])
    for observed, columns in missing_patterns(y_train):
        y = y_train[np.ix_(observed, columns)]
        part = kernel[np.ix_(observed, observed)]
        a, chosen[columns] = solve_ridge(part, y, grid)
        dual[np.ix_(observed, columns)] = a
        intercept[columns] = y.mean(axis=0) - (part @ a).mean(axis=0)
    return LinearFit(scaler, z_train, dual, intercept, chosen)


def solve_ridge(kernel: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dual weights (n, n_labellings) and chosen alphas from the kernel (n, n) of the observed rows."""
    values, vectors = decompose(kernel)
    rotated = vectors.T @ y
    if alphas.size > 1:
        loss = np.empty((alphas.size, y.shape[1]))
        for k, alpha in enumerate(alphas):
            weight = 1.0 / (values + alpha)
            residual = vectors @ (weight[:, None] * rotated)
            loss[k] = ((residual / (vectors**2 @ weight)[:, None]) ** 2).mean(axis=0)
        chosen = alphas[loss.argmin(axis=0)]
    else:
        chosen = np.full(y.shape[1], alphas[0])
    return vectors @ (rotated / (values[:, None] + chosen)), chosen


def decompose(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n - 1,) and vectors (n, n - 1) of the centred kernel, without the constant vector."""
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    # Adding a large multiple of the constant vector (the intercept) makes it the last eigenvector.
    lifted = centred + (np.trace(centred) + 1.0) / len(kernel)
    values, vectors = np.linalg.eigh(lifted)
    return np.maximum(values[:-1], 0.0), vectors[:, :-1]


def prepare(
    x_train: np.ndarray, y_train: np.ndarray, alphas: Sequence[float], train_ids: Sequence[str]
) -> tuple[np.ndarray, EdgeScaler, np.ndarray, np.ndarray]:
    """Checked labels (n, n_labellings), the scaler, scaled rows and their kernel (n, n)."""
    y_train = np.asarray(y_train, dtype=float)
    y_train = y_train[:, None] if y_train.ndim == 1 else y_train
    if len(y_train) != len(x_train):
        raise InternalError("labels and rows differ", expected=str(len(x_train)), got=str(len(y_train)))
    if not len(alphas) or min(alphas) <= 0:
        raise DataError("penalties must be positive", got=str(tuple(alphas)))
    n_observed = (~np.isnan(y_train)).sum(axis=0)
    if (n_observed < 2).any():
        raise DataError(
            "too few training rows with a known outcome",
            expected="at least 2 in every fold",
            got=str(int(n_observed.min())),
            remedy="Use fewer folds, or leave this outcome out.",
        )
    scaler = fit_edge_scaler(x_train, train_ids)
    z_train = scaler.transform(np.asarray(x_train, dtype=float))
    return y_train, scaler, z_train, z_train @ z_train.T


def missing_patterns(y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (observed rows, columns) for each set of labellings with the same missing rows."""
    observed = ~np.isnan(y)
    if observed.all():
        yield np.arange(len(y)), np.arange(y.shape[1])
        return
    patterns, which = np.unique(observed.T, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    counts = np.bincount(which.ravel(), minlength=len(patterns))
    for pattern, columns in zip(patterns, np.split(order, counts.cumsum()[:-1])):
        yield np.flatnonzero(pattern), columns
