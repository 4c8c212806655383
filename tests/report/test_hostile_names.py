"""Names, labels, reasons and notes from users' files are shown as text and have no other effect."""

from __future__ import annotations

import pytest
from page import HOSTILE, Page
from report_example import example_record

from connectome_tl.report.render import render_report
from connectome_tl.settings.records.results import RunRecord, TaskVerdict


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return example_record(n_repeats=3, n_permutations=40)


@pytest.fixture(scope="module")
def harmless(record: RunRecord) -> Page:
    return Page(render_report(poisoned(record, "harmless")))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(record: RunRecord, harmless: Page, text: str) -> None:
    hostile = poisoned(record, text)
    html = render_report(hostile)
    page = Page(html)
    assert page.loads() == []
    assert page.faults == []
    assert page.tags["img"] == 0
    assert len(page.ids) == len(set(page.ids))
    assert page.tags == harmless.tags  # same number of elements
    assert text.split("\u202e")[0] in "".join(page.text)
    html.encode("utf-8")


def poisoned(record: RunRecord, text: str) -> RunRecord:
    """The record with `text` in every text field, for one binary and one regression task."""
    kept = {record.tasks[0].name, record.tasks[3].name}
    tasks = (
        record.tasks[0].model_copy(update={"column": text, "edition": text}),
        record.tasks[3].model_copy(update={"unit": text}),
    )

    def of_task(items: tuple) -> tuple:
        return tuple(item for item in items if item.task in kept)

    cohort = record.cohorts[2]
    rename = {"full": "full", "ridge": text}
    return record.model_copy(
        update={
            "title": text,
            "tasks": tasks,
            "warnings": (text,),
            "methods": text,
            "split_hash": text,
            "provenance": {text: text},
            "versions": {text: text},
            "verdicts": (
                TaskVerdict(task=tasks[0].name, headline=text, how_well=text, against_nuisance=text,
                            against_clinical=text, transfer=(text,), caution=(text,)),
            ),
            "scores": tuple(
                s.model_copy(update={"method": text, "reason": text, "model": rename.get(s.model, s.model)})
                for s in of_task(record.scores)
            ),
            "comparisons": tuple(
                c.model_copy(update={"question": text, "method": text, "control": rename.get(c.control, c.control)})
                for c in of_task(record.comparisons)
            ),
            "permutations": tuple(
                p.model_copy(update={"question": text, "method": text}) for p in of_task(record.permutations)
            ),
            "curves": tuple(c.model_copy(update={"model": text, "stage": text}) for c in record.curves[:1]),
            "predictions": tuple(
                p.model_copy(update={"subject": text + p.subject}) for p in of_task(record.predictions)
            ),
            "subgroups": tuple(
                one.model_copy(update={"variable": text, "group": text}) for one in of_task(record.subgroups)
            ),
            "conformal": of_task(record.conformal),
            "returners": tuple(one.model_copy(update={"variable": text}) for one in record.returners),
            "missing_outcomes": tuple(one.model_copy(update={"method": text}) for one in record.missing_outcomes),
            "sample_sizes": tuple(
                one.model_copy(update={"criteria": ((text, 1),), "method": text}) for one in record.sample_sizes
            ),
            "decision_curves": of_task(record.decision_curves),
            "tables": tuple(
                t.model_copy(update={"title": text, "columns": (text, text), "rows": ((text, text),), "note": text})
                for t in record.tables
            ),
            "cohorts": (
                cohort.model_copy(
                    update={
                        "name": text,
                        "atlas": text,
                        "measures": (text,),
                        "flow": tuple(s.model_copy(update={"label": text, "reason": text}) for s in cohort.flow),
                        "table_groups": (text,),
                        "table": tuple(
                            r.model_copy(update={"variable": text, "values": (text,)}) for r in cohort.table
                        ),
                        "missing_regions": ((text, 1),),
                    }
                ),
            ),
        }
    )  # fmt: skip
