"""Resample the volumes of a study before training, and resolve its `auto` settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.relatives import relatives
from connectome_tl.config import load_settings
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, Problem, raise_all
from connectome_tl.features.volumes import Grid, GridReader, coarse_voxels, same_volumes
from connectome_tl.files import is_there, regular_file
from connectome_tl.imaging.volumes.cache import StoredGrid, stored_grid
from connectome_tl.imaging.volumes.checks import unlike_others
from connectome_tl.imaging.volumes.foreground import mixed_backgrounds
from connectome_tl.imaging.volumes.unlike_heads import unlike_heads
from connectome_tl.provenance import file_hash, read_own_json_object, write_bytes, write_json
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.images.cards import CARD, WeightsCard
from connectome_tl.settings.images.volumes import ImageEncoder, ImageSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.images.labels import check_contrast_of, made_labels, with_used_labels

if TYPE_CHECKING:
    from connectome_tl.training.schemes import StudyCohorts

CACHE, WEIGHTS = "volumes", "weights"  # folders inside a run folder
_LEAVE_OUT = "Fix the image, or leave the subject out (`select` in cohort.yaml)."  # where no setting accepts the image


def needs_grids(settings: StudySettings, cohorts: StudyCohorts) -> bool:
    """Whether a model of the study reads volumes, and a cohort has some."""
    from connectome_tl.training.schemes import modalities_of

    return "image" in modalities_of(settings, cohorts) and settings.model.reads_volumes


def with_grids(
    settings: StudySettings,
    cohorts: StudyCohorts,
    folder: Path,
    *,
    fixed_by: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> StudyCohorts:
    """The cohorts with their volumes as grids under `folder`; unchanged if the study has no volumes.

    Args:
        fixed_by: as for `made_grids`.

    Raises:
        DataError, MissingInputError: images that no grid can be made of, all of them in one list.
    """
    if not needs_grids(settings, cohorts):
        return cohorts
    cohorts = with_used_labels(settings, cohorts)
    grids = made_grids(cohorts.roles.values(), settings.image, folder, fixed_by=fixed_by, progress=progress)
    adapt, pool = settings.stages.adapt, cohorts.pool
    if adapt is not None and adapt.objective.needs_labels and pool is not None:
        check_contrast_of(pool, adapt.objective, made_labels(pool, grids, settings.image, folder))
    done: dict[int, Cohort] = {}
    roles = {}
    for role, cohort in cohorts.roles.items():
        if id(cohort) not in done:
            notes = [*notes_on_volumes(cohort, grids), *_shared(cohort, cohorts.target, grids)]
            done[id(cohort)] = replace(cohort, volume_cache=str(folder), notes=(*cohort.notes, *notes))
        roles[role] = done[id(cohort)]
    return type(cohorts)(roles)


def made_grids(
    cohorts: Iterable[Cohort],
    settings: ImageSettings,
    folder: Path,
    *,
    fixed_by: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, StoredGrid]:
    """The grid of every volume of these cohorts, by image; missing grids are computed under `folder`.

    Args:
        fixed_by: what determines the settings, if the user cannot change them; named in errors.

    Raises:
        DataError, MissingInputError: images that no grid can be made of, all of them in one list.
    """
    every = list(cohorts)
    total = len({path for cohort in every for path in cohort.volumes if path})
    problems: list[Problem] = []
    grids: dict[str, StoredGrid] = {}
    kinds: list[type[ConnectomeTLError]] = []
    for cohort in every:
        for subject, path in zip(cohort.ids, cohort.volumes, strict=False):
            if not path or path in grids:
                continue
            try:
                grids[path] = stored_grid(path, subject, settings, folder)
            except (DataError, MissingInputError) as error:
                problems += error.problems
                kinds.append(type(error))
            if progress is not None:
                progress(len(grids), total)
    only_missing = bool(kinds) and all(issubclass(kind, MissingInputError) for kind in kinds)
    fixed = f" (the image settings are those of {fixed_by} and cannot be changed)" if fixed_by else ""
    unusable = [not one.remedy or (fixed_by and "image." in one.remedy) for one in problems]
    problems = [replace(one, remedy=_LEAVE_OUT) if no else one for one, no in zip(problems, unusable, strict=True)]
    raise_all(f"volumes cannot be used{fixed}", problems, MissingInputError if only_missing else DataError)
    _check_voxels(settings, every, grids)
    return grids


def same_images(ids: Sequence[str], grids: Sequence[Grid]) -> list[tuple[str, str]]:
    """Pairs of subjects with one image."""
    return [(ids[i], ids[j]) for i, j, _ in same_volumes(grids)]


def unlike_volumes(ids: Sequence[str], grids: Sequence[Grid], ages: Sequence[float]) -> list[tuple[str, str]]:
    """Subjects whose volume seems to be unlike those of the others (contrast, size, missing parts), each with a note.

    Args:
        ages: NaN where unknown.
    """
    if not grids:
        return []
    x, y, z = grids[0].read().shape
    coarse = coarse_voxels(GridReader(tuple(grids), (x, y, z)), len(grids))
    found = [
        (ids[i], "its grey levels resemble the inverse of the others': another contrast?")
        for i in unlike_others(coarse)
    ]
    return found + [(ids[i], note) for i, note in unlike_heads(grids, ages)]


def settled(settings: StudySettings, home: Path, folder: Path) -> StudySettings:
    """The study with `auto` settings resolved for this machine, and with hashes of weight files.

    Raises:
        UsageError: `device: cuda` without a GPU. MissingInputError: a weight file does not exist.
        DataError: a weight file does not match its encoder, or its card the image settings.
    """
    changes: dict[str, object] = {}
    if settings.device != "cpu":
        from connectome_tl.training.networks.volumes import device_of

        changes["device"] = device_of(settings.device)
    if settings.image.precision == "auto" and settings.model.reads_volumes:
        device = str(changes.get("device", "cpu"))
        changes["image"] = settings.image.model_copy(update={"precision": _precision(settings, folder, device)})
    use = settings.image.embedding
    if use is not None:
        known = use.model_copy(update={"hash": file_hash(home / use.file)})
        changes["image"] = settings.image.model_copy(update={"embedding": known, "precision": "float32"})
    model = _with_weights(settings, home, folder)
    return settings.model_copy(update={**changes, "model": model})


def _precision(settings: StudySettings, folder: Path, device: str) -> str:
    """Precision recorded at the start of the run, or determined now by a test of the study's network."""
    begun = folder / "study.yaml"
    if begun.is_file():
        found = (yaml.safe_load(begun.read_text("utf-8")) or {}).get("image", {}).get("precision")
        if found in ("float32", "bf16"):
            return str(found)
    encoder = settings.model.branches.get("image")
    if encoder is None:
        return "float32"
    from connectome_tl.nn.branch import build_branch
    from connectome_tl.nn.encoders import volumes
    from connectome_tl.nn.voxel.precision import fastest

    branch = build_branch(encoder, {"n_channels": 1})
    assert isinstance(branch, volumes.VolumeBranch)
    return fastest(branch.net.to(device), (4, 1, *settings.image.shape3))


