"""CPM, elastic net, components and support vectors equal scikit-learn or a reference, on the same inner folds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from connectome_tl.evaluation.baselines import cpm, elastic_net, linear_svm, pca_logistic
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.inner_folds import inner_parts
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.settings.baselines import CpmSettings, ElasticNetSettings, LinearSvmSettings, PcaLogisticSettings

N, N_TEST, N_EDGES = 40, 9, 70


def made(seed: int = 0) -> tuple[Design, np.ndarray, np.ndarray]:
    """Rows with twins, a score and a 0/1 label that depend on the first edges."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N + N_TEST, N_EDGES)) * rng.uniform(0.5, 3, N_EDGES) + rng.normal(size=N_EDGES)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    score = z[:, 0] + z[:, 1] - z[:, 2] + rng.normal(size=len(x))
    families = np.arange(N)
    families[[1, 3, 5]] = families[[0, 2, 4]]
    return Design(x[:N], x[N:], tuple("train"), families), score[:N], (score[:N] > 0).astype(float)


def plain_cpm(x: np.ndarray, y: np.ndarray, others: np.ndarray, threshold: float, network: str) -> np.ndarray:
    """Shen's protocol, edge by edge."""
    positive, negative = [], []
    for edge in range(x.shape[1]):
        r, p = pearsonr(x[:, edge], y)
        if p < threshold:
            (positive if r > 0 else negative).append(edge)
    chosen = {"both": (positive, negative), "positive": (positive,), "negative": (negative,)}[network]
    strengths = [np.column_stack([rows[:, edges].sum(axis=1) for edges in chosen]) for rows in (x, others)]
    return np.asarray(LinearRegression().fit(strengths[0], y).predict(strengths[1]))


@pytest.mark.parametrize("network", ["both", "positive", "negative"])
@pytest.mark.parametrize("threshold", [0.01, 0.2, 1e-9])
def test_cpm_is_the_protocol_edge_by_edge(threshold: float, network: Literal["both", "positive", "negative"]) -> None:
    design, score, label = made()
    y = np.column_stack([score, label, score[::-1]])
    y[7, 2] = np.nan
    found = cpm.solve(CpmSettings(threshold=threshold, network=network), design, y)
    for column in range(3):
        seen = np.isfinite(y[:, column])
        want = plain_cpm(design.train[seen], y[seen, column], design.test, threshold, network)
        np.testing.assert_allclose(found.test[:, column], want, rtol=1e-8, atol=1e-9)
    if threshold == 1e-9:
        np.testing.assert_allclose(found.test[:, 0], score.mean())  # no edge passes


def test_left_out_scores_of_cpm_are_of_models_that_did_not_see_the_family() -> None:
    design, score, _ = made()
    parts = inner_parts(design.families)
    assert all(len(set(parts[design.families == family])) == 1 for family in design.families)
    found = cpm.solve(CpmSettings(threshold=0.05), design, score[:, None])
    for part in range(5):
        out = parts == part
        want = plain_cpm(design.train[~out], score[~out], design.train[out], 0.05, "both")
        np.testing.assert_allclose(found.left_out[out, 0], want, rtol=1e-8)


def test_risks_keep_the_order_of_scores_and_the_base_rate() -> None:
    design, _, label = made()
    settings = CpmSettings(threshold=0.05)
    learner = calibrated(lambda given, y: cpm.solve(settings, given, y))
    risks = learner.predict(design, label, True)
    scores = cpm.solve(settings, design, label[:, None]).test[:, 0]
    np.testing.assert_array_equal(np.argsort(risks), np.argsort(scores))
    assert ((risks > 0) & (risks < 1)).all()


