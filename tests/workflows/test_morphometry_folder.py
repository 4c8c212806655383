"""A folder of structural images to a cohort for `run`: same code as for connectomes, without diffusion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation, binary_opening, grey_dilation
from scipy.stats import zscore

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings, parse_settings
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.imaging.read.images import Volume, read_labels, read_mask, read_volume, write_volume
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings, RegistrationSettings
from connectome_tl.settings.templates import TemplatesByAge
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.anatomy import with_data
from connectome_tl.workflows.scans.morphometry import build_networks

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
CONFIG = """\
name: structural
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
network: similarity
"""
TEMPLATE = """\
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
"""


def images(root: Path, scan: str) -> Path:
    """The stem of a scan's files in the folder."""
    return root / scan.replace("_", "/") / "anat" / scan


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three newborns with T2w, brain mask and labels, and no diffusion data."""
    root = write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=3, n_sessions=1, settings=SMALL)
    for place in sorted(root.glob("sub-*/ses-*")):
        scan = f"{place.parent.name}_{place.name}"
        shutil.rmtree(place / "dwi")
        truth = root / "derivatives" / "truth" / place.relative_to(root)
        shutil.copy(truth / f"{scan}_space-dwi_atlas-Phantom_dseg.nii.gz", f"{images(root, scan)}_seg-Own_dseg.nii.gz")
        image = read_volume(f"{images(root, scan)}_T2w.nii.gz")
        write_volume(f"{images(root, scan)}_desc-brain_mask.nii.gz", binary_opening(image.data > 200), image.affine)
    (root / "config.yaml").write_text(CONFIG)
    return root


@pytest.fixture
def folder(phantom: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom, tmp_path / "bids"))


def snapshot(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_a_folder_becomes_a_cohort_with_networks_and_regional_measures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["morphometry", str(folder), str(out), "participant", "--config", str(folder / "config.yaml")])
    assert left.value.code == 0
    cohort = read_cohort(out / "cohort.yaml")
    assert cohort.ids == ("sub-01_ses-01", "sub-02_ses-01", "sub-03_ses-01")
    assert list(cohort.family) == ["sub-01", "sub-02", "sub-03"]
    assert (cohort.measures, cohort.age_unit) == (("morphometric_similarity",), "weeks")
    assert cohort.region_feature_names == ("volume_mm3", "mean", "sd", "p10", "p50", "p90")
    assert not cohort.exploratory
    for i, scan in enumerate(cohort.ids):
        image, mask, labels = (
            np.asarray(nib.load(file).dataobj)
            for file in (
                f"{images(folder, scan)}_T2w.nii.gz",
                f"{images(folder, scan)}_desc-brain_mask.nii.gz",
                f"{images(out, scan)}_atlas-Phantom_dseg.nii.gz",
            )
        )
        inside = [image[(labels == n) & (mask > 0)] / np.median(image[mask > 0]) for n in range(1, 9)]
        volumes = [(labels == n).sum() * 1.5**3 for n in range(1, 9)]
        np.testing.assert_allclose(cohort.region_features[i, :, 1], [values.mean() for values in inside], rtol=1e-5)
        np.testing.assert_allclose(cohort.region_features[i, :, 0], volumes, rtol=1e-5)
        expected = np.corrcoef(zscore(cohort.region_features[i], axis=0))
        np.fill_diagonal(expected, 0)
        np.testing.assert_allclose(cohort.weights[i, 0], expected, atol=1e-6)
    page = (out / "index.html").read_text()
    assert "sub-03/ses-01/anat/sub-03_ses-01_report.html" in page


@pytest.mark.parametrize("network", ["similarity", "divergence"])
def test_voxels_outside_the_brain_have_no_part_in_intensities_tissues_and_networks(
    network: str, folder: Path, tmp_path: Path
) -> None:
    """Labels that reach beyond the brain give the numbers of labels that end there; only their volume is larger."""
    scan, found = "sub-01_ses-01", {}
    stem = images(folder, scan)
    image = read_volume(f"{stem}_T2w.nii.gz")
    write_volume(f"{stem}_T1w.nii.gz", 1400 - image.data, image.affine)  # bright outside the brain
    (folder / "both.yaml").write_text(CONFIG + "images: [T2w, T1w]\ntissues: segmented\n")
    brain = read_mask(f"{stem}_desc-brain_mask.nii.gz").data
    label_file = f"{stem}_seg-Own_dseg.nii.gz"
    own = carry_labels(Warp(np.eye(4)), read_labels(label_file), image)
    grown = np.where(own.data > 0, own.data, grey_dilation(own.data, size=5))
    for name, labels in (("beyond", grown), ("within", np.where(brain, grown, 0))):
        write_volume(label_file, labels.astype(np.int16), own.affine)
        run = build_networks(folder, tmp_path / name, config=folder / "both.yaml", participants=["01"], network=network)
        told = [line for line in run.done[0].warnings if "are outside the brain" in line]
        assert len(told) == (name == "beyond")
        table = pd.read_csv(f"{images(tmp_path / name, scan)}_atlas-Phantom_nodeindices.tsv", sep="\t")
        matrix = pd.read_csv(f"{images(tmp_path / name, scan)}_atlas-Phantom_relmat.tsv", sep="\t", index_col=0)
        found[name] = (table.drop(columns="volume_mm3"), matrix, table["volume_mm3"])
    pd.testing.assert_frame_equal(found["beyond"][0], found["within"][0])
    assert (found["beyond"][2] > found["within"][2]).any()
    if network == "divergence":  # which does not depend on volumes
        pd.testing.assert_frame_equal(found["beyond"][1], found["within"][1])


@pytest.mark.parametrize(("without", "centred"), [(0, False), (np.nan, False), (np.nan, True)])
def test_voxels_without_data_in_a_loose_mask_have_no_part_in_any_number(
    without: float, centred: bool, folder: Path, tmp_path: Path
) -> None:
    """A looser mask of a skull-stripped image gives the numbers of its own mask."""
    scan, tables, matrices, sizes = "sub-01_ses-01", [], [], []
    stem = images(folder, scan)
    image, brain = read_volume(f"{stem}_T2w.nii.gz"), read_mask(f"{stem}_desc-brain_mask.nii.gz").data
    values = image.data - image.data[brain].mean() * centred
    second = np.where(values < np.quantile(values[brain], 0.1), without, values)  # has no data in other places
    write_volume(f"{stem}_T1w.nii.gz", np.where(brain, second, without).astype(np.float32), image.affine)
    write_volume(f"{stem}_T2w.nii.gz", np.where(brain, values, without).astype(np.float32), image.affine)
    (folder / "both.yaml").write_text(CONFIG.replace("similarity", "divergence") + "images: [T2w, T1w]\n")
    own = carry_labels(Warp(np.eye(4)), read_labels(f"{stem}_seg-Own_dseg.nii.gz"), image)
    grown = np.where(own.data > 0, own.data, grey_dilation(own.data, size=5)).astype(np.int16)
    write_volume(f"{stem}_seg-Own_dseg.nii.gz", grown, own.affine)
    for name, mask in (("own", brain), ("loose", binary_dilation(brain, iterations=2))):
        write_volume(f"{stem}_desc-brain_mask.nii.gz", mask, image.affine)
        run = build_networks(folder, tmp_path / name, config=folder / "both.yaml", participants=["01"])
        told = [line for line in run.done[0].warnings if "has no data in sub-01_ses-01_T2w.nii.gz" in line]
        assert len(told) == (name == "loose")
        made = images(tmp_path / name, scan)
        tables.append(pd.read_csv(f"{made}_atlas-Phantom_nodeindices.tsv", sep="\t"))
        matrices.append(pd.read_csv(f"{made}_atlas-Phantom_relmat.tsv", sep="\t", index_col=0))
        sizes.append(run.done[0].numbers["brain_ml"])
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*matrices)
    assert sizes[0] == sizes[1]


def test_zeros_are_data_only_among_negative_values() -> None:
    brain = np.array([[[True] * 4 + [False]]])
    for values, expected in (([0, 1, 2, np.nan, 1], 2), ([0, 1, -2, np.inf, 1], 3)):
        told: list[str] = []
        found = with_data(Volume(np.array([[values]], dtype=np.float32), np.eye(4)), brain, told)
        assert found.sum() == expected
        (line,) = told
        assert line.startswith(f"{1 - expected / 4:.0%} of the brain mask has no data in an image")


def test_images_centred_at_zero_give_the_same_network_and_the_same_order_of_regions(
    folder: Path, tmp_path: Path
) -> None:
    scan, tables, matrices = "sub-01_ses-01", [], []
    stem = images(folder, scan)
    image, brain = read_volume(f"{stem}_T2w.nii.gz"), read_mask(f"{stem}_desc-brain_mask.nii.gz").data
    plain = (image.data**1.5).astype(np.float32)  # skewed: its median is below its mean
    middle, spread = plain[brain].mean(), plain[brain].std()
    for name, data in (("plain", plain), ("centred", (plain - middle) / spread)):
        write_volume(f"{stem}_T2w.nii.gz", data, image.affine)
        build_networks(folder, tmp_path / name, config=folder / "config.yaml", participants=["01"])
        made = images(tmp_path / name, scan)
        tables.append(pd.read_csv(f"{made}_atlas-Phantom_nodeindices.tsv", sep="\t"))
        matrices.append(pd.read_csv(f"{made}_atlas-Phantom_relmat.tsv", sep="\t", index_col=0).to_numpy())
    np.testing.assert_allclose(matrices[0], matrices[1], atol=1e-4)
    unit = np.median(np.abs(((plain - middle) / spread)[brain]))
    expected = (tables[0]["mean"] * np.median(plain[brain]) - middle) / spread / unit
    np.testing.assert_allclose(tables[1]["mean"], expected, atol=1e-3)


def test_nothing_is_done_twice_a_lost_file_is_made_again_and_a_broken_scan_stops_no_other(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_networks(folder, out, config=folder / "config.yaml", network="divergence")
    before = snapshot(out)
    next(out.rglob("sub-02*_relmat.tsv")).unlink()
    run = build_networks(folder, out, config=folder / "config.yaml", network="divergence")
    assert [done.state for done in run.done] == ["unchanged", "computed", "unchanged"]
    assert snapshot(out) == before
    assert read_cohort(out / "cohort.yaml").measures == ("morphometric_divergence",)
    image = Path(f"{images(folder, 'sub-02_ses-01')}_T2w.nii.gz")
    image.write_bytes(image.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"1 of 3 scans failed[\s\S]*sub-02_ses-01_T2w.nii.gz"):
        build_networks(folder, out, config=folder / "config.yaml", network="divergence")
    assert "sub-02_ses-01" in (out / "failures.tsv").read_text()
    assert read_cohort(out / "cohort.yaml").ids == ("sub-01_ses-01", "sub-03_ses-01")


def test_what_a_scan_lacks_is_listed_before_anything(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stem = images(folder, "sub-01_ses-01")
    shutil.copy(f"{stem}_T2w.nii.gz", f"{stem}_T1w.nii.gz")
    (folder / "both.yaml").write_text(CONFIG + "images: [T1w, T2w]\ntissues: given\n")
    with pytest.raises(MissingInputError) as caught:
        build_networks(folder, out, config=folder / "both.yaml")
    assert "sub-01_ses-01: there are no tissue maps in the folder of the image" in str(caught.value)
    for scan in ("sub-02_ses-01", "sub-03_ses-01"):
        assert f"{scan}: there is no T1w image; expected anat/{scan}_T1w.nii.gz" in str(caught.value)
    Path(f"{images(folder, 'sub-02_ses-01')}_seg-Own_dseg.nii.gz").unlink()
    with pytest.raises(MissingInputError, match=r"sub-02_ses-01.*there is no parcellation"):
        build_networks(folder, out, config=folder / "config.yaml", participants=["02"])


def test_a_second_contrast_and_tissues_come_along_and_stamp_the_cohort(folder: Path, tmp_path: Path) -> None:
    stem, out = images(folder, "sub-01_ses-01"), tmp_path / "out"
    image = read_volume(f"{stem}_T2w.nii.gz")
    moved = image.affine.copy()
    moved[:3, 3] += (4.0, -3.0, 2.0)  # another head position in this image
    write_volume(f"{stem}_T1w.nii.gz", np.where(image.data > 200, 1400 - image.data, 0), moved)
    (folder / "both.yaml").write_text(CONFIG + "images: [T2w, T1w]\ntissues: segmented\n")
    build_networks(folder, out, config=folder / "both.yaml", participants=["01"])
    table = pd.read_csv(f"{images(out, 'sub-01_ses-01')}_atlas-Phantom_nodeindices.tsv", sep="\t").set_index("name")
    assert list(table.columns[2:4]) == ["volume_mm3", "T2w_mean"]
    assert np.corrcoef(table["T2w_p50"], table["T1w_p50"])[0, 1] < -0.9  # the same positions, reversed
    np.testing.assert_allclose(table[["grey", "white", "fluid"]].sum(axis=1), 1, atol=0.05)
    cohort = read_cohort(out / "cohort.yaml")
    assert cohort.exploratory
    assert cohort.region_feature_names[-3:] == ("grey", "white", "fluid")
    assert "intensities alone" in (out / "index.html").read_text()


@pytest.mark.slow
def test_labels_of_a_template_are_carried_in(folder: Path, tmp_path: Path) -> None:
    scan = "sub-02_ses-01"
    truth = read_labels(f"{images(folder, scan)}_seg-Own_dseg.nii.gz")
    (folder / "config.yaml").write_text(CONFIG + TEMPLATE)
    Path(truth.file or "").unlink()
    run = build_networks(folder, tmp_path / "out", config=folder / "config.yaml", participants=["02"])
    assert run.done[0].numbers["mask_dice"] > 0.9
    stem = images(tmp_path / "out", scan)
    there = read_labels(f"{stem}_atlas-Phantom_dseg.nii.gz")
    for number in range(1, 9):
        centres = [
            np.argwhere(labels.data == number).mean(axis=0) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
            for labels in (truth, there)
        ]
        assert np.linalg.norm(centres[0] - centres[1]) < 3  # mm
    sidecar = json.loads(Path(f"{stem}_atlas-Phantom_relmat.json").read_text())
    assert sidecar["Template"]["Contrast"] == "T2w"
    registration = sidecar["Registration"]
    assert registration["Likeness"] == pytest.approx(run.done[0].numbers["likeness"], abs=1e-3)
    assert registration["Likeness"] > RegistrationSettings().min_likeness + 0.1
    assert registration["SizeRatio"] == pytest.approx(1, abs=0.3)
    assert registration["Orientation"]["Turn"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    page = Path(f"{stem}_report.html").read_text()
    assert registration["Engine"]["Why"] in page
    assert "Bias field: 1 to" in page


def test_the_commented_configuration_names_defaults_and_every_template_in_a_comment_is_one() -> None:
    configs = Path(__file__).parents[2] / "configs"
    given, plain = load_settings(configs / "morphometry.yaml", MorphometrySettings), MorphometrySettings()
    for part in ("network", "images", "tissues", "registration"):
        assert getattr(given, part) == getattr(plain, part)
    lines = (configs / "connectomes.yaml").read_text().splitlines()
    age = next(line for line in lines if line.startswith("# age:")).removeprefix("# ")
    starts = [k for k, line in enumerate(lines) if line.startswith("# template:")]
    for k, size in zip(starts, (4, 1), strict=True):
        text = "\n".join(line.removeprefix("# ") for line in lines[k : k + size])
        assert isinstance(parse_settings(f"{text}\n{age}\n", ConnectomesSettings).template, TemplatesByAge)


def test_results_of_the_other_command_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "out" / "sub-01" / "ses-01" / "dwi" / "sub-01_ses-01_provenance.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    with pytest.raises(UsageError, match="contains results of `connectomes`"):
        build_networks(folder, tmp_path / "out", config=folder / "config.yaml")


def test_what_is_wrong_is_told_before_anything_is_computed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"{images(folder, 'sub-02_ses-01')}_T2w.nii.gz").unlink()
    told: list[str] = []
    monkeypatch.setattr(
        "connectome_tl.workflows.scans.scan.make_network", lambda *_: told.append(capsys.readouterr().err)
    )
    with pytest.raises(SystemExit):
        main(["morphometry", str(folder), str(tmp_path / "out"), "--config", str(folder / "config.yaml")])
    assert "Found: subject sub-02_ses-01: there is no T2w image" in told[0]


def test_one_subject_needs_a_file_to_write_and_a_folder_takes_no_such_option(folder: Path, tmp_path: Path) -> None:
    labels = f"{images(folder, 'sub-01_ses-01')}_seg-Own_dseg.nii.gz"
    for arguments in ([labels, labels], [str(folder), str(tmp_path), "group"], [str(folder), "x", "--out", "x.tsv"]):
        with pytest.raises(SystemExit) as left:
            main(["morphometry", *arguments])
        assert left.value.code == 64


def test_a_folder_with_other_files_is_no_output_folder(folder: Path) -> None:
    study = folder.parent / "study"
    study.mkdir()
    (study / "cohort.yaml").write_text("mine: 1\n")
    with pytest.raises(UsageError, match=r"contains other files, which could be replaced; got cohort\.yaml"):
        build_networks(folder, study, config=folder / "config.yaml")
    assert (study / "cohort.yaml").read_text() == "mine: 1\n"
