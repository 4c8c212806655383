"""Stability, null distributions and patterns compared with independent computations, and on planted signals."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_study import FLAT, small_cohorts, small_settings

from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.errors import DivergedError, MissingInputError
from connectome_tl.evaluation.explain import network_view, refitted_null
from connectome_tl.evaluation.explain.core_view import CoreView
from connectome_tl.evaluation.explain.forward import ForwardModel
from connectome_tl.evaluation.explain.items import Items, Places, with_regions
from connectome_tl.evaluation.explain.models import explained, features_of
from connectome_tl.evaluation.explain.null import beyond_largest, core_values, null_maps
from connectome_tl.evaluation.explain.plain import PlainColumns
from connectome_tl.evaluation.explain.refitted_null import affordable, n_refits, refitted_null_maps
from connectome_tl.evaluation.explain.stability import overlap, rank_correlation, stabilities, top_of
from connectome_tl.evaluation.explain.study import items_of, not_above_chance
from connectome_tl.evaluation.explain.summary import summaries
from connectome_tl.evaluation.explain.targets import Target, targets_of
from connectome_tl.evaluation.explain.units import UnitMap, planned_folds, pooled, standardised, unit_maps
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.settings.records.scores import Score
from connectome_tl.settings.study import SplitSettings, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.closed_form.fitted_core import QuadraticPart, RadialPart
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.timing import FitCost

COHORTS = small_cohorts(n_target=40, n_regions=12)
TARGET = COHORTS.target
TASK = Task(name="score", kind="regression", column="score")


@pytest.fixture(scope="module")
def study() -> StudySettings:
    return small_settings(model=FLAT, splits=SplitSettings(repeats=2, outer=3, stratum="cognitive"))


@pytest.fixture(scope="module")
def splits(study: StudySettings) -> SplitPlan:
    return make_split_plan(TARGET, study.splits)


@pytest.fixture(scope="module")
def core(
    study: StudySettings, splits: SplitPlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[PlannedFold, ...], FitStore]:
    """The stored cores of all folds."""
    tasks = [TARGET.task("cognitive"), TARGET.task("motor_score")]
    planned = planned_folds(study, COHORTS, splits, tasks, "core")
    store = FitStore(tmp_path_factory.mktemp("models"))
    fit([plan for item in planned for plan in item.plans], COHORTS.by_name(), store=store)
    return planned, store


def every(task: Task) -> bool:
    return bool(task.name)


def items_of_core(core: tuple[tuple[PlannedFold, ...], FitStore]) -> Items:
    planned, store = core
    return items_of(TARGET, [stored_model(store, item.plans[0].key).features for item in planned])  # type: ignore[attr-defined]


def test_the_maps_of_the_observed_labelling_are_those_of_the_stored_fits(
    core: tuple[tuple[PlannedFold, ...], FitStore],
) -> None:
    """Refitted by algebra and loaded models give the same numbers, for every method and kind of item."""
    planned, store = core
    items = items_of_core(core)
    moves = exchangeable_permutations(TARGET.ids, 3, 0)
    nulls = null_maps(planned, COHORTS, store, items, moves, every)
    units = list(unit_maps(planned, TARGET, store, items, every))
    assert {key[2] for key in nulls} == {"pattern", "integrated gradients", "occlusion"}
    for (task, level, method), by_kind in nulls.items():
        mine = [
            u
            for u in standardised([u for u in units if u.method == method and u.target.task.name == task])
            if u.repeat == 0 and u.target.level == level
        ]
        stored = pooled(mine, items)
        assert stored.keys() == by_kind.keys()
        for kind, values in by_kind.items():
            np.testing.assert_allclose(values[:, 0], stored[kind], rtol=1e-6, atol=1e-9)
            assert values.shape[1] == 4


def test_a_pattern_is_the_covariance_of_held_out_rows_times_the_weights_of_each_fold(
    core: tuple[tuple[PlannedFold, ...], FitStore],
) -> None:
    """Written out: every subject once, after the steps of the fit that has not seen it; weights by least squares."""
    planned, store = core
    first = [item for item in planned if item.repeat == 0]
    items = items_of_core(core)
    assert sorted(i for item in first for i in item.fold.test) == sorted(TARGET.ids)
    units = [
        u
        for u in unit_maps(first, TARGET, store, items, every)
        if u.method == "pattern" and u.target.task.name == "motor_score"
    ]
    rows, weights = [], []
    for item in first:
        model = stored_model(store, item.plans[0].key)
        plain = PlainColumns.of(features_of(model), TARGET, item.fold.test, item.fold.train, items)
        attributed = explained(model, TARGET, item.fold.test, items).attributions(units[0].target)
        owners = [*range(items.n_edges), *plain.places.region[plain.places.region >= 0] + items.n_edges]
        owners += [items.n_edges + items.n_regions + i for i in range(len(items.covariates))]
        found = np.zeros(len(owners))
        for owner in set(owners):
            mine = [i for i, one in enumerate(owners) if one == owner]
            found[mine] = np.linalg.lstsq(plain.delta[:, mine], attributed[:, owner], rcond=None)[0]
        rows.append(plain.delta)
        weights.append(found)
    whole = ForwardModel.of(np.concatenate(rows)).patterns(np.stack(weights, axis=1))
    for unit_, own in zip(units, whole.T, strict=True):
        np.testing.assert_allclose(unit_.values["edge"], own[: items.n_edges], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(unit_.values["covariate"], own[-len(items.covariates) :], rtol=1e-9, atol=1e-12)


def test_maps_of_curved_kernels_for_many_labellings_are_those_of_single_ones(
    core: tuple[tuple[PlannedFold, ...], FitStore],
) -> None:
    planned, store = core
    item, items = planned[0], items_of_core(core)
    model = stored_model(store, item.plans[0].key)
    assert isinstance(model, CoreModel)
    view = CoreView.of(model, TARGET, item.fold.test, items)
    plain = PlainColumns.of(model.features, TARGET, item.fold.test, item.fold.train, items)
    rng = np.random.default_rng(5)
    radial = {
        part.name: RadialPart(part.rows[:4].astype(np.float32), rng.normal(size=(4, 2)), 1.0 / part.rows.shape[1])
        for part in view.parts
    }
    quadratic = {}
    for part in view.parts:
        products = rng.normal(size=(3, 3, 2))
        basis = rng.normal(size=(part.rows.shape[1], 3)) / part.rows.shape[1]
        quadratic[part.name] = QuadraticPart(basis, products + products.swapaxes(0, 1))
    model = replace(model, fit=replace(model.fit, radial=radial, quadratic=quadratic))
    looked = explained(model, TARGET, item.fold.test, items)
    for target in targets_of(item.tasks):
        _, weights, maps = core_values(view, plain, model.fit, target, np.array([target.column]))
        attributed = looked.attributions(target)
        for kind, values in plain.signed(attributed).items():
            np.testing.assert_allclose(maps["integrated gradients"][kind][:, 0], values, rtol=1e-7, atol=1e-8)
        wanted = plain.weights([(one * attributed).sum(axis=0) for one in plain.levers])
        np.testing.assert_allclose(weights[:, 0], wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("model", ["network", "full"])
def test_a_model_fitted_again_on_its_own_outcomes_has_the_maps_of_the_run(
    model: str, study: StudySettings, splits: SplitPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The observed labelling uses the stored fits; the first permutation moves no subject, the second moves all."""
    monkeypatch.setattr(network_view, "STEPS", 6)  # equal maps do not depend on their accuracy
    planned = planned_folds(study, COHORTS, splits, [TARGET.task("cognitive")], model)
    store = FitStore(tmp_path)
    fit([plan for item in planned for plan in item.plans], COHORTS.by_name(), store=store)
    before = {file.name for file in tmp_path.iterdir()}
    items = items_of(TARGET, [features_of(stored_model(store, planned[0].plans[0].key))])
    n = TARGET.n_subjects
    moves = np.stack([np.arange(n), np.roll(np.arange(n), 11)])
    nulls = refitted_null_maps(study, COHORTS, planned, store, tmp_path / "permuted", items, moves, every)
    assert {file.name for file in tmp_path.iterdir()} == {*before, "permuted"}
    assert {key[2] for key in nulls} == {"pattern", "integrated gradients", "occlusion"}
    units = [u for u in unit_maps(planned, TARGET, store, items, every) if (u.repeat, u.seed) == (0, 0)]
    for (_, _, method), by_kind in nulls.items():
        stored = pooled(standardised([u for u in units if u.method == method]), items)
        for kind, values in by_kind.items():
            assert values.shape == (len(stored[kind]), 3)
            np.testing.assert_array_equal(values[:, 0], stored[kind])
            np.testing.assert_array_equal(values[:, 1], stored[kind])
        assert not np.allclose(by_kind["region"][:, 2], by_kind["region"][:, 0])
    assert n_refits(planned, 49) == 49 * 3


