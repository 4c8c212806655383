"""A page says one thing of each quantity, wherever it says it. The full run: `benchmarks/contradictions.py --n 500`."""

from __future__ import annotations

import base64
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FIRST = 20_000  # seeds that the benchmark does not use


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "contradictions.py"
    spec = importlib.util.spec_from_file_location("contradictions_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", range(10))
def test_simulated_studies_do_not_contradict_themselves(benchmark: ModuleType, block: int) -> None:
    for seed in range(FIRST + 2 * block, FIRST + 2 * block + 2):
        record = benchmark.study(seed)
        lines = [verdict.headline for verdict in record.verdicts]
        assert benchmark.contradictions(benchmark.page_of(record), benchmark.outcomes_of(record), lines) == []


def replaced(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    """Another text at the first places where a pattern matches."""

    def change(html: str) -> str:
        changed, n = re.subn(old, new, html, count=count, flags=re.S)
        assert n, old
        return changed

    return change


def saved(old: str, new: str) -> Callable[[str], str]:
    """Another text in the first saved table in which a pattern matches."""

    def change(html: str) -> str:
        for match in re.finditer(r"(?<=;base64,)[^\"]+", html):
            changed, n = re.subn(old, new, base64.b64decode(match[0]).decode("utf-8"), count=1, flags=re.S)
            if n:
                link = base64.b64encode(changed.encode("utf-8")).decode("ascii")
                return html[: match.start()] + link + html[match.end() :]
        raise AssertionError(old)

    return change


# What a reader of the page would notice; The page is of a model that is better than chance and its rivals.
EDITS = {
    "answer": replaced("predicts Alpha better than", "is not shown to predict Alpha better than"),
    "answer, transfer": replaced(r"transfer (helps|brings no benefit)|whether transfer helps remains unclear",
                                 "transfer harms"),
    "answer, baseline": replaced(r'(<p class="answer">[^<;.]*)', r"\1, but scores lower than ridge on the same edges"),
    "headline": replaced(r'(<dl class="verdicts">.*?)redicted better', r"\1redicted worse"),
    "at a glance": replaced(r'(data-label="Beyond clinical"><b class="badge )\w+(">)[\w ]+<', r"\1none\2no benefit<"),
    "glance score": replaced(r'(<td class="num" data-label="Score.*?<span class="diff">)\[', r"\1[0.01, 0.02] ["),
    "glance difference": replaced(r'(data-label="Beyond clinical">.*?<span class="diff">)[+\d.]+', r"\g<1>+0.01"),
    "caution": replaced(r'<ul class="cautions">',
                        r'\g<0><li><b>Alpha.</b> <span>So the data are inconclusive.</span></li>'),
    "verdict of a difference": replaced(r'(Clinical covariates only</th>.*?<td class="said"><span class=")\w+">[\w ]+<',
                                        r'\1harms">worse<'),
    "value": replaced(r'(Full model</th><td class="wide">.*?<td class="num"><b>)[\d.]+', r"\g<1>0.11"),
    "saved score": saved(r"(Full model\t[\d.]+\t\[)[\d.]+", r"\g<1>0.01"),
    "saved verdict": saved(r"(Clinical covariates only\t.*?\]\t)[\w ]+(\t[^\t\n]+\n)", r"\g<1>worse\2"),
    "saved difference": saved(r"(Clinical covariates only\t.*?Full model\t[^\t]*\t\[)[+−\d.]+", r"\g<1>−0.77"),
    "paired differences": saved(r"(Full model\tClinical covariates only\t.*?\t)\+[\d.]+", r"\g<1>+0.01"),
    "better baseline": replaced(r'(class="rival" data-label="Better baseline">).*?</td>', r"\1<b>Prevalence</b></td>"),
    "all scores": saved(r"(n\tAUC.*?Full model\t[^\t]*\t)[\d.]+", r"\g<1>0.11"),
    "a new place": replaced("<h2>Methods</h2>", "<h2>Methods</h2><p>It predicted better than chance.</p>"),
}  # fmt: skip


@pytest.fixture(scope="module")
def page(benchmark: ModuleType) -> tuple[str, list[object]]:
    """A page of a clear result."""
    record = benchmark.clear_study()
    return benchmark.page_of(record), benchmark.outcomes_of(record)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", EDITS)
def test_an_edit_of_one_place_is_found(benchmark: ModuleType, page: tuple[str, list[object]], place: str) -> None:
    html, outcomes = page
    assert benchmark.contradictions(html, outcomes) == []
    assert benchmark.contradictions(EDITS[place](html), outcomes) != []


@pytest.mark.filterwarnings("ignore")
def test_a_line_of_the_terminal_that_differs_is_found(benchmark: ModuleType, page: tuple[str, list[object]]) -> None:
    html, outcomes = page
    assert benchmark.contradictions(html, outcomes, ["alpha: not distinguishable from chance."]) != []


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_predicts_the_same_for_everyone_has_no_interval_and_no_verdict(benchmark: ModuleType) -> None:
    record = benchmark.clear_study(full="constant")
    (verdict,) = record.verdicts
    words = {one.control: one.verdict for one in record.comparisons if one.model == "full"}
    assert words["prevalence"] == "cannot tell"
    assert "not estimable (its predictions are equal within each test fold)" in verdict.headline
    assert "95 % interval not estimable" in verdict.how_well
    html = benchmark.page_of(record)
    assert saved("by definition", "")(html) != html  # of the prevalence
    assert benchmark.contradictions(html, benchmark.outcomes_of(record)) == []
