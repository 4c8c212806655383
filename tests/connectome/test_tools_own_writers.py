"""Files written step by step as by each tool: by its own writer if installed, otherwise by the same calls.

QSIRecon: savemat per measure, loadmat, merged, savemat compressed. XCP-D and giga_connectome: pandas.
Connectome Mapper 3: a networkx graph to a structure of arrays and to GraphML. dipy and tck2connectome: themselves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import read_matrix, recognised
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import DataError

ATLAS = load_atlas("aal90")
NAMES = ATLAS.names


def symmetric(n: int = 90, seed: int = 0) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).gamma(1.0, 9.0, (n, n)), 1)
    return upper + upper.T


def read(path: Path, *, format: str = "auto") -> Connectome:
    return connectome_from(read_matrix(path, format=format), RowNames(atlas=ATLAS), measures=("weight",), file=path)


def qsirecon(folder: Path, atlases: dict[str, tuple[pd.DataFrame, dict[str, np.ndarray]]]) -> Path:
    merged: dict[str, Any] = {}
    for atlas, (table, measures) in atlases.items():
        for measure, matrix in measures.items():
            one = {
                f"atlas_{atlas}_region_ids": table["index"].to_numpy(),
                f"atlas_{atlas}_region_labels": table["label"].to_numpy(dtype=object),
                f"atlas_{atlas}_{measure}_connectivity": matrix,
                "command": "tck2connectome in.tck in.mif connectome.csv -assignment_radial_search 2.0 -symmetric",
            }
            savemat(folder / "part.mat", one, long_field_names=True)
            merged |= {key: value for key, value in loadmat(folder / "part.mat").items() if not key.startswith("__")}
    (folder / "part.mat").unlink()
    path = folder / "sub-1_ses-1_space-ACPC_connectivity.mat"
    savemat(path, merged, long_field_names=True, do_compression=True)
    return path


def table(labels: np.ndarray, names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    return pd.DataFrame({"index": labels, "label": list(names)})


def test_qsirecon_with_several_atlases_and_measures(tmp_path: Path) -> None:
    counts, lengths, small = symmetric(seed=1), symmetric(seed=2), symmetric(3)
    two = {"radius2_count": counts, "sift_invnodevol_radius2_count": lengths}
    path = qsirecon(
        tmp_path,
        {"AAL90": (table(np.arange(1, 91)), two), "Tiny": (table(np.arange(1, 4), ("a", "b", "c")), {"count": small})},
    )
    (tmp_path / "sub-1_ses-1_space-ACPC_model-sift2_mu.txt").write_text("0.5\n")
    found = read(path, format="qsirecon:AAL90")
    by_measure = dict(zip(found.measures, found.weights, strict=True))
    np.testing.assert_array_equal(by_measure["radius2_count"], counts)
    np.testing.assert_allclose(by_measure["sift_invnodevol_radius2_count"], lengths * 0.5, rtol=1e-15)
    assert read_matrix(path, format="qsirecon:Tiny").names == ("a", "b", "c")


def test_qsirecon_rows_go_by_label_and_names_by_table(tmp_path: Path) -> None:
    """An atlas whose labels have gaps, in a table that is not sorted: row k of the matrix is label k."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.sort(rng.choice(np.arange(1, 120), 90, replace=False)))
    labels[labels == labels.max()] = 119
    wanted = symmetric()
    matrix = np.zeros((119, 119))
    matrix[np.ix_(labels - 1, labels - 1)] = wanted
    path = qsirecon(tmp_path, {"AAL90": (table(labels), {"radius2_count": matrix})})
    np.testing.assert_array_equal(read(path).weights[0], wanted)
    path = qsirecon(tmp_path, {"AAL90": (table(labels), {"radius2_count": matrix[:90, :90]})})
    with pytest.raises(DataError, match="largest label"):
        read(path)


def test_xcpd(tmp_path: Path) -> None:
    """A region that was not covered is NaN in the time series, and so is its row."""
    series = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 90)), columns=list(NAMES))
    series[NAMES[7]] = np.nan
    correlations = series.corr()
    path = tmp_path / "sub-1_task-rest_space-MNI152NLin2009cAsym_seg-AAL_stat-pearsoncorrelation_relmat.tsv"
    correlations.to_csv(path, sep="\t", na_rep="n/a", index_label="Node")
    found = read(path)
    assert np.flatnonzero(~found.node_mask).tolist() == [7]
    assert found.measures == ("pearsoncorrelation",)
    np.testing.assert_allclose(found.weights[0], correlations.fillna(0.0).to_numpy(), rtol=0, atol=1e-15)
    older = tmp_path / "sub-1_task-rest_space-MNI_atlas-AAL_measure-pearsoncorrelation_conmat.tsv"
    correlations.to_csv(older, sep="\t", na_rep="n/a", index_label="Node")
    np.testing.assert_array_equal(read(older).weights, found.weights)


def test_giga_connectome_numbers_its_columns_and_goes_by_label(tmp_path: Path) -> None:
    """nilearn's masker sorts by label; for an atlas listed otherwise the rows must not be taken in table order."""
    newborn = load_atlas("unc_aal90")
    matrix = symmetric().astype(np.float32)
    path = tmp_path / "sub-1_task-rest_seg-UNCAAL_meas-PearsonCorrelation_desc-denoiseSimple_relmat.tsv"
    pd.DataFrame(matrix).to_csv(path, sep="\t", index=False)
    found = connectome_from(read_matrix(path), RowNames(atlas=newborn), file=path)
    by_label = newborn.label_order
    np.testing.assert_array_equal(found.weights[0][np.ix_(by_label, by_label)].astype(np.float32), matrix)
    pd.DataFrame(matrix[:-1, :-1]).to_csv(path, sep="\t", index=False)  # the mask lost a region
    with pytest.raises(DataError, match="differ in size"):
        connectome_from(read_matrix(path), RowNames(atlas=newborn), file=path)


