"""Regions of cortical surfaces as voxels, and names of scans with a prefix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable
from pydantic import ValidationError
from scipy.spatial import ConvexHull

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.images import Volume, read_labels, write_volume
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.read.surfaces import numbers_apart, read_cortex, read_surface_labels, voxels_of
from connectome_tl.settings.imaging import MorphometrySettings
from connectome_tl.workflows.scans.morphometry import build_networks
from connectome_tl.workflows.scans.surface_rows import in_rows

INNER, OUTER = 15.0, 19.0
AFFINE = np.diag([-1.5, 1.5, 1.5, 1.0])
AFFINE[:3, 3] = [30.0, -30.0, -30.0]
SIDES = {"left": -1.0, "right": 1.0}
CONFIG = "name: surfaces\nsurfaces:\n" + "".join(
    f'  {side}: {{white: "{stem}_white.surf.gii", pial: "{stem}_pial.surf.gii", labels: "{stem}.label.gii"}}\n'
    for side, stem in (("left", "surf/{subject}_L"), ("right", "surf/{subject}_R"))
)


def sphere(n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    i = np.arange(n) + 0.5
    z, turn = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    points = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
    return points, ConvexHull(points).simplices


def write_mesh(file: Path, points: np.ndarray, faces: np.ndarray) -> None:
    arrays = [
        GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        GiftiDataArray(faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(GiftiImage(darrays=arrays), file)


def write_labels(file: Path, values: np.ndarray, names: dict[int, str]) -> None:
    table = GiftiLabelTable()
    for number, name in {0: "???", **names}.items():
        table.labels.append(one := GiftiLabel(number))
        one.label = name
    array = GiftiDataArray(values.astype(np.int32), intent="NIFTI_INTENT_LABEL")
    nib.save(GiftiImage(darrays=[array], labeltable=table), file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two half spheres as hemispheres; each has a front and a back region, and no region near its lowest point."""
    root = tmp_path_factory.mktemp("bids")
    (root / "surf").mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (root / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    (root / "config.yaml").write_text(CONFIG)
    points, faces = sphere()
    voxels = np.stack(np.meshgrid(*(np.arange(41),) * 3, indexing="ij"), axis=-1)
    places = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    radius = np.linalg.norm(places, axis=-1)
    rng = np.random.default_rng(0)
    for subject in ("sub-01", "sub-02"):
        for side, sign in SIDES.items():
            own = np.where((points[:, 0] * sign > 0)[faces].all(axis=1))[0]
            stem = root / "surf" / f"{subject}_{side[0].upper()}"
            write_mesh(Path(f"{stem}_white.surf.gii"), INNER * points, faces[own])
            write_mesh(Path(f"{stem}_pial.surf.gii"), OUTER * points, faces[own])
            regions = np.where(points[:, 2] < -0.9, 0, np.where(points[:, 1] > 0, 1, 2))
            write_labels(Path(f"{stem}.label.gii"), regions, {1: "front", 2: "back"})
        image = np.where(radius < 21, 100 + 20 * (radius < INNER) + rng.normal(0, 3, radius.shape), 0)
        file = root / subject / "anat" / f"{subject}_T2w.nii.gz"
        write_volume(file, image.astype(np.float32), AFFINE)
        write_volume(file.with_name(f"{subject}_desc-brain_mask.nii.gz"), radius < 21, AFFINE)
    return root


def hemisphere(folder: Path, side: str) -> tuple[Path, Path, Path]:
    stem = folder / "surf" / f"sub-01_{side}"
    return Path(f"{stem}_white.surf.gii"), Path(f"{stem}_pial.surf.gii"), Path(f"{stem}.label.gii")


def test_regions_of_surfaces_are_voxels_between_them_and_names_have_their_side(folder: Path, tmp_path: Path) -> None:
    run = build_networks(folder, tmp_path, config=folder / "config.yaml")
    assert [done.state for done in run.done] == ["computed", "computed"]
    labels = read_labels(next(tmp_path.rglob("sub-01*_dseg.nii.gz")))
    table = pd.read_csv(next(tmp_path.rglob("sub-01*_nodeindices.tsv")), sep="\t")
    assert dict(zip(table["name"], table["label"], strict=True)) == {
        "L_front": 1, "L_back": 2, "R_front": 1001, "R_back": 1002,
    }  # fmt: skip
    voxels = np.argwhere(labels.data >= 0).reshape(*labels.shape, 3)
    places = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    radius = np.linalg.norm(places, axis=-1)
    number = np.where(places[..., 0] > 0, 1000, 0) + np.where(places[..., 1] > 0, 1, 2)
    # Within half a voxel of a surface, or of a border between regions, both labels are correct.
    clear = (np.abs(places[..., :2]) > 2.0).all(axis=-1) & (places[..., 2] > -0.8 * radius)
    inside = clear & (radius > INNER + 1) & (radius < OUTER - 1)
    np.testing.assert_array_equal(labels.data[inside], number[inside])
    assert not labels.data[(radius < INNER - 1.4) | (radius > OUTER + 1.4)].any()
    assert not labels.data[(places[..., 2] < -0.97 * radius) & (radius > 1)].any()  # vertices without a region


def test_regions_are_matched_by_name_where_subjects_are_numbered_otherwise(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "bids"))
    first = {"L": 4, "R": 1}  # distinct numbers of the two sides: none is increased by a thousand
    for side, number in first.items():
        file = other / "surf" / f"sub-02_{side}.label.gii"
        was = read_surface_labels(file)[0]
        write_labels(file, np.where(was > 0, was + number - 1, 0), {number: "front", number + 1: "back"})
    for root, out in ((folder, "alike"), (other, "out")):
        build_networks(root, tmp_path / out, config=root / "config.yaml")
    expected, found = (
        read_labels(next((tmp_path / out).rglob("sub-02*_dseg.nii.gz"))).data for out in ("alike", "out")
    )
    np.testing.assert_array_equal(found, expected)
    write_labels(file, was, {1: "front", 2: "insula"})
    with pytest.raises(DataError, match=r"sub-02.*have a region that those of the first scan do not have.*R_insula"):
        build_networks(other, tmp_path / "out", config=other / "config.yaml")