@pytest.mark.parametrize(
    ("model", "seconds", "n"), [("full", 0.3, 49), ("full", 0.8, 19), ("full", 1.2, 0), ("network", 1.2, 19)]
)
def test_permutations_are_affordable_by_all_fits_that_they_repeat(
    study: StudySettings, splits: SplitPlan, monkeypatch: pytest.MonkeyPatch, model: str, seconds: float, n: int
) -> None:
    """In each of three folds: a core, and two networks with as many from random weights."""
    planned = planned_folds(study, COHORTS, splits, [TARGET.task("cognitive")], model)
    costs = {
        (stage, (), 0, False, ""): FitCost(seconds) for stage in ("core", "finetune", "pretrain", "adapt", "source")
    }
    monkeypatch.setattr(refitted_null, "measure", lambda *_, **__: costs)
    fits = 3 * seconds * (4 + (model == "full"))
    assert affordable(planned, COHORTS, 0.0, n_jobs=1) == n
    assert n == next((k for k in (49, 19) if k * fits <= refitted_null.LONGEST), 0)
    assert affordable(planned, COHORTS, 100.0, n_jobs=1) == 0


def test_a_permutation_whose_training_diverges_counts_against_the_finding(
    study: StudySettings, splits: SplitPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = planned_folds(study, COHORTS, splits, [TARGET.task("cognitive")], "network")
    planned = tuple(item for item in planned if item.repeat == 0)
    store = FitStore(tmp_path)
    fit([plan for item in planned for plan in item.plans], COHORTS.by_name(), store=store)
    items = items_of(TARGET, [features_of(stored_model(store, planned[0].plans[0].key))])

    def diverges(*_: object, **__: object) -> None:
        raise DivergedError("not finite")

    monkeypatch.setattr(refitted_null, "fit", diverges)
    nulls = refitted_null_maps(study, COHORTS, planned, store, tmp_path, items, np.arange(40)[None], every)
    for by_kind in nulls.values():
        assert np.isnan(by_kind["region"][:, 1]).all()
        assert (beyond_largest(by_kind["region"])[0] == 1.0).all()


def test_a_killed_null_goes_on_with_the_fits_that_were_made(
    study: StudySettings, splits: SplitPlan, tmp_path: Path
) -> None:
    """Killed by SIGKILL after the first labelling: its fits are unchanged, the maps those of an uninterrupted run."""
    planned = planned_folds(study, COHORTS, splits, [TARGET.task("cognitive")], "network")
    planned = planned[:1]
    store, scratch = FitStore(tmp_path / "models"), tmp_path / "permuted"
    fit([plan for item in planned for plan in item.plans], COHORTS.by_name(), store=store)
    items = items_of(TARGET, [features_of(stored_model(store, planned[0].plans[0].key))])
    moves = np.stack([np.roll(np.arange(40), 11), np.roll(np.arange(40), 17)])
    seen: list[tuple[int, int]] = []

    def killing(done: int, total: int) -> None:
        assert (done, total) == (1, 2)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        refitted_null_maps(study, COHORTS, planned, store, scratch, items, moves, every, killing)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = {file: file.stat().st_mtime_ns for file in scratch.iterdir()}
    assert len([file for file in left if file.suffix == ".json"]) == 2  # from transferred and from random weights
    resumed = refitted_null_maps(
        study, COHORTS, planned, store, scratch, items, moves, every, lambda *both: seen.append(both)
    )
    assert seen == [(1, 2), (2, 2)]
    assert {file: file.stat().st_mtime_ns for file in left} == left
    whole = refitted_null_maps(study, COHORTS, planned, store, tmp_path / "other", items, moves, every)
    for key, by_kind in whole.items():
        for kind, values in by_kind.items():
            np.testing.assert_array_equal(resumed[key][kind], values)


def test_a_fit_that_is_not_stored_is_missing_and_nothing_is_fitted(
    core: tuple[tuple[PlannedFold, ...], FitStore], tmp_path: Path
) -> None:
    planned, _ = core
    with pytest.raises(MissingInputError):
        list(unit_maps(planned, TARGET, FitStore(tmp_path), Items((), (), ()), every))
    assert not list(tmp_path.iterdir())


def test_summaries_have_every_item_and_keep_the_strongest_edges(
    core: tuple[tuple[PlannedFold, ...], FitStore],
) -> None:
    planned, store = core
    items = items_of_core(core)
    units = list(unit_maps(planned, TARGET, store, items, lambda task: task.name == "motor_score"))
    found = summaries(units, items, "core", {})
    assert [(record.task, record.method) for record, _ in found] == [
        ("motor_score", "pattern"), ("motor_score", "integrated gradients"), ("motor_score", "occlusion")
    ]  # fmt: skip
    for record, full in found:
        assert len(full["region"]) == len(record.regions) == TARGET.n_regions
        assert record.n_subjects == TARGET.n_subjects
        if record.method == "occlusion":
            assert {item.name for item in record.modalities} == {"edges", "clinical"}
            assert np.isfinite([item.drop for item in record.modalities]).all()
        else:
            assert len(full["edge"]) == items.n_edges
            sizes = [abs(item.value) for item in record.edges]
            assert sizes == sorted(sizes, reverse=True)
        assert {one.over for one in record.stability} == {"folds", "repeats"}


def test_a_pattern_finds_planted_edges_where_weights_are_misled_by_noise() -> None:
    """Haufe's example: some edges contain the signal, others only noise that the first share. A linear model puts
    large weights on the noise edges to cancel it; the pattern leaves them at 0."""
    rng = np.random.default_rng(0)
    n, n_signal, n_noise = 4000, 5, 5
    outcome, noise = rng.normal(size=(2, n, 1))
    x = np.concatenate([outcome + noise, np.repeat(noise, 1, axis=1)], axis=1)
    x = np.concatenate([np.repeat(x[:, :1], n_signal, 1), np.repeat(x[:, 1:], n_noise, 1)], axis=1)
    x += 0.3 * rng.normal(size=x.shape)
    weights = np.linalg.lstsq(x, outcome[:, 0], rcond=None)[0]
    items = Items(tuple("abcde"), ("m",), ())
    assert items.n_edges == n_signal + n_noise
    plain = PlainColumns(items, x, Places.of(10, 0, edge=np.arange(10)))
    pattern = np.abs(plain.patterns(weights[:, None])["edge"][:, 0])
    assert np.abs(weights[n_signal:]).min() > 0.5 * np.abs(weights[:n_signal]).max()
    assert pattern[:n_signal].min() > 5 * pattern[n_signal:].max()
    # For one output, Haufe's covariance formula up to the variance of the prediction; many rows need no regularisation.
    found = plain.patterns(weights[:, None])["edge"][:, 0]
    np.testing.assert_allclose(found, np.cov(x.T) @ weights, atol=0.03 * np.abs(found).max())


def test_p_values_of_the_largest_statistic_count_the_labellings_that_reach_it() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(30, 200))
    values[4, 0] = 12.0
    values[7] = 0.0
    p, threshold, largest = beyond_largest(values)
    assert p[4] == pytest.approx(1 / 200)
    assert p[7] == 1.0
    assert largest > threshold
    centre, spread = np.abs(values).mean(axis=1), np.abs(values).std(axis=1)
    z = (np.abs(values) - centre[:, None]) / np.where(spread > 0, spread, np.inf)[:, None]
    assert p[0] == pytest.approx((z.max(axis=0) >= z[0, 0]).mean())
    undefined = values.copy()
    undefined[:, 5:15] = np.nan  # labellings that could not be fitted count as exceeding the observed value
    assert beyond_largest(undefined)[0][4] == pytest.approx(11 / 200)
    assert np.isnan(beyond_largest(np.full((3, 5), np.nan))[0]).all()


