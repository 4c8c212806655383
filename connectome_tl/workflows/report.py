"""`connectome-tl report`: a finished run's report, drawn again from its results."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.provenance import write_text
from connectome_tl.report.render import render_report
from connectome_tl.settings.results import RunRecord
from connectome_tl.workflows.ledger import looks, reveal, with_ledger


def draw_report(run_dir: Path) -> Path:
    """Write `report.html` anew, with all that the ledger of test scores knows by now; the results are not changed.

    Raises:
        MissingInputError: the folder holds no finished run.
        DataError: its results were changed by hand, or by another version.
    """
    file = run_dir / "results.json"
    try:
        record = RunRecord.model_validate_json(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError(
            "no finished run here", file=file, remedy="Run `connectome-tl run` first; it resumes where it stopped."
        ) from error
    except ValidationError as error:
        raise DataError(f"not the results of a run: {error.errors()[0]['msg']}", file=file) from error
    reveal(run_dir, "report", record)
    seen = looks(run_dir, record.provenance.get("infants", ""))
    return write_text(run_dir / "report.html", render_report(with_ledger(record, seen, until_first=False)))
