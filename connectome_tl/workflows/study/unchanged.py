"""Check whether the cohorts of a run have changed since."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.provenance import read_json_object
from connectome_tl.training.schemes import StudyCohorts


def changed_cohorts(folder: Path, cohorts: StudyCohorts) -> list[str]:
    """Names of the cohorts whose content differs from the run's provenance."""
    provenance = read_json_object(folder / "provenance.json")
    return [
        name
        for name, cohort in cohorts.by_name().items()
        if provenance.get(f"cohort {name}") != cohort.rows_hash(cohort.ids)
    ]
