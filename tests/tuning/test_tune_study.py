"""`tune` and `run --tuned`: nested, resumable, refused for other studies, without leaks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import with_rows
from tuning_cases import SPACE, inner_folds, tuned_cohorts, tuned_study, write_study

from connectome_tl import run_study
from connectome_tl.audit.corruption import wrecked
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, DivergedError, MissingInputError, UsageError
from connectome_tl.evaluation.nested_cv import plan_folds, tasks_of
from connectome_tl.evaluation.tuning.inner import Heard, InnerFolds
from connectome_tl.report.labels import signed
from connectome_tl.settings.study import SplitSettings, StudySettings
from connectome_tl.settings.tuning import Tuned
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.study.forecast import forecast_study
from connectome_tl.workflows.study.tune import tune_study
from connectome_tl.workflows.study.tuned import read_tuned, tuned_from

pytestmark = pytest.mark.slow

RESULTS = ("tuned.json", "trials.tsv", "trials.json", "report.html", "study.yaml", "split_plan.json")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    write_study(folder, tuned_study())
    tune_study(folder / "study.yaml", folder / "tuned")
    return folder


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def test_each_outer_fold_has_settings_of_its_own_from_completed_trials(home: Path) -> None:
    found = read_tuned(home / "tuned")
    assert [(one.repeat, one.fold) for one in found.folds] == [(0, 0), (0, 1)]
    table = [line.split("\t") for line in (home / "tuned" / "trials.tsv").read_text().splitlines()]
    rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    for one in found.folds:
        mine = [row for row in rows if row["fold"] == str(one.fold)]
        complete = [row for row in mine if row["state"] == "complete"]
        assert len(complete) == 6
        best = max(complete, key=lambda row: float(row["auc"]))
        assert float(best["auc"]) == one.values[0]
        assert mine[one.trial]["auc"] == best["auc"]
        assert float(mine[one.trial]["core.clip"]) == one.settings["core.clip"]


def test_the_search_again_and_a_search_interrupted_at_every_trial_end_alike(home: Path, tmp_path: Path) -> None:
    before = results(home / "tuned")
    tune_study(home / "study.yaml", home / "tuned")
    assert results(home / "tuned") == before
    study = load_settings(home / "study.yaml", StudySettings)
    scores, calls = InnerFolds.scores, [0]

    def stopped(self: InnerFolds, *args: Any) -> tuple[float, ...]:
        calls[0] += 1
        if calls[0] % 3 == 1:
            raise KeyboardInterrupt
        return scores(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InnerFolds, "scores", stopped)
        for _ in range(50):
            try:
                tune_study(study, tmp_path / "tuned", base=home)
                break
            except KeyboardInterrupt:
                pass
    assert calls[0] >= 18
    again = results(tmp_path / "tuned")
    for name in ("tuned.json", "trials.tsv", "report.html", "split_plan.json"):
        assert again[name] == before[name]


def test_more_trials_go_on_with_the_same_search(home: Path, tmp_path: Path) -> None:
    study = load_settings(home / "study.yaml", StudySettings)
    tune_study(study, tmp_path / "tuned", base=home, trials=4)
    found = tune_study(study, tmp_path / "tuned", base=home, trials=6)
    assert tune_study(study, tmp_path / "tuned", base=home, trials=4).trials == 6
    assert found == read_tuned(home / "tuned")
    other = study.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match="the folder contains the search of another study"):
        tune_study(other, tmp_path / "tuned", base=home)


def test_a_tuned_run_uses_what_was_found_and_says_how_optimistic_it_was(home: Path) -> None:
    run = run_study(home / "study.yaml", home / "run", tuned=home / "tuned")
    kept = load_settings(run.folder / "study.yaml", StudySettings)
    assert kept.tuned == read_tuned(home / "tuned")
    cohorts = tuned_cohorts()
    for item in plan_folds(kept, cohorts, make_split_plan(cohorts.target, kept.splits), tasks_of(kept, cohorts)):
        chosen = kept.tuned.folds[item.fold_number].settings
        for plan in item.plans:
            for member in plan.lineage():
                assert member.features.edges.n_edges == chosen["edges.n_edges"]
                if member.core is not None:
                    assert (member.core.clip, member.core.relax) == (chosen["core.clip"], chosen["core.relax"])
    (one,) = run.record.optimism
    outer = next(s for s in run.record.scores if (s.task, s.model, s.metric) == ("cognitive", "core", "auc"))
    assert one.outer == outer.value
    assert one.inner == pytest.approx(np.mean([fold.values[0] for fold in kept.tuned.folds]))
    assert one.difference == pytest.approx(one.inner - outer.value)
    page = run.report.read_text()
    assert f"Optimism: {signed(one.difference, 3)}" in page
    assert "were chosen by 6 completed trials of a tree-structured Parzen estimator" in page
    stamp = run.report.stat().st_mtime_ns
    run_study(home / "study.yaml", home / "run", tuned=home / "tuned")
    assert run.report.stat().st_mtime_ns == stamp
    record = audit_run(run.folder)
    by_check = {finding.check: finding for finding in record.findings}
    assert by_check["tuned settings belong to this study"].status == "passed"
    assert by_check["networks fitted again (all folds)"].status == "passed"
    assert by_check["poisoned test fold"].status == "passed"


def test_a_forecast_of_a_tuned_run_counts_the_fits_that_it_makes(home: Path, tmp_path: Path) -> None:
    before = forecast_study(home / "study.yaml", tmp_path / "run", tuned=home / "tuned")
    run = run_study(home / "study.yaml", tmp_path / "run", tuned=home / "tuned")
    assert sum(count.n_fits for count in before.fits) == len(list((run.folder / "models").glob("*.json")))
    assert forecast_study(home / "study.yaml", run.folder, tuned=home / "tuned").finished
    (run.folder / "log" / "finished.json").unlink()
    after = forecast_study(home / "study.yaml", run.folder, tuned=home / "tuned")
    assert [count.n_done for count in after.fits] == [count.n_fits for count in before.fits]
    searched_again = {"splits", "stages", "n_seeds"}
    assert searched_again.isdisjoint(saving.change.split(".")[0] for saving in before.savings)
    assert sum(count.n_done for count in forecast_study(home / "study.yaml", run.folder).fits) == 0


def test_an_untuned_run_beside_it_is_another_configuration(home: Path) -> None:
    run = run_study(home / "study.yaml", home / "plain", overrides=("splits.inner=0",))
    assert run.record.tuned_folds == ()
    assert 'id="tuning"' not in run.report.read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.model_copy(update={"n_seeds": 2}), "belong to other settings"),
        (lambda s: s.model_copy(update={"splits": s.splits.model_copy(update={"seed": 5})}), "split plan"),
        (lambda s: s.with_settings({"core.stein": False}), "belong to other settings"),
    ],
)
def test_tuned_settings_of_another_study_are_refused(
    home: Path, tmp_path: Path, change: Callable[[StudySettings], StudySettings], said: str
) -> None:
    study = change(load_settings(home / "study.yaml", StudySettings))
    with pytest.raises(UsageError, match=said):
        run_study(study, tmp_path / "run", base=home, tuned=home / "tuned")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"log"}


def test_a_search_of_other_code_is_refused_by_run_and_does_not_go_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_settings(home / "study.yaml", StudySettings)
    monkeypatch.setattr("connectome_tl.training.plans.code_version", lambda _: "other")
    with pytest.raises(UsageError, match="belong to other code of fits"):
        run_study(study, tmp_path / "run", base=home, tuned=home / "tuned")
    with pytest.raises(UsageError, match="or of another version"):
        tune_study(study, home / "tuned", base=home)


def test_tuned_settings_of_other_data_are_refused_and_reported_extras_are_free(home: Path, tmp_path: Path) -> None:
    study = load_settings(home / "study.yaml", StudySettings)
    cohorts = tuned_cohorts()
    first = cohorts.target.ids[:1]
    changed = cohorts.with_role("target", with_rows(cohorts.target, first, age=40.5))
    write_study(tmp_path, study, changed)
    with pytest.raises(UsageError, match="belong to other cohorts"):
        run_study(study, tmp_path / "run", base=tmp_path, tuned=home / "tuned")
    extra = study.model_copy(update={"permutations": 9, "title": "Another", "tune": None})
    assert tuned_from(extra) == tuned_from(study)


def test_a_result_changed_by_hand_or_missing_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="connectome-tl tune"):
        read_tuned(tmp_path)
    content = json.loads((home / "tuned" / "tuned.json").read_text())
    content["folds"][0]["settings"]["core.clip"] = 3.0
    (tmp_path / "tuned.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed after it was saved"):
        read_tuned(tmp_path)


def test_without_inner_folds_or_a_space_nothing_is_searched(tmp_path: Path) -> None:
    study = tuned_study(inner=3)
    flat = study.model_copy(update={"splits": SplitSettings(repeats=1, outer=2, stratum="cognitive")})
    with pytest.raises(UsageError, match=r"--set splits\.inner=3"):
        tune_study(flat, tmp_path / "out")
    with pytest.raises(UsageError, match="--space FILE"):
        tune_study(study.model_copy(update={"tune": None}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_tuned_setting_moves_when_the_tested_subjects_are_wrecked() -> None:
    """The whole search of one fold, on valid rows, and with its test rows corrupted wherever they occur."""
    study, cohorts = tuned_study(), tuned_cohorts()
    splits = make_split_plan(cohorts.target, study.splits)
    fold = splits.repeats[0][0]
    spoiled = cohorts.with_role("target", wrecked(cohorts.target, fold.test))
    tries = [{"edges.n_edges": n, "core.clip": clip} for n in (2, 5, 20) for clip in (1.5, 4.0)]
    honest, again = (
        [inner_folds(study, rows, splits).scores(study.with_settings(one)) for one in tries]
        for rows in (cohorts, spoiled)
    )
    assert honest == again
    assert len(set(honest)) > 3
    trained = cohorts.with_role("target", wrecked(cohorts.target, fold.train[:3]))
    assert honest != [inner_folds(study, trained, splits).scores(study.with_settings(one)) for one in tries]


def test_pruned_and_diverged_trials_are_kept_apart_from_completed_ones(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def scores(self: InnerFolds, study: StudySettings, heard: Heard | None) -> tuple[float, ...]:
        calls[0] += 1
        if calls[0] % 4 == 0:
            raise DivergedError("training diverged")
        assert heard is not None
        for step in range(2):
            heard.fold(step, (study.core.clip or 0.0,))
        return (study.core.clip or 0.0,)

    monkeypatch.setattr(InnerFolds, "scores", scores)
    monkeypatch.setattr("connectome_tl.report.tuning.render_search", lambda _: "")
    study = load_settings(home / "study.yaml", StudySettings)
    tune_study(study, tmp_path / "tuned", base=home, trials=8)
    lines = (tmp_path / "tuned" / "trials.tsv").read_text().splitlines()[1:]
    assert sum("\tcomplete\t" in line for line in lines) == 16
    stopped = [line for line in lines if "\tstopped\t" in line]
    assert sum("diverged" in line for line in stopped) >= 4
    assert sum("worse than the median after 2 inner folds" in line for line in stopped) >= 1

    def never(self: InnerFolds, *args: Any) -> tuple[float, ...]:
        raise DivergedError("training diverged")

    monkeypatch.setattr(InnerFolds, "scores", never)
    monkeypatch.setattr("connectome_tl.evaluation.tuning.search._PATIENCE", 0)
    with pytest.raises(DataError, match=r"1 trial ended early, 0 did not; got .*diverged.*fit together and in which"):
        tune_study(study, tmp_path / "other", base=home, trials=1)


def test_two_objectives_choose_from_those_that_no_trial_beats_in_both(tmp_path: Path) -> None:
    study = tuned_study(objectives=("auc", "brier"), trials=5, outer=2)
    write_study(tmp_path, study)
    found = tune_study(tmp_path / "study.yaml", tmp_path / "tuned")
    rows = np.genfromtxt(tmp_path / "tuned" / "trials.tsv", delimiter="\t", names=True, dtype=None, encoding="utf-8")
    for one in found.folds:
        mine = rows[rows["fold"] == one.fold]
        assert not any((row["auc"] > one.values[0]) and (row["brier"] < one.values[1]) for row in mine)
    page = (tmp_path / "tuned" / "report.html").read_text()
    assert "Both objectives" in page
    assert page.count("<svg") == 9


def test_the_page_shows_optunas_plots_and_how_to_look_closer(home: Path) -> None:
    page = (home / "tuned" / "report.html").read_text()
    assert page.count("<svg") == 4
    for text in (
        "AUC on the inner folds, in the order of trials",
        "Importance of settings for AUC",
        "edges.n_edges",
        "optuna-dashboard",
        "127.0.0.1",
    ):
        assert text in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_tuned_settings_of_a_fold_that_was_not_tuned_are_an_error(home: Path) -> None:
    found = read_tuned(home / "tuned")
    half = Tuned.model_validate({**found.model_dump(), "folds": found.model_dump()["folds"][:1]})
    study = tuned_study().model_copy(update={"tuned": half})
    assert study.of(0, 0).edges.n_edges == found.folds[0].settings["edges.n_edges"]
    with pytest.raises(UsageError, match="no tuned settings for repeat 0, fold 1"):
        study.of(0, 1)


def test_a_space_from_a_file_is_the_one_that_is_searched(home: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("model: core\ntrials: 2\nspace:\n  core.relax: {choices: [true, false]}\n")
    study = load_settings(home / "study.yaml", StudySettings).model_copy(update={"tune": None})
    found = tune_study(study, tmp_path / "tuned", base=home, space=tmp_path / "space.yaml")
    assert set(found.folds[0].settings) == {"core.relax"}
    assert set(SPACE) > set(found.folds[0].settings)
