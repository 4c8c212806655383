"""Null cohorts: mean AUC 0.5, permutation p values no smaller than they should be.

Splits are stratified by the true labels, which makes permutation tests on pooled scores invalid.
Tests, each on its own null: *any signal* (permuted outcome rows, ridge refitted; also under site effects,
families and heavy tails), *any of three correlated outcomes* (maximum statistic, some outcomes missing,
twins as blocks), *beyond clinical covariates* (outcomes and edges both depend on the covariates, also as squares
and jointly with age, and on no other common variable), and the *corrected resampled t* (two equally good
procedures). For comparison, the rejection rates of common shortcuts: AUC pooled over folds, permuting labels
without refitting, ignoring sites or families. A row is marked *above* if it rejects more often than a test with a
rate of 6 % would in 99 of 100 runs.

    python benchmarks/null.py [--cohorts 2000] [--permutations 99] [--only any|several|designs|resampled|beyond]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.intervals.resampled import corrected_resampled_t
from connectome_tl.evaluation.permutation.added_value import FoldEdges, ResidualEdges, added_value_statistics
from connectome_tl.evaluation.permutation.covariate_effects import natural_spline
from connectome_tl.evaluation.permutation.tests import (
    FoldRows,
    exchangeable_permutations,
    linear_statistics,
    permutation_results,
)
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.tasks import Task

ALLOWED = 0.06  # the largest allowed rate of rejected true nulls at 0.05
ALPHAS = (10.0, 100.0, 1000.0, 10000.0)
TASKS = tuple(Task(name=name, kind="binary", column=name) for name in ("cognitive", "language", "motor"))


def stratified_folds(rng: np.random.Generator, y: np.ndarray, n_folds: int) -> np.ndarray:
    """(n,) test fold of each subject, balanced within classes."""
    fold, start = np.empty(y.size, dtype=int), 0
    for value in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == value))
        fold[members] = (np.arange(members.size) + start) % n_folds
        start += members.size
    return fold


def fold_rows(x: np.ndarray, fold: np.ndarray) -> list[FoldRows]:
    return [
        FoldRows(0, np.flatnonzero(fold != k), np.flatnonzero(fold == k), x[fold != k], x[fold == k])
        for k in np.unique(fold)
    ]


def single(seed: int, n: int, share: float, n_permutations: int, n_edges: int = 200) -> dict[str, float]:
    """One outcome and correlated edges that are independent of it."""
    rng = np.random.default_rng([1, n, seed])
    x = rng.standard_normal((n, n_edges)) + rng.standard_normal((n, 2)) @ rng.standard_normal((2, n_edges))
    y = (np.arange(n) < round(share * n)).astype(float)
    fold = stratified_folds(rng, y, 5)
    moves = exchangeable_permutations([str(i) for i in range(n)], n_permutations, seed)
    found = linear_statistics(fold_rows(x, fold), y[:, None], TASKS[:1], moves, lambda a, b: fit_ridge(a, b, ALPHAS))
    result = permutation_results(found, TASKS[:1], "ridge", "")[0]
    return {"auc": result.observed, "p": result.p_value, **shortcuts(x, y, fold, moves)}


def shortcuts(x: np.ndarray, y: np.ndarray, fold: np.ndarray, moves: np.ndarray) -> dict[str, float]:
    """p values of invalid tests with the same ridge: pooled AUC; permutation without refits."""
    labels = np.column_stack([y, y[moves].T])
    score = np.empty_like(labels)
    for k in np.unique(fold):
        test = fold == k
        score[test] = fit_ridge(x[~test], 2 * labels[~test] - 1, ALPHAS).predict(x[test])
    one = np.zeros(y.size, dtype=int)
    pooled = np.divide(*within_fold_counts(labels, score, one))
    frozen = np.divide(*within_fold_counts(labels, np.repeat(score[:, :1], labels.shape[1], axis=1), fold))
    return {
        "p_pooled": float((pooled >= pooled[0]).mean()),
        "p_frozen": float((frozen >= frozen[0]).mean()),
        "auc_pooled": float(pooled[0]),
    }


def several(seed: int, n: int, n_permutations: int) -> float:
    """Smallest corrected p over three correlated outcomes; a third are twins, some outcomes missing."""
    rng = np.random.default_rng([2, n, seed])
    n_pairs = n // 6
    family = np.r_[np.repeat(np.arange(n_pairs), 2), np.arange(n_pairs, n - n_pairs)]
    shared = rng.standard_normal((n, 3))[family]  # twins are correlated in edges and outcomes
    x = rng.standard_normal((n, 150)) + 0.7 * rng.standard_normal((n, 150))[family]
    latent = rng.standard_normal((n, 3)) + shared + rng.standard_normal((n, 1))
    y = (latent > np.quantile(latent, 0.65, axis=0)).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    fold = (rng.permutation(family.max() + 1) % 5)[family]
    subjects = [f"s{i}" for i in range(n)]
    families = {s: f"f{f}" for s, f in zip(subjects, family)}
    moves = exchangeable_permutations(subjects, n_permutations, seed, families)
    found = linear_statistics(fold_rows(x, fold), y, TASKS, moves, lambda a, b: fit_ridge(a, b, ALPHAS))
    return min(r.p_value_max for r in permutation_results(found, TASKS, "ridge", ""))


def designs(seed: int, kind: str, n: int, n_permutations: int) -> dict[str, float]:
    """p of any signal if outcome and edges share only a design, and p of a test that ignores the design.

    `sites`: three scanners differ in every edge and in the share of positives. `families`: two to four children
    share edges and outcome. `heavy`: edges with infinite variance.
    """
    rng = np.random.default_rng([6, n, seed, len(kind)])
    subjects, families, sites = [f"s{i}" for i in range(n)], None, None
    x = rng.standard_normal((n, 150)) + rng.standard_normal((n, 2)) @ rng.standard_normal((2, 150))
    latent, group = rng.standard_normal(n), np.arange(n)
    if kind == "sites":
        where = rng.integers(0, 3, n)
        x += rng.standard_normal((3, 150))[where]
        latent += np.array([-0.8, 0.0, 0.8])[where]
        sites = {s: str(w) for s, w in zip(subjects, where)}
    elif kind == "families":
        group = np.repeat(np.arange(n), rng.integers(2, 5, n))[:n]
        x = rng.standard_normal((n, 150)) + 1.2 * rng.standard_normal((n, 150))[group]
        latent += 1.5 * rng.standard_normal(n)[group]
        families = {s: f"f{g}" for s, g in zip(subjects, group)}
    else:
        x = rng.standard_t(1.5, (n, 150))
    y = (latent > np.quantile(latent, 0.65)).astype(float)
    fold = stratified_folds(rng, y, 5) if kind != "families" else (rng.permutation(group.max() + 1) % 5)[group]
    found = {}
    for name, blocks in (("p", (families, sites)), ("p_ignored", (None, None))):
        moves = exchangeable_permutations(subjects, n_permutations, seed, *blocks)
        made = linear_statistics(fold_rows(x, fold), y[:, None], TASKS[:1], moves, lambda a, b: fit_ridge(a, b, ALPHAS))
        found[name] = permutation_results(made, TASKS[:1], "ridge", "")[0].p_value
    return found


def beyond(seed: int, n: int, n_permutations: int, kind: str = "linear", n_edges: int = 150) -> float:
    """p of the connectome's added value if only covariates affect the outcome and many edges.

    `linear`: three covariates have linear effects. `skewed`: the same on log-normal edges. `square`: one has a squared
    effect. `age`: the effect of one increases with another. `sites`: outcome and edges also follow three sites.
    `families`: two to four children share edges and outcome. `heavy`: edges with infinite variance. Removed are the
    columns that a study with one kind of covariate removes: linear terms, squares, products, natural splines, and sites
    as 0 and 1.
    """
    rng = np.random.default_rng([3, n, seed, n_edges, len(kind)])
    c = rng.standard_normal((n, 3))
    rest = rng.standard_normal((n, n_edges)) + rng.standard_normal((n, 2)) @ rng.standard_normal((2, n_edges))
    group, families, sites, where = np.arange(n), None, None, np.zeros(n, dtype=int)
    acting = np.column_stack([c[:, 0] ** 2 - 1, c[:, 1:]]) if kind == "square" else c
    acting = np.column_stack([c[:, 0] * c[:, 1], c[:, 1:]]) if kind == "age" else acting
    latent = acting @ [0.8, 0.5, 0.0] + rng.standard_normal(n)
    subjects = [f"s{i}" for i in range(n)]
    if kind == "sites":
        where = rng.integers(0, 3, n)
        rest += rng.standard_normal((3, n_edges))[where]
        latent += np.array([-0.8, 0.0, 0.8])[where]
        sites = {s: str(w) for s, w in zip(subjects, where)}
    if kind == "families":
        group = np.repeat(np.arange(n), rng.integers(2, 5, n))[:n]
        rest += 1.2 * rng.standard_normal((n, n_edges))[group]
        latent += 1.5 * rng.standard_normal(n)[group]
        families = {s: f"f{g}" for s, g in zip(subjects, group)}
    if kind == "heavy":
        rest = rng.standard_t(1.5, (n, n_edges))
    if kind == "skewed":
        rest = np.exp(rest / 2)
    x = rest + acting @ rng.normal(0, 0.8, (3, n_edges))
    y = (latent > np.quantile(latent, 0.6)).astype(float)
    fold = (rng.permutation(group.max() + 1) % 5)[group] if kind == "families" else stratified_folds(rng, y, 5)
    columns = _taken_out(c, where)
    alone = np.bincount(group)[group] == 1
    split = ResidualEdges.of(x, columns, alone)
    folds = [FoldEdges(np.flatnonzero(fold != k), np.flatnonzero(fold == k), split) for k in range(5)]
    moves = exchangeable_permutations([subjects[i] for i in split.kept], n_permutations, seed, families, sites)
    found = added_value_statistics(folds, columns, y[:, None], TASKS[:1], moves, ALPHAS)
    return permutation_results(found, TASKS[:1], "ridge", "")[0].p_value


def _taken_out(c: np.ndarray, where: np.ndarray) -> np.ndarray:
    """As in `covariate_effects`, with the second covariate as age."""
    linear = [*c.T, *((where == w).astype(float) for w in np.unique(where)[1:])]
    kinds = [
        list(c.T**2),
        [c[:, 1] * c[:, 0], c[:, 1] * c[:, 2]],
        [column for one in c.T for column in natural_spline(one)],
    ]
    added: list[np.ndarray] = []
    for columns in kinds:
        added += columns if len(linear) + len(added) + len(columns) <= len(c) / 3 else []
    return np.column_stack([*linear, *added])


def resampled(seed: int, n: int) -> tuple[float, float]:
    """p of the corrected resampled t test between equally good procedures: ridge on either half of the edges.

    As in the package, and as published.
    """
    rng = np.random.default_rng([5, n, seed])
    y = (np.arange(n) < n // 2).astype(float)
    x = rng.standard_normal((n, 120)) + 0.25 * y[:, None]
    gaps = []
    for _ in range(5):
        fold = stratified_folds(rng, y, 5)
        for k in range(5):
            test = fold == k
            losses = []
            for half in (slice(0, 60), slice(60, 120)):
                decision = fit_ridge(x[~test][:, half], 2 * y[~test] - 1, ALPHAS).predict(x[test][:, half])[:, 0]
                losses.append(float(((decision - (2 * y[test] - 1)) ** 2).mean()))
            gaps.append(losses[0] - losses[1])
    sizes = 0.8 * n, 0.2 * n
    shipped = corrected_resampled_t(np.array(gaps), *sizes)
    return shipped.p_value, corrected_resampled_t(np.array(gaps), *sizes, widening=1.0).p_value


def line(name: str, p: np.ndarray) -> str:
    rejected = float((p <= 0.05).mean())
    standard_error = np.sqrt(0.05 * 0.95 / p.size)
    shares = " ".join(f"{(p <= level).mean():.3f}" for level in (0.01, 0.05, 0.1, 0.2, 0.5))
    smaller = stats.kstest(p, "uniform", alternative="greater").pvalue
    count = int((p <= 0.05).sum())
    most = int(stats.binom.ppf(0.99, p.size, ALLOWED))
    judged = "above" if count > most else "no"
    return (
        f"| {name} | {count} of {p.size} = {rejected:.3f} (SE {standard_error:.3f}) | {judged} ({most}) | {shares} | "
        f"{smaller:.2f} |"
    )


TESTS = ("any", "several", "designs", "resampled", "beyond")
BEYOND = {
    "linear": "linear effects",
    "square": "one covariate acts as a square",
    "age": "an effect grows with age",
    "sites": "three sites",
    "families": "families of 2 to 4",
    "heavy": "heavy tails",
    "skewed": "skewed edges",
}
DESIGNS = {"sites": "three sites, moved within sites", "families": "families of 2 to 4", "heavy": "heavy tails"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=2000, help="of each kind")
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort; the others count up")
    parser.add_argument("--only", choices=TESTS, help="one test; by default all")
    parser.add_argument("--quick", action="store_true", help="20 cohorts of each kind, 19 permutations")
    given = parser.parse_args()
    if given.quick:
        given.cohorts, given.permutations = 20, 19
    start = time.process_time()
    seeds = range(given.first, given.first + given.cohorts)
    n_permutations = given.permutations
    print(f"{given.cohorts} null cohorts of each kind from seed {given.first}, {n_permutations} permutations each")
    print(
        f"\n| test | rejected at 0.05 | above {ALLOWED:g} at 1 %? (most allowed) | share of "
        "p <= 0.01 0.05 0.1 0.2 0.5 | smaller than uniform? (KS p) |"
    )
    print("|---|---|---|---|---|")
    means: list[str] = []
    if given.only in (None, "any"):
        for n, share in ((33, 0.5), (33, 0.2), (60, 0.2)):
            means.append(any_signal(seeds, n, share, n_permutations))
    for n in (33, 60):
        for kind, words in DESIGNS.items():
            if given.only in (None, "designs"):
                runs = [designs(seed, kind, n, n_permutations) for seed in seeds]
                print(line(f"any signal, {words}, n = {n}", np.array([run["p"] for run in runs])))
                if kind != "heavy":
                    ignored = np.array([run["p_ignored"] for run in runs])
                    print(line(f"shortcut: the same, {kind} ignored, n = {n}", ignored), flush=True)
        if given.only in (None, "several"):
            p = np.array([several(seed, n, n_permutations) for seed in seeds])
            print(line(f"any of three outcomes, twins, n = {n}", p), flush=True)
        if given.only in (None, "resampled"):
            both = np.array([resampled(seed, n) for seed in seeds])
            print(line(f"corrected resampled t, 5 x 5 folds, n = {n}", both[:, 0]))
            print(line(f"shortcut: the same as published, n = {n}", both[:, 1]), flush=True)
    for n, kind in ((n, kind) for n in (33, 60) for kind in BEYOND):
        if given.only in (None, "beyond"):
            p = np.array([beyond(seed, n, n_permutations, kind) for seed in seeds])
            print(line(f"beyond clinical covariates, {BEYOND[kind]}, n = {n}", p), flush=True)
    print("\n" + "\n".join(means))
    print(f"\n{(time.process_time() - start) / 60:.1f} CPU minutes, one thread")


def any_signal(seeds: range, n: int, share: float, n_permutations: int) -> str:
    """Prints the lines of one kind of cohort; returns its mean AUC."""
    runs = [single(seed, n, share, n_permutations) for seed in seeds]
    columns = {key: np.array([run[key] for run in runs]) for key in runs[0]}
    name = f"n = {n}, {share:.0%} positive"
    print(line(f"any signal, {name}", columns["p"]))
    print(line(f"shortcut: AUC pooled over folds, {name}", columns["p_pooled"]))
    print(line(f"shortcut: not refitted, {name}", columns["p_frozen"]), flush=True)
    test = stats.ttest_1samp(columns["auc"], 0.5)
    return (
        f"mean AUC within folds, {name}: {columns['auc'].mean():.4f} (t test against 0.5: p = {test.pvalue:.2f}); "
        f"pooled over folds: {columns['auc_pooled'].mean():.4f}"
    )


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
