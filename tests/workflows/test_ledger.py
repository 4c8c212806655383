"""Every evaluation of test scores is logged; other configurations are counted, repetitions change no byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.provenance import content_hash
from connectome_tl.settings.records.results import Prediction, RunRecord, Score
from connectome_tl.settings.study import SplitSettings
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.study.ledger import LEDGER, Reveal, doubts, looks, may_show, reveal, row_of, with_ledger
from connectome_tl.workflows.study.report import draw_report
from connectome_tl.workflows.study.run import run_study


def record(configuration: str, infants: str = "these") -> RunRecord:
    return RunRecord(
        title="",
        tasks=(),
        cohorts=(),
        verdicts=(),
        scores=(Score(task="motor", model="full", metric="auc", value=0.7, low=0.4, high=0.9, n=30),),
        comparisons=(),
        split_hash="f" * 64,
        provenance={"infants": infants, "configuration": configuration},
    )


def seen_by(ids: list[str], configuration: str) -> RunRecord:
    """A record with predictions of these subjects."""
    row = {"task": "motor", "model": "full", "repeat": 0, "fold": 0, "y_true": 1.0, "y_score": 0.5, "y_pred": 1.0}
    predictions = tuple(Prediction.model_validate(row | {"subject": subject}) for subject in ids)
    return record(configuration, infants=content_hash(ids)).model_copy(update={"predictions": predictions})


def table_of(folder: Path, configuration: str, *, until_first: bool) -> tuple[tuple[str, ...], ...]:
    shown = with_ledger(record(configuration), looks(folder, record("")), until_first=until_first)
    (table,) = (one for one in shown.tables if one.section == "audit")
    return table.rows


def test_looks_are_appended_and_outlive_their_run(tmp_path: Path) -> None:
    for name, how in (("a", "run"), ("b", "run"), ("b", "report"), ("a", "run")):
        before = (tmp_path / LEDGER).read_bytes() if (tmp_path / LEDGER).exists() else b""
        reveal(tmp_path / name, how, record(name))
        assert (tmp_path / LEDGER).read_bytes().startswith(before)
    reveal(tmp_path / "c", "run", record("c", infants="others"))
    assert [(one.configuration, one.how) for one in looks(tmp_path / "a", record(""))][1:3] == [
        ("b", "run"),
        ("b", "report"),
    ]
    shutil.rmtree(tmp_path / "b")
    assert {one.configuration for one in looks(tmp_path / "a", record(""))} == {"a", "b"}
    with open(tmp_path / LEDGER, "a") as stream:
        stream.write("{half a li\n")
    assert {one.configuration for one in looks(tmp_path / "a", record(""))} == {"a", "b"}


def test_what_came_later_does_not_change_a_run_that_is_repeated_but_a_report_drawn_later_says_it(
    tmp_path: Path,
) -> None:
    reveal(tmp_path / "a", "run", record("a"))
    first = table_of(tmp_path / "a", "a", until_first=True)
    reveal(tmp_path / "b", "run", record("b"))
    reveal(tmp_path / "again", "run", record("a"))
    assert table_of(tmp_path / "again", "a", until_first=True) == first
    assert [row[1] for row in table_of(tmp_path / "b", "b", until_first=True)] == ["a", "b (this run)"]
    assert [row[1] for row in table_of(tmp_path / "a", "a", until_first=False)] == ["a (this run)", "b"]
    shown = with_ledger(record("a"), looks(tmp_path / "a", record("")), until_first=False)
    assert "1 configuration other than this one" in shown.warnings[-1]
    assert not with_ledger(record("a"), looks(tmp_path / "a", record("")), until_first=True).warnings


def test_a_cohort_that_lost_six_infants_after_a_look_is_a_look_at_the_same_infants(tmp_path: Path) -> None:
    everybody = [f"sub-{k:02d}" for k in range(33)]
    first, later = seen_by(everybody, "first"), seen_by(everybody[6:], "later")
    strangers = seen_by([f"other-{k}" for k in range(30)] + everybody[:3], "strangers")
    for name, one in (("a", first), ("b", later), ("c", strangers)):
        reveal(tmp_path / name, "run", one)
    assert [one.configuration for one in looks(tmp_path / "b", later)] == ["first", "later"]
    assert [one.configuration for one in looks(tmp_path / "c", strangers)] == ["strangers"]
    shown = with_ledger(later, looks(tmp_path / "b", later), until_first=True)
    assert [row[2] for row in shown.tables[-1].rows] == ["27 of 33", "all"]
    assert "1 configuration other than this one" in shown.warnings[-1]


def test_no_id_and_no_hash_that_two_lines_share_stands_in_the_ledger(tmp_path: Path) -> None:
    ids = [f"sub-{k:02d}" for k in range(33)]
    for _ in range(2):
        reveal(tmp_path / "a", "run", seen_by(ids, "a"))
    text = (tmp_path / LEDGER).read_text("utf-8")
    assert not any(subject in text for subject in ids)
    one, two = (Reveal.model_validate_json(line) for line in text.splitlines())
    assert len(one.hashes) == len(two.hashes) == 33
    assert not one.hashes & two.hashes


def test_a_folder_that_was_elsewhere_for_a_while_is_not_accused(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "a", tmp_path / "there" / "a"
    for place, how in ((here, "run"), (there, "audit"), (here, "audit")):
        if not place.exists() and how != "run":
            place.parent.mkdir(exist_ok=True)
            (here if place == there else there).rename(place)
        reveal(place, how, record("a"))
    assert len((here / "log" / LEDGER).read_text().splitlines()) == 3
    assert len((here.parent / LEDGER).read_text().splitlines()) == 2
    assert doubts(here) == ()
    (here.parent / LEDGER).write_text((here.parent / LEDGER).read_text().splitlines(keepends=True)[0])
    assert doubts(here) == ("1 evaluation in log/ is not in the ledger next to the folder",)


def test_a_page_may_show_fewer_configurations_than_the_ledger_but_not_hide_one_from_before_the_run(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    reveal(here / "x", "run", record("x"))
    reveal(there / "y", "run", record("y"))
    reveal(here / "z", "run", record("z"))
    (there / "y").rename(here / "y")  # results of two folders are collected in one
    reveal(here / "y", "audit", record("y"))
    (own,) = (row_of(look, record("y")) for look in looks(here / "y", record("y")) if look.how == "audit")
    other = row_of(looks(here / "x", record("x"))[0], record("y"))
    assert own[0] == "y (this run)"
    assert may_show(here / "y", record("y"), [own])
    assert may_show(here / "y", record("y"), [other, own])
    assert not may_show(here / "y", record("y"), [("never", *own[1:]), own])
    last = row_of(looks(here / "z", record("z"))[-1], record("z"))
    assert not may_show(here / "z", record("z"), [("z (this run)", *last[1:])])


def test_a_place_that_cannot_be_written_loses_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / LEDGER).mkdir()
    reveal(tmp_path / "a", "run", record("a"))
    assert "no entry in the ledger" in caplog.text
    assert len(looks(tmp_path / "a", record(""))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("audits_fit_once", "audits_draw_once")
def test_settings_tried_one_after_the_other_are_told_by_report_and_audit(tmp_path: Path) -> None:
    cohorts = small_cohorts(n_source=20, n_pool=12, n_target=20, n_regions=8)
    for name, cohort in (("older", cohorts.source), ("pool", cohorts.pool), ("target", cohorts.target)):
        assert cohort is not None
        write_cohort(cohort, tmp_path / name)
    small = small_settings(steps=1, splits=SplitSettings(repeats=1, outer=2), controls=(), baselines=("prevalence",))
    run_study(small, tmp_path / "first", base=tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "first").glob("*.*")}
    second = run_study(small.model_copy(update={"seed": 5}), tmp_path / "second", base=tmp_path)
    assert "with 2 configurations" in second.report.read_text("utf-8")
    run_study(small, tmp_path / "first", base=tmp_path)  # evaluated again: no byte changes
    assert {path: path.read_bytes() for path in (tmp_path / "first").glob("*.*")} == before
    assert "with 2 configurations" in draw_report(tmp_path / "first").read_text("utf-8")
    found = {one.check: one for one in audit_run(tmp_path / "first").findings}["ledger of test scores"]
    assert found.status == "warning"
    assert "evaluated 4 times, with 2 configurations" in found.what
    line = json.loads((tmp_path / "first" / "log" / LEDGER).read_text().splitlines()[0])
    assert {"time", "who", "how", "configuration", "models"} <= set(line)
    assert (tmp_path / LEDGER).read_text().splitlines()[-1].count('"how":"audit"') == 1
    again = {one.check: one for one in audit_run(tmp_path / "first").findings}["ledger of test scores"]
    assert again == found
    (tmp_path / LEDGER).unlink()
    (tmp_path / "first" / "log" / LEDGER).unlink()
    found = {one.check: one for one in audit_run(tmp_path / "first").findings}["ledger of test scores"]
    assert "removed" in found.what
