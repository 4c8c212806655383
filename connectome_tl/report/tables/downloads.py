"""Downloads of tables: data links in the page, and TSV and LaTeX files."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": "$-$", "²": "$^2$", "≥": r"$\ge$", "≤": r"$\le$", "±": r"$\pm$", "·": r"$\cdot$", "–": "--", "’": "'",
}  # fmt: skip


@dataclass(frozen=True)
class PlainTable:
    """A table of the page; every cell is text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def tsv(self) -> str:
        """The table as tab-separated text; tabs and line ends inside cells become spaces."""
        lines = [self.columns, *self.rows]
        return "".join("\t".join(" ".join(cell.split()) for cell in line) + "\n" for line in lines)

    @property
    def latex(self) -> str:
        """The table as a LaTeX booktabs table with a caption and ragged columns."""
        width = max([len(self.columns), *map(len, self.rows)])
        lines = [
            r"\begin{table}", rf"\caption{{{latex_text(self.title)}}}", rf"\begin{{tabular}}{{{'l' * width}}}",
            r"\toprule", _latex_row(self.columns), r"\midrule", *map(_latex_row, self.rows), r"\bottomrule",
            r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


_collected: ContextVar[list[PlainTable] | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Iterator[list[PlainTable]]:
    """Collect the tables that pages rendered within this context offer for download, in order."""
    found: list[PlainTable] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def download(title: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> Markup:
    """A link that saves the table as TSV; the data are embedded in the link."""
    from markupsafe import Markup, escape

    table = PlainTable(title, tuple(map(str, columns)), tuple(tuple(map(str, row)) for row in rows))
    found = _collected.get()
    if found is not None:
        found.append(table)
    data = base64.b64encode(table.tsv.encode("utf-8", "replace")).decode("ascii")
    return Markup(
        '<a class="tsv" download="{}.tsv" href="data:text/tab-separated-values;base64,{}" aria-label="{}">TSV</a>'
    ).format(slug(title), data, escape(f"Save as TSV: {title[:80]}"))


def slug(text: str, longest: int = 60) -> str:
    """A text as a file name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-") or "table"


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
