"""A sheet to draw figures on, each with its title and note."""

from __future__ import annotations

from collections.abc import Callable


class Figure:
    """One drawn figure: its SVG with title and note."""

    def __init__(self, svg: str, title: str, note: str, wide: bool = False) -> None:
        from markupsafe import Markup

        self.svg = Markup(svg)  # made by us; names in it are escaped by the XML writer
        self.title = title
        self.note = note
        self.wide = wide


class Sheet:
    """Draws figures under running names, so that every id on a page is used once."""

    def __init__(self, stamp: str, prefix: str = "f") -> None:
        self.stamp, self._prefix = stamp, prefix
        self._drawn = 0

    def draw(self, make: Callable[[str], str | None], title: str, note: str = "", wide: bool = False) -> list[Figure]:
        """The figure in a list, or an empty list where there is nothing to draw."""
        self._drawn += 1
        svg = make(f"{self._prefix}{self._drawn}")
        return [] if svg is None else [Figure(svg, title, note, wide)]
