"""One loop: equal plans give equal bytes, each key is fitted once, and stored fits are not repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_study import FLAT, GRAPH, all_bytes, plan_of, retrained, small_cohorts, small_settings

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import DataError
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.training import fit as fitting
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.work import work_of

COHORTS = small_cohorts()
FOLDS = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0]
STAGES = ("source", "pretrain", "adapt", "core", "finetune", "mixture")
N_FITS = len(STAGES) + 1  # the last stage also from random weights


def one(plan: FitPlan, **options: object) -> FitResult:
    return fit([plan], COHORTS.by_name(), **options)[plan.key]  # type: ignore[arg-type]


@pytest.fixture
def fitted_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they were fitted."""
    seen: list[str] = []
    original = fitting._fitted

    def counting(plan: FitPlan, *rest: object) -> FitResult:
        seen.append(plan.key)
        return original(plan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "_fitted", counting)
    return seen


@pytest.mark.parametrize("model", [GRAPH, FLAT], ids=["graph", "flat"])
def test_the_same_plan_gives_the_same_bytes_and_another_seed_others(model: ModelSettings) -> None:
    study = small_settings(model=model)
    first = all_bytes(one(plan_of(FOLDS[0], study)))
    assert all_bytes(one(plan_of(FOLDS[0], study))) == first
    assert all_bytes(one(plan_of(FOLDS[0], study, seed=1))) != first


@pytest.mark.slow
def test_a_fit_depends_neither_on_its_company_nor_on_the_number_of_processes() -> None:
    schemes = ("full", "scratch", "no_clinical", "core_permuted_source")
    plans = [plan_of(fold, scheme=scheme) for fold in FOLDS[:2] for scheme in schemes]
    alone = {plan.key: all_bytes(one(plan)) for plan in plans}
    for options in ({}, {"n_jobs": 2}):
        together = fit(plans[::-1], COHORTS.by_name(), **options)
        assert {key: all_bytes(together[key]) for key in alone} == alone


def test_equal_keys_are_fitted_once_and_parents_are_shared(fitted_keys: list[str]) -> None:
    plans = [plan_of(fold, scheme=scheme) for fold in FOLDS for scheme in ("full", "full", "no_adapt", "scratch")]
    results = fit(plans, COHORTS.by_name())
    assert len(fitted_keys) == len(set(fitted_keys)) == len(results)
    # The pool contains no target subject: one source core, one pretraining and one adaptation serve all folds.
    # The cores of `full` and `no_adapt` are the same, that of `scratch` has no source. All three networks are averaged
    # with the same one from random weights.
    assert len(fitted_keys) == 3 + 3 * (2 + 3 + 1 + 3)


def test_two_models_that_share_a_fit_get_the_predictions_of_both() -> None:
    a = plan_of(FOLDS[0], scheme="scratch", predict=FOLDS[0].test[:2])
    b = replace(a, label="other", predict=FOLDS[0].test[1:])
    assert a.key == b.key
    results = fit([a, b], COHORTS.by_name())
    for key in (a.key, *(parent.key for _, parent in a.parents)):
        assert set(results[key].predictions) == set(FOLDS[0].test)


def test_a_stored_fit_is_not_made_again_and_is_the_same(tmp_path: Path, fitted_keys: list[str]) -> None:
    store = FitStore(tmp_path)
    plans = [plan_of(fold) for fold in FOLDS]
    fresh = fit(plans[:1], COHORTS.by_name(), store=store)
    assert len(fitted_keys) == N_FITS
    assert {result.stage for result in fresh.values()} == set(STAGES)
    for result in fresh.values():
        again = store.load(result.key, state=True)
        assert again is not None
        assert all_bytes(again) == all_bytes(result)
        assert (again.rows, again.tasks, again.facts) == (result.rows, result.tasks, result.facts)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    del fitted_keys[:]
    resumed = fit(plans, COHORTS.by_name(), store=store)
    assert set(fitted_keys) == {key for key in resumed if key not in fresh}
    anew = fit(plans, COHORTS.by_name())
    assert all(all_bytes(resumed[key]) == all_bytes(anew[key]) for key in resumed)
    assert all((tmp_path / name).read_bytes() == content for name, content in files.items())


