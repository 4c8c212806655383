"""No circular imports, direct or indirect, including imports in functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx

import connectome_tl

HOME = Path(connectome_tl.__file__).parent


def modules(home: Path) -> dict[str, Path]:
    found = {}
    for file in home.rglob("*.py"):
        parts = [home.name, *file.relative_to(home).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(node: ast.AST) -> Iterator[str]:
    """Names of all modules and of their imported objects, at the top and inside functions, except for types only."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.If) and isinstance(inner.test, ast.Name) and inner.test.id == "TYPE_CHECKING":
            yield from imported(ast.Module(inner.orelse, []))
        elif isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            for alias in inner.names:
                yield f"{inner.module}.{alias.name}"
                yield str(inner.module)
        else:
            yield from imported(inner)


def circles(home: Path) -> list[list[str]]:
    known = modules(home)
    graph = nx.DiGraph()
    for name, file in known.items():
        for other in imported(ast.parse(file.read_text("utf-8"))):
            # The __init__ of a package imports names from its modules; importing a module is not importing its package.
            if other in known and other != name and known[other].name != "__init__.py":
                graph.add_edge(name, other)
    return [sorted(one) for one in nx.strongly_connected_components(graph) if len(one) > 1]


def test_no_circle_of_modules() -> None:
    assert circles(HOME) == []


def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path) -> None:
    home = tmp_path / "house"
    home.mkdir()
    (home / "one.py").write_text("from house import two\n")
    (home / "two.py").write_text("def later():\n    from house.one import thing\n    return thing\n")
    (home / "three.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.four\nelse:\n    import json\n"
    )
    (home / "four.py").write_text("import house.three\n")
    assert circles(home) == [["house.one", "house.two"]]
