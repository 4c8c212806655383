"""Compare provenance, sidecars and further tables of a run with what its settings, data and results give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectome_tl.audit.results import table_finding
from connectome_tl.provenance import canonical_json, read_own_json_object, sidecar_path, sidecar_record, versions
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.fitting import Found
from connectome_tl.workflows.study.judge import Judgement
from connectome_tl.workflows.study.prediction_files import AGE_GAPS, prediction_files
from connectome_tl.workflows.study.results import table_cells, table_text

_PROVENANCE = "provenance.json"
_ALWAYS = ("scores.tsv", "comparisons.tsv", "report.html")


def written_findings(
    folder: Path,
    settings: StudySettings,
    cohorts: StudyCohorts,
    found: Found,
    judged: Judgement,
    recorded: RunRecord,
) -> list[Finding]:
    """Compare provenance, sidecars and the table of age gaps with those made again.

    Versions are compared between the files of the run only, since the installed ones may have changed.
    """
    made_with = dict(recorded.versions)
    expected = {**judged.provenance, "versions": made_with}
    said = read_own_json_object(folder / _PROVENANCE)
    wrong = [f"{_PROVENANCE}, {text}" for text in _differences(said, expected)]
    inputs = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    for file in prediction_files(found):
        path = folder / file.name
        side = sidecar_path(path)
        if not path.is_file() or not side.is_file():
            wrong.append(f"{file.name if not path.is_file() else side.name} is not there")
            continue
        described = sidecar_record(
            path, inputs=inputs, settings=settings.decisive, seed=settings.seed, Columns=file.columns
        )
        # The hash of the table is left out: its values are compared with those that are fitted again.
        differ = _differences(read_own_json_object(side), {**described, "Versions": made_with})
        wrong += [f"{side.name}, {text}" for text in differ if text != "Sha256"]
    curve = ("learning_curve.tsv",) if recorded.learning_curve else ()
    findings = [
        _finding("provenance and sidecars are those of the run", wrong, made_with),
        *strange_findings(folder, {*_ALWAYS, *curve, *(file.name for file in prediction_files(found))}),
    ]
    if found.gaps is not None and (folder / AGE_GAPS).is_file():
        again = table_finding(AGE_GAPS, table_cells(folder / AGE_GAPS), table_text(found.gaps.table))
        findings.append(again.model_copy(update={"check": f"{AGE_GAPS} follows from the predictions"}))
    return findings


def strange_findings(folder: Path, made: set[str]) -> list[Finding]:
    """A warning about tables and pages in the folder that no part of this run writes, so that nothing checks them."""
    strange = [path.name for path in folder.iterdir() if path.suffix in (".tsv", ".csv", ".html")]
    strange = sorted(name for name in strange if name not in made)
    if not strange:
        return []
    return [
        Finding(
            check="files of the run only",
            status="warning",
            what=f"not written by this run, and not checked: {', '.join(strange[:8])}"
            + (f" and {len(strange) - 8} more" if len(strange) > 8 else ""),
            remedy="Do not take them for its results; remove them, or keep them in another folder.",
        )
    ]


def _differences(said: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ, as JSON."""
    again = json.loads(canonical_json(expected))
    absent = object()
    return [key for key in sorted({*said, *again}) if said.get(key, absent) != again.get(key, absent)]


def _finding(check: str, wrong: list[str], made_with: Mapping[str, str]) -> Finding:
    if wrong:
        return Finding(
            check=check,
            status="failed",
            what=f"does not follow from the settings, data and results: {'; '.join(wrong[:8])}",
            remedy="These files were edited. Run the study again.",
        )
    other = {name for name, number in versions().items() if made_with.get(name) != number}
    text = "every entry is the same"
    if other:
        return Finding(
            check=check,
            status="warning",
            what=f"{text}; the run names other versions of {', '.join(sorted(other))} than are installed here, which "
            "cannot be checked",
            remedy="Audit the run where these versions are installed.",
        )
    return Finding(check=check, status="passed", what=text)
