"""Transforms in other tools: the same points by ITK and by MRtrix3's importer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.register.itk import write_transform
from connectome_tl.imaging.register.warps import Warp, both_ways, points_of_warp


def moved_and_turned() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [10, -20, 35], degrees=True).as_matrix() @ np.diag([1.1, 0.9, 1.0])
    matrix[:3, 3] = [3.0, -7.0, 11.0]
    return matrix


def bent() -> Warp:
    """A smooth warp on a separate grid, undefined in one corner."""
    grid = np.diag([-2.0, 2.5, 2.0, 1.0])
    grid[:3, 3] = [14.0, -16.0, -9.0]
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in (14, 12, 10)), indexing="ij"), axis=-1)
    points = voxels @ grid[:3, :3].T + grid[:3, 3]
    affine = moved_and_turned()
    places = points @ affine[:3, :3].T + affine[:3, 3] + 2 * np.sin(points[..., ::-1] / 9)
    places[:3, :3, :3] = np.nan
    before = np.eye(4)
    before[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    return Warp(affine, places, grid, before)


POINTS = np.random.default_rng(0).uniform(-6, 6, (40, 3))


def test_the_text_of_an_affine_map_is_in_lps(tmp_path: Path) -> None:
    matrix = moved_and_turned()
    file = write_transform(tmp_path / "a", Warp(matrix))
    (line,) = [line for line in file.read_text().splitlines() if line.startswith("Parameters")]
    numbers = np.array(line.split()[1:], dtype=float)
    lps = POINTS * [-1, -1, 1]
    found = (lps @ numbers[:9].reshape(3, 3).T + numbers[9:]) * [-1, -1, 1]
    np.testing.assert_allclose(found, points_of_warp(Warp(matrix), POINTS), atol=1e-9)


def test_a_displacement_field_holds_the_affine_part_where_nothing_else_is_known(tmp_path: Path) -> None:
    warp = bent()
    image = nib.load(write_transform(tmp_path / "a", warp))
    field = np.asarray(image.dataobj)
    assert image.header.get_intent()[0] == "vector"
    assert field.shape == (14, 12, 10, 1, 3)
    corner = image.affine[:3, 3]
    there = corner + field[0, 0, 0, 0] * [-1, -1, 1]
    whole = warp.affine @ warp.before
    np.testing.assert_allclose(there, whole[:3, :3] @ corner + whole[:3, 3], atol=1e-4)


def test_itk_finds_the_same_points(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    warp = bent()
    affine = sitk.ReadTransform(str(write_transform(tmp_path / "a", Warp(moved_and_turned()))))
    image = sitk.ReadImage(str(write_transform(tmp_path / "w", warp)), sitk.sitkVectorFloat64)
    field = sitk.DisplacementFieldTransform(image)
    for transform, ours in ((affine, Warp(moved_and_turned())), (field, warp)):
        found = np.array([transform.TransformPoint((-x, -y, z)) for x, y, z in POINTS]) * [-1, -1, 1]
        expected = points_of_warp(ours, POINTS)
        np.testing.assert_allclose(found, expected, atol=0.05)  # both interpolate between voxels of 2 mm


@pytest.mark.mrtrix
def test_mrtrix_imports_the_affine_map(tmp_path: Path) -> None:
    if shutil.which("transformconvert") is None:
        pytest.skip("MRtrix3 is not installed")
    matrix = moved_and_turned()
    file = write_transform(tmp_path / "a", Warp(matrix))
    command = ["transformconvert", "-quiet", str(file), "itk_import", str(tmp_path / "m.txt")]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "m.txt"), matrix, atol=1e-5)


def test_a_name_says_which_image_is_resampled_onto_which() -> None:
    warp = Warp(moved_and_turned())  # points of the diffusion data to points of the T2w
    named = both_ways("dwi", "T2w", warp)
    np.testing.assert_allclose(points_of_warp(named["from-T2w_to-dwi"], POINTS), points_of_warp(warp, POINTS))
    back = points_of_warp(named["from-dwi_to-T2w"], points_of_warp(warp, POINTS))
    np.testing.assert_allclose(back, POINTS, atol=1e-9)
