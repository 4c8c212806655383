"""External programs of the user in a complete scan: their inputs, use of their results, and the record."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.imaging.read.images import Volume, read_volume, write_volume
from connectome_tl.imaging.read.inputs import Scan, take_inventory
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.settings.hooks import DistortionHook
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes
from connectome_tl.workflows.scans.hooks import hook_problems, without_distortion
from connectome_tl.workflows.scans.planning import folder_settings, plan_folder
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.scan import scans_of_other_settings

TINY = PhantomSettings(
    n_regions=6, n_edges=5, half_axes=(20.0, 24.0, 18.0), voxel=3.0, region_radius=6.0,
    shells=((0.0, 2), (1000.0, 12), (2000.0, 12)),
)  # fmt: skip
PLAIN = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
tracking: {n_streamlines: 300}
reconstruction: {response_voxels: 60, sh_order: 4}
preprocessing: {denoise: none, motion: none}
"""
PARCELS = (
    "parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz\n"
)
HOOKS = """\
hooks:
  distortion:
    command:
      - [cp, "{b0s}", "{acqp}", "{index}", "{config}/seen"]
      - [cp, "{dwi}", "{out}"]
      - [cp, "{bvec}", turned.bvec]
    outputs: {bvec: turned.bvec}
    version: [echo, "copier 1.0"]
    corrects: [susceptibility, eddy, motion]
  brain: {command: [cp, "{config}/mask.nii.gz", "{out}"], of: [diffusion]}
"""
STEM = "sub-01/ses-01/dwi/sub-01_ses-01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw folder with unweighted volumes of the other phase direction."""
    root = write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=1, n_sessions=1, settings=TINY)
    (root / f"{STEM}_dwi.json").write_text('{"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05}')
    dwi = read_volume(root / f"{STEM}_dwi.nii.gz", n_dimensions=(4,))
    epi = root / "sub-01/ses-01/fmap/sub-01_ses-01_dir-PA_epi.nii.gz"
    write_volume(epi, dwi.data[..., :2] * np.float32(1.5), dwi.affine)
    epi.with_name("sub-01_ses-01_dir-PA_epi.json").write_text('{"PhaseEncodingDirection": "j-"}')
    (root / "epi.json").write_text('{"TotalReadoutTime": 0.04}')  # inherited
    truth = root / "derivatives/truth/sub-01/ses-01/sub-01_ses-01_space-dwi_desc-brain_mask.nii.gz"
    shutil.copy(truth, root / "mask.nii.gz")
    return root


