"""Tables of regional measures: as node features, and as the similarity networks of a cohort without diffusion MRI."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import zscore

from connectome_tl.atlas import load_atlas
from connectome_tl.errors import ConnectomeTLError
from tests.cohort.conftest import OnDisk

NAMES = ("thickness", "volume", "fa", "md")
REGIONS = load_atlas("dk68").names
VALUES = np.random.default_rng(0).normal(size=(6, 68, 4)) * [1, 1000, 0.1, 1e-3] + [3, 5000, 0.2, 1e-3]


def wide(on_disk: OnDisk, values: np.ndarray = VALUES, *, order: np.ndarray | None = None, extra: str = "") -> None:
    """One row per subject, columns `{region}_{name}`, subjects in another order than the participants."""
    at = np.arange(68) if order is None else order
    header = ["", *(f"{REGIONS[r]}_{name}" for name in NAMES for r in at), *([extra] if extra else [])]
    rows = [
        [f"sub-{i + 1:02d}", *(repr(float(values[i, r, k])) for k in range(4) for r in at), *(["1"] if extra else [])]
        for i in reversed(range(6))
    ]
    (on_disk.folder / "regional.tsv").write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n")
    on_disk.matrices = {}
    on_disk.settings["region_features"] = {"table": "regional.tsv", "columns": "{region}_{name}", "names": list(NAMES)}
    on_disk.settings["connectomes"] = {"network": "similarity", "atlas": "dk68"}


def similarity(values: np.ndarray) -> np.ndarray:
    """The published network by scipy and numpy: correlation of measures that are standardised over regions."""
    matrix = np.corrcoef(zscore(values, axis=0))
    np.fill_diagonal(matrix, 0)
    return matrix


def test_a_wide_table_gives_networks_and_node_features(on_disk: OnDisk) -> None:
    wide(on_disk)
    cohort = on_disk.read()
    assert (cohort.measures, cohort.atlas, cohort.regions) == (("morphometric_similarity",), "dk68", REGIONS)
    np.testing.assert_array_equal(cohort.region_features, VALUES)
    assert cohort.region_feature_names == NAMES
    for i in range(6):
        np.testing.assert_allclose(cohort.weights[i, 0], similarity(VALUES[i]), atol=1e-6)


def test_regions_are_matched_by_name_and_totals_left_out(on_disk: OnDisk) -> None:
    wide(on_disk)
    straight = on_disk.read()
    wide(on_disk, order=np.random.default_rng(1).permutation(68), extra="lh_MeanThickness_thickness")
    shuffled = on_disk.read()
    np.testing.assert_array_equal(shuffled.weights, straight.weights)
    np.testing.assert_array_equal(shuffled.region_features, straight.region_features)
    assert any("lh_MeanThickness" in note for note in shuffled.notes)


def test_without_an_atlas_the_table_names_the_regions(on_disk: OnDisk) -> None:
    wide(on_disk)
    del on_disk.settings["connectomes"]["atlas"]
    cohort = on_disk.read()
    assert cohort.regions == REGIONS
    assert cohort.atlas == "regional"


def test_one_table_per_measure_is_lined_up_by_subject(on_disk: OnDisk) -> None:
    wide(on_disk)
    expected = on_disk.read()
    for k, name in enumerate(NAMES):
        order = np.random.default_rng(k).permutation(6)
        lines = [",".join(["id", *REGIONS])]
        lines += [",".join([f"sub-{i + 1:02d}", *map(repr, VALUES[i, :, k].tolist())]) for i in order]
        (on_disk.folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    on_disk.settings["region_features"] |= {"table": "{name}.csv", "columns": "{region}"}
    np.testing.assert_array_equal(on_disk.read().weights, expected.weights)


def test_tables_of_single_subjects_give_the_same_networks(on_disk: OnDisk) -> None:
    wide(on_disk)
    expected = on_disk.read()
    for i, values in enumerate(VALUES):
        rows = ["\t".join([region, *map(repr, row.tolist())]) for region, row in zip(REGIONS, values, strict=True)]
        (on_disk.folder / f"sub-{i + 1:02d}_features.tsv").write_text("\n".join(["\t".join(["name", *NAMES]), *rows]))
    on_disk.settings["region_features"] = {"files": "{id}_features.tsv", "names": list(NAMES)}
    np.testing.assert_array_equal(on_disk.read().weights, expected.weights)


def test_an_unknown_value_masks_its_region_and_moves_no_other_subject(on_disk: OnDisk) -> None:
    wide(on_disk)
    whole = on_disk.read()
    holed = VALUES.copy()
    holed[2, 5, 1] = np.nan
    wide(on_disk, holed)
    cohort = on_disk.read()
    assert not cohort.node_mask[2, 5]
    assert cohort.node_mask.sum() == 6 * 68 - 1
    assert not cohort.weights[2, 0, 5].any()
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(cohort.weights[others], whole.weights[others])


def test_node_features_beside_connectomes_come_from_the_same_table(on_disk: OnDisk) -> None:
    values = 1 + np.arange(6 * 90, dtype=float).reshape(6, 90)
    lines = ["participant_id\t" + "\t".join(f"volume_{region}" for region in on_disk.names)]
    lines += [f"sub-{i + 1:02d}\t" + "\t".join(map(str, row)) for i, row in enumerate(values)]
    (on_disk.folder / "volumes.txt").write_text("\n".join(lines))
    on_disk.settings["region_features"] = {"table": "volumes.txt", "names": ["volume"]}
    np.testing.assert_array_equal(on_disk.read().region_features[:, :, 0], values)


def test_where_the_unmatched_are_dropped_a_subject_without_regional_measures_is_unknown(on_disk: OnDisk) -> None:
    values = 1 + np.arange(6 * 90, dtype=float).reshape(6, 90)
    lines = ["participant_id\t" + "\t".join(f"volume_{region}" for region in on_disk.names)]
    owners = ["sub-01", "sub-02", "sub-99", "sub-04", "sub-05", "sub-06"]
    lines += [f"{owner}\t" + "\t".join(map(str, row)) for owner, row in zip(owners, values, strict=True)]
    (on_disk.folder / "volumes.txt").write_text("\n".join(lines))
    on_disk.settings["region_features"] = {"table": "volumes.txt", "names": ["volume"]}
    with pytest.raises(ConnectomeTLError, match="sub-03"):
        on_disk.read()
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    cohort = on_disk.read()
    assert np.isnan(cohort.region_features[2]).all()
    np.testing.assert_array_equal(np.delete(cohort.region_features[:, :, 0], 2, axis=0), np.delete(values, 2, axis=0))
    assert any("is unknown there: sub-03" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"region_features": {"table": "regional.tsv", "names": list(NAMES)}}, "no column of measure 'thickness'"),
        ({"participants": None}, "in the table but without region features"),
        ({"connectomes": {"network": "similarity", "atlas": "aal90"}}, "unknown regions"),
        ({"connectomes": {"network": "similarity", "layout": "upper"}}, "layout: of matrix files"),
        ({"region_features": None}, "a network is made from region_features"),
        ({"region_features": {"table": "regional.tsv", "columns": "x", "names": ["a"]}}, "columns needs {region}"),
    ],
)
def test_what_does_not_fit_is_said(on_disk: OnDisk, change: dict, said: str) -> None:
    wide(on_disk)
    for key, value in change.items():
        if key == "participants":
            for name, cells in on_disk.table.items():
                cells.append("sub-07" if name == "participant_id" else "n/a")
        elif value is None:
            del on_disk.settings[key]
        else:
            on_disk.settings[key] = value
    with pytest.raises(ConnectomeTLError) as caught:
        on_disk.read()
    assert said in str(caught.value)


def hemispheres(on_disk: OnDisk) -> None:
    """FreeSurfer's aparcstats2table: a table for each measure and hemisphere, its first column named after it."""
    wide(on_disk)
    for k, name in enumerate(NAMES):
        for side in ("lh", "rh"):
            at = [i for i, region in enumerate(REGIONS) if region.startswith(f"ctx-{side}-")]
            columns = [f"{side}_{REGIONS[i].removeprefix(f'ctx-{side}-')}_{name}" for i in at]
            lines = ["\t".join([f"{side}.aparc.{name}", *columns, f"{side}_MeanThickness_{name}"])]
            order = range(6) if side == "lh" else reversed(range(6))
            lines += ["\t".join([f"sub-{i + 1:02d}", *map(repr, VALUES[i, at, k].tolist()), "1"]) for i in order]
            (on_disk.folder / f"{side}.aparc.{name}.tsv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("table", ["{hemi}.aparc.{name}.tsv", ["rh.aparc.{name}.tsv", "lh.aparc.{name}.tsv"]])
def test_one_table_for_each_hemisphere_is_joined(on_disk: OnDisk, table: str | list[str]) -> None:
    hemispheres(on_disk)
    expected = on_disk.read()
    on_disk.settings["region_features"]["table"] = table
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.region_features, VALUES)
    np.testing.assert_array_equal(cohort.weights, expected.weights)


