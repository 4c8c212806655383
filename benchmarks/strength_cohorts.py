"""Cohorts of the strength benchmark: three simulated ones and two real ones, as rows of each modality.

The difficulty of the simulated cohorts was fixed before any model was run on them. In each of them latent traits
affect the connectome; outcomes are sums, one product, or mostly a covariate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

LOCKED_SITES = ("KKI", "STANFORD")
SAME_PERSON = 532  # same person as row 123


@dataclass(frozen=True, eq=False)
class Cohort:
    """Rows of one draw, or of a real cohort.

    Attributes:
        edges: (n, n_edges) transformed. correlations: (n, n_regions, n_regions) or None.
        regional: (n, n_columns) or None. covariates: name to (n,).
        outcomes: name to (n,) values, NaN missing. binary: names of those that are labels.
        families: (n,).
    """

    edges: np.ndarray
    correlations: np.ndarray | None
    regional: np.ndarray | None
    covariates: dict[str, np.ndarray]
    outcomes: dict[str, np.ndarray]
    binary: frozenset[str]
    families: np.ndarray


def _modules(rng: np.random.Generator, n_regions: int, n_patterns: int, norms: np.ndarray) -> np.ndarray:
    """(n_patterns, n_regions, n_regions) symmetric patterns over about fifteen regions each, of these norms."""
    found = np.zeros((n_patterns, n_regions, n_regions))
    for pattern in found:
        for _ in range(3):
            vector = np.zeros(n_regions)
            vector[rng.choice(n_regions, 15, replace=False)] = rng.normal(size=15)
            pattern += rng.choice([-1.0, 1.0]) * np.outer(vector, vector)
    return found * (norms / np.linalg.norm(found, axis=(1, 2)))[:, None, None]


def _symmetric(rng: np.random.Generator, n: int, n_regions: int, spread: float) -> np.ndarray:
    noise = rng.normal(size=(n, n_regions, n_regions)) * spread / np.sqrt(2)
    return noise + noise.swapaxes(1, 2)


def _series(rng: np.random.Generator, logs: np.ndarray, n_frames: int) -> np.ndarray:
    """Correlations of Gaussian series whose covariance has these logarithms."""
    values, vectors = np.linalg.eigh(logs)
    roots = vectors * np.exp(values / 2)[:, None, :]
    found = np.empty_like(logs)
    for k, root in enumerate(roots):
        found[k] = np.corrcoef(root @ rng.normal(size=(logs.shape[1], n_frames)))
    return found


def _base(rng: np.random.Generator, n_regions: int) -> np.ndarray:
    module = rng.integers(0, 7, n_regions)
    base = 0.1 + 0.35 * (module[:, None] == module)
    np.fill_diagonal(base, 1.0)
    values, vectors = np.linalg.eigh(base)
    return np.asarray((vectors * np.log(values)) @ vectors.T)


def _edges(correlations: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(correlations.shape[1], 1)
    return np.arctanh(np.clip(correlations[:, first, second], -0.999, 0.999))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _label(rng: np.random.Generator, logit: np.ndarray, rate: float) -> np.ndarray:
    shifted = logit - np.quantile(logit, 1 - rate)
    return (rng.random(len(logit)) < 1 / (1 + np.exp(-shifted))).astype(float)


def adult_functional(seed: int, n: int) -> Cohort:
    """80 regions, 150 frames; age, a diffuse score, a product of two traits, a weak diagnosis, motion as nuisance."""
    world, rng = np.random.default_rng([1, seed]), np.random.default_rng([2, seed])
    norms = np.array([1.6, 1.3, 1.1, 0.9, 0.8, 0.7, 0.6, 0.5, 2.0, 2.0])
    traits = rng.normal(size=(n, 10))
    logs = _base(world, 80) + np.einsum("nk,kij->nij", traits, _modules(world, 80, 10, norms))
    correlations = _series(rng, logs + _symmetric(rng, n, 80, 0.08), 150)
    sex = (rng.random(n) < 0.5).astype(float)
    age = 40 + 14 * (0.8 * traits[:, 0] + 0.4 * traits[:, 4] + 0.45 * rng.normal(size=n))
    motion = np.exp(0.6 * traits[:, 8] + 0.3 * rng.normal(size=n)) * 0.2
    score = 0.4 * traits[:, 1] + 0.3 * traits[:, 2] + 0.2 * traits[:, 5] - 0.15 * traits[:, 6] + 0.1 * sex
    product = traits[:, 0] * traits[:, 1] + 0.5 * rng.normal(size=n)
    outcomes = {
        "age": age,
        "score": score + 0.8 * rng.normal(size=n),
        "product": product,
        "diagnosis": _label(rng, 0.9 * traits[:, 2] + 0.7 * traits[:, 3] + 0.3 * sex, 0.45),
    }
    covariates = {"age": age, "sex": sex, "motion": motion}
    families = np.arange(n)
    return Cohort(_edges(correlations), correlations, None, covariates, outcomes, frozenset({"diagnosis"}), families)


def neonatal_functional(seed: int, n: int) -> Cohort:
    """60 regions, 120 frames, a fifth twins; age at scan, a score that is mostly covariates, a rare delay."""
    world, rng = np.random.default_rng([3, seed]), np.random.default_rng([4, seed])
    norms = np.array([1.8, 1.0, 0.8, 0.6, 1.8, 1.2])
    twins = rng.random(n) < 0.2
    families = np.where(twins, np.arange(n) // 2, np.arange(n) + n)
    _, which = np.unique(families, return_inverse=True)
    traits = 0.7 * rng.normal(size=(n, 6))[which] + 0.714 * rng.normal(size=(n, 6))
    birth = np.clip(34 + 4 * traits[:, 0] * 0.6 + 3 * rng.normal(size=n), 23, 42)
    logs = _base(world, 60) + np.einsum("nk,kij->nij", traits, _modules(world, 60, 6, norms))
    correlations = _series(rng, logs + _symmetric(rng, n, 60, 0.1), 120)
    deprivation, sex = rng.normal(size=n), (rng.random(n) < 0.5).astype(float)
    weight = 0.18 * (birth - 40) + 3.4 + 0.4 * rng.normal(size=n)
    scan = 40.5 + 1.5 * traits[:, 0] + 0.5 * traits[:, 2] + 0.6 * rng.normal(size=n)
    language = 3.0 * _standard(birth) - 6.0 * deprivation - 3.0 * sex + 3.0 * traits[:, 1] + 8 * rng.normal(size=n)
    risk = -0.9 * _standard(birth) + 0.6 * deprivation - 0.8 * traits[:, 1] - 0.5 * traits[:, 3]
    language[rng.random(n) < 0.08] = np.nan
    outcomes = {"scan_age": scan, "language": 100 + language, "delay": _label(rng, risk, 0.3)}
    covariates = {"birth_age": birth, "birth_weight": weight, "deprivation": deprivation, "sex": sex}
    return Cohort(_edges(correlations), correlations, None, covariates, outcomes, frozenset({"delay"}), families)


def structural_counts(seed: int, n: int) -> Cohort:
    """70 regions, counts that fall with distance, volumes; age, sex, a score of few edges, and nothing."""
    world, rng = np.random.default_rng([5, seed]), np.random.default_rng([6, seed])
    places = world.normal(size=(70, 3))
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    traits, size = rng.normal(size=(n, 6)), rng.normal(size=n)
    sex = (rng.random(n) < 0.5).astype(float)
    size = 0.7 * size + 0.9 * (sex - 0.5)
    norms = np.array([6.0, 4.5, 3.5, 3.0, 6.0, 5.0])
    logs = 4.5 - 1.2 * distance + 0.15 * size[:, None, None]
    logs = logs + np.einsum("nk,kij->nij", traits, _modules(world, 70, 6, norms)) + _symmetric(rng, n, 70, 0.35)
    counts = rng.poisson(np.exp(np.minimum((logs + logs.swapaxes(1, 2)) / 2, 10.0)))
    first, second = np.triu_indices(70, 1)
    edges = np.log1p(counts[:, first, second].astype(float))
    loadings = world.normal(size=(3, 140)) * np.array([[0.25], [0.2], [0.2]])
    regional = traits[:, :3] @ loadings + 0.45 * size[:, None] + rng.normal(size=(n, 140))
    chosen = world.choice(np.flatnonzero(edges.mean(axis=0) > 1.5), 12, replace=False)
    few = edges[:, chosen] - edges[:, chosen].mean(axis=0)
    few = _standard((few / few.std(axis=0)).sum(axis=1))
    age = 45 + 13 * (0.7 * traits[:, 0] + 0.4 * traits[:, 1] + 0.6 * rng.normal(size=n))
    education = rng.normal(size=n)
    outcomes = {
        "age": age,
        "sex": sex,
        "memory": 0.55 * few + 0.3 * education - 0.02 * (age - 45) + 0.7 * rng.normal(size=n),
        "nothing": rng.normal(size=n),
    }
    covariates = {"age": age, "sex": sex, "education": education, "volume": size + 0.3 * rng.normal(size=n)}
    return Cohort(edges, None, regional, covariates, outcomes, frozenset({"sex"}), np.arange(n))


def abide(data: Path) -> Cohort:
    """ABIDE without the locked sites and without the second row of one person."""
    folder = data / "abide_fc_aal116"
    table = pd.read_csv(folder / "participants.tsv", sep="\t", na_values=["n/a"])
    upper = np.load(folder / "fc_upper_f16.npz")["fc"]
    kept = ~table["site"].isin(LOCKED_SITES).to_numpy()
    kept[SAME_PERSON] = False
    table, upper = table[kept].reset_index(drop=True), upper[kept].astype(np.float64)
    first, second = np.triu_indices(116, 1)
    correlations = np.zeros((len(table), 116, 116), dtype=np.float32)
    correlations[:, first, second] = upper
    correlations += correlations.swapaxes(1, 2)
    age, motion = table["age"].to_numpy(dtype=float), table["mean_fd"].to_numpy(dtype=float)
    sex = (table["sex"] == "M").to_numpy(dtype=float)
    outcomes = {"age": age, "sex": sex, "diagnosis": (table["dx"] == "ASD").to_numpy(dtype=float)}
    outcomes |= {name: table[name].to_numpy(dtype=float) for name in ("fiq", "viq", "piq")}
    covariates = {"age": age, "sex": sex, "motion": np.log(np.maximum(motion, 1e-3))}
    edges = np.arctanh(np.clip(upper, -0.999, 0.999))
    binary = frozenset({"sex", "diagnosis"})
    return Cohort(edges, correlations, None, covariates, outcomes, binary, np.arange(len(table)))


def cortex(data: Path) -> Cohort:
    """Term and preterm neonates: 8 measures of 286 parcels, and the similarity of parcels in them."""
    folder = data / "dhcp_cortex_regional" / "data"
    measures, covariates, birth = (
        np.concatenate([_table(folder / f"test_{group}_{name}.csv") for group in ("term", "risk")])
        for name in ("data", "cov", "ga")
    )
    by_parcel = measures.reshape(len(measures), 8, 286)
    standard = by_parcel - by_parcel.mean(axis=2, keepdims=True)
    standard /= standard.std(axis=2, keepdims=True)
    standard -= standard.mean(axis=1, keepdims=True)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    first, second = np.triu_indices(286, 1)
    alike = np.einsum("nki,nkj->nij", standard, standard)[:, first, second]
    outcomes = {"scan_age": covariates[:, 0], "birth_age": birth[:, 0]}
    sex = {"sex": covariates[:, 1]}
    return Cohort(
        np.arctanh(np.clip(alike, -0.999, 0.999)), None, measures, sex, outcomes, frozenset(), np.arange(len(measures))
    )


def _table(path: Path) -> np.ndarray:
    header = 0 if path.name.endswith("_data.csv") else None
    return pd.read_csv(path, header=header, encoding="utf-8-sig").to_numpy(dtype=float)


SIMULATED: dict[str, Callable[[int, int], Cohort]] = {
    "adult functional": adult_functional,
    "neonatal functional": neonatal_functional,
    "structural counts": structural_counts,
}
REAL: dict[str, Callable[[Path], Cohort]] = {"ABIDE": abide, "cortex": cortex}
