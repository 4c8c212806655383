"""Assembly compared with brute force, dipy and MRtrix3."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.assemble import Assembly, RegionTable, assemble, regions_of_image
from connectome_tl.connectome.endpoints import radial_labels, voxel_labels
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume, write_volume
from connectome_tl.imaging.track.sampling import Ends, reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list, read_blocks, write_tck
from connectome_tl.settings.imaging import AssemblySettings

KEEP = AssemblySettings(diagonal="keep")


def oblique(seed: int) -> tuple[Volume, np.random.Generator]:
    """Sparse labels on a rotated grid with anisotropic voxels, mirrored for even seeds."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 16, 3)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(rng.uniform(0.8, 3.0, 3))
    affine = np.eye(4)
    affine[:3, :3] = axes * (-1 if (np.linalg.det(axes) > 0) == (seed % 2 == 0) else 1)
    affine[:3, 3] = rng.uniform(-20, 20, 3)
    labels = np.where(rng.random(shape) < rng.choice([0.01, 0.05, 0.3]), rng.integers(1, 9, shape), 0).astype(np.int32)
    labels[0, 0, 0] = 8
    return Volume(labels, affine), rng


def points_around(labels: Volume, rng: np.random.Generator, n: int) -> np.ndarray:
    voxels = rng.uniform(-4, np.array(labels.shape) + 3, (n, 3))
    return voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3]


def straight(*pairs: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Ends:
    return reduce_streamlines([from_list([np.linspace(a, b, 9) for a, b in pairs])], lengths=True)


@pytest.fixture
def three_blocks() -> Volume:
    """1 mm voxels; label 7 at x = 0..2, 3 at x = 8..9, 5 at x = 17..19 of 20."""
    data = np.zeros((20, 4, 4), dtype=np.int32)
    data[:3], data[8:10], data[17:] = 7, 3, 5
    return Volume(data, np.eye(4), file="blocks.nii")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [1.0, 4.0, 6.5])
def test_radial_search_is_the_nearest_labelled_voxel_centre(seed: int, radius: float) -> None:
    labels, rng = oblique(seed)
    points = points_around(labels, rng, 500)
    voxels = np.argwhere(labels.data > 0)
    centres = voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    distance = np.linalg.norm(points[:, None] - centres, axis=2)
    expected = np.where(distance.min(axis=1) < radius, labels.data[tuple(voxels[distance.argmin(axis=1)].T)], 0)
    np.testing.assert_array_equal(radial_labels(points, labels, radius), expected)


@pytest.mark.mrtrix
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [None, 2.0, 4.0])
def test_every_end_goes_where_mrtrix_puts_it(seed: int, radius: float | None, tmp_path: Path) -> None:
    if shutil.which("tck2connectome") is None:
        pytest.skip("MRtrix3 is not installed")
    labels, rng = oblique(seed)
    tracks = write_tck(tmp_path / "t.tck", np.split(points_around(labels, rng, 1200), 400))
    image = write_volume(tmp_path / "l.nii", labels.data, labels.affine)
    labels = read_labels(image)
    option = ["-assignment_end_voxels"] if radius is None else ["-assignment_radial_search", str(radius)]
    out = tmp_path / "a.txt"
    command = ["tck2connectome", "-quiet", "-nthreads", "0", tracks, image, tmp_path / "m.csv", *option]
    subprocess.run([*map(str, command), "-out_assignments", str(out)], check=True)
    ends = reduce_streamlines(read_blocks(tracks))
    found = [
        voxel_labels(p, labels) if radius is None else radial_labels(p, labels, radius) for p in (ends.head, ends.tail)
    ]
    np.testing.assert_array_equal(np.stack(found, axis=1), np.loadtxt(out, dtype=int))


def test_end_voxel_counts_equal_dipy() -> None:
    from dipy.tracking.utils import connectivity_matrix

    rng = np.random.default_rng(0)
    labels = Volume(rng.integers(0, 6, (12, 10, 8)).astype(np.int32), np.diag([2.0, 1.5, 3.0, 1.0]))
    streamlines = [rng.uniform(0, 1, (rng.integers(2, 9), 3)) * [22.0, 13.0, 21.0] for _ in range(300)]
    expected = connectivity_matrix(streamlines, labels.affine, labels.data, symmetric=True)[1:, 1:]
    settings = AssemblySettings(assignment="endvoxel", diagonal="keep")
    assembly = assemble(
        reduce_streamlines([from_list(streamlines)]), labels, regions_of_image(labels), settings=settings
    )
    found = np.triu(assembly.connectome.weights[0])
    np.testing.assert_array_equal(found, np.triu(expected))


