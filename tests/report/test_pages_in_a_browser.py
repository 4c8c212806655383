"""Every kind of page in a headless Chromium: silent, offline, within the window, reachable by keyboard, axe content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import AXE, CHROMIUM, Browser, browser
from every_page import every_page

WIDTHS = (390, 1280)
KINDS = ("run", "cohort", "scan", "index", "validation", "tune", "prune", "maps", "segment", "explanation")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: `make services` installs Debian's")
_HIDDEN = "[...document.querySelectorAll('details :not(.tsv)')].filter(one => !one.checkVisibility()).length"
_UNUSABLE = "[...document.querySelectorAll('nav, .skip, .tsv')].filter(one => one.checkVisibility()).length"
_LETTERS = """(() => {
  const drawn = document.querySelector('#cohorts > .scroll svg');
  return Math.min(...[...drawn.querySelectorAll('text')].map(one => one.getBoundingClientRect().height));
})()"""


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_page_shows_what_is_folded_and_hides_what_paper_cannot_use(
    chromium: Browser, pages: dict[str, Path], kind: str
) -> None:
    chromium.open(pages[kind], 1280)
    folded, links = chromium.value(_HIDDEN), chromium.value(_UNUSABLE)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert chromium.value(_HIDDEN) == 0
        assert chromium.value(_UNUSABLE) == 0
    finally:
        chromium.call("Emulation.setEmulatedMedia", media="")
    assert (chromium.value(_HIDDEN), chromium.value(_UNUSABLE)) == (folded, links)
    if kind == "run":
        assert min(folded, links) > 0


def test_the_flow_of_subjects_can_be_read_on_a_phone(chromium: Browser, pages: dict[str, Path]) -> None:
    for width in WIDTHS:
        chromium.open(pages["run"], width)
        assert chromium.value(_LETTERS) >= 8
