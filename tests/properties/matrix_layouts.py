"""Mutants of label numbers, triangles, orders, number conventions, bytes and whole cohorts."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import yaml
from matrix_truth import ATLASES, Mutant, truth
from matrix_writers import WRITERS

from connectome_tl.atlas import Atlas, load_atlas


def numbered(folder: Path, rng: np.random.Generator, change: str) -> Mutant:
    """A table whose rows have label numbers: in any order, re-based, shifted, or of another atlas."""
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
    """One triangle as a list or in a square, with or without its diagonal; stated, or left to the check."""
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
    """Numbers as another locale writes them: read correctly, or refused if ambiguous."""
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
    """The bytes of a valid table as changed by spreadsheets and editors, or with missing lines."""
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
