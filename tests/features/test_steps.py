"""Rows of a cohort as model input: missing regions have no effect, other rows have no effect, absence is marked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from small_study import FLAT, GRAPH, small_cohorts, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, OutputError, UsageError
from connectome_tl.features.modalities import ConnectomeSteps
from connectome_tl.features.scaling import TargetScaler
from connectome_tl.features.steps import MODALITIES, Features, Rows, fit_steps
from connectome_tl.nn.model import build_model
from connectome_tl.provenance import canonical_json, content_hash
from connectome_tl.settings.features import Confounds, EdgeSettings, FeatureSettings, HarmoniseSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.fitted_models import to_batch

COHORT = small_cohorts().target
TRAIN, TEST = COHORT.ids[:16], COHORT.ids[16:]
BOTH = ("connectome", "clinical")
AGE = FeatureSettings(confounds=Confounds(columns=("age",)))


def fitted_on(cohort: Cohort, settings: FeatureSettings | None = None, modalities: tuple[str, ...] = BOTH) -> Features:
    return fit_steps(cohort, TRAIN, settings or FeatureSettings(), modalities)


def edges_of(rows: Rows) -> np.ndarray:
    return rows.arrays["connectome"].rows["edges"]


def with_features(values: np.ndarray | None = None) -> Cohort:
    made = np.random.default_rng(0).normal(size=(COHORT.n_subjects, COHORT.n_regions, 2)) if values is None else values
    return replace(COHORT, region_features=made, region_feature_names=("a", "b"))


@pytest.mark.parametrize("model", [GRAPH, FLAT], ids=["graph", "flat"])
@pytest.mark.parametrize("stored", [0.0, 7e3, np.nan])
def test_whatever_a_file_holds_for_a_missing_region_does_not_matter(model: ModelSettings, stored: float) -> None:
    plain = with_features()
    absent = ~COHORT.node_mask
    assert absent.any()
    assert plain.region_features is not None
    weights, features = COHORT.weights.copy(), plain.region_features.copy()
    either = absent[:, None, :, None] | absent[:, None, None, :]
    weights[np.broadcast_to(either, weights.shape)] = stored
    features[absent] = stored
    outputs = []
    for cohort in (plain, replace(with_features(features), weights=weights)):
        rows = fitted_on(cohort, AGE).rows(cohort, COHORT.ids)
        assert all(np.isfinite(array).all() for part in rows.arrays.values() for array in part.rows.values())
        batch = to_batch(rows)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sizes = {name: modality.sizes for name, modality in batch.modalities.items()}
            network = build_model(model, sizes, {"y": 1}).eval()
        with torch.no_grad():
            outputs.append(network(batch).numpy())
    assert_array_equal(outputs[0], outputs[1])


def test_rows_of_some_are_the_rows_of_all() -> None:
    fitted = fitted_on(with_features(), FeatureSettings(confounds=Confounds(columns=("age", "sex"))))
    cohort = with_features()
    every, some = fitted.rows(cohort, COHORT.ids), fitted.rows(cohort, TEST[::-1])
    at = COHORT.positions(TEST[::-1])
    for name, part in some.arrays.items():
        for key, array in part.rows.items():
            assert_array_equal(array, every.arrays[name].rows[key][at])
        for key, array in part.constants.items():
            assert_array_equal(array, every.arrays[name].constants[key])
        assert_array_equal(part.present, every.arrays[name].present[at])
    assert some.ids == TEST[::-1]
    with pytest.raises(DataError, match="not in cohort"):
        fitted.rows(cohort, ["nobody"])


def test_training_rows_are_standardised_and_confounds_gone() -> None:
    fitted = fitted_on(COHORT, FeatureSettings(confounds=Confounds(columns=("age", "log(mean_fd)"))))
    rows = fitted.rows(COHORT, TRAIN)
    steps = fitted.steps["connectome"]
    assert isinstance(steps, ConnectomeSteps)
    mask = rows.arrays["connectome"].rows["node_mask"]
    present = mask[:, :, None] * mask[:, None, :]
    everybody = (present == 1).all(axis=0) & ~steps.scaler.constant[0]
    edges = edges_of(rows)[:, 0][:, everybody].astype(float)
    assert np.abs(edges.mean(axis=0)).max() < 1e-4
    assert np.abs(edges.std(axis=0, ddof=1) - 1).max() < 1e-3
    age = COHORT.age[COHORT.positions(TRAIN)]
    correlation = [np.corrcoef(age, edge)[0, 1] for edge in edges.T]
    assert np.abs(correlation).max() < 1e-3


def test_constants_give_the_edges_before_scaling() -> None:
    fitted = fitted_on(COHORT)
    found = fitted.rows(COHORT, TEST).arrays["connectome"]
    steps = fitted.steps["connectome"]
    assert isinstance(steps, ConnectomeSteps)
    back = found.rows["edges"] * found.constants["scale"] + found.constants["mean"]
    kept = ~steps.scaler.constant[0]
    assert COHORT.node_mask[16:].all()
    np.testing.assert_allclose(back[:, 0][:, kept], COHORT.weights[16:, 0][:, kept], rtol=1e-4, atol=1e-5)


def test_a_confound_with_a_category_seen_only_in_test_rows_does_not_change_the_training_rows() -> None:
    sex = COHORT.covariates["sex"].copy()
    sex.loc[list(TEST)] = "unknown"
    by_sex = FeatureSettings(confounds=Confounds(columns=("sex",)))
    other = replace(COHORT, covariates=COHORT.covariates.assign(sex=sex))
    a, b = (fitted_on(c, by_sex, ("connectome",)) for c in (COHORT, other))
    assert_array_equal(edges_of(a.rows(COHORT, TRAIN)), edges_of(b.rows(other, TRAIN)))
    assert np.isfinite(edges_of(b.rows(other, TEST))).all()
    three = replace(COHORT, covariates=COHORT.covariates.assign(sex=["F", "M", "X"] * (COHORT.n_subjects // 3)))
    with pytest.raises(UsageError, match="3 categories"):
        fitted_on(three, by_sex, ("connectome",))


def test_the_steps_of_a_parent_are_all_of_them() -> None:
    pool = small_cohorts().pool
    assert pool is not None
    settings = FeatureSettings(
        confounds=Confounds(columns=("age",)),
        harmonise=HarmoniseSettings(method="combat"),
        edges=EdgeSettings(n_edges=9),
    )
    parent = fit_steps(pool, pool.ids, settings, ("connectome",))
    own = fitted_on(COHORT, settings)
    mixed = own.with_steps_of(parent)
    assert mixed.steps["connectome"] is parent.steps["connectome"]
    assert mixed.steps["connectome"].ids == pool.ids
    assert set(mixed.ids) == {*pool.ids, *TRAIN}
    assert_array_equal(edges_of(mixed.rows(COHORT, TEST)), edges_of(parent.rows(COHORT, TEST)))
    values = [one.rows(COHORT, TEST).arrays["clinical"].rows["values"] for one in (mixed, own)]
    assert_array_equal(*values)
    assert not np.array_equal(edges_of(mixed.rows(COHORT, TEST)), edges_of(own.rows(COHORT, TEST)))


def test_targets_are_scaled_on_the_rows_that_are_given() -> None:
    tasks = [COHORT.task("cognitive_score"), COHORT.task("motor_score")]
    raw = COHORT.targets.loc[list(TRAIN[::-1]), ["cognitive_score", "motor_score"]].to_numpy()
    scaler = TargetScaler.fit(raw, tasks, TRAIN)
    np.testing.assert_allclose(scaler.undo(scaler.apply(raw)), raw)
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
            changed: dict[str, Any] = {frame: table}
            assert (replace(COHORT, **changed).rows_hash(TRAIN) == want) is equal
    assert COHORT.rows_hash(TRAIN[::-1]) != want


def test_the_hash_of_prediction_inputs_excludes_outcomes() -> None:
    want = COHORT.input_hashes[0]
    first = COHORT.ids[:1]
    for name, value in {"weights": 1.5, "node_mask": False, "age": 3.0, "site": "Z"}.items():
        assert with_rows(COHORT, first, **{name: value}).input_hashes[0] != want, name
    assert with_features().input_hashes[0] != want
    table = COHORT.covariates.copy()
    table.loc[first[0], "gestational_age"] = 23.0
    assert replace(COHORT, covariates=table).input_hashes[0] != want
    targets = COHORT.targets + 1
    assert replace(COHORT, targets=targets).input_hashes == COHORT.input_hashes


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_category_can_be_hashed_and_encoded(missing: object) -> None:
    for kind in ("str", "string", "object"):
        sex = COHORT.covariates["sex"].astype(kind)
        sex.iloc[2] = missing
        cohort = replace(COHORT, covariates=COHORT.covariates.assign(sex=sex))
        assert len(cohort.rows_hash(TRAIN)) == 64
        fitted = fitted_on(cohort, FeatureSettings(confounds=Confounds(columns=("sex",))))
        assert np.isfinite(fitted.rows(cohort, COHORT.ids).arrays["clinical"].rows["values"]).all()


def test_who_lacks_a_modality_is_known_and_has_zeros() -> None:
    bare, blind = TEST[0], TEST[1]
    covariates = COHORT.covariates.copy()
    covariates.loc[bare] = np.nan
    covariates.loc[bare, "mean_fd"] = 0.3  # a nuisance covariate is not an input of the model
    cohort = with_rows(replace(COHORT, covariates=covariates), [blind], node_mask=False, weights=np.nan)
    rows = fitted_on(cohort).rows(cohort, TEST)
    clinical, connectome = rows.arrays["clinical"], rows.arrays["connectome"]
    assert clinical.present.tolist() == [i != bare for i in TEST]
    assert connectome.present.tolist() == [i != blind for i in TEST]
    assert (clinical.rows["values"][0] == 0).all()
    assert (connectome.rows["edges"][1] == 0).all()
    batch = to_batch(rows)
    assert batch.present["clinical"].tolist() == clinical.present.tolist()


def test_a_modality_that_the_cohort_lacks_is_left_out_and_none_at_all_is_refused() -> None:
    assert set(fitted_on(replace(COHORT, covariate_specs=())).steps) == {"connectome"}
    with pytest.raises(DataError, match="nothing to learn from"):
        fitted_on(replace(COHORT, covariate_specs=()), None, ("clinical",))
    assert set(MODALITIES) >= set(BOTH)


@pytest.mark.parametrize("method", ["none", "combat", "gamma"])
def test_state_and_back_is_the_same_for_every_kind_of_step(method: str) -> None:
    settings = FeatureSettings(
        harmonise=HarmoniseSettings.model_validate(
            {"method": method} | ({} if method == "none" else {"unseen": "none"})
        ),
        confounds=Confounds(columns=("age", "sex", "log(mean_fd)")),
        edges=EdgeSettings(consensus=0.5, n_edges=20),
    )
    cohort = with_features()
    fitted = fitted_on(cohort, settings)
    arrays, plain = fitted.state()
    again = Features.of(arrays, json.loads(canonical_json(plain)))  # keys sorted, as on disk
    first, second = fitted.state(), again.state()
    assert content_hash(first[1], *first[0].values()) == content_hash(second[1], *second[0].values())
    assert list(again.steps) == list(fitted.steps)
    assert again.ids == fitted.ids
    for ids in (TRAIN, TEST):
        one, two = (features.rows(cohort, ids) for features in (fitted, again))
        for name, part in one.arrays.items():
            for key, array in part.rows.items():
                assert array.tobytes() == two.arrays[name].rows[key].tobytes(), key


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["modalities"][0][1].update(record="Path"),
        lambda p: p["modalities"][0][1].update(record="OutcomeModel"),
        lambda p: p["modalities"][0][1]["fields"].pop("scaler"),
        lambda p: p["modalities"][0][1]["fields"].update(scaler={"array": "nothing"}),
        lambda p: p["modalities"][0][1].update(record=3),
        lambda p: p["modalities"][0].__setitem__(1, {}),
    ],
)
def test_state_that_names_something_else_makes_nothing(change: Any) -> None:
    arrays, plain = fitted_on(COHORT).state()
    plain = json.loads(canonical_json(plain))
    change(plain)
    with pytest.raises(OutputError, match="cannot be read"):
        Features.of(arrays, plain)
