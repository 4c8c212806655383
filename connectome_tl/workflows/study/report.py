"""`connectome-tl report`: render the report of a finished run again, with files for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from connectome_tl.provenance import write_bytes, write_text
from connectome_tl.report.figures.drawing import drawing_bytes
from connectome_tl.report.figures.sheet import Export
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.downloads import PlainTable, collected, slug
from connectome_tl.report.text.references import bibliography, references_of
from connectome_tl.workflows.study.explain_files import read_explanations
from connectome_tl.workflows.study.finished import replace_output
from connectome_tl.workflows.study.ledger import looks, reveal, with_ledger
from connectome_tl.workflows.study.results import read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES, TABLES = "figures", "tables"
FigureKind = Literal["svg", "pdf"]
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


def draw_report(run_dir: Path, *, figures: FigureKind | None = None, tables: bool = False, dated: bool = True) -> Path:
    """Render `report.html` again with the current ledger of test scores; results are not changed.

    Maps of `explain` for this run are included.

    Args:
        figures: also write each figure to `figures/`, as SVG or PDF.
        tables: also write each table to `tables/` as TSV and LaTeX, and `references.bib`.
        dated: include date and duration of the run from its log; without them equal runs give equal bytes.

    Raises:
        MissingInputError: the folder contains no finished run.
        DataError: its results were edited, or are of another version.
    """
    record = read_record(run_dir)
    reveal(run_dir, "report", record)
    seen = looks(run_dir, record)
    found = read_explanations(run_dir, record.provenance.get("configuration", ""))
    export = None if figures is None else _saver(run_dir / FIGURES, figures)
    with collected() as every:
        timing = timing_of(run_dir) if dated else []
        page = render_report(with_ledger(record, seen, until_first=False), found, timing=timing, export=export)
    if tables:
        _write_tables(run_dir / TABLES, every)
        write_text(run_dir / TABLES / "references.bib", bibliography(references_of(record, found)))
    return replace_output(run_dir, "report.html", page)


def timing_of(run_dir: Path) -> list[tuple[str, str]]:
    """Date and duration of a run from its logs; empty without logs.

    A resumed run has a log per start; the time between them is not counted. That of a killed process is counted until
    its last line, one of which is written per tenth of a step.
    """
    worked, last = 0.0, None
    for file in sorted((run_dir / "log").glob("*.txt")):
        text = file.read_text("utf-8", errors="replace").splitlines()
        stamps = [datetime.fromisoformat(m.group(1)) for line in text if (m := _STAMP.match(line))]
        if stamps:
            worked += (stamps[-1] - stamps[0]).total_seconds()
            last = max(stamps[-1], last) if last is not None else stamps[-1]
    if last is None:
        return []
    return [("Finished", f"{last:%Y-%m-%d %H:%M}"), ("Duration", _duration(worked))]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _saver(folder: Path, kind: FigureKind) -> Export:
    for stale in folder.glob(f"*.{kind}"):
        stale.unlink()

    def save(name: str, figure: Figure) -> None:
        write_bytes(folder / f"{name}.{kind}", drawing_bytes(figure, kind))

    return save


def paper_tables(every: Sequence[PlainTable]) -> dict[str, str]:
    """Names and texts of the files of these tables."""
    found: dict[str, str] = {}
    for number, table in enumerate(every, start=1):
        name = f"{number:02d}-{slug(table.title)}"
        found |= {f"{name}.tsv": table.tsv, f"{name}.tex": table.latex}
    return found


def _write_tables(folder: Path, every: Sequence[PlainTable]) -> None:
    for stale in (*folder.glob("*.tsv"), *folder.glob("*.tex")):
        stale.unlink()
    for name, text in paper_tables(every).items():
        write_text(folder / name, text)
