"""`connectome-tl validate`: external validation of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.bundle.folder import VALIDATION
from connectome_tl.bundle.scan import Secrets, refuse_secrets
from connectome_tl.bundle.validation import passed, validate_bundle
from connectome_tl.provenance import canonical_json, write_json, write_sidecar, write_table, write_text
from connectome_tl.report.validation import render_validation
from connectome_tl.settings.records.bundles import ValidationRecord
from connectome_tl.workflows.folder import refuse_others
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.release.application import opened_for, refuse_within

_WRITTEN = ("report.html", "scores.tsv", "scores.json", "results.json", VALIDATION)


@dataclass(frozen=True, eq=False)
class Validated:
    """Result of `validate`.

    Attributes:
        record: contents of the page. report: the HTML page.
        validation: the file to add to the bundle. notes: as of `Predicted`.
    """

    record: ValidationRecord
    report: Path
    validation: Path
    notes: tuple[str, ...] = ()


@checked_arguments
def validate_on(
    bundle_dir: str | Path, cohort_file: str | Path, out: str | Path, *, show_progress: bool = False
) -> Validated:
    """Score a bundle on another cohort; writes `report.html`, `scores.tsv`, `results.json` and `validation.json`.

    Predictions of single subjects are not written.

    Raises:
        UsageError: `out` is in the bundle, or contains other files.
        MissingInputError: the bundle or a file of the cohort is not there.
        DataError: the bundle is damaged, cannot be applied to this cohort, or was trained on it; or the file for the
            bundle would contain a subject, a site, a path or a date.
    """
    folder = Path(out)
    refuse_within(folder, bundle_dir)
    refuse_others(folder, _WRITTEN)
    with Steps(shown=show_progress) as steps, opened_for(bundle_dir, cohort_file, steps) as (bundle, cohort):
        with steps.step("predictions, scores, intervals"):
            record = validate_bundle(bundle, cohort)
        validation = passed(record)
        public = (*bundle.facts.inputs.regions, bundle.hash, validation.content)  # hashes of pooled numbers
        refuse_secrets(
            {VALIDATION: canonical_json(validation).encode()},
            Secrets.of([cohort], site_names=False, public=public),
            VALIDATION,
            "Rename these items in the cohort.yaml of this cohort, and validate again",
        )
    scores = [score.model_dump() for task in record.tasks for score in task.scores]
    table = write_table(folder / "scores.tsv", pd.DataFrame(scores))
    write_sidecar(
        table, inputs={"bundle": bundle.hash, f"cohort {cohort.name}": cohort.rows_hash(cohort.ids)}, settings={}
    )
    write_json(folder / "results.json", record)
    report = write_text(folder / "report.html", render_validation(record))
    return Validated(record, report, write_json(folder / VALIDATION, validation), cohort.notes)
