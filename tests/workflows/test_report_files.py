"""`report` on a run folder: figures, tables, references, and the date of the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from page import Page
from report_example import example_record

from connectome_tl.provenance import write_json, write_text
from connectome_tl.report.tables.downloads import slug
from connectome_tl.report.text.standards import checklists
from connectome_tl.workflows.folder import open_log
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.report import draw_report, timing_of

LOG = "2026-01-02 03:0{}:00,123 INFO connectome-tl: {}\n"


RECORD = example_record(n_tasks=1, n_repeats=1, n_permutations=19)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "results.json", RECORD)
    write_text(tmp_path / "log" / "a.txt", LOG.format(1, "started") + LOG.format(3, "stopped") + "Traceback\n")
    write_text(tmp_path / "log" / "b.txt", LOG.format(5, "started") + LOG.format(6, "done"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_figures_and_tables_are_those_of_the_page_and_the_same_every_time(folder: Path, kind: str) -> None:
    if kind == "pdf":  # with fewer figures, since each takes a third of a second
        few = {"curves": (), "permutations": (), "decision_curves": (), "instability": ()}
        write_json(folder / "results.json", RECORD.model_copy(update=few))
    stale = folder / "figures" / f"99-old.{kind}"
    write_text(stale, "old")
    page = Page(draw_report(folder, figures=kind, tables=True).read_text("utf-8"))  # type: ignore[arg-type]
    assert not stale.exists()
    figures = sorted((folder / "figures").iterdir())
    assert len(figures) == page.tags["svg"]
    start = {"svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert all(file.read_bytes().startswith(start) for file in figures)
    tables = sorted((folder / "tables").glob("*.tsv"))
    assert len(tables) == len(list((folder / "tables").glob("*.tex")))
    undrawn = (  # only downloads
        *("paired-differences", "all-scores", "raw-and-recalibrated-risks", "sensitivity-at-a-fixed-specificity"),
        *("methods-of-the-intervals", *(slug(one.name) for one in checklists(RECORD))),
    )
    drawn = [file for file in tables if not file.stem.endswith(undrawn)]
    assert len(drawn) == len(tables) - len(undrawn) == page.tags["table"]
    assert (folder / "tables" / "references.bib").read_text("utf-8").startswith("@article{")
    before = {file: file.read_bytes() for file in (*figures, *(folder / "tables").iterdir())}
    draw_report(folder, figures=kind, tables=True)  # type: ignore[arg-type]
    changed = {file.name for file, data in before.items() if file.read_bytes() != data}
    assert not changed


def test_the_fits_of_a_killed_process_count_in_the_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process writes no last line; the lines of its steps say until when it worked."""
    now = [1_800_000_000.0]
    (tmp_path / "log").mkdir()
    monkeypatch.setattr("logging.time.time", lambda: now[0])
    killed = open_log(tmp_path, "study")
    killed.__enter__()
    with Steps(shown=False) as steps, steps.counted("fitting models") as progress:
        for done in range(1, 10):
            now[0] += 600
            progress(done, 10)
        (log,) = (tmp_path / "log").glob("*.txt")
        text = log.read_text()
        killed.__exit__(None, None, None)
    log.write_text(text)
    assert timing_of(tmp_path)[1] == ("Duration", "1 h 30 min")


def test_the_page_says_when_the_run_ended_and_how_long_it_worked(folder: Path) -> None:
    assert timing_of(folder) == [("Finished", "2026-01-02 03:06"), ("Duration", "3 min 0 s")]
    visible = Page(draw_report(folder).read_text("utf-8")).visible
    assert "Finished: 2026-01-02 03:06" in visible
    assert "Duration: 3 min 0 s" in visible
    assert "Finished" not in Page(draw_report(folder, dated=False).read_text("utf-8")).visible
    for file in (folder / "log").glob("*.txt"):
        file.unlink()
    assert timing_of(folder) == []
    assert "Dates and durations are in log/" in Page(draw_report(folder).read_text("utf-8")).visible