OWN = RegionTable(("L_front", "L_back", "R_front", "R_back", "R_unknown"), (1, 2, 1001, 1002, 1003))
LABELS = np.array([0, 1, 2, 1001, 1002, 1003]).reshape(1, 2, 3)


def test_a_label_table_gets_the_regions_by_name_whatever_their_numbers() -> None:
    table = RegionTable(("R_back", "L-Front", "L_back", "R_front"), (1, 2, 1001, 1002))
    found = in_rows(LABELS, OWN, table, Scan("sub-01", None), given=True)
    np.testing.assert_array_equal(found.ravel(), [0, 2, 1001, 1002, 1, 0])


def test_labels_follow_the_table_through_the_whole_command(folder: Path, tmp_path: Path) -> None:
    rows = "11\tR_front\n12\tR_back\n1\tL_back\n2\tL_front\n"
    (tmp_path / "labels.tsv").write_text(f"index\tname\n{rows}")
    (tmp_path / "config.yaml").write_text(CONFIG + "labels: labels.tsv\n")
    build_networks(folder, tmp_path / "out", participants=["01"], config=tmp_path / "config.yaml")
    labels = read_labels(next((tmp_path / "out").rglob("*_dseg.nii.gz")))
    middle = {
        number: (np.argwhere(labels.data == number) @ AFFINE[:3, :3].T + AFFINE[:3, 3]).mean(axis=0)
        for number in np.unique(labels.data[labels.data > 0])
    }
    signs = {number: tuple(np.sign(place[:2])) for number, place in middle.items()}
    assert signs == {1: (-1, -1), 2: (-1, 1), 11: (1, 1), 12: (1, -1)}


def test_regions_without_names_keep_their_numbers() -> None:
    own = RegionTable(("L_1", "L_2", "R_1", "R_2", "R_3"), OWN.numbers)
    table = RegionTable(("a", "b", "c", "d"), (1, 2, 1001, 1002))
    np.testing.assert_array_equal(in_rows(LABELS, own, table, Scan("sub-01", None), given=True), LABELS)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("lh.front", "lh.back", "rh.front", "rh.back"), r"expected lh\.front.*got L_front, L_back, R_front, R_back"),
        (("L_front", "L_back", "R_front", "R_bakc"), r"expected R_bakc; got R_back\."),
    ],
)
def test_a_table_of_other_names_is_refused(folder: Path, tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    rows = [f"{number}\t{name}" for number, name in zip((1, 2, 1001, 1002), names, strict=True)]
    (tmp_path / "labels.tsv").write_text("index\tname\n" + "\n".join(rows) + "\n")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG + "labels: labels.tsv\n")
    with pytest.raises(DataError, match=f"sub-01, file .*label.gii: names of the surfaces' regions are not.*{told}"):
        build_networks(folder, tmp_path / "out", participants=["01"], config=config)
    assert not list((tmp_path / "out").rglob("*_dseg.nii.gz"))


