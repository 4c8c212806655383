"""Structure-aware mutants of matrix files, each with what is right, known from how it was made and not from reading it.

A mutant is a file and what it must become: the matrix over the atlas, or a refusal (`expected` None). A refusal is
always a clear answer; a matrix that differs is wrong in silence, unless a warning says that the order is in doubt.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml
from matrix_writers import ONE_SIDED, TEXT, WRITERS

from connectome_tl.atlas import Atlas, load_atlas

ATLASES = ("aal90", "dk68", "unc_aal90", "dk82")


@dataclass
class Mutant:
    """A file, how it is to be read, and the right matrix over the atlas, NaN where a region is missing."""

    what: str
    path: Path
    atlas: str
    expected: np.ndarray | None
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Content:
    """Rows of a file: region names as written, the matrix, and the right matrix over the atlas."""

    names: list[str]
    matrix: np.ndarray
    expected: np.ndarray | None


@lru_cache
def closeness(name: str) -> np.ndarray:
    """Weights that fall with distance and favour homotopic pairs, as real connectomes do."""
    at = load_atlas(name).coordinates
    near = np.exp(-np.linalg.norm(at[:, None] - at[None], axis=-1) / 30)
    partners = load_atlas(name).partners
    near[np.arange(len(near)), partners] += 0.5
    return (near + near.T) / 2


def truth(atlas: Atlas, rng: np.random.Generator) -> np.ndarray:
    """(n, n) weights with every kind of size, in the order of the atlas; symmetric, diagonal 0."""
    values = closeness(atlas.name) * rng.gamma(3, 1, (atlas.n_regions,) * 2) * 10.0 ** rng.integers(0, 5)
    values = np.round(values, int(rng.integers(0, 4)))
    values[rng.random(values.shape) < 0.1] = 0
    upper = np.triu(values, 1)
    upper[0, 1:] += 1  # no region without an edge, which some formats could not tell from a missing one
    return upper + upper.T


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
    """Two names exchanged: what the file says is right, since nothing else is known."""
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
    """A file that names its rows, with one change of its content; None where the kind cannot hold that change."""
    if kind in ONE_SIDED and change in (*_NOT_ONE_SIDED, "infinite", "background in front"):
        return None
    if kind in (*TEXT, *_NEEDS_FEWER_NAMES) and change == "one name short":
        return None
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


def numbered(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """A table whose rows carry label numbers: in any order, re-based, shifted, or of another atlas."""
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    matrix = truth(atlas, rng)
    numbers = np.array([region.index for region in atlas.regions])
    expected: np.ndarray | None = matrix
    turn = rng.permutation(len(numbers)) if change != "in order" else np.arange(len(numbers))
    if change == "from 0":
        numbers = np.arange(len(numbers))  # positions
    elif change == "shifted":
        numbers, expected = numbers + 1, None
    elif change == "one renumbered":
        numbers[int(rng.integers(len(numbers)))] = numbers.max() + 1
        expected = None
    names = [str(numbers[i]) for i in turn]
    mark = "\t,"[int(rng.integers(2))]
    path = _both_sides(folder / "m.csv", matrix[np.ix_(turn, turn)], names, names, mark)
    return Mutant(f"numbers: {change}", path, atlas.name, expected)


def _both_sides(path: Path, matrix: np.ndarray, rows: list[str], columns: list[str], mark: str) -> Path:
    buffer = io.StringIO()
    body = [[name, *(repr(float(v)) for v in row)] for name, row in zip(rows, matrix, strict=True)]
    csv.writer(buffer, delimiter=mark, lineterminator="\n").writerows([["", *columns], *body])
    path.write_text(buffer.getvalue())
    return path


def two_headings(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """Names on both sides that agree (as R changes them), or do not."""
    atlas = load_atlas(("dk68", "dk82")[int(rng.integers(2))])
    matrix = truth(atlas, rng)
    columns, expected = list(atlas.names), matrix
    if change == "R's header":
        columns = [name.replace("-", ".") for name in columns]
    else:
        i, j = rng.choice(len(columns), 2, replace=False)
        columns[i], columns[j] = columns[j], columns[i]
        expected = None
    path = _both_sides(folder / "m.csv", matrix, list(atlas.names), columns, ",")
    return Mutant(f"two headings: {change}", path, atlas.name, expected)


def triangle(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """One triangle as a list or in a square, with or without its diagonal; said, or left to the check."""
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    matrix = truth(atlas, rng)
    layout, said = change.split(", ")
    shift = int(rng.integers(2))
    rows, columns = np.triu_indices(len(matrix), shift) if "upper" in layout else np.tril_indices(len(matrix), -shift)
    values = matrix[rows, columns]
    if "square" in layout:
        values = np.triu(matrix) if "upper" in layout else np.tril(matrix)
    path = folder / f"m.{('npy', 'csv', 'txt')[int(rng.integers(3))]}"
    np.save(path, values) if path.suffix == ".npy" else np.savetxt(path, values, delimiter=",", fmt="%.17g")
    options = {"layout": "upper" if "upper" in layout else "lower"} if said == "said" else {}
    if said == "said wrongly":
        options = {"layout": "lower" if "upper" in layout else "upper"}
        return Mutant(f"triangle: {change}", path, atlas.name, None, options)
    return Mutant(f"triangle: {change}", path, atlas.name, matrix, options)


def bare(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """A square without names: in the order of the table, of the label numbers, by hemisphere, or cut."""
    atlas = load_atlas(("unc_aal90", "dk82", "aal90")[int(rng.integers(3))])
    matrix = truth(atlas, rng)
    turn, expected, options = np.arange(len(matrix)), matrix, {}
    if change in ("by label, said", "by label, not said"):
        turn = atlas.label_order
        options = {"order": "label"} if change == "by label, said" else {}
    elif change == "left, then right":
        turn = np.argsort([region.hemisphere for region in atlas.regions], kind="stable")
    values = matrix[np.ix_(turn, turn)]
    if change == "one region short":
        values, expected = values[:-1, :-1], None
    elif change == "background in front":
        values, expected = np.pad(values, (1, 0)), None
    path = folder / f"m.{('npy', 'csv')[int(rng.integers(2))]}"
    np.save(path, values) if path.suffix == ".npy" else np.savetxt(path, values, delimiter=",", fmt="%.17g")
    return Mutant(f"bare: {change}", path, atlas.name, expected, options)


def cohort(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """Four subjects in one stack, or in an archive each, read through a cohort.yaml."""
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    ids = [f"sub-{i}" for i in range(1, 5)]
    matrices = np.stack([truth(atlas, rng) for _ in ids])
    expected: np.ndarray | None = matrices
    turn = rng.permutation(atlas.n_regions)
    names = np.array(atlas.names)
    spec: dict[str, object] = {"atlas": atlas.name, "stack": "all.npz", "rows": "rows.tsv"}
    arrays: dict[str, np.ndarray] = {"w": matrices}
    rows = list(ids)
    if change.startswith("regions permuted"):
        key = "regions" if change == "regions permuted" else "roi_names"
        arrays = {"w": matrices[:, turn][:, :, turn], key: names[turn]}
    elif change == "subjects permuted":
        order = rng.permutation(4)
        arrays, rows = {"w": matrices[order]}, [ids[i] for i in order]
    elif change == "own ids in another order":
        order = np.roll(np.arange(4), 1)
        arrays, expected = {"w": matrices[order], "subjects": np.array(ids)[order]}, None
    elif change == "a subject short":
        arrays, expected = {"w": matrices[:3]}, None
    elif change in ("lower triangles", "lower triangles, said upper"):
        first, second = np.tril_indices(atlas.n_regions, -int(rng.integers(2)))
        arrays = {"w": matrices[:, first, second]}
        spec["layout"] = "lower" if change == "lower triangles" else "upper"
        expected = matrices if change == "lower triangles" else None
    elif change == "a region not measured":
        holed = matrices.copy()
        holed[1, 3], holed[1, :, 3] = np.nan, np.nan
        arrays, expected = {"w": holed}, holed
    elif change == "two keys":
        arrays = {"b": 2 * matrices, "w": matrices}
        spec |= {"key": ["w", "b"], "measure": ["one", "two"], "transform": ["none", "log1p"]}
    if change == "one archive each":
        del spec["stack"], spec["rows"]
        spec |= {"files": "{id}.npz", "key": "w"}
        for one, matrix in zip(ids, matrices, strict=True):
            np.savez(folder / f"{one}.npz", other=matrix + 1, w=matrix[np.ix_(turn, turn)], roi=names[turn])
    else:
        np.savez(folder / "all.npz", **arrays)
    (folder / "rows.tsv").write_text("participant_id\n" + "\n".join(rows) + "\n")
    (folder / "participants.tsv").write_text("participant_id\tsex\n" + "".join(f"{one}\tF\n" for one in ids))
    settings = {"participants": "participants.tsv", "connectomes": spec}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings))
    return Mutant(f"cohort: {change}", folder / "cohort.yaml", atlas.name, expected)


def _decimal_comma(rows: list[list[str]]) -> list[list[str]]:
    return [[cell.replace(".", ",") for cell in row] for row in rows]


def _thousands(rows: list[list[str]]) -> list[list[str]]:
    return [[f"{float(cell):,.0f}" for cell in row] for row in rows]


def locale(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """Numbers as another locale writes them: right, or refused where they can be two things."""
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    matrix = truth(atlas, rng)
    if change == "thousands":
        matrix = np.round(matrix / matrix.max() * 90_000)
    digits = {"one digit": 1, "three digits": 3, "six digits": 6}.get(change, 0)
    rows = [[f"{value:.{digits}f}" for value in row] for row in matrix]
    expected = np.array([[float(cell) for cell in row] for row in rows])
    rows = _thousands(rows) if change == "thousands" else _decimal_comma(rows)
    buffer = io.StringIO()
    mark = "\t;"[int(rng.integers(2))]
    csv.writer(buffer, delimiter=mark, lineterminator="\n").writerows([list(atlas.names), *rows])
    (folder / "m.csv").write_text(buffer.getvalue())
    return Mutant(f"locale: {change}", folder / "m.csv", atlas.name, expected)


def rewritten(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """The bytes of a healthy table as spreadsheets and editors leave them, or with lines lost."""
    atlas = load_atlas(ATLASES[int(rng.integers(len(ATLASES)))])
    matrix = truth(atlas, rng)
    path, _ = WRITERS["csv"](folder, matrix, list(atlas.names), rng)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    expected: np.ndarray | None = matrix
    at = int(rng.integers(1, len(lines)))
    data = text.encode()
    if change == "byte order mark":
        data = b"\xef\xbb\xbf" + data
    elif change == "UTF-16":
        data = text.encode("utf-16")
    elif change == "Windows line ends":
        data = text.replace("\n", "\r\n").encode()
    elif change == "blank lines":
        data = ("\n" + text.replace("\n", "\n\n") + "\n").encode()
    elif change == "comment":
        data = ("# made by a tool\n" + text).encode()
    else:
        expected = None
        if change == "a line lost":
            del lines[at]
        elif change == "a line twice":
            lines.insert(at, lines[at])
        elif change == "a line cut":
            lines[at] = lines[at][: len(lines[at]) // 2]
        elif change == "a word in a cell":
            mark = ";" if ";" in lines[at] else ","
            cells = lines[at].split(mark)
            cells[len(cells) // 2] = "abc"
            lines[at] = mark.join(cells)
        elif change == "lines exchanged":
            other = 1 + at % (len(lines) - 1)
            lines[at], lines[other] = lines[other], lines[at]
            expected = None if other != at else matrix
            if lines[0][:1] == "" or _named_rows(lines, atlas):
                expected = None
        data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(data)
    return Mutant(f"rewritten: {change}", path, atlas.name, expected)


def _named_rows(lines: list[str], atlas: Atlas) -> bool:
    return any(line.strip('"').startswith(atlas.names[0]) for line in lines)


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
