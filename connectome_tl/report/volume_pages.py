"""Pages of `connectome-tl maps`, `connectome-tl prune` and `connectome-tl segment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from connectome_tl.report.figures.drawing import to_url
from connectome_tl.report.figures.voxels import KINDS, MapImages
from connectome_tl.report.labels import model_label, number, plain, signed
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.settings.records.segmentation import Arm, SegmentationRecord
from connectome_tl.settings.records.volume_maps import VolumeMap
from connectome_tl.settings.records.volume_pruning import PrunedNetwork, VolumePruningRecord


class Study(Protocol):
    """Information on the run or cohort for all pages."""

    @property
    def title(self) -> str:
        """Title of the study."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the data are simulated."""
        ...

    @property
    def transductive(self) -> bool:
        """Whether unlabelled test rows took part in stage 2."""
        ...

    @property
    def exploratory(self) -> bool:
        """Whether leaks are declared, or scans lack corrections that a study needs."""
        ...


def render_maps(found: MapImages, study: Study, task_labels: Mapping[str, str]) -> str:
    """Render the page of `connectome-tl maps`. The same arguments give the same bytes.

    Args:
        task_labels: label by name of the outcome.

    Returns:
        One HTML document with inline styles and pictures, without scripts or external resources.
    """
    record = found.record
    tasks = list(dict.fromkeys(one.task for one in record.maps))
    shown = []
    for task in tasks:
        own = [one for one in record.maps if one.task == task]
        picture = to_url(found.figure(task))
        shown.append((plain(task_labels.get(task, task)), picture, [_measures(one) for one in own], _space(own)))
    return render(
        "volume_maps.html",
        study=study,
        stamps=_stamps(study),
        model=model_label(record.model).label,
        shown=shown,
        withheld=[(plain(task_labels.get(task, task)), reason) for task, reason in record.withheld.items()],
    )


def render_pruning(record: VolumePruningRecord, study: Study, task_label: str) -> str:
    """Render the page of `connectome-tl prune`. The same arguments give the same bytes.

    Returns:
        One HTML document with inline styles, without scripts or external resources.
    """
    removed = [1 - one.macs[1] / one.macs[0] for one in record.networks]
    left = dict.fromkeys(f"{name}: {why}" for one in record.networks for name, why in one.left_alone.items())
    return render(
        "pruning.html",
        study=study,
        stamps=_stamps(study),
        record=record,
        task=task_label,
        removed=f"{100 * float(np.mean(removed)):.0f} %",
        change=_percent(record.relative_loss),
        interval=f"[{_percent(record.low)}, {_percent(record.high)}]" if np.isfinite(record.low) else "",
        rows=[_network(one) for one in record.networks],
        left=list(left),
    )


def render_segmentation(record: SegmentationRecord, study: Study, pictures: Sequence[tuple[str, str]]) -> str:
    """Render the page of `connectome-tl segment`. The same arguments give the same bytes.

    Args:
        pictures: caption and data URL of each picture.

    Returns:
        One HTML document with inline styles and pictures, without scripts or external resources.
    """
    first = record.scores[0].arm if record.scores else None
    return render(
        "segmentation.html",
        study=study,
        stamps=_stamps(study),
        record=record,
        rows=[
            (
                _ARMS[one.arm],
                "mean of the labels" if one.label is None else str(one.label),
                f"{number(one.dice)} [{number(one.low)}, {number(one.high)}]",
                str(one.n),
            )
            for one in record.scores
            if one.label is None or one.arm == first
        ],
        differences=[
            (
                f"{_ARMS[one.arm]} − {_ARMS[one.control]}",
                f"{signed(one.difference, 3)} [{signed(one.low, 3)}, {signed(one.high, 3)}]",
            )
            for one in record.differences
        ],
        pictures=pictures,
    )


_ARMS: Mapping[Arm, str] = {"across": "across volumes", "within": "within each volume", "none": "none"}


def _stamps(study: Study) -> list[tuple[str, str]]:
    return stamps_of(simulated=study.simulated, transductive=study.transductive, exploratory=study.exploratory)


def _space(maps: Sequence[VolumeMap]) -> str:
    """What the mean of the maps means."""
    if max(one.n_subjects for one in maps) == 1:
        return "One subject was mapped."
    if all(one.is_one_space for one in maps):
        return (
            "The grids of all subjects have the same place in the space of their images: the mean map is meaningful if "
            "these are registered to one template."
        )
    return (
        "The grids of the subjects have different places in the spaces of their images: the mean map is blurred, or "
        "not meaningful at all."
    )


def _measures(one: VolumeMap) -> Sequence[str]:
    return (
        KINDS[one.kind],
        str(one.n_subjects),
        f"{number(one.deletion)} ({number(one.random_deletion)})",
        f"{number(one.insertion)} ({number(one.random_insertion)})",
        number(one.agreement),
        number(one.randomised),
        one.file,
    )


def _network(one: PrunedNetwork) -> Sequence[str]:
    return (
        str(one.fold + 1),
        str(one.network + 1),
        f"{one.macs[0] / 1e6:.2f} → {one.macs[1] / 1e6:.2f} ({_percent(one.macs[1] / one.macs[0] - 1)})",
        f"{one.parameters[0]:,} → {one.parameters[1]:,}",
        " → ".join(_mib(n_bytes) for n_bytes in one.memory),
        number(one.loss),
        number(one.tuned_loss),
        number(one.pruned_loss),
        one.file,
    )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f}" if n_bytes >= 2**20 else f"{n_bytes / 2**20:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %".replace("-", "\u2212") if np.isfinite(share) else "n/a"
