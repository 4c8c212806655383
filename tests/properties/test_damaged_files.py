"""1,000 damaged files and tables: a typed error or a usable result, never a traceback, nothing written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5storage
import networkx as nx
import numpy as np
import pytest
import yaml
from scipy.io import savemat
from scipy.sparse import csc_array

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.connectome.formats.table import FORMATS, read_matrix
from connectome_tl.connectome.names.labels import LabelTable, read_labels
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import ConnectomeTLError, DataError, InternalError
from connectome_tl.workflows.data.cohort import check_cohort
from connectome_tl.workflows.data.convert import convert_folder

NAMES = ("thalamus_L", "thalamus_R", "putamen_L", "putamen_R", "caudate_L", "caudate_R")
N_MUTANTS = 1_000
TABLES = ("participants.tsv", "participants.json", "redcap.csv", "sub-0_image_qc.tsv", "sub-0_qc.json")
HOSTILE = (
    b"<img onerror=alert(1)>",
    b"../../x",
    b"=cmd|' /C calc'!A0",
    b"\x00",
    b"\xff\xfe",
    b"1e999",
    b"nan",
    b"-inf",
    b'"',
    b"'",
    b"\t\t",
    b"\n\n",
    b"99999999999999999999",
    "\u202egnp.exe".encode(),
    b"${HOME}",
    b"{id}",
    b"!!python/object/apply:os.system ['touch pwned']",
)


def matrix() -> np.ndarray:
    values = np.round(np.random.default_rng(3).gamma(1, 10, (6, 6)), 3)
    upper = np.triu(values, 1)
    return upper + upper.T


def corpus(folder: Path) -> dict[str, Path]:
    """One small valid file of every kind."""
    m, names = matrix(), np.array(NAMES, dtype=object)
    text = "\n".join("\t".join(map(str, row)) for row in m) + "\n"
    files = {
        "relmat": folder / "a_meas-count_relmat.tsv",
        "text": folder / "a.csv",
        "qsiparc": folder / "b_connmatrix.csv",
        "qsirecon": folder / "c_connectivity.mat",
        "cmp3": folder / "d.mat",
        "conn": folder / "e.mat",
        "graphml": folder / "f.graphml",
        "npz": folder / "g.npz",
        "scilpy": folder / "h.npy",
        "mat": folder / "i.mat",
        "mat of version 7.3": folder / "j.mat",
        "hdf5": folder / "p.h5",
        "npy": folder / "k.npy",
        "mrtrix": folder / "l.csv",
        "dipy": folder / "m.txt",
        "series": folder / "n.tsv",
        "edges": folder / "o_connectivity.tsv",
        "labels": folder / "labels.tsv",
    }
    files["edges"].write_text(
        "source\ttarget\tcount\n" + "".join(f"{NAMES[i]}\t{NAMES[j]}\t{m[i, j]}\n" for i, j in np.argwhere(np.triu(m)))
    )
    series = np.random.default_rng(4).normal(size=(12, 6)).round(4)
    rows = ["\t".join(NAMES), *("\t".join(map(str, frame)) for frame in series)]
    files["series"].write_text("\n".join(rows) + "\n")
    savemat(files["mat"], {"SC": csc_array(m), "names": names})
    variables = {"SC": m, "names": names}
    hdf5storage.savemat(
        str(files["mat of version 7.3"]), variables, format="7.3", store_python_metadata=False, matlab_compatible=True
    )
    with h5py.File(files["hdf5"], "w") as hdf5:
        hdf5["sc"], hdf5["names"] = m, [name.encode() for name in NAMES]
    np.save(files["npy"], m)
    files["mrtrix"].write_text("\n".join(",".join(map(str, row)) for row in np.triu(m)) + "\n")
    files["dipy"].write_text("\n".join(" ".join(map(str, row)) for row in np.pad(m, (1, 0))) + "\n")
    files["relmat"].write_text("\t".join(NAMES) + "\n" + text)
    files["text"].write_text(
        ","
        + ",".join(NAMES)
        + "\n"
        + "\n".join(name + "," + ",".join(map(str, row)) for name, row in zip(NAMES, m, strict=True))
    )
    files["qsiparc"].write_text(text.replace("\t", ","))
    files["qsiparc"].with_suffix(".json").write_text(json.dumps({"region_labels": list(NAMES)}))
    savemat(files["qsirecon"], {"atlas_A_region_labels": names, "atlas_A_sift_count_connectivity": m})
    savemat(files["cmp3"], {"sc": {"fibers": m}, "nodes": {"dn_name": names}})
    savemat(files["conn"], {"Z": m, "names": names})
    graph = nx.Graph()
    for i, name in enumerate(NAMES):
        graph.add_node(i, name=name)
    for i, j in np.argwhere(np.triu(m)):
        graph.add_edge(int(i), int(j), count=float(m[i, j]))
    nx.write_graphml(graph, files["graphml"])
    np.savez(files["npz"], weights=m, regions=np.array(NAMES))
    np.save(files["scilpy"], m)
    (folder / "h_labels.txt").write_text("\n".join(NAMES))
    files["labels"].write_text("index\tname\n" + "".join(f"{i}\t{name}\n" for i, name in enumerate(NAMES, 1)))
    return files


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four faults: flipped, cut, repeated or exchanged bytes, hostile text, shuffled columns."""
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            return data
        at, end = sorted(int(x) for x in rng.integers(0, len(data) + 1, size=2))
        kind = int(rng.integers(7))
        if kind == 0:
            data = data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            data = data[:at] + HOSTILE[int(rng.integers(len(HOSTILE)))] + data[at:]
        elif kind == 3:
            data = data[:at] + data[end:]
        elif kind == 4:
            data = data[:end] + data[at:end] + data[end:]
        elif kind == 5:
            lines = data.split(b"\n")
            i, j = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
            lines[i], lines[j] = lines[j], lines[i]
            data = b"\n".join(lines)
        else:
            mark = b"\t" if b"\t" in data else b","
            lines = [line.split(mark) for line in data.split(b"\n")]
            i, j = int(rng.integers(len(lines[0]))), int(rng.integers(len(lines[0])))
            for line in lines:
                if max(i, j) < len(line):
                    line[i], line[j] = line[j], line[i]
            data = b"\n".join(mark.join(line) for line in lines)
    return data