def configured(folder: Path, text: str, name: str = "config.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_scan_is_made_of_what_the_programs_leave(folder: Path, tmp_path: Path) -> None:
    (folder / "seen").mkdir()
    config = configured(folder, PLAIN + PARCELS + HOOKS)
    run = build_connectomes(folder, tmp_path, config=config)
    assert run.done[0].warnings == () or not any("exploratory" in said for said in run.done[0].warnings)
    assert np.loadtxt(folder / "seen/acqp.txt").tolist() == [[0, 1, 0, 0.05]] * 2 + [[0, -1, 0, 0.04]] * 2
    assert np.loadtxt(folder / "seen/index.txt").tolist() == [1.0] * 26
    b0s = np.asarray(nib.load(folder / "seen/b0s.nii.gz").dataobj)
    assert b0s.shape[3] == 4
    assert b0s[..., 2].mean() == pytest.approx(1.5 * b0s[..., 0].mean(), rel=1e-5)
    made = nib.load(next(tmp_path.rglob("*_desc-brain_mask.nii.gz")))
    np.testing.assert_array_equal(made.dataobj, nib.load(folder / "mask.nii.gz").dataobj)
    mark = json.loads(next(tmp_path.rglob("*_provenance.json")).read_text())
    assert mark["Versions"]["hooks.distortion"].startswith("copier 1.0 (")
    assert {"opposite_1", "sidecar_1", "sidecar_2", "sidecar_3"} <= set(mark["Inputs"])
    sidecar = json.loads(next(tmp_path.rglob("*meas-count_relmat.json")).read_text())
    assert sidecar["Status"] == "corrected by hooks.distortion: susceptibility, eddy currents and motion"
    assert "$ cp " in (tmp_path / "log" / "sub-01_ses-01_hook-distortion.txt").read_text()
    assert build_connectomes(folder, tmp_path, config=config).done[0].state == "unchanged"
    config = configured(folder, PLAIN + PARCELS + HOOKS.replace("copier 1.0", "copier 1.1"))
    plan, _ = planned(folder, config, tmp_path)
    (why,) = scans_of_other_settings(plan).values()
    assert "copier 1.1" in why


def planned(folder: Path, config: Path, out: Path) -> tuple[Plan[ConnectomesSettings], list[Scan]]:
    settings, base = folder_settings(config, ConnectomesSettings)
    return plan_folder(settings, base, take_inventory(folder), out)


def hook(folder: Path, tmp_path: Path, text: str) -> tuple[Scan, Plan[ConnectomesSettings], DistortionHook]:
    """Scan, plan and hook of a configuration whose `hooks.distortion` is `text`."""
    config = configured(folder, f"{PLAIN}{PARCELS}hooks: {{distortion: {text}}}\n", "other.yaml")
    plan, (scan,) = planned(folder, config, tmp_path)
    return scan, plan, plan.settings.hooks.distortion


def test_volumes_and_vectors_are_those_that_the_program_has_written(folder: Path, tmp_path: Path) -> None:
    stem = folder / f"{STEM}_dwi"
    files = stem.with_suffix(".nii.gz"), stem.with_suffix(".bval"), stem.with_suffix(".bvec")
    dwi = read_dwi(*files, mask=folder / "mask.nii.gz", subject="sub-01_ses-01")
    half = write_volume(folder / "half.nii.gz", dwi.data / 2, dwi.affine)
    np.savetxt(folder / "turned.bvec", np.loadtxt(files[2])[[1, 0, 2]])
    text = '{command: [[cp, "{config}/half.nii.gz", "{out}"], [cp, "{config}/turned.bvec", out.bvec]]}'
    made = without_distortion(dwi, *hook(folder, tmp_path, text))
    np.testing.assert_allclose(made.data, dwi.data / 2)
    turned = read_dwi(half, files[1], folder / "turned.bvec")
    np.testing.assert_allclose(made.directions, turned.directions, atol=1e-6)

    def refused(text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            without_distortion(dwi, *hook(folder, tmp_path, text))

    refused('{command: [cp, "{dwi}", "{out}"], corrects: [motion]}', "no b-vectors, which must rotate with the volumes")
    write_volume(folder / "short.nii.gz", dwi.data[..., :9], dwi.affine)
    refused('{command: [cp, "{config}/short.nii.gz", "{out}"]}', "number of volumes; expected 26; got 9")
    refused('{command: [[cp, "{dwi}", "{out}"], [cp, "{bval}", out.bvec]]}', "wrong shape")
    refused('{command: [sh, -c, "echo no licence >&2; exit 1"]}', r"hooks\.distortion \(sh\) failed.*no licence")


def test_corrected_data_that_no_scanner_makes_are_refused_and_the_program_is_named(
    folder: Path, tmp_path: Path
) -> None:
    stem = folder / f"{STEM}_dwi"
    files = stem.with_suffix(".nii.gz"), stem.with_suffix(".bval"), stem.with_suffix(".bvec")
    dwi = read_dwi(*files, mask=folder / "mask.nii.gz", subject="sub-01_ses-01")
    without = dwi.data.copy()
    without[..., 5] = 0
    for data, message in (
        (np.zeros_like(dwi.data), "the unweighted volumes contain only 0"),
        (-dwi.data, "100% of the unweighted signal is negative"),
        (dwi.data[..., ::-1], "the signal rises with the b-value"),
        (without, "volumes are empty: 6"),
    ):
        write_volume(folder / "made.nii.gz", data, dwi.affine)
        with pytest.raises(DataError, match=message) as caught:
            without_distortion(dwi, *hook(folder, tmp_path, '{command: [cp, "{config}/made.nii.gz", "{out}"]}'))
        (problem,) = caught.value.problems
        assert "subject sub-01_ses-01, file hooks.distortion: out.nii.gz" in str(problem)
        assert problem.remedy == "The command must keep the order and the scale of the volumes."


def test_b_vectors_of_a_program_are_unit_vectors_and_its_file_is_named_where_they_are_none(
    folder: Path, tmp_path: Path
) -> None:
    stem = folder / f"{STEM}_dwi"
    files = stem.with_suffix(".nii.gz"), stem.with_suffix(".bval"), stem.with_suffix(".bvec")
    dwi = read_dwi(*files, mask=folder / "mask.nii.gz", subject="sub-01_ses-01")
    text = '{command: [[cp, "{dwi}", "{out}"], [cp, "{config}/made.bvec", out.bvec]]}'
    np.savetxt(folder / "made.bvec", 1.04 * np.loadtxt(files[2]))
    np.testing.assert_allclose(without_distortion(dwi, *hook(folder, tmp_path, text)).directions, dwi.directions, 1e-5)
    (folder / "made.bvec").write_text("a b c\n")
    with pytest.raises(DataError, match=r"file hooks\.distortion: out\.bvec: not a table of numbers"):
        without_distortion(dwi, *hook(folder, tmp_path, text))


@pytest.mark.slow
@pytest.mark.parametrize("n_cpus", ["1", "2"])
def test_an_interrupted_run_leaves_no_external_program_and_no_copy_of_the_data(
    folder: Path, tmp_path: Path, n_cpus: str
) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "bids"))
    for path in sorted((root / "sub-01").rglob("*_dwi.*")):  # a second scan, since a single one needs no worker
        copy = root / str(path.relative_to(root)).replace("sub-01", "sub-02")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    script = configured(root, f"echo $$ >> {tmp_path}/pids\nsleep 300 &\necho $! >> {tmp_path}/pids\nwait\n", "slow.sh")
    parcels = "parcellation: derivatives/truth/sub-01/ses-01/sub-01_ses-01_space-dwi_atlas-Phantom_dseg.nii.gz\n"
    config = configured(root, f"{PLAIN}{parcels}hooks: {{distortion: {{command: [sh, {script}]}}}}\n")
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "connectome_tl.cli", "connectomes", str(root), str(tmp_path / "out")]
    command += ["participant", "--config", str(config), "--n-cpus", n_cpus]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    pids = tmp_path / "pids"
    until(lambda: pids.is_file() and len(pids.read_text().split()) == 2 * int(n_cpus))
    assert len(list((tmp_path / "temporary").glob("connectome-tl-*"))) == int(n_cpus)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "Traceback" not in told
    until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()))
    assert not list((tmp_path / "temporary").glob("connectome-tl-*"))


