"""Read edge lists: two columns of nodes and one column per measure (Connectome Mapper 3)."""

from __future__ import annotations

import re
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


def is_edge_list(path: Path) -> bool:
    """Whether the first line names the two ends of an edge."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8-sig", "replace")
    except OSError:
        return False
    lines = [line for line in head.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return False
    return _ends(re.split(r"[\t,; ]+", lines[0].replace('"', "")))


def _ends(header: list[str]) -> bool:
    """Whether a header names two ends; `roi_1, roi_2, roi_3` are the columns of a matrix."""
    first, second, *others = (cell.strip().casefold() for cell in header[:3]) if len(header) > 1 else ("", "")
    return (first, second) in _ENDS and others != [second.replace("2", "3")]


def read_edges(path: Path) -> MatrixFile:
    """Read a list of edges; nodes are numbers or names, and edges that are not listed are 0.

    Such a file does not list nodes without an edge: after alignment with an atlas they are missing regions.

    Raises:
        DataError: not an edge list, an edge listed twice with different values, or an edge without a weight.
    """
    text = read_text(path, limit=_MAX_BYTES)
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not text.endswith("\n"):
        remedy = "It may be cut off; if it is whole, end it with a line break."
        raise DataError("the last line of the edge list is incomplete", file=path, remedy=remedy)
    rows = split_cells(lines, path)
    header = [cell.strip('"') for cell in rows[0]]
    if not _ends(header) or len(header) < 3 or len(rows) < 2:
        raise DataError("not a list of edges", file=path, expected="columns source, target and one per measure")
    short = next((i for i, row in enumerate(rows[1:], 2) if len(row) != len(header)), None)
    if short is not None:
        raise DataError(
            f"line {short} has {counted(len(rows[short - 1]), 'value')}",
            file=path,
            expected=str(len(header)),
            remedy="It may be cut off; export it again.",
        )
    used = [i for i in range(2, len(header)) if all(is_number(row[i]) for row in rows[1:])]
    if not used:
        raise DataError("no column of numbers next to the two nodes", file=path)
    weights = numbers([[row[i] for i in used] for row in rows[1:]], path, first_line=2)
    if np.isnan(weights).any():
        line = int(np.argwhere(np.isnan(weights))[0][0]) + 2
        raise DataError(f"line {line} holds an edge without a weight", file=path)
    return _matrix([(row[0], row[1]) for row in rows[1:]], weights, tuple(header[i] for i in used), path)


def _matrix(ends: list[tuple[str, str]], weights: np.ndarray, measures: tuple[str, ...], path: Path) -> MatrixFile:
    nodes = list(dict.fromkeys(node for pair in ends for node in pair))
    numbered = whole_numbers(nodes)
    if numbered is not None:
        nodes = [str(number) for number in sorted(numbered)]
    if not 2 <= len(nodes) <= _MOST_NODES:
        raise DataError("not a list of edges between regions", file=path, got=counted(len(nodes), "node"))
    position = {node: i for i, node in enumerate(nodes)}
    values = np.zeros((len(measures), len(nodes), len(nodes)))
    seen = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for line, ((first, second), weight) in enumerate(zip(ends, weights, strict=True), 2):
        a = position[str(int(first)) if numbered is not None else first]
        b = position[str(int(second)) if numbered is not None else second]
        if seen[a, b] and not np.array_equal(values[:, a, b], weight):
            raise DataError(
                f"line {line}: an edge that occurs twice with different values",
                file=path,
                got=f"{first} - {second}",
                remedy="Directed connectomes are not supported.",
            )
        values[:, a, b] = values[:, b, a] = weight
        seen[a, b] = seen[b, a] = True
    labels = None if numbered is None else tuple(sorted(numbered))
    note = "a list of edges does not contain regions without an edge; missing regions of the atlas are masked"
    return MatrixFile(values, measures, names=tuple(nodes) if labels is None else None, labels=labels, notes=(note,))
