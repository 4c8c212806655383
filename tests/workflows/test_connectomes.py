"""The participant command on a small phantom folder: truth, resume, broken scans."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.data.assemble import assemble_files
from connectome_tl.workflows.scans.connectomes import build_connectomes
from connectome_tl.workflows.scans.report import page_hash, set_beside

pytestmark = pytest.mark.slow

SMALL = PhantomSettings(
    n_regions=8,
    n_edges=7,
    half_axes=(24.0, 28.0, 22.0),
    voxel=2.5,
    region_radius=6.0,
    shells=((0.0, 4), (400.0, 6), (1000.0, 16), (2600.0, 24)),
)
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 1500}
reconstruction: {response_voxels: 60}
preprocessing: {denoise: none}
"""
REGISTERED = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
tracking: {n_streamlines: 1500}
reconstruction: {response_voxels: 60}
preprocessing: {motion: none}
registration: {nonlinear_mm: 2.0, orientation: header, nonlinear_steps: [40, 20, 5]}
"""
QUICK = CONFIG.replace("1500", "300").replace("denoise: none", "denoise: none, motion: none")


@pytest.fixture(scope="module")
def folder(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(root: Path) -> None:
        write_phantom(root, n_subjects=2, n_sessions=1, settings=SMALL)
        (root / "config.yaml").write_text(CONFIG)
        (root / "quick.yaml").write_text(QUICK)
        (root / "registered.yaml").write_text(REGISTERED)
        theirs = REGISTERED.replace("nonlinear_mm: 2.0", "engine: ants, nonlinear_mm: 2.5")
        theirs = theirs.replace("{response_voxels: 60}", "{response_voxels: 60, sh_order: 4}")
        theirs = theirs.replace("{motion: none}", "{denoise: dwidenoise, gibbs: mrdegibbs, motion: none}")
        (root / "theirs.yaml").write_text(theirs + "engine: mrtrix3\nkeep_tractogram: true\n")

    return made_once("scans", make)


@pytest.fixture(scope="module")
def made(folder: Path, made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(out: Path) -> None:
        run = build_connectomes(folder, out, config=folder / "config.yaml")
        assert [done.state for done in run.done] == ["computed", "computed"]

    return made_once("connectomes", make)


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def snapshot(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_every_planted_edge_is_found_and_run_can_read_the_cohort(folder: Path, made: Path) -> None:
    cohort = read_cohort(made / "cohort.yaml")
    assert cohort.ids == ("sub-01_ses-01", "sub-02_ses-01")
    assert list(cohort.family) == ["sub-01", "sub-02"]  # sessions of one child stay in one fold
    assert cohort.age_unit == "weeks"
    assert any(made.rglob("sub-01_ses-01_atlas-Phantom_meas-count_relmat.tsv"))
    assert cohort.age.tolist() == [38.0, 38.5]
    truth = pd.read_csv(folder / "derivatives" / "truth" / "edges.tsv", sep="\t")
    for i, subject in enumerate(("sub-01", "sub-02")):
        edges = truth[truth["participant_id"] == subject]
        a = [cohort.regions.index(name) for name in edges["a"]]
        b = [cohort.regions.index(name) for name in edges["b"]]
        assert (cohort.weights[i, 0, a, b] > 0).all()
    assert cohort.measures == ("count", "length", "FA", "MD")
    sidecar = next(made.rglob("sub-01*meas-count_relmat.json")).read_text()
    assert "exploratory" in sidecar
    assert cohort.exploratory  # and every run's report states it


def test_regional_measures_and_the_tables_of_the_folder_come_with_the_cohort(made: Path) -> None:
    cohort = read_cohort(made / "cohort.yaml")
    assert cohort.atlas == "Phantom"
    assert cohort.region_feature_names == ("volume_mm3", "FA", "MD")
    assert list(pd.read_csv(made / "participants.tsv", sep="\t")["sex"]) == ["F", "M"]
    scan = made / "sub-01" / "ses-01" / "dwi"
    labels, fa, brain = (nib.load(next(scan.glob(f"*{name}.nii.gz"))) for name in ("_dseg", "FA_dwimap", "brain_mask"))
    at, inside = np.asarray(labels.dataobj), np.asarray(brain.dataobj) > 0
    numbers = pd.read_csv(next(scan.glob("*_nodeindices.tsv")), sep="\t").set_index("name")["label"]
    for i, name in enumerate(cohort.regions):
        here = at == numbers[name]
        volume, mean, _ = cohort.region_features[0, i]
        assert volume == pytest.approx(here.sum() * abs(np.linalg.det(labels.affine)))
        assert mean == pytest.approx(np.asarray(fa.dataobj)[here & inside].mean(), rel=1e-4)


def test_nothing_is_done_twice_and_a_lost_or_changed_file_is_made_again(
    folder: Path, made: Path, tmp_path: Path
) -> None:
    out = copied(made, tmp_path / "out")
    before = snapshot(out)
    for half in (".cohort.yaml.x.part", "sub-01/ses-01/dwi/.sub-01_ses-01_report.html.x.part"):
        (out / half).write_text("killed while writing")
    run = build_connectomes(folder, out, config=folder / "config.yaml")
    assert [done.state for done in run.done] == ["unchanged", "unchanged"]
    assert snapshot(out) == before
    next(out.rglob("sub-02*meas-count_relmat.tsv")).write_text("damaged")
    next(out.rglob("sub-02*report.html")).unlink()
    run = build_connectomes(folder, out, config=folder / "config.yaml")
    assert [done.state for done in run.done] == ["unchanged", "computed"]
    assert snapshot(out) == before


def test_parts_made_elsewhere_come_together_and_nothing_is_made_again(folder: Path, made: Path, tmp_path: Path) -> None:
    root, out = copied(folder, tmp_path / "moved" / "bids"), tmp_path / "unzipped"
    for subject in ("sub-01", "sub-02"):  # results of jobs on other machines
        shutil.copytree(made / subject, out / subject)
        (root / subject / f"{subject}_sessions.tsv").unlink()  # a job that is given one session does not see its table
    for _ in range(2):
        run = build_connectomes(root, out, config=root / "config.yaml")
        assert [done.state for done in run.done] == ["unchanged", "unchanged"]
        shutil.copytree(folder, root, dirs_exist_ok=True)
    assert snapshot(out) == snapshot(made)


def test_content_that_was_not_fetched_is_named_and_what_is_there_is_used(
    folder: Path, made: Path, tmp_path: Path
) -> None:
    root, out = copied(folder, tmp_path / "bids"), copied(made, tmp_path / "out")
    absent = ["participants.tsv", "sub-01/sub-01_sessions.tsv", "sub-01/ses-01/dwi/sub-01_ses-01_dwi.nii.gz"]
    for name in absent:  # git-annex leaves broken links
        (root / name).unlink()
        (root / name).symlink_to("nowhere")
    with pytest.raises(MissingInputError, match=r"1 of 2 scans failed.*\n.*sub-01_ses-01_dwi.nii.gz.*datalad get"):
        build_connectomes(root, out, config=root / "config.yaml")
    assert read_cohort(out / "cohort.yaml").age.tolist() == [38.5]
    told = (out / "inventory.txt").read_text()
    assert all(f"{name}: a broken link" in told for name in absent)


def test_what_is_odd_about_a_gradient_table_is_also_told_at_once(folder: Path, tmp_path: Path) -> None:
    root = copied(folder, tmp_path / "bids")
    bvec = root / "sub-01" / "ses-01" / "dwi" / "sub-01_ses-01_dwi.bvec"
    np.savetxt(bvec, np.loadtxt(bvec) * 3.0)
    told: list[str] = []
    made = build_connectomes(root, tmp_path / "out", participants=["01"], config=root / "quick.yaml", tell=told.append)
    assert any("of length 3 are taken as directions" in line and "sub-01_ses-01" in line for line in told)
    assert made.done[0].state == "computed"


@pytest.mark.parametrize("wrong", ["b-vectors", "headers of all images"])
def test_a_table_that_contradicts_the_header_is_refused_and_reported_on_request(
    wrong: str, folder: Path, tmp_path: Path
) -> None:
    root, told = copied(folder, tmp_path / "bids"), list[str]()
    if wrong == "b-vectors":
        bvec = root / "sub-01" / "ses-01" / "dwi" / "sub-01_ses-01_dwi.bvec"
        np.savetxt(bvec, np.loadtxt(bvec) * [[-1.0], [1.0], [1.0]])
    else:
        for file in root.rglob("sub-01*.nii.gz"):
            image = nib.load(file)
            nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), np.diag([-1, 1, 1, 1]) @ image.affine), file)

    def run() -> str:
        made = build_connectomes(
            root, tmp_path / "out", participants=["01"], config=root / "quick.yaml", tell=told.append
        )
        return made.done[0].state

    with pytest.raises(DataError, match=r"sub-01_ses-01.*flipped along the image's axis x.*set wrong_table: warn"):
        run()
    (root / "quick.yaml").write_text(QUICK + "wrong_table: warn\n")
    assert run() == "computed"
    assert any("gradient table looks wrong" in line for line in told)


def header(offset: int, code: str, *values: float) -> object:
    def change(data: bytes) -> bytes:
        raw = bytearray(gzip.decompress(data))
        struct.pack_into(code, raw, offset, *values)
        return gzip.compress(bytes(raw))

    return change


BROKEN = {
    "truncated": ("dwi/{}_dwi.nii.gz", lambda d: d[: len(d) // 3], "damaged", DataError),
    "checksum": ("dwi/{}_dwi.nii.gz", lambda d: d[:-8] + bytes([d[-8] ^ 1]) + d[-7:], "damaged", DataError),
    "huge": (
        "dwi/{}_dwi.nii.gz",
        header(40, "<8h", 4, 30000, 30000, 30000, 9, 1, 1, 1),
        "too large according to its header",
        DataError,
    ),
    "no sform": ("dwi/{}_dwi.nii.gz", header(252, "<2h", 0, 0), "no orientation", DataError),
    "NaN scale": ("dwi/{}_dwi.nii.gz", header(112, "<2f", float("nan"), 0.0), "scale", DataError),
    "bval count": ("dwi/{}_dwi.bval", lambda d: d.rsplit(b" ", 1)[0], "number of b-values", DataError),
    "no bvec": ("dwi/{}_dwi.bvec", None, "b-vectors are missing", MissingInputError),
    "no image": ("dwi/{}_dwi.nii.gz", None, "there is no diffusion image", MissingInputError),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_scan_is_named_and_stops_no_other(fault: str, folder: Path, made: Path, tmp_path: Path) -> None:
    pattern, change, message, kind = BROKEN[fault]
    root, out = copied(folder, tmp_path / "bids"), copied(made, tmp_path / "out")
    file = root / "sub-01" / "ses-01" / pattern.format("sub-01_ses-01")
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(kind, match=message) as caught:
        build_connectomes(root, out, config=root / "config.yaml")
    text = str(caught.value)
    assert "sub-01_ses-01" in text
    assert "1 of 2 scans failed" in text
    if change is not None:
        assert file.name in text or file.with_suffix(".bvec").name in text
    assert caught.value.exit_code == (66 if kind is MissingInputError else 65)
    page = (out / "index.html").read_text()
    assert "sub-01_ses-01" in page
    assert read_cohort(out / "cohort.yaml").ids == ("sub-02_ses-01",)


def test_an_empty_mask_and_lost_labels_are_said(folder: Path, made: Path, tmp_path: Path) -> None:
    from connectome_tl.imaging.read.images import read_labels, write_volume

    root = copied(folder, tmp_path / "bids")
    truth = root / "derivatives" / "truth" / "sub-01" / "ses-01" / "sub-01_ses-01_space-dwi_atlas-Phantom_dseg.nii.gz"
    labels = read_labels(truth)
    write_volume(root / "sub-02/ses-01/dwi/sub-02_ses-01_desc-brain_mask.nii.gz", labels.data * 0, labels.affine)
    write_volume(truth, np.where(labels.data > 0, labels.data + 100, 0), labels.affine)
    with pytest.raises(DataError) as caught:
        build_connectomes(root, tmp_path / "out", config=root / "quick.yaml")
    assert "none of the labels" in str(caught.value)
    assert "the mask is empty" in str(caught.value)
    truth.unlink()
    with pytest.raises(DataError, match="the parcellation is missing"):
        build_connectomes(root, tmp_path / "out", config=root / "quick.yaml")


def test_the_page_lists_failures_of_earlier_commands_and_forgets_mended_ones(folder: Path, tmp_path: Path) -> None:
    root, out = copied(folder, tmp_path / "bids"), tmp_path / "out"
    file = root / "sub-01/ses-01/dwi/sub-01_ses-01_dwi.bval"
    good = file.read_text()
    file.write_text("0 1000\n")
    with pytest.raises(DataError):
        build_connectomes(root, out, config=root / "quick.yaml", participants=["01"])
    build_connectomes(root, out, config=root / "quick.yaml", participants=["02"])
    for text in ((out / "index.html").read_text(), (out / "failures.tsv").read_text()):
        assert "sub-01_ses-01" in text
        assert "number of b-values" in text
    file.write_text(good)
    build_connectomes(root, out, config=root / "quick.yaml", participants=["01"])
    assert "number of b-values" not in (out / "index.html").read_text()
    assert read_cohort(out / "cohort.yaml").ids == ("sub-01_ses-01", "sub-02_ses-01")


def test_a_page_stands_beside_the_cohort_and_its_hash_does_not_change_with_it(made: Path, tmp_path: Path) -> None:
    page = Path(shutil.copy(next(made.rglob("sub-01*report.html")), tmp_path / "page.html"))
    before, digest = page.read_text(), page_hash(page)
    set_beside(page, {"mean_fa": 0.5}, {"mean_fa": (0.2, 0.01)})
    assert page.read_text() != before
    assert "outlier" in page.read_text()
    assert page_hash(page) == digest
    page.write_text(page.read_text().replace("streamlines:", "streamlines"))
    assert page_hash(page) != digest


def test_weights_on_request_are_cross_sections_and_a_count_is_said_to_be_none(
    folder: Path, made: Path, tmp_path: Path
) -> None:
    counted = next(made.rglob("sub-01*meas-count_relmat.json"))
    assert json.loads(counted.read_text())["EdgeWeight"] == "streamlines, not fibre density"
    assert "streamlines, not fibre density" in next(made.rglob("sub-01*report.html")).read_text()
    text = CONFIG.replace("n_streamlines: 1500", "n_streamlines: 1500, weights: fibre_density")
    folder, out = copied(folder, tmp_path / "bids"), tmp_path / "out"
    (folder / "weighted.yaml").write_text(text)
    build_connectomes(folder, out, config=folder / "weighted.yaml", participants=["01"])
    weighted = next(out.rglob("sub-01*meas-count_relmat.json"))
    assert "mm2" in json.loads(weighted.read_text())["EdgeWeight"]
    sums, counts = (pd.read_csv(file.with_suffix(".tsv"), sep="\t", index_col=0) for file in (weighted, counted))
    there = counts.to_numpy() > 20
    assert (sums.to_numpy()[there] > 0).all()
    assert 1 < sums.to_numpy()[there].max() < 1000  # mm2


def test_capacity_is_a_name_for_comparable_weights_only() -> None:
    def name(**reconstruction: object) -> str:
        return weight_name(ConnectomesSettings.model_validate({"engine": "mrtrix3", "reconstruction": reconstruction}))

    assert name(response_file="group.json", normalise=True) == "fibre bundle capacity"
    for settings in ({}, {"response_file": "group.json"}, {"normalise": True}):
        assert "not comparable" in name(**settings)
    with pytest.raises(ValueError, match="engine: mrtrix3"):
        ConnectomesSettings.model_validate({"reconstruction": {"normalise": True}})


@pytest.mark.mrtrix
def test_a_group_response_is_used_and_said(folder: Path, made: Path, tmp_path: Path) -> None:
    if shutil.which("mtnormalise") is None:
        pytest.skip("MRtrix3 is not installed")
    sidecar = json.loads(next(made.rglob("sub-02*meas-count_relmat.json")).read_text())
    assert sidecar["Response"]["of"] == "this subject"
    folder = copied(folder, tmp_path / "bids")
    (folder / "group.json").write_text(json.dumps(sidecar["Response"]))
    text = QUICK.replace("{response_voxels: 60}", "{response_file: group.json, normalise: true, sh_order: 4}")
    (folder / "group.yaml").write_text(text)
    out = tmp_path / "out"
    build_connectomes(folder, out, config=folder / "group.yaml", participants=["01"], engine="mrtrix3")
    moved = copied(folder, tmp_path / "moved")
    run = build_connectomes(moved, out, config=moved / "group.yaml", participants=["01"], engine="mrtrix3")
    assert run.done[0].state == "unchanged"  # the location of the response file has no effect
    sidecar = json.loads(next(out.rglob("sub-01*meas-count_relmat.json")).read_text())
    assert sidecar["Response"]["of"] == "declared group"
    assert sidecar["EdgeWeight"] == "fibre bundle capacity"


def test_a_template_is_carried_into_each_subject(folder: Path, tmp_path: Path) -> None:
    run = build_connectomes(folder, tmp_path, config=folder / "registered.yaml", participants=["01"])
    assert run.done[0].numbers["mask_dice"] > 0.9
    assert run.done[0].numbers["n_regions_present"] == 8
    cohort = read_cohort(tmp_path / "cohort.yaml")
    truth = pd.read_csv(folder / "derivatives" / "truth" / "edges.tsv", sep="\t")
    edges = truth[truth["participant_id"] == "sub-01"]
    found = [
        cohort.weights[0, 0, cohort.regions.index(a), cohort.regions.index(b)] for a, b in zip(edges["a"], edges["b"])
    ]
    assert (np.array(found) > 0).all()


def test_without_parcellation_or_template_it_is_said_before_anything_else(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="there is no parcellation"):
        build_connectomes(folder, tmp_path, participants=["01"])
    typo = tmp_path / "typo.yaml"
    typo.write_text("template: {image: nowhere.nii.gz, labels: nowhere.nii.gz}\n")
    with pytest.raises(MissingInputError, match="template"):
        build_connectomes(folder, tmp_path / "out", config=typo)


def test_killed_at_random_and_run_again_it_ends_with_the_same_files(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, whole, tmp_path = (tmp_path_factory.mktemp(name) for name in ("few volumes", "whole", "killed"))
    few = replace(SMALL, voxel=3.0, shells=((0.0, 3), (1000.0, 16)))
    write_phantom(folder, n_subjects=2, n_sessions=1, settings=few)
    (folder / "quick.yaml").write_text(QUICK.replace("{response_voxels: 60}", "{response_voxels: 60, sh_order: 4}"))
    build_connectomes(folder, whole, config=folder / "quick.yaml")
    rng, wanted = np.random.default_rng(0), len(snapshot(whole))
    code = "import sys; from connectome_tl.workflows.scans.connectomes import build_connectomes as b; "
    code += f"b({str(folder)!r}, {str(tmp_path)!r}, config={str(folder / 'quick.yaml')!r})"
    for least in (1, wanted // 3, 2 * wanted // 3):  # files that exist when it is killed, or shortly after
        process = subprocess.Popen([sys.executable, "-c", code])
        while process.poll() is None and len(list(tmp_path.rglob("*"))) < least:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0.0, 0.5)))
        process.kill()
        process.wait()
    build_connectomes(folder, tmp_path, config=folder / "quick.yaml")
    assert snapshot(tmp_path) == snapshot(whole)


@pytest.mark.mrtrix
def test_mrtrix_and_ants_make_every_step_they_can_and_find_the_same_edges(folder: Path, tmp_path: Path) -> None:
    if shutil.which("tcksift2") is None:
        pytest.skip("MRtrix3 is not installed")
    pytest.importorskip("ants")
    for out in ("a", "b"):
        run = build_connectomes(folder, tmp_path / out, config=folder / "theirs.yaml", participants=["01"])
        assert run.done[0].state == "computed"
        assert run.done[0].numbers["mask_dice"] > 0.9
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    sidecar = json.loads(next(tmp_path.rglob("a/**/*meas-count_relmat.json")).read_text())
    assert sidecar["Engine"] == "mrtrix3"
    steps = (sidecar["Settings"]["registration"]["engine"], *sidecar["Settings"]["preprocessing"].values())
    assert {"ants", "dwidenoise", "mrdegibbs"} <= set(steps)
    mark = json.loads(next(tmp_path.rglob("a/**/*_provenance.json")).read_text())
    assert mark["Versions"]["mrtrix3"][:2] == "3."  # another version processes the scan again
    assert "antspyx" in mark["Versions"]
    # `assemble` with the kept streamlines and their weights gives the same table.
    kept, parcels = next(tmp_path.rglob("a/**/*_tractogram.tck")), next(tmp_path.rglob("a/**/*_dseg.nii.gz"))
    weights_file = kept.with_name(kept.name.replace(".tck", "_weights.txt"))
    table = folder / "template" / "tpl-Phantom_atlas-Phantom_dseg.tsv"
    again = assemble_files(kept, parcels, tmp_path / "again.tsv", weights=weights_file, labels=table)
    count = pd.read_csv(next(tmp_path.rglob("a/**/*meas-count_relmat.tsv")), sep="\t")
    np.testing.assert_allclose(pd.read_csv(again.file, sep="\t"), count, rtol=1e-6)
    cohort = read_cohort(tmp_path / "a" / "cohort.yaml")
    truth = pd.read_csv(folder / "derivatives" / "truth" / "edges.tsv", sep="\t")
    edges = truth[truth["participant_id"] == "sub-01"]
    weights = [
        cohort.weights[0, 0, cohort.regions.index(a), cohort.regions.index(b)] for a, b in zip(edges["a"], edges["b"])
    ]
    assert np.mean(np.array(weights) > 0) > 0.85


def test_a_missing_engine_is_said_before_anything_is_computed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingInputError, match="need MRtrix3"):
        build_connectomes(folder, tmp_path, config=folder / "config.yaml", engine="mrtrix3")


def test_the_commented_configuration_is_a_valid_one_and_only_names_defaults() -> None:
    given = load_settings(Path(__file__).parents[2] / "configs" / "connectomes.yaml", ConnectomesSettings)
    plain = ConnectomesSettings()
    for part in ("measures", "engine", "preprocessing", "reconstruction", "tracking"):
        assert getattr(given, part) == getattr(plain, part)


def test_the_official_validator_finds_no_error_in_what_is_written(made: Path) -> None:
    validator = shutil.which("bids-validator-deno") or shutil.which("bids-validator")
    if validator is None:
        pytest.skip("bids-validator is not installed")
    said = subprocess.run([validator, "--json", str(made)], capture_output=True, text=True, check=False)
    issues = json.loads(said.stdout)["issues"]
    found = issues["issues"] if isinstance(issues, dict) else issues
    assert [(issue["code"], issue.get("location")) for issue in found if issue["severity"] == "error"] == []


def test_every_scan_has_a_table_of_its_volumes_and_the_cohort_its_motion(made: Path) -> None:
    table = pd.read_csv(next(made.rglob("sub-01*_desc-confounds_timeseries.tsv")), sep="\t")
    assert len(table) == sum(count for _, count in SMALL.shells)
    assert np.isnan(table["framewise_displacement"][0])
    described = json.loads(next(made.rglob("sub-01*_desc-confounds_timeseries.json")).read_text())
    assert set(described) == set(table.columns)
    listed = pd.read_csv(made / "participants.tsv", sep="\t")
    assert listed["mean_fd"][0] == pytest.approx(table["framewise_displacement"].mean(), abs=1e-4)
    cohort = read_cohort(made / "cohort.yaml")
    (motion,) = [c for c in load_settings(made / "cohort.yaml", CohortSettings).covariates if c.column == "mean_fd"]
    assert (motion.role, motion.unit) == ("nuisance", "mm")
    assert len(cohort.ids) == 2
