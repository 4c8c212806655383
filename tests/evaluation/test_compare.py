"""Paired differences, the fixed rule of the verdict, and the resulting sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from prediction_tables import LANGUAGE, MOTOR, table

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.resampled import corrected_resampled_t
from connectome_tl.evaluation.scores.compare import Difference, compare, comparisons, verdict
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.report.text.verdict import number, task_verdicts
from connectome_tl.settings.records.results import Comparison, PermutationResult, Score
from connectome_tl.tasks import Task


def two_models(seed=0, kind="binary", noise=0.5, n=60):
    rng = np.random.default_rng(seed)
    task = "motor" if kind == "binary" else "language"
    one = table(rng, n=n, task=task, kind=kind)
    step = noise if kind == "binary" else 10 * noise
    two = one.assign(model="scratch", y_score=one["y_score"] + rng.normal(0, step, len(one)))
    if kind == "regression":
        two["y_pred"] = two["y_score"]
    return pd.concat([one, two], ignore_index=True)


@pytest.mark.parametrize(
    ("low", "high", "sign", "word"),
    [
        (0.01, 0.3, 1, "helps"),
        (-0.3, -0.01, 1, "harms"),
        (-0.3, -0.01, -1, "helps"),
        (0.01, 0.3, -1, "harms"),
        (-0.04, 0.05, 1, "no benefit"),
        (-0.04, 0.051, 1, "cannot tell"),
        (0.0, 0.01, 1, "no benefit"),
        (0.01, 0.02, 1, "helps"),
        (float("nan"), float("nan"), 1, "cannot tell"),
    ],
)
def test_the_rule_fixed_beforehand(low, high, sign, word):
    assert verdict(Difference(0.0, low, high), sign, 0.05) == word


@pytest.mark.parametrize(("kind", "task", "metric"), [("binary", MOTOR, "auc"), ("regression", LANGUAGE, "r2")])
def test_difference_is_that_of_the_scores_and_turns_with_the_models(kind, task, metric):
    predictions = two_models(kind=kind)
    value = {s.model: s.value for s in scores(predictions, [task]) if s.metric == metric}
    forth = compare(predictions, task, "full", "scratch", metric)
    back = compare(predictions, task, "scratch", "full", metric)
    assert forth.difference == pytest.approx(value["full"] - value["scratch"])
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert forth.low < forth.difference < forth.high


@pytest.mark.parametrize(("kind", "task", "metric"), [("binary", MOTOR, "brier"), ("regression", LANGUAGE, "mae")])
def test_a_smaller_loss_helps(kind, task, metric):
    found = compare(two_models(kind=kind, noise=2.0), task, "full", "scratch", metric)
    assert found.sign == -1
    assert found.difference < 0
    assert found.verdict == "helps"


def test_pairing_narrows_the_interval_of_models_that_agree():
    alike = compare(two_models(noise=0.02), MOTOR, "full", "scratch", "auc")
    unlike = compare(two_models(noise=5.0), MOTOR, "full", "scratch", "auc")
    assert alike.high - alike.low < 0.4 * (unlike.high - unlike.low)


def test_relatives_widen_a_difference():
    predictions = two_models()
    twins = pd.concat([predictions, predictions.assign(subject=predictions["subject"] + "b")], ignore_index=True)
    family = {s: s[:4] for s in twins["subject"].unique()}
    single, related, ignored = (
        compare(t, MOTOR, "full", "scratch", "auc", f) for t, f in ((predictions, None), (twins, family), (twins, None))
    )
    assert related.high - related.low > 0.9 * (single.high - single.low)
    assert ignored.high - ignored.low < 0.8 * (single.high - single.low)


def test_models_tested_in_other_folds_are_not_compared():
    predictions = two_models()
    moved = predictions.copy()
    scratch = moved["model"] == "scratch"
    moved.loc[scratch, "fold"] = (moved.loc[scratch, "fold"] + (moved.loc[scratch, "subject"] == "s001")) % 5
    with pytest.raises(DataError, match="cannot be compared"):
        compare(moved, MOTOR, "full", "scratch", "auc")


def test_the_corrected_t_of_two_models_is_that_of_their_fold_losses_and_only_within_kfold():
    predictions = two_models()
    found = compare(predictions, MOTOR, "full", "scratch", "auc", kfold=True)
    rows = predictions[predictions["task"] == MOTOR.name]
    loss = rows.assign(loss=(rows["y_score"] - rows["y_true"]) ** 2)
    folds = loss.groupby(["model", "repeat", "fold"])["loss"].mean()
    n_folds, n = rows["fold"].nunique(), rows["subject"].nunique()
    n_test = n / n_folds
    expected = corrected_resampled_t((folds["full"] - folds["scratch"]).to_numpy(), n - n_test, n_test)
    assert found.resampled_p == pytest.approx(expected.p_value)
    assert np.isnan(compare(predictions, MOTOR, "full", "scratch", "auc").resampled_p)


def test_every_control_in_the_table_is_compared_once_with_its_question():
    predictions = two_models()
    clinical = predictions[predictions["model"] == "scratch"].assign(model="clinical_only")
    found = comparisons(pd.concat([predictions, clinical], ignore_index=True), [MOTOR, LANGUAGE])
    assert [c.control for c in found] == ["scratch", "clinical_only"]
    assert found[1].question == "Is it better than clinical covariates alone?"


def record(control, word, difference=0.1):
    return Comparison(
        task="motor", metric="auc", model="full", control=control, question="", difference=difference,
        low=difference - 0.2, high=difference + 0.2, verdict=word, n=33,
    )  # fmt: skip


def auc(value, low, high, n_positive=7):
    return Score(task="motor", model="full", metric="auc", value=value, low=low, high=high, n=33, n_positive=n_positive)


def test_sentences_say_n_interval_rivals_and_negative_transfer_aloud():
    compared = [record("scratch", "harms", -0.25), record("clinical_only", "cannot tell"), record("no_adapt", "helps")]
    test = PermutationResult(
        task="motor", model="ridge", metric="auc", question="Is there any signal?", observed=0.8, null=(0.5,),
        p_value=0.012, p_value_max=0.034, n_permutations=999,
    )  # fmt: skip
    found = task_verdicts([MOTOR], [auc(0.78, 0.55, 0.91)], compared, [test], noun="infants")[0]
    assert "better than chance" in found.headline
    assert "transfer harms (negative transfer)" in found.headline
    assert "not shown to be better than clinical covariates alone" in found.headline
    assert "AUC 0.78 (95 % interval 0.55 to 0.91; 33 infants, 7 of them positive)" in found.how_well
    assert "p = 0.012, 0.034 corrected" in found.how_well
    assert found.against_nuisance.startswith("Not compared")
    assert "remains unclear" in found.against_clinical
    assert "AUC difference +0.10, 95 % interval -0.10 to +0.30, n = 33" in found.against_clinical
    assert "harms: this is negative transfer (AUC difference -0.25" in found.transfer[0]
    assert any("Only 7 infants" in c for c in found.caution)
    assert any("0.36 wide" in c for c in found.caution)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ((0.6, 0.4, 0.8), "not distinguishable from chance"),
        ((0.3, 0.2, 0.45), "worse than chance"),
        ((float("nan"),) * 3, "could not be scored"),
    ],
)
def test_headlines_claim_no_more_than_the_interval(score, words):
    assert words in task_verdicts([MOTOR], [auc(*score)], [])[0].headline


def test_a_headline_tells_a_signal_from_its_size():
    """The permutation test rejects while the interval contains 0.5: there is signal of unknown size."""
    test = PermutationResult(
        task="motor", model="full", metric="auc", question="Does the model predict better than chance?",
        observed=0.7, null=(0.5,), p_value=0.01, p_value_max=0.03, n_permutations=199,
    )  # fmt: skip
    wide = auc(0.7, 0.45, 0.88)
    assert "some signal (permutation test), but how much" in task_verdicts([MOTOR], [wide], [], [test])[0].headline
    for other in (test.model_copy(update={"p_value_max": 0.2}), test.model_copy(update={"model": "ridge"})):
        assert "not distinguishable" in task_verdicts([MOTOR], [wide], [], [other])[0].headline


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ((0.9, 0.55, 1.0), "how well the model predicts is uncertain"),
        ((0.2, 0.05, 0.45), "how well the model predicts is uncertain"),
        ((0.6, 0.4, 0.8), "the data are inconclusive"),
        ((0.6, 0.51, 0.7), None),
    ],
)
def test_a_wide_interval_is_inconclusive_only_if_it_includes_chance(score, words):
    (said,) = task_verdicts([MOTOR], [auc(*score)], [])
    assert [c.split(": ")[1] for c in said.caution if "wide" in c] == ([f"{words}."] if words else [])


@pytest.mark.parametrize(
    ("n_positive", "words"),
    [
        (0, ["No subject is positive: this cannot be learned or tested."]),
        (1, ["Only 1 child in the smaller class: a single subject can change the result."]),
        (32, ["Only 1 child in the smaller class: a single subject can change the result."]),
        (15, []),
    ],
)
def test_small_and_empty_classes_are_named(n_positive, words):
    score = auc(0.7, 0.6, 0.8).model_copy(update={"n_positive": n_positive})
    (said,) = task_verdicts([MOTOR], [score], [], noun="children")
    assert list(said.caution) == words


def test_an_empty_level_does_not_hide_the_smallest_one():
    task = Task(name="motor", kind="ordinal", column="m", levels=("none", "mild", "moderate", "severe"))
    score = auc(0.7, 0.6, 0.8).model_copy(
        update={"metric": "c_index", "n_positive": None, "per_level": (20, 10, 0, 3), "n": 33}
    )
    (said,) = task_verdicts([task], [score], [], noun="infants")
    assert list(said.caution) == [
        "No subject is at level 'moderate': this cannot be learned or tested.",
        "Only 3 infants at level 'severe': a single subject can change the result.",
    ]


def test_the_test_of_the_core_counts_if_the_full_model_has_none():
    core = PermutationResult(
        task="motor", model="core", metric="auc", question="Does the model predict better than chance?",
        observed=0.7, null=(0.5,), p_value=0.4, p_value_max=0.4, n_permutations=199,
    )  # fmt: skip
    high, wide = auc(0.72, 0.53, 0.88), auc(0.6, 0.45, 0.8)
    (said,) = task_verdicts([MOTOR], [high], [], [core])
    assert "but not confirmed by the permutation test of its closed-form core" in said.headline
    sure = core.model_copy(update={"p_value_max": 0.01})
    (said,) = task_verdicts([MOTOR], [wide], [], [sure])
    assert "some signal (permutation test of its closed-form core)" in said.headline
    own = sure.model_copy(update={"model": "full"})
    (said,) = task_verdicts([MOTOR], [high], [], [core, own])
    assert said.headline.endswith("predicted better than chance.")


@pytest.mark.parametrize(
    ("n_permutations", "n_tasks", "words"),
    [
        (19, 1, "but not confirmed"),
        (10, 1, "with too few permutations to be confirmed"),
        (19, 2, "with too few permutations to be confirmed"),
        (39, 2, "but not confirmed"),
    ],
)
def test_a_test_that_cannot_reject_is_no_evidence_against_a_signal(n_permutations, n_tasks, words):
    test = PermutationResult(
        task="motor", model="full", metric="auc", question="Does the model predict better than chance?",
        observed=0.7, null=(0.5,), p_value=0.09, p_value_max=0.09, n_permutations=n_permutations,
    )  # fmt: skip
    tasks = [MOTOR, *(MOTOR.model_copy(update={"name": f"other{i}"}) for i in range(1, n_tasks))]
    (said,) = task_verdicts(tasks, [auc(0.72, 0.53, 0.88)], [], [test])
    assert f"{words} by the permutation test" in said.headline


def test_the_baseline_of_a_regression_predicts_the_mean():
    task = Task(name="motor", kind="regression", column="m")
    low, base = (
        auc(*values).model_copy(update={"metric": "r2", "n_positive": None, "model": model})
        for model, values in (("full", (-0.5, -0.9, -0.1)), ("prevalence", (0.0, 0.0, 0.0)))
    )
    (said,) = task_verdicts([task], [low, base], [])
    assert "than the mean alone (R2 -0.50 against 0.00)" in said.headline


def test_a_task_without_scores_has_no_verdict():
    assert task_verdicts([Task(name="other", kind="binary", column="o")], [auc(0.7, 0.6, 0.8)], []) == []


def test_numbers_read_as_in_a_paper():
    assert [number(v) for v in (0.5, -0.05, -0.004, 1.0, 12.345, float("nan"))] == [
        "0.50",
        "-0.05",
        "0.00",
        "1.00",
        "12.35",
        "not estimable",
    ]
    assert number(0.03, signed=True) == "+0.03"
