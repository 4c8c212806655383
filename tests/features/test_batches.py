"""Rows of a cohort as a model takes them: missing regions say nothing, other rows change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from connectome_tl.features.batches import fit_features, fit_targets
from numpy.testing import assert_array_equal
from small_study import FLAT, GRAPH, small_cohorts, with_rows

from connectome_tl.errors import DataError, UsageError
from connectome_tl.nn.model import OutcomeModel, Sizes
from connectome_tl.settings.study import ModelSettings
from connectome_tl.training.fit import to_inputs

COHORT = small_cohorts().target
TRAIN, TEST = COHORT.ids[:16], COHORT.ids[16:]
LACKS = COHORT.ids[3]  # the simulated infant without two regions


def with_features(values: np.ndarray | None = None) -> object:
    made = np.random.default_rng(0).normal(size=(COHORT.n_subjects, COHORT.n_regions, 2)) if values is None else values
    return replace(COHORT, region_features=made, region_feature_names=("a", "b"))


@pytest.mark.parametrize("model", [GRAPH, FLAT], ids=["graph", "flat"])
@pytest.mark.parametrize("stored", [0.0, 7e3, np.nan])
def test_whatever_a_file_holds_for_a_missing_region_does_not_matter(model: ModelSettings, stored: float) -> None:
    import torch

    plain = with_features()
    absent = ~COHORT.node_mask
    assert absent.any()
    weights, features = COHORT.weights.copy(), plain.region_features.copy()  # type: ignore[attr-defined]
    either = absent[:, None, :, None] | absent[:, None, None, :]
    weights[np.broadcast_to(either, weights.shape)] = stored
    features[absent] = stored
    outputs = []
    for cohort in (plain, replace(with_features(features), weights=weights)):  # type: ignore[type-var]
        fitted = fit_features(cohort, TRAIN, clinical=True, confounds=("age",))  # type: ignore[arg-type]
        rows = fitted.rows(cohort, COHORT.ids)  # type: ignore[arg-type]
        assert all(np.isfinite(getattr(rows, name)).all() for name in ("edges", "messages", "regional", "clinical"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = OutcomeModel(model, Sizes(COHORT.n_regions, 1, 2, rows.clinical.shape[1], ("y",))).eval()
        with torch.no_grad():
            outputs.append(network(to_inputs(rows)).numpy())
    assert_array_equal(outputs[0], outputs[1])


def test_rows_of_some_are_the_rows_of_all() -> None:
    fitted = fit_features(COHORT, TRAIN, clinical=True, confounds=("age", "sex"))
    every, some = fitted.rows(COHORT, COHORT.ids), fitted.rows(COHORT, TEST[::-1])
    at = COHORT.positions(TEST[::-1])
    for name in ("edges", "messages", "regional", "node_mask", "clinical"):
        assert_array_equal(getattr(some, name), getattr(every, name)[at])
    assert some.ids == TEST[::-1]
    with pytest.raises(DataError, match="not in cohort"):
        fitted.rows(COHORT, ["nobody"])


def test_training_rows_are_standardised_and_confounds_gone() -> None:
    fitted = fit_features(COHORT, TRAIN, clinical=True, confounds=("age", "log(mean_fd)"))
    rows = fitted.rows(COHORT, TRAIN)
    present = rows.node_mask[:, :, None] * rows.node_mask[:, None, :]
    everybody = (present == 1).all(axis=0) & ~fitted.edges.constant[0]
    edges = rows.edges[:, 0][:, everybody].astype(float)
    assert np.abs(edges.mean(axis=0)).max() < 1e-4
    assert np.abs(edges.std(axis=0, ddof=1) - 1).max() < 1e-3
    age = COHORT.age[COHORT.positions(TRAIN)]
    correlation = [np.corrcoef(age, edge)[0, 1] for edge in edges.T]
    assert np.abs(correlation).max() < 1e-3


def test_a_confound_with_a_category_seen_only_in_test_rows_does_not_change_the_training_rows() -> None:
    sex = COHORT.covariates["sex"].copy()
    sex.loc[list(TEST)] = "unknown"
    other = replace(COHORT, covariates=COHORT.covariates.assign(sex=sex))
    a, b = (fit_features(c, TRAIN, clinical=False, confounds=("sex",)) for c in (COHORT, other))
    assert_array_equal(a.rows(COHORT, TRAIN).edges, b.rows(other, TRAIN).edges)
    assert np.isfinite(b.rows(other, TEST).edges).all()
    three = replace(COHORT, covariates=COHORT.covariates.assign(sex=["F", "M", "X"] * (COHORT.n_subjects // 3)))
    with pytest.raises(UsageError, match="3 categories"):
        fit_features(three, TRAIN, clinical=False, confounds=("sex",))


def test_scaling_of_the_parent_is_the_parent_s() -> None:
    parent = fit_features(small_cohorts().pool, small_cohorts().pool.ids, clinical=False)  # type: ignore[union-attr,arg-type]
    own = fit_features(COHORT, TRAIN, clinical=True)
    mixed = own.with_edges_of(parent.state()[0], parent.ids)
    assert mixed.edges.ids == parent.ids
    assert_array_equal(mixed.rows(COHORT, TEST).edges, parent.rows(COHORT, TEST).edges)
    assert_array_equal(mixed.rows(COHORT, TEST).clinical, own.rows(COHORT, TEST).clinical)


def test_permuted_labels_are_whole_rows_of_others() -> None:
    tasks = [COHORT.task("cognitive_score"), COHORT.task("motor_score")]
    scaler, targets = fit_targets(COHORT, TRAIN, tasks, TRAIN[::-1])
    raw = COHORT.targets.loc[list(TRAIN[::-1]), ["cognitive_score", "motor_score"]].to_numpy()
    np.testing.assert_allclose(scaler.undo(targets), raw)
    assert scaler.ids == TRAIN


def test_hashes_see_every_number_of_a_row_and_no_other_row() -> None:
    want = COHORT.rows_hash(TRAIN)
    one, other = TRAIN[:1], TEST[:1]
    changes = {"weights": 1.5, "node_mask": False, "age": 3.0, "site": "Z", "family": "Z"}
    for name, value in changes.items():
        assert with_rows(COHORT, one, **{name: value}).rows_hash(TRAIN) != want, name
        assert with_rows(COHORT, other, **{name: value}).rows_hash(TRAIN) == want, name
    for frame in ("covariates", "targets"):
        for subject, equal in ((one[0], False), (other[0], True)):
            table = getattr(COHORT, frame).copy()
            table.loc[subject, table.columns[0]] = 77.0
            assert (replace(COHORT, **{frame: table}).rows_hash(TRAIN) == want) is equal
    assert COHORT.rows_hash(TRAIN[::-1]) != want


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_category_can_be_hashed_and_encoded(missing: object) -> None:
    for kind in ("str", "string", "object"):
        sex = COHORT.covariates["sex"].astype(kind)
        sex.iloc[2] = missing
        cohort = replace(COHORT, covariates=COHORT.covariates.assign(sex=sex))
        assert len(cohort.rows_hash(TRAIN)) == 64
        fitted = fit_features(cohort, TRAIN, clinical=True, confounds=("sex",))
        assert np.isfinite(fitted.rows(cohort, COHORT.ids).clinical).all()
