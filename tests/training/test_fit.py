"""One loop: equal plans give equal bytes, each key is fitted once, and what is stored is not fitted again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_study import FLAT, GRAPH, TASKS, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.errors import DataError, OutputError
from connectome_tl.settings.study import FlatEncoder, ModelSettings, SplitSettings, StudySettings, Training
from connectome_tl.training import fit as fitting
from connectome_tl.training.checkpoint import FitResult, FitStore, tensor_bytes
from connectome_tl.training.fit import fit, predict
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.stages import SCHEMES, chain

COHORTS = small_cohorts()
FOLDS = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0]


def plan_of(
    study: StudySettings | None = None, *, scheme: str = "full", fold: Fold = FOLDS[0], seed: int = 0, **changed: object
) -> FitPlan:
    (record,) = [s for s in SCHEMES if s.name == scheme]
    plan = chain(study or small_settings(), COHORTS, record, fold, TASKS, seed=seed)
    return replace(plan, **changed)


def retrained(plan: FitPlan, **training: object) -> FitPlan:
    return replace(plan, training=plan.training.model_copy(update=training))


def as_bytes(result: FitResult) -> bytes:
    """Everything a fit found."""
    curve = {"curve": result.curve}
    predictions = {f"prediction/{i}": np.asarray(v) for i, v in result.predictions.items()}
    return tensor_bytes({**result.state, **result.fitted, **curve, **predictions})


def one(plan: FitPlan, **options: object) -> FitResult:
    return fit([plan], COHORTS.by_name(), **options)[plan.key]  # type: ignore[arg-type]


@pytest.fixture
def fitted_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they were really fitted."""
    seen: list[str] = []
    original = fitting._fit_one

    def counting(plan: FitPlan, *rest: object) -> FitResult:
        seen.append(plan.key)
        return original(plan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "_fit_one", counting)
    return seen


@pytest.mark.parametrize("model", [GRAPH, FLAT])
def test_the_same_plan_gives_the_same_bytes_and_another_seed_others(model: ModelSettings) -> None:
    study = small_settings(model=model)
    first = as_bytes(one(plan_of(study)))
    assert as_bytes(one(plan_of(study))) == first
    assert as_bytes(one(plan_of(study, seed=1))) != first


def test_a_fit_depends_neither_on_its_company_nor_on_the_number_of_processes() -> None:
    plans = [plan_of(fold=fold, scheme=scheme) for fold in FOLDS for scheme in ("full", "scratch", "no_clinical")]
    alone = {plan.key: as_bytes(one(plan)) for plan in plans}
    for options in ({}, {"n_jobs": 2}):
        together = fit(plans[::-1], COHORTS.by_name(), **options)
        assert {key: as_bytes(together[key]) for key in alone} == alone


def test_equal_keys_are_fitted_once_and_parents_are_shared(fitted_keys: list[str]) -> None:
    plans = [plan_of(fold=fold, scheme=scheme) for fold in FOLDS for scheme in ("full", "full", "no_adapt", "scratch")]
    results = fit(plans, COHORTS.by_name())
    assert len(fitted_keys) == len(set(fitted_keys)) == len(results)
    # The pool holds nobody of the target: one pretraining and one adaptation serve all folds.
    assert len(fitted_keys) == 1 + 1 + 9


def test_two_models_that_share_a_fit_get_the_predictions_of_both() -> None:
    a = plan_of(scheme="scratch", predict=FOLDS[0].test[:2])
    b = replace(a, label="other", predict=FOLDS[0].test[1:])
    assert a.key == b.key
    (result,) = fit([a, b], COHORTS.by_name()).values()
    assert set(result.predictions) == set(FOLDS[0].test)


