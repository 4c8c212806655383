"""The network enters the full model only if it helps on held-out rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from small_study import FLAT, TASKS, not_averaged, plan_of, retrained, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold, kinship_groups, make_split_plan
from connectome_tl.settings.study import SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.training import mixture
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel, fitted_model
from connectome_tl.training.mixture import WEIGHTS, choose_weight
from connectome_tl.training.networks.outputs import losses, mixed

COHORTS = small_cohorts()
FOLD = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0][0]
SCORE = Task(name="score", kind="regression", column="score")
LOW = Task(name="low", kind="binary", column="low")
LEVEL = Task(name="level", kind="ordinal", column="level", levels=("a", "b", "c"))
CLASS = Task(name="class", kind="multiclass", column="class", levels=("a", "b", "c"))


def table(task: Task, seed: int, network: str, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of a calibrated core and of a network, and the truth."""
    rng = np.random.default_rng([seed, n])
    known, own, rest = rng.normal(size=(3, n))
    half, noise = np.sqrt(0.5), rng.normal(size=n)
    signal = {"noise": noise, "better": known + own}[network]
    if task.kind == "regression":
        # The best prediction from `known`; the other is noise of the same spread, or more informative.
        return known[:, None] * half, signal[:, None] * half, half * (known + own) + 0.3 * rest
    truth = (rng.random(n) < expit(1.5 * (known + own))).astype(float)
    calibrated = np.array([expit(1.5 * (k + rng.normal(size=2000))).mean() for k in known])
    return calibrated[:, None], expit(1.5 * signal)[:, None], truth


@pytest.mark.parametrize("task", [SCORE, LOW], ids=lambda t: t.kind)
@pytest.mark.parametrize("n", [30, 60])
def test_a_network_that_is_noise_is_left_out(task: Task, n: int) -> None:
    weights = [choose_weight(*table(task, seed, "noise", n), task, np.arange(n))[0] for seed in range(100)]
    assert np.sum(np.array(weights) == 0) >= 95


@pytest.mark.parametrize("task", [SCORE, LOW], ids=lambda t: t.kind)
def test_a_network_that_is_clearly_better_gets_weight(task: Task) -> None:
    weights = [choose_weight(*table(task, seed, "better", 120), task, np.arange(120))[0] for seed in range(20)]
    assert np.median(weights) >= 0.5
    assert np.sum(np.array(weights) > 0) >= 18


def test_a_network_equal_to_the_core_and_too_few_rows_give_nothing() -> None:
    core, better, truth = table(SCORE, 0, "better")
    assert choose_weight(core, core, truth, SCORE, np.arange(60)) == (0.0, 0.0)
    assert choose_weight(core[:3], better[:3], truth[:3], SCORE, np.arange(3)) == (0.0, 0.0)
    unknown = np.where(np.arange(60) < 57, np.nan, truth)
    assert choose_weight(core, better, unknown, SCORE, np.arange(60)) == (0.0, 0.0)


def test_relatives_count_as_one() -> None:
    """Rows repeated ten times within their family are no more evidence than once."""
    outcomes = []
    for seed in range(40):
        core, network, truth = table(SCORE, seed, "noise", 12)
        network = 0.7 * core + 0.3 * network
        once = choose_weight(core, network, truth, SCORE, np.arange(12))[0]
        often = [np.tile(part, (10, 1)) if part.ndim == 2 else np.tile(part, 10) for part in (core, network, truth)]
        families = choose_weight(*often, SCORE, np.tile(np.arange(12), 10))[0]  # type: ignore[arg-type]
        strangers = choose_weight(*often, SCORE, np.arange(120))[0]  # type: ignore[arg-type]
        assert families == once
        outcomes.append((once > 0, strangers > 0))
    assert sum(s for _, s in outcomes) > sum(o for o, _ in outcomes)


def test_the_weight_is_that_of_the_least_held_out_loss_worked_by_hand() -> None:
    truth = np.arange(20.0)
    core, network = truth[:, None] + 1.0, truth[:, None] - 1.0
    weight, gain = choose_weight(core, network, truth, SCORE, np.arange(20))
    assert (weight, gain) == (0.5, pytest.approx(1.0))
    assert choose_weight(core, network, truth, SCORE, np.arange(20), scale=2.0) == (0.5, pytest.approx(0.25))


@pytest.mark.parametrize("task", [SCORE, LOW, LEVEL, CLASS], ids=lambda t: t.kind)
def test_mixing_keeps_probabilities_and_ends_at_both_models(task: Task) -> None:
    rng = np.random.default_rng(0)
    one, two = (rng.dirichlet(np.ones(max(task.n_columns, 2)), 9)[:, : task.n_columns] for _ in range(2))
    assert mixed(one, two, 0.0, task) is one
    np.testing.assert_allclose(mixed(one, two, 1.0, task), two, atol=1e-9)
    for weight in WEIGHTS:
        found = mixed(one, two, weight, task)
        assert ((np.minimum(one, two) - 1e-12 <= found) & (found <= np.maximum(one, two) + 1e-12)).all()
        if task.n_columns > 1:
            np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("task", [LOW, LEVEL, CLASS], ids=lambda t: t.kind)