def test_label_files_that_cannot_be_read_stop_no_other_scan(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "bids"))
    (other / "surf" / "sub-01_L.label.gii").write_text("no surface")
    with pytest.raises(DataError, match="1 of 2 scans failed"):
        build_networks(other, tmp_path / "out", config=other / "config.yaml")
    assert list((tmp_path / "out").rglob("sub-02*_dseg.nii.gz"))
    (failure,) = (tmp_path / "out").rglob("sub-01*_failure.json")
    assert "sub-01_L.label.gii: cannot be read as GIFTI" in json.loads(failure.read_text())["Problem"]


@pytest.mark.parametrize("odd", [1.5, np.nan])
def test_interpolated_labels_of_a_surface_are_refused(tmp_path: Path, odd: float) -> None:
    array = GiftiDataArray(np.array([0, 1, odd], dtype=np.float32), intent="NIFTI_INTENT_LABEL")
    nib.save(GiftiImage(darrays=[array]), tmp_path / "a.label.gii")
    with pytest.raises(DataError, match=f"not whole numbers; got for example {odd:g}"):
        read_surface_labels(tmp_path / "a.label.gii")


def test_annotations_of_freesurfer_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    (tmp_path / "lh.annot").write_bytes(bytes(64))
    with pytest.raises(DataError, match="mris_convert --annot"):
        read_surface_labels(tmp_path / "lh.annot")


