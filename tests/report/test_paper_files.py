"""Parts of a run for a paper: answer, tables, references, checklists, flow; all from the record only."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from page import HOSTILE, Page
from report_example import example_record

from connectome_tl.report.figures.flow import flow_figure
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.downloads import PlainTable, collected, latex_text, slug
from connectome_tl.report.text.answer import answer
from connectome_tl.report.text.references import REFERENCES, bibliography, references_of
from connectome_tl.report.text.standards import OPEN, checklists
from connectome_tl.settings.records.results import RunRecord

CSS = (Path(__file__).parents[2] / "connectome_tl" / "report" / "templates" / "report.css").read_text("utf-8")


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return example_record(n_repeats=2, n_permutations=19)


@pytest.mark.usefixtures("blank_figures")
def test_every_table_of_the_page_can_be_saved_from_the_page(record: RunRecord) -> None:
    with collected() as tables:
        page = Page(render_report(record))
    links = [value for tag, key, value in page.attributes if tag == "a" and key == "href" and value.startswith("data:")]
    undrawn = {"Paired differences", *(one.name for one in checklists(record))}
    assert undrawn <= {table.title for table in tables}
    assert len(links) == len(tables)
    assert sum(table.title not in undrawn for table in tables) == page.tags["table"]
    saved = [base64.b64decode(link.partition(",")[2]).decode("utf-8") for link in links]
    assert saved == [table.tsv for table in tables]
    first = tables[0].tsv.splitlines()
    assert first[0].split("\t")[:4] == ["Task", "Metric", "Full model", "95 % interval"]
    full = next(s for s in record.scores if s.model == "full")
    assert f"{full.value:.2f}" in first[1]
    for table in tables:  # every line has as many cells as the header
        assert {line.count("\t") for line in table.tsv.splitlines()} == {len(table.columns) - 1}, table.title
    names = [value for tag, key, value in page.attributes if tag == "a" and key == "download"]
    assert all(re.fullmatch(r"[a-z0-9-]+\.tsv", name) for name in names)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_cells_stay_cells(text: str) -> None:
    table = PlainTable(text, (text, "b"), ((text + "\t\n", "1"),))
    assert [line.count("\t") for line in table.tsv.split("\n")] == [1, 1, 0]
    plain = latex_text(text)
    for sign in "&%$#_{}~^\\":
        bare = re.sub(
            r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]", "", plain
        )
        assert sign not in bare.replace("$-$", "").replace("$^2$", "")
    assert re.fullmatch(r"[a-z0-9-]{1,60}", slug(text))


def test_latex_tables_have_one_cell_per_column() -> None:
    text = PlainTable("A & B", ("Model", "R²"), (("ridge_1", "−0.10 %"),)).latex
    assert r"\caption{A \& B}" in text
    assert r"ridge\_1 & $-$0.10 \% \\" in text
    assert r"R$^2$" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_the_answer_names_every_scored_outcome_and_agrees_with_the_verdict_words(record: RunRecord) -> None:
    said = answer(record)
    assert said.endswith(".")
    assert ". " not in said  # one sentence
    for task in record.tasks:
        assert task.name.replace("_", " ").capitalize() in said
    words = {c.verdict for c in record.comparisons if c.control == "scratch"}
    assert ("transfer helps" in said) == ("helps" in words)
    assert ("remains unclear" in said) == ("cannot tell" in words)
    beaten = record.verdicts[0].model_copy(update={"better_baseline": "ridge"})
    first = answer(record.model_copy(update={"verdicts": (beaten, *record.verdicts[1:])})).split(";")[0]
    assert first.endswith(": the full model scores lower than ridge on the same edges")
    other = record.verdicts[1].model_copy(update={"better_baseline": "clinical_only"})
    two = answer(record.model_copy(update={"verdicts": (beaten, other, *record.verdicts[2:])})).split("; ")[:2]
    assert [one.partition(" scores lower than ")[2] for one in two] == [
        "ridge on the same edges",
        "clinical covariates alone",
    ]
    assert answer(record.model_copy(update={"scores": ()})) == "No score of the full model: there is no answer."


def test_references_are_those_of_what_was_done(record: RunRecord) -> None:
    keys = {one.key for one in references_of(record)}
    assert {"collins2024", "moons2025", "tejani2024", "winkler2015", "harris2020"} <= keys
    assert not {"varoquaux2010", "johnson2007", "haufe2014"} & keys
    tangent = record.model_copy(update={"methods": "Edges in tangent space; site effects were removed by ComBat."})
    assert {"varoquaux2010", "johnson2007"} <= {one.key for one in references_of(tangent)}
    text = bibliography(references_of(record))
    assert text.count("@article{") == len(keys)
    assert text.count("{") == text.count("}")
    assert len({one.key for one in REFERENCES}) == len(REFERENCES)
    for one in REFERENCES:
        assert not one.doi or re.fullmatch(r"10\.\d{4,}/\S+", one.doi)


@pytest.mark.usefixtures("blank_figures")
def test_checklists_fill_what_the_run_knows_and_leave_the_rest_open(record: RunRecord) -> None:
    tripod, probast, claim = checklists(record)
    assert {where for where, _, _ in tripod.rows} == {str(k) for k in range(1, 28)}
    known = {topic: text for _, topic, text in tripod.rows}
    assert "33" in known["Data sources, and when they were collected"]
    assert known["Ethical approval"] == OPEN
    assert "0.1.0" in known["Open science: code"]
    assert probast.rows[-1][2] == OPEN  # the judgement is never made
    empty = RunRecord(title="", tasks=(), cohorts=(), verdicts=(), scores=(), comparisons=())
    for full, bare in zip((tripod, probast, claim), checklists(empty), strict=True):
        assert bare.n_open == len(bare.rows) > full.n_open > 0
    with collected() as tables:
        page = Page(render_report(record))
    by_title = {table.title: table for table in tables}
    for one in (tripod, probast, claim):
        assert f"{len(one.rows) - one.n_open} of {len(one.rows)} topics answered from the run" in page.visible
        assert by_title[one.name].rows == one.rows
        for _, topic, said in one.rows:
            (row,) = (row for row in page.rows if len(row) == 4 and row[-1] == said)
            assert topic in " ".join(row)


def test_the_flow_has_all_numbers_of_all_cohorts(record: RunRecord) -> None:
    svg = flow_figure(record, "flow", "Simulated data")
    assert svg is not None
    text = Page(svg).visible
    for cohort in record.cohorts:
        for step in cohort.flow:
            assert f"n = {step.n_left}" in text
            assert not step.n_excluded or f"−{step.n_excluded}" in text
        if cohort.role == "target":
            for row in cohort.outcomes:
                assert f"n = {row.observed}" in text
    assert flow_figure(record.model_copy(update={"cohorts": ()}), "flow", "") is None


def contrast(one: str, two: str) -> float:
    """WCAG 2 contrast of two colours."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_the_contrast_that_wcag_asks_for() -> None:
    named = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", CSS))
    for name in ("ink", "muted", "accent", "good", "bad", "warn"):
        assert contrast(named[name], "#fff") >= 4.5, name
        assert contrast(named[name], named["soft"]) >= 4.5, name
    assert contrast(named["warn"], "#fef3c7") >= 4.5
    assert contrast("#fff", named["bad"]) >= 4.5


@pytest.mark.usefixtures("blank_figures")
def test_the_page_can_be_used_with_a_keyboard(record: RunRecord) -> None:
    page = Page(render_report(record))
    assert ":focus-visible" in CSS
    scrolled = [value for tag, key, value in page.attributes if (tag, key) == ("div", "class") and value == "scroll"]
    assert len(scrolled) == sum((tag, key) == ("div", "tabindex") for tag, key, _ in page.attributes)
    assert page.tags["summary"] == page.tags["details"]
    assert ("a", "class", "skip") in page.attributes
