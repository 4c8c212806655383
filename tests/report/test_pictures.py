"""Figures in notebooks: one image each, in the format that the notebook asks for."""

from __future__ import annotations

from types import SimpleNamespace

import IPython
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from connectome_tl.report.figures.drawing import figure_of


def stored(monkeypatch: pytest.MonkeyPatch, *formats: str) -> set[str]:
    """Types of the images that IPython stores for a figure while Matplotlib's backend draws these formats."""
    formatter = DisplayFormatter()
    for name in formats:
        drawn = "<svg/>" if "svg" in name else b"drawn"
        formatter.formatters[name].for_type(Figure, lambda _, drawn=drawn: drawn)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(display_formatter=formatter))
    data, _ = formatter.format(figure_of(1, 1))
    return set(data) - {"text/plain"}


def test_a_figure_is_a_png_where_no_backend_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored(monkeypatch) == {"image/png"}


@pytest.mark.parametrize("name", ["image/svg+xml", "image/jpeg", "image/png"])
def test_a_figure_is_stored_once_in_the_format_of_the_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored(monkeypatch, name) == {name}


def test_a_figure_has_a_png_outside_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    assert (figure_of(1, 1)._repr_png_() or b"").startswith(b"\x89PNG")  # type: ignore[attr-defined]