def test_cortex_has_no_holes_in_a_fine_image(folder: Path) -> None:
    affine = np.diag([0.4, 0.4, 0.4, 1.0])
    affine[:3, 3] = (-OUTER - 1, -OUTER - 1, -OUTER - 1)
    fine = Volume(np.ones((100, 100, 100), dtype=np.float32), affine, "sub-01")
    found = voxels_of(read_cortex(*hemisphere(folder, "L")), fine, None)
    places = np.stack(np.indices(found.shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    radius = np.linalg.norm(places, axis=-1)
    inside = (radius > INNER + 1) & (radius < OUTER - 1) & (places[..., 0] < -3) & (places[..., 2] > -0.8 * radius)
    assert inside.sum() > 10_000
    assert (found[inside] > 0).mean() > 0.999


def test_a_ribbon_says_which_voxels(folder: Path) -> None:
    image = Volume(np.ones((41, 41, 41), dtype=np.float32), AFFINE, "sub-01")
    ribbon = np.zeros(image.shape, dtype=bool)
    ribbon[20:, 20, 30] = True  # a line from the middle through the left hemisphere
    found = voxels_of(read_cortex(*hemisphere(folder, "L")), image, ribbon)
    assert not found[~ribbon].any()
    places = np.argwhere(ribbon) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    near = np.abs(np.linalg.norm(places, axis=1) - (INNER + OUTER) / 2) < 4
    assert found[ribbon][near].all()
    far = np.linalg.norm(places, axis=1) > OUTER + 6
    assert not found[ribbon][far].any()


def test_surfaces_that_lie_elsewhere_or_are_damaged_are_refused(folder: Path, tmp_path: Path) -> None:
    white, pial, labels = hemisphere(folder, "L")
    away = Volume(np.ones((10, 10, 10), dtype=np.float32), np.eye(4), "sub-01", "T2w.nii.gz")
    with pytest.raises(DataError, match=r"not aligned.*--to-scanner"):
        voxels_of(read_cortex(white, pial, labels), away, None)
    points, faces = sphere(200)
    write_mesh(tmp_path / "small.surf.gii", points, faces)
    with pytest.raises(DataError, match=r"different meshes; expected 1500 vertices.*got 200"):
        read_cortex(white, tmp_path / "small.surf.gii", labels)
    with pytest.raises(DataError, match="not a surface"):
        read_cortex(labels, pial, labels)
    with pytest.raises(DataError, match="not regions of a surface"):
        read_cortex(white, pial, pial)
    (tmp_path / "cut.surf.gii").write_bytes(white.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read as GIFTI"):
        read_cortex(tmp_path / "cut.surf.gii", pial, labels)
    write_mesh(tmp_path / "wild.surf.gii", points, faces + 199)
    with pytest.raises(DataError, match="damaged"):
        read_cortex(tmp_path / "wild.surf.gii", pial, labels)


def test_surfaces_of_the_other_side_are_refused(folder: Path, tmp_path: Path) -> None:
    swapped = CONFIG.replace("_L", "_X").replace("_R", "_L").replace("_X", "_R")
    (tmp_path / "config.yaml").write_text(swapped)
    with pytest.raises(DataError, match=r"surfaces of the left hemisphere lie in the other one.*exchanged"):
        build_networks(folder, tmp_path / "out", participants=["01"], config=tmp_path / "config.yaml")
    files = hemisphere(folder, "L")
    image = nib.load(files[2])
    image.darrays[0].meta["AnatomicalStructurePrimary"] = "CortexRight"
    nib.save(image, tmp_path / "stated.label.gii")
    read_cortex(*files[:2], tmp_path / "stated.label.gii", side="right")
    with pytest.raises(DataError, match=r"stated.label.gii: .*other hemisphere; expected left.*got right"):
        read_cortex(*files[:2], tmp_path / "stated.label.gii", side="left")


def test_files_of_different_meshes_with_the_same_number_of_vertices_are_refused(folder: Path, tmp_path: Path) -> None:
    white, pial, labels = hemisphere(folder, "L")
    with pytest.raises(DataError, match="different meshes; expected the triangles"):
        read_cortex(white, hemisphere(folder, "R")[1], labels)
    inner, faces = (array.data for array in nib.load(pial).darrays)
    write_mesh(tmp_path / "away.surf.gii", inner + np.array([25.0, 0, 0]), faces)
    with pytest.raises(DataError, match=r"white and pial surface do not belong together.*got 2\d\.\d mm"):
        read_cortex(white, tmp_path / "away.surf.gii", labels)
    values, names = read_surface_labels(labels)
    write_labels(tmp_path / "other.label.gii", np.random.default_rng(0).permutation(values), names)
    with pytest.raises(DataError, match="labels belong to another mesh"):
        read_cortex(white, pial, tmp_path / "other.label.gii")


def test_small_regions_of_a_coarse_mesh_are_not_scattered(folder: Path, tmp_path: Path) -> None:
    white, pial, _ = hemisphere(folder, "L")
    points = nib.load(white).darrays[0].data
    centres = points[np.random.default_rng(0).permutation(len(points))[:200]]  # 200 regions of 7 or 8 vertices
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1) + 1
    write_labels(tmp_path / "fine.label.gii", nearest, {})
    assert len(read_cortex(white, pial, tmp_path / "fine.label.gii").names) == 200


def test_the_medial_wall_is_no_region(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "bids"))
    for side in "LR":
        file = other / "surf" / f"sub-01_{side}.label.gii"
        names = {1: "front", 2: "back", 3: "Background+FreeSurfer_Defined_Medial_Wall", 4: "corpuscallosum"}
        was = read_surface_labels(file)[0]
        write_labels(file, np.where(was == 0, 3, was), names)
    build_networks(other, tmp_path / "out", participants=["01"], config=other / "config.yaml")
    table = pd.read_csv(next((tmp_path / "out").rglob("*_nodeindices.tsv")), sep="\t")
    assert set(table["name"]) == {"L_front", "L_back", "R_front", "R_back"}
    assert set(np.unique(read_labels(next((tmp_path / "out").rglob("*_dseg.nii.gz"))).data)) == {0, 1, 2, 1001, 1002}


def test_several_maps_of_labels_are_refused_with_how_to_keep_one(folder: Path, tmp_path: Path) -> None:
    image = nib.load(hemisphere(folder, "L")[2])
    nib.save(GiftiImage(darrays=image.darrays * 2, labeltable=image.labeltable), tmp_path / "two.label.gii")
    with pytest.raises(DataError, match=r"one array of labels; got 2 x NIFTI_INTENT_LABEL.*-label-merge"):
        read_surface_labels(tmp_path / "two.label.gii")


def test_a_ribbon_of_other_numbers_or_of_the_other_side_is_refused(folder: Path, tmp_path: Path) -> None:
    places = np.stack(np.indices((41, 41, 41)), axis=-1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    radius = np.linalg.norm(places, axis=-1)
    labels = np.where((radius > INNER) & (radius < OUTER), np.where(places[..., 0] < 0, 3, 42), 0)
    (tmp_path / "config.yaml").write_text(CONFIG + f'  ribbon: "{tmp_path}/ribbon.nii.gz"\n')
    for numbers, told in (
        ((labels > 0).astype(int), r"no voxel of the left hemisphere; expected the number 3; got 0, 1"),
        (np.where(places[..., 1] > 25, 3, 42), "the ribbon does not lie along the surfaces"),
    ):
        write_volume(tmp_path / "ribbon.nii.gz", numbers.astype(np.int16), AFFINE)
        with pytest.raises(DataError, match=told):
            build_networks(folder, tmp_path / "out", participants=["01"], config=tmp_path / "config.yaml")
    write_volume(tmp_path / "ribbon.nii.gz", labels.astype(np.int16), AFFINE)
    build_networks(folder, tmp_path / "out", participants=["01"], config=tmp_path / "config.yaml")


def test_coordinates_of_freesurfer_are_refused_also_where_the_shift_is_small(folder: Path, tmp_path: Path) -> None:
    """With a shift of 4 mm, nearly all vertices are in the brain."""
    image = Volume(nib.load(folder / "sub-01/anat/sub-01_T2w.nii.gz").get_fdata(), AFFINE, "sub-01", "T2w.nii.gz")
    files, shift = hemisphere(folder, "L"), np.array([0.0, -4.0, 0.0])
    for moved in (shift, np.zeros(3)):  # in FreeSurfer's coordinates; moved by a program that keeps the metadata
        for file in files[:2]:
            surface = nib.load(file)
            array = surface.darrays[0]
            array.data = (array.data - moved).astype(np.float32)
            array.meta.update({f"VolGeomC_{axis}": str(step) for axis, step in zip("RAS", shift, strict=True)})
            nib.save(surface, tmp_path / file.name)
        cortex = read_cortex(tmp_path / files[0].name, tmp_path / files[1].name, files[2], side="left")
        if moved.any():
            with pytest.raises(DataError, match=r"FreeSurfer's coordinates.*--to-scanner"):
                voxels_of(cortex, image, None)
        else:
            assert voxels_of(cortex, image, None).any()


def test_numbers_of_the_right_hemisphere_move_only_where_they_must() -> None:
    assert numbers_apart({1: "a"}, {2: "b"}) == 0
    assert numbers_apart({1: "a"}, {1: "b"}) == 1000
    assert numbers_apart({1: "a", 2035: "c"}, {1: "b"}) == 3000


def test_one_way_to_labels_and_every_missing_file_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs left, right or both"):
        MorphometrySettings.model_validate({"surfaces": {}})
    one = {"white": "w", "pial": "p", "labels": "l"}
    with pytest.raises(ValidationError, match="give one of them"):
        MorphometrySettings.model_validate({"surfaces": {"left": one}, "parcellation": "x.nii.gz"})
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("_L.label.gii", "_l.label.gii"))
    with pytest.raises(MissingInputError, match=r"2 of 2 scans failed(.|\n)*sub-02_l\.label\.gii"):
        build_networks(folder, tmp_path / "out", config=config)


def test_a_prefix_is_in_every_name_that_is_written_and_in_no_name_that_is_read(folder: Path, tmp_path: Path) -> None:
    config = folder / "prefix.yaml"
    config.write_text(CONFIG + "id_prefix: siteA\n")
    for _ in range(2):
        run = build_networks(folder, tmp_path, participants=["01"], config=config)
    assert [(done.scan, done.state) for done in run.done] == [("sub-siteA01", "unchanged")]
    build_networks(folder, tmp_path, config=config)
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert cohort.ids == ("sub-siteA01", "sub-siteA02")
    assert list(pd.read_csv(tmp_path / "participants.tsv", sep="\t")["sex"]) == ["F", "M"]
    named = {path.name for path in tmp_path.rglob("sub-*") if path.is_file()}
    assert named
    assert all(name.startswith("sub-siteA0") for name in named)
    with pytest.raises(ValidationError, match="id_prefix"):
        MorphometrySettings.model_validate({"id_prefix": "site_A"})