def _with_weights(study: StudySettings, home: Path, folder: Path) -> ModelSettings:
    """Encoders whose weight files were read, checked against the network and kept as safetensors in the run folder."""
    model = study.model

    def kept(encoder: EncoderSettings) -> EncoderSettings:
        if not isinstance(encoder, ImageEncoder) or not encoder.weights:
            return encoder
        source = home / encoder.weights
        if source.stem == encoder.weights_hash:  # settings of a run, which name its copy of the file
            copy = (folder / WEIGHTS / source.name).resolve()
            for name in (source, source.with_suffix(".json")):
                if not copy.with_name(name.name).is_file():
                    write_bytes(copy.with_name(name.name), regular_file(name).read_bytes())
            return encoder.model_copy(update={"weights": str(copy)})
        card = _check_card(source, study.image)
        number = file_hash(source)
        file = (folder / WEIGHTS / f"{number}.safetensors").resolve()
        report = file.with_suffix(".json")
        if not report.is_file() or read_own_json_object(report).get("source") != card:
            from connectome_tl.training.networks.weights import keep_as_safetensors

            write_json(report, {**_checked(encoder, keep_as_safetensors(source, file), source.name), "source": card})
        return encoder.model_copy(update={"weights": str(file), "weights_hash": number})

    return model.model_copy(
        update={"encoder": kept(model.encoder), "others": tuple(kept(other) for other in model.others)}
    )


