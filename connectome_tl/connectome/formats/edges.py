"""Read edge lists: two columns of nodes and one column per measure (Connectome Mapper 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.cells import is_number, numbers, whole_numbers
from connectome_tl.connectome.formats.text import split_cells
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.files import read_text
from connectome_tl.plurals import counted

_ENDS = (
    ("source", "target"),
    ("from", "to"),
    ("node1", "node2"),
    ("roi1", "roi2"),
    ("region1", "region2"),
    ("node_1", "node_2"),
    ("roi_1", "roi_2"),
    ("region_1", "region_2"),
    ("i", "j"),
)
_MAX_BYTES = 150_000_000
_MOST_NODES = 5_000
_HEAD = 4_000  # bytes that contain the header and some lines
_FEWEST = 5  # lines; fewer may be a small matrix
_WIDEST = 6  # columns of an edge list without names; a wider table may be a matrix that is cut off


def is_edge_list(path: Path) -> bool:
    """Whether the first columns are the two ends of edges: by their names, or by their cells."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        cut = len(head) == _HEAD
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
        rows = _rows(text.splitlines()[: -1 if cut else None], path)
        if _ends(rows[0]):
            return True
        return _two_ends(rows) and _named_twice(_rows(read_text(path, limit=_MAX_BYTES).split("\n"), path))
    except (OSError, DataError):
        return False


def _rows(lines: list[str], path: Path) -> list[list[str]]:
    """Cells of the lines, without comments and without a first column that only counts the edges (pandas, R)."""
    rows = split_cells([line for line in lines if line.strip() and not line.lstrip().startswith("#")], path)
    rows = [[cell.strip('"') for cell in row] for row in rows]
    first = [row[0] for row in rows[1:]]
    counts = first in ([str(i) for i in range(k, len(first) + k)] for k in (0, 1))
    if not counts or len(rows) < 2 or (rows[0][0] and len(rows[0]) + 1 != len(rows[1])):
        return rows
    return [rows[0][not rows[0][0] :], *(row[1:] for row in rows[1:])]


def _ends(header: list[str]) -> bool:
    """Whether a header names two ends; `roi_1, roi_2, roi_3` are the columns of a matrix."""
    first, second, *others = (cell.strip().casefold() for cell in header[:3]) if len(header) > 1 else ("", "")
    return (first, second) in _ENDS and others != [second.replace("2", "3")]


def _two_ends(rows: list[list[str]]) -> bool:
    """Whether lines hold two names or whole numbers and then numbers; the first may be a header."""
    body = rows[1:]
    width = len(body[0]) if body else 0
    if width < 3 or len(body) < max(_FEWEST, width + 1) or any(len(row) != width for row in body):
        return False
    ends = [cell for row in body for cell in row[:2]]
    named = all(not is_number(cell) for cell in ends)
    numbered = width <= _WIDEST and all(whole_numbers([cell]) for cell in ends)
    return (named or numbered) and all(is_number(cell) for row in body for cell in row[2:])


def _named_twice(rows: list[list[str]]) -> bool:
    """Whether both ends are the same nodes, and most nodes have several edges."""
    if not _two_ends(rows):
        return False
    first, second = ({row[k] for row in rows[1:]} for k in (0, 1))
    return len(first | second) < len(rows) - 1 and 2 * len(first & second) >= min(len(first), len(second))


def read_edges(path: Path) -> MatrixFile:
    """Read a list of edges; nodes are numbers or names, and edges that are not listed are 0.

    Such a file does not list nodes without an edge: after alignment with an atlas they are missing regions. A header
    is not needed.

    Raises:
        DataError: not an edge list, an edge listed twice with different values, or an edge without a weight.
    """
    text = read_text(path, limit=_MAX_BYTES)
    if not text.endswith("\n"):
        remedy = "It may be cut off; if it is whole, end it with a line break."
        raise DataError("the last line of the edge list is incomplete", file=path, remedy=remedy)
    rows = _rows(text.split("\n"), path)
    header = rows[0]
    if not (_ends(header) or _named_twice(rows)) or len(header) < 3 or len(rows) < 2:
        raise DataError("not a list of edges", file=path, expected="columns source, target and one per measure")
    if is_number(header[2]):
        rows = [[""] * len(header), *rows]
        header = []
    width = len(rows[0])
    short = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if short is not None:
        raise DataError(
            f"line {short + bool(header)} has {counted(len(rows[short]), 'value')}",
            file=path,
            expected=str(width),
            remedy="It may be cut off; export it again.",
        )
    used = [i for i in range(2, width) if all(is_number(row[i]) for row in rows[1:])]
    used = [i for i in used if any(row[i] for row in rows[1:])]
    if not used:
        got = repr(rows[1][2][:40]) if len(rows) > 1 else None
        raise DataError(
            "no column of numbers next to the two nodes", file=path, got=got, remedy="Write plain numbers, as 3.5."
        )
    first_line = 1 + bool(header)
    weights = numbers([[row[i] for i in used] for row in rows[1:]], path, first_line=first_line)
    ends = [(row[0], row[1]) for row in rows[1:]]
    unknown = [i for i in np.flatnonzero(np.isnan(weights).any(axis=1)).tolist() if ends[i][0] != ends[i][1]]
    if unknown:
        remedy = "Remove the lines of edges that do not exist; others need their weight."
        raise DataError(f"line {unknown[0] + first_line} holds an edge without a weight", file=path, remedy=remedy)
    return _matrix(ends, np.nan_to_num(weights), tuple(header[i] for i in used if header), path, first_line)


def _matrix(
    ends: list[tuple[str, str]], weights: np.ndarray, measures: tuple[str, ...], path: Path, first_line: int
) -> MatrixFile:
    nodes = list(dict.fromkeys(node for pair in ends for node in pair))
    if all(whole_numbers([node]) for node in nodes):  # 1 and 1.0 are one node
        ends = [(str(int(float(first))), str(int(float(second)))) for first, second in ends]
        nodes = sorted({node for pair in ends for node in pair}, key=int)
    numbered = whole_numbers(nodes)
    if not 2 <= len(nodes) <= _MOST_NODES:
        raise DataError("not a list of edges between regions", file=path, got=counted(len(nodes), "node"))
    position = {node: i for i, node in enumerate(nodes)}
    values = np.zeros((weights.shape[1], len(nodes), len(nodes)))
    seen = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for line, ((first, second), weight) in enumerate(zip(ends, weights, strict=True), first_line):
        a, b = position[first], position[second]
        if seen[a, b] and not np.array_equal(values[:, a, b], weight):
            raise DataError(
                f"line {line}: an edge that occurs twice with different values",
                file=path,
                got=f"{first} - {second}",
                remedy="Directed connectomes are not supported.",
            )
        values[:, a, b] = values[:, b, a] = weight
        seen[a, b] = seen[b, a] = True
    note = "a list of edges does not contain regions without an edge; missing regions of the atlas are masked"
    return MatrixFile(values, measures, names=None if numbered else tuple(nodes), labels=numbered, notes=(note,))
