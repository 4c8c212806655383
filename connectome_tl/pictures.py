"""Figures that a notebook shows without pyplot. Import this module in functions: it imports Matplotlib."""

from __future__ import annotations

import io
import sys

from matplotlib.figure import Figure

_OTHER_FORMATS = ("image/svg+xml", "image/jpeg", "application/pdf")


class Picture(Figure):
    """A `matplotlib.figure.Figure` that IPython displays even if no Matplotlib backend for notebooks is active.

    IPython draws plain figures only after pyplot was imported. Where a backend is active, its own format is used.
    """

    def _repr_png_(self) -> bytes | None:
        if _drawn_otherwise():
            return None
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def _drawn_otherwise() -> bool:
    """Whether IPython stores figures in another format already (`%config InlineBackend.figure_formats = ["svg"]`)."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None:
        return False
    formatters = shell.display_formatter.formatters
    return any(Figure in formatters[name].type_printers for name in _OTHER_FORMATS if name in formatters)
