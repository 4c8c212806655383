"""Counts with a noun: singular for one, plural otherwise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import connectome_tl
from connectome_tl.plurals import counted, file_size


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (1, "subject", "1 subject"),
        (0, "subject", "0 subjects"),
        (2, "category", "2 categories"),
        (3, "more matrix", "3 more matrices"),
        (2, "child", "2 children"),
        (2, "day", "2 days"),
    ],
)
def test_one_is_singular_and_everything_else_plural(n: int, noun: str, text: str) -> None:
    assert counted(n, noun) == text


def test_a_phrase_brings_its_own_plural() -> None:
    assert counted(1, "image has", "images have") == "1 image has"
    assert counted(4, "image has", "images have") == "4 images have"


_COUNT = re.compile(r"^(?:self\.)?(?:n_(?:subjects|scans|regions|trials)|len\(\w+\))$")
_NOUN = re.compile(r"^ (?:subjects|scans|regions|trials|files|rows|images|volumes)\b")


def _unguarded(tree: ast.AST) -> list[int]:
    """Lines of f-strings that put a count before a plural and are not guarded by a comparison."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for i, (part, after) in enumerate(zip(node.values, node.values[1:], strict=False)):
                if not isinstance(part, ast.FormattedValue) or not isinstance(after, ast.Constant):
                    continue
                before = node.values[i - 1] if i else None
                share = isinstance(before, ast.Constant) and str(before.value).endswith((" of ", "All ", "all "))
                if not share and _COUNT.match(ast.unparse(part.value)) and _NOUN.match(str(after.value)):
                    found.append(node.lineno)
    return found


def test_messages_put_counts_of_subjects_and_files_into_words_in_one_place() -> None:
    root = Path(connectome_tl.__file__).parent
    wrong = [
        f"{path.relative_to(root)}:{line}"
        for path in sorted(root.rglob("*.py"))
        for line in _unguarded(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 kB"), (12_345, "12 kB"), (99_400, "99 kB"), (100_000, "0.1 MB"), (3_440_000, "3.4 MB")]
)
def test_a_size_is_never_shown_as_no_megabytes(n_bytes: int, text: str) -> None:
    assert file_size(n_bytes) == text
