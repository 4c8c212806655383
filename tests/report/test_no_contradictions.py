"""Over a hundred simulated prediction tables no page has two values of one quantity. Nothing is fitted here.

Each table is checked by itself, and each check is shown to find a fault in every table to which it applies.
`benchmarks/contradictions.py --n 500` checks the whole pages of 500 studies, `test_pages_agree.py` those of 20.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from page import Page

from connectome_tl.evaluation.clinical.net_benefit import subgroup_scores
from connectome_tl.evaluation.learning_curve import points
from connectome_tl.evaluation.scores.compare import comparisons
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import out_of_fold, prediction_rows
from connectome_tl.report.figures.learning_curve import curve_table
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.plain import subgroup_table
from connectome_tl.report.text.verdict import level, reconciled, task_verdicts
from connectome_tl.report.views import task_views
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.model_table import words_of as words_of_model
from connectome_tl.settings.records.results import PermutationResult, RunRecord
from connectome_tl.tasks import Task

TASKS = (
    Task(name="delay", kind="binary", column="delay"),
    Task(name="score", kind="regression", column="score", unit="points"),
    Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe")),
    Task(name="group", kind="multiclass", column="group", levels=("a", "b", "c")),
)
CHANCE = "Does the model predict better than chance?"


def outputs(task: Task, rng: np.random.Generator, y: np.ndarray, skill: float) -> np.ndarray:
    """Predictions of a model of this skill (0: none, large: the truth)."""
    noise = rng.normal(size=y.size)
    if task.kind == "regression":
        return y.mean() + skill * (y - y.mean()) / 2 + noise * y.std()
    if task.is_binary:
        return 1 / (1 + np.exp(-(skill * (y - 0.5) + noise)))
    apart = np.abs(y[:, None] - np.arange(3)) if task.form == "levels" else 1.0 - np.eye(3)[y.astype(int)]
    weight = np.exp(-skill * apart + rng.normal(size=apart.shape))
    return weight / weight.sum(axis=1, keepdims=True)


def uninformed(task: Task, y: np.ndarray, n: int) -> np.ndarray:
    if task.spec.by_level:
        return np.tile(np.bincount(y.astype(int), minlength=3) / y.size, (n, 1))
    return np.full(n, y.mean())


def simulated(seed: int) -> RunRecord:
    """Scores, comparisons, permutation test and verdict of a random study of one outcome."""
    rng = np.random.default_rng(seed)
    task, n, n_folds = TASKS[seed % 4], int(rng.integers(15, 90)), int(rng.integers(2, 6))
    y = rng.normal(95, 15, n) if task.kind == "regression" else rng.integers(0, task.n_levels, n) * 1.0
    names = ["full", "prevalence", *rng.permutation([m for m in MODELS if m not in ("full", "prevalence")])[:6]]
    ids, tables = [f"s{i:03d}" for i in range(n)], []
    families = {s: f"f{i // 2}" for i, s in enumerate(ids) if i < n // 3}
    best = rng.choice([0.0, 0.7, 1.5, 4.0, 30.0])
    for repeat in range(int(rng.integers(1, 3))):
        fold = rng.permutation(np.arange(n) % n_folds)
        shared = outputs(task, rng, y, best)
        for name in names:
            own = outputs(task, rng, y, best * rng.choice([0.0, 0.5, 1.0, 2.0]))
            mixed = shared if rng.random() < 0.15 else (shared + own) / 2
            if name == "prevalence":
                mixed = np.array([uninformed(task, y[fold != k], 1)[0] for k in fold])
            tables.append(prediction_rows(task, name, repeat, 0, ids, y, mixed, 0.5).assign(fold=fold))
    predictions = pd.concat(tables, ignore_index=True)
    found, differences = scores(predictions, [task], families), comparisons(predictions, [task], families)
    p = float(rng.choice([0.005, 0.04, 0.2, 0.9]))
    tests = [
        PermutationResult(
            task=task.name, model="full", metric=task.spec.primary, question=CHANCE, observed=found[0].value,
            null=(0.5,), p_value=p, p_value_max=p, n_permutations=199,
        )
    ] * int(rng.random() < 0.6)  # fmt: skip
    verdicts = task_verdicts([task], found, differences, tests, noun="children")
    groups = []
    if seed % 7 == 0:
        rows = out_of_fold(predictions, task, "full", families)
        groups = subgroup_scores(rows, {str(s): "all" for s in rows.subjects}, "everyone", task, "full")
    return RunRecord(
        title="Simulated", tasks=(task,), cohorts=(), verdicts=tuple(verdicts), scores=tuple(found),
        comparisons=tuple(differences), permutations=tuple(tests), noun="children", subgroups=tuple(groups),
        learning_curve=tuple(points(found, [task], n)),
    )  # fmt: skip


def check(record: RunRecord) -> set[str]:
    """All statements on each quantity, in any place; returns the verdicts that occurred."""
    (task,), (said,), (view,) = record.tasks, record.verdicts, task_views(record)
    metric = METRICS[task.spec.primary]
    main = next(s for s in record.scores if (s.model, s.metric) == ("full", metric.name))
    words = {c.control: c.verdict for c in record.comparisons if c.model == "full"}
    headline = said.headline
    # The score against chance: its own interval, the row against the prevalence, the headline, the test.
    above = main.low > metric.chance
    assert (words["prevalence"] == "helps") == above
    assert (words["prevalence"] == "harms") == (main.high < metric.chance)
    assert (f"better than {metric.uninformed}" in headline) == (above or "some signal" in headline)
    assert ("not distinguishable" in headline) + ("predicted better" in headline) + ("some signal" in headline) + (
        "predicted worse" in headline) + ("could not be scored" in headline) == 1  # fmt: skip
    if record.permutations and record.permutations[0].p_value_max <= 0.05:
        assert "not distinguishable" not in headline
    elif record.permutations and above:
        assert "but not confirmed" in headline
    assert not (any("inconclusive" in line for line in said.caution) and "not distinguishable" not in headline)
    # The tables of subgroups and of the learning curve: if they show the same quantity, they have the same interval.
    row = next(row for row in view.forest if row.model.name == "full")
    curve = dict(one[:2] for one in curve_table(record, task.name)[1])
    assert curve[row.model.label] == f"{row.value} {row.interval}".rstrip()
    if record.subgroups and task.kind != "regression":  # of which groups have the MAE
        (group,) = subgroup_table(record.subgroups)[1]
        assert group[3] in ("too few to show", f"{view.metric} {row.value} {row.interval}".rstrip())
    # Each comparison: headline, sentence, table row and mark in the summary.
    for name, words_of in (
        ("clinical_only", "clinical covariates"),
        ("nuisance_only", "nuisance variables"),
        ("site_only", "the site"),
    ):
        if name not in words:
            continue
        sentence = {
            "clinical_only": said.against_clinical,
            "nuisance_only": said.against_nuisance,
            "site_only": said.against_site,
        }[name]
        word = words[name]
        start = {"helps": "Better than", "harms": "Worse than", "no benefit": "No better", "cannot tell": "Whether"}[
            word
        ]
        assert sentence.startswith(start)
        assert view.answers[name].word == {"helps": "better", "harms": "worse"}.get(word, word)
        better = headline.partition("; better than ")[2].partition(";")[0]
        assert (words_of in better) == (word == "helps")
        assert (f"worse than {MODELS[name].words}" in headline) == (word == "harms")
    # A baseline with a better score is named in the first sentence; otherwise none is.
    rivals = [s for s in record.scores if s.metric == metric.name and MODELS[s.model].role == "baseline"]
    ahead = [s for s in rivals if s.value > main.value]
    assert bool(ahead) == bool(said.better_baseline) == (view.better_baseline is not None)
    if ahead:
        top = max(ahead, key=lambda s: s.value)
        assert top.value == next(s.value for s in ahead if s.model == said.better_baseline)
        first = headline.removeprefix(f"{task.label}: ").split(";")[0]
        assert words_of_model(said.better_baseline, task.form) in first
        assert words[said.better_baseline] != "helps"
    return {words[name] for name in words}


@pytest.mark.parametrize("block", range(10))
def test_one_quantity_is_said_once_or_alike(block: int) -> None:
    seen: set[str] = set()
    for seed in range(12 * block, 12 * block + 12):
        record = simulated(seed)
        seen |= check(record)
        if seed % 6 == 0:  # the page as text
            page = Page(render_report(record))
            assert page.faults == []
            text = page.visible
            uninformed_words = METRICS[record.tasks[0].spec.primary].uninformed
            assert not (
                f"predicted better than {uninformed_words}" in text.lower() and "not distinguishable" in text.lower()
            )
            assert "infant" not in text.lower()
    assert {"helps", "cannot tell"} <= seen


def test_a_comparison_with_another_word_is_found_in_every_table() -> None:
    missing = {"prevalence", "clinical_only", "nuisance_only", "site_only"}  # whose words occur in several places
    for seed in range(60):
        record = simulated(seed)
        for k, one in enumerate(record.comparisons):
            if one.model == "full" and one.control in missing and one.metric == record.tasks[0].spec.primary:
                edited = list(record.comparisons)
                edited[k] = one.model_copy(update={"verdict": "helps" if one.verdict == "harms" else "harms"})
                with pytest.raises(AssertionError):
                    check(record.model_copy(update={"comparisons": tuple(edited)}))
                missing -= {one.control} if seed > 5 else set()
        if not missing:
            return
    raise AssertionError(missing)


def test_an_edited_headline_or_better_baseline_is_found_in_every_table() -> None:
    for seed in range(12):
        record = simulated(seed)
        (said,) = record.verdicts
        turned = {
            "predicted worse than": "predicted better than",
            "better than": "worse than",
            "not distinguishable from": "better than",
        }
        headline = said.headline
        for old, new in turned.items():
            if old in headline:
                headline = headline.replace(old, new, 1)
                break
        for changed in (
            {"headline": headline},
            {"better_baseline": "" if said.better_baseline else "ridge"},
        ):
            with pytest.raises(AssertionError):
                check(record.model_copy(update={"verdicts": (said.model_copy(update=changed),)}))


def test_all_four_relations_of_interval_and_permutation_test_are_worded() -> None:
    record = simulated(0)
    main = next(s for s in record.scores if s.model == "full")
    test = PermutationResult(
        task="delay", model="full", metric="auc", question=CHANCE, observed=0.7, null=(0.5,), p_value=0.01,
        p_value_max=0.01, n_permutations=199,
    )  # fmt: skip
    no = test.model_copy(update={"p_value_max": 0.3})
    better = main.model_copy(update={"value": 0.8, "low": 0.6, "high": 0.9})
    open_ = better.model_copy(update={"low": 0.45})
    assert reconciled(better, [test]) == level(better) == "predicted better than chance"
    assert (
        reconciled(better, [no])
        == "predicted better than chance according to its interval, but not confirmed by the permutation test"
    )
    assert (
        reconciled(open_, [test]) == "some signal (permutation test), but how much better than chance remains unclear"
    )
    assert reconciled(open_, [no]) == reconciled(open_, []) == "not distinguishable from chance"
