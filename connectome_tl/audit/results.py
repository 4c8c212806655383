"""Compare the results that a run shows (results.json, tables, report) with recomputed ones."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from html import unescape

import numpy as np
import pandas as pd

from connectome_tl.plurals import counted
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import RunRecord

# Results of float32 fits, which differ slightly between processors; all others are nearly exact.
_TOLERANCES = {"curves": 0.02, "network_weights": 0.02, "transferred_weights": 0.02, "probes": 0.02, "null": 2e-4}
_EXACT = 1e-6
_PACKAGE = "connectome-tl"
_REMEDY = "These numbers do not come from the study's settings and data. Run the study again."
# Attributes with positions and sizes of drawings, or with the data of a link.
_SHOWN = re.compile(
    r'\s(?:(?P<name>d|points|transform|[xy][12]?|c[xy]|r|width|height|style)="(?P<value>[^"]*)"'
    r'|href="data:text/[^"]*;base64,(?P<file>[^"]+)")'
)
_NUMBER = re.compile(r"-?\d+\.\d+")
_MADE_ID = re.compile(r'(?<=[#"-])[a-zA-Z]+[0-9a-f]{10}(?=[")])')  # Matplotlib's, hashes of the positions of marks
# A comment that a browser cannot end earlier; others are compared.
_REMOVED = re.compile(r"<(style|script|title)\b.*?</\1>|<!--(?!-?>)[^<>]*-->", re.DOTALL | re.IGNORECASE)
RUN_AGAIN = "Run the study again to compute them with this version."
_MANY = 4000  # text pieces beyond which a changed page is not compared piece by piece


def results_findings(recorded: RunRecord, again: RunRecord) -> list[Finding]:
    """Compare every value of `results.json` with the recomputed one.

    A different interval by another method is a warning if the run is of another version of this package; any other
    difference is a failure.
    """
    check = "results.json follows from predictions and data"
    older: list[str] | None = [] if of_other_version(recorded, again.versions) else None
    wrong: list[str] = []
    for name in RunRecord.model_fields:
        if name == "versions":
            continue
        wrong += _differences(name, getattr(recorded, name), getattr(again, name), _TOLERANCES.get(name, _EXACT), older)
    findings = [_finding(check, wrong, _other_version(recorded, again))]
    if older:
        text = f"{older_intervals(len(older))}: {', '.join(older[:3])}"
        check = "intervals of this version (results.json)"
        findings.append(Finding(check=check, status="warning", what=text, remedy=RUN_AGAIN))
    return findings


def older_intervals(n: int) -> str:
    """That `n` intervals are of another version of this package."""
    return f"{counted(n, 'interval was', 'intervals were')} computed by the method of another version"


def of_other_version(recorded: RunRecord, installed: Mapping[str, str]) -> bool:
    """Whether a run was made with another version of this package."""
    return recorded.versions.get(_PACKAGE) != installed.get(_PACKAGE)


def table_finding(name: str, recorded: pd.DataFrame, again: pd.DataFrame) -> Finding:
    """Compare a table of the folder (cells as text) with the same table made from `results.json`."""
    check = f"{name} is that of results.json"
    if list(recorded.columns) != list(again.columns) or len(recorded) != len(again):
        text = (
            f"rows and columns: {recorded.shape[0]} x {recorded.shape[1]}, expected {again.shape[0]} x {again.shape[1]}"
        )
        return Finding(check=check, status="failed", what=text, remedy=_REMEDY)
    wrong = []
    for column in again.columns:
        pairs = zip(recorded[column], again[column], strict=True)
        wrong += [
            f"row {row + 1}, {column}: {one}, expected {two}"
            for row, (one, two) in enumerate(pairs)
            if one != two and not _same_number(one, two)
        ]
    return _finding(check, wrong)


def page_finding(page: str, candidates: Iterable[str]) -> Finding:
    """Compare the page of a run with the page rendered from `results.json`.

    Args:
        candidates: acceptable pages, for different states of the ledger of test scores.
    """
    check = "report.html shows results.json"
    shown, closest = _pieces(page), None
    for again in candidates:
        if page == again:
            return Finding(check=check, status="passed", what="drawn again, it is the same")
        expected = _pieces(again)
        one, two = _where_they_differ(shown, expected)
        for parts in (_marks, _frame):
            if not one and not two:
                one, two = _where_they_differ(parts(page), parts(again))
        if not one and not two:
            return Finding(
                check=check,
                status="passed",
                what=f"its {len(expected)} pieces of text, drawings, tables and styles are the same",
            )
        if closest is None or len(one) + len(two) < len(closest[0]) + len(closest[1]):
            closest = one, two
    remedy = "Draw it again from the results: connectome-tl report RUN_DIR."
    wrong = _page_differences(*closest) if closest else ["the page"]
    return _finding(check, list(wrong)).model_copy(update={"remedy": remedy})


def same_drawing(one: bytes, two: bytes) -> bool:
    """Whether two SVG files show the same texts and marks in the same way."""
    first, second = (data.decode("utf-8", "replace") for data in (one, two))
    return all(parts(first) == parts(second) for parts in (_pieces, _marks, _frame))


def _differences(where: str, one: object, two: object, tolerance: float, older: list[str] | None) -> Iterator[str]:
    """Lines `where: recorded, again` for every value that differs."""
    if isinstance(one, Record) and isinstance(two, Record) and type(one) is type(two):
        named = _named(where, one)
        skipped = set()
        other_method = "low" in type(one).model_fields and getattr(one, "method", "") != getattr(two, "method", "")
        if older is not None and other_method:
            older.append(named)
            skipped = {"low", "high", "fitted_low", "fitted_high", "method"}
        for field in type(one).model_fields:
            if field not in skipped:
                own = _TOLERANCES.get(field, tolerance)
                yield from _differences(f"{named}, {field}", getattr(one, field), getattr(two, field), own, older)
    elif isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted({*one, *two}):
            yield from _differences(f"{where}, {key}", one.get(key, "absent"), two.get(key, "absent"), tolerance, older)
    elif isinstance(one, Sequence) and isinstance(two, Sequence) and not isinstance(one, str):
        if len(one) != len(two):
            yield f"{where}: {len(one)} entries, again {len(two)}"
            return
        for a, b in zip(one, two, strict=True):
            yield from _differences(where, a, b, tolerance, older)
    elif not _equal(one, two, tolerance):
        yield f"{where}: {_text(one)}, again {_text(two)}"


def _equal(one: object, two: object, tolerance: float) -> bool:
    if isinstance(one, (int, float)) and isinstance(two, (int, float)) and not isinstance(one, bool):
        return _close(one, two, tolerance)
    return one == two


def _close(one: float, two: float, tolerance: float) -> bool:
    """`numpy.isclose` of two numbers with NaN equal to NaN; for many thousand of them numpy takes seconds."""
    if not (math.isfinite(one) and math.isfinite(two)):
        return one == two or (math.isnan(one) and math.isnan(two))
    return abs(one - two) <= tolerance + tolerance * abs(two)


def _named(where: str, record: Record) -> str:
    parts = [
        str(getattr(record, key)) for key in ("task", "model", "control", "metric", "subject") if hasattr(record, key)
    ]
    return f"{where} ({', '.join(parts)})" if parts else where


def _text(value: object) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.4g}"
    text = str(value)
    return repr(text if len(text) < 90 else text[:87] + "...") if isinstance(value, str) else text[:90]


def _same_number(one: str, two: str) -> bool:
    try:
        return bool(np.isclose(float(one), float(two), rtol=_EXACT, atol=_EXACT))
    except ValueError:
        return False


def _bare(page: str) -> str:
    return _REMOVED.sub(" ", page)


def _pieces(page: str) -> list[str]:
    """Visible text of an HTML page in order, including that of figures."""
    pieces = (" ".join(unescape(piece).split()) for piece in re.split(r"<[^>]*>", _bare(page)))
    return [piece for piece in pieces if piece]


def _marks(page: str) -> list[str]:
    """Positions, sizes and colours of the drawings of a page, in order, and its downloadable tables."""
    return [
        _saved(match["file"]) if match["file"] else f"{match['name']} {_rounded(match['value'])}"
        for match in _SHOWN.finditer(_bare(page))
    ]


def _frame(page: str) -> list[str]:
    """What decides how a page and its figures are shown: title, styles, scripts, tags and their attributes."""
    held = [match.group() for match in _REMOVED.finditer(page) if match.group(1)]
    tags = re.findall(r"<[a-zA-Z/!?][^>]*>", _bare(page))
    made: dict[str, str] = {}

    def without_round_off(tag: str) -> str:
        tag = _SHOWN.sub(lambda one: f' {one["name"]}="{_rounded(one["value"])}"' if one["name"] else " href", tag)
        return _MADE_ID.sub(lambda one: made.setdefault(one.group(), f"id{len(made)}"), tag)

    return [" ".join(piece.split()) for piece in (*held, *map(without_round_off, tags))]


def _rounded(value: str) -> str:
    """An attribute with its numbers to one decimal."""
    return _NUMBER.sub(lambda number: f"{float(number.group()):.1f}", value)


def _saved(encoded: str) -> str:
    """The text of a file embedded in a link."""
    try:
        return " ".join(base64.b64decode(encoded).decode("utf-8", "replace").split())
    except ValueError:
        return encoded


def _where_they_differ(shown: list[str], expected: list[str]) -> tuple[list[str], list[str]]:
    """Both lists without their common start and end."""
    start = end = 0
    shorter = min(len(shown), len(expected))
    while start < shorter and shown[start] == expected[start]:
        start += 1
    while end < shorter - start and shown[-1 - end] == expected[-1 - end]:
        end += 1
    return shown[start : len(shown) - end], expected[start : len(expected) - end]


def _page_differences(one: list[str], two: list[str]) -> Iterator[str]:
    if len(one) + len(two) > _MANY:
        yield f"{_text(' '.join(one[:3]))} and what follows, expected {_text(' '.join(two[:3]))}"
        return
    for tag, a, b, c, d in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if tag != "equal":
            yield ", expected ".join(map(_text, _from_difference(" ".join(one[a:b]), " ".join(two[c:d]))))


def _from_difference(one: str, two: str) -> tuple[str, str]:
    """Long texts from a little before the first place where they differ."""
    if max(len(one), len(two)) < 90:
        return one, two
    same = next((k for k, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
    start = max(0, same - 40)
    before = "..." if start else ""
    return before + one[start:], before + two[start:]


def _other_version(recorded: RunRecord, again: RunRecord) -> str:
    changed = [
        f"{name} {recorded.versions.get(name, 'absent')} (now {again.versions.get(name, 'absent')})"
        for name in sorted({*recorded.versions, *again.versions})
        if recorded.versions.get(name) != again.versions.get(name)
    ]
    return f" The run was made with {', '.join(changed)}: audit it with these." if changed else ""


def _finding(check: str, wrong: Sequence[str], more: str = "") -> Finding:
    if not wrong:
        return Finding(check=check, status="passed", what="every value is the same")
    text = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
    return Finding(
        check=check,
        status="failed",
        what=f"{counted(len(wrong), 'value differs', 'values differ')}: {text}",
        remedy=_REMEDY + more,
    )
