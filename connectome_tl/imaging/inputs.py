"""What a BIDS folder, QSIPrep's derivatives or a dHCP release offer, scan by scan, and everything wrong with it.

One walk over the folder, names only: nothing is opened but small tables. All faults are listed before
anything is computed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.imaging.input_tables import padding_problems, table_problems

_NAME = re.compile(r"^(?P<entities>(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)(?P<suffix>[a-zA-Z0-9]+)(?P<ending>\..+)$")
_DHCP = ("derivatives/dhcp_dmri_shard_pipeline", "derivatives/dhcp_dmri_eddy_pipeline")
_DHCP_ANAT = "derivatives/dhcp_anat_pipeline"
_IMAGES = (".nii.gz", ".nii")
_LABELLED = ("drawem87", "aparcaseg", "aparca2009s")  # `desc-` of label images with regions of their own


@dataclass(frozen=True)
class FoundFile:
    """A file with a BIDS name, taken apart."""

    path: Path
    entities: dict[str, str]
    suffix: str
    ending: str


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
        labels_in_anat: the same in the space of the anatomical image, for what needs no diffusion data.
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
    root: str | Path, *, participants: Sequence[str] = (), sessions: Sequence[str] = (), diffusion: bool = True
) -> Inventory:
    """List the scans of a folder and everything that is missing, doubled or misnamed.

    Args:
        participants, sessions: labels to keep, with or without `sub-` and `ses-`; all by default.
        diffusion: whether a scan without diffusion data, or with two of them, has a problem.

    Raises:
        MissingInputError: no such folder, no subject in it, or an asked-for label that is not there.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise MissingInputError("folder not found", file=folder)
    kind, places = _kind(folder)
    problems: list[Problem] = []
    files = [found for place in places for found in _walk(place, problems)]
    by_scan: dict[tuple[str, str | None], list[FoundFile]] = {}
    for found in files:
        key = (f"sub-{found.entities['sub']}", f"ses-{found.entities['ses']}" if "ses" in found.entities else None)
        by_scan.setdefault(key, []).append(found)
    if not by_scan:
        raise MissingInputError("no subject in this folder", expected="sub-LABEL folders", file=folder)
    wanted = _wanted(by_scan, participants, "sub-", 0, folder)
    visits = _wanted(by_scan, sessions, "ses-", 1, folder)
    shared = {name: path for place in places for name, path in _shared(place).items()}
    scans = tuple(
        _scan(subject, session, by_scan[subject, session], shared, diffusion=diffusion)
        for subject, session in sorted(by_scan, key=lambda key: (key[0], key[1] or ""))
        if (not wanted or subject in wanted)
        and (not visits or session in visits)
        and _has_images(by_scan[subject, session])
    )
    subjects = {subject for subject, _ in by_scan}
    problems += [*table_problems(folder, subjects), *padding_problems(subjects)]
    if kind == "bids" and not (folder / "dataset_description.json").is_file():
        problems.append(Problem("dataset_description.json is missing", file=folder))
    return Inventory(folder, kind, scans, tuple(problems))


def _kind(folder: Path) -> tuple[str, list[Path]]:
    if any((folder / name).is_dir() for name in ("dwi", "anat")) and not any(folder.glob("sub-*/")):
        return "subject", [folder]
    for name in _DHCP:
        if (folder / name).is_dir():
            return "dhcp", [folder / name, *([folder / _DHCP_ANAT] if (folder / _DHCP_ANAT).is_dir() else [])]
    description = folder / "dataset_description.json"
    if description.is_file() and "qsiprep" in description.read_text("utf-8", "replace").lower():
        return "qsiprep", [folder]
    return "bids", [folder]


def _walk(place: Path, problems: list[Problem]) -> Iterator[FoundFile]:
    """Files below `sub-*` (or of one subject's own folder), with faults of their names noted."""
    tops = ("sub-",) if any(place.glob("sub-*/")) else ("dwi", "anat")
    stack = sorted(
        (entry.path for entry in os.scandir(place) if entry.is_dir() and entry.name.startswith(tops)), reverse=True
    )
    while stack:
        here = stack.pop()
        entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        stack.extend(entry.path for entry in reversed(entries) if entry.is_dir())
        for entry in entries:
            if entry.is_dir() or entry.name.startswith("."):
                continue
            found = _parse(Path(entry.path))
            if found is None:
                problems.append(Problem("not a BIDS name", expected="sub-LABEL_..._suffix.ending", file=entry.path))
                continue
            parts = Path(entry.path).relative_to(place).parts
            wrong = _misplaced(found, parts)
            if wrong is not None:
                problems.append(Problem(wrong, subject=parts[0], file=entry.path, remedy="It is left out."))
                continue
            yield found


def _parse(path: Path) -> FoundFile | None:
    # fMRIPrep asks for a lesion as sub-01_T1w_label-lesion_roi.nii.gz, with the image's suffix in the middle.
    match = _NAME.match(re.sub(r"_T[12]w(?=_label-lesion_roi\.)", "", path.name))
    if match is None:
        return None
    pairs = [part.split("-", 1) for part in match["entities"].split("_") if part]
    entities = dict(pairs)
    if "sub" not in entities or len(entities) != len(pairs):
        return None
    return FoundFile(path, entities, match["suffix"], match["ending"])


