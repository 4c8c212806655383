"""The forward model: its covariance compared with explicit formulas, and its purpose on planted signals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from connectome_tl.evaluation.explain import forward
from connectome_tl.evaluation.explain.forward import ForwardModel, components


def written_out(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same with the matrices of the papers: one loop per entry, eigenvalues by roots."""
    n, p = x.shape
    spread = x.std(axis=0, ddof=1)
    z = (x - x.mean(axis=0)) / spread
    sample = z.T @ z / (n - 1)
    values, vectors = np.linalg.eigh(sample)
    values, vectors = values[::-1], vectors[:, ::-1]
    ratio, noise, k = p / (n - 1), 1.0, 0
    while True:
        beyond = int((values > noise * (1 + ratio**0.5) ** 2 * (1 + 2 * n ** (-2 / 3))).sum())
        if beyond == k:
            break
        k, noise = beyond, (p - values[:beyond].sum()) / (p - beyond)
    low_rank = np.zeros((p, p))
    for i in range(k):
        seen = values[i] / noise
        # The true eigenvalue whose sample value this is: seen = true (1 + ratio / (true - 1)).
        true = brentq(lambda t, seen=seen: t * (1 + ratio / (t - 1)) - seen, 1 + ratio**0.5, seen + 1)
        cosine = (1 - ratio / (true - 1) ** 2) / (1 + ratio / (true - 1))
        low_rank += noise * (true - 1) * cosine * np.outer(vectors[:, i], vectors[:, i])
    own = np.maximum(1 - np.diag(low_rank), 0.05)
    whole = low_rank + np.diag(own)
    for i in range(p):
        for j in range(p):
            rest = sample[i, j] - low_rank[i, j]
            if i != j and abs(rest) / np.sqrt(own[i] * own[j]) >= np.sqrt(2 * np.log(p) / n):
                whole[i, j] += rest
    return spread * (whole @ (spread * weights))


def drawn(n: int, p: int, seed: int, n_shared: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.5, 3.0, p)
    x[:, :n_shared] += 2.0 * rng.normal(size=(n, 1))
    x[:, -2:] += 1.5 * rng.normal(size=(n, 1))
    return x


@pytest.mark.parametrize(("n", "p"), [(40, 60), (90, 25)])
def test_it_is_what_the_papers_say(n: int, p: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(n, p, seed=n)
    weights = np.random.default_rng(1).normal(size=(p, 3))
    assert len(ForwardModel.of(x)._components[1]) >= 1
    wanted = np.column_stack([written_out(x, one) for one in weights.T])
    np.testing.assert_allclose(ForwardModel.of(x).patterns(weights), wanted, rtol=1e-8, atol=1e-9)
    monkeypatch.setattr(forward, "_BLOCK", 7)  # as for columns that do not fit into memory
    np.testing.assert_allclose(ForwardModel.of(x).patterns(weights), wanted, rtol=1e-8, atol=1e-9)


def test_noise_has_no_components_and_a_shared_trait_has_one() -> None:
    for seed in range(5):
        noise = ForwardModel.of(np.random.default_rng(seed).normal(size=(60, 300)))
        assert len(noise._components[1]) == 0
        assert len(ForwardModel.of(drawn(60, 300, seed, n_shared=30))._components[1]) == 1
    assert components(np.zeros(0), 5, 0)[0] == 0


def test_of_independent_columns_it_is_nearer_to_the_truth_than_the_sample_covariance() -> None:
    """Columns that share nothing: the sample covariance adds its noise to the weights."""
    rng = np.random.default_rng(3)
    n, p = 200, 400
    ours, sample = [], []
    for _ in range(4):
        x, truth = rng.normal(size=(n, p)), np.zeros(p)
        truth[:10] = 1.0
        weights = truth + 0.3 * rng.normal(size=p)
        ours.append(np.corrcoef(ForwardModel.of(x).patterns(weights[:, None])[:, 0], truth)[0, 1])
        centred = x - x.mean(axis=0)
        sample.append(np.corrcoef(centred.T @ (x @ weights), truth)[0, 1])
    assert min(np.array(ours) - np.array(sample)) > 0.02


def test_constant_columns_and_constant_predictions_have_no_pattern() -> None:
    x = drawn(30, 20, seed=4)
    x[:, 3] = 7.0
    found = ForwardModel.of(x).patterns(np.eye(20)[:, [0, 3]])  # the prediction is one column; the second is constant
    assert (found[3] == 0).all()
    np.testing.assert_allclose(found[:, 1], 0.0, atol=1e-12)
    assert np.isfinite(found).all()
    assert ForwardModel.of(np.zeros((30, 4))).patterns(np.ones((4, 1))).tolist() == [[0.0]] * 4


def test_very_many_columns_keep_their_components_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(40, 60, seed=5)
    first = np.eye(60)[:, :1]
    whole = ForwardModel.of(x).patterns(first)
    monkeypatch.setattr(forward, "LARGEST", 59)
    assert np.corrcoef(ForwardModel.of(x).patterns(first)[:, 0], whole[:, 0])[0, 1] > 0.8
