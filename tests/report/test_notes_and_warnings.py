"""Notes on how files were read are shown separately; what needs attention or an action is a warning."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from report_example import example_record

from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings, is_benign
from connectome_tl.report.figures.flow import flow_figure
from connectome_tl.report.render import render_report
from connectome_tl.workflows.data.cohort import check_cohort
from connectome_tl.workflows.scans.result import is_remark


@pytest.mark.parametrize(
    "note",
    [
        "t.csv is not in UTF-8 and was read as Windows-1252 (Western European): Köln",
        "the rows have no names and were taken in the order of the rows of atlas aal90",
        "the 12 rows have no names and were numbered; their order is taken to be the same in all files",
        "sex: spellings of one category were read as one: M, male",
        "region X is missing in 2 subjects and is masked there",
        "cog: 3 censored values were read as their limit",
    ],
)
def test_notes_on_reading_are_benign(note: str) -> None:
    assert is_benign(note)


@pytest.mark.parametrize(
    "note",
    [
        "edge weights neither fall with distance nor favour homotopic pairs in the assumed order of rows: check that it"
        " is right",
        "cog: 999 in 2 rows was read as a value; if it means missing, set missing: ['999']",
        "x: -3 below values that are 0 or more; if it means missing, set missing: [...]",
        "1 row without a matrix was left out: p4",
        "3 rows are of multiple births and no family column is named",
        "sub-1.json: cannot be read as JSON, and was not used",
        "cog: 3 in 1 row was read as missing, but look at it",
        "something that nobody has thought of",
    ],
)
def test_whatever_asks_for_something_is_no_mere_note(note: str) -> None:
    assert not is_benign(note)


def test_notes_that_columns_give_are_known() -> None:
    findings = Findings()
    cells = pd.Series(["1,5", "2,5", "-999", "<3,5", "4,5"], name="x")
    numbers(cells, list("abcde"), "t.csv", findings, censored="limit")
    assert len(findings.notes) == 3
    assert [note for note in findings.notes if not is_benign(note)] == []


@pytest.mark.usefixtures("blank_figures")
def test_a_run_page_lists_warnings_first_and_notes_with_the_cohorts() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0).model_copy(
        update={"warnings": ("look at this",), "notes": ("read as that",)}
    )
    page = render_report(record)
    warnings = page[page.index('id="warnings"') : page.index('id="evidence"')]
    cohorts = page[page.index('id="cohorts"') : page.index('id="scores"')]
    assert ("look at this" in warnings, "read as that" in warnings) == (True, False)
    assert ("look at this" in cohorts, "read as that" in cohorts) == (False, True)
    assert "1 warning<" in page


def test_the_cohort_page_and_command_call_what_needs_a_look_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(8)]
    pd.DataFrame({"id": ids, "cog": ["90,5", "999", *["80,5"] * 6]}).to_csv(tmp_path / "p.csv", sep=";", index=False)
    for one in ids:
        upper = np.triu(rng.random((5, 5)), 1)
        np.savetxt(tmp_path / f"{one}_m.csv", upper + upper.T, delimiter=",")
    text = "participants: p.csv\nid: id\noutcomes: [{name: cog, column: cog, kind: regression}]\n"
    (tmp_path / "c.yaml").write_text(text + "connectomes: {files: '{id}_m.csv', labels: numbered}\n")
    found = check_cohort(tmp_path / "c.yaml", tmp_path / "page.html").findings
    levels = {one.message: one.level for one in found if one.check == "reading"}
    assert sorted(set(levels.values())) in (["note"], ["note", "warning"])
    assert all((level == "note") == is_benign(message) for message, level in levels.items())
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{level}: {message}" in said for message, level in levels.items())


@pytest.mark.parametrize("name", ["cognitive", "Bayley3 cognitive below 85", "an outcome whose name is too long"])
def test_names_end_before_the_numbers_of_the_flow(name: str) -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    target = next(one for one in record.cohorts if one.role == "target")
    task = record.tasks[0].model_copy(update={"name": name.replace(" ", "_")})
    counts = target.outcomes[0].model_copy(update={"task": task.name, "observed": 126, "n_positive": 16})
    cohorts = (target.model_copy(update={"outcomes": (counts,)}),)
    drawn = flow_figure(record.model_copy(update={"tasks": (task,), "cohorts": cohorts}), "f", "")
    assert drawn is not None
    found = re.findall(r'font-size: ([\d.]+)px[^"]*" x="([\d.]+)"[^>]*>([^<]+)</text>', drawn)
    size, left, text = next(one for one in found if one[2][:6].lower() == name[:6].lower())
    n_size, right, n_text = next(one for one in found if one[2] == "n = 126 (16+)")

    def width(text: str, size: str, weight: str) -> float:
        font = FontProperties(family="DejaVu Sans", weight=weight)
        return float(TextPath((0, 0), text, size=float(size), prop=font).get_extents().width)

    assert float(left) + width(text, size, "normal") < float(right) - width(n_text, n_size, "bold")


def test_what_was_done_to_a_scan_as_it_was_asked_for_is_no_warning() -> None:
    assert is_remark("2 runs are joined: a.nii.gz, b.nii.gz; scaled by 1.01 and 1")
    assert is_remark("corrected by hooks.distortion: susceptibility and eddy currents")
    assert not is_remark("exploratory: susceptibility, eddy currents and motion within volumes were not corrected")
    assert not is_remark("1 of 12 volumes lost its signal")
