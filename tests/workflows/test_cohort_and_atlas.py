"""The commands `cohort` and `atlas`: output, files and refusals."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from scipy.ndimage import center_of_mass

from connectome_tl.atlas import find_image, load_atlas
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.connectome.quality import matrix_images
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.workflows.data.atlas import install_atlas, list_atlases, show_atlas
from connectome_tl.workflows.data.cohort import check_cohort, cohort_quality
from connectome_tl.workflows.progress import Ticker


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = simulate_study(seed=1, n_source=12, n_pool=12, n_target=20)
    return write_cohort(study.target, tmp_path_factory.mktemp("cohort"))


def test_a_cohort_is_shown_and_its_page_written(cohort_file: Path, tmp_path: Path) -> None:
    console, page = screen(), tmp_path / "quality.html"
    cohort = check_cohort(cohort_file, page, console=console).cohort
    assert f"{cohort.n_subjects} infants, 90 regions" in said(console)
    for task in cohort.tasks:
        assert task.name in said(console)
    assert page.read_text("utf-8").startswith("<!")
    first = page.read_bytes()
    check_cohort(cohort_file, page, console=screen())
    assert page.read_bytes() == first


def test_the_simulated_cohorts_are_read_back_as_they_were(tmp_path: Path) -> None:
    study = simulate_study(seed=2, n_source=12, n_pool=12, n_target=20)
    for cohort in (study.source, study.pool, study.target):
        again = read_cohort(write_cohort(cohort, tmp_path / cohort.name))
        np.testing.assert_array_equal(again.weights, cohort.weights)
        np.testing.assert_array_equal(again.node_mask, cohort.node_mask)
        np.testing.assert_array_equal(again.targets, cohort.targets)
        assert again.status.to_numpy().tolist() == cohort.status.to_numpy().tolist()
        assert (again.ids, again.regions, again.atlas) == (cohort.ids, cohort.regions, cohort.atlas)
        np.testing.assert_array_equal(again.age, cohort.age)


def test_atlases_are_listed_and_shown() -> None:
    console = screen()
    assert "unc_aal90" in list_atlases(console)
    assert "aal116" in said(console)
    console = screen()
    show_atlas("unc_aal90", console)
    for part in ("doi:10.", "PreCG.L", "Precentral_L", "licence", "order"):
        assert part in said(console)
    with pytest.raises(UsageError, match="aal90"):
        show_atlas("aal9", screen())


def image(path: Path, *, drop: int = 0, flip: bool = False) -> Path:
    """Every label of aal90 as a 3 mm cube at its centroid."""
    atlas = load_atlas("aal90")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-90, -126, -72]
    labels = np.zeros((91, 109, 91), dtype=np.int16)
    for region in atlas.regions:
        if region.index == drop:
            continue
        x, y, z = np.round((np.array([region.x * (-1 if flip else 1), region.y, region.z]) - affine[:3, 3]) / 2)
        labels[int(x), int(y), int(z)] = region.index
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def test_an_image_that_fits_is_installed_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    assert find_image("aal90") is None
    installed = install_atlas("aal90", image(tmp_path / "aal.nii.gz"))
    assert find_image("aal90") == installed.image
    assert installed.unused_labels == ()
    assert json.loads((installed.image.parent / "labels.json").read_text())["Sha256"] == installed.sha256


def test_an_atlas_without_centroids_takes_those_of_the_users_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    atlas = load_atlas("drawem87")
    assert not atlas.has_centroids
    rng = np.random.default_rng(0)
    labels = np.zeros((40, 40, 40), dtype=np.int16)
    sides = {"L": (0, 20), "R": (20, 40), "M": (0, 40)}
    for region in atlas.regions:
        if region.lobe != "Background":  # the two background labels become empty
            free = np.argwhere(labels[slice(*sides[region.hemisphere])] == 0)
            at = free[rng.choice(len(free), 30, replace=False)] + [sides[region.hemisphere][0], 0, 0]
            labels[tuple(at.T)] = region.index
    affine = np.array([[0.0, 2, 0, -80], [0, 0, 3, -20], [1, 0, 0, 5], [0, 0, 0, 1]])[[2, 0, 1, 3]]
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "drawem.nii.gz")
    install_atlas("drawem87", tmp_path / "drawem.nii.gz")
    placed = load_atlas("drawem87")
    real = [i for i, region in enumerate(placed.regions) if region.lobe != "Background"]
    first = [placed.regions[i].index for i in real]
    expected = nib.affines.apply_affine(affine, center_of_mass(labels > 0, labels, first))
    assert placed.has_centroids
    np.testing.assert_allclose(placed.coordinates[real], expected, atol=0.051)


def test_templateflow_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    there = tmp_path / "tpl-UNCInfant" / "cohort-1" / "tpl-UNCInfant_cohort-1_res-1_atlas-AAL_dseg.nii.gz"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"")
    assert find_image("unc_aal90") == there


def test_images_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    with pytest.raises(DataError, match=r"label 90 \(ITG\.R\)"):
        install_atlas("aal90", image(tmp_path / "short.nii.gz", drop=90))
    with pytest.raises(DataError, match="left and right"):
        install_atlas("aal90", image(tmp_path / "flipped.nii.gz", flip=True))
    with pytest.raises(MissingInputError):
        install_atlas("aal90", tmp_path / "none.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(image(tmp_path / "x.nii.gz").read_bytes()[:200])
    with pytest.raises(DataError, match="image"):
        install_atlas("aal90", tmp_path / "broken.nii.gz")
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)), tmp_path / "soft.nii.gz")
    with pytest.raises(DataError, match="whole numbers"):
        install_atlas("aal90", tmp_path / "soft.nii.gz")
    assert not (tmp_path / "home").exists()


def test_an_image_of_another_numbering_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All labels of the table exist, as in AAL2 for aal116, but for other regions."""
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    path = image(tmp_path / "aal.nii.gz")
    right = nib.load(path)
    labels = np.asarray(right.dataobj)
    for shift in (1, 2, 30):
        moved = np.where(labels > 0, (labels + shift - 1) % 90 + 1, 0).astype(np.int16)
        nib.save(nib.Nifti1Image(moved, right.affine), tmp_path / "moved.nii.gz")
        with pytest.raises(DataError, match=r"moved\.nii\.gz: the image is not one of aal90: .*of 90 farther off"):
            install_atlas("aal90", tmp_path / "moved.nii.gz")
    assert not (tmp_path / "home").exists()


