"""How one network is trained: batches, frozen parts, rates, carried weights, anchors, failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, fitted_bytes, not_averaged, plan_of, retrained, small_cohorts, small_settings, weights_of

from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.errors import DataError
from connectome_tl.nn.model import part_of
from connectome_tl.settings.encoders import FlatEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.networks.loop import has_settled
from connectome_tl.training.plans import FitPlan, Transfer
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts()
FOLD = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0][0]
PARTS = {"connectome", "clinical", "fusion", "heads"}
ALONE = {"stages.finetune.ensemble.random_start": False}
BATCH_NORM = ModelSettings(encoder=FlatEncoder(widths=(6, 4), norm="batch"), norm="batch")


def one(plan: FitPlan, cohorts: StudyCohorts = COHORTS, **options: object) -> FitResult:
    return fit([plan], cohorts.by_name(), **options)[plan.key]  # type: ignore[arg-type]


def single(scheme: str = "network", **training: object) -> FitPlan:
    """One network on all training rows, not an ensemble."""
    return retrained(
        not_averaged(plan_of(FOLD, scheme=scheme, inner=(), checkpoints=())), part_learning_rates={}, **training
    )


def moved(plan: FitPlan, cohorts: StudyCohorts = COHORTS) -> set[str]:
    """Parameters that training changes."""
    start, end = (weights_of(one(p, cohorts)) for p in (retrained(plan, steps=0), plan))
    return {name for name in start if not np.array_equal(start[name], end[name])}


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_no_batch_of_one_is_left_over(norm: str) -> None:
    model = ModelSettings(encoder=FlatEncoder(widths=(4,), norm=norm), norm=norm)  # type: ignore[arg-type]
    plan = plan_of(FOLD, small_settings(model=model), scheme="network_scratch", inner=(), checkpoints=())
    assert len(plan.train.ids) % 7 == len(plan.train.ids) % 14 == 1
    for size in (7, 14):
        assert np.isfinite(one(retrained(plan, batch_size=size, steps=8)).curve).all()


@pytest.mark.parametrize("part", ["connectome", "fusion"])
@pytest.mark.parametrize("model", [None, BATCH_NORM], ids=["graph", "batch norm"])
def test_a_frozen_part_that_was_carried_does_not_move_and_the_others_do(part: str, model: ModelSettings | None) -> None:
    study = small_settings() if model is None else small_settings(model=model)
    plan = retrained(plan_of(FOLD, study, scheme="network", inner=(), checkpoints=()), steps=3, freeze=(part,))
    parent = one(dict(plan.parents)["stage"])
    known = set(weights_of(parent))
    found = moved(plan)
    still = {name for name in known if part_of(name) == part and "norm" not in name}
    assert still
    assert not found & still
    if part == "connectome":
        assert not {name for name in found if part_of(name) == part}  # running statistics stay as well
        assert {part_of(name) for name in found} == PARTS - {part}
    else:
        assert {part_of(name) for name in found} >= {"connectome", "clinical", "heads"}
        assert "fusion.maps.clinical.weight" in found  # new in this stage: it starts at random and must be trained


def test_frozen_heads_stay_where_they_were_carried() -> None:
    cohorts = COHORTS.with_role("source", COHORTS.target)
    study = small_settings(source={"cohort": "s", "tasks": ["motor_score", "language"]})
    plan = plan_of(Fold(FOLD.train, ()), study, cohorts=cohorts, scheme="network", inner=(), checkpoints=())
    found = moved(retrained(plan, steps=3, freeze=("heads",)), cohorts)
    assert not {name for name in found if name.startswith("heads.motor_score")}
    assert {name for name in found if name.startswith("heads.cognitive")}


def test_freezing_all_there_is_is_an_error() -> None:
    cohorts = COHORTS.with_role("source", COHORTS.target)
    study = small_settings(source={"cohort": "s", "tasks": list(TASKS)})
    plan = plan_of(Fold(FOLD.train, ()), study, cohorts=cohorts, scheme="network", inner=(), checkpoints=())
    plan = replace(retrained(plan, freeze=("connectome", "fusion", "heads")), modalities=("connectome",))
    with pytest.raises(DataError, match="nothing can be learned"):
        one(plan, cohorts)


def test_parts_that_were_carried_learn_at_their_own_rate_and_others_at_the_full_rate() -> None:
    plan = single(steps=1, weight_decay=0.0, learning_rate=0.01)
    plan = retrained(plan, part_learning_rates={"connectome": 0.1, "fusion": 0.5, "heads": 0.1, "clinical": 0.1})
    start = weights_of(one(retrained(plan, steps=0)))
    end = weights_of(one(plan))
    known = set(weights_of(one(dict(plan.parents)["stage"])))
    # One step of Adam changes every weight by its rate, for any gradient.
    rates = {"connectome": 0.1, "fusion.maps.connectome": 0.5, "fusion.maps.clinical": 1.0, "clinical": 1.0, "heads": 1}
    for part, rate in rates.items():
        names = [n for n in start if n.startswith((f"{part}.", f"branches.{part}."))]
        assert names
        assert (set(names) <= known) == (rate < 1)
        assert max(np.abs(end[n] - start[n]).max() for n in names) == pytest.approx(0.01 * rate, rel=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"part_learning_rates": {"connectome": 1e-3, "heads": 1e-3, "fusion": 0.1, "clinical": 0.1}},
        {"freeze": ("connectome", "fusion", "heads")},
        {"anchor": 100.0},
    ],
    ids=lambda s: next(iter(s)),
)
def test_a_network_from_scratch_is_not_handicapped(settings: dict[str, object]) -> None:
    """Rates, freezing and anchors apply to transferred weights only, for a fair control."""
    for plan in (single("network_scratch"), replace(single(), transfer=Transfer(carry=()))):
        plain, changed = (weights_of(one(p)) for p in (plan, retrained(plan, **settings)))
        assert all(np.array_equal(plain[name], changed[name]) for name in plain)
    carried = single()
    plain, changed = (weights_of(one(p)) for p in (carried, retrained(carried, **settings)))
    assert any(not np.array_equal(plain[name], changed[name]) for name in plain)


def test_a_network_from_scratch_trains_every_part_for_as_many_steps() -> None:
    heard: dict[str, int] = {"network": 0, "network_scratch": 0}
    for scheme in heard:
        plan = plan_of(FOLD, small_settings().with_settings(ALONE), scheme=scheme)
        parents = fit([p for _, p in plan.parents], COHORTS.by_name())
        n_before = sum(int(p.training.steps) for p in plan.lineage()[:-1] if p.training is not None)
        counted: list[int] = []
        one(plan, hook=lambda *heard_of, counted=counted: counted.append(heard_of[0]))
        heard[scheme] = len(counted) - n_before
        assert len(parents) == len(plan.lineage()) - 1
    assert heard["network_scratch"] >= heard["network"] > 0
    found = moved(single("network_scratch", steps=3))
    assert {part_of(name) for name in found} == PARTS


def test_what_is_carried_starts_from_the_parent_and_the_rest_anew() -> None:
    plan = single(steps=0)
    results = fit([plan], COHORTS.by_name())
    parent, child = weights_of(results[dict(plan.parents)["stage"].key]), weights_of(results[plan.key])
    own = weights_of(one(single("network_scratch", steps=0)))
    for name in child:
        if part_of(name) == "heads":  # see test_new_heads.py
            continue
        carried = name in parent and part_of(name) in ("connectome", "fusion")
        assert np.array_equal(child[name], parent[name] if carried else own[name]), name
    assert any(name.startswith("fusion.maps.connectome") and name in parent for name in child)


def test_a_head_is_carried_to_the_same_task_only() -> None:
    cohorts = COHORTS.with_role("source", COHORTS.target)
    study = small_settings(source={"cohort": "s", "tasks": ["motor_score", "language"]})
    plan = plan_of(Fold(FOLD.train, ()), study, cohorts=cohorts, scheme="network", inner=(), checkpoints=())
    plan = retrained(plan, steps=0)
    results = fit([plan], cohorts.by_name())
    parent, child = weights_of(results[dict(plan.parents)["stage"].key]), weights_of(results[plan.key])
    assert np.array_equal(child["heads.motor_score.weight"], parent["heads.motor_score.weight"])
    assert "heads.language.weight" not in child
    assert not np.array_equal(child["heads.cognitive.weight"], parent["heads.motor_score.weight"])


def test_a_head_is_not_carried_to_a_task_of_another_kind() -> None:
    binary = COHORTS.target.task("cognitive").model_copy(update={"name": "motor_score"})
    values = COHORTS.target.targets["motor_score"]
    targets = COHORTS.target.targets.assign(motor_score=(values > values.median()).astype(float).where(values.notna()))
    cohorts = COHORTS.with_role("source", replace(COHORTS.target, tasks=(binary,), targets=targets))
    study = small_settings(source={"cohort": "s", "tasks": ["motor_score"]})
    plan = plan_of(Fold(FOLD.train, ()), study, cohorts=cohorts, scheme="network", inner=(), checkpoints=())
    assert plan.transfer.fresh_heads == ("motor_score",)
    plan = retrained(plan, steps=0)
    results = fit([plan], cohorts.by_name())
    parent, child = weights_of(results[dict(plan.parents)["stage"].key]), weights_of(results[plan.key])
    assert not np.array_equal(child["heads.motor_score.weight"], parent["heads.motor_score.weight"])


def test_adaptation_moves_the_encoder_and_leaves_the_heads() -> None:
    plan = dict(plan_of(FOLD, scheme="network").parents)["stage"]
    assert plan.stage == "adapt"
    results = fit([plan], COHORTS.by_name())
    before, after = weights_of(results[dict(plan.parents)["stage"].key]), weights_of(results[plan.key])
    assert before.keys() == after.keys()
    found = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {part_of(name) for name in found} == {"connectome"}


def test_an_encoder_of_other_regions_cannot_be_carried() -> None:
    source = small_cohorts(n_regions=10).source
    assert source is not None
    cohorts = COHORTS.with_role("source", source)
    with pytest.raises(DataError, match="does not match this cohort"):
        one(plan_of(FOLD, cohorts=cohorts, scheme="network"), cohorts)


@pytest.mark.parametrize("steps", [2, 30])
@pytest.mark.parametrize("ensemble", [True, False])
def test_training_that_diverges_says_so(steps: int, ensemble: bool) -> None:
    plan = plan_of(FOLD, scheme="network_scratch") if ensemble else single("network_scratch")
    with pytest.raises(DataError, match="diverged") as caught:
        one(retrained(plan, learning_rate=1e25, clip_norm=None, steps=steps))
    assert str(caught.value).startswith("Network from scratch (stage 3: fine-tuning): training diverged, ")
    assert "Lower stages.finetune.training.learning_rate (now 1e+25). Check the target cohort" in str(caught.value)


def test_a_hook_hears_every_step_and_may_stop_the_training() -> None:
    heard: list[tuple[int, float]] = []
    plan = single("network_scratch", steps=4)
    result = one(plan, hook=lambda step, loss: heard.append((step, loss)))
    assert heard == list(enumerate(result.curve))
    assert len(heard) == 4

    class Pruned(Exception):
        pass

    def prune(step: int, loss: float) -> None:
        if step == 1:
            raise Pruned(f"pruned at {step}")

    with pytest.raises(Pruned, match="pruned at 1"):
        one(plan, hook=prune)


def test_training_learns_and_the_curve_falls() -> None:
    curve = one(single("network_scratch", steps=60, learning_rate=1e-2)).curve
    assert curve[-5:].mean() < 0.5 * curve[:5].mean()


def test_an_anchor_keeps_weights_near_the_parent() -> None:
    plan = single(steps=15, learning_rate=1e-2, weight_decay=0.0)
    start = weights_of(one(retrained(plan, steps=0)))
    known = set(weights_of(one(dict(plan.parents)["stage"]))) - {n for n in start if n.startswith("heads")}
    moves = []
    for anchor in (0.0, 10.0):
        end = weights_of(one(retrained(plan, anchor=anchor)))
        moves.append(sum(float(((end[n] - start[n]) ** 2).sum()) for n in start if n in known))
    assert moves[1] < 0.5 * moves[0]


def test_training_that_has_not_come_to_rest_is_named() -> None:
    assert not has_settled(np.linspace(10, 1, 60))
    assert has_settled(np.r_[np.linspace(10, 1, 30), np.ones(30)])
    quick = one(single("network_scratch", steps=40, learning_rate=3e-3))
    assert "still falling at the last step (remedy: more stages.finetune.training.steps)" in " ".join(quick.notes)


def test_an_ensemble_stops_early_where_held_out_rows_got_worse_and_takes_their_best_step() -> None:
    plan = not_averaged(plan_of(FOLD, scheme="network_scratch", checkpoints=(0.0, 0.25, 0.5)))
    rough = retrained(plan, steps=40, learning_rate=20.0, weight_decay=0.0)
    heard: list[int] = []
    result = one(rough, hook=lambda *step: heard.append(step[0]))
    assert len(heard) == len(plan.inner) * 10  # the first check after the start is after a quarter
    assert {result.facts[f"steps {task}"] for task in TASKS} == {0}
    gentle = retrained(plan, steps=40, learning_rate=1e-3)
    heard.clear()
    result = one(gentle, hook=lambda *step: heard.append(step[0]))
    assert len(heard) > len(plan.inner) * 10
    chosen = {task: result.facts[f"steps {task}"] for task in TASKS}
    assert set(chosen.values()) <= {0, 10, 20, 40}
    late = [name for name, step in chosen.items() if step == 40]
    assert bool(late) == any("still improving" in note for note in result.notes)


def test_scaling_of_the_parent_takes_all_its_steps() -> None:
    own = single(steps=1)
    parents = replace(own, transfer=replace(own.transfer, scaling="parent"))
    results = fit([own, parents], COHORTS.by_name())
    before = results[dict(own.parents)["stage"].key]
    scale = "features/connectome.scaler.scale"
    assert np.array_equal(results[parents.key].arrays[scale], before.arrays[scale])
    assert not np.array_equal(results[own.key].arrays[scale], before.arrays[scale])
    assert set(before.rows) <= results[parents.key].rows
    assert fitted_bytes(results[own.key]) != fitted_bytes(results[parents.key])
