"""Resolve spelling variants of region names to those of an atlas or label table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from connectome_tl.connectome.matrix_file import RowNames

BACKGROUND = frozenset({"0", "background", "unknown", "???", "unassigned"})  # names of the first row
_SEPARATORS = " ._-:/"
_SUFFIX = re.compile(r"\s*\([^()]*\)$")
_COUNTED = re.compile(r"(.*[^0-9])([0-9]{1,9})")
_DEFAULT = re.compile(r"(?:V|X|Var|Column|Col)_?([0-9]{1,6})")

# Pairs (left, right) and vermis of the AAL toolbox, in the order of the atlas (doi:10.1006/nimg.2001.0978).
_CEREBRUM = (
    *(2000, 2100, 2110, 2200, 2210, 2300, 2310, 2320, 2330, 2400, 2500, 2600, 2610, 2700, 3000, 4000, 4010, 4020),
    *(4100, 4110, 4200, 5000, 5010, 5020, 5100, 5200, 5300, 5400, 6000, 6100, 6200, 6210, 6220, 6300, 6400, 7000),
    *(7010, 7020, 7100, 8100, 8110, 8120, 8200, 8210, 8300),
)
_PAIRS = (*_CEREBRUM, *range(9000, 9090, 10))
AAL_CODES: tuple[int, ...] = (*(code + side for code in _PAIRS for side in (1, 2)), *range(9100, 9180, 10))


def resolved_names(names: Sequence[str], known: RowNames) -> tuple[list[str], str]:
    """Names as spelled in the atlas or table, and a note where more than case and separators differ.

    Unknown names are unchanged. Rules for altered spellings (CONN's `AAL.PreCG.L (label 0)`, R's `X17Networks`) are
    applied only where they resolve every name.
    """
    given = [name.strip() for name in names]
    target = set(known.names or ())
    found = _looked_up(given, known)
    if not given or not target or set(found) <= target:
        return found, ""
    for changed, what in _respelled(given):
        other = _looked_up(changed, known)
        regions = other[1:] if other[0].casefold() in BACKGROUND else other
        if set(regions) <= target and len(set(regions)) == len(regions):
            return other, f"region names were read {what}: {given[0]} is {other[0]}"
    return found, ""


def _looked_up(names: Sequence[str], known: RowNames) -> list[str]:
    if known.table is not None:
        alias = known.table.aliases
        names = [alias.get(name, name) for name in names]
        exact = set(known.table.names)
        loose = _unique_by(_alike, known.table.names)
        names = [name if name in exact else loose.get(_alike(name), name) for name in names]
    return list(names) if known.atlas is None else list(known.atlas.resolved(names))


def _unique_by(key: Callable[[str], str], names: Sequence[str]) -> dict[str, str]:
    count = Counter(key(name) for name in names)
    return {key(name): name for name in names if count[key(name)] == 1}


def _alike(name: str) -> str:
    return re.sub(r"[ ._:-]", "_", name).casefold()


def _respelled(names: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    quoted = [name.strip("\"'").strip() for name in names]
    yield quoted, "without quotes"
    short = [_SUFFIX.sub("", name) for name in quoted]
    yield short, "without text in brackets"
    if all(name.startswith("X") for name in short if not name[:1].isalpha() or name[:1] == "X"):
        yield [name[1:] if re.match(r"X[^A-Za-z]", name) else name for name in short], "without the X that R adds"
    for at in _common_cuts(short):
        yield [name[at:] for name in short], f"without {short[0][:at]!r} in front"


def _common_cuts(names: Sequence[str]) -> list[int]:
    """Positions at which names may be cut: after each separator of their common prefix."""
    first, last = min(names), max(names)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return [i + 1 for i in range(shared) if first[i] in _SEPARATORS]


def mangled(name: str) -> str:
    """A name as changed by R's `make.names`."""
    out = re.sub(r"[^A-Za-z0-9._]", ".", name)
    return out if re.match(r"[A-Za-z]|\.[^0-9]|\.$", out) else f"X{out}"


def counted_names(names: Sequence[str], known: RowNames) -> tuple[int, ...] | None:
    """Numbers of names such as `ROI_1` or `Region1` that are no names of the atlas or table; else None.

    1 to n are returned as positions from 0. Any others are returned only if all are label numbers.
    """
    matches = [_COUNTED.fullmatch(name.strip()) for name in names]
    found = [(m[1], int(m[2])) for m in matches if m is not None]
    if known.names is None or len(found) < max(2, len(names)) or len({stem for stem, _ in found}) > 1:
        return None
    numbers = [number for _, number in found]
    if set(_looked_up([name.strip() for name in names], known)) & set(known.names) or len(set(numbers)) < len(numbers):
        return None
    if sorted(numbers) == list(range(1, len(numbers) + 1)):
        return tuple(number - 1 for number in numbers)
    positions = sorted(numbers) == list(range(len(numbers)))
    return tuple(numbers) if positions or set(numbers) <= {0, *known.numbered()} else None


def default_positions(names: Sequence[str]) -> tuple[int, ...] | None:
    """Positions from 0 of default column names of R (V1, X1), MATLAB (Var1) or a spreadsheet (Column1); else None."""
    matches = [_DEFAULT.fullmatch(name) for name in names]
    if len(names) < 2 or not all(matches):
        return None
    numbers = [int(m[1]) for m in matches if m is not None]
    return tuple(n - 1 for n in numbers) if sorted(numbers) == list(range(1, len(numbers) + 1)) else None
