"""Findings of an audit that need a decision say what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import connectome_tl

PACKAGE = Path(connectome_tl.__file__).parent
MODULES = sorted([*(PACKAGE / "audit").glob("*.py"), *(PACKAGE / "workflows" / "audit").glob("*.py")])


def without_remedy(source: str) -> list[int]:
    """Lines of findings that are neither passed nor skipped and have no remedy of their own or of an error."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            settled = given["status"] in ("'passed'", "'skipped'")
            if not settled and "remedy" not in given and given["what"] != "str(error)":
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_failure_and_warning_says_what_to_do(module: Path) -> None:
    assert without_remedy(module.read_text("utf-8")) == []


def test_a_failure_without_a_remedy_is_found() -> None:
    assert without_remedy("Finding(check='a', status='failed', what='b')") == [1]
