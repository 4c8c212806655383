"""Kernel ridge, linear transfer and meta-matching equal scikit-learn or a reference implementation with refits."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer, StandardScaler

from connectome_tl.evaluation.baselines import kernel_ridge, linear_transfer, meta_matching
from connectome_tl.evaluation.baselines.design import Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import fit_kernel
from connectome_tl.evaluation.baselines.engines.learners import RIDGE, predict_baseline
from connectome_tl.settings.baselines import KernelRidgeSettings, LinearTransferSettings, MetaMatchingSettings
from connectome_tl.settings.core import PENALTIES
from connectome_tl.tasks import Task

MOTOR = Task(name="motor", kind="binary", column="motor")
SCORE = Task(name="score", kind="regression", column="score")
N, N_TEST, N_EDGES = 26, 7, 60


def made(seed: int = 0, n_edges: int = N_EDGES) -> tuple[Design, np.ndarray]:
    """Rows with three pairs of twins, and two labellings, one of them 0 and 1 with a missing label."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N + N_TEST, n_edges)) * rng.uniform(0.5, 3, n_edges) + rng.normal(size=n_edges)
    y = np.column_stack([x[:N, :4].sum(axis=1) + rng.normal(size=N), (x[:N, 0] + rng.normal(size=N) > x[:N, 0].mean())])
    y[3, 1] = np.nan
    families = np.arange(N)
    families[[1, 3, 5]] = families[[0, 2, 4]]
    return Design(x[:N], x[N:], tuple("train"), families), y


def centred_ridge(gram: np.ndarray, y: np.ndarray, cross: np.ndarray, penalty: float) -> np.ndarray:
    """Predictions with an unpenalised intercept: scikit-learn's ridge of the centred kernel and labels."""
    center = KernelCenterer().fit(gram)
    model = KernelRidge(alpha=penalty, kernel="precomputed").fit(center.transform(gram), y - y.mean())
    return np.asarray(model.predict(center.transform(cross)) + y.mean())


def by_refits(
    gram: np.ndarray, cross: np.ndarray, y: np.ndarray, families: np.ndarray, penalties: tuple[float, ...] = PENALTIES
) -> tuple[float, np.ndarray]:
    """The smallest left-out squared error over penalties, with a refit for every family, and the test scores."""
    best = (np.inf, np.zeros(0))
    for penalty in penalties:
        error = 0.0
        for family in np.unique(families):
            out = families == family
            predicted = centred_ridge(gram[np.ix_(~out, ~out)], y[~out], gram[np.ix_(out, ~out)], penalty)
            error += float(((predicted - y[out]) ** 2).sum())
        if error < best[0] * (1 - 1e-9):
            best = error, centred_ridge(gram, y, cross, penalty)
    return best


