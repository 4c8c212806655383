"""Read a report page as a browser would: elements, their text, and the cells of tables."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input", "hr"}


@dataclass
class Node:
    """An element of the page."""

    tag: str
    names: Mapping[str, str]
    inside: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = [one if isinstance(one, str) else one.text for one in self.inside if not _drawn(one)]
        return " ".join(" ".join(parts).split())

    def all(self, tag: str, css: str = "") -> Iterator[Node]:
        """Elements below, in order; `css` is one of their classes."""
        for one in self.inside:
            if isinstance(one, Node):
                if one.tag == tag and (not css or css in one.names.get("class", "").split()):
                    yield one
                yield from one.all(tag, css)

    def all_of(self, *tags: str) -> list[Node]:
        """Elements directly below."""
        return [one for one in self.inside if isinstance(one, Node) and one.tag in tags]

    def first(self, tag: str, css: str = "") -> Node | None:
        return next(self.all(tag, css), None)


def _drawn(one: Node | str) -> bool:
    return isinstance(one, Node) and one.tag in ("svg", "style")


class _Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self._open = [self.root]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {key: value or "" for key, value in attrs})
        self._open[-1].inside.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].inside.append(Node(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        if len(self._open) > 1:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].inside.append(data)


def section(page: Node, name: str) -> Node:
    return next(section for section in page.all("section") if section.names.get("id") == name)


def cells_of(row: Node) -> list[str]:
    return [one.text for one in (n for n in _flat(row) if n.tag in ("th", "td"))]


def _flat(node: Node) -> Iterator[Node]:
    for one in node.inside:
        if isinstance(one, Node):
            yield one
            yield from _flat(one)


def rows_of(table: Node) -> list[list[str]]:
    body = table.first("tbody")
    return [] if body is None else [cells_of(row) for row in body.all("tr")]


def saved(node: Node) -> list[list[str]]:
    """Header and rows of the table that the link in this element saves."""
    link = next(node.all("a", "tsv")).names["href"]
    text = base64.b64decode(link.partition(",")[2]).decode("utf-8")
    return [line.split("\t") for line in text.splitlines()]


def read_page(html: str) -> Node:
    """The root of the page's elements."""
    return _Reader(html).root