def _check_card(weights: Path, used: ImageSettings) -> str:
    """Check the study's volumes against the card beside a weight file, if there is one; returns its source."""
    card = weights.with_suffix(CARD)
    if not is_there(card):
        return ""
    known = load_settings(card, WeightsCard)
    found = known.differences(used)
    if found:
        raise DataError(
            "the volumes of the study are not prepared as the weights require",
            expected="the image settings of the card of the weights",
            got="; ".join(found),
            file=card,
            remedy="Set these keys of image in study.yaml, or correct the card.",
        )
    return known.source


def _checked(encoder: ImageEncoder, file: Path, name: str) -> dict[str, object]:
    """Names of loaded entries, and notes on settings that shapes do not determine."""
    from connectome_tl.nn.branch import build_branch
    from connectome_tl.nn.encoders.volumes import VolumeBranch
    from connectome_tl.training.networks.weights import load_into, read_weights

    branch = build_branch(encoder, {"n_channels": 1})
    assert isinstance(branch, VolumeBranch)
    found = load_into(branch.net, read_weights(file), name)
    layout = {key: getattr(encoder, key) for key in ("stem_stride", "dilated", "shortcut") if hasattr(encoder, key)}
    return {"file": name, "encoder": encoder.kind, "share": found.share, **layout, **vars(found)}  # type: ignore[attr-defined]


def _check_voxels(settings: ImageSettings, cohorts: Sequence[Cohort], grids: dict[str, StoredGrid]) -> None:
    """Check that native voxel sizes are similar, since they are not resampled."""
    if settings.grid != "raw" or not grids:
        return
    edges = {path: float(np.prod(grid.native) ** (1 / 3)) for path, grid in grids.items()}
    low, high = min(edges, key=edges.__getitem__), max(edges, key=edges.__getitem__)
    if edges[high] > settings.spread * edges[low]:
        names = {p: s for c in cohorts for s, p in zip(c.ids, c.volumes, strict=False) if p}
        raise DataError(
            "native voxels differ too much in size for grid: raw",
            expected=f"edges within a factor of {settings.spread:g}",
            got=f"{edges[high]:.2f} mm, and {edges[low]:.2f} mm in {low}",
            subject=names[high],
            file=high,
            remedy="Set image.grid: isotropic.",
        )


def _shared(cohort: Cohort, target: Cohort, grids: dict[str, StoredGrid]) -> list[str]:
    """Notes on images that are in the target under the id of another subject."""
    if cohort is target:
        return []
    own, theirs = ([(i, p) for i, p in zip(c.ids, c.volumes, strict=False) if p] for c in (cohort, target))
    pairs = [(i, j - len(own)) for i, j, _ in same_volumes([grids[p] for _, p in own + theirs]) if i < len(own) <= j]
    return [
        f"the image of {own[i][0]} is that of {theirs[j][0]} in {target.name}: give them one id or one family"
        for i, j in pairs
        if own[i][0] not in relatives(target, [theirs[j][0]], cohort)
    ]


def notes_on_volumes(cohort: Cohort, grids: Mapping[str, StoredGrid]) -> list[str]:
    """What is noted on the volumes of a cohort: what was done to each, equal images, and those unlike the others."""
    known = [(i, p) for i, p in zip(cohort.ids, cohort.volumes, strict=False) if p]
    found = [f"volume of {subject}: {note}" for subject, path in known for note in grids[path].notes]
    pairs = same_images([who for who, _ in known], [grids[path] for _, path in known])
    found += [f"{one} and {other} have the same image" for one, other in pairs]
    ages = cohort.age[cohort.positions([who for who, _ in known])].tolist()
    unlike = unlike_volumes([who for who, _ in known], [grids[path] for _, path in known], ages)
    found += [f"volume of {who}: {note}" for who, note in unlike]
    found += [mixed] if (mixed := mixed_backgrounds([grids[path].is_stripped for _, path in known])) else []
    return found
