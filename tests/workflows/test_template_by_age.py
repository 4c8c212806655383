"""Each scan uses the template of its age and the matching image; missing files are reported first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import parse_settings
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, UsageError
from connectome_tl.imaging.read.inputs import take_inventory
from connectome_tl.settings.cohort import AgeColumn
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.age import ScanAges, read_ages
from connectome_tl.workflows.scans.connectomes import build_connectomes
from connectome_tl.workflows.scans.planning import plan_folder
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.scan import _versions, folder_key
from connectome_tl.workflows.scans.template import choose_templates, template_notes

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
QUICK = """\
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
measures: [count]
tracking: {n_streamlines: 200}
reconstruction: {response_voxels: 60}
preprocessing: {denoise: none, motion: none}
registration: {orientation: header, nonlinear_mm: 2.5, nonlinear_steps: [20, 5, 0]}
age: {column: scan_age, unit: weeks, reference: postmenstrual}
"""
CACHE = QUICK + "template: {by_age: templateflow, labels: desc-structures}\n"
OWN = """template:
  by_age:
    - {ages: [36, 39], image: younger_T2w.nii.gz, labels: labels.nii.gz}
    - {ages: [39, 42], image: older_T2w.nii.gz, labels: labels.nii.gz, mask: mask.nii.gz}
"""


def ages(folder: Path, **of: float | str) -> None:
    for subject, age in of.items():
        label = subject.replace("_", "-")
        (folder / label / f"{label}_sessions.tsv").write_text(f"session_id\tscan_age\nses-01\t{age}\n")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=2, n_sessions=1, settings=SMALL)


@pytest.fixture
def folder(phantom: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom, tmp_path / "bids"))


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TemplateFlow's cache with the phantom's template for 38 and 39 weeks."""
    home = tmp_path / "templateflow"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    names = {"T2w": "T2w", "desc-brain_mask": "desc-brain_mask", "atlas-Phantom_dseg": "desc-structures_dseg"}
    for week in (38, 39):
        stem = home / "tpl-dhcpVol" / f"cohort-{week}" / f"tpl-dhcpVol_cohort-{week}"
        stem.parent.mkdir(parents=True)
        for name, there in names.items():
            shutil.copy(folder / "template" / f"tpl-Phantom_{name}.nii.gz", f"{stem}_{there}.nii.gz")
    return home


def refused(folder: Path, text: str, kind: type[ConnectomeTLError] = MissingInputError) -> str:
    """The message of a command that stops before anything is computed."""
    (folder / "config.yaml").write_text(text)
    with pytest.raises(kind) as caught:
        build_connectomes(folder, folder.parent / "out", config=folder / "config.yaml")
    assert not list((folder.parent / "out").rglob("*_relmat.tsv"))
    return str(caught.value)


@pytest.mark.slow
def test_scans_of_different_ages_take_their_own_template_and_say_so(folder: Path, cache: Path, tmp_path: Path) -> None:
    ages(folder, sub_01=38.2, sub_02="39+1")
    (folder / "config.yaml").write_text(CACHE)
    build_connectomes(folder, tmp_path / "out", config=folder / "config.yaml")
    for subject, age, week in (("01", "38.2", "38"), ("02", "39.1429", "39")):
        sidecar = json.loads(next((tmp_path / "out").rglob(f"sub-{subject}*_relmat.json")).read_text())
        expected = {"Name": f"dhcpVol cohort {week}", "Contrast": "T2w", "Why": f"{age} weeks postmenstrual"}
        assert sidecar["Template"] == expected
        page = next((tmp_path / "out").rglob(f"sub-{subject}*_report.html")).read_text()
        assert f"Template: dhcpVol cohort {week}, T2w ({age} weeks postmenstrual)." in page
    cohort = read_cohort(tmp_path / "out" / "cohort.yaml")
    assert (cohort.age_unit, cohort.age.round(2).tolist()) == ("weeks", [38.2, 39.14])
    assert cohort.node_mask.all()
    # With another age and template, the scan is processed again, the other is not.
    ages(folder, sub_02=38.4)
    run = build_connectomes(folder, tmp_path / "out", config=folder / "config.yaml")
    assert [done.state for done in run.done] == ["unchanged", "computed"]


def test_what_is_not_in_the_cache_is_named_with_the_command_that_gets_it(folder: Path, cache: Path) -> None:
    ages(folder, sub_01=38.2, sub_02=40.3)
    text = refused(folder, CACHE)
    assert "sub-02_ses-01: dhcpVol cohort 40 is not in the cache" in text
    command = "template --age 40.3 --unit weeks --reference postmenstrual --labels desc-structures"
    assert f"connectome-tl fetch {command}" in text
    assert "sub-01" not in text
    with pytest.raises(SystemExit) as left:
        main(["connectomes", str(folder), str(folder.parent / "out"), "--config", str(folder / "config.yaml")])
    assert left.value.code == 66
    with pytest.raises(SystemExit) as left:  # and the command exists
        main(["fetch", *command.split(), "--name-only"])
    assert left.value.code == 0