def mapper_graph(matrix: np.ndarray) -> nx.Graph:
    graph = nx.Graph()
    for i, name in enumerate(NAMES, 1):
        place = (float(i), 2.0, 3.0)
        graph.add_node(i, dn_multiscaleID=i, dn_fsname=name, dn_hemisphere="left", dn_name=name, dn_position=place)
    for i, j in np.argwhere(np.triu(matrix)).tolist():
        value = float(matrix[i, j])
        graph.add_edge(i + 1, j + 1, number_of_fibers=value, fiber_density=value / 2)
    return graph


def test_connectome_mapper_mat_and_graphml(tmp_path: Path) -> None:
    matrix = symmetric()
    graph = mapper_graph(matrix)
    nodes: dict[str, np.ndarray] = {}
    for key in ("dn_multiscaleID", "dn_fsname", "dn_hemisphere", "dn_name", "dn_position"):
        nodes[key] = np.zeros((90, 3)) if key == "dn_position" else np.zeros(90, dtype=object)
        for row, (_, data) in enumerate(graph.nodes(data=True)):
            nodes[key][row] = data[key]
    edges = {key: nx.to_numpy_array(graph, weight=key) for key in ("number_of_fibers", "fiber_density")}
    mat = tmp_path / "sub-1_atlas-L2018_res-scale1_conndata-network_connectivity.mat"
    savemat(mat, mdict={"sc": edges, "nodes": nodes}, long_field_names=True)
    assert recognised(mat).name == "cmp3"
    graphml = mat.with_suffix(".graphml")
    for _, data in graph.nodes(data=True):
        for axis, value in zip("xyz", data.pop("dn_position"), strict=True):
            data[f"dn_position_{axis}"] = value
    nx.write_graphml(graph, graphml)
    for path in (mat, graphml):
        found = read(path)
        np.testing.assert_array_equal(found.weights[found.measures.index("number_of_fibers")], matrix)
        np.testing.assert_array_equal(found.weights[found.measures.index("fiber_density")], matrix / 2)


def test_dipys_connectivity_matrix(tmp_path: Path) -> None:
    """dipy includes label 0, and the size of its matrix is the largest label."""
    from dipy.tracking.utils import connectivity_matrix

    rng = np.random.default_rng(5)
    labels = np.zeros((100, 4, 4), dtype=np.int64)
    labels[np.arange(1, 91), :, :] = np.arange(1, 91)[:, None, None]
    ends = rng.integers(0, 91, size=(4_000, 2))
    ends[:90] = np.column_stack([np.arange(1, 91), np.roll(np.arange(1, 91), 1)])
    streamlines = [np.array([[a, 1.0, 1.0], [b, 2.0, 2.0]]) for a, b in ends]
    matrix = connectivity_matrix(streamlines, np.eye(4), labels, inclusive=False, symmetric=True)
    np.save(tmp_path / "dipy.npy", matrix)
    found = read(tmp_path / "dipy.npy", format="dipy")
    np.testing.assert_array_equal(found.weights[0], matrix[1:, 1:])
    assert found.node_mask.all()


def test_scilpys_array_with_its_list_of_labels(tmp_path: Path) -> None:
    """scil_connectivity_compute_matrices: `np.save` per metric, and the labels by `np.savetxt(fmt='%i')`."""
    matrix = symmetric()
    np.save(tmp_path / "sc.npy", matrix)
    np.savetxt(tmp_path / "sc_labels.txt", np.arange(1, 91), fmt="%i")
    np.testing.assert_array_equal(read(tmp_path / "sc.npy").weights[0], matrix)


@pytest.mark.mrtrix
def test_qsiparc_by_tck2connectome(tmp_path: Path, shared_data: Path) -> None:
    """qsiparc runs `tck2connectome` with these options and writes the names of its table with the matrix."""
    if shutil.which("tck2connectome") is None:
        pytest.skip("MRtrix3 is not installed")
    folder = shared_data / "tractseg_peaks"
    names = [f"r{i:03d}" for i in range(1, 121)]
    out = tmp_path / "sub-1_ses-1_model-ifod2_atlas-AAL_desc-radius2_count_connmatrix.csv"
    command = ["tck2connectome", str(folder / "fact_4000.tck"), str(folder / "aal_nodes_approx.nii.gz"), str(out)]
    options = ["-assignment_radial_search", "2", "-symmetric", "-stat_edge", "sum", "-quiet"]
    subprocess.run([*command, *options], check=True)
    said = {"atlas_name": "AAL", "measure": "radius2_count", "n_regions": 120, "region_labels": names}
    out.with_suffix(".json").write_text(json.dumps(said, indent=2))
    found = connectome_from(read_matrix(out), RowNames(), file=out)
    assert found.regions == tuple(names)
    assert found.measures == ("radius2_count",)
    out.with_suffix(".json").write_text(json.dumps(said | {"n_regions": 121, "region_labels": [*names, "lost"]}))
    with pytest.raises(DataError, match="differ in size"):
        connectome_from(read_matrix(out), RowNames(), file=out)
