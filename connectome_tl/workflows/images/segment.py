"""`connectome-tl segment`: segment volumes by networks that are trained on label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.relatives import are_related, kin, names_seen
from connectome_tl.cohort.splits import families_of, parts_of
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, LeakageError, UsageError
from connectome_tl.evaluation.images.segmentation import arms_of, dice_differences, mean_dice
from connectome_tl.files import regular_file
from connectome_tl.imaging.read.images import Volume, read_volume, write_volume
from connectome_tl.imaging.volumes.cache import image_hash
from connectome_tl.imaging.volumes.label_maps import labels_at
from connectome_tl.nn.voxel.unet import UNet
from connectome_tl.provenance import (
    content_hash,
    read_own_json_object,
    write_bytes,
    write_json,
    write_sidecar,
    write_table,
    write_text,
)
from connectome_tl.settings.images.contrast import Segmentation
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.segmentation import SegmentationRecord
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import read_tensors, tensor_bytes
from connectome_tl.training.images.contrast import Segmenter, dice, fit_segmenter
from connectome_tl.training.networks.volumes import device_of
from connectome_tl.training.plans import code_version
from connectome_tl.training.threads import one_thread
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.images.segment_data import SegmentData, read_data, with_volumes
from connectome_tl.workflows.images.segment_page import segmentation_page
from connectome_tl.workflows.progress import Steps

SUMMARY, TABLE, PAGE = "segmentation.json", "dice.tsv", "segmentation.html"
MODELS, FOLDER = "models", "segmentations"


def segment_cohort(
    cohort_file: str | Path,
    out: str | Path,
    *,
    study: str | Path | None = None,
    settings: Segmentation | None = None,
    folds: int | None = None,
    model: str | Path | None = None,
    seed: int | None = None,
    show_progress: bool = False,
) -> SegmentationRecord:
    """Write a label map for every volume of a cohort, and the overlap with the label maps of `volumes.labels`.

    An encoder-decoder is trained by Dice and cross-entropy, with contrast between voxels of one class in several
    volumes (Wang et al. 2021, arXiv:2108.06522). Subjects with a label map are segmented by networks that were trained
    on other families, beside two controls: contrast within each volume only, and none. Subjects without one are
    segmented by a network that was trained on all label maps. Fits are kept: a run that was killed resumes.

    Args:
        out: folder to write. study: a study.yaml whose `image` settings and `device` are used.
        folds: parts of the cross-validation, 5 by default; fewer with few families. seed: of folds and networks, 0 by
            default.
        model: folder of an earlier call, whose network is used. Nothing is trained, so that `settings`, `folds` and
            `seed` are refused.

    Raises:
        UsageError: no volumes, or no label maps of four families; `out` contains the label maps of the cohort, or is
            `model`; settings of a training beside `model`, or a study whose grid is not that of `model`.
        MissingInputError, DataError: images or label maps that cannot be used, all of them in one list; a label
            map with no label of another; volumes of another contrast, or label maps with other labels, than those of
            `model`.
        LeakageError: `model` was trained on one of the subjects or images, or on a relative of one with a label map.
    """
    folder = Path(out)
    chosen = load_settings(study, StudySettings) if study is not None else None
    earlier = None if model is None else _read(Path(model))
    image, device = (chosen.image, chosen.device) if chosen is not None else (ImageSettings(), "cpu")
    if earlier is not None:
        _check_nothing_to_train(settings, folds, seed)
        if chosen is not None and chosen.image.gridding != earlier.image.gridding:
            raise UsageError(
                "the network was trained on another grid than that of the study",
                file=study,
                remedy="Leave out --study: the grid of the network is used.",
            )
        image = earlier.image
    with Steps(shown=show_progress) as steps, claim(folder), one_thread():
        with steps.step("reading the cohort"):
            cohort = with_volumes(read_cohort(cohort_file), Path(cohort_file))
            _check_place(cohort, folder / FOLDER)
            if model is not None and Path(model).resolve() == folder.resolve():
                raise UsageError(
                    "the label maps of the earlier call would be replaced", file=folder, expected="another folder"
                )
        with steps.counted("volumes") as progress:
            data = read_data(cohort, image, folder, device_of(device), earlier, progress)
        if earlier is None:
            fits = _Fits(folder / MODELS, data, seed or 0)
            record, found = _trained(data, settings or Segmentation(), folds or 5, fits, steps)
        else:
            record, found = _applied(data, earlier, Path(model or "") / MODELS, steps)
        _write(folder, data, record, found)
    return record


def _trained(
    data: SegmentData, settings: Segmentation, folds: int, fits: _Fits, steps: Steps
) -> tuple[SegmentationRecord, _Found]:
    """Networks of the folds and their controls, and the network of all label maps."""
    parts = parts_of(
        data.labelled, families_of(data.cohort, data.labelled), np.zeros(len(data.labelled)), folds, fits.seed
    )
    if not parts:
        raise UsageError(
            "a cross-validation needs label maps of four families or more",
            got=f"{len(data.labelled)} subjects with a label map",
            remedy="Name label maps in volumes.labels of cohort.yaml, or apply a trained network by --model.",
        )
    arms, found = arms_of(settings), _Found({}, [])
    with steps.counted("segmentation") as progress:
        for f, part in enumerate(parts):
            train = tuple(i for i in data.labelled if i not in part)
            for a, (arm, own) in enumerate(arms.items()):
                key, segmenter = fits.fit(train, own)
                classes = _segmented(segmenter, data, part)
                found.table.extend(_overlap(data, part, classes, arm))
                if a == 0:
                    found.add(part, classes, key, f"label maps of other families (part {f + 1} of {len(parts)})")
                progress(f * len(arms) + a + 1, len(parts) * len(arms) + 1)
        key, segmenter = fits.fit(data.labelled, settings)
        rest = tuple(i for i in data.cohort.ids if i not in set(data.labelled))
        if rest:
            found.add(rest, _segmented(segmenter, data, rest), key, "all label maps")
    table = pd.DataFrame(found.table)
    at = data.cohort.positions(data.labelled)
    families, participants = kin([data.cohort], data.labelled)
    record = SegmentationRecord(
        image=data.image,
        settings=settings,
        seed=fits.seed,
        labels=data.values,
        contrast=data.cohort.volume_contrast,
        training=data.labelled,
        images=tuple(image_hash(data.cohort.volumes[i]) for i in at),
        families=families,
        participants=participants,
        fit=key,
        segmented=data.cohort.ids,
        folds=len(parts),
        scores=mean_dice(table, data.families),
        differences=dice_differences(table, data.families),
    )
    return record, found


def _applied(
    data: SegmentData, earlier: SegmentationRecord, models: Path, steps: Steps
) -> tuple[SegmentationRecord, _Found]:
    """The network of an earlier call on subjects that it was not trained on."""
    _check_unseen(data, earlier)
    file = regular_file(models / f"{earlier.fit}.safetensors", what="network")
    found = _Found({}, [])
    with steps.step("segmentation"):
        network = _network(read_tensors(file), earlier.settings, len(earlier.labels))
        classes = _segmented(Segmenter(earlier.training, network), data, data.cohort.ids)
        found.add(data.cohort.ids, classes, earlier.fit, "all label maps of another cohort")
        if data.labelled:
            places = [data.cohort.ids.index(i) for i in data.labelled]
            arm = "none" if earlier.settings.contrast is None else earlier.settings.contrast.scope
            found.table.extend(_overlap(data, data.labelled, classes[places], arm))
    scores = mean_dice(pd.DataFrame(found.table), data.families) if found.table else ()
    changed = {"segmented": data.cohort.ids, "folds": 0, "scores": scores, "differences": ()}
    return earlier.model_copy(update=changed), found


def _check_nothing_to_train(settings: Segmentation | None, folds: int | None, seed: int | None) -> None:
    given = {"--steps": settings, "--folds": folds, "--seed": seed}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise UsageError(
            "no effect with --model, which trains nothing", got=", ".join(unused), remedy="Leave out these options."
        )


def _check_unseen(data: SegmentData, earlier: SegmentationRecord) -> None:
    """Refuse what the network was trained on: subjects, images, and relatives whose overlap would be computed."""
    seen = set(earlier.training), set(earlier.images)
    names = names_seen(earlier.training, earlier.families, earlier.participants)
    for subject, file in zip(data.cohort.ids, data.cohort.volumes, strict=True):
        if subject in seen[0] or image_hash(file) in seen[1]:
            raise LeakageError(
                "the network was trained on this subject",
                subject=subject,
                remedy="Leave out the subjects of its training (`select`), whose overlap would be too high.",
            )
        if subject in data.labelled and are_related(data.cohort, [subject], names).any():
            raise LeakageError(
                "the network was trained on this subject under another id, or on a relative",
                subject=subject,
                remedy="Leave it out (`select`), or remove its label map, so that no overlap is computed.",
            )


@dataclass(frozen=True, eq=False)
class _Found:
    """Classes (x, y, z) of subjects with the fit and its training, and rows of the table of overlaps."""

    classes: dict[str, tuple[np.ndarray, str, str]]
    table: list[dict[str, object]]

    def add(self, ids: Sequence[str], classes: np.ndarray, fit: str, training: str) -> None:
        for subject, own in zip(ids, classes, strict=True):
            self.classes[subject] = (own, fit, training)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fitted networks in a folder, by the content of what they depend on."""

    folder: Path
    data: SegmentData
    seed: int

    def fit(self, ids: tuple[str, ...], settings: Segmentation) -> tuple[str, Segmenter]:
        """The key and the network of these subjects, trained unless it is there."""
        data = self.data
        device = str(data.rows.device)
        key = content_hash(code_version(()), settings, self.seed, device, data.values, data.content(ids))[:32]
        file, n_classes = self.folder / f"{key}.safetensors", len(data.values)
        if not file.is_file():
            made = fit_segmenter(data.rows, ids, settings, self.seed, n_classes + 1)
            write_bytes(file, tensor_bytes({name: v.numpy() for name, v in made.network.state_dict().items()}))
        write_sidecar(file, settings=settings, seed=self.seed, Training=ids, Labels=data.values, Device=device)
        return key, Segmenter(ids, _network(read_tensors(file), settings, n_classes))


