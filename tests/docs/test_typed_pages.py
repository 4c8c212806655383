"""Commands of the pages on finished runs, typed as printed on small studies."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from small_study import FLAT, last_stage, small_cohorts, small_settings
from test_guide import DOCS, PAGES, RUN, blocks, run_bash

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.evaluation import planning, power
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.simulation.volumes import VolumeSettings, affine_of, each_volume
from connectome_tl.workflows.study.study_run import StudyRun, read_run

pytestmark = pytest.mark.slow
MARK = "tests/docs/test_typed_pages.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with study.yaml, its cohort, and the cohort of another hospital."""
    folder = tmp_path_factory.mktemp("typed")
    everybody = small_cohorts(n_target=70, effect=3.0, seed=1).target
    write_cohort(everybody.take(everybody.ids[:40]), folder / "target")
    write_cohort(everybody.take(everybody.ids[40:]), folder / "elsewhere")
    study = small_settings(
        model=FLAT,
        steps=2,
        source=None,
        pool=None,
        stages=last_stage(small_settings(steps=2).stages.finetune),
        splits=SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"),
        controls=(),
        baselines=("prevalence", "clinical_only"),
        refits={"linear": 0},
        permutations=19,
        tune=TuneSettings.model_validate({"trials": 1, "model": "core", "space": {"core.clip": {"low": 2, "high": 6}}}),
    ).model_copy(update={"target": CohortUse(cohort="target/cohort.yaml", tasks=("cognitive",))})
    (folder / "study.yaml").write_text(dump_settings(study))
    return folder


Typed = Callable[..., None]


