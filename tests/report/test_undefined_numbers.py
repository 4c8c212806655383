"""Undefined numbers never occur on a page as `nan`, `inf` or `None` but as "not estimable"."""

from __future__ import annotations

import base64
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page import Page
from report_example import example_record

from connectome_tl.evaluation.scores.compare import comparisons
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.provenance import canonical_json
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.tuned_settings import optimism_sentences
from connectome_tl.report.text.probes import probes_text, probes_verdict
from connectome_tl.report.text.verdict import task_verdicts
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import LearningPoint, PermutationResult, RunRecord
from connectome_tl.settings.records.statistics import AdaptationProbe
from connectome_tl.settings.tuning import Optimism
from connectome_tl.tasks import Task
from connectome_tl.workflows.study.tuned import optimism_lines

WORDS = re.compile(r"(?<![\w])[-+−]?(nan|inf|infinity|none|null)(?![\w])", re.IGNORECASE)
DELAY = Task(name="delay", kind="binary", column="delay")
POINTS = Task(name="points", kind="regression", column="points", unit="points")


def undefined(value: Any) -> Any:
    """The same record with NaN for every number that may be undefined."""
    if isinstance(value, Record):
        return value.model_copy(update={name: undefined(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, tuple):
        return tuple(undefined(item) for item in value)
    return math.nan if isinstance(value, float) else value


def strange_words(page: str) -> list[str]:
    """Positions of such a word in a page, or in a table for download."""
    files = [base64.b64decode(data).decode() for data in re.findall(r";base64,([A-Za-z0-9+/=]+)", page)]
    cells = " ".join(files) + " " + Page(page).visible
    drawn = re.findall(r'\s(?:d|x|y|points|style)="[^"]*\b(?:nan|inf)\b[^"]*"', page)
    return [cells[max(0, m.start() - 40) : m.end() + 20] for m in WORDS.finditer(cells)] + drawn


def test_a_page_of_undefined_numbers_says_so_in_words():
    whole = example_record(n_subjects=12, n_repeats=1, n_tasks=4, n_permutations=6)
    parts = ("scores", "comparisons", "permutations", "calibration_curves", "recalibrated", "decision_curves")
    parts += ("subgroups", "conformal", "sample_sizes", "power", "instability", "returners", "missing_outcomes")
    parts += ("missingness", "curves", "network_weights")
    changed = {name: undefined(getattr(whole, name)) for name in parts}
    asked = [one.auc for one in whole.power]  # requested values are never undefined
    changed["power"] = tuple(
        one.model_copy(update={"auc": aucs}) for one, aucs in zip(changed["power"], asked, strict=True)
    )
    curve = [
        LearningPoint(task=s.task, model=s.model, metric=s.metric, n_labelled=8, value=v, low=v, high=v, n=12)
        for s, v in zip(whole.scores, [math.nan] * len(whole.scores), strict=True)
        if s.metric in ("auc", "r2")
    ]
    verdicts = task_verdicts(whole.tasks, changed["scores"], changed["comparisons"], changed["permutations"])
    record = whole.model_copy(update={**changed, "learning_curve": tuple(curve), "verdicts": tuple(verdicts)})
    page = render_report(record)
    assert [text for text in strange_words(page) if "none" not in text.lower()] == []
    assert "Could not be scored" in Page(page).visible
    assert "n/a" in Page(page).visible
    assert "NaN" not in canonical_json(record)
    again = RunRecord.model_validate_json(canonical_json(record))
    assert math.isnan(again.scores[0].value)


@pytest.mark.parametrize("task", [DELAY, POINTS], ids=lambda task: task.name)
@pytest.mark.parametrize("kin", ["one family", "a family per class", "one class"])
def test_a_study_of_one_family_or_class_per_stratum_has_a_page_in_words(task, kin):
    rng, n = np.random.default_rng(0), 16
    y = (np.arange(n) % 2) * (1.0 if task.is_binary else 30.0)
    family = {f"s{i:02d}": "f" if kin == "one family" else f"f{i % 2}" for i in range(n)} if kin != "one class" else {}
    y = np.ones(n) if kin == "one class" else y
    ids = [f"s{i:02d}" for i in range(n)]
    tables = [
        prediction_rows(task, model, 0, 0, ids, y, rng.random(n) * (1.0 if task.is_binary else 40.0), 0.5)
        for model in ("full", "prevalence", "clinical_only")
    ]
    table = pd.concat([one.assign(fold=np.arange(n) // 2 % 4) for one in tables])
    found, differences = scores(table, [task], family), comparisons(table, [task], family)
    assert not any(math.isinf(v) for s in found for v in (s.value, s.low, s.high, s.fitted_low, s.fitted_high))
    (said,) = task_verdicts([task], found, differences)
    sentences = " ".join((said.headline, said.how_well, said.against_clinical, *said.caution))
    assert not WORDS.search(sentences)
    if kin == "one family":
        assert math.isnan(found[0].low)
        assert "since its interval is not estimable" in said.headline
        assert "no conclusion is possible" in " ".join(said.caution)
    record = RunRecord(title="Kin", tasks=(task,), cohorts=(), verdicts=(said,), scores=tuple(found),
                       comparisons=tuple(differences))  # fmt: skip
    if kin == "one family" and not task.is_binary:
        assert all("none" in text for text in strange_words(render_report(record)))
    canonical_json(record)


def test_sentences_about_tests_probes_and_tuning_have_words_for_what_is_undefined():
    test = PermutationResult(
        task="delay", model="full", metric="auc", question="Does the model predict better than chance?",
        observed=math.nan, null=(), p_value=math.nan, p_value_max=math.nan, n_permutations=9,
    )  # fmt: skip
    whole = example_record(n_subjects=12, n_repeats=1, n_tasks=1, n_permutations=0)
    task, score = whole.tasks[0], whole.scores[0]
    (said,) = task_verdicts([task], [score], [], [test.model_copy(update={"task": task.name})])
    assert "p = not estimable, not estimable corrected" in said.how_well
    probe = AdaptationProbe(
        cohort="pool", outcome="age", metric="R2", shares=(0, 1), values=(math.nan, math.inf), n_fits=2
    )
    assert "R2 n/a before and n/a after" in probes_text([probe])[0]
    assert probes_verdict([probe]) == ()
    one = Optimism(
        task=task.name, model="full", metric="auc", inner=math.nan, outer=0.5, low=math.nan, high=math.nan,
        difference=math.nan,
    )  # fmt: skip
    record = whole.model_copy(update={"optimism": (one,)})
    for text in (*optimism_sentences([one], {}), *optimism_lines(record)):
        assert "n/a" in text
        assert not WORDS.search(text)