def test_the_loss_is_least_for_the_truth_and_unknown_where_the_outcome_is(task: Task) -> None:
    n_levels = max(task.n_levels, 2)
    truth = np.array([*range(n_levels), np.nan])
    right = np.eye(n_levels)[np.arange(n_levels + 1) % n_levels]
    wrong = right[:, ::-1] if task is not LOW else 1 - right
    columns = slice(1, 2) if task is LOW else slice(None)
    good, bad = (losses(p[:, columns], truth, task) for p in (right, np.roll(wrong, 1, axis=1)))
    assert np.isnan(good[-1])
    assert (good[:-1] < 1e-5).all()
    if task is LOW:
        bad = losses(1 - right[:, columns], truth, task)
    assert bad[:-1].sum() > 1


def test_without_weight_the_mixture_is_the_core_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(FOLD)
    core = dict(plan.parents)["core"]
    for weight, same in ((0.0, True), (0.3, False)):
        monkeypatch.setattr(mixture, "choose_weight", lambda *_, weight=weight: (weight, 0.0))
        results = fit([plan], COHORTS.by_name())
        full, alone = results[plan.key], results[core.key]
        assert full.facts == {f"weight {name}": weight for name in TASKS} | {f"held-out gain {n}": 0.0 for n in TASKS}
        for found, want in ((full.predictions, alone.predictions), (full.held_out, alone.held_out)):
            assert found.keys() == want.keys()
            assert all(np.array_equal(found[subject], want[subject]) == same for subject in found)


def test_too_few_families_to_hold_any_out_leave_the_core_alone() -> None:
    targets = COHORTS.target.targets[list(TASKS)].iloc[6:]
    known = tuple(str(i) for i in targets.index[targets.notna().all(axis=1)])
    plan = plan_of(Fold(known[:3], known[3:6]), scheme="scratch")
    network = dict(plan.parents)["network"]
    assert network.inner == ()
    results = fit([plan], COHORTS.by_name())
    assert {f"weight {name}": 0.0 for name in TASKS}.items() <= results[plan.key].facts.items()


def test_inner_parts_hold_out_every_row_once_and_families_together() -> None:
    network = plan_of(FOLD, scheme="network")
    assert sorted(i for part in network.inner for i in part) == sorted(FOLD.train)
    groups = dict(zip(COHORTS.target.ids, kinship_groups(COHORTS.target.family), strict=True))
    for part in network.inner:
        assert not {groups[i] for i in part} & {groups[i] for i in set(FOLD.train) - set(part)}


def test_held_out_predictions_come_from_a_network_that_has_not_seen_the_row() -> None:
    """Corrupted outcomes of one part do not change the network that leaves it out, nor its predictions of this part.

    An exception is the head of a value, which is shrunk by the held-out rows of all networks.
    """
    study = small_settings(model=FLAT)
    plan = retrained(plan_of(FOLD, study, scheme="network_scratch"), steps=6)
    first = plan.inner[0]
    targets = COHORTS.target.targets.copy()
    targets.loc[list(first), "cognitive"] = 1 - targets.loc[list(first), "cognitive"]
    wrecked = COHORTS.with_role("target", replace(COHORTS.target, targets=targets))
    found = []
    for cohorts in (COHORTS, wrecked):
        one = plan_of(FOLD, study, cohorts=cohorts, scheme="network_scratch", inner=plan.inner, checkpoints=(1.0,))
        one = not_averaged(one)
        result = fit([retrained(one, steps=6)], cohorts.by_name())
        found.append(next(iter(result.values())))
    shrunk = "heads.motor_score"
    weights = [{k: v for k, v in one.arrays.items() if k.startswith("state/0/") and shrunk not in k} for one in found]
    others = [{k: v for k, v in one.arrays.items() if k.startswith("state/1/")} for one in found]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(others[0][name], others[1][name]) for name in others[0])
    for subject in plan.train.ids:
        same = found[0].held_out[subject][0] == found[1].held_out[subject][0]
        assert same == (subject in first), subject


def test_held_out_predictions_are_those_of_the_network_without_the_part() -> None:
    plan = not_averaged(plan_of(FOLD, scheme="network_scratch", checkpoints=(1.0,)))
    result = fit([plan], COHORTS.by_name())[plan.key]
    model = fitted_model(result)
    assert isinstance(model, NetworkModel)
    for number, part in enumerate(plan.inner):
        own = {name: state for name, state in model.states.items() if name.startswith(f"{number}/")}
        alone = replace(model, states=own, shares={task: dict.fromkeys(own, 1.0) for task in TASKS})
        found = alone.predict(COHORTS.target, part)
        want = np.array([result.held_out[subject] for subject in part])
        # Risks; the line by which values are shrunk is that of the other parts (test_shrinkage.py).
        np.testing.assert_allclose(found[:, 0], want[:, 0], rtol=1e-5)
