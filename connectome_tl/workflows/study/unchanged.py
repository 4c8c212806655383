"""Check whether the cohorts of a run have changed since."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.errors import DataError
from connectome_tl.imaging.volumes.cache import is_stored
from connectome_tl.provenance import read_own_json_object
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.images.grids import CACHE

_NAMED = 5  # subjects in a message


def changed_cohorts(folder: Path, cohorts: StudyCohorts) -> list[str]:
    """Names of the cohorts whose content differs from the run's provenance."""
    provenance = read_own_json_object(folder / "provenance.json")
    return [
        name
        for name, cohort in cohorts.by_name().items()
        if provenance.get(f"cohort {name}") != cohort.rows_hash(cohort.ids)
    ]


def refuse_changed(folder: Path, cohorts: StudyCohorts, settings: StudySettings) -> None:
    """Refuse cohorts that are not those of the run, before its grids of volumes are completed.

    Raises:
        DataError: names the cohorts, and the subjects whose images have changed.
    """
    changed = changed_cohorts(folder, cohorts)
    if not changed:
        return
    every = cohorts.by_name()
    images = [one for name in changed for one in zip(every[name].ids, every[name].volumes, strict=False) if one[1]]
    other = [one for one in images if not is_stored(one[1], settings.image, folder / CACHE)]
    if len(other) == len(images):  # no image, or grids were removed
        other = []
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    raise DataError(
        f"cohorts have changed since the run: {', '.join(changed)}",
        got=f"another image of {', '.join(subject for subject, _ in other[:_NAMED])}{more}" if other else None,
        file=other[0][1] if other else folder,
        remedy="Restore the files, or run the study again.",
    )