def _network(weights: Mapping[str, np.ndarray], settings: Segmentation, n_classes: int) -> UNet:
    network = UNet(1, n_classes + 1, width=settings.width, depth=settings.depth)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return network.eval()


def _check_place(cohort: Cohort, folder: Path) -> None:
    """Refuse to write where the cohort's own files are."""
    files = (Path(file).resolve() for file in (*cohort.volumes, *cohort.volume_labels) if file)
    own = next((file for file in files if file.is_relative_to(folder.resolve())), None)
    if own is not None:
        raise UsageError("segmentations would be written beside the cohort's own files", file=own)


def _segmented(segmenter: Segmenter, data: SegmentData, ids: Sequence[str]) -> np.ndarray:
    """(n, x, y, z) classes on the grid."""
    return segmenter.segment(data.rows.of(ids).volumes).numpy().astype(np.int16)


def _overlap(data: SegmentData, ids: Sequence[str], classes: np.ndarray, arm: str) -> list[dict[str, object]]:
    truth = data.rows.of(ids).need_labels()
    found = []
    for i, subject in enumerate(ids):
        scores = dice(torch.from_numpy(classes[[i]]), truth[[i]], len(data.values) + 1)[0]
        found += [
            {"subject": subject, "arm": arm, "label": label, "dice": score}
            for label, score in zip(data.values, scores.tolist(), strict=True)
        ]
    return found


