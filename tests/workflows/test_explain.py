"""`explain` on a finished run: tables, summary and page from stored fits; refusals and withheld maps."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_study import last_stage, small_cohorts, small_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from page import Page

from connectome_tl import run_study
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.evaluation.explain import refitted_null
from connectome_tl.evaluation.explain import study as explaining
from connectome_tl.provenance import canonical_json, file_hash, sidecar_path, write_table
from connectome_tl.settings.records.explanations import NullResult
from connectome_tl.settings.study import SplitSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import MixtureModel, stored_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.workflows.audit.pages import explanation_findings
from connectome_tl.workflows.study.explain import explain_run
from connectome_tl.workflows.study.explain_files import FOLDER, PAGE, PERMUTED, SUMMARY, read_explanations
from connectome_tl.workflows.study.report import draw_report
from connectome_tl.workflows.study.study_run import StudyRun

COHORTS = small_cohorts()


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    home = tmp_path_factory.mktemp("study")
    write_cohort(COHORTS.target, home / "target")
    settings = small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(small_settings().stages.finetune),
        splits=SplitSettings(repeats=1, outer=3, stratum="cognitive"),
        controls=(),
        refits={"linear": 0},
    )
    return run_study(settings, home / "out", base=home)


@pytest.mark.slow
def test_tables_summary_and_page_say_the_same(run: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "not_above_chance", lambda task, *_: "" if task.name == "motor_score" else "chance")
    monkeypatch.setattr(explaining, "is_core", lambda _, planned, __: planned[0].model == "core")
    before = {file: file.read_bytes() for file in (run.folder / "models").iterdir()}
    found = run.explain(n_permutations=9, n_refitted=2)
    assert {file: file.read_bytes() for file in (run.folder / "models").iterdir()} == before  # nothing was fitted
    assert {(one.task, one.model) for one in found.maps} == {("motor_score", "core"), ("motor_score", "full")}
    assert {(one.task, one.model, one.reason) for one in found.withheld} == {
        ("cognitive", "core", "chance"), ("cognitive", "full", "chance")
    }  # fmt: skip
    out = run.folder / FOLDER
    assert {file.name for file in out.glob("*.tsv")} == {file.name for file in found.files}
    assert not (out / PERMUTED).exists()
    edges = pd.read_csv(out / "motor_score_core_pattern_edges.tsv", sep="\t", na_values="n/a")
    regions = pd.read_csv(out / "motor_score_core_pattern_regions.tsv", sep="\t", na_values="n/a")
    summed = [
        edges.loc[(edges["first"] == name) | (edges["second"] == name), "value"].abs().sum() / 2
        for name in regions["region"]
    ]
    np.testing.assert_allclose(regions["value"], summed, rtol=1e-9)
    assert regions[["x", "y", "z"]].notna().all(axis=None)
    assert set(np.round(edges["p_corrected"] * 10)) <= set(range(1, 11))
    assert edges["stability"].between(0, 1).all()
    shown = next(one for one in found.maps if (one.model, one.method) == ("core", "pattern"))
    assert [item.value for item in shown.regions] == regions["value"].tolist()
    page = Page((out / PAGE).read_text("utf-8"))
    assert page.faults == []
    assert page.loads() == []
    assert len(page.ids) == len(set(page.ids))
    assert "Withheld" in page.visible
    fitted_again = next(one for one in found.maps if (one.model, one.method) == ("full", "occlusion"))
    assert {(test.kind, test.n_permutations) for test in fitted_again.null} == {
        (kind, 2) for kind in ("region", "covariate", "group", "modality")
    }
    assert "2 permutations of the outcomes, 6 fits of the last stage" in page.visible
    again = explain_run(run.folder, n_permutations=9, n_refitted=2)
    assert canonical_json(again) == canonical_json(found)
    assert canonical_json(read_explanations(run.folder, found.configuration)) == canonical_json(found)
    assert read_explanations(run.folder, "another run") is None
    predictions = run.folder / "predictions.tsv"
    before = predictions.read_bytes()
    predictions.write_bytes(before + b"\n")  # of other code or data
    assert read_explanations(run.folder, found.configuration) is None
    predictions.write_bytes(before)
    draw_report(run.folder)
    assert "Explanations of the models" in Page(run.report.read_text("utf-8")).visible


@pytest.mark.slow
def test_edited_explanations_are_named(run: StudyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "not_above_chance", lambda task, *_: "" if task.name == "motor_score" else "chance")
    explain_run(run.folder, models=("core",), n_permutations=0)

    def failed(change: Callable[[Path], None] | None = None) -> list[str]:
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(run.folder / FOLDER, folder / FOLDER)
        if change is not None:
            change(folder / FOLDER)
        return [f.what for f in explanation_findings(folder, run.record) if f.status == "failed"]

    def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
        def change(home: Path) -> None:
            text = (home / name).read_text("utf-8")
            assert old in text
            (home / name).write_text(text.replace(old, new, 1), "utf-8")

        return change

    def value_and_sidecar(home: Path) -> None:
        file = home / "motor_score_core_pattern_regions.tsv"
        table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        table.loc[0, "value"] = str(table.loc[0, "value"])[:-1] + "1"
        write_table(file, table)
        side = sidecar_path(file)
        side.write_text(side.read_text().replace(json.loads(side.read_text())["Sha256"], file_hash(file)))

    assert failed() == []
    (text,) = failed(replaced("motor_score_core_pattern_edges.tsv", "\t0.", "\t9."))
    assert text == "motor_score_core_pattern_edges.tsv is not the file that its sidecar describes"
    (text,) = failed(value_and_sidecar)
    assert text.startswith("motor_score_core_pattern_regions.tsv ")
    assert "expected" in failed(replaced(PAGE, "Withheld", "Shown"))[0]
    assert failed(replaced(SUMMARY, '"unit": "', '"unit": "mega'))


def test_a_model_at_chance_has_no_map_and_leaves_none_behind(run: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "not_above_chance", lambda *_: "")
    explain_run(run.folder, models=("core",), n_permutations=0)
    assert list((run.folder / FOLDER).glob("*.tsv"))
    monkeypatch.setattr(explaining, "not_above_chance", lambda *_: "at chance")
    found = explain_run(run.folder, models=("core", "full"))
    assert found.maps == ()
    assert len(found.withheld) == 4
    assert found.notes == ()
    assert {file.name for file in (run.folder / FOLDER).iterdir()} == {SUMMARY, PAGE}


@pytest.mark.slow
def test_a_full_model_without_its_network_is_tested_as_the_core_and_another_as_time_allows(
    run: StudyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default there are 19 permutations if their three folds take five minutes by the forecast, and none if more.

    In each fold the core, the network and their mixture are fitted again.
    """
    monkeypatch.setattr(explaining, "not_above_chance", lambda task, *_: "" if task.name == "motor_score" else "chance")
    monkeypatch.setattr(refitted_null, "measure", lambda *_, **__: {})
    monkeypatch.setattr(explaining, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # maps take no time
    refits: list[int] = []
    monkeypatch.setattr(explaining, "refitted_null_maps", lambda *given: refits.append(len(given[6])) or {})

    def found(seconds: float, weight: float) -> dict[tuple[str, str], tuple[NullResult, ...]]:
        def stored(store: FitStore, key: str) -> FittedModel:
            fit = stored_model(store, key)
            changed = isinstance(fit, MixtureModel)
            return replace(fit, weights=dict.fromkeys(fit.weights, weight)) if changed else fit  # type: ignore[union-attr]

        monkeypatch.setattr(explaining, "stored_model", stored)
        monkeypatch.setattr(refitted_null, "cost_of", lambda *_: seconds / 3)
        return {(one.model, one.method): one.null for one in explain_run(run.folder, n_permutations=9).maps}

    alone = found(1.0, 0.0)
    assert refits == []
    for method in ("pattern", "integrated gradients", "occlusion"):
        assert alone["full", method] == alone["core", method] != ()
    for seconds in (1.0, 5.0, 5.3):
        assert found(seconds, 0.5)["full", "pattern"] == ()
    assert refits == [49, 19]


def test_what_is_not_there_is_said(run: StudyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no model 'core_scratch'"):
        explain_run(run.folder, models=("core_scratch",))
    with pytest.raises(MissingInputError, match="not a finished run"):
        explain_run(tmp_path)
    monkeypatch.setattr(explaining, "not_above_chance", lambda *_: "")
    monkeypatch.setattr("connectome_tl.training.plans.code_version", lambda _: "another version")
    with pytest.raises(MissingInputError, match="Run it again with this version: connectome-tl run"):
        explain_run(run.folder)


def test_other_data_than_those_of_the_run_are_refused(run: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectome_tl.cohort.cohort.Cohort.rows_hash", lambda *_: "changed")
    with pytest.raises(DataError, match="have changed since the run: target"):
        explain_run(run.folder)