def test_no_age_and_no_template_for_an_age_are_listed_by_subject_before_anything(folder: Path, cache: Path) -> None:
    ages(folder, sub_01="n/a", sub_02=30)
    text = refused(folder, CACHE)
    assert "2 of 2 scans failed" in text
    assert "sub-01_ses-01: the age at scan is missing; expected scan_age in weeks" in text
    assert "sub-02_ses-01: there is no template for this age" in text
    listed = (folder.parent / "out" / "inventory.txt").read_text()
    assert "sub-01_ses-01" in listed
    assert "30 weeks" in listed


def test_own_templates_go_by_ranges_whose_end_belongs_to_the_next(folder: Path) -> None:
    for name in ("younger_T2w.nii.gz", "older_T2w.nii.gz", "labels.nii.gz", "mask.nii.gz"):
        (folder / name).write_text("no image")
    ages(folder, sub_01=39, sub_02=42)
    text = refused(folder, QUICK + OWN, DataError)
    assert "older_T2w.nii.gz" in text  # sub-01 has reached this point
    assert "sub-02_ses-01: there is no template for this age; expected 36 to 39, 39 to 42; got 42 weeks" in text
    (folder / "mask.nii.gz").unlink()
    assert "mask.nii.gz" in refused(folder, QUICK + OWN)


def test_a_folder_has_one_set_of_template_files_whatever_scans_a_run_takes(folder: Path, tmp_path: Path) -> None:
    """And whatever packages are installed that no scan uses."""
    files = ("younger_T2w.nii.gz", "older_T2w.nii.gz", "labels.nii.gz", "mask.nii.gz")
    for name in files:
        shutil.copy(folder / "template" / "tpl-Phantom_T2w.nii.gz", folder / name)
    ages(folder, sub_01=37, sub_02=40)

    def key(*participants: str, text: str = QUICK + OWN) -> str:
        settings = parse_settings(text, ConnectomesSettings)
        plan, _ = plan_folder(settings, folder, take_inventory(folder, participants=participants), tmp_path / "out")
        return folder_key(plan)

    fixed = QUICK + "template: {image: older_T2w.nii.gz, labels: labels.nii.gz, mask: mask.nii.gz}\n"
    before, of_one, alone = key(), key("01"), key(text=fixed)
    assert of_one == before
    for name in files:
        kept = (folder / name).read_bytes()
        shutil.copy(folder / "template" / "tpl-Phantom_desc-brain_mask.nii.gz", folder / name)
        assert key("01") != before
        assert (key(text=fixed) == alone) == (name == "younger_T2w.nii.gz")
        (folder / name).write_bytes(kept)
    assert key() == before


def test_packages_that_no_scan_uses_are_not_part_of_its_key() -> None:
    plan = Plan(ConnectomesSettings(), None, "labels", {}, ScanAges(), Path())
    used = _versions(plan)
    assert {"numpy", "dipy", "nibabel"} <= set(used)
    assert not {"torch", "torch-geometric", "optuna", "nilearn"} & set(used)


def test_a_fixed_template_of_other_ages_is_warned_of(folder: Path, tmp_path: Path) -> None:
    for name in ("a_T2w.nii.gz", "labels.nii.gz"):
        shutil.copy(folder / "template" / "tpl-Phantom_T2w.nii.gz", folder / name)
    ages(folder, sub_01=37, sub_02=40)
    text = QUICK + "template: {image: a_T2w.nii.gz, labels: labels.nii.gz, ages: [39, 42]}\n"
    plan, scans = plan_folder(
        parse_settings(text, ConnectomesSettings), folder, take_inventory(folder), tmp_path / "out"
    )
    said = [template_notes(scan, plan.templates[scan.name], plan.ages) for scan in scans]
    assert said == [["the template is for 39 to 42, the age is 37 weeks postmenstrual"], []]
    assert plan.said_of(scans[0].name)["Age"] == "37 weeks postmenstrual"
    with pytest.raises(UsageError, match=r"template\.ages needs age"):
        parse_settings(
            text.replace("age: {column: scan_age, unit: weeks, reference: postmenstrual}\n", ""), ConnectomesSettings
        )


def test_an_age_without_unit_is_asked_about(folder: Path) -> None:
    wanted = "template: {by_age: templateflow, labels: desc-structures}\n"
    for age in ("", "age: scan_age\n", "age: {column: scan_age}\n"):
        assert "is 42 weeks or years?" in refused(folder, age + wanted, UsageError)
    assert "no table has the column pma" in refused(folder, CACHE.replace("scan_age", "pma"))


def test_an_age_of_participants_belongs_to_one_session_only(folder: Path) -> None:
    years = AgeColumn(column="age", unit="years")
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t2.5\n02\t3\n")
    found = read_ages(take_inventory(folder), years)
    assert dict(found.values) == {"sub-01_ses-01": 2.5, "sub-02_ses-01": 3.0}
    assert found.of("sub-01_ses-01") == "2.5 years from birth"
    (folder / "sub-02" / "ses-02").mkdir()
    found = read_ages(take_inventory(folder), years)
    assert "one age for several sessions" in str(found.problems["sub-02_ses-01"])


