"""The audit reports each manual edit of a finished run and its location; a correct folder passes."""

from __future__ import annotations

import json

import pytest

from connectome_tl.audit.results import page_finding, results_findings
from connectome_tl.errors import DataError, OutputError
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.audit.results import shown_findings
from connectome_tl.workflows.study.report import draw_report
from connectome_tl.workflows.study.results import read_record
from connectome_tl.workflows.study.study_run import read_run
from tests.audit.leaky_runs import write_results

pytestmark = pytest.mark.usefixtures("audits_fit_once", "audits_draw_once")
FOLLOWS = "results.json follows from predictions and data"


def failed(findings):
    return {f.check: f.what for f in findings if f.status == "failed"}


def shown(home):
    record = read_record(home / "run")
    return failed(shown_findings(home / "run", record, list(record.scores)))


def changed(record: RunRecord, part: str, **fields: object) -> RunRecord:
    """The record with the first of its verdicts, comparisons or scores edited."""
    first, *others = getattr(record, part)
    return record.model_copy(update={part: (first.model_copy(update=fields), *others)})


def test_a_folder_whose_results_were_edited_everywhere_alike_is_accused_of_each_value(run_copy):
    record = read_record(run_copy / "run")
    edited = changed(record, "verdicts", headline="The model is better than chance.")
    edited = changed(edited, "comparisons", difference=0.31, low=0.12, high=0.5, verdict="helps")
    edited = changed(edited, "scores", value=0.93)
    write_results(run_copy, edited)
    found = failed(audit_run(run_copy / "run").findings)
    assert found.keys() == {FOLLOWS, "scores follow from the predictions"}
    comparison = record.comparisons[0]
    for text in (
        "verdicts (cognitive), headline: 'The model is better than chance.', again",
        f"comparisons ({comparison.task}, full, {comparison.control}, {comparison.metric}), difference: 0.31, again",
        "5 values differ" if comparison.verdict == "helps" else "6 values differ",
    ):
        assert text in found[FOLLOWS]


@pytest.mark.parametrize("name", ["scores.tsv", "comparisons.tsv", "report.html"])
def test_a_file_edited_alone_is_named(run_copy, name):
    assert not shown(run_copy)
    path = run_copy / "run" / name
    text = path.read_text("utf-8")
    first = read_record(run_copy / "run").verdicts[0].headline
    old, new = {
        "scores.tsv": ("\tauc\t0.", "\tauc\t0.9"),
        "comparisons.tsv": ("\tcannot tell\t", "\thelps\t"),
        "report.html": (first.split(" ")[-1].rstrip("."), "certain"),
    }[name]
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    (check,) = shown(run_copy)
    assert check.startswith(name)
    path.write_text(text[: len(text) // 2], "utf-8")
    assert set(shown(run_copy)) == {check}


def test_numbers_that_are_missing_or_infinite_are_named_and_never_a_fault_of_ours(run_copy):
    path = run_copy / "run" / "scores.tsv"
    text = path.read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    value = rows[0].index("value")
    rows[1][value] = "nan"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", "utf-8")
    assert "row 1, value: nan, expected" in shown(run_copy)["scores.tsv is that of results.json"]
    path.write_text(text, "utf-8")
    path = run_copy / "run" / "predictions.tsv"
    lines = path.read_text("utf-8").splitlines()
    cells = lines[3].split("\t")
    cells[lines[0].split("\t").index("y_score")] = "n/a"
    path.write_text("\n".join([*lines[:3], "\t".join(cells), *lines[4:]]) + "\n", "utf-8")
    for read in (audit_run, read_run):
        with pytest.raises(DataError, match="line 4: column y_score holds a value that is missing or infinite"):
            read(run_copy / "run")


def test_a_page_drawn_again_when_the_ledger_knows_more_is_honest_and_a_word_added_to_it_is_not(run_copy):
    ledger = run_copy / "test_scores.jsonl"
    look = json.loads(ledger.read_text().splitlines()[0])
    ledger.write_text(ledger.read_text() + json.dumps(look | {"configuration": "f" * 64}) + "\n")
    page = draw_report(run_copy / "run", tables=True, dated=True)
    for k in range(9):  # further configurations, and a log
        ledger.write_text(ledger.read_text() + json.dumps(look | {"configuration": f"{k}" * 64, "key": f"{k}"}) + "\n")
    (run_copy / "run" / "log" / "2999.txt").write_text("2999-01-01 00:00:00 INFO done\n")
    assert "other than this one" in page.read_text("utf-8")
    assert not shown(run_copy)
    text = page.read_text("utf-8")
    page.write_text(text.replace("ffffffffffff</td>", "eeeeeeeeeeee</td>"), "utf-8")
    assert set(shown(run_copy)) == {"report.html shows results.json"}
    page.write_text(text.replace("</body>", "<p>significant</p></body>"), "utf-8")
    assert "'significant', expected ''" in shown(run_copy)["report.html shows results.json"]


def test_figures_count_by_their_texts_and_a_long_changed_page_is_still_refused():
    page = "<p>a</p><svg><text>0.5</text></svg>" + "".join(f"<td>{k}</td>" for k in range(6000))
    moved = page.replace("0.5", "0.9").replace("<td>5990</td>", "<td>x</td>")
    assert page_finding(page, [page]).status == "passed"
    assert page_finding(page + "<p>b</p>", [page, page + "<p> b</p>"]).status == "passed"
    assert page_finding(moved, [page]).status == "failed"
    assert "0.5" in page_finding(moved, [page]).what


def test_findings_of_a_folder_without_right_to_write_are_shown(run_copy, monkeypatch):
    def refused(path, value):
        raise OutputError("could not write", file=path)

    monkeypatch.setattr("connectome_tl.workflows.audit.audit.write_json", refused)
    found = audit_run(run_copy / "run").findings
    assert len(found) > 20
    assert (found[-1].check, found[-1].status) == ("audit.json", "warning")


def test_round_off_is_no_edit_and_the_method_of_another_version_is_a_warning(finished_run):
    record = read_record(finished_run / "run")
    value = record.scores[0].value
    assert not failed(results_findings(record, changed(record, "scores", value=value + 1e-9)))
    assert failed(results_findings(record, changed(record, "scores", value=value + 1e-4)))
    edited = changed(record, "scores", method="an older one", low=0.0)
    (found,) = results_findings(edited, record)
    assert found.status == "failed"
    assert found.what.startswith("2 values differ")
    older = edited.model_copy(update={"versions": {**record.versions, "connectome-tl": "0.0.1"}})
    assert [finding.status for finding in results_findings(older, record)] == ["passed", "warning"]
    other = record.model_copy(update={"versions": {"numpy": "1"}})
    (found,) = results_findings(changed(other, "scores", value=value + 0.1), record)
    assert "numpy 1 (now" in found.remedy