def test_one_hemisphere_alone_is_refused_where_the_other_lies_beside_it(on_disk: OnDisk) -> None:
    hemispheres(on_disk)
    on_disk.settings["region_features"]["table"] = "lh.aparc.{name}.tsv"
    problems = on_disk.problems()
    assert len(problems) == 1
    on_disk.settings["region_features"]["table"] = problems[0].split('Set table: "')[1].split('"')[0]
    np.testing.assert_array_equal(on_disk.read().region_features, VALUES)


def test_one_cause_in_many_columns_and_subjects_is_one_line(on_disk: OnDisk) -> None:
    wide(on_disk)
    on_disk.settings["region_features"]["names"] = ["thickness", "volume"]
    assert len(on_disk.problems()) == 1  # too few measures, not once for each subject
    on_disk.settings["region_features"]["names"] = list(NAMES)
    path = on_disk.folder / "regional.tsv"
    header, *body = path.read_text().split("\n")
    path.write_text("\n".join([header, *(line.replace(".", ",") for line in body)]))
    on_disk.settings["decimal"] = ","
    np.testing.assert_array_equal(on_disk.read().region_features, VALUES)
    lines = path.read_text().split("\n")
    cells = [["1,234"] * 272 for _ in lines[1:-1]]
    owners = [line.split("\t")[0] for line in lines[1:-1]]
    body = ["\t".join([owner, *row]) for owner, row in zip(owners, cells, strict=True)]
    path.write_text("\n".join([lines[0], *body]) + "\n")
    del on_disk.settings["decimal"]
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "decimal: ','" in problems[0]


