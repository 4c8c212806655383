"""Every kind of page in a headless Chromium: silent, offline, within the window, reachable by keyboard, axe content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import AXE, CHROMIUM, Browser, browser
from every_page import every_page

WIDTHS = (390, 1280)
KINDS = ("run", "cohort", "scan", "index", "validation", "tune", "prune", "maps", "explanation")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for kind, html in every_page().items():
        found[kind] = folder / f"{kind}.html"
        found[kind].write_text(html, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


def test_the_checks_can_fail(chromium: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><title>x</title><script>console.error('no')</script><img src='http://example.org/a.png'>"
        "<div style='width:3000px;color:#ccc;background:#fff'>pale</div><a href='#x' style='outline:none'>a</a>"
    )
    found = chromium.seen(bad, 390)
    assert found.console
    assert found.requests == ["http://example.org/a.png"]
    assert found.too_wide > 2000
    assert found.focus
    assert not found.focus[0][1]
    if AXE is not None:
        assert {one.split(" ")[0] for one in found.findings or ()} >= {"color-contrast", "html-has-lang", "image-alt"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_silent_offline_readable_and_reachable(
    chromium: Browser, pages: dict[str, Path], kind: str
) -> None:
    assert set(pages) == set(KINDS)
    for width in WIDTHS:
        found = chromium.seen(pages[kind], width)
        assert found.console == []
        assert found.requests == []
        assert found.too_wide <= 0, (width, found.too_wide)
        assert len({at for at, _ in found.focus}) == len(found.focus) >= min(found.reachable, 20)
        assert all(visible for _, visible in found.focus)
        assert not found.findings, (width, found.findings)