def test_every_setting_of_the_elastic_net_is_scikit_learn_s_and_the_least_error_is_taken() -> None:
    design, score, _ = made()
    settings = ElasticNetSettings(l1_ratios=(0.2, 0.9), n_penalties=4, smallest=0.05)

    def references(x: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(x)
        z, tested = scaler.transform(x), scaler.transform(others)
        found = []
        for ratio in settings.l1_ratios:
            largest = np.abs(z.T @ (y - y.mean())).max() / len(y) / ratio
            for share in np.geomspace(1, 0.05, 4):
                model = ElasticNet(alpha=share * largest, l1_ratio=ratio, tol=1e-8, max_iter=100_000).fit(z, y)
                found.append(model.predict(tested))
        return np.array(found)

    found = elastic_net.fit_predict(settings, design.train, score[:, None], design.test)
    np.testing.assert_allclose(found[:, :, 0], references(design.train, score, design.test), atol=5e-3)
    parts, errors = inner_parts(design.families), np.zeros(8)
    for part in range(5):
        out = parts == part
        errors += ((references(design.train[~out], score[~out], design.train[out]) - score[out]) ** 2).sum(axis=1)
    want = references(design.train, score, design.test)[errors.argmin()]
    np.testing.assert_allclose(elastic_net.solve(settings, design, score[:, None]).test[:, 0], want, atol=5e-3)


def test_components_are_a_pipeline_of_scikit_learn_and_their_number_has_the_least_log_loss() -> None:
    design, _, label = made()
    settings = PcaLogisticSettings(components=(2, 6, 15))

    def references(x: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
        found = []
        for n in settings.components:
            model = make_pipeline(StandardScaler(), PCA(n, whiten=True, svd_solver="full"), LogisticRegression())
            found.append(model.fit(x, y).decision_function(others))
        return np.array(found)

    parts, left = inner_parts(design.families), np.zeros((3, N))
    for part in range(5):
        out = parts == part
        left[:, out] = references(design.train[~out], label[~out], design.train[out])
    losses = [log_loss(label, 1 / (1 + np.exp(-scores))) for scores in left]
    want = references(design.train, label, design.test)[int(np.argmin(losses))]
    found = pca_logistic.solve(settings, design, label[:, None])
    np.testing.assert_allclose(found.test[:, 0], want, atol=1e-3)
    np.testing.assert_allclose(found.left_out[:, 0], left[int(np.argmin(losses))], atol=1e-3)


def test_support_vectors_are_scikit_learn_s_and_the_cost_has_the_best_ranking() -> None:
    design, score, label = made(2)
    settings = LinearSvmSettings(costs=(0.01, 1.0, 100.0))

    def references(x: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(x)
        rows, tested = scaler.transform(x) / np.sqrt(x.shape[1]), scaler.transform(others) / np.sqrt(x.shape[1])
        if set(y) <= {0.0, 1.0}:
            return np.array([SVC(C=c, kernel="linear").fit(rows, y).decision_function(tested) for c in settings.costs])
        z = (y - y.mean()) / y.std()
        fits = [SVR(C=c, kernel="linear").fit(rows, z).predict(tested) for c in settings.costs]
        return y.mean() + y.std() * np.array(fits)

    parts, left = inner_parts(design.families), np.zeros((3, N))
    for part in range(5):
        out = parts == part
        left[:, out] = references(design.train[~out], label[~out], design.train[out])
    best = int(np.argmax([roc_auc_score(label, scores) for scores in left]))
    found = linear_svm.solve(settings, design, label[:, None])
    np.testing.assert_allclose(found.test[:, 0], references(design.train, label, design.test)[best], atol=1e-2)
    values = linear_svm.fit_predict(settings, design.train, score[:, None], design.test)[:, :, 0]
    np.testing.assert_allclose(values, references(design.train, score, design.test), atol=1e-2)


@pytest.mark.parametrize("solve", [
    lambda d, y: cpm.solve(CpmSettings(), d, y),
    lambda d, y: elastic_net.solve(ElasticNetSettings(), d, y),
    lambda d, y: pca_logistic.solve(PcaLogisticSettings(), d, y),
    lambda d, y: linear_svm.solve(LinearSvmSettings(), d, y),
])  # fmt: skip
def test_one_positive_among_few_rows_and_gaps_in_edges_are_met(solve: object) -> None:
    design, _, _ = made()
    train = design.train[:8].copy()
    train[0, :5] = np.nan
    train[:, 6] = 1.0  # constant
    y = np.zeros((8, 1))
    y[2] = 1.0
    found = solve(Design(train, design.test, (), np.arange(8)), y)  # type: ignore[operator]
    assert np.isfinite(found.test).all()
    assert np.isfinite(found.left_out).all()
