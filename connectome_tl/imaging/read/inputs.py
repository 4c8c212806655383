"""What a BIDS folder, QSIPrep's derivatives or a dHCP release offer, scan by scan, and everything wrong with it.

One walk over the folder, names only: nothing is opened but small tables. All faults are listed before
anything is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.imaging.read.choice import anatomical_of, belongs, repeated_anatomy, the_only, tissues_of
from connectome_tl.imaging.read.filters import Filters, is_meant
from connectome_tl.imaging.read.names import (
    IMAGES,
    FoundFile,
    doubled_tables,
    inherited,
    shared_gradients,
    subjects_without,
    walk,
)
from connectome_tl.imaging.read.tables import is_unweighted, padding_problems, table_problems

_DHCP = re.compile(
    r"(rel3_)?dhcp_(?P<what>anat|dmri|dmri_shard|dmri_eddy)_pipeline"
)  # the release's folders under their several names
_LABELLED = ("drawem87", "aparcaseg", "aparca2009s")  # `desc-` of label images with regions of their own


@dataclass(frozen=True)
class Scan:
    """One session of one subject.

    Attributes:
        subject, session: labels with `sub-` and `ses-`; session None where there are none.
        dwi, bval, bvec, table: image and gradients (`table` is MRtrix's `.b`).
        bvec_axes: `image` for QSIPrep, whose vectors are not FSL's; else `fsl`.
        preprocessed: susceptibility, eddy and motion were corrected before.
        anatomical: T2w if there is one (newborns), else T1w.
        other_anatomical: the T1w beside a T2w.
        parcellation: label image in the subject's space, where the folder has one.
        parcellation_in: the space it lies in, `dwi` or `anat`.
        labels_in_anat: label image in the space of the anatomical image (Draw-EM's 87 regions of the dHCP).
        tissues: one 5TT image, one image of Draw-EM's nine labels, or maps of white matter, grey matter and fluid.
        tissues_in: the space they lie in, `dwi` or `anat`.
        lesion: mask of what is left out of the cost of a registration, on the grid of `anatomical`.
        problems: why it cannot be used; empty when it can.
    """

    subject: str
    session: str | None
    dwi: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    table: Path | None = None
    bvec_axes: str = "fsl"
    preprocessed: bool = False
    mask: Path | None = None
    anatomical: Path | None = None
    other_anatomical: Path | None = None
    anatomical_mask: Path | None = None
    parcellation: Path | None = None
    parcellation_in: str = "dwi"
    labels_in_anat: Path | None = None
    tissues: tuple[Path, ...] = ()
    tissues_in: str = "dwi"
    lesion: Path | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        return self.subject if self.session is None else f"{self.subject}_{self.session}"

    @property
    def folder(self) -> str:
        return self.subject if self.session is None else f"{self.subject}/{self.session}"

    def files(self) -> dict[str, Path]:
        """Every input by its role."""
        diffusion = ("dwi", "bval", "bvec", "table", "mask")
        roles = (*diffusion, "anatomical", "other_anatomical", "anatomical_mask", "lesion", "parcellation")
        found = {role: path for role in roles if (path := getattr(self, role)) is not None}
        return found | {f"tissue_{k}": path for k, path in enumerate(self.tissues, 1)}


@dataclass(frozen=True)
class Inventory:
    """All scans of a folder.

    Attributes:
        kind: bids, qsiprep, dhcp, or subject for one subject's own folder.
        problems: faults of the folder that stop no scan: misnamed files, tables that disagree.
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
) -> Inventory:
    """List the scans of a folder and everything that is missing, doubled or misnamed.

    Args:
        participants, sessions: labels to keep, with or without `sub-` and `ses-`; all by default.
        diffusion: whether a scan without diffusion data, or with two of them, has a problem.
        meant: entities of the diffusion image to take where a scan has several, such as {"acq": "b2600", "run": 1}.
        filters: which images are meant, as `read_filters` gives them; all others are as if they were not there.

    Raises:
        MissingInputError: no such folder, no subject in it, or an asked-for label that is not there.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise MissingInputError("folder not found", file=folder)
    kind, places = _kind(folder)
    problems: list[Problem] = []
    files: list[FoundFile] = []
    for place in places:
        here = list(walk(place, problems))
        problems += doubled_tables(here)
        files += here
    files = [found for found in files if is_meant(found, filters or {})]
    by_scan = _by_scan([found for found in files if "sub" in found.entities])
    pictured = {subject for (subject, _), found in by_scan.items() if _has_images(found)}
    problems += subjects_without(places[0], pictured)
    if not by_scan and not problems:
        raise MissingInputError("no subject in this folder", expected="sub-LABEL folders", file=folder)
    wanted = _wanted(by_scan, participants, "sub-", 0, folder)
    visits = _wanted(by_scan, sessions, "ses-", 1, folder)
    shared = [found for place in places for found in shared_gradients(place)]
    gradients: dict[str, list[FoundFile]] = {}
    for found in files:
        if found.suffix == "dwi" and found.ending not in IMAGES:
            gradients.setdefault(f"sub-{found.entities['sub']}", list(shared)).append(found)
    wants = {} if meant is None else {key: str(value).lstrip("0") for key, value in meant.items()}  # run 1 is run-01
    scans = tuple(
        _scan(subject, session, by_scan[subject, session], gradients.get(subject, shared), kind, diffusion, wants)
        for subject, session in sorted(by_scan, key=lambda key: (key[0], key[1] or ""))
        if (not wanted or subject in wanted)
        and (not visits or session in visits)
        and _has_images(by_scan[subject, session])
    )
    subjects = {subject for subject, _ in by_scan}
    problems += [*table_problems(folder, subjects), *padding_problems(subjects)]
    problems += [p for scan in scans for p in repeated_anatomy(by_scan[scan.subject, scan.session], scan.name)]
    if kind == "bids" and not (folder / "dataset_description.json").is_file():
        problems.append(Problem("dataset_description.json is missing", file=folder))
    if not scans:
        raise MissingInputError(f"no scan in {folder}", problems=problems)
    return Inventory(folder, kind, scans, tuple(problems))


def _kind(folder: Path) -> tuple[str, list[Path]]:
    if any((folder / name).is_dir() for name in ("dwi", "anat")) and not any(folder.glob("sub-*/")):
        return "subject", [folder]
    # A release as a whole, its derivatives, or its diffusion pipeline alone with the others beside it.
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
    if description.is_file() and "qsiprep" in description.read_text("utf-8", "replace").lower():
        return "qsiprep", [folder]
    return "bids", [folder]


def _by_scan(files: list[FoundFile]) -> dict[tuple[str, str | None], list[FoundFile]]:
    """Files of each subject and session; what a subject has beside its sessions belongs to each that has no own.

    QSIPrep writes one anatomical image for all sessions of a subject.
    """
    by_scan: dict[tuple[str, str | None], list[FoundFile]] = {}
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


def _wanted(
    by_scan: dict[tuple[str, str | None], list[FoundFile]], asked: Sequence[str], prefix: str, at: int, folder: Path
) -> set[str]:
    labels = {label if label.startswith(prefix) else prefix + label for label in asked}
    known = {key[at] for key in by_scan}
    absent = sorted(labels - {label for label in known if label is not None})
    if absent:
        raise MissingInputError(
            "asked for, but not in the folder",
            expected=f"some of {', '.join(sorted(str(k) for k in known)[:8])}",
            got=", ".join(absent),
            file=folder,
        )
    return labels


def _scan(
    subject: str,
    session: str | None,
    files: list[FoundFile],
    gradients: Sequence[FoundFile],
    kind: str,
    diffusion: bool,
    meant: Mapping[str, str],
) -> Scan:
    problems: list[Problem] = []
    name = subject if session is None else f"{subject}_{session}"

    def images(*suffixes: str, desc: str | None = None) -> list[FoundFile]:
        return [
            f for f in files
            if f.suffix in suffixes and f.ending in IMAGES and (desc is None or f.entities.get("desc") == desc)
        ]  # fmt: skip

    prepared = images("dwi", desc="preproc")
    candidates = prepared or [
        f for f in images("dwi") if "desc" not in f.entities and f.entities.get("part") in (None, "mag")
    ]
    as_meant = [f for f in candidates if all(f.entities.get(k, "").lstrip("0") == v for k, v in meant.items())]
    if len(candidates) > 1 and as_meant:
        candidates = as_meant
    if len(candidates) > 1:  # unweighted volumes of the other phase encoding are for correction alone
        candidates = [f for f in candidates if not is_unweighted(inherited(f, ".bval", gradients))] or candidates
    chosen = the_only(candidates, "diffusion image", name, problems)
    dwi = None if chosen is None else chosen.path
    bval, bvec, table = (
        None if chosen is None else inherited(chosen, ending, gradients) for ending in (".bval", ".bvec", ".b")
    )
    stem = "" if chosen is None else chosen.path.name.removesuffix(chosen.ending)
    if dwi is not None and table is None:
        problems += [
            Problem(f"the {what} are missing", expected=stem + ending, subject=name, file=dwi)
            for what, ending, there in (("b-values", ".bval", bval), ("b-vectors", ".bvec", bvec))
            if there is None
        ]
    lonely = [f.path.name for f in files if f.suffix == "dwi" and f.ending in (".bval", ".bvec")]
    if dwi is None and not candidates:
        remedy = f"There are {', '.join(lonely)} without their image." if lonely else None
        problems.append(
            Problem("there is no diffusion image", expected=f"{name}_dwi.nii.gz", subject=name, remedy=remedy)
        )
    masks = [*(f for f in images("mask") if f.entities.get("desc") == "brain"), *images("brainmask")]
    masks = [f for f in masks if belongs(f, chosen)]
    space = None if chosen is None else chosen.entities.get("space")
    native = (None, "T2w", "T1w", space)  # of a template's space nothing is the subject's
    anatomical = [
        found
        for kind in ("T2w", "T1w")
        if (found := anatomical_of([f for f in images(kind) if f.entities.get("space") in native]))
    ]
    drawn_in = (None, "T2w") if not anatomical else (None, anatomical[0].entities.get("space", "T2w"))
    parcels = [f for f in images("dseg") if "atlas" in f.entities or "seg" in f.entities]
    own = [f for f in images("dseg") if f in parcels or f.entities.get("desc") in _LABELLED]
    own = [f for f in own if f.path.parent.name == "anat" and f.entities.get("space") in (None, "T2w", "T1w")]
    parcels = [f for f in parcels if f.path.parent.name == "dwi" or (space and f.entities.get("space") == space)]
    parcels = [f for f in parcels if belongs(f, chosen)]
    parcel = the_only(parcels, "parcellation", name, problems) if parcels else None
    tissues, tissues_in = tissues_of(files, space)
    lesions = [f for f in images("mask", "roi") if "lesion" in (f.entities.get("label"), f.entities.get("desc"))]
    return Scan(
        subject=subject,
        session=session,
        dwi=dwi,
        bval=bval if table is None else None,
        bvec=bvec if table is None else None,
        table=table,
        bvec_axes="image" if space == "ACPC" or (space == "T1w" and kind == "qsiprep") else "fsl",
        preprocessed=bool(prepared),
        mask=next((f.path for f in masks if f.path.parent.name == "dwi"), None),
        anatomical=next((f.path for f in anatomical), None),
        other_anatomical=next((f.path for f in anatomical[1:]), None),
        anatomical_mask=next(
            (f.path for f in masks if f.path.parent.name == "anat" and f.entities.get("space") in drawn_in), None
        ),
        parcellation=None if parcel is None else parcel.path,
        labels_in_anat=own[0].path if len(own) == 1 else None,
        tissues=tissues,
        tissues_in=tissues_in,
        lesion=next((f.path for f in lesions if f.path.parent.name == "anat" and not f.entities.get("space")), None),
        problems=tuple(problems) if diffusion else (),
    )


def usable(inventory: Inventory) -> tuple[Scan, ...]:
    """Scans without problems.

    Raises:
        DataError: there is none, with all that is wrong.
    """
    good = tuple(scan for scan in inventory.scans if not scan.problems)
    if not good:
        every = [problem for scan in inventory.scans for problem in scan.problems]
        raise DataError("no scan of this folder can be used", problems=[*every, *inventory.problems])
    return good