def real(shared_data: Path, assignment: str = "radial") -> Assembly:
    folder = shared_data / "tractseg_peaks"
    labels = read_labels(folder / "aal_nodes_approx.nii.gz")
    images = {"FA": read_volume(folder / "FA.nii.gz")}
    ends = reduce_streamlines(read_blocks(folder / "fact_4000.tck"), lengths=True, images=images)
    settings = AssemblySettings.model_validate({"assignment": assignment})
    return assemble(ends, labels, regions_of_image(labels), ("count", "length", "invnodevol", "FA"), settings=settings)


@pytest.mark.data
def test_real_streamlines_give_the_numbers_of_tck2connectome(shared_data: Path) -> None:
    assembly = real(shared_data)
    reference = shared_data / "tractseg_peaks" / "mrtrix_ref"
    tables = ("count_default", "meanlength_default", "count_invnodevol", "meanFA_default")
    for matrix, name, tolerance in zip(assembly.connectome.weights, tables, (0, 1e-4, 1e-8, 1e-5), strict=True):
        expected = np.loadtxt(reference / f"{name}.csv", delimiter=",")
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=tolerance, err_msg=name)
    rows = np.loadtxt(reference / "assignments_default.csv", dtype=int)
    np.testing.assert_array_equal(assembly.ends + 1, rows)
    expected = np.loadtxt(reference / "count_endvoxels.csv", delimiter=",")
    np.testing.assert_array_equal(real(shared_data, "endvoxel").connectome.weights[0], expected)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "measure", "change"),
    [
        ("endvox", "count", {"assignment": "endvoxel"}),
        ("rad2", "count", {"radius_mm": 2.0}),
        ("invnodevol", "invnodevol", {}),
        ("meanlen", "length", {}),
    ],
)
def test_mrtrix_phantom_gives_its_expected_matrices(
    shared_data: Path, name: str, measure: str, change: dict[str, object]
) -> None:
    folder = shared_data / "mrtrix_test_data"
    labels = read_labels(folder / "nii" / "SIFT_phantom_parc.nii.gz")
    ends = reduce_streamlines(read_blocks(folder / "SIFT_phantom" / "tracks.tck"), lengths=True)
    settings = AssemblySettings.model_validate(change)
    assembly = assemble(ends, labels, regions_of_image(labels), (measure,), settings=settings)
    expected = np.loadtxt(folder / "ref_extra" / f"{name}.csv", delimiter=",")
    np.testing.assert_allclose(np.triu(assembly.connectome.weights[0]), expected, rtol=1e-5)


def test_every_streamline_is_accounted_for(three_blocks: Volume) -> None:
    ends = reduce_streamlines(
        [
            from_list(
                [
                    np.array([(1.0, 1, 1), (8, 1, 1)]),
                    np.array([(8.0, 1, 1), (1, 2, 1)]),
                    np.array([(1.0, 1, 1), (0, 2, 1)]),
                    np.array([(1.0, 1, 1), (13.5, 1, 1)]),
                    np.array([(1.0, 1, 1)]),
                    np.zeros((0, 3)),
                ]
            )
        ]
    )
    settings = AssemblySettings(radius_mm=2, diagonal="keep")
    assembly = assemble(ends, three_blocks, regions_of_image(three_blocks), settings=settings)
    account = assembly.account
    assert (account.total, account.edges, account.within_one_region) == (6, 3, 1)
    assert (account.unassigned, account.too_short) == (1, 2)
    assert account.total == account.edges + account.unassigned + account.too_short
    assert np.triu(assembly.connectome.weights[0]).sum() == account.edges


def test_rows_follow_the_table_and_absent_regions_are_masked(three_blocks: Volume) -> None:
    table = RegionTable(("end", "ghost", "start", "middle"), (5, 2035, 7, 3))
    assembly = assemble(straight(((1, 1, 1), (18, 1, 1))), three_blocks, table)
    expected = np.zeros((4, 4))
    expected[0, 2] = expected[2, 0] = 1
    np.testing.assert_array_equal(assembly.connectome.weights[0], expected)
    assert assembly.connectome.node_mask.tolist() == [True, False, True, True]
    assert "ghost (2035)" in assembly.warnings[0]


def test_a_label_outside_the_table_keeps_its_ends(three_blocks: Volume) -> None:
    table = RegionTable(("start", "end"), (7, 5))
    settings = AssemblySettings(radius_mm=12, max_unlisted_ends=0.25)
    ends = straight(((1, 1, 1), (9, 1, 1)), ((1, 1, 1), (18, 1, 1)))
    assembly = assemble(ends, three_blocks, table, settings=settings)
    assert (assembly.account.unassigned, assembly.account.edges) == (1, 1)
    assert "receive 25.0% of the streamline ends" in assembly.warnings[0]
    assert "3 (25.0%)" in assembly.warnings[0]
    for allowed in (0.24, 0.05, 0.0):
        with pytest.raises(DataError, match=rf"blocks\.nii: labels .* not in the table .* {allowed:.0%} .*3 \(25"):
            assemble(ends, three_blocks, table, settings=AssemblySettings(radius_mm=12, max_unlisted_ends=allowed))


