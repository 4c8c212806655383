"""Every kind of task has scores, comparisons, permutation statistic and verdict, or raises an error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_tables import DIAGNOSIS, LANGUAGE, MOTOR, SEVERITY, levels_table, table
from scipy.stats import somersd
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    mean_absolute_error,
    roc_auc_score,
)

import connectome_tl
from connectome_tl.errors import DataError, DivergedError, InternalError, UsageError
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.intervals.out_of_fold import TEST_ONLY
from connectome_tl.evaluation.intervals.pairs import auc_interval, auc_variance, macro_pairs, within_fold_pairs
from connectome_tl.evaluation.permutation.tests import FoldRows, linear_statistics, permutation_results
from connectome_tl.evaluation.scores.compare import compare, comparisons, without_network
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import called, out_of_fold, prediction_rows
from connectome_tl.report.text.verdict import task_verdicts
from connectome_tl.settings.metrics import METRICS, metric_named
from connectome_tl.settings.model_table import MODELS, ModelSpec, model_named, register
from connectome_tl.settings.records.results import NetworkWeight
from connectome_tl.tasks import KINDS, Task, kind_named

PACKAGE = Path(connectome_tl.__file__).parent
PARTS = ["full", "core", "network", "scratch", "network_scratch"]
TASKS = [MOTOR, LANGUAGE, SEVERITY, DIAGNOSIS]


def with_models(task, rng, models, n=60, signal=1.5):
    """A prediction table of several models on the same subjects and folds."""
    if task.spec.by_level:
        y = rng.integers(0, task.n_levels, n).astype(float)
        return pd.concat([levels_table(rng, task, n, model=m, y=y, signal=signal) for m in models], ignore_index=True)
    one = table(rng, n=n, task=task.name, kind=task.kind)
    base = one.groupby(["repeat", "fold"])["y_true"].transform("mean")
    found = []
    for m in models:
        noise = rng.normal(0, 0.1 if task.is_binary else 4, len(one))
        score = base if m == "prevalence" else one["y_score"] if m == models[0] else (one["y_score"] + noise)
        score = np.clip(score, 0, 1) if task.is_binary else score
        found.append(one.assign(model=m, y_score=score, y_pred=(score >= 0.5) * 1.0 if task.is_binary else score))
    return pd.concat(found, ignore_index=True)


def by_metric(found):
    return {score.metric: score for score in found}


def test_every_kind_has_a_primary_metric_of_its_own_and_an_unknown_one_raises():
    for name, kind in KINDS.items():
        assert metric_named(kind.primary).of(kind.name)
        assert metric_named(kind.primary).chance is not None
        assert metric_named(kind.primary).margin is not None
        assert kind_named(name) == kind
    unknown = Task.model_construct(name="t", kind="survival", column="t", levels=())
    with pytest.raises(UsageError, match="survival"):
        scores(table(np.random.default_rng(0), task="t"), [unknown])
    with pytest.raises(UsageError, match="survival"):
        prediction_rows(unknown, "full", 0, 0, ["a"], np.zeros(1), np.zeros(1), 0.5)
    with pytest.raises(UsageError, match="unknown metric"):
        metric_named("accuracy")


def test_no_module_but_their_table_tests_the_name_of_a_kind():
    """Scores of the closed-form core have kinds of their own."""
    tested = re.compile(r"kind (?:==|!=|in|not in) [({]?[\"'](?:" + "|".join(KINDS) + r")\b")
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".html")]
    assert len(files) > 500
    found = [
        path.name for path in files if tested.search(path.read_text("utf-8")) and path.parent.name != "closed_form"
    ]
    assert found == []


def test_sizes_follow_the_levels_and_levels_are_asked_for():
    assert [t.n_columns for t in TASKS] == [1, 1, 4, 3]
    assert [t.n_outputs for t in TASKS] == [1, 1, 3, 3]
    assert [t.score_kinds for t in TASKS] == [["binary"], ["regression"], ["ordinal"], ["binary"] * 3]
    assert [t.n_scores for t in TASKS] == [1, 1, 1, 3]
    bare = Task(name="gmfcs", kind="ordinal", column="gmfcs")
    with pytest.raises(UsageError, match="levels"):
        _ = bare.n_levels


def test_rows_of_levels_hold_their_probabilities_the_median_and_the_expected_level():
    p = np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.2, 0.2, 0.4], [0.0, 0.49, 0.51, 0.0]])
    rows = prediction_rows(SEVERITY, "full", 0, 1, ["a", "b", "c"], np.array([0, 3, np.nan]), p, 0.5)
    assert rows["y_pred"].tolist() == [0, 2, 2]
    assert rows["y_score"].tolist() == pytest.approx([0.8, 1.8, 1.51])
    assert rows[["p_0", "p_1", "p_2", "p_3"]].to_numpy() == pytest.approx(p)
    classes = prediction_rows(DIAGNOSIS, "full", 0, 1, ["a"], np.array([2.0]), np.array([[0.2, 0.5, 0.3]]), 0.9)
    assert (classes["y_pred"].item(), classes["y_score"].item()) == (1, 0.5)
    both = pd.concat([rows, classes], ignore_index=True)
    assert np.isnan(both.loc[both["task"] == "diagnosis", "p_3"].item())


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (SEVERITY, np.full((2, 3), 1 / 3)),
        (SEVERITY, np.full((2, 4), 0.3)),
        (MOTOR, np.array([0.2, 1.2])),
        (MOTOR, np.array([0.2, np.nan])),
        (LANGUAGE, np.full((2, 2), 90.0)),
        (DIAGNOSIS, np.array([0.2, 0.1])),
    ],
)
def test_outputs_that_do_not_fit_the_task_are_refused(task, outputs):
    with pytest.raises((InternalError, DivergedError)):
        prediction_rows(task, "full", 0, 0, ["a", "b"], np.zeros(2), outputs, 0.5)


@pytest.mark.parametrize("round_to", [6, 1])
def test_concordance_is_somers_d_within_each_fold_weighted_by_pairs(round_to):
    predictions = levels_table(np.random.default_rng(1), SEVERITY, round_to=round_to)
    won = met = 0.0
    for _, rows in predictions.groupby(["repeat", "fold"]):
        y = rows["y_true"].to_numpy()
        pairs = (y[:, None] > y[None, :]).sum()
        won += pairs * (somersd(y, rows["y_score"]).statistic + 1) / 2
        met += pairs
    assert by_metric(scores(predictions, [SEVERITY]))["c_index"].value == pytest.approx(won / met)


def test_concordance_of_two_levels_is_the_auc():
    rng = np.random.default_rng(2)
    two = SEVERITY.model_copy(update={"levels": ("no", "yes")})
    rows = levels_table(rng, two)
    binary = rows.drop(columns=["p_0", "p_1"]).assign(task="motor", y_score=rows["p_1"])
    one, other = by_metric(scores(rows, [two]))["c_index"], by_metric(scores(binary, [MOTOR]))["auc"]
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_ordinal_kappa_and_error_are_scikit_learns_and_subjects_per_level_are_counted():
    predictions = levels_table(np.random.default_rng(3), SEVERITY)
    found = by_metric(scores(predictions, [SEVERITY]))
    repeats = [rows for _, rows in predictions.groupby("repeat")]
    kappa = np.mean([cohen_kappa_score(r.y_true, r.y_pred, weights="quadratic") for r in repeats])
    assert found["weighted_kappa"].value == pytest.approx(kappa)
    assert found["weighted_kappa"].low < kappa < found["weighted_kappa"].high <= 1
    assert found["mae"].value == pytest.approx(np.mean([mean_absolute_error(r.y_true, r.y_pred) for r in repeats]))
    counts = repeats[0]["y_true"].value_counts().sort_index()
    assert found["c_index"].per_level == tuple(counts)
    assert found["c_index"].n_positive is None


def test_kappa_and_balanced_accuracy_of_one_observed_level_are_undefined():
    for task, metric in ((SEVERITY, "weighted_kappa"), (DIAGNOSIS, "balanced_accuracy")):
        one = levels_table(np.random.default_rng(3), task, 40, y=np.ones(40))
        found = by_metric(scores(one, [task]))[metric]
        assert np.isnan([found.value, found.low, found.high]).all()


def test_kappas_influence_agrees_with_leaving_subjects_out():
    """The variance of the interval compared with the jackknife, without the factors for training sets."""
    predictions = levels_table(np.random.default_rng(4), SEVERITY, n=150, n_repeats=1)
    one = predictions[["y_true", "y_pred"]].to_numpy(int)
    labels = range(4)
    left = [cohen_kappa_score(*np.delete(one, i, axis=0).T, weights="quadratic", labels=labels) for i in range(150)]
    log = np.log(1 - np.array(left))
    jackknife = np.sqrt(149 / 150 * ((log - log.mean()) ** 2).sum())
    score = by_metric(scores(predictions, [SEVERITY]))["weighted_kappa"]
    wide = METRICS["weighted_kappa"].widening["procedure"]
    half = np.log((1 - score.low) / (1 - score.high)) / 2
    test_only = np.sqrt(((half / 1.976) ** 2 - (wide.floor / 150) ** 2) / wide.at(150))
    assert test_only == pytest.approx(jackknife, rel=0.05)


def test_multiclass_scores_are_scikit_learns():
    predictions = levels_table(np.random.default_rng(5), DIAGNOSIS, n_folds=1)
    names = ["p_0", "p_1", "p_2"]
    found = by_metric(scores(predictions, [DIAGNOSIS]))
    repeats = [rows for _, rows in predictions.groupby("repeat")]
    each = [
        np.mean([roc_auc_score(r.y_true == c, r[names[c]]) for r in repeats]) for c in range(3)
    ]  # one fold: pairs of all repeats have equal weight
    assert found["macro_auc"].value == pytest.approx(np.mean(each))
    assert np.mean(each) == pytest.approx(
        np.mean([roc_auc_score(r.y_true, r[names], multi_class="ovr") for r in repeats])
    )
    assert found["balanced_accuracy"].value == pytest.approx(
        np.mean([balanced_accuracy_score(r.y_true, r.y_pred) for r in repeats])
    )
    brier = [sum(brier_score_loss(r.y_true == c, r[names[c]]) for c in range(3)) for r in repeats]
    assert found["multiclass_brier"].value == pytest.approx(np.mean(brier))
    for score in found.values():
        assert score.low < score.value < score.high


def test_macro_auc_counts_pairs_within_folds_only():
    predictions = levels_table(np.random.default_rng(6), DIAGNOSIS)
    value = []
    for c in range(3):
        won = met = 0
        for _, rows in predictions.groupby(["repeat", "fold"]):
            inside = rows["y_true"] == c
            pairs = int(inside.sum() * (~inside).sum())
            if pairs:
                won, met = won + pairs * roc_auc_score(inside, rows[f"p_{c}"]), met + pairs
        value.append(won / met)
    assert by_metric(scores(predictions, [DIAGNOSIS]))["macro_auc"].value == pytest.approx(np.mean(value))


@pytest.mark.parametrize("task", [SEVERITY, DIAGNOSIS])
def test_test_only_variance_of_many_levels_is_that_of_simulated_studies(task):
    """Scores without any signal, one fold: the spread of the statistic over draws, compared with the formula at 0.5."""
    rng, n = np.random.default_rng(7), 48
    y, fold = np.arange(n) % task.n_levels * 1.0, np.zeros((1, n), dtype=int)
    values, variances = [], []
    for _ in range(1500):
        if task.kind == "ordinal":
            pairs = within_fold_pairs(y, rng.normal(size=(1, n)), fold)
        else:
            weight = rng.exponential(size=(1, n, 3))
            pairs = macro_pairs(y, weight / weight.sum(axis=2, keepdims=True), fold)
        values.append(pairs.auc)
        variances.append(pairs.variance(0.5))
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.12)


def test_levels_between_two_others_lower_the_variance():
    y = np.repeat([0.0, 1.0, 2.0], 8)
    pairs = within_fold_pairs(y, np.random.default_rng(8).normal(size=(1, 24)), np.zeros((1, 24), dtype=int))
    assert pairs.variance(0.5) < auc_variance(pairs.met)(0.5)
    assert pairs.variance(0.999) > 0


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_a_comparison_with_a_constant_is_the_scores_own_interval_shifted(task):
    predictions = with_models(task, np.random.default_rng(9), ["full", "prevalence"])
    main = next(s for s in scores(predictions, [task]) if (s.model, s.metric) == ("full", task.spec.primary))
    found = compare(predictions, task, "full", "prevalence", task.spec.primary)
    chance = METRICS[task.spec.primary].chance
    assert (found.difference, found.low, found.high) == pytest.approx(
        (main.value - chance, main.low - chance, main.high - chance)
    )
    assert (found.verdict == "helps") == (main.low > chance)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_differences_turn_with_the_models_and_stay_within_what_the_scores_can_be(task):
    for seed in range(8):
        predictions = with_models(task, np.random.default_rng(seed), ["full", "ridge"], n=30, signal=3.0)
        own = {s.model: s for s in scores(predictions, [task]) if s.metric == task.spec.primary}
        forth = compare(predictions, task, "full", "ridge", task.spec.primary)
        back = compare(predictions, task, "ridge", "full", task.spec.primary)
        assert forth.difference == pytest.approx(own["full"].value - own["ridge"].value)
        assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
        assert own["full"].low - own["ridge"].high <= forth.low <= forth.difference <= forth.high
        assert forth.high <= own["full"].high - own["ridge"].low


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_models_that_agree_everywhere_may_still_differ_in_the_next_cohort(task):
    predictions = with_models(task, np.random.default_rng(10), ["full"], n=33)
    twice = pd.concat([predictions, predictions.assign(model="ridge")], ignore_index=True)
    found = compare(twice, task, "full", "ridge", task.spec.primary)
    assert found.difference == 0
    assert found.low < -0.02
    assert found.high > 0.02


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_relatives_widen_every_primary_interval(task):
    single = with_models(task, np.random.default_rng(11), ["full"], n=40)
    both = pd.concat([single, single.assign(subject=single["subject"] + "b")], ignore_index=True)
    family = {s: s[:4] for s in both["subject"].unique()}
    alone, related, ignored = (
        by_metric(scores(rows, [task], given))[task.spec.primary]
        for rows, given in ((single, None), (both, family), (both, None))
    )
    assert related.high - related.low > 0.9 * (alone.high - alone.low)
    assert ignored.high - ignored.low < 0.9 * (alone.high - alone.low)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_the_permutation_statistic_of_the_observed_outcome_is_the_score(task):
    rng, n = np.random.default_rng(12), 48
    x = rng.normal(size=(n, 6))
    latent = x[:, 0] + rng.normal(size=n)
    y = (np.argsort(np.argsort(latent)) * (task.n_levels or 1) // n).astype(float) if task.n_levels else latent
    y[3] = np.nan
    fold, folds, tables, base = np.arange(n) % 4, [], [], []
    for k in range(4):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        folds.append(FoldRows(0, train, test, x[train], x[test]))
        ids = [f"s{i:03d}" for i in test]
        if task.kind == "multiclass":
            score = np.column_stack(
                [fit_ridge(x[train], np.where(np.isnan(y[train]), np.nan, 2.0 * (y[train] == c) - 1)).predict(x[test])
                 for c in range(3)]
            )  # fmt: skip
        else:
            labels = 2 * y[train] - 1 if task.is_binary else y[train]
            score = fit_ridge(x[train], labels).predict(x[test])
        frame = pd.DataFrame({"subject": ids, "task": task.name, "model": "full", "repeat": 0, "fold": k,
                              "y_true": y[test], "y_score": score[:, 0], "y_pred": score[:, 0]})  # fmt: skip
        if task.spec.by_level:
            frame = frame.assign(**{f"p_{c}": score[:, min(c, score.shape[1] - 1)] for c in range(task.n_levels)})
        tables.append(frame)
        mean = float(np.nanmean(y[train]))
        base.append(frame.assign(model="prevalence", y_score=mean, y_pred=mean))
    moves = np.array([rng.permutation(n) for _ in range(5)])
    found = linear_statistics(folds, y[:, None], [task], moves)
    assert found.shape == (6, 1)
    every = pd.concat([*tables, *base], ignore_index=True)
    if task.is_binary:
        every["y_score"] = (every["y_score"] + 5) / 10  # any increasing map: only the order matters
        every["y_pred"] = (every["y_score"] > 0.5) * 1.0
    main = next(s for s in scores(every, [task]) if (s.model, s.metric) == ("full", task.spec.primary))
    assert found[0, 0] == pytest.approx(main.value)
    (result,) = permutation_results(found, [task], "full", "Does the model predict better than chance?")
    assert result.metric == task.spec.primary


def test_ordered_pairs_of_many_labellings_agree_with_those_of_one():
    rng = np.random.default_rng(13)
    y = rng.integers(0, 4, (40, 5)).astype(float)
    y[rng.random(y.shape) < 0.15] = np.nan
    score, fold = np.round(rng.normal(size=y.shape), 1), np.arange(40) % 3
    won, met = within_fold_counts(y, score, fold)
    for k in range(5):
        seen = ~np.isnan(y[:, k])
        pairs = within_fold_pairs(y[seen, k], score[seen, k][None], fold[seen][None])
        assert (won[k], met[k]) == (pairs.won.sum(), pairs.met.sum())


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_each_kind_has_a_verdict_with_its_numbers(task):
    predictions = with_models(task, np.random.default_rng(14), ["full", "scratch", "clinical_only", "prevalence"])
    found = scores(predictions, [task])
    (said,) = task_verdicts([task], found, comparisons(predictions, [task]), noun="children")
    assert METRICS[task.spec.primary].words.lower() in said.how_well.lower()
    assert "60 children" in said.how_well
    assert "difference" in said.against_clinical
    assert len(said.transfer) == 1


def test_an_outcome_that_is_no_level_and_missing_probabilities_are_refused():
    rows = levels_table(np.random.default_rng(15), DIAGNOSIS)
    with pytest.raises(DataError, match="not a level"):
        scores(rows.assign(y_true=rows["y_true"] + 1), [DIAGNOSIS])
    with pytest.raises(DataError, match="p_2"):
        scores(rows.drop(columns="p_2"), [DIAGNOSIS])


def test_classes_follow_from_the_probabilities_that_are_read_back():
    rows = levels_table(np.random.default_rng(16), SEVERITY)
    again = out_of_fold(rows, SEVERITY, "full")
    for r in range(again.n_repeats):
        assert called(SEVERITY, again.probability[r], 0.5).tolist() == again.predicted[r].tolist()


def test_a_registered_model_has_its_name_question_and_place_everywhere(monkeypatch):
    monkeypatch.setattr("connectome_tl.settings.model_table.MODELS", dict(MODELS))
    mine = ModelSpec(
        "brainnet", "BrainNetCNN", "#123456", "baseline", "Is it better than BrainNetCNN?", words="BrainNetCNN"
    )
    register(mine)
    register(mine)  # repeated, it is the same
    assert model_named("brainnet").label == "BrainNetCNN"
    with pytest.raises(UsageError, match="already"):
        register(ModelSpec("full", "Mine", "#123456", "full"))
    with pytest.raises(UsageError, match="unknown model"):
        register(ModelSpec("x", "X", "#123456", "control", of="nothing"))
    predictions = with_models(MOTOR, np.random.default_rng(17), ["full", "brainnet", "own_model"])
    assert {c.control: c.question for c in comparisons(predictions, [MOTOR])} == {
        "brainnet": "Is it better than BrainNetCNN?", "own_model": "Is it better than own model?",
    }  # fmt: skip


def test_controls_of_the_network_are_compared_with_the_network():
    predictions = with_models(
        MOTOR, np.random.default_rng(18), ["full", "core", "network", "scratch", "network_scratch"]
    )
    pairs = [(c.model, c.control) for c in comparisons(predictions, [MOTOR])]
    assert pairs == [("full", "core"), ("full", "network"), ("full", "scratch"), ("network", "network_scratch")]


def test_a_network_of_weight_zero_has_no_stage_verdict_in_the_full_model():
    predictions = with_models(
        MOTOR, np.random.default_rng(19), ["full", "core", "network", "scratch", "network_scratch"]
    )
    weight = NetworkWeight(task="motor", mean=0.0, low=0.0, high=0.0, n_fits=10)
    compared = comparisons(predictions, [MOTOR])
    found = without_network(compared, {"full": [weight], "scratch": [weight]})
    words = {(c.model, c.control): c.verdict for c in found}
    assert words["full", "scratch"] == words["full", "core"] == "not applicable"
    assert words["network", "network_scratch"] != "not applicable"
    (said,) = task_verdicts([MOTOR], scores(predictions, [MOTOR]), found, weights=[weight])
    assert said.transfer[0] == "The network has weight 0.00 in 10 fits; the closed-form core has the remaining weight."
    other = weight.model_copy(update={"mean": 0.3, "high": 0.5})
    (moved,) = task_verdicts([MOTOR], scores(predictions, [MOTOR]), [], weights=[other])
    assert moved.transfer == (
        "The network has weight 0.30, 0.00 to 0.50 over 10 fits; the closed-form core has the remaining weight.",
    )
    assert any("not applicable, the network has weight 0 in both models" in line for line in said.transfer)
    assert any("network alone" in line and "difference" in line for line in said.transfer)


@pytest.mark.parametrize("scratch", [(0.3, 0.5), None], ids=["some weight", "unknown"])
def test_transfer_that_silences_the_network_keeps_its_verdict(scratch: tuple[float, float] | None) -> None:
    """A network from scratch may pass the gate that the pretrained one fails: this is negative transfer."""
    predictions = with_models(MOTOR, np.random.default_rng(19), ["full", "core", "scratch"])
    silent = NetworkWeight(task="motor", mean=0.0, low=0.0, high=0.0, n_fits=10)
    weights = {"full": [silent]}
    if scratch is not None:
        weights["scratch"] = [silent.model_copy(update={"mean": scratch[0], "high": scratch[1]})]
    compared = comparisons(predictions, [MOTOR])
    for before, after in zip(compared, without_network(compared, weights), strict=True):
        assert after.verdict == ("not applicable" if after.control == "core" else before.verdict)
        assert before.verdict != "not applicable"


def test_the_interval_of_a_macro_auc_has_a_length_where_the_influences_of_classes_cancel() -> None:
    """Two classes that meet in three pairs: what one class gains by a subject the other loses."""
    y = np.array([1.0, 0.0, 1.0])
    probability = np.array(
        [
            [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0.4, 0.4, 0.2]],
            [[0.25, 0.5, 0.25], [0.4, 0.2, 0.4], [0.5, 0.25, 0.25]],
        ]
    )
    fold = np.array([[3, 3, 1], [0, 0, 0]])
    pairs = macro_pairs(y, probability, fold)
    assert pairs.auc == 0.75
    low, high = auc_interval(pairs, np.arange(3), TEST_ONLY)
    assert low < 0.5
    assert high > 0.9


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_a_decided_ranking_of_few_labels_has_an_interval_of_some_length(repeats: int) -> None:
    """Influences may cancel between classes and between repeats."""
    rng = np.random.default_rng(repeats)
    n_decided = 0
    for _ in range(200):
        n = int(rng.integers(2, 6))
        y, fold = rng.integers(0, 3, n).astype(float), rng.integers(-1, 2, (repeats, n))
        macro = macro_pairs(y, rng.dirichlet(np.ones(3), (repeats, n)), fold)
        binary = within_fold_pairs((y > 0) * 1.0, rng.integers(0, 3, (repeats, n)) / 2, fold)
        for pairs in (macro, binary):
            if pairs.classes and pairs.decided and np.isfinite(pairs.auc):
                low, high = auc_interval(pairs, np.arange(n), TEST_ONLY, n_labelled=4)
                assert high - low > 0.1
                n_decided += 1
    assert n_decided > 50