def test_absent_regions_zeros_and_other_units_of_regional_measures_are_noted(on_disk: OnDisk) -> None:
    rng = np.random.default_rng(0)
    sizes = 1 + rng.random((6, 90))
    sizes[1, 3], sizes[4] = 0.0, sizes[4] * 1000
    names = ("thickness", "lesion_volume")
    lines = ["participant_id\t" + "\t".join(f"{name}_{region}" for name in names for region in on_disk.names)]
    lines += [f"sub-{i + 1:02d}\t" + "\t".join(map(str, [*row, *row])) for i, row in enumerate(sizes)]
    cells = [line.split("\t") for line in lines]
    (on_disk.folder / "sizes.tsv").write_text("\n".join("\t".join(row[:8] + row[9:]) for row in cells))
    on_disk.settings["region_features"] = {"table": "sizes.tsv", "names": list(names)}
    cohort = on_disk.read()
    expected = np.stack([sizes, sizes], axis=2)
    expected[1, 3, 0] = expected[:, 7, 0] = np.nan
    np.testing.assert_array_equal(cohort.region_features, expected)
    said = " | ".join(cohort.notes)
    assert f"thickness of 0 was read as missing: sub-02 {on_disk.names[3]} |" in said
    assert f"thickness of {on_disk.names[7]} is unknown in every subject" in said
    assert "thickness of 1 subject may have another unit: median sub-05" in said
    assert "lesion_volume of 1 subject may have another unit" in said
    assert "lesion_volume of 0" not in said
