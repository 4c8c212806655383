"""Panels and their SVG output, deterministic and with one style for all figures.

Text stays selectable and uses the font of the page. Mathematics in names is not parsed. Ids are unique, and
there are no external references.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, ACCENT = "#1F2A37", "#5F6B7A", "#E5E9EF", "#0072B2"
LINES = (ACCENT, "#D55E00", "#009E73", "#CC79A7")  # colours of lines, in order
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that the layout is the same on every machine
    "font.size": 8.0,
    "text.parse_math": False,  # names may contain dollar signs
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.linewidth": 0.7,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "path.simplify": True,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def style() -> AbstractContextManager[None]:
    """Context manager with the style of all figures."""
    import matplotlib

    return matplotlib.rc_context(cast(Any, _STYLE))


def panel(
    width: float = 3.6,
    height: float = 2.75,
    *,
    left: float = 0.49,
    bottom: float = 0.43,
    top: float = 0.18,
    right: float = 0.09,
) -> tuple[Figure, Axes]:
    """A figure with one axes; sizes and margins in inches. Call it, and draw, within `style()`."""
    figure = figure_of(width, height)
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure, figure.add_axes(box)


def figure_of(width: float, height: float) -> Figure:
    """An empty figure without a window; sizes in inches."""
    from connectome_tl.pictures import Picture

    return Picture(figsize=(width, height))


def swarm(values: np.ndarray, *, dot: float, step: float = 0.085, top: float = 0.6) -> np.ndarray:
    """Heights, at most `top`, at which dots of width `dot` do not overlap, in the order of `values`."""
    heights = np.zeros(len(values))
    last_in_row: list[float] = []
    for i in np.argsort(values, kind="stable"):
        row = next((r for r, last in enumerate(last_in_row) if values[i] - last >= dot), len(last_in_row))
        if row == len(last_in_row):
            last_in_row.append(values[i])
        last_in_row[row] = values[i]
        heights[i] = row * step
    highest = heights.max(initial=0.0)
    return heights if highest <= top else heights * (top / highest)


def clean(text: str, longest: int = 40) -> str:
    """Text for a figure: one line, no control characters, shortened with an ellipsis."""
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def to_svg(figure: Figure, name: str, *, description: str, stamp: str = "") -> str:
    """The figure as inline SVG.

    Args:
        name: unique on the page; ids are made from it.
        description: text for screen readers.
        stamp: text printed into the figure itself ("simulated", ...), so that a copied figure still
            shows it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    if stamp:
        figure.text(0.985, 0.985, stamp, ha="right", va="top", fontsize=6.0, color="#9B2C2C", fontweight="bold")
    for text in figure.findobj(Text):
        text.set_text("\n".join(clean(line, 80) for line in text.get_text().split("\n")))
    wanted = _exported.get()
    if wanted is not None:
        save, file = wanted
        save(file, figure)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The font of the page draws the text; a sign that DejaVu lacks only makes its width inexact.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": name}):
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    return _inline(buffer.getvalue(), name, description, widest=round(100 * figure.get_figwidth()))


Saver = Callable[[str, "Figure"], None]
_exported: ContextVar[tuple[Saver, str] | None] = ContextVar("exported", default=None)


@contextmanager
def exporting(save: Saver | None, name: str) -> Iterator[None]:
    """Within this context, also pass drawings to `save` under this name; no effect if `save` is None."""
    token = _exported.set(None if save is None else (save, name))
    try:
        yield
    finally:
        _exported.reset(token)


def drawing_bytes(figure: Figure, kind: Literal["svg", "pdf"]) -> bytes:
    """Contents of an SVG or PDF file with the drawing; equal drawings give equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = _NO_METADATA if kind == "svg" else {"CreationDate": None, "Producer": None, "Creator": None}
    fonts: Any = {"svg.hashsalt": "export", "pdf.fonttype": 42}
    with warnings.catch_warnings(), matplotlib.rc_context(fonts):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _inline(svg: str, name: str, description: str, *, widest: int) -> str:
    """matplotlib's SVG without namespaces, metadata and page-wide styles, its ids prefixed by `name`."""
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style", "title"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {}
        for key, value in element.attrib.items():
            key = _local(key)
            if key == "id":
                if value not in used:
                    continue
                value = f"{name}-{value}"
            elif key == "href" and value.startswith("#"):
                value = f"#{name}-{value.removeprefix('#')}"
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{name}-")
            attributes[key] = value
        element.attrib.clear()
        element.attrib.update(attributes)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", clean(description, 120))
    root.set("stroke-linejoin", "round")
    root.set("style", f"max-width:{widest}px")
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def to_url(figure: Any) -> str:
    """A figure as a data URL of a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