def scaled(gram: np.ndarray, cross: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_eigenvalue = np.trace(KernelCenterer().fit_transform(gram)) / len(gram)
    return gram / mean_eigenvalue, cross / mean_eigenvalue


def reference_kernels(design: Design) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    both = np.corrcoef(np.vstack([design.train, design.test]))
    scaler = StandardScaler().fit(design.train)
    rows, others = scaler.transform(design.train), scaler.transform(design.test)
    distances = ((rows[:, None] - rows) ** 2).sum(axis=2)[~np.eye(len(rows), dtype=bool)]
    gamma = 1 / np.median(distances)
    n = len(design.train)
    return {
        "correlation": scaled(both[:n, :n], both[n:, :n]),
        "rbf": scaled(rbf_kernel(rows, gamma=gamma), rbf_kernel(others, rows, gamma=gamma)),
    }


@pytest.mark.parametrize("kernels", [("correlation",), ("rbf",), ("correlation", "rbf")])
def test_kernel_ridge_is_scikit_learn_s_with_every_family_left_out_by_a_refit(kernels: tuple[str, ...]) -> None:
    design, y = made()
    settings = KernelRidgeSettings.model_validate({"kernels": kernels})
    found = kernel_ridge.solve(settings, design, y)
    reference = reference_kernels(design)
    for column in range(2):
        seen = np.isfinite(y[:, column])
        fits = [
            by_refits(gram[np.ix_(seen, seen)], cross[:, seen], y[seen, column], design.families[seen])
            for gram, cross in (reference[name] for name in kernels)
        ]
        want = min(fits, key=lambda fit: fit[0])[1]
        np.testing.assert_allclose(found.test[:, column], want, rtol=1e-6, atol=1e-8)


def test_left_out_scores_are_those_of_refits_around_the_mean_of_all() -> None:
    design, y = made()
    gram, _ = reference_kernels(design)["rbf"]
    fitted = fit_kernel(gram, y[:, [0]], design.families, (0.5,))
    for family in np.unique(design.families):
        out = design.families == family
        want = centred_ridge(gram[np.ix_(~out, ~out)], y[~out, 0], gram[np.ix_(out, ~out)], 0.5)
        moved = y[:, 0].mean() - y[~out, 0].mean()
        np.testing.assert_allclose(fitted.left_out[out, 0], want + moved, rtol=1e-7)


def test_absent_edges_are_the_mean_of_training_in_both_kernels() -> None:
    design, y = made()
    gaps = design.train.copy()
    gaps[2, 5] = np.nan
    filled = gaps.copy()
    filled[2, 5] = np.nanmean(gaps[:, 5])
    want = kernel_ridge.correlation_kernel(filled, design.test)
    for one, other in zip(kernel_ridge.correlation_kernel(gaps, design.test), want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert np.isfinite(
        kernel_ridge.solve(KernelRidgeSettings(), Design(gaps, design.test, (), design.families), y).test
    ).all()


def source_of(weights: np.ndarray, own: int | None = None, spread: float = 1.0) -> SimpleNamespace:
    """Models of a source whose weights are given."""
    models = SimpleNamespace(
        predict=lambda rows: rows @ weights, own=lambda _: own, offset=np.zeros(weights.shape[1]), spread=spread
    )
    return SimpleNamespace(models=models)


def towards(rows: np.ndarray, y: np.ndarray, others: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Minimise |y - b - x w|^2 + penalty |w - weights|^2 by least squares with rows added for the penalty."""
    n_columns = rows.shape[1]
    design = np.block(
        [[np.ones((len(rows), 1)), rows], [np.zeros((n_columns, 1)), np.sqrt(penalty) * np.eye(n_columns)]]
    )
    solution = np.linalg.lstsq(design, np.concatenate([y, np.sqrt(penalty) * weights]), rcond=None)[0]
    return np.asarray(solution[0] + others @ solution[1:])


def test_linear_transfer_minimises_the_distance_to_the_source_s_weights() -> None:
    design, y = made(3, n_edges=12)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(12, 2))
    settings = LinearTransferSettings(pulls=(0.0, 0.5, 1.0))
    size = ((design.train - design.train.mean(axis=0)) ** 2).sum() / N
    found = linear_transfer.solve(settings, source_of(weights, own=1), SCORE, design, y[:, [0]])  # type: ignore[arg-type]
    best = (np.inf, np.zeros(0))
    for pull in settings.pulls:
        for penalty in PENALTIES:
            error = 0.0
            fit = partial(towards, weights=pull * weights[:, 1], penalty=penalty * size)
            for family in np.unique(design.families):
                out = design.families == family
                left = fit(design.train[~out], y[~out, 0], design.train[out])
                error += float(((left - y[out, 0]) ** 2).sum())
            if error < best[0]:
                best = error, fit(design.train, y[:, 0], design.test)
    np.testing.assert_allclose(found.test[:, 0], best[1], rtol=1e-6)


def test_a_related_source_is_followed_and_an_unrelated_one_is_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200) / 14
    gains = {"own": [], "other sign": [], "noise": []}  # type: dict[str, list[float]]
    for _ in range(12):
        x = rng.normal(size=(230, 200))
        y = x @ truth + 0.5 * rng.normal(size=230)
        design = Design(x[:30], x[30:], (), np.arange(30))
        own = Ridge(alpha=10.0).fit(x[:30], y[:30]).predict(x[30:])
        base = np.mean((own - y[30:]) ** 2)
        sources = {
            "own": source_of(truth[:, None], own=0),
            "other sign": source_of(-7.0 * truth[:, None]),
            "noise": source_of(rng.normal(size=(200, 3)) / 14),
        }
        for name, source in sources.items():
            found = linear_transfer.solve(LinearTransferSettings(), source, SCORE, design, y[:30, None])  # type: ignore[arg-type]
            gains[name].append(1 - np.mean((found.test[:, 0] - y[30:]) ** 2) / base)
    assert np.mean(gains["own"]) > 0.5
    assert np.mean(gains["other sign"]) > 0.4
    assert abs(np.mean(gains["noise"])) < 0.15


def test_unit_length_stacking_is_the_published_recipe_on_the_best_outcomes() -> None:
    rng = np.random.default_rng(5)
    predicted, others = rng.normal(size=(N, 12)), rng.normal(size=(9, 12))
    y = predicted[:, 3] - predicted[:, 7] + 0.5 * rng.normal(size=N)
    settings = MetaMatchingSettings(form="unit_length", largest=4)
    found = meta_matching.stacked(settings, predicted, others, y[:, None], np.arange(N))
    z = (y - y.mean()) / y.std()
    explained = [max(r2_score(z, predicted[:, k]), r2_score(z, -predicted[:, k])) for k in range(12)]
    kept = sorted(np.argsort(explained)[::-1][:4])
    rows, tested = (part[:, kept] - part[:, kept].mean(axis=1, keepdims=True) for part in (predicted, others))
    rows, tested = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, tested))
    want = by_refits(rows @ rows.T, tested @ rows.T, y, np.arange(N), settings.penalties)[1]
    np.testing.assert_allclose(found.test[:, 0], want, rtol=1e-7)


def test_few_outcomes_are_stacked_standardised() -> None:
    rng = np.random.default_rng(6)
    predicted, others = rng.normal(size=(N, 3)) * [1, 10, 100], rng.normal(size=(9, 3)) * [1, 10, 100]
    y = predicted @ [1, 0.1, 0] + 0.3 * rng.normal(size=N)
    found = meta_matching.stacked(MetaMatchingSettings(), predicted, others, y[:, None], np.arange(N))
    scaler = StandardScaler().fit(predicted)
    rows, tested = scaler.transform(predicted), scaler.transform(others)
    want = by_refits(*scaled(rows @ rows.T, tested @ rows.T), y, np.arange(N))[1]
    np.testing.assert_allclose(found.test[:, 0], want, rtol=1e-6)


def test_fine_tuning_learns_what_the_stack_leaves() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(260, 20))
    weights = rng.normal(size=(20, 2))
    y = x @ weights[:, 0] + 2 * x[:, 0] + 0.1 * rng.normal(size=260)
    design = Design(x[:60], x[60:], (), np.arange(60))
    errors = {}
    for variant in ("stacking", "fine_tune"):
        settings = MetaMatchingSettings.model_validate({"variant": variant})
        found: Scored = meta_matching.solve(settings, source_of(weights), design, y[:60, None])  # type: ignore[arg-type]
        errors[variant] = float(np.mean((found.test[:, 0] - y[60:]) ** 2))
    assert errors["fine_tune"] < 0.2 * errors["stacking"]


def test_columns_without_any_value_are_no_ground_to_learn_from_and_no_warning() -> None:
    """Warnings are errors here; NumPy has one for the mean of nothing."""
    empty = np.full((12, 2), np.nan)
    y = np.arange(12.0)
    design = Design(empty[:8], empty[8:], tuple("abcdefgh"))
    np.testing.assert_array_equal(predict_baseline(SCORE, design, y[:8], RIDGE)[:, 0], y[:8].mean())
