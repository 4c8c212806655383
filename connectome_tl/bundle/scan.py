"""Search the files of a bundle for subject ids, site names, paths, dates and other identifying text.

Values, keys, Markdown, names, metadata and whole numbers of tensors are searched. Ids that are short numbers cannot be
distinguished from other numbers within a text and count only if they are the whole text.
"""

from __future__ import annotations

import json
import re
import socket
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.bundle.patterns import PATTERNS, plain_text
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, Problem

_WORD = re.compile(r"[^\W_]+")
_MOST_PARTS = 8  # largest number of parts of an id such as sub-01_ses-2_run-1
_RUN = re.compile(r"[^\W\d_]+|\d+")
_MOST_RUNS, _LONG_ID = 12, 6  # runs of letters or of digits in an id of letters and digits; its smallest length
_MANY_DIGITS = 4  # digits of an id with letters that may be shorter
_LONG_NUMBER = 5  # smallest number of digits of a number that may be an id
_THOUSANDS = re.compile(
    r"(?<=\d)[,' \u2019\u202f](?=\d{3}(?!\d))|(?<=\d)\.(?=\d{3}\.\d{3}(?!\d))|(?<=\d\.\d{3})\.(?=\d{3}(?!\d))"
)
_UMLAUTS = str.maketrans({ord(sign): two for sign, two in zip("\u00e4\u00f6\u00fc", ("ae", "oe", "ue"), strict=True)})


def _folded(text: str) -> str:
    """Fold case, Unicode variants and accents."""
    return _without_accents(plain_text(text).casefold())


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


@dataclass(frozen=True)
class Secrets:
    """Texts that must not be released, by kind, in lower case.

    Attributes:
        words: searched within other texts. whole: short texts, matched only as whole texts.
        public: allowed texts that resemble secrets (regions of an atlas, the hash of its table).
    """

    words: Mapping[str, str]
    whole: Mapping[str, str]
    public: frozenset[str] = frozenset()

    @staticmethod
    def of(cohorts: Iterable[Cohort], *, site_names: bool, public: Iterable[str] = ()) -> Secrets:
        """Ids, families and sites of all cohorts of a study, files they were read from, and this machine's name."""
        words: dict[str, str] = {}
        whole: dict[str, str] = {}

        def add(texts: Iterable[Any], what: str) -> None:
            spelled = {text for one in texts for text in (str(one), str(one).lower().translate(_UMLAUTS))}
            for text in {form for one in spelled for form in _forms(_folded(one).strip())}:
                short = len(text) < 3 or (text.isdigit() and len(text) < _LONG_NUMBER)
                (whole if short else words).setdefault(text, what)

        for cohort in cohorts:
            add(cohort.ids, "the id of a subject")
            add(cohort.children, "the id of a subject")
            add(cohort.family, "the name of a family")
            add((Path(file).name for file in cohort.volumes), "the name of an image")
            if not site_names:
                add(cohort.site, "the name of a site")
        host = socket.gethostname()
        if len(host) > 5 and host.casefold() not in ("localhost", "ubuntu", "debian"):
            add([host], "the name of this machine")
        return Secrets(words, whole, frozenset(map(_folded, public)))

    def found_in(self, text: str) -> Iterator[tuple[str, str]]:
        """Pairs (kind of secret, matching text)."""
        text = plain_text(text)
        for what, pattern in PATTERNS:
            for match in pattern.finditer(text):
                if _folded(match.group()) not in self.public:
                    yield what, match.group().strip()
                    break
        lower = _folded(text).strip()
        if lower in self.whole and lower not in self.public:
            yield self.whole[lower], text
        yield from self._words_in(lower)
        joined = _THOUSANDS.sub("", lower)
        if joined != lower:
            yield from self._words_in(joined)
        yield from self._runs_in(lower)
        for word in self._odd:
            if word in lower:
                yield self.words[word], word

    def _words_in(self, lower: str) -> Iterator[tuple[str, str]]:
        """Dates, paths and most ids consist of words with separators: look up every sequence of words."""
        pieces = [match.span() for match in _WORD.finditer(lower)]
        for first, (start, _) in enumerate(pieces):
            for _, stop in pieces[first : first + _MOST_PARTS]:
                part = lower[start:stop]
                if part in self.words and part not in self.public:
                    yield self.words[part], part

    def _runs_in(self, lower: str) -> Iterator[tuple[str, str]]:
        """Ids of letters and digits with other separators, without separators, or within a longer word."""
        if not self._mixed:
            return
        runs = [match.group() for match in _RUN.finditer(lower)]
        for first in range(len(runs)):
            part = ""
            for run in runs[first : first + _MOST_RUNS]:
                part += run
                word = self._mixed.get(part)
                if word is not None and part not in self.public:
                    yield self.words[word], part
        for number in {run for run in runs if run.isdigit()}:
            for short, word in self._by_number.get(number, ()):
                if any(_stands_in(form, lower) for form in {short, word}):
                    yield self.words[word], word

    @cached_property
    def _by_number(self) -> dict[str, list[tuple[str, str]]]:
        """The secrets of `_mixed` by their longest number, which must stand alone in a text that contains them."""
        found: dict[str, list[tuple[str, str]]] = {}
        for short, word in self._mixed.items():
            for number in {max(filter(str.isdigit, _RUN.findall(form)), key=len, default="") for form in (short, word)}:
                found.setdefault(number, []).append((short, word))
        return found

    @cached_property
    def _mixed(self) -> dict[str, str]:
        """Secrets of letters and digits, or of several words, without their separators, and the secrets themselves."""
        squashed = {"".join(run.lstrip("0") for run in _RUN.findall(word)): word for word in self.words}
        squashed |= {"".join(_RUN.findall(word)): word for word in self.words}
        return {
            short: word
            for short, word in squashed.items()
            if (len(short) >= _LONG_ID or sum(map(str.isdigit, short)) >= _MANY_DIGITS)
            and any(map(str.isalpha, short))
            and (any(map(str.isdigit, short)) or len(_WORD.findall(word)) > 1)
        }

    @cached_property
    def _odd(self) -> list[str]:
        """Secrets that do not start and end with a letter or digit, or have many parts."""
        return [
            w for w in self.words if not (w[0].isalnum() and w[-1].isalnum()) or len(_WORD.findall(w)) > _MOST_PARTS
        ]

    def found_in_number(self, number: float) -> Iterator[tuple[str, str]]:
        """A whole number of five digits or more that is an id, or a date."""
        if isinstance(number, bool) or number != number or abs(number) == float("inf") or number != int(number):
            return
        text = str(abs(int(number)))
        if len(text) >= _LONG_NUMBER:
            yield from self.found_in(text)


