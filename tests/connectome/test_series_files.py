"""Time series in the formats of XCP-D, giga_connectome and ABIDE give the connectome that nilearn computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nilearn.connectome import ConnectivityMeasure

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.names.naming import RowNames, connectome_from
from connectome_tl.errors import DataError, UsageError
from connectome_tl.workflows.data.convert import convert_file

ATLAS = load_atlas("aal116")
SERIES = np.random.default_rng(0).normal(size=(60, 116)).cumsum(axis=0)
KINDS = {"correlation": "correlation", "partial": "partial correlation", "covariance": "covariance"}


def read(path: Path, kind: str = "correlation") -> Connectome:
    matrix = read_matrix(path, format=f"series:{kind}")
    return connectome_from(matrix, RowNames(atlas=ATLAS), measures=("x",), file=path)


def nilearns(kind: str = "correlation") -> np.ndarray:
    """Of standardised series, so that shrinkage does not depend on the unit; a covariance keeps its units."""
    series = SERIES if kind == "covariance" else (SERIES - SERIES.mean(axis=0)) / SERIES.std(axis=0)
    return ConnectivityMeasure(kind=KINDS[kind], standardize=True).fit_transform([series])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_table_is_nilearns_connectome(tmp_path: Path, kind: str) -> None:
    """Columns in another order are aligned by name; a region without signal is missing."""
    turn = np.random.default_rng(1).permutation(116)
    table = pd.DataFrame(SERIES[:, turn], columns=[ATLAS.names[i] for i in turn])
    table.to_csv(tmp_path / "sub-1_timeseries.tsv", sep="\t", na_rep="n/a", index=False)
    found = read(tmp_path / "sub-1_timeseries.tsv", kind)
    assert found.measures == (KINDS[kind].replace(" ", "_"),)
    np.testing.assert_allclose(found.weights[0], nilearns(kind), atol=1e-8)
    table[ATLAS.names[3]] = np.nan
    table.to_csv(tmp_path / "gap.tsv", sep="\t", na_rep="n/a", index=False)
    assert np.flatnonzero(~read(tmp_path / "gap.tsv").node_mask).tolist() == [3]


# Column numbers in ABIDE's files are those of the AAL toolbox (pairs of sides, and the vermis).
PAIRS = [
    int(pair)
    for line in (
        "2000 2100 2110 2200 2210 2300 2310 2320 2330 2400 2500 2600 2610 2700",
        "3000 4000 4010 4020 4100 4110 4200 5000 5010 5020 5100 5200 5300 5400",
        "6000 6100 6200 6210 6220 6300 6400 7000 7010 7020 7100 8100 8110 8120",
        "8200 8210 8300 9000 9010 9020 9030 9040 9050 9060 9070 9080",
    )
    for pair in line.split()
]
TOOLBOX = [pair + side for pair in PAIRS for side in (1, 2)] + list(range(9100, 9180, 10))


def abide(path: Path, numbers: list[int], series: np.ndarray) -> Path:
    lines = ["\t".join(f"#{number}" for number in numbers)]
    lines += ["\t".join(f"{value:.6f}" for value in frame) for frame in series]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_abides_1d_file_goes_by_the_toolboxs_numbers(tmp_path: Path) -> None:
    """Numbers, not positions, identify the region of a column: in any order, and with missing columns."""
    turn = np.random.default_rng(2).permutation(116)
    for order in (np.arange(116), turn):
        path = abide(tmp_path / "s_rois_aal.1D", [TOOLBOX[i] for i in order], SERIES[:, order])
        np.testing.assert_allclose(read(path).weights[0], nilearns(), atol=1e-4)
    fewer = np.delete(np.arange(116), 5)
    found = read(abide(tmp_path / "s_rois_aal.1D", [TOOLBOX[i] for i in fewer], SERIES[:, fewer]))
    assert np.flatnonzero(~found.node_mask).tolist() == [5]
    for wrong in ([9999, *TOOLBOX[1:]], list(range(2001, 2117))):
        with pytest.raises(DataError, match="not in atlas aal116"):
            read(abide(tmp_path / "s_rois_aal.1D", wrong, SERIES))


def test_headings_behind_a_comment_mark_and_counted_frames(tmp_path: Path) -> None:
    turn = np.random.default_rng(3).permutation(116)
    names = [ATLAS.names[i] for i in turn]
    np.savetxt(tmp_path / "a.txt", SERIES[:, turn], header=" ".join(names))
    numbers = "# " + " ".join(str(TOOLBOX[i]) for i in turn)
    frames = "\n".join(" ".join(map(str, frame)) for frame in SERIES[:, turn])
    (tmp_path / "b.1D").write_text(f"# made by a tool\n{numbers}\n{frames}\n")
    pd.DataFrame(SERIES[:, turn], columns=names).to_csv(tmp_path / "c.csv")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(read(path).weights[0], nilearns(), atol=1e-8)


def test_numbered_columns_and_arrays_need_the_right_number_of_regions(tmp_path: Path) -> None:
    pd.DataFrame(SERIES).to_csv(tmp_path / "giga.tsv", sep="\t", index=False)
    np.save(tmp_path / "x.npy", SERIES)
    for name in ("giga.tsv", "x.npy"):
        np.testing.assert_allclose(read(tmp_path / name).weights[0], nilearns(), atol=1e-8)
    np.save(tmp_path / "x.npy", SERIES[:, :-1])
    with pytest.raises(DataError, match="differ in size"):
        read(tmp_path / "x.npy")


@pytest.mark.parametrize(("text", "said"), [("a\tb\n1\t2\n3\n", "line 3"), ("a\tb\n1\tx\n", "is text"), ("", "empty")])
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


@pytest.mark.parametrize(
    "options",
    [{"sep": ";", "decimal": ","}, {"index_label": "frame"}, {"index_label": "t", "sep": "\t"}, {"header": False}],
)
def test_separators_and_a_column_of_times_do_not_matter(tmp_path: Path, options: dict) -> None:
    frame = pd.DataFrame(SERIES, columns=list(ATLAS.names), index=np.arange(60) * 0.72)
    frame.to_csv(tmp_path / "x.csv", **options)
    np.testing.assert_allclose(read(tmp_path / "x.csv").weights[0], nilearns(), atol=1e-8)


def test_regions_in_rows_are_named_as_the_cause(tmp_path: Path) -> None:
    frames = pd.DataFrame(np.random.default_rng(0).normal(size=(116, 200)), index=list(ATLAS.names))
    frames.to_csv(tmp_path / "named.csv")
    np.save(tmp_path / "bare.npy", frames.to_numpy())
    for name in ("named.csv", "bare.npy"):
        with pytest.raises(DataError, match="transpose"):
            read(tmp_path / name)
