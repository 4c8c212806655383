"""Ids of a table that occur in the names of files."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from connectome_tl.cohort.columns.ids import bare
from connectome_tl.cohort.tables.cells import texts, whole

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")  # how letters with accents are stored in names of files


def id_pattern(table: pd.DataFrame, files: Sequence[str]) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """The column whose ids occur in names of files, and the patterns of these names.

    Args:
        table: cells as text. files: names relative to their folder, with `/`.

    Returns:
        The column, and patterns with `{id}` with their numbers of rows with such a file, in decreasing order;
        None if there is no such column.
    """
    best: tuple[int, str, tuple[tuple[str, int], ...]] | None = None
    real = {unicodedata.normalize("NFC", file): file for file in files}  # cells have composed letters
    there = set(real)
    for position, name in enumerate(table.columns):
        ids = [cell for cell in texts(table[name]) if cell]
        if len(set(ids)) < max(2, len(ids) // 2):
            continue
        patterns = {pattern for one in ids[:20] for file in there for pattern in _patterns_of(file, one)}
        counts = {p: sum(p.replace("{id}", without_prefix(one)) in there for one in set(ids)) for p in patterns}
        found = tuple(sorted(((p, n) for p, n in counts.items() if n > 1), key=lambda pair: (-pair[1], pair[0])))
        rank = (found[0][1] if found else 0) * 1000 - position
        if found and (best is None or rank > best[0]):
            best = rank, str(name), found
    if best is None:
        return None
    _, column, found = best
    return column, tuple((_as_stored(p, texts(table[column]), real), n) for p, n in found)


def _as_stored(pattern: str, ids: Sequence[str], real: Mapping[str, str]) -> str:
    """A pattern with letters as the file system composes them."""
    if pattern.isascii():
        return pattern
    one, file = next(
        (one, real[name]) for one in ids if one and (name := pattern.replace("{id}", without_prefix(one))) in real
    )
    spelled = [found for form in FORMS for found in _patterns_of(file, unicodedata.normalize(form, one))]
    return spelled[0] if spelled else pattern


def _patterns_of(file: str, subject: str) -> list[str]:
    """The name of a file with `{id}` in place of the complete id; a leading `sub-` is kept."""
    bare = without_prefix(subject)
    if bare not in file:
        return []
    pattern = re.sub(rf"(?<![A-Za-z0-9]){re.escape(bare)}(?![A-Za-z0-9])", "{id}", file)
    return [pattern] if "{id}" in pattern else []


def without_prefix(subject: str) -> str:
    """The id without `sub-`, as patterns of files have it."""
    return subject.removeprefix("sub-")


def ids_written_differently(table: pd.DataFrame, files: Sequence[str]) -> tuple[str, str, str] | None:
    """Where `id_pattern` finds none: ids that match names of files but for zeros in front, capitals, `.0`, blanks or
    hyphens.

    Returns:
        The column with the most of them, one of its cells, and the file of the same subject.
    """
    parts: dict[str, str] = {}
    for file in files:
        words = [bare(word) for word in re.split(r"[\W_]+", unicodedata.normalize("NFC", file))]
        for part in (*words, *map("".join, itertools.pairwise(words))):
            parts.setdefault(part, file)
    best: tuple[int, str, str, str] | None = None
    for name in table.columns:
        cells = list(dict.fromkeys(cell for cell in texts(table[name]) if cell))
        keys = {cell: re.sub(r"[\W_]+", "", bare(whole(cell))) for cell in cells}
        hits = [(cell, parts[key]) for cell, key in keys.items() if key and key in parts]
        if len(hits) >= max(2, len(cells) // 2) and (best is None or len(hits) > best[0]):
            best = len(hits), str(name), *hits[0]
    return None if best is None else best[1:]