CHANGES: dict[str, Callable[[FitPlan], FitPlan]] = {
    "rows": lambda p: replace(p, rows=p.rows[:-1]),
    "order of rows": lambda p: replace(p, rows=p.rows[::-1]),
    "data": lambda p: replace(p, data="other"),
    "label permutation": lambda p: replace(p, label_rows=p.rows[::-1]),
    "tasks": lambda p: replace(p, tasks=p.tasks[:1]),
    "model": lambda p: replace(p, model=FLAT),
    "epochs": lambda p: retrained(p, epochs=9),
    "seed": lambda p: replace(p, seed=5),
    "clinical": lambda p: replace(p, clinical=False),
    "carry": lambda p: replace(p, carry=("encoder", "heads")),
    "scaling": lambda p: replace(p, scaling="parent"),
    "fresh heads": lambda p: replace(p, fresh_heads=("motor_score",)),
    "no parent": lambda p: replace(p, parent=None),
    "other parent": lambda p: replace(p, parent=replace(p.parent, seed=7) if p.parent else None),
}


def test_the_key_holds_all_that_decides_a_fit_and_nothing_else() -> None:
    plan = plan_of()
    keys = {name: change(plan).key for name, change in CHANGES.items()}
    assert len({plan.key, *keys.values()}) == 1 + len(CHANGES)
    assert replace(plan, label="x", predict=(), keep=False).key == plan.key


def test_a_stored_fit_is_not_made_again_and_is_the_same(tmp_path: Path, fitted_keys: list[str]) -> None:
    store = FitStore(tmp_path)
    plans = [plan_of(fold=fold) for fold in FOLDS]
    fresh = fit(plans[:1], COHORTS.by_name(), store=store)
    assert len(fitted_keys) == 3
    for result in fresh.values():
        again = store.load(result.key, state=True)
        assert again is not None
        assert as_bytes(again) == as_bytes(result)
        assert (again.rows, again.tasks) == (result.rows, result.tasks)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    del fitted_keys[:]
    resumed = fit(plans, COHORTS.by_name(), store=store)
    assert set(fitted_keys) == {key for key in resumed if key not in fresh}
    assert all(as_bytes(resumed[key]) == as_bytes(fit(plans, COHORTS.by_name())[key]) for key in resumed)
    assert all((tmp_path / name).read_bytes() == content for name, content in files.items())


def test_resuming_after_any_fit_ends_in_the_same_files(tmp_path: Path) -> None:
    plan = plan_of()
    whole, cut = FitStore(tmp_path / "whole"), FitStore(tmp_path / "cut")
    one(plan, store=whole)
    want = {file.name: file.read_bytes() for file in whole.folder.iterdir()}
    assert len(want) == 6
    for member in plan.lineage():
        one(member, store=cut)
        (cut.folder / f"{member.key}.json").unlink()  # killed between the tensors and the mark that they are whole
        one(plan, store=cut)
        assert {file.name: file.read_bytes() for file in cut.folder.iterdir()} == want


def test_a_fit_without_kept_state_writes_its_predictions_only(tmp_path: Path) -> None:
    plan = plan_of(scheme="scratch", keep=False)
    result = one(plan, store=FitStore(tmp_path))
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]
    assert result.state == {}
    assert as_bytes(one(plan, store=FitStore(tmp_path))) == as_bytes(result)
    kept = one(replace(plan, keep=True), store=FitStore(tmp_path))
    assert kept.state
    assert kept.predictions.keys() == result.predictions.keys()
    assert all((kept.predictions[i] == result.predictions[i]).all() for i in result.predictions)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda _: b"", lambda raw: b"\x93NUMPY" + raw])