def until(said: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not said():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # a process that has ended stays in the list until its parent looks
    return not status.is_file() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_what_a_scan_lacks_for_its_hook_is_told_before_anything_is_computed(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "bids"))
    (root / "epi.json").unlink()
    scan, plan, _ = hook(root, tmp_path, '{command: [cp, "{acqp}", "{json}", "{out}"]}')
    (problem,) = hook_problems(scan, plan)
    assert "TotalReadoutTime None" in str(problem)
    assert "sub-01_ses-01_dir-PA_epi.json" in str(problem)
    assert [str(one) for one in scan.problems] == [str(problem)]
    shutil.rmtree(root / "sub-01/ses-01/fmap")
    config = root / "other.yaml"
    with pytest.raises(MissingInputError, match="no unweighted volumes of the other phase direction"):
        build_connectomes(root, tmp_path / "out", config=config)
    assert not list((tmp_path / "out").rglob("*relmat*"))
    configured(root, PLAIN + PARCELS + "hooks: {brain: {command: [no-such-tool]}}\n", "other.yaml")
    with pytest.raises(MissingInputError, match="no-such-tool"):
        build_connectomes(root, tmp_path / "out", config=config)


def test_only_volumes_of_another_phase_direction_that_are_meant_for_the_data_count(
    folder: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "bids"))
    place = root / "sub-01/ses-01/fmap"
    said = place / "sub-01_ses-01_dir-PA_epi.json"

    def found() -> list[str]:
        return [run.image.name for run in take_inventory(root).scans[0].opposite]

    assert found() == ["sub-01_ses-01_dir-PA_epi.nii.gz"]
    for changed in ({"PhaseEncodingDirection": "j"}, {"IntendedFor": "ses-01/func/sub-01_ses-01_bold.nii.gz"}):
        said.write_text(json.dumps(changed))
        assert found() == []
    for nothing in (None, 3, {}):  # what no standard allows, but does not stop the command
        said.write_text(json.dumps({"IntendedFor": nothing}))
        assert isinstance(found(), list)
    said.write_text(json.dumps({"IntendedFor": ["bids::sub-01/ses-01/dwi/sub-01_ses-01_dwi.nii.gz"]}))
    assert len(found()) == 1
    # Unweighted volumes in the same folder are accepted as well.
    shutil.rmtree(place)
    for ending, text in ((".bval", "0 0"), (".bvec", "0 0\n0 0\n0 0"), (".json", '{"PhaseEncodingDirection": "j-"}')):
        (root / f"sub-01/ses-01/dwi/sub-01_ses-01_dir-PA_dwi{ending}").write_text(text)
    shutil.copy(root / "mask.nii.gz", root / "sub-01/ses-01/dwi/sub-01_ses-01_dir-PA_dwi.nii.gz")
    assert found() == ["sub-01_ses-01_dir-PA_dwi.nii.gz"]