def test_what_is_to_know_of_an_image_is_said_and_any_format_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    source = nib.load(image(tmp_path / "aal.nii.gz"))
    labels = np.asarray(source.dataobj).astype(np.int32)
    labels[2, 2, 2] = 200
    smaller = np.diag([0.6, 0.6, 0.6, 1]) @ source.affine
    nib.save(nib.MGHImage(labels, smaller), tmp_path / "aal.mgz")
    installed = install_atlas("aal90", tmp_path / "aal.mgz")
    assert installed.unused_labels == (200,)
    assert "1: 200" in installed.notes[0]
    assert "another space" in installed.notes[1]
    np.testing.assert_array_equal(np.asarray(nib.load(find_image("aal90")).dataobj), labels)


@pytest.mark.data
def test_the_neonatal_image_fits_its_table(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "neonatal_atlases" / "AAL_UNCneo_in_extdhcp40wk.nii.gz"
    assert install_atlas("unc_aal90", source, tmp_path).unused_labels == (91, 92, 109, 131, 132, 133, 134)


def test_hostile_names_are_shown_as_text(cohort_file: Path, tmp_path: Path) -> None:
    hostile = "<img onerror=alert(1)>"
    cohort = read_cohort(cohort_file)
    site = cohort.site.copy()
    site[:] = "[red]x[/red]"
    site[0] = hostile
    regions = (hostile, "../../x", *cohort.regions[2:])
    path = write_cohort(replace(cohort, site=site, regions=regions, atlas="../../own"), tmp_path / "deep" / "in")
    console, page = screen(), tmp_path / "deep" / "q.html"
    check_cohort(path, page, console=console)
    assert hostile in said(console)
    assert "[red]x[/red]" in said(console)
    assert "<img onerror" not in page.read_text("utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]


def test_what_symmetry_hides_is_measured_as_the_files_have_it(tmp_path: Path) -> None:
    """Rounding asymmetry and a diagonal are removed on reading, but are still reported as checks."""
    rng = np.random.default_rng(0)
    upper = np.triu(rng.gamma(1.0, 5.0, (12, 90, 90)), 1)
    matrices = upper + upper.swapaxes(1, 2)
    matrices[3, 2, 7] = matrices[3, 7, 2] = 90.0
    matrices[3, 2, 7] *= 1 + 6e-7
    matrices[5] += np.diag(matrices[5].sum(axis=1))
    names = load_atlas("aal90").names
    ids = [f"s{i}" for i in range(12)]
    (tmp_path / "participants.tsv").write_text("\n".join(["participant_id", *ids]) + "\n")
    (tmp_path / "stack").mkdir()
    np.savez(tmp_path / "stack" / "all.npz", w=matrices, regions=np.array(names))
    for one, matrix in zip(ids, matrices, strict=True):
        np.savez(tmp_path / f"{one}.npz", weights=matrix, regions=np.array(names))
    for source in ("files: '{id}.npz'", "stack: stack/all.npz\n  rows: participants.tsv"):
        text = f"participants: participants.tsv\nconnectomes:\n  atlas: aal90\n  {source}\n"
        (tmp_path / "cohort.yaml").write_text(text)
        quality = cohort_quality(read_cohort(tmp_path / "cohort.yaml"))
        found = {one.name: np.array(one.values) for one in quality.measures}
        assert np.flatnonzero(found["symmetry error"] > 1e-9).tolist() == [3]
        assert np.flatnonzero(found["diagonal"] > 0).tolist() == [5]
        assert found["diagonal"][5] == pytest.approx(0.5)


def test_a_long_step_says_that_it_is_under_way() -> None:
    console = screen()
    with Ticker(console, every=0.02) as ticker:
        ticker.say("measures")
        time.sleep(0.1)
    lines = [line for line in said(console).splitlines() if line.startswith("measures: ")]
    assert len(lines) >= 2
    time.sleep(0.05)
    assert len(said(console).splitlines()) == len(lines)


def test_a_picture_of_many_regions_is_a_mean_over_blocks() -> None:
    n = 650
    weights = np.random.default_rng(0).random((2, n, n)).astype(np.float32)
    mask = np.ones((2, n), dtype=bool)
    mask[0, :3] = False
    images = matrix_images(weights, mask, ["a", "b"], np.array([0.1, 0.2]))
    assert {image.n_rows for image in images} == {217}
    shown = np.array(next(image.values for image in images if image.title == "b")).reshape(217, 217)
    np.testing.assert_allclose(shown[5, 7], np.sqrt(weights[1, 15:18, 21:24].mean()), atol=1e-4)
    other = np.array(next(image.values for image in images if image.title == "a")).reshape(217, 217)
    assert np.isnan(other[0]).all()
    assert np.isfinite(other[1:, 1:]).all()