def test_a_damaged_store_is_an_output_error(tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    plan, store = plan_of(scheme="scratch"), FitStore(tmp_path)
    one(plan, store=store)
    file = tmp_path / f"{plan.key}{suffix}"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(OutputError, match="Delete the file") as caught:
        one(plan, store=store)
    assert caught.value.exit_code == 74


def test_a_store_whose_json_is_of_something_else_is_an_output_error(tmp_path: Path) -> None:
    plan, store = plan_of(scheme="scratch"), FitStore(tmp_path)
    one(plan, store=store)
    for text in ("{}", "[]", '{"key": 1, "rows": 2}'):
        (tmp_path / f"{plan.key}.json").write_text(text)
        with pytest.raises(OutputError):
            one(plan, store=store)


@pytest.mark.parametrize("part", ["encoder", "clinical", "fusion", "heads"])
@pytest.mark.parametrize(
    "model", [GRAPH, ModelSettings(encoder=FlatEncoder(widths=(6, 4), norm="batch"), norm="batch")]
)
def test_a_frozen_part_does_not_move_and_the_others_do(part: str, model: ModelSettings) -> None:
    plan = plan_of(small_settings(model=model), scheme="scratch")
    start = one(retrained(plan, epochs=0, freeze=(part,))).state
    end = one(retrained(plan, epochs=2, freeze=(part,))).state
    moved = {name for name in start if not np.array_equal(start[name], end[name])}
    assert {name.split(".")[0] for name in moved} == {"encoder", "clinical", "fusion", "heads"} - {part}


def test_freezing_all_there_is_is_an_error() -> None:
    plan = retrained(plan_of(scheme="no_clinical"), freeze=("encoder", "fusion", "heads"))
    with pytest.raises(DataError, match="nothing would be learned"):
        one(plan)


def test_parts_learn_at_their_own_rate() -> None:
    plan = plan_of(scheme="scratch")
    slow = {"encoder": 1e-3, "heads": 1e-3, "clinical": 1.0, "fusion": 1.0}
    start = one(retrained(plan, epochs=0)).state
    # One step of Adam moves every weight by its rate, whatever the gradient.
    end = one(retrained(plan, epochs=1, weight_decay=0.0, learning_rate=0.01, part_learning_rates=slow)).state
    for part, rate in slow.items():
        steps = [np.abs(end[n] - start[n]).max() for n in start if n.startswith(part)]
        assert max(steps) == pytest.approx(0.01 * rate, rel=0.05)


def test_what_is_carried_starts_from_the_parent_and_the_rest_anew() -> None:
    study = small_settings(target={"cohort": "t", "tasks": TASKS})
    plan = retrained(plan_of(study), epochs=0)
    assert plan.parent is not None
    results = fit([plan], COHORTS.by_name())
    parent, child = results[plan.parent.key].state, results[plan.key].state
    own = one(retrained(plan_of(scheme="scratch"), epochs=0)).state
    for name in child:
        carried = name in parent and name.split(".")[0] in ("encoder", "fusion")
        assert np.array_equal(child[name], parent[name] if carried else own[name]), name
    assert any(name.startswith("fusion.connectome") and name in parent for name in child)


def test_a_head_is_carried_to_the_same_task_only() -> None:
    cohorts = replace(COHORTS, source=COHORTS.target)
    study = small_settings(source={"cohort": "s", "tasks": ["motor_score", "language"]})
    elsewhere = Fold(FOLDS[0].train, ())
    plan = retrained(chain(study, cohorts, SCHEMES[0], elsewhere, TASKS, seed=0), epochs=0)
    results = fit([plan], cohorts.by_name())
    assert plan.parent is not None
    parent, child = results[plan.parent.key].state, results[plan.key].state
    assert np.array_equal(child["heads.motor_score.weight"], parent["heads.motor_score.weight"])
    assert "heads.language.weight" not in child
    assert not np.array_equal(child["heads.cognitive.weight"], parent["heads.motor_score.weight"])


def test_a_head_is_not_carried_to_a_task_of_another_kind() -> None:
    binary = COHORTS.target.task("cognitive").model_copy(update={"name": "motor_score"})
    cohorts = replace(COHORTS, source=replace(COHORTS.target, tasks=(binary,)))
    study = small_settings(source={"cohort": "s", "tasks": ["motor_score"]})
    plan = chain(study, cohorts, SCHEMES[0], Fold(FOLDS[0].train, ()), TASKS, seed=0)
    assert plan.fresh_heads == ("motor_score",)
    results = fit([retrained(plan, epochs=0)], cohorts.by_name())
    assert plan.parent is not None
    carried, child = results[plan.parent.key].state, list(results.values())[-1].state
    assert not np.array_equal(child["heads.motor_score.weight"], carried["heads.motor_score.weight"])


def test_adaptation_moves_the_encoder_and_leaves_the_heads() -> None:
    plan = plan_of().parent
    assert plan is not None
    assert plan.stage == "adapt"
    results = fit([plan], COHORTS.by_name())
    before, after = results[plan.parent.key].state, results[plan.key].state  # type: ignore[union-attr]
    moved = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"encoder"}


