"""Numbers that count the rows from 0 or 1, with regions absent, shift no region; the order of rows stays checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.naming import RowNames, lined_up
from connectome_tl.connectome.names.row_order import check_row_order
from connectome_tl.errors import DataError
from connectome_tl.workflows.data.convert import convert_file

ATLAS = load_atlas("schaefer100")
KNOWN = RowNames(ATLAS)


def near_is_strong(name: str = "schaefer100") -> np.ndarray:
    at = load_atlas(name).coordinates
    matrix = np.round(1000 * np.exp(-np.linalg.norm(at[:, None] - at[None], axis=-1) / 40))
    np.fill_diagonal(matrix, 0)
    return matrix


MATRIX = near_is_strong()


def isolated(region: int) -> nx.Graph:
    graph = nx.from_numpy_array(MATRIX)
    graph.remove_node(region)
    return graph


def written(folder: Path, kind: str, region: int) -> tuple[Path, str]:
    """Files of pandas and networkx, which count from 0, without one region."""
    path = folder / f"m.{kind}"
    keep = [i for i in range(100) if i != region]
    if kind == "graphml":
        nx.write_graphml(isolated(region), path)
    elif kind == "edges.csv":
        nx.to_pandas_edgelist(isolated(region)).to_csv(path, index=False)
    elif kind == "npz":
        np.savez(path, m=MATRIX[np.ix_(keep, keep)], node_ids=np.array(keep))
    elif kind == "series.csv":
        root = np.linalg.cholesky(MATRIX / 1000 + 3 * np.eye(100))
        series = np.random.default_rng(0).normal(size=(1000, 100)) @ root.T
        pd.DataFrame(series)[keep].to_csv(path, index=False)
        return path, "series"
    else:
        pd.DataFrame(MATRIX).loc[keep, keep].to_csv(path)
    return path, "auto"


@pytest.mark.parametrize("region", [0, 50])
@pytest.mark.parametrize("kind", ["graphml", "edges.csv", "csv", "npz", "series.csv"])
def test_positions_from_zero_with_a_region_absent_are_not_label_numbers(tmp_path: Path, kind: str, region: int) -> None:
    path, format = written(tmp_path, kind, region)
    if kind == "series.csv" and region == 0:  # 1 to n without the last one are positions in a series
        with pytest.raises(DataError, match="size"):
            convert_file(path, tmp_path / "o.tsv", atlas="schaefer100", format=format)
        return
    with pytest.raises(DataError, match=r"from 0|from another origin"):
        convert_file(path, tmp_path / "o.tsv", atlas="schaefer100", format=format)


@pytest.mark.parametrize("absent", [3, 99])
def test_label_numbers_with_a_region_absent_are_read(tmp_path: Path, absent: int) -> None:
    numbers = [i + 1 for i in range(100) if i != absent]
    at = np.array(numbers) - 1
    pd.DataFrame(MATRIX[np.ix_(at, at)], index=numbers, columns=numbers).to_csv(tmp_path / "m.csv")
    convert_file(tmp_path / "m.csv", tmp_path / "o.tsv", atlas="schaefer100")
    found, _ = lined_up(read_matrix(tmp_path / "m.csv"), KNOWN, measures=("x",))
    np.testing.assert_array_equal(found.weights[0][np.ix_(at, at)], MATRIX[np.ix_(at, at)])
    assert np.flatnonzero(~found.node_mask).tolist() == [absent]


def test_where_edge_weights_do_not_show_the_origin_that_is_said(tmp_path: Path) -> None:
    noise = np.triu(np.random.default_rng(0).integers(1, 99, (99, 99)), 1)
    pd.DataFrame(noise + noise.T, index=range(1, 100), columns=range(1, 100)).to_csv(tmp_path / "m.csv")
    said: list[str] = []
    convert_file(tmp_path / "m.csv", tmp_path / "o.tsv", atlas="schaefer100", say=said.append)
    assert "positions from 0" in " ".join(said)


def test_without_names_a_row_of_number_0_is_not_dropped_in_silence(tmp_path: Path) -> None:
    numbers = [0, 1, 3, 4]
    values = np.ones((4, 4)) - np.eye(4)
    pd.DataFrame(values, index=numbers, columns=numbers).to_csv(tmp_path / "m.csv")
    with pytest.raises(DataError, match="positions from 0"):
        lined_up(read_matrix(tmp_path / "m.csv"), RowNames(count_only=True), measures=("x",))


@pytest.mark.parametrize("half", ["full", "upper", "lower"])
@pytest.mark.parametrize("lost", [(), (7, 30)])
def test_missing_regions_and_triangles_do_not_switch_off_the_check_of_the_order(
    half: str, lost: tuple[int, ...]
) -> None:
    atlas = load_atlas("aal90")
    matrix = near_is_strong("aal90")
    matrix[list(lost)], matrix[:, list(lost)] = np.nan, np.nan
    turn = np.lexsort((np.arange(90), np.array([region.hemisphere for region in atlas.regions])))
    cut: Any = {"full": np.array, "upper": np.triu, "lower": np.tril}[half]
    layout = "full" if half == "full" else half
    right, wrong = cut(matrix), cut(matrix[np.ix_(turn, turn)])
    assert check_row_order(right, atlas.names, RowNames(atlas), "m", layout=layout) == ""  # type: ignore[arg-type]
    with pytest.raises(DataError, match="left hemisphere"):
        check_row_order(wrong, atlas.names, RowNames(atlas), "m", layout=layout)  # type: ignore[arg-type]


@pytest.mark.parametrize("stem", ["ROI_", "roi", "Region_", "node"])
def test_a_header_that_counts_regions_is_no_edge_list(tmp_path: Path, stem: str) -> None:
    names = [f"{stem}{i}" for i in range(1, 101)]
    pd.DataFrame(MATRIX, columns=names).to_csv(tmp_path / "m.csv", index=False)
    found, _ = lined_up(read_matrix(tmp_path / "m.csv"), RowNames(), measures=("x",))
    assert found.regions == tuple(names)
    np.testing.assert_array_equal(found.weights[0], MATRIX)


@pytest.mark.parametrize("stem", ["ROI_", "Region", "parcel-0"])
@pytest.mark.parametrize("numbers", ["from 0", "from 1", "labels", "one absent"])
def test_names_that_count_regions_are_positions_or_label_numbers(tmp_path: Path, stem: str, numbers: str) -> None:
    atlas = load_atlas("dk68")
    kept = np.delete(np.arange(68), 5) if numbers == "one absent" else np.arange(68)
    counted = {"from 0": range(68), "from 1": range(1, 69)}.get(numbers, [atlas.regions[i].index for i in kept])
    matrix = near_is_strong("dk68")
    names = [f"{stem}{number}" for number in counted]
    pd.DataFrame(matrix[np.ix_(kept, kept)], index=names, columns=names).to_csv(tmp_path / "m.csv")
    found, rows = lined_up(read_matrix(tmp_path / "m.csv"), RowNames(atlas), measures=("x",))
    np.testing.assert_array_equal(found.weights[0][np.ix_(kept, kept)], matrix[np.ix_(kept, kept)])
    assert found.node_mask.sum() == len(kept)
    assert rows.assumed == numbers.startswith("from")
    assert f"{stem}{counted[0]} to" in rows.notes[0]