@pytest.mark.parametrize(
    ("age", "template", "taken"),
    [
        (38.0, None, "T2w"),  # newborns
        (52.0, None, "T2w"),  # not yet three months from term
        (54.0, None, "T1w"),
        (None, None, "T2w"),  # T2w first, where the age is not known
        (38.0, "T1w", "T1w"),  # the contrast of the template has priority
        (150.0, "T2w", "T2w"),
    ],
)
def test_of_two_contrasts_the_age_or_the_template_chooses(
    age: float | None, template: str | None, taken: str, folder: Path
) -> None:
    anat = folder / "sub-01" / "ses-01" / "anat"
    shutil.copy(anat / "sub-01_ses-01_T2w.nii.gz", anat / "sub-01_ses-01_T1w.nii.gz")
    (folder / "sub-01" / "sub-01_sessions.tsv").unlink()
    if age is not None:
        ages(folder, sub_01=age)
    given = {} if template is None else {"template": {"image": f"a_{template}.nii.gz", "labels": "labels.nii.gz"}}
    for name in (f"a_{template}.nii.gz", "labels.nii.gz"):
        (folder / name).touch()
    inventory = take_inventory(folder, participants=["01"])
    settings = ConnectomesSettings.model_validate(given)
    (scan,), _ = choose_templates(settings, folder, list(inventory.scans), read_ages(inventory, None))
    assert scan.anatomical is not None
    assert scan.anatomical.name == f"sub-01_ses-01_{taken}.nii.gz"


def test_templates_of_the_only_contrast_are_taken_and_another_contrast_is_said(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    anat = folder / "sub-01" / "ses-01" / "anat"
    (anat / "sub-01_ses-01_T2w.nii.gz").rename(anat / "sub-01_ses-01_T1w.nii.gz")
    text = refused(folder, CACHE)
    assert "expected T1w, brain mask" in text
    assert text.count("--contrast T1w") == 1
    template = "template: {image: template/tpl-Phantom_T2w.nii.gz, labels: labels.nii.gz, contrast: T2w}\n"
    (folder / "labels.nii.gz").write_text("no image")
    refused(folder, QUICK + template, DataError)
    listed = (tmp_path / "out" / "inventory.txt").read_text()
    assert "sub-01_ses-01: the template is T2w and the image T1w" in listed
    assert "sub-02_ses-01: the template is" not in listed


def planned(folder: Path, text: str) -> Plan[AnyScanSettings]:
    plan, _ = plan_folder(parse_settings(text, ConnectomesSettings), folder, take_inventory(folder), folder / "out")
    return plan


def test_rows_are_named_by_templateflows_own_table_where_no_other_is_given(folder: Path, cache: Path) -> None:
    wanted = CACHE.split("\n", 1)[1]  # without the user's labels
    assert planned(folder, wanted).regions is None  # the cache has no table: by number
    table = (folder / "template" / "tpl-Phantom_atlas-Phantom_dseg.tsv").read_text()
    (cache / "tpl-dhcpVol" / "tpl-dhcpVol_desc-structures_dseg.tsv").write_text(table)
    plan = planned(folder, wanted)
    assert plan.regions is not None
    assert (plan.regions.numbers, plan.atlas_name) == ((1, 2, 3, 4, 5, 6, 7, 8), "structures")
    top, stem = cache / "tpl-MNIInfant", "tpl-MNIInfant_cohort-1"
    (top / "cohort-1").mkdir(parents=True)
    for name in ("T2w", "desc-brain_mask", "desc-structures_dseg"):
        (top / "cohort-1" / f"{stem}_{name}.nii.gz").write_text("no image")
    (top / "tpl-MNIInfant_desc-structures_dseg.tsv").write_text(table)
    ages(folder, sub_02=46)
    with pytest.raises(UsageError, match="templates of these ages have different labels"):
        planned(folder, wanted)


def test_own_labels_go_with_templateflows_images(folder: Path, cache: Path) -> None:
    text = CACHE.replace("desc-structures", '"own/{template}_{cohort}_dseg.nii.gz"')
    ages(folder, sub_01=38.2, sub_02=39.2)
    (folder / "own").mkdir()
    (folder / "own" / "dhcpVol_38_dseg.nii.gz").touch()
    with pytest.raises(MissingInputError, match=r"own/dhcpVol_39_dseg\.nii\.gz"):
        planned(folder, text)
    (folder / "own" / "dhcpVol_39_dseg.nii.gz").touch()
    found = planned(folder, text).templates["sub-02_ses-01"]
    assert found.labels == folder / "own" / "dhcpVol_39_dseg.nii.gz"
    assert found.image == cache / "tpl-dhcpVol" / "cohort-39" / "tpl-dhcpVol_cohort-39_T2w.nii.gz"


def test_ages_may_lie_in_a_pipeline_beside_the_scans(folder: Path) -> None:
    before = read_ages(take_inventory(folder), None)
    for subject in ("sub-01", "sub-02"):
        (folder / "pipeline" / subject).mkdir(parents=True)
        table = f"{subject}_sessions.tsv"
        (folder / subject / table).rename(folder / "pipeline" / subject / table)
    assert len(before.values) == 2
    assert read_ages(take_inventory(folder), None).values == before.values
