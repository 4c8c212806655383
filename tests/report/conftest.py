"""Fixtures of the tests of pages."""

from __future__ import annotations

import pytest

from connectome_tl.report.figures.sheet import Figure, Sheet


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have empty figures: for tests of their text and tables. Drawing takes most of the time of a page."""

    def draw(sheet: Sheet, make: object, title: str, note: str = "", wide: bool = False) -> list[Figure]:
        return [Figure("", title, note, wide)]

    monkeypatch.setattr(Sheet, "draw", draw)
