"""The shipped study from raw scans to the report, on six phantom infants: `configs/images_to_report.yaml`.

The search for the orientation of a head is tested in `tests/imaging`; here the headers are used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.demos import scans
from connectome_tl.workflows.study import run as run_module
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

SMALL = (
    "splits.outer=2",
    "splits.repeats=1",
    "permutations=3",
    "refits.linear=2",
    "n_jobs=1",
    "stages.pretrain.training.steps=10",
    "stages.adapt.training.steps=5",
    "stages.finetune.training.steps=5",
    "controls=[scratch, no_image]",
    "baselines=[prevalence, clinical_only, ridge]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def run(folder: Path) -> StudyRun:
    write = scans.write_scans_demo

    def write_with_trusted_headers(out: Path, **options: int) -> Path:
        study = write(out, **options)
        cohort = out / "images_to_report" / "infants.yaml"
        text = cohort.read_text()
        assert "    registration:\n" in text
        cohort.write_text(text.replace("    registration:\n", "    registration:\n      orientation: header\n"))
        return study

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scans, "write_scans_demo", write_with_trusted_headers)
        return scans.run_scans_demo(folder, n_infants=6, overrides=SMALL, show_progress=False)


@pytest.mark.slow
def test_raw_scans_become_a_report_of_all_three_modalities(run: StudyRun) -> None:
    assert set(run.predictions["subject"]) == {f"sub-{i:02d}" for i in range(1, 7)}
    assert np.isfinite(run.predictions["y_score"]).all()
    assert {"full", "core", "network", "scratch", "no_image"} <= set(run.predictions["model"])
    for said in (
        "Connectomes of 6 infants",
        "and volumes",
        "made from raw diffusion MRI of 4 scans",
        "Stage 1",
        "Stage 2",
    ):
        assert said in run.record.methods


@pytest.mark.slow
def test_failed_scans_and_stamps_stand_in_the_report(run: StudyRun) -> None:
    (target,) = (cohort for cohort in run.record.cohorts if cohort.role == "target")
    assert target.flow[-1].label == "4 with a connectome"
    assert "the b-values are missing" in target.flow[-1].reason
    assert run.record.exploratory
    page = run.report.read_text("utf-8")
    assert "the b-values are missing" in page
    assert "no T2w or T1w image" in page
    assert "exploratory" in page.casefold()


@pytest.mark.slow
def test_an_unchanged_run_returns_at_once_and_a_touched_scan_is_looked_at(
    run: StudyRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    class Looked(Exception):
        pass

    def look(one: object, *_: object, **__: object) -> None:
        looked.append(str(one))
        raise Looked

    monkeypatch.setattr(run_module, "make_cohort", look)
    study = folder / "images_to_report.yaml"
    assert run_study(study, folder / "run", overrides=SMALL).record == run.record
    assert not looked
    extra = folder / "images_to_report" / "bids" / "sub-01" / "dwi" / "new.txt"
    extra.write_text("a file that was not there")
    with pytest.raises(Looked):
        run_study(study, folder / "run", overrides=SMALL)
    extra.unlink()


@pytest.mark.slow
def test_the_run_can_be_audited(run: StudyRun) -> None:
    record = audit_run(run.folder)
    assert not record.accused, [finding for finding in record.findings if finding.status == "failed"]