@pytest.fixture
def typed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type the marked blocks of a page; `stands_for` replaces placeholders, `fewer` what takes long."""
    monkeypatch.chdir(home)

    def type_blocks(page: str, stands_for: dict[str, str] | None = None, fewer: dict[str, str] | None = None) -> None:
        texts = [block.text for block in blocks(DOCS / page) if block.language == "bash" and MARK in block.mark]
        assert texts, f"{page} has no block that is marked with this file"
        for text in texts:
            for printed, used in {**(stands_for or {}), **(fewer or {})}.items():
                text = text.replace(printed, used)
            run_bash(text)

    return type_blocks


@pytest.mark.usefixtures("fits_once")
def test_a_run_is_explained_drawn_and_shared_as_the_pages_print(
    home: Path, typed: Typed, capfd: pytest.CaptureFixture[str]
) -> None:
    typed("howto/scripts.md", {" > answer.json": ""})
    answer = json.loads(capfd.readouterr().out)
    assert answer["exit_code"] == 0
    run = {"RUN_DIR": "results"}
    fewer = {"explain results\n": "explain results --refitted 0\n", "999 --refitted 49": "19 --refitted 1"}
    typed("howto/explain.md", run, fewer)
    assert (home / "results" / "explanations" / "explanations.html").is_file()
    typed("howto/paper.md", run, {"--figures pdf": "--figures svg"})  # fonts of a PDF take half a second per figure
    assert list((home / "results" / "figures").glob("*.svg"))
    assert (home / "results" / "tables" / "references.bib").is_file()
    shutil.copytree(home / "results", home / "runs" / "study")
    shutil.copytree(home / "target", home / "runs" / "target")  # paths of its cohort are relative to the run
    placeholders = {"RUN_DIR": "results", "DIR": "bundle", "COHORT.yaml": "elsewhere/cohort.yaml", " V ": " v "}
    typed("bundles.md", placeholders)
    assert (home / "validation" / "validation.json").is_file()
    table = pd.read_csv(home / "FILE.tsv", sep="\t")
    assert len(table) == 30
    assert set(table["use"]) == {"research only, not for care"}


def test_a_search_is_made_and_used_as_its_page_prints(home: Path, typed: Typed) -> None:
    typed("tuning.md")
    assert len(json.loads((home / "tuned" / "tuned.json").read_text())["folds"]) == 2
    assert "inner" in (home / "run" / "report.html").read_text("utf-8")


def test_outputs_of_qsirecon_become_tables_that_the_printed_cohort_reads(
    home: Path, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    upper = np.triu(np.random.default_rng(0).poisson(9, (4, 4)), 1).astype(float)
    for subject, matrix in (("01", upper + upper.T), ("02", 2 * upper + 2 * upper.T)):
        names = np.array(["V1_L", "V1_R", "M1_L", "M1_R"], dtype=object)
        folder = home / "qsirecon" / f"sub-{subject}" / "dwi"
        folder.mkdir(parents=True)
        variables = {"atlas_4S156_region_labels": names, "atlas_4S156_radius2_count_connectivity": matrix}
        savemat(folder / f"sub-{subject}_space-ACPC_connectivity.mat", variables, long_field_names=True)
    typed("howto/qsirecon.md")
    said = " ".join(capsys.readouterr().out.split())
    printed = next(block.text for block in blocks(DOCS / "howto" / "qsirecon.md") if "matrices/sub-" in block.text)
    assert re.search(r"files: (\S+)", printed)[1] in said  # type: ignore[index]
    (home / "cohort.yaml").write_text(printed)
    (home / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    cohort = read_cohort(home / "cohort.yaml")
    assert cohort.regions == ("V1_L", "V1_R", "M1_L", "M1_R")
    assert np.array_equal(cohort.weights[1, 0], 2 * (upper + upper.T))


def of_readme(language: str) -> list[str]:
    """Fences of the README in one language; commands have none."""
    text = (DOCS.parent / "README.md").read_text("utf-8")
    return [fence for found, fence in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S) if found == language]


@pytest.fixture
def readme(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README names."""
    infants = small_cohorts(n_target=40).target
    volumes = VolumeSettings(size=8)
    for one, image in zip(infants.ids, each_volume(len(infants.ids), volumes, seed=0), strict=True):
        write_volume(tmp_path / "images" / f"{one}_T1w.nii.gz", image.volume, affine_of(volumes))
    (tmp_path / "matrices").mkdir()
    for one, weights in zip(infants.ids, infants.weights[:, 0], strict=True):
        table = pd.DataFrame(weights, index=infants.regions, columns=infants.regions)
        table.to_csv(tmp_path / "matrices" / f"{one}.csv")
    sheet = pd.DataFrame({"Infant": infants.ids, "PMA at scan (weeks)": infants.age.round(1)})
    sheet["Bayley cognitive"] = infants.targets["cognitive"].fillna(0).to_numpy() * -20.0 + 95 + np.arange(40) % 7
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    savemat(tmp_path / "sub-01.mat", {"connectivity": np.ones((90, 90)) - np.eye(90)})
    names = np.array(["V1_L", "V1_R"], dtype=object)
    variables = {"atlas_4S156_region_labels": names, "atlas_4S156_radius2_count_connectivity": 1 - np.eye(2)}
    (tmp_path / "qsirecon" / "sub-01" / "dwi").mkdir(parents=True)
    savemat(tmp_path / "qsirecon/sub-01/dwi/sub-01_space-ACPC_connectivity.mat", variables, long_field_names=True)
    head = PhantomSettings(n_regions=4, n_edges=3, half_axes=(20.0, 24.0, 18.0), voxel=4.0, region_radius=7.0)
    scans = write_phantom(tmp_path / "BIDS_DIR", n_subjects=1, n_sessions=1, settings=head)
    labels = "template/tpl-Phantom_atlas-Phantom_dseg"
    config = f"name: scans\nlabels: {labels}.tsv\ntemplate:\n  image: template/tpl-Phantom_T2w.nii.gz\n"
    shutil.copytree(scans / "template", tmp_path / "template")
    (tmp_path / "connectomes.yaml").write_text(f"{config}  labels: {labels}.nii.gz\n")
    for module in (planning, power):
        monkeypatch.setattr(module, "N_STUDIES", 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_is_typed_as_printed(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits are typed by the tests of pages, and scans by those of scans: here their list is shown."""
    pages = [*RUN, *(page.relative_to(DOCS).as_posix() for page in PAGES if MARK in page.read_text("utf-8"))]
    typed_there = {
        line.split()[1]
        for page in pages
        for block in blocks(DOCS / page)
        if block.language == "bash" and (block.runs or MARK in block.mark)
        for line in block.text.splitlines()
        if line.startswith("connectome-tl ")
    }
    lines = [line for fence in of_readme("") for line in fence.splitlines() if line.startswith("connectome-tl ")]
    assert len(lines) == 15
    for line in lines:
        command, shown = line.split()[1], line.split("#")[0]
        if command == "connectomes":
            run_bash(f"{shown} --dry-run")
        elif command in ("run", "audit", "explain", "report", "tune", "bundle"):
            assert command in typed_there, line
        else:
            run_bash(shown)
    assert (readme / "my_study" / "study.yaml").is_file()
    assert load_settings(readme / "my_images" / "study.yaml", StudySettings).model.reads_volumes
    assert len(pd.read_csv(readme / "sub-01_relmat.tsv", sep="\t")) == 90


def test_the_python_code_of_the_readme_runs(home: Path, readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its study is forty infants' and small; the settings are read as they are written."""
    shutil.copytree(home / "target", readme / "my_study")
    monkeypatch.chdir(home)
    if not (home / "results" / "report.html").is_file():
        run_bash("connectome-tl run study.yaml --out results")

    def small(study: str, out: str, overrides: list[str]) -> StudyRun:
        assert (study, out) == ("my_study/study.yaml", "two_repeats")
        assert load_settings(home / "study.yaml", StudySettings, overrides=overrides).splits.repeats == 2
        return read_run(home / "results")

    monkeypatch.setattr("connectome_tl.run_study", small)
    monkeypatch.chdir(readme)
    (block,) = of_readme("python")
    exec(block, {})
