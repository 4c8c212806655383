"""`connectome-tl maps`: voxel importance of the networks of a finished image study."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from connectome_tl.arguments import Positive, checked_arguments
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain.cells import cells_in, mean_affine
from connectome_tl.evaluation.explain.study import not_above_chance
from connectome_tl.evaluation.explain.units import planned_folds
from connectome_tl.evaluation.images.coarse_maps import TOP, coarse_table
from connectome_tl.evaluation.images.map_checks import agreement
from connectome_tl.evaluation.images.study_maps import KINDS, FoldMaps, fold_maps
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.provenance import write_json, write_sidecar, write_table, write_text
from connectome_tl.report.figures.voxels import MapImages
from connectome_tl.report.volume_pages import render_maps
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.records.results import Score
from connectome_tl.settings.records.volume_maps import MapKind, VolumeMap, VolumeMapsRecord
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.networks.volumes import device_again
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.images.grids import CACHE, with_grids
from connectome_tl.workflows.images.map_files import FOLDER, SUMMARY, write_background
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.results import read_record
from connectome_tl.workflows.study.unchanged import refuse_changed

SUBJECTS, PAGE = "subjects.tsv", "maps.html"
SUBJECT_MAPS = "subjects"  # folder within FOLDER


@checked_arguments
def map_volumes(
    run_dir: str | Path,
    *,
    model: str = "network",
    kinds: Sequence[MapKind] | None = None,
    n_subjects: Positive = 10,
    noise: NoiseMap | None = None,
    subfolder: str = FOLDER,
    base: str | Path | None = None,
    show_progress: bool = False,
) -> VolumeMapsRecord:
    """Write maps as NIfTI, measures per subject, a summary and a page to a subfolder of the run folder.

    Maps are computed for held-out subjects of each fold of the first repeat, and withheld if the network of the model
    is not above chance by itself. Maps of subjects are in the space of the subject's image. Mean maps are meaningful
    only if the volumes are registered to one template and their grids have `image.centre: image` (or
    `image.grid: zoom` or `raw`); they then are in the space of that template. Maps of single subjects and the page,
    which shows the mean volume of the mapped subjects, are personal data.

    Args:
        model: a model of the run with a network on volumes. Other modalities are those of the mapped subject.
        kinds: all by default; without `noise`, which needs a network on volumes alone, for networks with other
            modalities.
        n_subjects: number of subjects per fold. noise: settings of the map by learned noise.
        subfolder: whose earlier content is removed.
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

    Raises:
        UsageError: the study has no volumes, or no such model.
        MissingInputError: no finished run, or a fit is not stored.
        DataError: the data are not those of the run.
    """
    folder = Path(run_dir)
    out = folder / subfolder
    results = read_record(folder)
    study = read_study(folder)
    if not study.model.reads_volumes:
        raise UsageError("this study uses no volumes", file=folder / "study.yaml", remedy="Use connectome-tl explain.")
    splits = SplitPlan.load(folder / "split_plan.json")
    store, noise, device = FitStore(folder / "models"), noise or NoiseMap(), device_again(study.device)
    with Steps(shown=show_progress) as steps, claim(folder):
        with steps.step("reading cohorts"):
            cohorts = read_run_cohorts(study, folder, base)
            refuse_changed(folder, cohorts, study)
            cohorts = with_grids(study, cohorts, folder / CACHE)
        tasks = tasks_of(study, cohorts)
        planned = [one for one in planned_folds(study, cohorts, splits, tasks, model) if one.repeat == 0]
        if not planned:
            raise UsageError(f"the study has no model {model!r}", expected="one of its models, such as network")
        withheld = {task.name: reason for task in tasks if (reason := _no_map(task, model, results.scores))}
        shown, tables, images = [], [], {}
        heads: dict[str, np.ndarray] = {}
        backgrounds: dict[str, np.ndarray] = {}
        affines: dict[str, np.ndarray] = {}
        computed: dict[str, list[Mapping[MapKind, FoldMaps]]] = {}
        for task in tasks:
            if task.name in withheld:
                continue
            with steps.counted(f"maps of {task.name}") as progress:
                folds = computed.setdefault(task.name, [])
                for i, one in enumerate(planned):
                    folds.append(
                        fold_maps(
                            one, cohorts.target, study.image, store, task.name, kinds, noise,
                            n_subjects=n_subjects, seed=study.seed, check_random=i == 0, device=device,
                        )
                    )  # fmt: skip
                    progress(i + 1, len(planned))
        if out.exists():  # maps of an earlier call, of another model or of other subjects
            shutil.rmtree(out)
        for name, folds in computed.items():
            for kind in KINDS:
                found = [fold[kind] for fold in folds if kind in fold]
                if found:
                    heads[name] = np.all([fold.inside for fold in found], axis=0)
                    backgrounds[name] = np.mean([fold.background for fold in found], axis=0)
                    affines[name] = mean_affine(_affines(found), heads[name].shape)
                    made, mean, table = _write(out, name, kind, found, heads[name], study, cohorts.target.atlas)
                    shown.append(made)
                    images[made.file] = mean
                    tables.append(table)
        for name, background in backgrounds.items():
            write_background(out, name, background, heads[name], affines[name])
        record = VolumeMapsRecord(model=model, maps=tuple(shown), withheld=withheld)
        if tables:
            path = write_table(out / SUBJECTS, pd.concat(tables, ignore_index=True))
            write_sidecar(path, settings=study.decisive, seed=study.seed, Rows="held-out subjects, first repeat")
        write_json(out / SUMMARY, record)
        labels = {task.name: task.label for task in tasks}
        shown_maps = MapImages(record, images, backgrounds, heads, affines)
        write_text(out / PAGE, render_maps(shown_maps, results, labels))
    return record


def _no_map(task: Task, model: str, scores: Sequence[Score]) -> str:
    """Why an outcome has no maps, which are those of the network of a model; empty if it has them."""
    alone = "network" if model == FULL else f"network_{model}"
    if all(score.model != alone for score in scores):
        return not_above_chance(task, model, scores)
    reason = not_above_chance(task, alone, scores)
    return f"its network alone: {reason}" if reason else ""


def _write(
    out: Path, task: str, kind: MapKind, folds: Sequence[FoldMaps], inside: np.ndarray, study: StudySettings, atlas: str
) -> tuple[VolumeMap, np.ndarray, pd.DataFrame]:
    """Write the map of each subject and their mean; `inside` is the head in all folds."""
    maps, affines = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("maps", "affines"))
    subjects = pd.concat([fold.subjects for fold in folds], ignore_index=True).assign(task=task, kind=kind)
    subjects["file"] = [
        f"{SUBJECT_MAPS}/{task}_{kind}_{quote(subject, safe='')}.nii.gz" for subject in subjects["subject"]
    ]
    (out / SUBJECT_MAPS).mkdir(parents=True, exist_ok=True)
    for file, values, affine in zip(subjects["file"], maps, affines, strict=True):
        write_volume(out / file, values.astype(np.float32), affine)
    cells, mean = cells_in(inside, affines, atlas), maps.mean(axis=0).astype(np.float32)
    path = write_volume(out / f"{task}_{kind}.nii.gz", mean, mean_affine(affines, inside.shape))
    space = f"grids at {'one place' if cells.is_one_space else 'different places'} in the images of the subjects"
    if len(affines) == 1:
        space = "image of the only subject"
    write_sidecar(path, settings=study.decisive, seed=study.seed, Space=space, Kind=kind, Outcome=task)
    table = write_table(out / f"{task}_{kind}.tsv", coarse_table([fold.mean for fold in folds], cells))
    write_sidecar(
        table,
        settings=study.decisive,
        seed=study.seed,
        units={"x, y, z": "mm"},
        Columns={
            "region": "most frequent region of the atlas, if it is in the space of the volumes",
            "value": "mean over the voxels of the cell, and over folds",
            "stability": f"share of the folds in which the cell is among the {TOP} largest",
            "stability_low, stability_high": "95 % Wilson interval of this share",
        },
        Tests="No p values: maps of voxels are not permuted; see the tables of cells of connectome-tl explain.",
        Space=space,
    )
    areas = subjects[["deletion", "insertion", "random_deletion", "random_insertion"]].mean().to_dict()
    made = VolumeMap(
        task=task,
        kind=kind,
        n_subjects=len(subjects),
        agreement=agreement([fold.mean for fold in folds], inside) if len(folds) > 1 else float("nan"),
        randomised=folds[0].likeness,
        file=path.name,
        is_one_space=cells.is_one_space,
        **{str(name): float(value) for name, value in areas.items()},
    )
    return made, mean, subjects


def _affines(folds: Sequence[FoldMaps]) -> np.ndarray:
    """(n_subjects, 4, 4) of all grids."""
    return np.concatenate([fold.affines for fold in folds])
