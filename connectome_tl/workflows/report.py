"""`connectome-tl report`: a finished run's report, drawn again from its results."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.provenance import write_text
from connectome_tl.report.render import render_report
from connectome_tl.workflows.explain_files import read_explanations
from connectome_tl.workflows.ledger import looks, reveal, with_ledger
from connectome_tl.workflows.study_run import read_record


def draw_report(run_dir: Path) -> Path:
    """Write `report.html` anew, with all that the ledger of test scores knows by now; the results are not changed.

    Raises:
        MissingInputError: the folder holds no finished run.
        DataError: its results were changed by hand, or by another version.
    """
    record = read_record(run_dir)
    reveal(run_dir, "report", record)
    seen = looks(run_dir, record)
    found = read_explanations(run_dir, record.provenance.get("configuration", ""))
    return write_text(run_dir / "report.html", render_report(with_ledger(record, seen, until_first=False), found))
