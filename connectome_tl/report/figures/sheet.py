"""Collect figures with titles and notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from connectome_tl.report.figures.drawing import exporting
from connectome_tl.report.tables.downloads import slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Export = Callable[[str, "Drawing"], None]
"""What saves a drawing under a name."""


class Figure:
    """One drawn figure: its SVG with title and note."""

    def __init__(self, svg: str, title: str, note: str, wide: bool = False) -> None:
        from markupsafe import Markup

        self.svg = Markup(svg)  # made by us; names in it are escaped by the XML writer
        self.title = title
        self.note = note
        self.wide = wide


class Sheet:
    """Draws figures under running names, so that every id on a page is used once.

    Args:
        stamp: printed into every figure. prefix: of the names. export: is handed every drawing as well.
    """

    def __init__(self, stamp: str, prefix: str = "f", export: Export | None = None) -> None:
        self.stamp, self._prefix, self._export = stamp, prefix, export
        self._drawn = 0

    def draw(self, make: Callable[[str], str | None], title: str, note: str = "", wide: bool = False) -> list[Figure]:
        """The figure in a list, or an empty list where there is nothing to draw."""
        self._drawn += 1
        with exporting(self._export, f"{self._drawn:02d}-{slug(title)}"):
            svg = make(f"{self._prefix}{self._drawn}")
        return [] if svg is None else [Figure(svg, title, note, wide)]
