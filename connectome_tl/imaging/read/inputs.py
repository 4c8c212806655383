"""List the scans of a BIDS folder, QSIPrep derivatives or a dHCP release, with their problems.

The folder is searched once by names; only small tables are opened. All problems are listed before anything is computed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.files import read_bytes
from connectome_tl.imaging.read.choice import repeated_files
from connectome_tl.imaging.read.filters import Filters, select
from connectome_tl.imaging.read.gradients import B0_MAX
from connectome_tl.imaging.read.names import (
    IMAGES,
    FoundFile,
    doubled_tables,
    miscalled_folders,
    shared_gradients,
    sidecars_of,
    subjects_without,
    walk,
)
from connectome_tl.imaging.read.run_files import RunFiles, same_phases, sidecar_problems
from connectome_tl.imaging.read.runs import Wanted
from connectome_tl.imaging.read.scan import Scan, scan_of
from connectome_tl.imaging.read.tables import padding_problems, table_problems

__all__ = ["Inventory", "Scan", "take_inventory", "usable"]
_DHCP = re.compile(
    r"(rel3_)?dhcp_(?P<what>anat|dmri|dmri_shard|dmri_eddy)_pipeline"
)  # the release's folders under their several names
_MAX_BYTES = 1_000_000
_ByScan = dict[tuple[str, str | None], list[FoundFile]]  # files by subject and session


@dataclass(frozen=True)
class Inventory:
    """All scans of a folder.

    Attributes:
        kind: bids, qsiprep, dhcp, or subject for one subject's own folder.
        problems: problems of the folder that do not affect single scans: misnamed files, inconsistent tables.
    """

    root: Path
    kind: str
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...] = field(default=())


def take_inventory(
    root: str | Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    diffusion: bool = True,
    meant: Mapping[str, str | int] | None = None,
    filters: Filters | None = None,
    join: bool = False,
    b0_max: float = B0_MAX,
) -> Inventory:
    """List the scans of a folder, and missing, duplicate or misnamed files.

    Args:
        participants, sessions: labels to keep, with or without `sub-` and `ses-`; all by default.
        diffusion: whether a scan without diffusion data, or with two of them, has a problem.
        meant: entities that select one of several diffusion images, such as {"acq": "b2600", "run": 1}.
        join: whether to use all diffusion images of a session as runs of one scan.
        b0_max: s/mm2; images without a larger b-value contain only unweighted volumes.
        filters: selection of images, from `read_filters`; others are ignored.

    Raises:
        MissingInputError: no such folder, no subjects in it, or a requested label does not exist.
    """
    folder = _openable(Path(root))
    kind, places = _kind(folder)
    files, problems = _files_of(places, filters or {})
    by_scan = _by_scan([found for found in files if "sub" in found.entities])
    pictured = {subject for (subject, _), found in by_scan.items() if _has_images(found)}
    problems += subjects_without(places[0], pictured)
    if not by_scan and not problems:
        raise MissingInputError("no subject in this folder", expected="sub-LABEL folders", file=folder)
    wanted = _wanted(by_scan, participants, "sub-", 0, folder)
    visits = _wanted(by_scan, sessions, "ses-", 1, folder)
    shared = [found for place in places for found in shared_gradients(place)]
    gradients = _gradients(files, shared)
    entities = {} if meant is None else {key: str(value).lstrip("0") for key, value in meant.items()}  # run 1 is run-01
    images = Wanted(entities, join, b0_max)
    scans = tuple(
        scan_of(
            subject,
            session,
            by_scan[subject, session],
            gradients[subject],
            kind,
            diffusion=diffusion,
            wanted=images,
        )
        for subject, session in sorted(by_scan, key=lambda key: (key[0], key[1] or ""))
        if (not wanted or subject in wanted)
        and (not visits or session in visits)
        and _has_images(by_scan[subject, session])
    )
    problems += _problems(folder, kind, scans, by_scan, gradients)
    if not scans:
        raise MissingInputError(f"no scan in {folder}", problems=problems)
    return Inventory(folder, kind, scans, tuple(problems))


def _openable(folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingInputError("folder not found", file=folder)
    if not os.access(folder, os.R_OK | os.X_OK):
        remedy = f"Ask its owner for the right to read it: chmod a+rx {folder.resolve().name}."
        raise MissingInputError("no permission to open the folder", file=folder, remedy=remedy)
    return folder


def _files_of(places: Sequence[Path], filters: Filters) -> tuple[list[FoundFile], list[Problem]]:
    """Selected files of these folders, and problems of their names."""
    problems: list[Problem] = []
    files: list[FoundFile] = []
    for place in places:
        here = list(walk(place, problems))
        problems += [*doubled_tables(here), *miscalled_folders(place)]
        files += here
    return select(files, filters, problems), problems


def _gradients(files: Sequence[FoundFile], shared: Sequence[FoundFile]) -> dict[str, list[FoundFile]]:
    """Companion files of diffusion images by subject, after those of all subjects."""
    gradients: dict[str, list[FoundFile]] = {}
    for found in files:
        if "sub" in found.entities:
            own = gradients.setdefault(f"sub-{found.entities['sub']}", list(shared))
            own += [found] if found.suffix in ("dwi", "epi") and found.ending not in IMAGES else []
    return gradients


def _problems(
    folder: Path, kind: str, scans: Sequence[Scan], by_scan: _ByScan, gradients: Mapping[str, Sequence[FoundFile]]
) -> list[Problem]:
    """Problems of tables, repeated images, sidecars and the description of the folder."""
    subjects = {subject for subject, _ in by_scan}
    problems = [*table_problems(folder, subjects), *padding_problems(subjects)]
    for subject in sorted(subjects):
        problems += padding_problems({session for whose, session in by_scan if whose == subject and session}, subject)
    for scan in scans:
        files = by_scan[scan.subject, scan.session]
        offered = gradients[scan.subject]
        images = [f for f in files if f.suffix in ("dwi", "epi") and f.ending in IMAGES]
        problems += repeated_files(files, scan.name)
        problems += same_phases([RunFiles(f.path, sidecars=sidecars_of(f, offered)) for f in images])
    problems += sidecar_problems([run for scan in scans for run in (*scan.runs, *scan.opposite)])
    if kind == "bids" and not (folder / "dataset_description.json").is_file():
        problems.append(Problem("dataset_description.json is missing", file=folder))
    return problems


def _kind(folder: Path) -> tuple[str, list[Path]]:
    if any((folder / name).is_dir() for name in ("dwi", "anat")) and not any(folder.glob("sub-*/")):
        return "subject", [folder]
    # A complete release, its derivatives, or its diffusion pipeline with the other pipelines in the same folder.
    places = (
        [folder] if _DHCP.fullmatch(folder.resolve().name) else [*folder.glob("*/"), *folder.glob("derivatives/*/")]
    )
    release = {match["what"]: place for place in sorted(places) if (match := _DHCP.fullmatch(place.resolve().name))}
    if release:
        diffusion = [release[what] for what in ("dmri_shard", "dmri_eddy", "dmri") if what in release]
        beside = folder.resolve().parent / re.sub(r"dmri(_shard|_eddy)?", "anat", folder.resolve().name)
        anatomy = release.get("anat", beside)
        return "dhcp", [*diffusion[:1], *([anatomy] if anatomy.is_dir() else [])]
    description = folder / "dataset_description.json"
    if os.path.lexists(description) and b"qsiprep" in read_bytes(description, limit=_MAX_BYTES).lower():
        return "qsiprep", [folder]
    return "bids", [folder]


def _by_scan(files: list[FoundFile]) -> _ByScan:
    """Files of each subject and session; files of a subject outside sessions belong to sessions without such files.

    QSIPrep writes one anatomical image for all sessions of a subject.
    """
    by_scan: _ByScan = {}
    for found in files:
        key = (f"sub-{found.entities['sub']}", f"ses-{found.entities['ses']}" if "ses" in found.entities else None)
        by_scan.setdefault(key, []).append(found)
    for subject in {subject for subject, session in by_scan if session is not None}:
        beside = by_scan.get((subject, None), [])
        if any(found.suffix == "dwi" and found.ending in IMAGES for found in beside):
            continue
        anatomy = [found for found in beside if found.path.parent.name == "anat"]
        for (whose, session), own in by_scan.items():
            if whose == subject and session is not None and not _has_images(own, "anat"):
                own += anatomy
        by_scan.pop((subject, None), None)
    return by_scan


def _has_images(files: list[FoundFile], place: str | None = None) -> bool:
    return any(found.ending in IMAGES and place in (None, found.path.parent.name) for found in files)


def _wanted(by_scan: _ByScan, asked: Sequence[str], prefix: str, at: int, folder: Path) -> set[str]:
    labels = {label if label.startswith(prefix) else prefix + label for label in asked}
    known = {key[at] for key in by_scan}
    absent = sorted(labels - {label for label in known if label is not None})
    if absent:
        raise MissingInputError(
            "requested, but not in the folder",
            expected=f"some of {', '.join(sorted(str(k) for k in known)[:8])}",
            got=", ".join(absent),
            file=folder,
        )
    return labels


def usable(inventory: Inventory) -> tuple[Scan, ...]:
    """Scans without problems.

    Raises:
        DataError: there is none; lists all problems.
    """
    good = tuple(scan for scan in inventory.scans if not scan.problems)
    if not good:
        every = [problem for scan in inventory.scans for problem in scan.problems]
        raise DataError("no scan of this folder can be used", problems=[*every, *inventory.problems])
    return good
