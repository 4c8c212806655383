"""A source from which nothing can be learned is not used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.objectives import AnyObjective, Coral, MaskedEdges, SelfTraining
from connectome_tl.settings.study import CohortUse
from connectome_tl.settings.training import Adapt, Pretrain, Training
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.closed_form.blocks import Block, SourceScores
from connectome_tl.training.closed_form.core import fit_core
from connectome_tl.training.closed_form.predictable import predictable_scores
from connectome_tl.training.core_stage import UNUSED_SOURCE, CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import StudyCohorts

LEARNABLE = small_cohorts(n_source=120, n_target=24, effect=2.0)


def with_noise(cohorts: StudyCohorts) -> StudyCohorts:
    """The same with outcomes of the source that are independent of its subjects."""
    source = cohorts.source
    assert source is not None
    drawn = np.random.default_rng(3).normal(size=source.targets.shape)
    moved = replace(source, targets=source.targets * 0 + np.where(source.targets.isin([0, 1]), drawn > 0, drawn))
    return cohorts.with_role("source", moved)


NOISE = with_noise(LEARNABLE)


def fitted(cohorts: StudyCohorts, scheme: str, use_if: str = "predictable") -> tuple[FitResult, dict[str, FitResult]]:
    study = small_settings(source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age", "sex")), steps=4)
    training = Training(steps=4, batch_size=10)
    pretrain = Pretrain.model_validate({"training": training, "use_if": use_if})
    study = study.model_copy(update={"stages": study.stages.model_copy(update={"pretrain": pretrain})})
    ids = cohorts.target.ids
    plan = plan_of(Fold(ids[:16], ids[16:]), study, cohorts=cohorts, scheme=scheme)
    results = fit([plan], cohorts.by_name())
    return results[plan.key], results


def predictions(result: FitResult) -> np.ndarray:
    return np.array([result.predictions[i] for i in sorted(result.predictions)])


@pytest.mark.parametrize(
    ("scheme", "control"), [("core", "core_scratch"), ("network_no_adapt", "network_scratch"), ("no_adapt", "scratch")]
)
def test_a_model_with_a_source_of_noise_is_its_control(scheme: str, control: str) -> None:
    noise, _ = fitted(NOISE, scheme)
    without, _ = fitted(NOISE, control)
    np.testing.assert_array_equal(predictions(noise), predictions(without))
    assert scheme == "no_adapt" or UNUSED_SOURCE in noise.notes


@pytest.mark.parametrize("scheme", ["core", "network_no_adapt"])
def test_it_is_used_if_the_settings_ask_for_it(scheme: str) -> None:
    noise, _ = fitted(NOISE, scheme)
    always, _ = fitted(NOISE, scheme, "always")
    assert not np.array_equal(predictions(noise), predictions(always))
    assert UNUSED_SOURCE not in always.notes


@pytest.mark.parametrize("scheme", ["core", "network_no_adapt", "network"])
def test_a_source_with_a_predictable_outcome_is_used(scheme: str) -> None:
    used, results = fitted(LEARNABLE, scheme)
    source = next(result for result in results.values() if result.stage == "source")
    assert source.plain["predictable"][0]
    assert UNUSED_SOURCE not in used.notes
    always, _ = fitted(LEARNABLE, scheme, "always")
    if scheme != "core":  # the core leaves out the single scores that are not predictable
        np.testing.assert_array_equal(predictions(used), predictions(always))


@pytest.mark.parametrize("objective", [MaskedEdges(), Coral(), SelfTraining()], ids=lambda one: one.kind)
@pytest.mark.parametrize("scaling", ["own", "parent"])
def test_with_stage_2_the_network_is_the_one_without_stage_1(objective: AnyObjective, scaling: str) -> None:
    found = {}
    for scheme in ("network", "network_no_pretrain", "network_scratch"):
        study = small_settings(source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age", "sex")), steps=4)
        stages = study.stages.model_copy(
            update={
                "pretrain": Pretrain(training=Training(steps=4, batch_size=10)),
                "adapt": Adapt(objective=objective, training=Training(steps=3, batch_size=8)),
                "finetune": study.stages.finetune.model_copy(update={"scaling": scaling}),
            }
        )
        ids = NOISE.target.ids
        study = study.model_copy(update={"stages": stages})
        plan = plan_of(Fold(ids[:16], ids[16:]), study, cohorts=NOISE, scheme=scheme)
        found[scheme] = fit([plan], NOISE.by_name())[plan.key]
    np.testing.assert_array_equal(predictions(found["network"]), predictions(found["network_no_pretrain"]))
    assert not np.array_equal(predictions(found["network"]), predictions(found["network_scratch"]))
    assert UNUSED_SOURCE in found["network"].notes


def random_fit(n: int, signal: float, seed: int) -> tuple[np.ndarray, tuple[bool, ...], np.ndarray]:
    rng = np.random.default_rng(seed)
    edges = rng.normal(size=(n, 60))
    y = signal * edges[:, :4].sum(axis=1, keepdims=True) + rng.normal(size=(n, 1))
    families = [str(i) for i in range(n)]
    found = fit_core([Block("edges", edges, kernel="both")], y, ["regression"], families, CoreSettings())
    return y, predictable_scores(found, families), found.left_out


def test_the_test_is_that_of_a_correlation() -> None:
    for seed in range(6):
        y, (usable,), left_out = random_fit(50, 0.25, seed)
        found = stats.pearsonr(left_out[:, 0], y[:, 0], alternative="greater")
        assert usable == (found.pvalue <= stats.t.sf(3, 48))


@pytest.mark.slow
def test_noise_is_rarely_taken_for_a_signal_and_a_signal_rarely_for_noise() -> None:
    noise = [random_fit(60, 0.0, seed)[1][0] for seed in range(40)]
    signal = [random_fit(100, 0.6, seed)[1][0] for seed in range(20)]
    assert np.mean(noise) <= 0.1
    assert np.mean(signal) >= 0.9


def test_relatives_count_once() -> None:
    rng = np.random.default_rng(1)
    edges = np.repeat(rng.normal(size=(3, 5)), 20, axis=0)
    y = edges[:, :1] + 0.01 * rng.normal(size=(60, 1))
    families = list(np.repeat(["a", "b", "c"], 20))
    found = fit_core([Block("edges", edges)], y, ["regression"], families, CoreSettings())
    assert predictable_scores(found, families) == (False,)


def test_scores_that_are_not_usable_have_no_weight() -> None:
    rng = np.random.default_rng(0)
    n = 40
    y = rng.normal(size=(n, 1))
    scores = np.column_stack([y[:, 0] + 0.5 * rng.normal(size=n), y[:, 0] + 0.1 * rng.normal(size=n)])
    blocks, families = [Block("edges", rng.normal(size=(n, 8)))], [str(i) for i in range(n)]

    def weights(usable: tuple[bool, ...] | None) -> np.ndarray:
        source = SourceScores(Block("scores", scores), (None,), frozenset({"edges"}), usable)
        return fit_core(blocks, y, ["regression"], families, CoreSettings(), source=source).linear["scores"][:, 0]

    assert (np.abs(weights(None)) > 0).all()
    first, second = weights((True, False))
    assert second == 0
    assert abs(first) > 0


def test_a_stored_core_keeps_what_is_predictable() -> None:
    _, results = fitted(LEARNABLE, "core")
    source = next(result for result in results.values() if result.stage == "source")
    model = CoreModel.of(source.arrays, source.plain)
    assert model.predictable == tuple(source.plain["predictable"])
    assert len(model.predictable) == 3
