"""L2-penalised logistic regression for few rows, by Newton's method in the row space.

The penalised solution is in the span of the rows, so that n coordinates suffice. The Hessians of all
labellings are computed by one matrix product. Scores equal scikit-learn's
`LogisticRegression(C=1 / alpha)`. Alpha is chosen by approximate leave-one-out log-loss (Rad &
Maleki 2020, doi:10.1111/rssb.12374), per labelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.engines.linear import (
    DEFAULT_ALPHAS,
    LinearFit,
    decompose,
    missing_patterns,
    prepare,
)

_CHUNK_BYTES = 2**26
_MAX_STEPS = 60
_TOLERANCE = 1e-5  # of a decision value; the error after a Newton step is about the square of the step


def fit_logistic(
    x_train: np.ndarray,
    y_train: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    train_ids: Sequence[str] = (),
    counts: np.ndarray | None = None,
) -> LinearFit:
    """Fit logistic regression with unpenalised intercept and penalty alpha / 2 * |w|^2 on standardised edges.

    Args:
        x_train: (n_train, n_edges), NaN where an edge is masked.
        y_train: (n_train, n_labellings) or (n_train,) of 0, 1 and NaN (missing, left out).
        alphas: candidate penalties; a single one is used without selection.
        train_ids: stored with the fit.
        counts: (n_labellings, n_train) multiplicity of each row in each labelling, 1 by default. All copies of a
            row are left out together when the penalty is chosen.

    Raises:
        DataError: labels other than 0, 1, NaN; a labelling with fewer than two observed rows.
    """
    y_train, scaler, z_train, kernel = prepare(x_train, y_train, alphas, train_ids)
    if not np.isin(y_train[~np.isnan(y_train)], (0.0, 1.0)).all():
        raise DataError("logistic regression needs 0 and 1", remedy="Give the outcome a cut-off.")
    dual = np.zeros_like(y_train)
    intercept, chosen = np.empty(y_train.shape[1]), np.empty(y_train.shape[1])
    for observed, columns in missing_patterns(y_train):
        part = kernel[np.ix_(observed, observed)]
        values, vectors = decompose(part)
        real = values > values.max(initial=0.0) * 1e-12
        root = np.sqrt(values[real])
        rows = _Rows.of(vectors[:, real] * root)
        step = max(1, _CHUNK_BYTES // (8 * rows.design.shape[1] ** 2))
        for start in range(0, columns.size, step):
            some = columns[start : start + step]
            labels = y_train[np.ix_(observed, some)].T
            weight = np.ones_like(labels) if counts is None else counts[np.ix_(some, observed)].astype(float)
            theta, chosen[some] = _choose(rows, labels, weight, np.asarray(alphas, float))
            # beta is in coordinates Q sqrt(v); the dual weights a solve K a = Q sqrt(v) beta.
            a = vectors[:, real] @ (theta[:, 1:] / root).T
            dual[np.ix_(observed, some)] = a
            intercept[some] = theta[:, 0] - (part @ a).mean(axis=0)
    return LinearFit(scaler, z_train, dual, intercept, chosen, link="logit")


@dataclass(frozen=True, eq=False)
class _Rows:
    """Design (n, q) with the intercept first, and the outer products of its rows (n, q * q)."""

    design: np.ndarray
    outer: np.ndarray

    @staticmethod
    def of(coordinates: np.ndarray) -> _Rows:
        design = np.column_stack([np.ones(len(coordinates)), coordinates])
        return _Rows(design, np.einsum("ni,nj->nij", design, design).reshape(len(design), -1))

    def hessians(self, probability: np.ndarray, weight: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """(n_labellings, q, q) for probabilities and weights (n_labellings, n) and penalties (n_labellings,)."""
        q = self.design.shape[1]
        hessian = ((weight * probability * (1.0 - probability)) @ self.outer).reshape(-1, q, q)
        diagonal = np.arange(1, q)
        hessian[:, diagonal, diagonal] += alpha[:, None]
        hessian[:, 0, 0] += 1e-12
        return hessian


def _choose(rows: _Rows, y: np.ndarray, weight: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (n_labellings, q) and the chosen alphas; labels and weights (n_labellings, n)."""
    n_labellings = len(y)
    theta = np.zeros((n_labellings, rows.design.shape[1]))
    theta[:, 0] = _base_logit(y, weight)
    if alphas.size == 1:
        alpha = np.full(n_labellings, alphas[0])
        return _newton(rows, y, weight, theta, alpha), alpha
    best = np.full(n_labellings, np.inf)
    best_theta, best_alpha = theta.copy(), np.full(n_labellings, alphas.max())
    for value in np.sort(alphas)[::-1]:  # from the largest, so that each start is close to the solution
        alpha = np.full(n_labellings, value)
        theta = _newton(rows, y, weight, theta, alpha)
        loss = _leave_one_out_loss(rows, y, weight, theta, alpha)
        better = loss < best
        best[better], best_theta[better], best_alpha[better] = loss[better], theta[better], value
    return best_theta, best_alpha


