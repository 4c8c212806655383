"""Label maps of a study: which are used, on the grid of their volumes, and whether they belong to their subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, MissingInputError, Problem, raise_all
from connectome_tl.imaging.volumes.cache import StoredGrid, image_hash
from connectome_tl.imaging.volumes.label_maps import LabelGrid, of_another_scheme, stored_labels
from connectome_tl.plurals import counted
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.objectives import ObjectiveSettings, VolumeContrast
from connectome_tl.settings.study import StudySettings

if TYPE_CHECKING:
    from connectome_tl.training.schemes import StudyCohorts


def with_used_labels(settings: StudySettings, cohorts: StudyCohorts) -> StudyCohorts:
    """The cohorts without label maps that no objective uses: fits, and hashes of the cohorts, do not depend on them."""
    adapt = settings.stages.adapt
    used = cohorts.pool if adapt is not None and adapt.objective.needs_labels else None
    done: dict[int, Cohort] = {}
    for cohort in cohorts.roles.values():
        notes = cohort.notes
        if cohort is cohorts.pool and _contrasts(settings) and any(cohort.volume_labels):
            notes = (*notes, "label maps are not used: stages.adapt.objective.classes is a number, not labels")
        done[id(cohort)] = cohort if cohort is used else replace(cohort, volume_labels=(), notes=notes)
    return type(cohorts)({role: done[id(cohort)] for role, cohort in cohorts.roles.items()})


def made_labels(
    cohort: Cohort, grids: Mapping[str, StoredGrid], settings: ImageSettings, folder: Path
) -> dict[str, LabelGrid]:
    """The label map of each subject that has one, on the grid of its volume.

    Raises:
        DataError, MissingInputError: label maps that cannot be used, all of them in one list.
    """
    found, problems, only_missing = {}, list[Problem](), True
    for subject, label_map, image in zip(cohort.ids, cohort.volume_labels, cohort.volumes, strict=False):
        if not label_map:
            continue
        try:
            found[subject] = stored_labels(label_map, image, subject, grids[image], settings, folder)
        except (DataError, MissingInputError) as error:
            problems += error.problems
            only_missing = only_missing and isinstance(error, MissingInputError)
    raise_all("label maps cannot be used", problems, MissingInputError if only_missing else DataError)
    _check_own_labels(cohort)
    return found


def check_contrast_of(pool: Cohort, objective: ObjectiveSettings, found: dict[str, LabelGrid]) -> None:
    """Check that the label maps of a pool can be contrasted.

    Raises:
        DataError: they cannot.
    """
    every = {value for grid in found.values() for value in grid.values}
    if len(every) < 2:
        raise DataError(
            f"the label maps have {counted(len(every), 'label')}, and a contrast needs two",
            got=f"the label maps of {pool.name}",
            remedy="Give one number to one tissue or parcel.",
        )
    if isinstance(objective, VolumeContrast) and objective.contrast.scope == "across":
        check_one_scheme(pool, found)


def check_one_scheme(cohort: Cohort, found: Mapping[str, LabelGrid]) -> None:
    """Check that every label map, by subject, has a label that another one has too.

    Raises:
        DataError: lists the others.
    """
    files = dict(zip(cohort.ids, cohort.volume_labels, strict=False))
    problems = [
        Problem(
            "no other subject has a label of this map",
            got=", ".join(map(str, found[i].values[:5])) + (" ..." if len(found[i].values) > 5 else ""),
            subject=i,
            file=files[i],
            remedy="Give one number to one tissue or parcel in all subjects, or remove the label map.",
        )
        for i in of_another_scheme(found)
    ]
    raise_all("label maps have different schemes", problems)


def _check_own_labels(cohort: Cohort) -> None:
    """Check that no subject has a copy of the label map of another one, unless all have copies of one template.

    One file that is named for several subjects is a choice, as of a template for each age.

    Raises:
        DataError: lists the copies.
    """
    owners: dict[str, dict[str, str]] = {}  # by content, the first subject of each file
    for subject, file in zip(cohort.ids, cohort.volume_labels, strict=False):
        if file:
            owners.setdefault(image_hash(file), {}).setdefault(file, subject)
    if len(owners) < 2:
        return
    problems = [
        Problem(
            f"the same label map as {next(iter(files.values()))}",
            subject=subject,
            file=file,
            remedy="Name the map of the subject itself, or remove it (volumes.missing: allow).",
        )
        for files in owners.values()
        for file, subject in [*files.items()][1:]
    ]
    raise_all("subjects have the label map of another one", problems)


def _contrasts(settings: StudySettings) -> bool:
    adapt = settings.stages.adapt
    return adapt is not None and isinstance(adapt.objective, VolumeContrast)
