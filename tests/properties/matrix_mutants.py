"""Structure-aware mutants of matrix files, each with the correct result, known from its construction.

A mutant is a file and its expected result: the matrix over the atlas, or a refusal (`expected` None). A refusal is
always a clear result; a matrix that differs is silently wrong, unless a warning reports that the order is uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matrix_layouts import bare, cohort, locale, numbered, rewritten, triangle, two_headings
from matrix_truth import ATLASES, Mutant, truth
from matrix_writers import ONE_SIDED, TEXT, WRITERS

from connectome_tl.atlas import load_atlas


@dataclass
class Content:
    """Rows of a file: region names as written, the matrix, and the right matrix over the atlas."""

    names: list[str]
    matrix: np.ndarray
    expected: np.ndarray | None


def _permuted(c: Content, rng: np.random.Generator) -> Content:
    turn = rng.permutation(len(c.names))
    return Content([c.names[i] for i in turn], c.matrix[np.ix_(turn, turn)], c.expected)


def _left_out(c: Content, rng: np.random.Generator) -> Content:
    keep = np.sort(rng.choice(len(c.names), len(c.names) - int(rng.integers(1, 5)), replace=False))
    keep = np.union1d(keep, [0])
    return Content([c.names[i] for i in keep], c.matrix[np.ix_(keep, keep)], _masked(c.expected, keep))


def _masked(expected: np.ndarray | None, keep: np.ndarray) -> np.ndarray | None:
    if expected is None:
        return None
    out = np.full(expected.shape, np.nan)
    out[np.ix_(keep, keep)] = expected[np.ix_(keep, keep)]
    return out


def _not_measured(c: Content, rng: np.random.Generator) -> Content:
    i = int(rng.integers(1, len(c.names)))
    matrix = c.matrix.copy()
    matrix[i], matrix[:, i] = np.nan, np.nan
    return Content(c.names, matrix, _masked(c.expected, np.delete(np.arange(len(c.names)), i)))


def _changed(change: Callable[[np.ndarray, int, int], None]) -> Callable[[Content, np.random.Generator], Content]:
    """A fault in the numbers: must be refused."""

    def mutate(c: Content, rng: np.random.Generator) -> Content:
        matrix = c.matrix.copy()
        i, j = rng.choice(len(matrix), 2, replace=False)
        change(matrix, int(i), int(j))
        return Content(c.names, matrix, None)

    return mutate


def _asymmetric(matrix: np.ndarray, i: int, j: int) -> None:
    matrix[i, j] += matrix.max() / 7


def _one_nan(matrix: np.ndarray, i: int, j: int) -> None:
    matrix[i, j] = matrix[j, i] = np.nan


def _row_scaled(matrix: np.ndarray, i: int, j: int) -> None:
    del j
    matrix[i] *= 1000


def _rows_exchanged(matrix: np.ndarray, i: int, j: int) -> None:
    matrix[[i, j]] = matrix[[j, i]]


def _coded_missing(matrix: np.ndarray, i: int, j: int) -> None:
    matrix[i] = matrix[:, i] = (-9999.0, -999.0, -99.0)[j % 3]


def _infinite(matrix: np.ndarray, i: int, j: int) -> None:
    matrix[i, j] = matrix[j, i] = np.inf


def _renamed(change: Callable[[list[str], int, int], None]) -> Callable[[Content, np.random.Generator], Content]:
    """A fault in the names: must be refused."""

    def mutate(c: Content, rng: np.random.Generator) -> Content:
        names = list(c.names)
        i, j = rng.choice(len(names), 2, replace=False)
        change(names, int(i), int(j))
        return Content(names, c.matrix, None)

    return mutate


def _unknown(names: list[str], i: int, j: int) -> None:
    names[i] = f"{names[j]}x{i}"


def _doubled(names: list[str], i: int, j: int) -> None:
    names[i] = names[j]


def _hostile(names: list[str], i: int, j: int) -> None:
    names[i] += ("\u202e", "\x07", "\u200b")[j % 3]


def _one_short(names: list[str], i: int, j: int) -> None:
    del i, j
    names.pop()


def _exchanged(c: Content, rng: np.random.Generator) -> Content:
    """Two names exchanged: the file is taken as correct, since there is no other information."""
    names = list(c.names)
    i, j = (int(k) for k in rng.choice(len(names), 2, replace=False))
    names[i], names[j] = names[j], names[i]
    turn = np.arange(len(names))
    turn[[i, j]] = j, i
    return Content(names, c.matrix, None if c.expected is None else c.expected[np.ix_(turn, turn)])


def _other_case(c: Content, rng: np.random.Generator) -> Content:
    change = (str.upper, str.lower, lambda n: n.replace("-", "_").replace(".", "_"))[int(rng.integers(3))]
    return Content([change(name) for name in c.names], c.matrix, c.expected)


def _with_background(c: Content, rng: np.random.Generator) -> Content:
    matrix = np.pad(c.matrix, (1, 0))
    return Content([("Unknown", "background")[int(rng.integers(2))], *c.names], matrix, c.expected)


Change = Callable[[Content, np.random.Generator], Content]
CHANGES: dict[str, Change] = {
    "as it is": lambda c, _: c,
    "permuted": _permuted,
    "regions left out": _left_out,
    "regions left out, permuted": lambda c, rng: _permuted(_left_out(c, rng), rng),
    "names exchanged": _exchanged,
    "other case and separators": _other_case,
    "background in front": _with_background,
    "a region not measured": _not_measured,
    "asymmetric": _changed(_asymmetric),
    "one NaN": _changed(_one_nan),
    "one row re-scaled": _changed(_row_scaled),
    "two rows exchanged": _changed(_rows_exchanged),
    "a missing code": _changed(_coded_missing),
    "infinite": _changed(_infinite),
    "an unknown name": _renamed(_unknown),
    "a doubled name": _renamed(_doubled),
    "a hostile name": _renamed(_hostile),
    "one name short": _renamed(_one_short),
}
_NOT_ONE_SIDED = ("asymmetric", "one NaN", "one row re-scaled", "two rows exchanged", "a region not measured")
_NEEDS_FEWER_NAMES = ("graphml", "edges", "mat73")


def named(folder: Path, rng: np.random.Generator, kind: str, change: str) -> Mutant | None:
    """A file that names its rows, with one change of its content; None if the format cannot represent it."""
    if kind in ONE_SIDED and change in (*_NOT_ONE_SIDED, "infinite", "background in front"):
        return None
    if kind in (*TEXT, *_NEEDS_FEWER_NAMES) and change == "one name short":
        return None
    if kind == "edges" and change == "a doubled name":
        return None  # two nodes become one, which the list cannot represent
    if kind == "mat4" and change == "a hostile name":
        return None  # the text of version 4 is bytes
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    matrix = truth(atlas, rng)
    content = Content(list(atlas.names), matrix, matrix)
    content = _permuted(content, rng) if rng.random() < 0.5 and change != "background in front" else content
    if change in ("a region not measured", "names exchanged", "regions left out", "regions left out, permuted"):
        content = Content(list(atlas.names), matrix, matrix)
    content = CHANGES[change](content, rng)
    if kind == "mat73" and any(not name for name in content.names):
        return None
    path, format = WRITERS[kind](folder, content.matrix, content.names, rng)
    return Mutant(f"{kind}: {change}", path, atlas.name, content.expected, {"format": format})


Maker = Callable[[Path, np.random.Generator], Mutant | None]


def makers() -> Iterator[tuple[str, Maker]]:
    """Every kind of mutant, by name."""
    for kind in WRITERS:
        for change in CHANGES:
            yield f"{kind}: {change}", lambda f, r, k=kind, c=change: named(f, r, k, c)  # type: ignore[misc]
    lists: tuple[tuple[Callable[[Path, np.random.Generator, str], Mutant], tuple[str, ...]], ...] = (
        (numbered, ("in order", "in any order", "from 0", "shifted", "one renumbered")),
        (two_headings, ("R's header", "exchanged")),
        (
            triangle,
            tuple(
                f"{half} {form}, {said}"
                for half in ("upper", "lower")
                for form, ways in (("list", ("said", "not said", "said wrongly")), ("square", ("said", "not said")))
                for said in ways
            ),
        ),
        (
            bare,
            (
                *("in order", "by label, said", "by label, not said", "left, then right", "one region short"),
                "background in front",
            ),
        ),
        (
            cohort,
            (
                *("as it is", "regions permuted", "regions permuted, other key", "subjects permuted", "two keys"),
                *("own ids in another order", "a subject short", "lower triangles", "lower triangles, said upper"),
                *("a region not measured", "one archive each"),
            ),
        ),
        (locale, ("one digit", "three digits", "six digits", "thousands")),
        (
            rewritten,
            (
                *("byte order mark", "UTF-16", "Windows line ends", "blank lines", "comment", "a line lost"),
                *("a line twice", "a line cut", "a word in a cell", "lines exchanged"),
            ),
        ),
    )
    for make, changes in lists:
        for change in changes:
            yield f"{make.__name__}: {change}", lambda f, r, m=make, c=change: m(f, r, c)  # type: ignore[misc]
