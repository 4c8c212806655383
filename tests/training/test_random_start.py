"""Networks are averaged with as many from random weights, by the likelihood of held-out rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, last_stage, not_averaged, plan_of, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel, fitted_model
from connectome_tl.training.networks.outputs import columns_of, losses
from connectome_tl.training.networks.random_start import share_of
from connectome_tl.training.plans import RANDOM
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts(n_target=40)
FOLD = Fold(COHORTS.target.ids[:28], COHORTS.target.ids[28:])
OUTCOMES = [COHORTS.target.task(name) for name in TASKS]
BINARY = Task(name="delay", kind="binary", column="delay")
VALUE = Task(name="score", kind="regression", column="score")


def study(**ensemble: object) -> StudySettings:
    made = small_settings(steps=40)
    changed = {"networks": 2, "checkpoints": (0.0, 0.5), **ensemble}
    return made.with_settings({f"stages.finetune.ensemble.{name}": value for name, value in changed.items()})


def table(values: dict[str, np.ndarray], ids: tuple[str, ...]) -> np.ndarray:
    return np.array([values[subject] for subject in ids])


@pytest.fixture(scope="module")
def both_sizes() -> tuple[FitResult, FitResult]:
    """The network and its control without earlier stages."""
    plans = [plan_of(FOLD, study(), cohorts=COHORTS, scheme=scheme) for scheme in ("network", "network_scratch")]
    found = fit(plans, COHORTS.by_name())
    return found[plans[0].key], found[plans[1].key]


@pytest.fixture(scope="module")
def fits() -> dict[str, FitResult]:
    both = plan_of(FOLD, study(), cohorts=COHORTS, scheme="network")
    plans = {
        "both": both,
        "transferred": not_averaged(both),
        "random": dict(both.parents)[RANDOM].predicting(FOLD.test),
    }
    found = fit(plans.values(), COHORTS.by_name())
    return {name: found[plan.key] for name, plan in plans.items()}


def test_a_model_and_its_controls_are_averaged_with_the_same_networks_from_random_weights() -> None:
    plans = {
        scheme: plan_of(FOLD, study(), cohorts=COHORTS, scheme=scheme)
        for scheme in ("network", "network_no_pretrain", "network_no_adapt", "network_scratch")
    }
    assert len({dict(plan.parents)[RANDOM].key for plan in plans.values()}) == 1
    assert len({not_averaged(plan).key for plan in plans.values()}) == 4
    control, random = plans["network_scratch"], dict(plans["network"].parents)[RANDOM]
    assert not random.parents
    assert random.seed != control.seed
    assert replace(random, seed=control.seed).key == not_averaged(control).key
    assert [name for name, _ in control.parents] == [RANDOM]


def test_a_model_has_as_many_networks_as_its_control(both_sizes: tuple[FitResult, FitResult]) -> None:
    n_states = [len(NetworkModel.of(one.arrays, one.plain).shares[TASKS[0]]) for one in both_sizes]
    assert n_states == [4, 4]
    network, control = both_sizes
    assert any(name.startswith("transferred ") for name in network.facts)
    assert not any(name.startswith("transferred ") for name in control.facts)


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_have_networks_of_their_own(seed: int) -> None:
    plan, other = (plan_of(FOLD, study(), cohorts=COHORTS, scheme="network", seed=s) for s in (seed, seed + 1))
    keys = [{one.key for one in made.lineage() if one.stage == "finetune"} for made in (plan, other)]
    assert not keys[0] & keys[1]


def test_predictions_are_averaged_by_the_root_of_the_likelihood_ratio(fits: dict[str, FitResult]) -> None:
    truth = COHORTS.target.targets[list(TASKS)].to_numpy(float)[COHORTS.target.positions(FOLD.train)]
    for t, task in enumerate(OUTCOMES):
        place, known = columns_of(OUTCOMES)[task.name], np.isfinite(truth[:, t])
        one, two = (table(fits[name].held_out, FOLD.train)[known][:, place] for name in ("transferred", "random"))
        sums = [losses(side, truth[known, t], task).sum() for side in (one, two)]
        ratio = np.exp(sums[1] - sums[0]) if task.is_binary else (sums[1] / sums[0]) ** (known.sum() / 2)
        share = fits["both"].facts[f"transferred {task.name}"]
        assert share / (1 - share) == pytest.approx(np.sqrt(ratio), rel=1e-6)
        tested = [table(fits[name].predictions, FOLD.test)[:, place] for name in ("transferred", "random", "both")]
        np.testing.assert_allclose(tested[2], share * tested[0] + (1 - share) * tested[1], rtol=1e-6)


def test_held_out_predictions_of_a_part_do_not_depend_on_its_outcomes(fits: dict[str, FitResult]) -> None:
    truth = COHORTS.target.targets[list(TASKS)].to_numpy(float)[COHORTS.target.positions(FOLD.train)]
    plan = plan_of(FOLD, study(), cohorts=COHORTS, scheme="network")
    one, two, both = (table(fits[name].held_out, FOLD.train) for name in ("transferred", "random", "both"))
    for part in plan.inner:
        own = np.isin(FOLD.train, part)
        for t, task in enumerate(OUTCOMES):
            place = columns_of(OUTCOMES)[task.name]
            share = share_of(one[~own][:, place], two[~own][:, place], truth[~own, t], task)
            expected = share * one[own][:, place] + (1 - share) * two[own][:, place]
            np.testing.assert_allclose(both[own][:, place], expected, rtol=1e-9)


def test_the_stored_model_predicts_what_the_fit_predicted(fits: dict[str, FitResult]) -> None:
    model = fitted_model(fits["both"])
    assert isinstance(model, NetworkModel)
    np.testing.assert_array_equal(model.predict(COHORTS.target, FOLD.test), table(fits["both"].predictions, FOLD.test))
    for shares in model.shares.values():
        assert sum(shares.values()) == pytest.approx(1)
        assert len(shares) == 4


def test_a_network_of_an_earlier_bundle_is_read(fits: dict[str, FitResult]) -> None:
    result = fits["transferred"]
    plain = {name: value for name, value in result.plain.items() if name != "shares"}
    step = {task: int(result.facts[f"steps {task}"]) for task in TASKS}
    model = NetworkModel.of(result.arrays, {**plain, "step": step})
    np.testing.assert_array_equal(model.predict(COHORTS.target, FOLD.test), table(result.predictions, FOLD.test))


@pytest.mark.parametrize("scheme", ["network", "network_scratch"])
def test_nothing_is_averaged_where_a_study_does_not_request_it_or_has_no_earlier_stage(scheme: str) -> None:
    for changed in (study(random_start=False), study().with_settings({"stages.finetune.scaling": "parent"})):
        assert RANDOM not in dict(plan_of(FOLD, changed, cohorts=COHORTS, scheme=scheme).parents)
    for settings, cohorts in (
        (study().model_copy(update={"stages": last_stage(study().stages.finetune)}), COHORTS),
        (study(), StudyCohorts({"target": COHORTS.target})),
    ):
        assert not plan_of(FOLD, settings, cohorts=cohorts, scheme=scheme).parents


@pytest.mark.parametrize("task", [BINARY, VALUE], ids=lambda task: task.kind)
def test_the_share_follows_the_held_out_rows(task: Task) -> None:
    rng = np.random.default_rng(3)
    signal = rng.normal(size=400)
    truth = (rng.random(400) < 1 / (1 + np.exp(-2 * signal))).astype(float) if task.is_binary else signal
    good = 1 / (1 + np.exp(-2 * signal)) if task.is_binary else 0.5 * signal
    bad = 1 / (1 + np.exp(2 * rng.normal(size=400))) if task.is_binary else rng.normal(size=400)
    good, bad = good[:, None], bad[:, None]
    assert share_of(good, bad, truth, task) > 0.99
    assert share_of(bad, good, truth, task) < 0.01
    assert share_of(good, good, truth, task) == 0.5
    assert share_of(good, bad, np.full(400, np.nan), task) == 0.5
    few = share_of(good[:6], bad[:6], truth[:6], task)
    assert 0.02 < few < 0.98
    exact = share_of(truth[:, None], truth[:, None], truth, task)
    assert exact == 0.5
