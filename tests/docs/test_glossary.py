"""The glossary: every metric, model, verdict and reason for a missing outcome that a report names."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from test_guide import DOCS

from connectome_tl.cohort.describing import _STATES
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.models import MODELS
from connectome_tl.settings.records.results import VerdictWord

GLOSSARY = (DOCS / "glossary.md").read_text("utf-8")
TERMS: list[str] = re.findall(r"^(.+)\n: ", GLOSSARY, re.M)
TAUGHT = " ".join([*TERMS, *re.findall(r"\*([^*]+)\*", GLOSSARY)]).casefold()


def test_terms_are_sorted_and_occur_once() -> None:
    assert sorted(TERMS, key=str.casefold) == TERMS
    assert len({term.casefold() for term in TERMS}) == len(TERMS) > 50


@pytest.mark.parametrize("term", [*(metric.label for metric in METRICS.values()), *_STATES, *get_args(VerdictWord)])
def test_a_word_of_the_report_is_explained(term: str) -> None:
    assert term.casefold() in TAUGHT


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_report_is_explained(name: str) -> None:
    assert f"| {MODELS[name].label} |" in GLOSSARY
