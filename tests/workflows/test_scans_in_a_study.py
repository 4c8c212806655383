"""Cohorts with a `scans:` block: processed scans, failed scans, and detected changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.data.cohort import check_cohort
from connectome_tl.workflows.scans import study as study_module
from connectome_tl.workflows.scans.folder import FolderRun
from connectome_tl.workflows.scans.scan import Done
from connectome_tl.workflows.scans.study import ScanCohort, forecast_of, make_cohort, scan_cohorts, with_connectomes
from connectome_tl.workflows.study.power import power_of_cohort

TINY = PhantomSettings(
    n_regions=6,
    n_edges=5,
    half_axes=(23.0, 27.0, 21.0),
    voxel=3.5,
    anatomical_voxel=4.0,
    region_radius=6.0,
    shells=((0.0, 2), (1000.0, 15)),
)
TRUTH = "derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz"
COHORT = """\
name: infants
participants: bids/participants.tsv
id: {ids}
covariates: [{{column: sex, type: categorical}}]
outcomes: [{{name: score, column: score, kind: regression, unit: points}}]
scans:
  bids: bids
  volumes: {volumes}
  settings:
    labels: bids/template/tpl-Phantom_atlas-Phantom_dseg.tsv
    parcellation: {truth}
    measures: [count, length]
    tracking: {{n_streamlines: 100}}
    reconstruction: {{response_voxels: 40, sh_order: 4}}
    preprocessing: {{denoise: none, motion: none}}
