"""Read the cohorts of a study, aligned by region, and resolve their paths relative to the run folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.embeddings import with_embeddings
from connectome_tl.cohort.labelled import check_sizes
from connectome_tl.cohort.learnable import constant_in_folds, constant_outcomes
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.errors import DataError, MissingInputError, Problem, raise_all
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.settings_lines import with_lines

STUDY, SEARCH = "study.yaml", "search.txt"  # of a run or search; of a search only

if TYPE_CHECKING:  # schemes import torch
    from connectome_tl.training.schemes import StudyCohorts


def read_cohorts(settings: StudySettings, home: Path) -> StudyCohorts:
    """The study's cohorts, aligned by region name to the target's order, without label maps that it does not use.

    Raises:
        DataError: a cohort is invalid, or its regions, measures or transforms differ from the target's.
    """
    read: dict[Path, Cohort] = {}

    def load(use: CohortUse) -> Cohort:
        path = path_from(home, use.cohort)
        if path not in read:
            read[path] = read_cohort(path)
        return read[path]

    target = load(settings.target)
    if settings.image.embedding is not None:
        target = with_embeddings(target, path_from(home, settings.image.embedding.file))
    bound = settings.model.encoder.is_atlas_bound
    others = {
        role: _fitted_to(target, load(use), atlas_bound=bound)
        for role, use in settings.uses.items()
        if role != "target"
    }
    from connectome_tl.training.schemes import StudyCohorts
    from connectome_tl.workflows.images.labels import with_used_labels

    return with_used_labels(settings, StudyCohorts({"target": target, **others}))


def make_learnable_plan(settings: StudySettings, home: Path, cohorts: StudyCohorts) -> SplitPlan:
    """The split plan of the study, after checks that its outcomes vary, in the training rows of every fold too.

    Raises:
        DataError: lists constant outcomes with their lines in cohort.yaml. UsageError: see `make_split_plan`.
    """
    found: dict[str, list[Problem]] = {}
    learnt = {"source": settings.stages.pretrain, "target": settings.stages.finetune}
    uses = {role: use for role, use in settings.uses.items() if learnt.get(role) is not None}
    names = {role: use.tasks or tuple(task.name for task in cohorts.roles[role].tasks) for role, use in uses.items()}
    for role in uses:
        found[role] = constant_outcomes(cohorts.roles[role], role, names[role])

    def refuse() -> None:
        lines = (
            with_lines(DataError("", problems=problems), path_from(home, uses[role].cohort)).problems
            for role, problems in found.items()
            if problems
        )
        raise_all("the study has outcomes that cannot be learned", [one for problems in lines for one in problems])

    refuse()
    splits = make_split_plan(cohorts.target, settings.splits)
    found["target"] = constant_in_folds(cohorts.target, names["target"], splits, settings.splits)
    refuse()
    check_sizes(splits, settings.learning_curve)
    return splits


def path_from(home: Path, name: str) -> Path:
    """A path relative to a folder, which need not exist: that of a run may have been moved."""
    return home / name if home.is_dir() else Path(os.path.normpath(home / name))


def read_study(folder: Path) -> StudySettings:
    """The settings of a run, with the complete paths of its weight files.

    Raises:
        MissingInputError: the folder has no study.yaml. UsageError: it is wrong.
    """
    settings = load_settings(folder / STUDY, StudySettings)
    return settings.model_copy(
        update={"model": settings.model.with_weights(lambda path: str((folder / path).resolve()))}
    )


def written(folder: Path, settings: StudySettings) -> str:
    """The text of the study.yaml of a run, which `read_study` reads wherever the folder is."""
    model = settings.model.with_weights(lambda path: Path(os.path.relpath(path, folder.resolve())).as_posix())
    return dump_settings(settings.model_copy(update={"model": model}))


def read_run_cohorts(settings: StudySettings, folder: Path, base: str | Path | None) -> StudyCohorts:
    """The cohorts of a finished run.

    Args:
        base: folder that the paths of the cohorts are relative to; the run folder by default.

    Raises:
        MissingInputError: a cohort is not there; the message has a remedy if the folder was moved.
    """
    try:
        return read_cohorts(settings, folder if base is None else Path(base))
    except MissingInputError as error:
        remedy = (
            "If the run folder was moved, give --base FOLDER, its former path (which need not exist). If the data were "
            "moved, run the study again from their new place: finished fits are kept."
        )
        if base is not None:
            remedy = f"--base needs the former path of the run folder itself, not of the folder above it; got {base}."
        moved = (replace(problem, remedy=problem.remedy or remedy) for problem in error.problems)
        raise MissingInputError("the cohorts of the run cannot be read", problems=moved) from error


def _fitted_to(target: Cohort, cohort: Cohort, *, atlas_bound: bool) -> Cohort:
    """The cohort with regions and regional measures in the order of the target's; unchanged without connectomes."""
    if not cohort.regions or not target.regions:
        return cohort
    if cohort.measures != target.measures:
        raise DataError(
            f"cohorts {cohort.name!r} and {target.name!r} have different edge measures",
            expected=", ".join(target.measures),
            got=", ".join(cohort.measures),
            remedy="Weights of different kinds (counts, FBC, correlations) cannot share an encoder.",
        )
    if cohort.edge_transforms != target.edge_transforms:
        # No error: files may hold transformed values already, as those of `write_cohort` do.
        said = [f"{', '.join(one.edge_transforms)} in {one.name!r}" for one in (target, cohort)]
        note = (
            f"connectomes.transform is {' and '.join(said)}: unless their files hold values of different "
            f"scales, give both cohorts the same transform"
        )
        cohort = replace(cohort, notes=(*cohort.notes, note))
    cohort = cohort.with_region_features(target.region_feature_names)
    if not atlas_bound and set(cohort.regions) != set(target.regions):
        return cohort
    try:
        return cohort.with_regions(target.regions)
    except DataError as error:
        raise DataError(
            f"cohort {cohort.name!r} ({cohort.atlas}) does not match the target's atlas ({target.atlas})",
            problems=(
                *error.problems[:5],
                Problem(
                    "the weights of this encoder belong to one set of regions",
                    remedy="Cohorts of different atlases need one whose weights do not: a graph encoder with "
                    "node_features: identity, readout: attention (or clusters, mean) and direct: false.",
                ),
            ),
        ) from error


def seen_from(folder: Path, settings: StudySettings, home: Path) -> StudySettings:
    """The settings with cohort paths relative to the run folder, so that its study.yaml can be run."""

    def moved(use: CohortUse | None) -> CohortUse | None:
        if use is None or Path(use.cohort).is_absolute():
            return use
        return use.model_copy(update={"cohort": Path(os.path.relpath(home / use.cohort, folder)).as_posix()})

    image, use = settings.image, settings.image.embedding
    if use is not None and not Path(use.file).is_absolute():
        file = Path(os.path.relpath(home / use.file, folder)).as_posix()
        image = image.model_copy(update={"embedding": use.model_copy(update={"file": file})})
    roles = {role: moved(getattr(settings, role)) for role in ("source", "pool", "target")}
    return settings.model_copy(update={**roles, "image": image})
