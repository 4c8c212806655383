"""The glossary: every metric, model, verdict and reason for a missing outcome, and every term in titles of a report."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from every_page import every_page

from connectome_tl.cohort.describing import _MISSING
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.records.results import VerdictWord

GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text("utf-8")
TERMS: list[str] = re.findall(r"^(.+)\n: ", GLOSSARY, re.M)
# Words of titles that need no explanation. A new word is either explained in the glossary or added here.
ORDINARY = """
    about above absolute against age all and answer answered any are as asked association at available bayley before
    beforehand best better beyond both brain by chance change characteristics check checklists checks classified
    clinical closed cognitive compared comparisons connect continue corrected correlation cost could count
    covariates cpu criteria data delay details differences differently does each end errors evidence expected failed
    figures file finding findings fine fixed flow folder for form from full further glance group hashes here how iii
    infants injury inputs inspect is it its language largest layers level limit limits lines lobe map maps matrices
    mattered mean measure measures median memory method methods metric metrics mib millions minus missing ml mm mm²
    model models more motor mri ms much negatives neonates network notes numbers of older one open or order ordered
    other outcome outcomes outside over paper participants parts per performance plot positive positives predict
    predicted prediction present provenance quality question random range references refitted reporting required
    results rule run save scan scans score scores sd section sets setting settings share show signal simulated
    single site smallest some stages strongest study subject subjects tables task tasks test tests than that the
    their there this those time to topic topics training transfer tried true tsv two uses value values versions
    volume warnings weeks weights well were what when which why width with within without words
"""
TAUGHT = " ".join([*TERMS, *re.findall(r"\*([^*]+)\*", GLOSSARY)]).casefold()
METRIC_LABELS = [metric.label for metric in METRICS.values()]


def test_terms_are_sorted_and_occur_once() -> None:
    assert sorted(TERMS, key=str.casefold) == TERMS
    assert len({term.casefold() for term in TERMS}) == len(TERMS) > 50


@pytest.mark.parametrize("term", [*METRIC_LABELS, "observed", *_MISSING, *get_args(VerdictWord)])
def test_a_word_of_the_report_is_explained(term: str) -> None:
    assert term.casefold() in TAUGHT


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_report_is_explained(name: str) -> None:
    assert f"| {MODELS[name].label} |" in GLOSSARY


def titles(page: str) -> Iterator[str]:
    """Titles of sections, figures and tables of a page, and headers of columns."""
    page = re.sub(r"<svg.*?</svg>", "", page, flags=re.S)
    columns = "".join(re.findall(r"<thead.*?</thead>", page, flags=re.S))
    for part in ("dt", "summary", "caption", "h2", "h3", "th", "figcaption"):
        for found in re.findall(rf"<{part}[ >].*?</{part}>", columns if part == "th" else page, flags=re.S):
            bold = re.search(r"<b>(.*?)</b>", found, flags=re.S) if part == "figcaption" else None
            yield " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bold[1] if bold else found)).split())


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return every_page()


def test_numbers_of_every_page_have_a_leading_zero(pages: dict[str, str]) -> None:
    texts = (re.sub(r"<(style|script)\b.*?</\1>|<[^>]+>", " ", page, flags=re.S) for page in pages.values())
    assert [found for text in texts for found in re.findall(r".{0,30}(?<![\w.])\.\d.{0,10}", text)] == []


def test_every_term_in_a_title_of_any_page_is_explained(pages: dict[str, str]) -> None:
    known = {*words(TAUGHT), *words(ORDINARY)}
    known |= {word + "s" for word in known}
    shown = {title for page in pages.values() for title in titles(page)}
    assert len(shown) > 100
    unknown = {word: title for title in sorted(shown) for word in words(title) - known}
    assert unknown == {}


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]+²?", text.casefold()) if len(word) > 1}
