"""A child under two ids is found by its connectome; siblings and unrelated subjects are not reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts

from connectome_tl.audit.copies import alike_by_edges
from connectome_tl.audit.duplicates import _mirror, _pairs, duplicate_findings, edges_of
from connectome_tl.audit.reordered import in_order
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.connectome.connectome import from_upper, upper_indices
from connectome_tl.simulation.cohorts import simulate_study


@pytest.fixture(scope="module")
def study():
    return simulate_study(seed=3, n_source=30, n_pool=25, n_target=20)


def plan(ids):
    folds = [tuple(ids[k::4]) for k in range(4)]
    return SplitPlan((tuple(Fold(tuple(i for i in ids if i not in test), test) for test in folds),))


def copied(cohort, onto, from_row, noise=0.0, of=None):
    weights = cohort.weights.copy()
    source = (of or cohort).weights[from_row]
    weights[onto] = source * (1 + noise * np.random.default_rng(0).standard_normal(source.shape))
    return replace(cohort, weights=weights)


def failed(findings):
    return [f.check for f in findings if f.status == "failed"]


def test_distinct_children_are_not_accused(study):
    cohorts = {"target": study.target, "pool": study.pool, "source": study.source.with_regions(study.target.regions)}
    findings = duplicate_findings(cohorts, plan(study.target.ids))
    assert {f.status for f in findings} == {"passed"}
    assert len(findings) == 3


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_copy_under_a_new_name_in_another_fold_is_found(study, noise):
    target = copied(study.target, 1, 0, noise)
    assert failed(duplicate_findings({"target": target}, plan(target.ids))) == ["one subject under two ids"]


def test_a_copy_that_always_shares_its_fold_is_only_pointed_out(study):
    target = copied(study.target, 4, 0)
    findings = duplicate_findings({"target": target}, plan(target.ids))
    assert not failed(findings)
    assert any(f.status == "warning" and target.ids[4] in f.what for f in findings)


def test_a_test_infant_hidden_in_the_pool_or_the_source_is_found(study):
    pool = copied(study.pool, 7, 2, of=study.target)
    source = copied(study.source.with_regions(study.target.regions), 3, 5, of=study.target)
    found = failed(duplicate_findings({"target": study.target, "pool": pool, "source": source}, plan(study.target.ids)))
    assert found == ["target subjects in the source cohort", "target subjects in the pool cohort"]


def test_a_test_infant_in_the_source_under_its_own_id_is_found_whatever_its_scan(study):
    source = study.source.with_regions(study.target.regions)
    ids = (study.target.ids[4], *source.ids[1:])
    frames = {name: getattr(source, name).set_axis(list(ids), axis=0) for name in ("covariates", "targets", "status")}
    known = replace(source, ids=ids, scores=None, **frames)
    findings = duplicate_findings({"target": study.target, "source": known}, plan(study.target.ids))
    assert failed(findings) == ["target subjects in the source cohort"]
    assert study.target.ids[4] in findings[-1].what


def test_an_infant_of_the_pool_under_its_own_id_is_no_secret(study):
    ids = list(study.pool.ids)
    ids[7] = study.target.ids[2]
    frames = {name: getattr(study.pool, name).set_axis(ids, axis=0) for name in ("covariates", "targets", "status")}
    pool = replace(copied(study.pool, 7, 2, of=study.target), ids=tuple(ids), scores=None, **frames)
    assert not failed(duplicate_findings({"target": study.target, "pool": pool}, plan(study.target.ids)))


def named(edges, groups=None):
    names = [str(i) for i in range(len(edges))]
    return {(p.first, p.second) for p in alike_by_edges(edges[:, None], names, groups or [""] * len(edges))}


def counts(rng, n=33, n_edges=276, spread=0.5):
    """(n, n_edges) streamline counts: a common backbone and individual deviations."""
    return np.exp(rng.normal(3, 1, n_edges) + spread * rng.standard_normal((n, n_edges)))


def second_scan(rng, first, everyone, reliability):
    """Log counts whose correlation with the first scan, over subjects, is the reliability."""
    log, mean, spread = np.log(first), np.log(everyone).mean(axis=0), np.log(everyone).std(axis=0)
    noise = np.sqrt(1 - reliability**2) * spread * rng.standard_normal(first.shape)
    return np.exp(mean + reliability * (log - mean) + noise)


def test_siblings_who_share_half_their_variance_are_two_people():
    rng = np.random.default_rng(1)
    parents = rng.standard_normal((20, 406))
    edges = np.vstack([parents + rng.standard_normal((20, 406)), parents + rng.standard_normal((20, 406))])
    assert named(edges) == set()
    edges[5, :30] = np.nan
    assert named(np.vstack([edges, edges[5]])) == {("5", "40")}


def test_second_scans_of_reliability_8_are_found():
    found, expected = set(), {(str(i), str(33 + i)) for i in range(6)}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        edges = counts(rng)
        found = named(np.vstack([edges, second_scan(rng, edges[:6], edges, 0.8)]))
        assert found <= expected
        assert len(found) >= 5


def test_copies_times_1_2_are_found_even_three_times_over():
    edges = counts(np.random.default_rng(2))
    assert named(np.vstack([edges, 1.2 * edges[:1]])) == {("0", "33")}
    thrice = named(np.vstack([edges, 1.2 * edges[:1], 0.9 * edges[:1]]))
    assert thrice == {("0", "33"), ("0", "34"), ("33", "34")}


@pytest.mark.parametrize("declared", [True, False])
def test_two_scanners_whose_counts_differ_by_five_accuse_nobody(declared):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scanner = np.arange(33) % 2
        edges = counts(rng) * np.where(scanner, 5.0, 1.0)[:, None] * np.exp(scanner[:, None] * rng.normal(0, 0.4, 276))
        assert named(edges, [str(s) if declared else "" for s in scanner]) == set()


def test_low_rank_and_tiny_matrices_accuse_nobody_and_hide_no_copy():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        low_rank = np.exp(0.5 * rng.standard_normal((33, 2)) @ rng.standard_normal((2, 276)))
        assert named(low_rank) == set()
        tiny = 1e-9 * counts(rng)
        assert named(tiny) == set()
        assert named(np.vstack([tiny, 1.2 * tiny[3:4]])) == {("3", "33")}


def test_masked_regions_are_masked_edges(study):
    mask = study.target.node_mask.copy()
    mask[0, 0] = False
    edges = edges_of(replace(study.target, node_mask=mask))
    assert edges.shape == (20, 1, 45 * 89)
    assert np.isnan(edges[0]).sum() == study.target.n_regions - 1


def cut(rows, shares):
    """Each row (n_edges,) with a share of its weakest edges removed."""
    return np.array(
        [np.where(row > np.quantile(row, share), row, 0.0) for row, share in zip(rows, shares, strict=True)]
    )


def of_other_densities(rng):
    return cut(counts(rng), rng.uniform(0.1, 0.9, 33))


def some_thresholded(rng):
    return cut(counts(rng), np.where(rng.random(33) < 0.2, 0.6, 0.1))


def some_binarised(rng):
    rows = counts(rng)
    return np.vstack([rows[5:], cut(rows[:5], [0.7] * 5) > 0])


def sparse_counts(rng):
    return rng.poisson(np.exp(rng.normal(-1, 1.5, 276) + 0.5 * rng.standard_normal((33, 276)))).astype(float)


def signed_and_sparse(rng):
    weights = 0.3 * rng.standard_normal(276) + 0.3 * rng.standard_normal((33, 276))
    return np.where(np.abs(weights) > 0.3, weights, 0.0)


def three_of_another_scanner(rng):
    rows = counts(rng)
    rows[:3] *= np.exp(rng.normal(0, 1, 276))
    return rows


def symmetric_brains(rng):
    log = counts(rng, spread=0.4)
    return np.sqrt(log * log[:, MIRROR]) * np.exp(0.3 * rng.standard_normal(log.shape))


def scans_in_other_orders(rng):
    """Three subjects whose rows were written in another order, each once."""
    square = from_upper(counts(rng))
    for k in range(3):
        order = rng.permutation(24)
        square[k] = square[k][order][:, order]
    return square[:, *upper_indices(24)]


MIRROR = _mirror([f"{name}.{side}" for side in "LR" for name in range(12)])


@pytest.mark.parametrize(
    "kind",
    [
        of_other_densities,
        some_thresholded,
        some_binarised,
        sparse_counts,
        signed_and_sparse,
        three_of_another_scanner,
        symmetric_brains,
        scans_in_other_orders,
    ],
)
def test_distinct_rows_of_different_kinds_accuse_nobody(kind):
    for seed in range(3):
        rows = kind(np.random.default_rng(seed))
        assert alike_by_edges(rows[:, None], [str(k) for k in range(33)], [""] * 33, MIRROR) == []


def test_copies_in_another_order_with_noise_are_found():
    rng = np.random.default_rng(3)
    edges = counts(rng)
    again = from_upper(second_scan(rng, edges[:4], edges, 0.95))
    for k in range(4):
        order = rng.permutation(24)
        again[k] = again[k][order][:, order]
    found = named(np.vstack([edges, again[:, *upper_indices(24)]]))
    assert found <= {(str(k), str(33 + k)) for k in range(4)}
    assert len(found) >= 3


def test_mirrored_edges_are_those_of_the_same_names_on_the_other_side():
    regions = ("A.L", "A.R", "B.L", "B.R", "stem")
    first, second = upper_indices(5)
    pairs = [{regions[i], regions[j]} for i, j in zip(first, second, strict=True)]
    turn = str.maketrans("LR", "RL")
    assert [pairs[k] for k in _mirror(regions)] == [{name.translate(turn) for name in pair} for pair in pairs]


@pytest.mark.parametrize(("seed", "effect"), [(9002, 0.0), (9010, 0.0), (20087, 1.0)])
def test_connections_that_most_subjects_have_make_no_copies(seed, effect):
    """Few regions, nearly the same connections in all subjects, and rows that lack the same regions."""
    cohorts = small_cohorts(seed=seed, effect=effect)
    for role in ("source", "pool"):
        other = cohorts.roles[role]
        kept = other.take([i for i in other.ids if i not in cohorts.target.ids])
        assert _pairs([cohorts.target, kept], None) == []


def test_rows_without_a_strongest_edge_are_compared_with_a_sparse_one_without_a_warning() -> None:
    """Ties at the top leave a row constant after it was thresholded to the density of another one."""
    rng = np.random.default_rng(0)
    base = rng.random(66) + 0.5
    rows = base + 0.05 * rng.normal(size=(9, 66))
    rows[1] = np.where(base > np.quantile(base, 0.3), 1.0, 0.5)
    rows[0] = np.where(np.arange(66) % 3 == 0, rng.permutation(base), 0.0)
    assert in_order(rows[:, None]) is None
