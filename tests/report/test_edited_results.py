"""For each edited number or word of results.json, the audit names the part and both values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from report_example import example_record

from connectome_tl.audit.results import page_finding, results_findings
from connectome_tl.report.render import render_report
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import LearningPoint, RunRecord

Path = tuple[tuple[str, int | None], ...]


@pytest.fixture(scope="module")
def record() -> RunRecord:
    whole = example_record(n_subjects=12, n_repeats=1, n_tasks=4, n_permutations=4)
    curve = tuple(
        LearningPoint(
            task=s.task, model=s.model, metric=s.metric, n_labelled=8, value=s.value, low=s.low, high=s.high, n=s.n
        )
        for s in whole.scores
        if s.metric in ("auc", "r2")
    )
    return whole.model_copy(update={"learning_curve": curve, "predictions": whole.predictions[:20]})


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every number and word of a record, of each list the first entry that has one."""
    if isinstance(value, Record):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        if value:
            yield from leaves(value[0], (*path, 0))
    elif isinstance(value, dict):
        for key in sorted(value)[:1]:
            yield from leaves(value[key], (*path, key))
    elif value is not None:
        yield path, value


def edited(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, Record):
        return value.model_copy(update={head: edited(getattr(value, head), rest, new)})
    if isinstance(value, tuple):
        return (edited(value[0], rest, new), *value[1:])
    return {**value, head: edited(value[head], rest, new)}


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if math.isfinite(value) else 0.5
    return f"{value} indeed"


def test_an_edit_of_any_field_is_named(record):
    unseen, tried = [], 0
    lists = {name: getattr(record, name) for name in RunRecord.model_fields if isinstance(getattr(record, name), tuple)}
    record = record.model_copy(update={name: value[:1] for name, value in lists.items()})
    for path, value in leaves(record):
        if path[0] == "versions":
            continue
        tried += 1
        wrong = edited(record, path, other(value))
        (found, *_) = results_findings(wrong, record)
        if found.status != "failed" or not found.what.startswith("1 value differs: " + str(path[0])):
            unseen.append(path)
    assert unseen == []
    assert tried > 120


def test_subgroups_learning_curve_and_missing_numbers_are_named_with_both_values(record):
    group = next(one for one in record.subgroups if one.score is not None)
    at = record.subgroups.index(group)
    praised = group.model_copy(update={"score": group.score.model_copy(update={"value": 0.99})})
    groups = (*record.subgroups[:at], praised, *record.subgroups[at + 1 :])
    (found, *_) = results_findings(record.model_copy(update={"subgroups": groups}), record)
    assert f"value: 0.99, again {group.score.value:.4g}" in found.what
    first = record.learning_curve[0]
    point = first.model_copy(update={"value": math.nan})
    curve = (point, *record.learning_curve[1:])
    (found, *_) = results_findings(record.model_copy(update={"learning_curve": curve}), record)
    assert f"learning_curve ({first.task}, {first.model}, {first.metric}), value: n/a, again" in found.what
    shorter = record.model_copy(update={"learning_curve": record.learning_curve[1:]})
    (found, *_) = results_findings(shorter, record)
    assert "entries, again" in found.what


def test_an_edited_drawing_or_table_for_download_is_named(record):
    page = render_report(record.model_copy(update={"predictions": (), "curves": ()}))
    assert page_finding(page.replace("</body>", "<!-- kept by a server --></body>"), [page]).status == "passed"
    bar = page.index('style="left:')
    moved = page[:bar] + page[bar:].replace("left:", "left:1", 1)
    found = page_finding(moved, [page])
    assert found.status == "failed"
    assert "left:1" in found.what
    start = page.index(";base64,") + len(";base64,")
    forged = page[:start] + "Rm9y" + page[start + 4 :]
    found = page_finding(forged, [page])
    assert found.status == "failed"
    assert found.what.startswith("1 value differs: 'For")