def _base_logit(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    share = ((weight * y).sum(axis=1) + 0.5) / (weight.sum(axis=1) + 1.0)
    return np.log(share / (1.0 - share))


def _newton(rows: _Rows, y: np.ndarray, weight: np.ndarray, start: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Damped Newton iterations until every step, in decision values, is below the tolerance.

    A labelling with a single class keeps its start: zero weights and the shrunken base rate.
    """
    theta = start.copy()
    both = ((weight * y).sum(axis=1) > 0) & ((weight * (1 - y)).sum(axis=1) > 0)
    theta[~both, 1:] = 0.0
    active = np.flatnonzero(both)
    for _ in range(_MAX_STEPS):
        if not active.size:
            break
        now, labels, w, penalty = theta[active], y[active], weight[active], alpha[active]
        decision = now @ rows.design.T
        probability = _sigmoid(decision)
        gradient = (w * (probability - labels)) @ rows.design
        gradient[:, 1:] += penalty[:, None] * now[:, 1:]
        move = np.linalg.solve(rows.hessians(probability, w, penalty), gradient[:, :, None])[:, :, 0]
        change = move @ rows.design.T
        size = _step_size(decision, change, now, move, labels, w, penalty)
        theta[active] = now - size[:, None] * move
        active = active[np.abs(change).max(axis=1) > _TOLERANCE]
    return theta


def _step_size(
    decision: np.ndarray,
    change: np.ndarray,
    now: np.ndarray,
    move: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    alpha: np.ndarray,
) -> np.ndarray:
    """Step sizes (n_labellings,), halved until the objective does not increase, up to round-off."""
    size = np.ones(len(y))
    before = _objective(decision, now, y, weight, alpha)
    for _ in range(20):
        after = _objective(decision - size[:, None] * change, now - size[:, None] * move, y, weight, alpha)
        worse = after > before + 1e-9 * np.abs(before)
        if not worse.any():
            break
        size[worse] /= 2.0
    return size


def _objective(
    decision: np.ndarray, theta: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
    penalty = 0.5 * alpha * (theta[:, 1:] ** 2).sum(axis=1)
    return (weight * (np.logaddexp(0.0, decision) - y * decision)).sum(axis=1) + penalty


def _leave_one_out_loss(
    rows: _Rows, y: np.ndarray, weight: np.ndarray, theta: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
    """Mean log-loss (n_labellings,) of the one-step decision values without the row (all its copies)."""
    decision = theta @ rows.design.T
    probability = _sigmoid(decision)
    inverse = np.linalg.inv(rows.hessians(probability, weight, alpha))
    leverage = np.einsum("lij,nij->ln", inverse, rows.outer.reshape(-1, *inverse.shape[1:]), optimize=True)
    curvature = weight * probability * (1.0 - probability)
    left_out = decision + leverage * weight * (probability - y) / np.maximum(1.0 - curvature * leverage, 1e-6)
    loss = weight * (np.logaddexp(0.0, left_out) - y * left_out)
    return loss.sum(axis=1) / weight.sum(axis=1)


def _sigmoid(decision: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(decision, -500, 500)))