def test_weights_sum_up_and_means_are_weighted(three_blocks: Volume) -> None:
    ends = straight(((1, 1, 1), (8, 1, 1)), ((0, 1, 1), (9, 1, 1)), ((1, 1, 1), (18, 1, 1)))
    weights = np.array([1.0, 3.0, 0.5])
    assembly = assemble(
        ends, three_blocks, regions_of_image(three_blocks), ("count", "length", "invnodevol"), weights=weights
    )
    count, length, inverse = assembly.connectome.weights
    assert assembly.connectome.regions == ("3", "5", "7")
    assert count[0, 2] == 4.0
    assert count[1, 2] == 0.5
    assert length[0, 2] == pytest.approx((7 + 3 * 9) / 4)
    assert inverse[0, 2] == pytest.approx(4.0 * 2 / (32 + 48))


def test_wrong_tables_and_weights_are_refused(three_blocks: Volume) -> None:
    ends = straight(((1, 1, 1), (8, 1, 1)))
    with pytest.raises(DataError, match="none of the labels"):
        assemble(ends, three_blocks, RegionTable(("a",), (99,)))
    for weights in (np.ones(2), np.array([np.nan]), np.array([-1.0])):
        with pytest.raises(DataError, match=r"file w\.txt: .*weight"):
            assemble(ends, three_blocks, regions_of_image(three_blocks), weights=weights, weights_file="w.txt")


def test_a_connectome_without_any_edge_is_no_result(three_blocks: Volume) -> None:
    regions = regions_of_image(three_blocks)
    with pytest.raises(DataError, match="contains no streamline"):
        assemble(reduce_streamlines([]), three_blocks, regions)
    nowhere, within = ((1, 1, 1), (13.5, 1, 1)), ((1, 1, 1), (2, 1, 1))
    near = AssemblySettings(radius_mm=2)
    with pytest.raises(DataError, match=r"every edge of count is 0.* 1 streamline = 0 in edges \+ 1 unassigned"):
        assemble(straight(nowhere), three_blocks, regions, settings=near)
    with pytest.raises(DataError, match="begin and end in one region"):
        assemble(straight(within), three_blocks, regions)
    with pytest.raises(DataError, match="every edge of count is 0"):
        assemble(straight(((1, 1, 1), (8, 1, 1))), three_blocks, regions, weights=np.zeros(1))
    with pytest.raises(DataError, match="1 too short"):
        assemble(reduce_streamlines([from_list([np.ones((1, 3))])]), three_blocks, regions)
    assert assemble(straight(within), three_blocks, regions, settings=KEEP).connectome.weights.sum() == 1


@pytest.mark.parametrize("assignment", ["radial", "endvoxel"])
def test_a_parcellation_in_another_space_is_no_empty_connectome(assignment: str, three_blocks: Volume) -> None:
    settings = AssemblySettings.model_validate({"assignment": assignment})
    away = Volume(
        three_blocks.data, np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), file="p.nii"
    )
    with pytest.raises(DataError, match=r"p\.nii: no streamline ends in a region"):
        assemble(straight(((1, 1, 1), (18, 1, 1))), away, regions_of_image(away), settings=settings)


def test_a_mean_without_any_value_is_refused_and_one_edge_without_is_said(three_blocks: Volume) -> None:
    lines = [np.linspace(a, b, 9) for a, b in (((1, 1, 1), (8, 1, 1)), ((9, 1, 1), (18, 1, 1)))]
    known = np.where(np.arange(20) < 9, 0.25, np.nan)[:, None, None] * np.ones((20, 4, 4))
    for image, refused in ((known * np.nan, True), (known, False)):
        images = {"FA": Volume(image, three_blocks.affine, file="fa.nii")}
        ends = reduce_streamlines([from_list(lines)], images=images)
        if refused:
            with pytest.raises(DataError, match=r"fa\.nii: no streamline that joins two regions has a value of FA"):
                assemble(ends, three_blocks, regions_of_image(three_blocks), ("FA",))
        else:
            assembly = assemble(ends, three_blocks, regions_of_image(three_blocks), ("FA",))
            assert assembly.connectome.weights[0, 0, 2] == 0.25
            assert assembly.warnings == ("1 edge has streamlines but no value of FA (written as 0)",)
