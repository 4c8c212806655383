"""Links, file names and module names in the README, the guide and the notebooks lead somewhere. Nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    + [page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
    + list((ROOT / "configs").rglob("*.md"))
    + list((ROOT / "notebooks").glob("*.py"))
)
_FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_CARD = re.compile(r"^:link: (\S+)$", re.MULTILINE)
_FILE = re.compile(
    r"`(?:python |sh )?((?:configs|benchmarks|tests|docs|notebooks|containers|connectome_tl)/[\w./*-]+)[^`]*`"
)
_MODULE = re.compile(r"`(connectome_tl(?:\.\w+)+)")
# Files inside a bundle, which the page on bundles lists.
_IN_A_BUNDLE = {"configs/metadata.json", "configs/model.json", "configs/self_test.json", "docs/README.md"} | {
    "docs/model_card.json"
}


def text_of(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings as GitHub and MyST make them."""
    found: set[str] = set()
    for title in re.findall(r"^#{1,6} (.+)$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[str]:
    text = text_of(page)
    yield from (link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link))
    yield from (f"{link}.md" for link in _CARD.findall(text))


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            found.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            found.append(f"{link}: no such heading")
    return found


def known_module(name: str) -> bool:
    """Whether a dotted name starts with modules that exist and, below the last of them, a name that it mentions."""
    at, parts = ROOT, name.split(".")
    while parts and (at / parts[0]).is_dir():
        at = at / parts.pop(0)
    if parts and (at / f"{parts[0]}.py").is_file():
        at = at / f"{parts.pop(0)}.py"
    source = at if at.is_file() else at / "__init__.py"
    return not parts or (source.is_file() and re.search(rf"\b{parts[0]}\b", source.read_text("utf-8")) is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_file_and_module_of_a_page_exists(page: Path) -> None:
    wrong = broken(page)
    if "decisions" not in page.parts and page.name != "CHANGELOG.md":  # these tell what was, with the names of then
        text = text_of(page)
        wrong += [
            f"{name}: no such file"
            for name in _FILE.findall(text)
            if name not in _IN_A_BUNDLE and not list(ROOT.glob(name.rstrip("/.")))
        ]
        wrong += [f"{name}: no such module" for name in _MODULE.findall(text) if not known_module(name)]
    assert not wrong


def test_a_broken_link_anchor_and_module_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title: of `code`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md#a-title-of-code) [b](#page) [c](gone.md) [d](other.md#gone) [e](https://x.org)\n"
    )
    assert broken(page) == ["gone.md: no such file", "other.md#gone: no such heading"]
    assert known_module("connectome_tl.settings.model.EncoderSettings")
    assert not known_module("connectome_tl.settings.model.Nothing")
    assert not known_module("connectome_tl.nothing.model")
