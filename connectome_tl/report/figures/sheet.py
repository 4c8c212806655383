"""Collect figures with titles and notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from connectome_tl.report.figures.drawing import exporting
from connectome_tl.report.tables.downloads import slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Export = Callable[[str, "Drawing"], None]
"""Function that saves a drawing under a name."""


class Figure:
    """One drawn figure: its SVG with title and note."""

    def __init__(self, svg: str, title: str, note: str, wide: bool = False) -> None:
        from markupsafe import Markup

        self.svg = Markup(svg)  # generated here; the XML writer escapes names in it
        self.title = title
        self.note = note
        self.wide = wide


class Sheet:
    """Draw figures under numbered names, so that every id on a page is unique.

    Args:
        stamp: text printed into every figure. prefix: prefix of the names. export: also called with every drawing.
    """

    def __init__(self, stamp: str, prefix: str = "f", export: Export | None = None) -> None:
        self.stamp, self._prefix, self._export = stamp, prefix, export
        self._drawn = 0

    def draw(self, make: Callable[[str], str | None], title: str, note: str = "", wide: bool = False) -> list[Figure]:
        """A list with the figure, or an empty list if there is nothing to draw."""
        self._drawn += 1
        with exporting(self._export, f"{self._drawn:02d}-{slug(title)}"):
            svg = make(f"{self._prefix}{self._drawn}")
        return [] if svg is None else [Figure(svg, title, note, wide)]
