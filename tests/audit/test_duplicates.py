"""A child under two names is found by its connectome; siblings and strangers are not accused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.audit.duplicates import duplicate_findings, edges_of, look_alikes
from connectome_tl.cohort.splits import Fold, SplitPlan
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
    assert failed(duplicate_findings({"target": target}, plan(target.ids))) == ["a child under two names"]


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


def test_siblings_who_share_half_their_variance_are_two_people():
    rng = np.random.default_rng(1)
    parents = rng.standard_normal((20, 400))
    edges = np.vstack([parents + rng.standard_normal((20, 400)), parents + rng.standard_normal((20, 400))])
    assert look_alikes(edges, [str(i) for i in range(40)]) == []
    edges[5, :30] = np.nan
    twice = np.vstack([edges, edges[5]])
    assert [(p.first, p.second) for p in look_alikes(twice, [str(i) for i in range(41)])] == [("5", "40")]


def test_masked_regions_are_masked_edges(study):
    mask = study.target.node_mask.copy()
    mask[0, 0] = False
    edges = edges_of(replace(study.target, node_mask=mask))
    assert np.isnan(edges[0]).sum() == study.target.n_regions - 1
