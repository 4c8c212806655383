"""One valid file of every kind, written with other libraries than the package, for mutants."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import networkx as nx
import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_array

Names = list[str]
Writer = Callable[[Path, np.ndarray, Names, np.random.Generator], tuple[Path, str]]
KEYS = (
    "names",
    "ROInames",
    "roi_labels",
    "parcels",
    "node_names",
    "Regions",
    "label",
    "region_name",
    "LUT",
    "atlas_rois",
)


def table(path: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator, mark: str = ",") -> Path:
    """Text with a header, a column of names, or both."""
    header, side = ((True, True), (True, False), (False, True))[int(rng.integers(3))]
    rows = [[repr(float(v)) for v in row] for row in matrix]
    if side:
        rows = [[name, *row] for name, row in zip(names, rows, strict=False)]
    if header:
        rows = [[*([""] if side else []), *names], *rows]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=mark, lineterminator="\n").writerows(rows)
    path.write_text(buffer.getvalue(), encoding="utf-8")
    return path


def as_csv(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    return table(folder / "m.csv", matrix, names, rng, ",;"[int(rng.integers(2))]), "auto"


def as_tsv(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    return table(folder / "m.tsv", matrix, names, rng, "\t"), "auto"


def as_relmat(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    return table(folder / "sub-1_meas-count_relmat.tsv", matrix, names, rng, "\t"), "auto"


def as_qsiparc(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    path = folder / "s_connmatrix.csv"
    np.savetxt(path, matrix, delimiter=",", fmt="%.17g")
    path.with_suffix(".json").write_text(json.dumps({"region_labels": names, "measure": "count"}))
    return path, "auto"


def as_mat(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    """Any key; cells, rows of letters, or inside a structure; sometimes sparse, with a list that is no identity."""
    key = KEYS[int(rng.integers(len(KEYS)))]
    cells: object = np.array(names, dtype=object if rng.random() < 0.7 else None)
    content: dict[str, object] = {"SC": csc_array(matrix) if rng.random() < 0.3 else matrix}
    if rng.random() < 0.3:
        content["hemi"] = np.array(["L", "R"] * len(names), dtype=object)[: len(names)]
    content |= {"info": {key: cells}} if rng.random() < 0.3 else {key: cells}
    savemat(folder / "m.mat", content, long_field_names=True, do_compression=bool(rng.random() < 0.5))
    return folder / "m.mat", "auto"


def as_mat4(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    """As DSI Studio writes it: names as lines of one text."""

    def variable(name: str, values: np.ndarray, kind: int) -> bytes:
        head = struct.pack("<5i", kind, *values.shape, 0, len(name) + 1)
        return head + name.encode() + b"\0" + values.tobytes(order="F")

    letters = np.frombuffer(("\n".join(names) + "\n").encode(), dtype=np.uint8)[None]
    data = variable("connectivity", matrix.astype("<f8"), 0) + variable("name", letters, 51)
    (folder / "m.mat").write_bytes(data)
    return folder / "m.mat", "auto"


def as_mat73(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    with h5py.File(folder / "m.mat", "w") as file:
        file["SC"] = matrix.T
        cells = np.empty((len(names), 1), dtype=h5py.ref_dtype)
        for i, name in enumerate(names):
            letters = np.frombuffer(name.encode("utf-16-le"), dtype=np.uint16)[:, None]
            one = file.create_dataset(f"#refs#/r{i}", data=letters)
            one.attrs["MATLAB_class"] = np.bytes_("char")
            cells[i, 0] = one.ref
        key = KEYS[int(rng.integers(len(KEYS)))]
        file.create_dataset(key, data=cells, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
    return folder / "m.mat", "auto"


def as_conn(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    if rng.random() < 0.5:
        names = [f"AAL.{name} (AAL label {i})" for i, name in enumerate(names)]
    content = {"Z": matrix, "names": np.array(names, dtype=object), "names2": np.array(names, dtype=object)}
    savemat(folder / "resultsROI_Subject001_Condition001.mat", content)
    return folder / "resultsROI_Subject001_Condition001.mat", "auto"


def as_mapper(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    content = {"sc": {"fibers": matrix}, "nodes": {"dn_name": np.array(names, dtype=object)}}
    savemat(folder / "m.mat", content)
    return folder / "m.mat", "auto"


def as_qsirecon(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    content = {"atlas_A_region_labels": np.array(names, dtype=object), "atlas_A_count_connectivity": matrix}
    savemat(folder / "s_connectivity.mat", content, long_field_names=True)
    return folder / "s_connectivity.mat", "auto"


def as_npz(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    key = (*KEYS, "regions")[int(rng.integers(len(KEYS) + 1))]
    weights = ("weights", "connectivity", "arr_0")[int(rng.integers(3))]
    upper = rng.random() < 0.2 and np.array_equal(matrix, matrix.T)
    values = matrix[np.triu_indices(len(matrix), 1)] if upper else matrix
    np.savez(folder / "m.npz", **{weights: values, key: np.array(names), "hemisphere": np.array(["L"] * len(names))})
    return folder / "m.npz", "auto"


def as_npy_with_list(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    np.save(folder / "m.npy", np.asarray(matrix, order="F" if rng.random() < 0.3 else "C"))
    kind = int(rng.integers(3))
    if kind == 0:
        (folder / "m_labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    elif kind == 1:
        (folder / "m.json").write_text(json.dumps({"region_labels": names}))
    else:
        (folder / "m_regions.tsv").write_text("name\n" + "\n".join(names) + "\n", encoding="utf-8")
    return folder / "m.npy", "auto"


def as_graphml(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    graph = nx.Graph()
    key = ("name", "dn_name", "roi")[int(rng.integers(3))]
    graph.add_nodes_from((i, {key: name}) for i, name in enumerate(names))
    for i, j in np.argwhere(np.triu(matrix, 1)).tolist():
        graph.add_edge(i, j, weight=float(matrix[i, j]))
    nx.write_graphml(graph, folder / "m.graphml")
    return folder / "m.graphml", "auto"


def as_edges(folder: Path, matrix: np.ndarray, names: Names, rng: np.random.Generator) -> tuple[Path, str]:
    first, second = (("source", "target"), ("from", "to"), ("node1", "node2"))[int(rng.integers(3))]
    pairs = np.argwhere(np.triu(matrix, 1))
    rng.shuffle(pairs)
    lines = [f"{first}\t{second}\tcount"]
    lines += [f"{names[i]}\t{names[j]}\t{float(matrix[i, j])!r}" for i, j in pairs]
    (folder / "s_connectivity.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "s_connectivity.tsv", "auto"


WRITERS: dict[str, Writer] = {
    writer.__name__.removeprefix("as_"): writer
    for writer in (as_csv, as_tsv, as_relmat, as_qsiparc, as_mat, as_mat4, as_mat73, as_conn, as_mapper, as_qsirecon)
} | {"npz": as_npz, "npy": as_npy_with_list, "graphml": as_graphml, "edges": as_edges}
TEXT = ("csv", "tsv", "relmat")
ONE_SIDED = ("graphml", "edges")  # contain each edge once, without asymmetry, NaN or diagonal
