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
from small_study import FLAT, small_cohorts, small_settings
from test_guide import DOCS, blocks, run_bash

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.settings.training import Stages
from connectome_tl.settings.tuning import TuneSettings

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
        stages=Stages(pretrain=None, adapt=None, finetune=small_settings(steps=2).stages.finetune),
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
    """Type the marked blocks of a page; `stands_for` replaces placeholders, `fewer` numbers that take long."""
    monkeypatch.chdir(home)

    def type_blocks(page: str, stands_for: dict[str, str] | None = None, fewer: dict[str, str] | None = None) -> None:
        texts = [block.text for block in blocks(DOCS / page) if block.language == "bash" and MARK in block.mark]
        assert texts, f"{page} has no block that is marked with this file"
        for text in texts:
            for printed, used in {**(stands_for or {}), **(fewer or {})}.items():
                text = text.replace(printed, used)
            run_bash(text)

    return type_blocks


def test_a_run_is_explained_drawn_and_shared_as_the_pages_print(
    home: Path, typed: Typed, capfd: pytest.CaptureFixture[str]
) -> None:
    typed("howto/scripts.md", {" > answer.json": ""})
    answer = json.loads(capfd.readouterr().out)
    assert answer["exit_code"] == 0
    run = {"RUN_DIR": "results"}
    typed("howto/explain.md", run, {"--permutations 999 --refitted 49": "--permutations 19 --refitted 1"})
    assert (home / "results" / "explanations" / "explanations.html").is_file()
    typed("howto/paper.md", run)
    assert list((home / "results" / "figures").glob("*.pdf"))
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
