"""Numbers have one format in all texts: a leading zero."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "configs").rglob("*.yaml"))]
PAGES += sorted((ROOT / "notebooks").glob("*.py"))
BARE = re.compile(r"(?<![\w/)\].}{\\:*`'\"])[-+−±]?(?<![\w.])\.\d+\b(?!\.\w)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_decimal_numbers_have_a_leading_zero(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert [f"{i + 1}: {line}" for i, line in enumerate(lines) if BARE.search(line)] == []


@pytest.mark.parametrize(("text", "is_bare"), [("AUC .78", True), ("-.05 to +.03", True), ("0.78, x.5, (.nii)", False)])
def test_a_bare_decimal_is_recognised(text: str, is_bare: bool) -> None:
    assert bool(BARE.search(text)) == is_bare
