"""A parsed page: elements that a browser would find."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

# Names that a file could contain, and that must have no effect.
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</title></style><svg onload=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{1}{$ & &amp; ]]> -->",
    "javascript:alert(1)",
    "Zürich 東京 🧠 \u202eevil\u0007",
    "x" * 400,
)
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Elements, attributes, ids and texts of a document, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.rows: list[list[str]] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs)

    def _start(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles.append(data)
            return
        self.text.append(data)
        if self.rows and self.rows[-1] and "tr" in self._open:
            self.rows[-1][-1] += data

    @property
    def ids(self) -> list[str]:
        return [value for _, key, value in self.attributes if key == "id"]

    @property
    def visible(self) -> str:
        return " ".join(" ".join(self.text).split())

    def loads(self) -> list[tuple[str, str, str]]:
        """Everything that could make a browser fetch or run something."""
        found = [
            (tag, key, value)
            for tag, key, value in self.attributes
            if (
                key in ("src", "href", "srcset", "action", "poster", "data", "background", "formaction", "xlink:href")
                and not value.startswith(("#", "data:"))
            )
            or key.startswith("on")
            or ("url(" in value and "url(#" not in value)
            or (key == "http-equiv" and value != "Content-Security-Policy")
        ]
        found += [(tag, "", "") for tag in ("script", "iframe", "object", "embed", "form", "base") if self.tags[tag]]
        found += [("style", "", text) for text in self.styles if "url(" in text or "@import" in text]
        return found
