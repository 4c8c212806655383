"""Labels missing from a table: tissue receives no streamline ends, unknown labels only a few."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.assemble import assemble
from connectome_tl.connectome.names.unlisted import unlisted
from connectome_tl.connectome.regions import RegionTable, regions_of_atlas, regions_of_image
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, write_volume
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list, write_tck
from connectome_tl.settings.imaging import AssemblySettings


def head(labels: tuple[int, ...], white: int) -> tuple[Volume, list[np.ndarray]]:
    """Adjacent blocks of 4 voxels in white matter; streamlines between blocks that end shortly before them."""
    rng = np.random.default_rng(len(labels))
    data = np.full((6 * len(labels), 10, 10), white, dtype=np.int32)
    centres = []
    for i, label in enumerate(labels):
        data[6 * i : 6 * i + 4, 3:7, 3:7] = label
        centres.append((6 * i + 1.5, 4.5, 4.5))
    pairs = rng.integers(0, len(labels), (80, 2))
    lines = []
    for a, b in pairs[pairs[:, 0] != pairs[:, 1]]:
        ends = [np.add(centres[k], (0, 2.6, 0)) for k in (a, b)]  # in white matter, 2.6 mm from the middle
        lines.append(np.linspace(*ends, 5))
    return Volume(data, np.eye(4), file="aparc+aseg.mgz"), lines


CORTEX = load_atlas("dk68")
CASES = {
    "FreeSurfer": ("dk68", 2, (1001, 1024, 2001, 2035)),
    "FreeSurfer, wmparc": ("dk82", 3024, (10, 1001, 1024, 2035)),
    "FreeSurfer, fluid": ("dk82", 43, (10, 49, 1024, 2035)),
    "Destrieux": ("destrieux", 41, (11101, 11103, 12110, 12120)),
    "M-CRIB": ("mcrib", 92, (9, 48, 1001, 2035)),
    "Draw-EM without white matter": ("drawem", 79, (1, 2, 5, 43)),
}


def table_of(name: str) -> RegionTable:
    if name != "drawem":
        return regions_of_atlas(load_atlas(name))
    grey = [r for r in load_atlas("drawem87").regions if r.lobe not in ("White matter", "Ventricles", "CSF")]
    grey = [r for r in grey if r.lobe != "Background"]
    return RegionTable(tuple(r.name for r in grey), tuple(r.index for r in grey))


@pytest.mark.parametrize("case", CASES)
def test_known_tissue_is_background(case: str) -> None:
    name, white, used = CASES[case]
    labels, lines = head(used, white)
    ends = reduce_streamlines([from_list(lines)])
    found = assemble(ends, labels, table_of(name))
    emptied = Volume(np.where(labels.data == white, 0, labels.data), labels.affine)
    expected = assemble(ends, emptied, table_of(name))
    assert found.account.edges == expected.account.edges == len(lines)
    np.testing.assert_array_equal(found.connectome.weights, expected.connectome.weights)
    assert any(f"count as background, 1: {white}" in warning for warning in found.warnings)


@pytest.mark.skipif(shutil.which("labelconvert") is None, reason="MRtrix3 is not on the PATH")
def test_white_matter_of_freesurfer_is_what_labelconvert_makes_of_it(tmp_path: Path) -> None:
    labels, lines = head((1001, 1024, 2001, 2035), 2)
    write_volume(tmp_path / "aparc.nii", labels.data, labels.affine)
    write_tck(tmp_path / "t.tck", lines)
    numbers = [region.index for region in CORTEX.regions]
    colours = [f"{n} {r.name} 0 0 0 255" for n, r in zip(numbers, CORTEX.regions, strict=True)]
    (tmp_path / "fs.txt").write_text("\n".join(colours) + "\n2 Left-Cerebral-White-Matter 0 0 0 255\n")
    rows = [f"{i} {r.name} 0 0 0 255" for i, r in enumerate(CORTEX.regions, 1)]
    (tmp_path / "rows.txt").write_text("\n".join(rows) + "\n")
    for command in (
        ["labelconvert", "-quiet", "aparc.nii", "fs.txt", "rows.txt", "nodes.nii"],
        ["tck2connectome", "-quiet", "t.tck", "nodes.nii", "c.csv", "-symmetric", "-zero_diagonal"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    expected = np.loadtxt(tmp_path / "c.csv", delimiter=",")
    found = assemble(reduce_streamlines([from_list(lines)]), labels, regions_of_atlas(CORTEX))
    np.testing.assert_array_equal(found.connectome.weights[0][: len(expected), : len(expected)], expected)
    assert expected.sum() == 2 * len(lines)


def test_a_table_of_cortex_leaves_deep_regions_out_and_says_what_they_take() -> None:
    labels, lines = head((1001, 1024, 2001, 10), 0)
    found = assemble(reduce_streamlines([from_list(lines)]), labels, regions_of_atlas(CORTEX))
    assert found.account.unassigned > 0
    (said,) = [warning for warning in found.warnings if "deep grey matter" in warning]
    assert "10 (" in said


def test_a_table_that_lacks_some_regions_of_a_kind_is_refused() -> None:
    """Half a table: unlisted cortex receives streamlines."""
    labels, lines = head((1001, 1024, 2001, 2035), 0)
    half = RegionTable(("ctx-lh-bankssts", "ctx-lh-precentral"), (1001, 1024))
    with pytest.raises(DataError, match="not in the table receive streamline ends"):
        assemble(reduce_streamlines([from_list(lines)]), labels, half)
    settings = AssemblySettings(max_unlisted_ends=1)
    assert assemble(reduce_streamlines([from_list(lines)]), labels, half, settings=settings).account.edges > 0


@pytest.mark.parametrize("named", [True, False])
def test_tissue_that_stands_as_a_row_is_said(named: bool) -> None:
    """A whole colour table, or no table at all: white matter becomes a region."""
    labels, lines = head((1001, 1024, 2001, 2035), 2)
    whole = RegionTable(("WM", "a", "b", "c", "d", "other"), (2, 1001, 1024, 2001, 2035, 9999))
    regions = whole if named else regions_of_image(labels)
    found = assemble(
        reduce_streamlines([from_list(lines)]), labels, regions, settings=AssemblySettings(diagonal="keep")
    )
    (said,) = [warning for warning in found.warnings if "rows that are white" in warning]
    assert "FreeSurfer receive 100.0% of the streamline ends" in said


def test_numbers_of_another_scheme_are_not_taken_for_tissue() -> None:
    present = {1, 2, 3, 41, 77, 1001}
    for table in (
        regions_of_atlas(load_atlas("aal90")),  # lists 2, 41 and 77 as cortex
        RegionTable(("a", "b"), (1, 3)),
        RegionTable(("a", "b"), (3001, 9999)),
    ):
        assert unlisted(present, table).tissue == ()
    aal = unlisted({*range(1, 117), 200}, regions_of_atlas(load_atlas("aal90")))
    assert set(aal.left_out) == set(range(91, 117))
    assert aal.unknown == (200,)
    assert unlisted({0, 1, 3}, RegionTable(("a", "b"), (1, 3))) == unlisted((), RegionTable(("a",), (1,)))
    assert unlisted(range(1, 117), regions_of_atlas(load_atlas("aal116"))).tissue_rows == ()
