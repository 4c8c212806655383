"""`connectome-tl contrasts`: synthesise volumes of random contrast from label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.arrays.files import name_of
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, MissingInputError, Problem, UsageError, raise_all
from connectome_tl.imaging.read.images import read_labels, write_volume
from connectome_tl.provenance import content_hash, sidecar_path, write_sidecar
from connectome_tl.settings.images.synthesis import RandomContrast
from connectome_tl.simulation.volumes import random_contrast
from connectome_tl.workflows.folder import claim

_MOST_LABELS = 512


def contrast_cohort(
    cohort_file: str | Path,
    labels: str | None,
    out: str | Path,
    *,
    settings: RandomContrast | None = None,
    seed: int = 0,
) -> Path:
    """Write volumes with random intensities per label, and their cohort with the outcomes of the original.

    The family of each volume is that of its subject, or the subject's id, so that a study that pretrains on the volumes
    cannot be tested on the subject (Billot et al. 2023, doi:10.1016/j.media.2023.102789).

    Args:
        labels: label maps of the cohort's subjects, relative to its cohort.yaml, with `{id}` in the name; None for
            those of its `volumes.labels`. 0 is background.
        out: folder to write.

    Returns:
        Path of the new cohort.yaml.

    Raises:
        UsageError: `labels` has no `{id}`, or is None and the cohort names no label maps; `out` has another cohort.
        MissingInputError, DataError: lists all label maps that are missing or invalid.
    """
    if labels is not None and "{id}" not in labels:
        raise UsageError("labels needs {id} in place of the subject's id", got=repr(labels))
    settings, home = settings or RandomContrast(), Path(out)
    _check_place(home)
    cohort = _labelled(read_cohort(cohort_file), labels, Path(cohort_file))
    maps = _read(cohort)
    rows, volumes = [], []
    with claim(home):
        for i, (subject, (data, affine)) in enumerate(zip(cohort.ids, maps, strict=True)):
            for copy in range(settings.copies):
                draw = int(content_hash(seed, subject, copy)[:15], 16)
                volume = random_contrast(data, np.random.default_rng(draw), blur=settings.blur)
                name = f"{subject}contrast{copy + 1}"
                file = write_volume(home / "images" / f"sub-{name}_random.nii.gz", volume, affine)
                write_sidecar(file, settings=settings, seed=seed, Subject=subject, Copy=copy + 1, Simulated=True)
                volumes.append(str(file))
                rows.append((i, name))
        written = write_cohort(_copies(cohort, rows, volumes), home)
        kept = {name for file in map(Path, volumes) for name in (file, sidecar_path(file))}
        for old in set((home / "images").glob("sub-*_random.*")) - kept:  # of an earlier call
            old.unlink()
    return written


def _check_place(home: Path) -> None:
    """Refuse to overwrite a cohort that this command did not write, such as the one that it reads."""
    there = next((file for file in (home / "cohort.yaml", home / "participants.tsv") if file.exists()), None)
    if there is not None and not any((home / "images").glob("sub-*_random.json")):
        raise UsageError(
            "would overwrite a cohort that this command did not write", file=there, remedy="Give another --out."
        )


def _labelled(cohort: Cohort, labels: str | None, file: Path) -> Cohort:
    """The subjects with a label map, by a pattern or by their cohort.yaml."""
    if labels is not None:
        files = (str(file.parent / name_of(labels, subject)) for subject in cohort.ids)
        return replace(cohort, volume_labels=tuple(files))
    known = [subject for subject, path in zip(cohort.ids, cohort.volume_labels, strict=False) if path]
    if not known:
        raise UsageError(
            "the cohort names no label maps",
            file=file,
            remedy='Name them in volumes.labels of cohort.yaml, or with --labels "labels/sub-{id}_dseg.nii.gz".',
        )
    return cohort if len(known) == cohort.n_subjects else cohort.take(known)


def _read(cohort: Cohort) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label maps as small whole numbers, and their affines."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    problems: list[Problem] = []
    missing = 0
    for subject, file in zip(cohort.ids, cohort.volume_labels, strict=True):
        try:
            volume = read_labels(file, subject=subject)
        except (DataError, MissingInputError) as error:
            problems += error.problems
            missing += isinstance(error, MissingInputError)
            continue
        if min(volume.shape) < 4:
            problems.append(Problem("the label map is a slice, not a volume", subject=subject, file=file))
            continue
        known, codes = np.unique(volume.data, return_inverse=True)
        if len(known) > _MOST_LABELS:
            problems.append(Problem(f"more than {_MOST_LABELS} labels", subject=subject, file=file))
            continue
        shift = 0 if known[0] == 0 else 1  # without background, shift labels so that none becomes background
        found.append((codes.reshape(volume.shape) + shift, volume.affine))
    raise_all("label maps cannot be used", problems, MissingInputError if missing == len(problems) else DataError)
    return found


def _copies(cohort: Cohort, rows: list[tuple[int, str]], volumes: list[str]) -> Cohort:
    """The cohort with one row per volume and without non-image data."""
    at, names = [i for i, _ in rows], [name for _, name in rows]
    family = [str(cohort.family[i]) or cohort.ids[i] for i in at]
    taken = cohort.drawn(np.array(at), names)
    n = len(names)
    return replace(
        taken,
        name=f"{cohort.name} in random contrasts",
        regions=(),
        atlas="",
        measures=(),
        weights=np.zeros((n, 0, 0, 0), np.float32),
        node_mask=np.zeros((n, 0), dtype=bool),
        region_features=None,
        region_feature_names=(),
        covariates=pd.DataFrame(index=names),
        covariate_specs=(),
        family=np.array(family, dtype=object),
        volumes=tuple(volumes),
        volume_contrast="",
        as_read=None,
        simulated=True,
    )