def test_under_the_null_the_corrected_p_rejects_about_one_time_in_twenty() -> None:
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(40, 40)) + 3 * np.eye(40)
    rejected = 0
    for _ in range(300):
        values = mixing @ rng.normal(size=(40, 100))
        rejected += bool((beyond_largest(values)[0] <= 0.05).any())
    assert 4 <= rejected <= 27  # 99.9 % of binomial(300, 0.05)


BARE = Items((), (), ())


def unit(values: np.ndarray, *, repeat: int = 0, fold: int = 0, seed: int = 0) -> UnitMap:
    return UnitMap(Target(TASK, "", 0, 0), "pattern", repeat, fold, seed, 10, 9.0, {"region": values})


def test_stability_is_that_of_pairs_of_folds_of_one_repeat() -> None:
    rng = np.random.default_rng(3)
    maps = {(r, f): rng.random(30) for r in range(2) for f in range(3)}
    found = {s.over: s for s in stabilities([unit(v, repeat=r, fold=f) for (r, f), v in maps.items()], BARE)}
    pairs = [((r, a), (r, b)) for r in range(2) for a in range(3) for b in range(a)]
    expected = np.mean([spearmanr(maps[a], maps[b])[0] for a, b in pairs])
    assert found["folds"].rank_correlation == pytest.approx(expected)
    top = [set(np.argsort(-v)[:10]) for v in maps.values()]
    shared = [len(top[3 * r + a] & top[3 * r + b]) / 10 for r in range(2) for a in range(3) for b in range(a)]
    assert found["folds"].overlap == pytest.approx(np.mean(shared))
    assert found["folds"].low <= found["folds"].overlap <= found["folds"].high
    assert found["folds"].chance == pytest.approx(10 / 30)
    assert found["repeats"].n_units == 2
    assert np.isnan(found["repeats"].low)  # two units have no interval
    assert "seeds" not in found
    same = [unit(maps[0, 0], fold=f) for f in range(4)]
    (one,) = stabilities(same, BARE)
    assert (one.rank_correlation, one.overlap, one.low, one.high) == (pytest.approx(1.0), 1.0, 1.0, 1.0)


