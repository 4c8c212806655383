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
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.records.results import PermutationResult, RunRecord

CSS = (Path(__file__).parents[2] / "connectome_tl" / "report" / "templates" / "report.css").read_text("utf-8")


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return example_record(n_repeats=2, n_permutations=19)


def titles_of_offered_tables(html: str) -> set[str]:
    lists = "".join(re.findall(r'<ul class="offered">.*?</ul>', html, flags=re.S))
    return set(re.findall("<li><b>(.*?)</b>", lists)) | set(re.findall(r'<p class="note"><b>(.*?)</b> <a', html))


@pytest.mark.usefixtures("blank_figures")
def test_every_table_of_the_page_can_be_saved_from_the_page(record: RunRecord) -> None:
    with collected() as tables:
        html = render_report(record)
    page = Page(html)
    links = [value for tag, key, value in page.attributes if tag == "a" and key == "href" and value.startswith("data:")]
    offered = titles_of_offered_tables(html)
    undrawn = {*offered, *(one.name for one in checklists(record))}
    assert {"Paired differences", "Methods of the intervals"} < offered < {table.title for table in tables}
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


def test_the_answer_is_one_short_sentence_that_counts_outcomes_and_names_a_better_baseline(record: RunRecord) -> None:
    said = answer(record)
    assert said.endswith(".")
    assert ". " not in said
    assert f" of {len(record.tasks)} outcomes " in said
    harmed = sum(c.control == "scratch" and c.verdict == "harms" for c in record.comparisons)
    assert (f"harms for {harmed}" in said) == (harmed > 0)
    first, second, *rest = record.verdicts
    beaten = first.model_copy(update={"better_baseline": "ridge"})
    other = second.model_copy(update={"better_baseline": "clinical_only"})
    one, two = (record.model_copy(update={"verdicts": (beaten, v, *rest)}) for v in (second, other))
    assert "scores lower than ridge on the same edges for 1;" in answer(one)
    assert "scores lower than ridge on the same edges for 1 and clinical covariates alone for 1;" in answer(two)
    alone = one.model_copy(update={"tasks": record.tasks[:1], "verdicts": (beaten,)})
    name = record.tasks[0].name.replace("_", " ").capitalize()
    assert f"predict {name} " in answer(alone) or f"predicts {name} " in answer(alone) or f"for {name}" in answer(alone)
    assert "scores lower than ridge on the same edges;" in answer(alone)
    assert answer(record.model_copy(update={"scores": ()})) == "No score of the full model: there is no answer."


@pytest.mark.parametrize("baseline", [name for name, spec in MODELS.items() if spec.role == "baseline"])
@pytest.mark.parametrize("n_tasks", [1, 2, 12])
def test_the_answer_has_at_most_35_words_whatever_it_says(baseline: str, n_tasks: int) -> None:
    """The longest parts together: unconfirmed, worse, a signal, two baselines, transfer that helps and harms."""
    whole = example_record(n_tasks=n_tasks, n_repeats=1, n_permutations=0, n_subjects=12)
    names = [task.name for task in whole.tasks]
    ends = {0: (0.6, 0.9), 1: (0.1, 0.3), 2: (0.4, 0.9)}
    scores = tuple(
        s.model_copy(update=dict(zip(("low", "high"), ends[names.index(s.task) % 3], strict=True)))
        for s in whole.scores
    )
    test = PermutationResult(task="", model="full", metric="auc", question="better than chance?", observed=0.7,
                             null=(0.5,), p_value=0.9, p_value_max=0.9, n_permutations=199)  # fmt: skip
    tests = [
        test.model_copy(update={"task": name, **({"p_value_max": 0.01} if i % 3 == 2 else {})})
        for i, name in enumerate(names)
    ]
    verdicts = tuple(
        v.model_copy(update={"better_baseline": baseline if i % 2 else "random_encoder"})
        for i, v in enumerate(whole.verdicts)
    )
    words = ("helps", "harms", "cannot tell")
    comparisons = tuple(c.model_copy(update={"verdict": words[names.index(c.task) % 3]}) for c in whole.comparisons)
    record = whole.model_copy(
        update={"scores": scores, "permutations": tuple(tests), "verdicts": verdicts, "comparisons": comparisons}
    )
    assert len(answer(record).split()) <= 35, answer(record)
    assert "lower than" in answer(record)
    assert "transfer" in answer(record)


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