def _misplaced(found: FoundFile, parts: tuple[str, ...]) -> str | None:
    if not parts[0].startswith("sub-"):
        return None
    if f"sub-{found.entities['sub']}" != parts[0]:
        return f"a file of sub-{found.entities['sub']} lies in the folder of {parts[0]}"
    session = next((part for part in parts[:-1] if part.startswith("ses-")), None)
    named = f"ses-{found.entities['ses']}" if "ses" in found.entities else None
    if session is not None and named != session:
        return f"a file of {named or 'no session'} lies in the folder of {session}"
    return None


def _shared(place: Path) -> dict[str, Path]:
    """Gradient files at the top, which all scans inherit (BIDS inheritance)."""
    return {
        entry.name: Path(entry.path) for entry in os.scandir(place) if re.fullmatch(r"dwi\.(bval|bvec)", entry.name)
    }


def _has_images(files: list[FoundFile]) -> bool:
    return any(found.ending in _IMAGES for found in files)


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
    subject: str, session: str | None, files: list[FoundFile], shared: dict[str, Path], *, diffusion: bool
) -> Scan:
    problems: list[Problem] = []
    name = subject if session is None else f"{subject}_{session}"

    def images(*suffixes: str, desc: str | None = None) -> list[FoundFile]:
        return [
            f for f in files
            if f.suffix in suffixes and f.ending in _IMAGES and (desc is None or f.entities.get("desc") == desc)
        ]  # fmt: skip

    prepared = images("dwi", desc="preproc")
    candidates = prepared or [f for f in images("dwi") if "desc" not in f.entities]
    chosen = _one(candidates, "diffusion image", name, problems)
    dwi = None if chosen is None else chosen.path
    stem = "" if chosen is None else chosen.path.name.removesuffix(chosen.ending)

    def beside(ending: str) -> Path | None:
        if dwi is None:
            return None
        own = dwi.with_name(stem + ending)
        return own if own.is_file() else shared.get(f"dwi{ending}")

    bval, bvec, table = beside(".bval"), beside(".bvec"), beside(".b")
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
    masks = [f for f in images("mask") if f.entities.get("desc") == "brain"]
    anatomical = [found for kind in ("T2w", "T1w") if (found := _anatomical(images(kind)))]
    space = None if chosen is None else chosen.entities.get("space")
    parcels = [f for f in images("dseg") if "atlas" in f.entities or "seg" in f.entities]
    own = [f for f in images("dseg") if f in parcels or f.entities.get("desc") in _LABELLED]
    own = [f for f in own if f.path.parent.name == "anat" and f.entities.get("space") in (None, "T2w", "T1w")]
    parcels = [f for f in parcels if f.path.parent.name == "dwi" or (space and f.entities.get("space") == space)]
    parcel = _one(parcels, "parcellation", name, problems) if parcels else None
    tissues, tissues_in = _tissues(files, space)
    lesions = [f for f in images("mask", "roi") if "lesion" in (f.entities.get("label"), f.entities.get("desc"))]
    return Scan(
        subject=subject,
        session=session,
        dwi=dwi,
        bval=bval if table is None else None,
        bvec=bvec if table is None else None,
        table=table,
        bvec_axes="image" if space == "ACPC" else "fsl",
        preprocessed=bool(prepared),
        mask=next((f.path for f in masks if f.path.parent.name == "dwi"), None),
        anatomical=next(iter(anatomical), None),
        other_anatomical=next(iter(anatomical[1:]), None),
        anatomical_mask=next(
            (f.path for f in masks if f.path.parent.name == "anat" and not f.entities.get("space")), None
        ),
        parcellation=None if parcel is None else parcel.path,
        labels_in_anat=own[0].path if len(own) == 1 else None,
        tissues=tissues,
        tissues_in=tissues_in,
        lesion=next((f.path for f in lesions if f.path.parent.name == "anat" and not f.entities.get("space")), None),
        problems=tuple(problems) if diffusion else (),
    )


def _one(found: list[FoundFile], what: str, name: str, problems: list[Problem]) -> FoundFile | None:
    if len(found) > 1:
        problems.append(
            Problem(
                f"more than one {what}",
                got=", ".join(f.path.name for f in found),
                subject=name,
                remedy="Leave one, or preprocess and join them first; which is meant cannot be guessed.",
            )
        )
        return None
    return found[0] if found else None


def _tissues(found: list[FoundFile], space: str | None) -> tuple[tuple[Path, ...], str]:
    """Tissue maps and the space they lie in, `dwi` before `anat`; probabilities before 5TT before labels."""

    def lies_in(f: FoundFile) -> str | None:
        if f.path.parent.name == "dwi" or (space is not None and f.entities.get("space") == space):
            return "dwi"
        return "anat" if f.entities.get("space") in (None, "T2w", "T1w") else None

    for place in ("dwi", "anat"):
        here = [f for f in found if f.ending in _IMAGES and lies_in(f) == place]
        shares = {f.entities.get("label"): f.path for f in here if f.suffix == "probseg"}
        if {"WM", "GM", "CSF"} <= set(shares):
            return (shares["WM"], shares["GM"], shares["CSF"]), place
        single = [f.path for f in here if f.suffix.lower() == "5tt"]
        single += [f.path for f in here if f.suffix == "dseg" and f.entities.get("desc") == "drawem9"]
        if single:
            return (single[0],), place
    return (), "dwi"


def _anatomical(found: list[FoundFile]) -> Path | None:
    """The image to register: a restored or preprocessed one before the raw one."""
    ranked = sorted(found, key=lambda f: (f.entities.get("desc") not in ("restore", "preproc"), f.path.name))
    usable = [f for f in ranked if f.entities.get("desc") in (None, "restore", "preproc", "brain")]
    return usable[0].path if usable else None


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