def test_resuming_after_any_fit_ends_in_the_same_files(tmp_path: Path) -> None:
    plan = plan_of(FOLDS[0])
    whole, cut = FitStore(tmp_path / "whole"), FitStore(tmp_path / "cut")
    one(plan, store=whole)
    want = {file.name: file.read_bytes() for file in whole.folder.iterdir()}
    assert len(want) == 2 * N_FITS
    for member in plan.lineage():
        one(member, store=cut)
        (cut.folder / f"{member.key}.json").unlink()  # killed between the tensors and the mark of completion
        one(plan, store=cut)
        assert {file.name: file.read_bytes() for file in cut.folder.iterdir()} == want


@pytest.mark.parametrize("scheme", ["scratch", "core", "network_scratch"])
def test_a_fit_without_kept_state_writes_its_predictions_only(tmp_path: Path, scheme: str) -> None:
    plan = plan_of(FOLDS[0], scheme=scheme, keep=False)
    result = one(plan, store=FitStore(tmp_path))
    assert not (tmp_path / f"{plan.key}.safetensors").exists()
    assert (result.arrays, result.plain) == ({}, {})
    assert all_bytes(one(plan, store=FitStore(tmp_path))) == all_bytes(result)
    kept = one(replace(plan, keep=True), store=FitStore(tmp_path))
    assert kept.plain
    assert kept.predictions.keys() == result.predictions.keys()
    assert all((kept.predictions[i] == result.predictions[i]).all() for i in result.predictions)


def test_the_world_is_left_as_it_was_found() -> None:
    state, threads, dtype = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(2)
    try:
        one(plan_of(FOLDS[0]))
        with pytest.raises(DataError):
            one(retrained(plan_of(FOLDS[0], scheme="network_scratch"), learning_rate=1e25, clip_norm=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()


def test_progress_counts_fits_to_the_end() -> None:
    counted: list[tuple[int, int]] = []
    plans = [plan_of(FOLDS[0]), plan_of(FOLDS[0], scheme="network_scratch")]
    fit(plans, COHORTS.by_name(), progress=lambda done, n, _: counted.append((done, n)))
    assert [done for done, _ in counted] == sorted({done for done, _ in counted})
    assert counted[-1] == (N_FITS + 1, N_FITS + 1)
    assert {n for _, n in counted} == {N_FITS + 1}


def test_the_share_of_progress_is_of_the_work_of_this_call(tmp_path: Path) -> None:
    """Fits with more steps are a larger part of it, and stored fits no part."""
    told: list[tuple[int, int, float | None]] = []
    plan = plan_of(FOLDS[0])
    (_, core), (_, network) = plan.parents
    stage = network.parent("stage")
    assert stage is not None
    kept = {one.key for one in (*core.lineage(), *stage.lineage())}
    fit([replace(core, keep=True), stage], COHORTS.by_name(), store=FitStore(tmp_path))
    left = [one for one in plan.lineage() if one.key not in kept]
    fit([plan], COHORTS.by_name(), store=FitStore(tmp_path), progress=lambda *one: told.append(one))
    shares = np.cumsum([work_of(one) for one in left]) / sum(map(work_of, left))
    assert told == [
        (len(kept), N_FITS, 0.0),
        *((len(kept) + n, N_FITS, pytest.approx(share)) for n, share in enumerate(shares, 1)),
    ]
    assert work_of(retrained(network, steps=300)) > 10 * work_of(core)


def test_held_out_predictions_are_of_every_training_row() -> None:
    for scheme in ("core", "network", "full"):
        result = one(plan_of(FOLDS[0], scheme=scheme))
        assert set(result.held_out) == set(FOLDS[0].train)
        assert all(np.isfinite(values).all() for values in result.held_out.values())