@pytest.mark.slow
def test_tissues_and_labels_of_a_program_are_used(folder: Path, tmp_path: Path) -> None:
    t2w = read_volume(folder / "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz")
    truth = nib.load(folder / "derivatives/truth/sub-01/ses-01/sub-01_ses-01_space-dwi_atlas-Phantom_dseg.nii.gz")
    labels = carry_labels(Warp(np.eye(4)), Volume(np.asarray(truth.dataobj), truth.affine), t2w).data
    brain = t2w.data > 0.1 * t2w.data.max()
    for name, share in (("wm", brain & (labels == 0)), ("gm", labels > 0), ("csf", np.zeros(brain.shape, dtype=bool))):
        write_volume(folder / f"{name}.nii.gz", share.astype(np.float32), t2w.affine)
    write_volume(folder / "regions.nii.gz", labels, t2w.affine)
    text = """\
hooks:
  tissues:
    command: [cp, "{config}/wm.nii.gz", "{config}/gm.nii.gz", "{config}/csf.nii.gz", "{config}/regions.nii.gz", "."]
    outputs: {tissues: [wm.nii.gz, gm.nii.gz, csf.nii.gz], labels: regions.nii.gz}
"""
    run = build_connectomes(folder, tmp_path, config=configured(folder, PLAIN + text))
    assert run.done[0].state == "computed"
    assert run.done[0].numbers["n_regions_present"] == 6
    assert run.done[0].numbers["share_assigned"] > 0.9  # with tissue maps both ends are in grey matter


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("np.stack([brain] * 4, axis=-1)", r"file hooks\.tissues: out\.nii\.gz: not a known kind of tissue image"),
        ("100.0 * np.stack([brain] * 5, axis=-1)", r"file hooks\.tissues: out\.nii\.gz: not tissue fractions"),
    ],
)
def test_an_output_that_cannot_be_used_is_named_by_its_hook(
    output: str, told: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a tool.py").write_text(
        "import sys, nibabel as nib, numpy as np\nimage = nib.load(sys.argv[1])\n"
        f"brain = (np.asarray(image.dataobj) > 0).astype('f4')\nmade = {output}\n"
        "nib.save(nib.Nifti1Image(made, image.affine), sys.argv[2])\n"
    )
    command = f'["{sys.executable}", "{tmp_path}/a tool.py", "{{image}}", "{{out}}"]'
    config = configured(folder, f"{PLAIN}{PARCELS}hooks:\n  tissues: {{command: {command}}}\n", "named.yaml")
    with pytest.raises(DataError, match=told):
        build_connectomes(folder, tmp_path / "out", config=config)