def cohort_folder(folder: Path) -> dict[str, Path]:
    """A valid cohort of five, with every kind of column."""
    rows = ["participant_id\tpma\tga\tsex\tweight\tcog\tcog_status\tsite\tfamily"]
    rows += [
        f"sub-{i}\t{40 + i / 10}\t29+{i}\t{'FM'[i % 2]}\t{1000 + 10 * i}\t{80 + 5 * i}\tobserved\tA\tf{i // 2}"
        for i in range(5)
    ]
    rows[5] = "sub-4\t40,5\t30\tM\tn/a\tn/a\tdied\tB\t"
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "labels.tsv").write_text("name\n" + "\n".join(NAMES) + "\n")
    np.savez(folder / "all.npz", w=np.stack([matrix() * (i + 1) for i in range(5)]))
    dictionary = {"sex": {"Levels": {"F": "female", "M": "male"}}, "weight": {"Units": "g"}}
    (folder / "participants.json").write_text(json.dumps(dictionary))
    redcap = "record_id,event,steroids\n" + "".join(f'sub-{i},a,"{i % 2}"\nsub-{i},b,\n' for i in range(5))
    (folder / "redcap.csv").write_text(redcap)
    (folder / "sub-0_image_qc.tsv").write_text("subject_id\tmean_fd\n0\t0.2\n")
    (folder / "sub-0_qc.json").write_text(json.dumps({"qc_mot_abs": 0.3, "qc_cnr_avg": [20.5, 1.2]}))
    settings = {
        "participants": "participants.tsv",
        "tables": [
            {"file": "redcap.csv", "select": "event == 'a'", "columns": ["steroids"]},
            {"file": "sub-{id}_image_qc.tsv", "columns": ["mean_fd"]},
            {"file": "sub-{id}_qc.json"},
        ],
        "exclude": [{"when": "mean_fd > 1 or qc_cnr_avg_1 < 10", "reason": "quality", "unknown": "keep"}],
        "age": {"column": "pma", "unit": "weeks", "reference": "postmenstrual"},
        "gestational_age": {"column": "ga", "unit": "weeks"},
        "site": "site",
        "family": "family",
        "select": "pma > 30 and sex in ['F', 'M']",
        "covariates": [{"column": "sex", "type": "categorical"}, {"column": "weight", "unit": "g"}],
        "outcomes": [
            {"name": "cog", "column": "cog", "kind": "binary", "operator": "<", "cutoff": 85}
            | {"status": {"column": "cog_status", "died": "positive"}}
        ],
        "connectomes": {"stack": "all.npz", "rows": "participants.tsv", "labels": "labels.tsv", "transform": "log1p"},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    read_cohort(folder / "cohort.yaml")
    return {name: folder / name for name in (*TABLES, "labels.tsv", "all.npz", "cohort.yaml")}


def outcome(run: Callable[[], object]) -> str:
    """`read`, or the kind of the typed error; any other exception is a bug and is raised."""
    try:
        run()
    except InternalError:
        raise
    except ConnectomeTLError as error:
        typed = error
    else:
        return "read"
    assert str(typed)
    assert typed.exit_code in (64, 65, 66, 74)
    return type(typed).__name__


KNOWN = LabelTable(NAMES, tuple(range(1, 7)))
BARE = {"mat", "npy", "mrtrix", "dipy"}


def read_as_connectome(path: Path, kind: str) -> None:
    kind = "mat" if kind.startswith("mat ") else kind
    known = RowNames(table=KNOWN) if kind in BARE else RowNames()
    connectome = connectome_from(read_matrix(path, format=kind), known, measures=("count",), file=path)
    assert np.isfinite(connectome.weights).all()
    np.testing.assert_array_equal(connectome.weights, connectome.weights.swapaxes(1, 2))
    assert len(set(connectome.regions)) == connectome.n_regions


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_damaged_files_give_a_typed_error_or_a_usable_result(tmp_path: Path, part: int) -> None:
    rng = np.random.default_rng([20, part])
    folder = tmp_path / "in"
    folder.mkdir()
    files = corpus(folder)
    cohort_path = tmp_path / "cohort"
    cohort_path.mkdir()
    cohort_files = cohort_folder(cohort_path)
    healthy = {path: path.read_bytes() for path in (*files.values(), *cohort_files.values())}
    before = sorted(path.as_posix() for path in tmp_path.rglob("*"))
    results: Counter[str] = Counter()
    kinds = [*files, *cohort_files]
    for mutant in range(N_MUTANTS // 4):
        kind = kinds[mutant % len(kinds)]
        path = files.get(kind) or cohort_files[kind]
        path.write_bytes(damaged(healthy[path], rng))
        if kind in cohort_files:
            found = outcome(lambda: read_cohort(cohort_path / "cohort.yaml"))
        elif kind == "labels":
            found = outcome(lambda path=path: read_labels(path))  # type: ignore[misc]
        else:
            found = outcome(lambda path=path, kind=kind: read_as_connectome(path, kind))  # type: ignore[misc]
        results[found] += 1
        path.write_bytes(healthy[path])
    assert sorted(path.as_posix() for path in tmp_path.rglob("*")) == before
    # A test in which nothing is damaged, or everything rejected, would prove nothing.
    assert results["DataError"] > 50
    assert results["read"] > 10
    assert {known.name for known in FORMATS} <= set(files)


def test_hostile_names_write_nothing_outside_the_output_folder(tmp_path: Path) -> None:
    """With the command: names, measures, ids and atlases that look like paths, mark-up or formulas."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    m = matrix()
    hostile = ["<img onerror=alert(1)>", "../../x", "=1+1", "a/b", "${HOME}", "'; rm -rf /"]
    cells = np.array(hostile, dtype=object)
    for i, name in enumerate(("..", "../../evil", "a b", "<script>")):
        key = f"atlas_{name}_{hostile[i]}_connectivity"
        variables = {f"atlas_{name}_region_labels": cells, key: m}
        savemat(source / f"s{i}_connectivity.mat", variables, long_field_names=True)
    nx.write_graphml(nx.relabel_nodes(nx.from_numpy_array(m), dict(enumerate(hostile))), source / "sub-..x.graphml")
    before = {path: path.read_bytes() for path in source.iterdir()}
    made = convert_folder(source, out)
    assert len(made) == 5
    assert all(path.parent == out for path in made)
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    ids = "".join(f"{name}\t40\n" for name in ("../../x", "a/b", ".."))
    (source / "participants.tsv").write_text("participant_id\tpma\n" + ids)
    (source / "cohort.yaml").write_text("participants: participants.tsv\n")
    with pytest.raises(DataError, match="file name"):
        check_cohort(source / "cohort.yaml", out / "page.html")
    assert not (out / "page.html").exists()