def _write(folder: Path, data: SegmentData, record: SegmentationRecord, found: _Found) -> None:
    """Write label maps in the voxels of each image, the table of overlaps, the record and the page."""
    for name in (SUMMARY, TABLE, PAGE):  # of an earlier call, which would otherwise stay beside label maps of this one
        (folder / name).unlink(missing_ok=True)
    kept = set()
    numbers = np.array([0, *record.labels], dtype=np.int32)
    for subject, (classes, fit, training) in found.classes.items():
        at = data.cohort.ids.index(subject)
        grid, source = data.reader.grids[at], data.cohort.volumes[at]
        assert grid is not None
        image = read_volume(source, subject=subject)
        made = Volume(numbers[classes], np.reshape(grid.affine, (4, 4)))
        file = folder / FOLDER / f"sub-{quote(subject, safe='')}_dseg.nii.gz"
        x, y, z = image.shape
        write_volume(file, labels_at(made, image.affine, (x, y, z)), image.affine)
        side = write_sidecar(
            file,
            inputs={Path(source).name: image_hash(source)},
            settings=record.settings,
            seed=record.seed,
            Fit=fit,
            Training=training,
            Space="voxels of the image; segmented on the grid of the settings, nearest neighbours",
            Image=record.image.gridding,
        )
        kept |= {file, side}
    for old in (folder / FOLDER).glob("sub-*_dseg.*"):  # of an earlier call with other subjects
        if old not in kept:
            old.unlink()
    if found.table:
        table = write_table(folder / TABLE, pd.DataFrame(found.table))
        write_sidecar(table, settings=record.settings, seed=record.seed, Rows="subjects not used for training")
    write_json(folder / SUMMARY, record)
    shown = {subject: own for subject, (own, _, _) in found.classes.items()}
    write_text(folder / PAGE, segmentation_page(record, data.cohort, data.rows, shown, found.table))


def _read(folder: Path) -> SegmentationRecord:
    """The record of an earlier call.

    Raises:
        MissingInputError: there is none. DataError: it was changed by hand, or by another version.
    """
    try:
        return SegmentationRecord.model_validate(read_own_json_object(folder / SUMMARY))
    except ValueError as error:
        remedy = "Run `connectome-tl segment` again."
        raise DataError("not a record of segmentations", file=folder / SUMMARY, remedy=remedy) from error
