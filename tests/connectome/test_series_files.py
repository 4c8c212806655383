"""Time series as XCP-D, giga_connectome and ABIDE write them become the connectome that nilearn makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nilearn.connectome import ConnectivityMeasure

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.naming import RowNames, connectome_from
from connectome_tl.errors import DataError, UsageError
from connectome_tl.workflows.convert import convert_file

ATLAS = load_atlas("aal116")
SERIES = np.random.default_rng(0).normal(size=(60, 116)).cumsum(axis=0)
KINDS = {"correlation": "correlation", "partial": "partial correlation", "covariance": "covariance"}


def read(path: Path, kind: str = "correlation") -> Connectome:
    matrix = read_matrix(path, format=f"series:{kind}")
    return connectome_from(matrix, RowNames(atlas=ATLAS), measures=("x",), file=path)


def nilearns(kind: str = "correlation") -> np.ndarray:
    return ConnectivityMeasure(kind=KINDS[kind], standardize=True).fit_transform([SERIES])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_table_is_nilearns_connectome(tmp_path: Path, kind: str) -> None:
    """Columns in another order are lined up by name; a region without signal is missing."""
    turn = np.random.default_rng(1).permutation(116)
    table = pd.DataFrame(SERIES[:, turn], columns=[ATLAS.names[i] for i in turn])
    table.to_csv(tmp_path / "sub-1_timeseries.tsv", sep="\t", na_rep="n/a", index=False)
    found = read(tmp_path / "sub-1_timeseries.tsv", kind)
    assert found.measures == (KINDS[kind].replace(" ", "_"),)
    np.testing.assert_allclose(found.weights[0], nilearns(kind), atol=1e-8)
    table[ATLAS.names[3]] = np.nan
    table.to_csv(tmp_path / "gap.tsv", sep="\t", na_rep="n/a", index=False)
    assert np.flatnonzero(~read(tmp_path / "gap.tsv").node_mask).tolist() == [3]


def test_abides_1d_file_goes_by_the_toolboxs_numbers(tmp_path: Path) -> None:
    header = "\t".join(f"#{number}" for number in range(2001, 2001 + 116))
    lines = [header, *("\t".join(f"{value:.6f}" for value in frame) for frame in SERIES)]
    (tmp_path / "s_rois_aal.1D").write_text("\n".join(lines) + "\n")
    np.testing.assert_allclose(read(tmp_path / "s_rois_aal.1D").weights[0], nilearns(), atol=1e-4)
    lines[0] = header.replace("#2001", "#9999")
    (tmp_path / "s_rois_aal.1D").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="do not rise"):
        read(tmp_path / "s_rois_aal.1D")


def test_numbered_columns_and_arrays_need_the_right_number_of_regions(tmp_path: Path) -> None:
    pd.DataFrame(SERIES).to_csv(tmp_path / "giga.tsv", sep="\t", index=False)
    np.save(tmp_path / "x.npy", SERIES)
    for name in ("giga.tsv", "x.npy"):
        np.testing.assert_allclose(read(tmp_path / name).weights[0], nilearns(), atol=1e-8)
    np.save(tmp_path / "x.npy", SERIES[:, :-1])
    with pytest.raises(DataError, match="differ in size"):
        read(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("text", "said"), [("a\tb\n1\t2\n3\n", "line 3"), ("a\tb\n1\tx\n", "text where"), ("", "empty")]
)
def test_damaged_series_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_matrix(tmp_path / "x.tsv", format="series")
    with pytest.raises(UsageError, match="partial"):
        read_matrix(tmp_path / "x.tsv", format="series:tangent")


def test_convert_makes_a_connectome_of_series(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SERIES)
    (made,) = convert_file(tmp_path / "x.npy", tmp_path / "x_relmat.tsv", format="series:partial", atlas="aal116")
    np.testing.assert_allclose(read_matrix(made).values[0], nilearns("partial"), atol=1e-8)
