"""Files of the explanations of a run: paths and reading, without torch."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.errors import DataError
from connectome_tl.provenance import read_json
from connectome_tl.settings.records.explanations import ExplanationRecord

FOLDER, SUMMARY, PAGE = "explanations", "explanations.json", "explanations.html"
PERMUTED = "permuted"  # fits under permuted outcomes, until the explanations are written


def read_explanations(folder: Path, configuration: str) -> ExplanationRecord | None:
    """The explanations of a run folder, or None where there are none or they belong to another run.

    Raises:
        DataError: the summary was changed by hand, or by another version.
    """
    file = folder / FOLDER / SUMMARY
    if not file.is_file():
        return None
    try:
        record = ExplanationRecord.model_validate(read_json(file))
    except ValueError as error:
        raise DataError(
            "not a summary of explanations", file=file, remedy="Delete the folder and run `explain` again."
        ) from error
    return record if record.configuration == configuration else None