def test_maps_are_in_standard_deviations_of_the_predictions_of_their_repeat() -> None:
    units = [unit(np.array([2.0, 4.0]), fold=f) for f in range(3)]  # variance 27 / 27
    assert pooled(standardised(units), BARE)["region"].tolist() == [2.0, 4.0]
    wide = [replace(u, square=36.0) for u in units]
    assert pooled(standardised(wide), BARE)["region"].tolist() == [1.0, 2.0]
    constant = [replace(u, square=0.0) for u in units]
    assert pooled(standardised(constant), BARE)["region"].tolist() == [0.0, 0.0]


def test_items_of_several_measures_have_one_edge_each_and_regions_sum_half_of_their_edges() -> None:
    items = Items(("a", "b", "c"), ("count", "FA"), ("age",))
    assert items.names("edge") == (
        "a - b, count",
        "a - c, count",
        "b - c, count",
        "a - b, FA",
        "a - c, FA",
        "b - c, FA",
    )
    edges = np.array([1.0, -2.0, 0.0, 0.0, 0.0, 4.0])
    found = with_regions({"edge": edges, "own": np.array([0.0, 0.0, 10.0]), "covariate": np.zeros(1)}, items)
    assert found["region"].tolist() == [1.5, 2.5, 13.0]
    places = Places.of(6, 0, edge=np.arange(6))
    assert [list(columns) for columns in places.sets(items)[:3]] == [[0, 1, 3, 4], [0, 2, 3, 5], [1, 2, 4, 5]]


def test_helpers_of_stability_at_their_limits() -> None:
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4.0)))
    assert overlap(np.zeros(6), np.zeros(6), 3) == 0.0  # no item is among the strongest of a map of zeros
    assert top_of("region", 90) == 10
    assert top_of("region", 5) == 2


def test_a_map_is_withheld_unless_the_interval_lies_above_chance() -> None:
    task = Task(name="delay", kind="binary", column="delay")

    def score(low: float) -> list[Score]:
        return [Score(task="delay", model="core", metric="auc", value=0.7, low=low, high=0.9, n=30)]

    assert not_above_chance(task, "core", score(0.51)) == ""
    assert "not distinguishable from chance" in not_above_chance(task, "core", score(0.5))
    assert "undefined" in not_above_chance(task, "core", score(float("nan")))
    assert not_above_chance(task, "full", score(0.6)) == "it has no score"
