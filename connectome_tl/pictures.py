"""Figures that a notebook shows without pyplot. Import this module in functions: it imports Matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A `matplotlib.figure.Figure` that IPython displays even if no Matplotlib backend for notebooks is active.

    IPython draws plain figures only after pyplot was imported. Where a backend is active, its own format is used.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()