"""


def cohort_text(ids: str, volumes: str) -> str:
    return COHORT.format(ids=ids, volumes=volumes, truth=TRUTH)


@pytest.fixture(scope="module", autouse=True)
def _short_pages() -> Iterator[None]:
    """Pages of scans are tested elsewhere, and drawing them takes longer than computing these connectomes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "connectome_tl.workflows.scans.files.write_scan_report", lambda path, *_: write_text(path, "<html></html>")
        )
        patch.setattr("connectome_tl.workflows.scans.cohort.set_beside", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects: sub-02 has no b-values, sub-04 is only in the table; sub-03 is in no table."""
    folder = tmp_path_factory.mktemp("raw")
    bids = write_phantom(folder / "bids", n_subjects=3, n_sessions=1, settings=TINY)
    next(bids.glob("sub-02/**/*.bval")).unlink()
    table = pd.DataFrame({"participant_id": ["sub-01", "sub-02", "sub-04"], "sex": ["F", "M", "F"]})
    table.assign(score=[90, 80, 100]).to_csv(bids / "participants.tsv", sep="\t", index=False)
    (folder / "cohort.yaml").write_text(cohort_text("participant_id", "T2w"))
    (folder / "study.yaml").write_text("target: {cohort: cohort.yaml}\n")
    return folder


def planned(folder: Path) -> ScanCohort:
    settings = load_settings(folder / "study.yaml", StudySettings)
    (found,) = scan_cohorts(settings, folder, folder / "run")
    assert with_connectomes(settings, folder, [found]).target.cohort == "run/scans/target.yaml"
    return found


@pytest.fixture(scope="module")
def made(raw: Path) -> tuple[set[Path], FolderRun]:
    return make_cohort(planned(raw), 1)


def test_scans_of_the_table_are_made_and_others_are_not(raw: Path, made: tuple[set[Path], FolderRun]) -> None:
    _, run = made
    assert [done.scan for done in run.done] == ["sub-01_ses-01"]
    assert [scan for scan, _, _ in run.failed] == ["sub-02_ses-01"]


def test_who_has_no_scan_that_works_stays_and_the_flow_says_why(raw: Path, made: object) -> None:
    cohort = read_cohort(raw / "run" / "scans" / "target.yaml")
    assert cohort.ids == ("sub-01", "sub-02", "sub-04")
    assert cohort.node_mask.any(axis=1).tolist() == [True, False, False]
    assert cohort.targets["score"].tolist() == [90, 80, 100]
    step = cohort.flow[-1]
    assert (step.label, step.n_left) == ("1 with a connectome", 3)
    assert step.reason == "1 without: no scan in the folder; 1 without: the b-values are missing"
    assert [bool(file) for file in cohort.volumes] == [True, True, False]  # a T2w image needs no b-values


def test_stamps_and_provenance_travel_with_the_cohort(raw: Path, made: object) -> None:
    cohort = read_cohort(raw / "run" / "scans" / "target.yaml")
    assert cohort.exploratory
    assert cohort.origin.startswith("The connectomes of infants were made from raw diffusion MRI of 1 scan by")
    assert "100 probabilistic streamlines" in cohort.origin
    sidecar = (raw / "run" / "scans" / "target.json").read_text()
    assert "sub-01_ses-01" in sidecar
    assert "the b-values are missing" in sidecar


def test_the_connectomes_are_those_that_the_command_makes(raw: Path, made: object) -> None:
    cohort = read_cohort(raw / "run" / "scans" / "target.yaml")
    table = pd.read_csv(next((raw / "run").rglob("*meas-count_relmat.tsv")), sep="\t")
    np.testing.assert_array_equal(cohort.weights[0, 0], table.to_numpy(dtype=float))
    assert cohort.region_feature_names == ("volume_mm3", "FA", "MD")


def test_a_changed_scan_is_made_again_and_only_that(raw: Path, made: object, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw, tmp_path / "copy"))
    inputs, run = make_cohort(planned(folder), 1)
    assert [done.state for done in run.done] == ["unchanged"]
    assert folder / "bids" / "sub-01" / "ses-01" / "dwi" in inputs  # a folder: its time stamp shows a new file
    before = read_cohort(folder / "run" / "scans" / "target.yaml")
    scan = "bids/sub-{0}/ses-01/dwi/sub-{0}_ses-01_dwi.{1}"
    shutil.copy(folder / scan.format("03", "nii.gz"), folder / scan.format("01", "nii.gz"))  # another head
    shutil.copy(folder / scan.format("03", "bval"), folder / scan.format("02", "bval"))  # it was missing
    _, run = make_cohort(planned(folder), 1)
    assert [done.state for done in run.done] == ["computed", "computed"]
    after = read_cohort(folder / "run" / "scans" / "target.yaml")
    assert after.node_mask.any(axis=1).tolist() == [True, True, False]
    assert after.row_hashes[0] != before.row_hashes[0]
    assert after.row_hashes[2] == before.row_hashes[2]


def test_a_scan_that_is_taken_away_leaves_no_connectome_behind(raw: Path, made: object, tmp_path: Path) -> None:
    """Its earlier results are still in the folder of connectomes."""
    folder = Path(shutil.copytree(raw, tmp_path / "copy"))
    shutil.rmtree(folder / "bids" / "sub-02")
    shutil.move(folder / "bids" / "sub-01", folder / "bids" / "sub-04")
    for file in sorted((folder / "bids" / "sub-04").rglob("*sub-01*"), reverse=True):
        file.rename(file.with_name(file.name.replace("sub-01", "sub-04")))
    truth = folder / "bids" / "derivatives" / "truth"
    for file in sorted((truth / "sub-01").rglob("*dseg*")):
        target = Path(str(file).replace("sub-01", "sub-04"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    make_cohort(planned(folder), 1)
    assert any((folder / "run" / "scans" / "target" / "sub-01").rglob("*relmat.tsv"))
    cohort = read_cohort(folder / "run" / "scans" / "target.yaml")
    assert cohort.node_mask.any(axis=1).tolist() == [False, False, True]


def test_scans_of_several_sessions_need_an_id_that_tells_them_apart(raw: Path, tmp_path: Path) -> None:
    bids = write_phantom(tmp_path / "bids", n_subjects=1, n_sessions=2, settings=TINY)
    table = pd.DataFrame({"participant_id": "sub-01", "session_id": ["ses-01", "ses-02"], "sex": "F", "score": [1, 2]})
    table.to_csv(bids / "participants.tsv", sep="\t", index=False)
    (tmp_path / "study.yaml").write_text("target: {cohort: cohort.yaml}\n")
    write = (tmp_path / "cohort.yaml").write_text
    table.iloc[:1].to_csv(bids / "participants.tsv", sep="\t", index=False)
    write(cohort_text("participant_id", "FA"))
    with pytest.raises(DataError, match="several scans"):
        forecast_of(planned(tmp_path), 1)
    table.to_csv(bids / "participants.tsv", sep="\t", index=False)
    write(cohort_text("[participant_id, session_id]", "FA"))
    one = planned(tmp_path)
    _, run = make_cohort(one, 1)
    cohort = read_cohort(one.file)
    assert cohort.ids == ("sub-01_ses-01", "sub-01_ses-02")
    assert cohort.node_mask.all()
    assert all(file.endswith("_model-tensor_param-FA_dwimap.nii.gz") for file in cohort.volumes)
    assert [spec.column for spec in cohort.covariate_specs] == ["sex"]
    moved = replace(run, done=tuple(replace(d, numbers={"mean_fd": 0.1 * i}) for i, d in enumerate(run.done, 1)))
    subjects, plan, _, inventory = study_module.planned(one)
    study_module._write(one, plan, moved, study_module._rows(one, subjects, plan, moved, inventory))
    cohort = read_cohort(one.file)
    assert [(spec.column, spec.role) for spec in cohort.covariate_specs][1:] == [("mean_fd", "nuisance")]
    assert cohort.covariates["mean_fd"].tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("ids", "scans", "names"),
    [
        (["01", "02"], ["sub-01_ses-1", "sub-02_ses-1"], "_ses-1"),
        (["01", "02"], ["sub-01_ses-1", "sub-02_ses-2"], "_ses-*"),
        (["01_ses-1", "01_ses-2"], ["sub-01_ses-1", "sub-01_ses-2"], ""),
        (["01", "02"], ["sub-01", "sub-02"], ""),
        (["01_ses-1", "01_ses-2", "02"], ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], None),
        (["01", "02"], ["sub-01", "sub-02_ses-1"], None),
    ],
)
def test_files_are_found_by_one_pattern_or_the_table_is_refused(
    ids: list[str], scans: list[str], names: str | None, tmp_path: Path
) -> None:
    run = FolderRun(tuple(Done(scan, "computed", {}) for scan in scans), (), None, tmp_path / "index.html")
    rows = pd.DataFrame({"participant_id": ids})
    if names is None:
        with pytest.raises(UsageError, match="only some subjects"):
            study_module._session(rows, run)
    else:
        assert study_module._session(rows, run) == names


def test_labels_beside_the_scans_are_inputs_of_the_study(raw: Path, made: tuple[set[Path], FolderRun]) -> None:
    """Otherwise a study with changed labels would count as unchanged."""
    inputs, _ = made
    names = {"subject": "sub-01", "session": "ses-01"}
    assert (raw / "bids" / TRUTH.format(**names)).absolute() in inputs


def test_a_cohort_whose_scans_are_still_to_be_made_is_not_read_as_one_without_connectomes(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="have not been computed from scans yet"):
        read_cohort(raw / "cohort.yaml")
    assert not check_cohort(raw / "cohort.yaml").cohort.n_regions  # the tables only
    power_of_cohort(raw / "cohort.yaml")
    assert "`run` makes them from the scans in bids" in capsys.readouterr().out


def test_what_cannot_be_made_is_refused_before_anything_is_computed(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("target: {cohort: cohort.yaml}\n")
    text = (raw / "cohort.yaml").read_text().replace("bids/", f"{raw}/bids/").replace("bids: bids", f"bids: {raw}/bids")
    (tmp_path / "cohort.yaml").write_text(text + "connectomes: {files: '{id}.csv', labels: numbered}\n")
    with pytest.raises(UsageError, match="either these or scans"):
        planned(tmp_path)
    (tmp_path / "cohort.yaml").write_text(text.replace("volumes: T2w", "transform: [log1p]"))
    with pytest.raises(UsageError, match="number of entries"):
        forecast_of(planned(tmp_path), 1)
    (tmp_path / "people.tsv").write_text("participant_id\tsex\tscore\nA1\tF\t3\nA2\tM\t4\n")
    (tmp_path / "cohort.yaml").write_text(text.replace(f"{raw}/bids/participants.tsv", "people.tsv"))
    with pytest.raises(MissingInputError, match="no subject of cohort 'infants' has a scan"):
        forecast_of(planned(tmp_path), 1)
    assert not (tmp_path / "run").exists()
