"""Bootstrap samples that are counts per row give the fits of samples whose drawn rows are repeated."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from connectome_tl.evaluation.baselines import kernel_ridge, linear_transfer, meta_matching
from connectome_tl.evaluation.baselines.design import Learner
from connectome_tl.evaluation.baselines.engines.gram import fit_kernel, linear_kernel, moments, sampled
from connectome_tl.evaluation.baselines.engines.learners import calibrated, risks_of
from connectome_tl.evaluation.baselines.engines.refits import kernel_refits, rows_refits
from connectome_tl.settings.baselines import LinearTransferSettings, MetaMatchingSettings
from connectome_tl.tasks import Task

N, N_TEST, N_EDGES, N_SAMPLES = 40, 9, 60, 12
MOTOR = Task(name="motor", kind="binary", column="motor")
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N + N_TEST, N_EDGES)) * RNG.uniform(0.5, 3, N_EDGES) + 2
Y = (X[:N, 0] + RNG.normal(size=N) > 2) * 1.0
Y[[3, 11]] = np.nan
FAMILIES = np.arange(N)
FAMILIES[[1, 3, 5, 6]] = FAMILIES[[0, 2, 4, 4]]
COUNTS = np.array([np.bincount(RNG.choice(np.flatnonzero(np.isfinite(Y)), N), minlength=N) for _ in range(N_SAMPLES)])


def test_a_kernel_fit_with_counts_is_that_of_repeated_rows() -> None:
    targets = np.column_stack([Y, X[:N, 1], np.where(np.arange(N) % 7, X[:N, 2], np.nan)])
    gram, cross = linear_kernel(X[:N], X[N:])
    for count in COUNTS:
        rows, repeated = np.flatnonzero(count), np.repeat(np.arange(N), count)
        ours = fit_kernel(gram[np.ix_(rows, rows)], targets[rows], FAMILIES[rows], counts=count[rows])
        theirs = fit_kernel(gram[np.ix_(repeated, repeated)], targets[repeated], FAMILIES[repeated])
        np.testing.assert_allclose(ours.scores(cross[:, rows]), theirs.scores(cross[:, repeated]), atol=1e-9)
        np.testing.assert_allclose(np.repeat(ours.left_out, count[rows], axis=0), theirs.left_out, atol=1e-9)
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-9)


def test_the_kernel_and_moments_of_a_sample_are_those_of_its_repeated_rows() -> None:
    whole = linear_kernel(X[:N], X[N:])
    for count in COUNTS:
        rows, repeated = np.flatnonzero(count), np.repeat(np.arange(N), count)
        first = np.unique(repeated, return_index=True)[1]
        gram, cross = linear_kernel(X[repeated], X[N:])
        ours = sampled(whole, rows, count[rows])
        np.testing.assert_allclose(ours[0], gram[np.ix_(first, first)], atol=1e-9)
        np.testing.assert_allclose(ours[1], cross[:, first], atol=1e-9)
        known = Y[repeated][np.isfinite(Y[repeated])]
        np.testing.assert_allclose(np.ravel(moments(Y[rows, None], count[rows])), [known.mean(), known.std()])


def source(n_outcomes: int, own: int | None = None) -> SimpleNamespace:
    weights = np.random.default_rng(n_outcomes).normal(size=(N_EDGES, n_outcomes))
    models = SimpleNamespace(
        predict=lambda rows: rows @ weights,
        own=lambda _: own,
        offset=np.ones(n_outcomes),
        spread=np.full(n_outcomes, 3),
    )
    return SimpleNamespace(models=models)


def transfer(own: int | None) -> Learner:
    given = LinearTransferSettings(), source(2, own), MOTOR
    return calibrated(partial(linear_transfer.solve, *given), refits=partial(linear_transfer.refits, *given))  # type: ignore[arg-type]


def matching(n_outcomes: int, **asked: object) -> Learner:
    given = MetaMatchingSettings.model_validate(asked), source(n_outcomes)
    return calibrated(partial(meta_matching.solve, *given), refits=partial(meta_matching.refits, *given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "learner",
    [
        transfer(None),
        transfer(1),
        matching(2),
        matching(3, variant="fine_tune"),
        matching(12, form="unit_length", largest=4),
    ],
)
def test_refits_of_learners_with_a_source_are_those_of_repeated_rows(learner: Learner) -> None:
    """Without `Learner.refits` every sample is fitted as rows."""
    assert learner.refits is not None
    ours = learner.refits(X[:N], X[N:], Y, FAMILIES, COUNTS)
    theirs = rows_refits(learner, X[:N], X[N:], Y, FAMILIES, COUNTS)
    assert ours.std() > 0.02
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_refits_of_the_best_kernel_are_those_of_repeated_rows() -> None:
    """Kernels are scaled on all training rows, in a sample as well."""

    def kernels(train: np.ndarray, test: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [kernel_ridge.correlation_kernel(train, test), kernel_ridge.radial_kernel(train, test)]

    ours = kernel_refits(kernels, X[:N], X[N:], Y, FAMILIES, COUNTS)
    for count, found in zip(COUNTS, ours, strict=True):
        rows = np.repeat(np.arange(N), count)
        fits = [(fit_kernel(g[np.ix_(rows, rows)], Y[rows, None], FAMILIES[rows]), c) for g, c in kernels(X[:N], X[N:])]
        best, cross = min(fits, key=lambda fit: fit[0].loss[0])
        scored = SimpleNamespace(test=best.scores(cross[:, rows]), left_out=best.left_out)
        np.testing.assert_allclose(found, risks_of(scored, Y[rows], FAMILIES[rows]), atol=1e-7)  # type: ignore[arg-type]