def test_an_encoder_of_other_regions_cannot_be_carried() -> None:
    cohorts = replace(COHORTS, source=small_cohorts(n_regions=10).source)
    plan = chain(small_settings(), cohorts, SCHEMES[0], FOLDS[0], TASKS, seed=0)
    with pytest.raises(DataError, match="does not fit this cohort"):
        fit([plan], cohorts.by_name())


@pytest.mark.parametrize("epochs", [2, 30])
def test_training_that_diverges_says_so(epochs: int) -> None:
    plan = retrained(plan_of(scheme="scratch"), learning_rate=1e25, clip_norm=None, epochs=epochs)
    with pytest.raises(DataError, match="diverged"):
        one(plan)


def test_the_world_is_left_as_it_was_found() -> None:
    state, threads, dtype = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(2)
    try:
        one(plan_of())
        with pytest.raises(DataError):
            one(retrained(plan_of(scheme="scratch"), learning_rate=1e25, clip_norm=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()


def test_a_hook_hears_every_epoch_and_may_stop_the_training() -> None:
    heard: list[tuple[int, float]] = []
    plan = retrained(plan_of(scheme="scratch"), epochs=4)
    result = one(plan, hook=lambda epoch, loss: heard.append((epoch, loss)))
    assert heard == list(enumerate(result.curve))
    assert len(heard) == 4

    class Pruned(Exception):
        pass

    def prune(epoch: int, loss: float) -> None:
        if epoch == 1:
            raise Pruned(f"pruned at {epoch}")

    with pytest.raises(Pruned, match="pruned at 1"):
        one(plan, hook=prune)


def test_progress_counts_fits_to_the_end() -> None:
    counted: list[tuple[int, int]] = []
    fit([plan_of(), plan_of(scheme="scratch")], COHORTS.by_name(), progress=lambda done, n: counted.append((done, n)))
    assert [done for done, _ in counted] == [1, 2, 3, 4]
    assert {n for _, n in counted} == {4}


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_no_batch_of_one_is_left_over(norm: str) -> None:
    model = ModelSettings(encoder=FlatEncoder(widths=(4,), norm=norm), norm=norm)
    plan = plan_of(small_settings(model=model), scheme="scratch")
    assert len(plan.rows) % 7 == 1
    assert np.isfinite(one(retrained(plan, batch_size=7)).curve).all()


def test_training_learns_and_the_curve_falls() -> None:
    curve = one(retrained(plan_of(scheme="scratch"), epochs=60, learning_rate=1e-2)).curve
    assert curve[-5:].mean() < 0.5 * curve[:5].mean()


def test_an_anchor_keeps_weights_near_the_parent() -> None:
    plan = retrained(plan_of(), epochs=15, learning_rate=1e-2, weight_decay=0.0)
    start = one(retrained(plan, epochs=0)).state
    moves = []
    for anchor in (0.0, 10.0):
        end = one(retrained(plan, anchor=anchor)).state
        moves.append(sum(float(((end[n] - start[n]) ** 2).sum()) for n in start))
    assert moves[1] < 0.5 * moves[0]


def test_a_kept_fit_predicts_what_it_predicted() -> None:
    from connectome_tl.features.batches import fit_features

    plan = plan_of(scheme="scratch")
    result = one(plan)
    features = fit_features(COHORTS.target, plan.rows, clinical=True)
    again = predict(result, plan, COHORTS.target, FOLDS[0].test, features=features)
    np.testing.assert_allclose(again, [result.predictions[i] for i in FOLDS[0].test], rtol=1e-12)
    # One subject at a time is the same as all at once: nothing is shared between rows.
    for i, subject in enumerate(FOLDS[0].test):
        alone = predict(result, plan, COHORTS.target, [subject], features=features)
        np.testing.assert_allclose(alone[0], again[i], rtol=1e-5)


def test_parts_that_do_not_exist_cannot_be_named() -> None:
    for wrong in ({"freeze": ("encodr",)}, {"part_learning_rates": {"head": 1.0}}):
        with pytest.raises(ValueError, match="parts are encoder, clinical, fusion, heads"):
            Training(**wrong)  # type: ignore[arg-type]