def _stands_in(word: str, text: str) -> bool:
    """Whether a text contains a word that does not go on as a longer number."""
    start = text.find(word)
    while start >= 0:
        before, after = text[:start][-1:], text[start + len(word) :][:1]
        if not (before.isdigit() and word[0].isdigit()) and not (after.isdigit() and word[-1].isdigit()):
            return True
        start = text.find(word, start + 1)
    return False


def _forms(text: str) -> Iterator[str]:
    """An id, also without leading zeros (lost in numbers) and without the prefix `sub-`."""
    if text:
        yield text
    label = text.removeprefix("sub-")
    for form in (label, label.lstrip("0") if label.isdigit() else label):
        if form != text and len(form) >= _LONG_NUMBER:
            yield form


def scan(files: Mapping[str, bytes], secrets: Secrets) -> list[Problem]:
    """All locations of secrets in these files (by name)."""
    problems: list[Problem] = []
    for name, data in files.items():
        for place, value in _texts(name, data):
            hits = secrets.found_in(value) if isinstance(value, str) else secrets.found_in_number(value)
            problems += [Problem(f"{place} contains {what}", got=repr(hit)[:80], file=name) for what, hit in hits]
    return problems


def refuse_secrets(files: Mapping[str, bytes], secrets: Secrets, what: str, remedy: str) -> None:
    """Raise an error if `scan` finds any secret.

    Args:
        what: description of the files. remedy: advice for the authors.

    Raises:
        DataError: lists the locations (at most twelve).
    """
    found = scan(files, secrets)
    if found:
        more = f" (the first 12 of {len(found)})" if len(found) > 12 else ""
        raise DataError(f"nothing was written: {what} would release private data{more}. {remedy}", problems=found[:12])


def _texts(name: str, data: bytes) -> Iterator[tuple[str, str | float]]:
    """Every text and number of a file, with its location."""
    yield "its name", name
    suffix = Path(name).suffix
    if suffix == ".safetensors":
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        # Types and offsets are the format's; among many offsets some look like dates.
        written = {key: () if key == "__metadata__" else ("data_offsets", "dtype") for key in header}
        described = {key: {k: v for k, v in one.items() if k not in written[key]} for key, one in header.items()}
        yield from _walk(described, "header")
        yield from _whole_numbers(data)
    elif suffix == ".json":
        yield from _walk(json.loads(data), "")
    else:
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            yield f"line {number}", line


def _whole_numbers(data: bytes) -> Iterator[tuple[str, float]]:
    """Whole numbers of five or more digits in tensors, which may be ids or dates, but not weights.

    Numbers that are so large that their type holds whole ones only are no sign of either.
    """
    from safetensors.numpy import load

    for name, array in load(data).items():
        if array.dtype.kind in "iuf":
            values = np.asarray(array, dtype=np.float64)
            most = 2.0 ** (np.finfo(array.dtype).nmant + 1) if array.dtype.kind == "f" else np.inf
            sizes = np.abs(values)
            large = values[np.isfinite(values) & (sizes >= 10 ** (_LONG_NUMBER - 1)) & (sizes < most)]
            for value in np.unique(large[large == np.trunc(large)]):
                yield f"tensor {name}", float(value)


def _walk(value: Any, place: str) -> Iterator[tuple[str, str | float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {place or 'the file'}", str(key)
            yield from _walk(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, place)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield place or "the file", value
