"""Parse BIDS file names, detect misplaced files, and find inherited gradient files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectome_tl.errors import Problem

IMAGES = (".nii.gz", ".nii")
_NAME = re.compile(r"^(?P<entities>(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)(?P<suffix>[a-zA-Z0-9]+)(?P<ending>\..+)$")
_GRADIENTS = (".bval", ".bvec", ".b")
_WANTED = (*IMAGES, ".mgz", *_GRADIENTS)  # other files need no BIDS name
_ASIDE = ("xfm", "figures", "log", "logs")  # folders of pipelines that contain no inputs
_FOLDERS = ("anat", "dwi", "fmap")
_SUFFIXES = {suffix.lower(): suffix for suffix in ("dwi", "T1w", "T2w")}


@dataclass(frozen=True)
class FoundFile:
    """A file with a parsed BIDS name."""

    path: Path
    entities: dict[str, str]
    suffix: str
    ending: str


def walk(place: Path, problems: list[Problem]) -> Iterator[FoundFile]:
    """Yield files below `sub-*` (or of one subject's folder), and collect problems of their names."""
    tops = ("sub-",) if any(place.glob("sub-*/")) else ("dwi", "anat")
    above = frozenset((os.path.realpath(place),))
    stack = sorted(
        ((entry.path, above) for entry in _entries(place) if _is_folder(entry) and entry.name.startswith(tops)),
        key=lambda item: item[0],
        reverse=True,
    )
    while stack:
        here, above = stack.pop()
        if (real := os.path.realpath(here)) in above:  # a link to one of its parent folders
            continue
        try:
            entries = [entry for entry in _entries(here) if not entry.name.startswith(".")]
        except OSError as error:
            whose = Path(here).relative_to(place).parts[0]
            remedy = f"Its files are left out. Ask its owner for the right to read it: chmod a+rx {Path(here).name}."
            problems.append(
                Problem(f"the folder cannot be opened: {error.strerror}", subject=whose, file=here, remedy=remedy)
            )
            continue
        folders = [entry.path for entry in reversed(entries) if _is_folder(entry) and entry.name not in _ASIDE]
        stack.extend((folder, above | {real}) for folder in folders)
        for entry in entries:
            if _is_folder(entry):
                continue
            found = _parse(Path(entry.path))
            parts = Path(entry.path).relative_to(place).parts
            subject = parts[0] if parts[0].startswith("sub-") else None
            wrong = _misnamed(entry.name, found) or (_misplaced(found, parts) if found else None)
            if wrong is not None:
                what, expected = wrong
                problems.append(Problem(what, expected, None, subject, entry.path, "It is left out."))
            elif found is not None:
                yield found


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def subjects_without(place: Path, subjects: set[str]) -> list[Problem]:
    """Problems for subjects' folders without usable files, and for links to folders that are not there."""
    named = [e for e in _entries(place) if e.name.startswith("sub-") and e.name not in subjects]
    return [
        Problem("there is no image of this subject" if _is_folder(e) else "a broken link", subject=e.name, file=e.path)
        for e in named
        if _is_folder(e) or (e.is_symlink() and not os.path.exists(e.path))
    ]


def miscalled_folders(place: Path) -> list[Problem]:
    """Problems for subjects' folders with capital letters in `sub-`, which would otherwise be ignored silently."""
    return [
        Problem(
            "BIDS names are case-sensitive",
            f"sub-{entry.name[4:]}",
            entry.name,
            file=entry.path,
            remedy="It is left out; rename the folder and its files.",
        )
        for entry in _entries(place)
        if _is_folder(entry) and entry.name.lower().startswith("sub-") and not entry.name.startswith("sub-")
    ]


def doubled_tables(files: Sequence[FoundFile]) -> list[Problem]:
    """Problems for tables of scans or sessions with the same name in two folders."""
    places: dict[str, list[FoundFile]] = {}
    for found in files:
        if found.suffix in ("scans", "sessions") and found.ending == ".tsv":
            places.setdefault(found.path.name, []).append(found)
    return [
        Problem("occurs twice", got=" and ".join(str(f.path.parent) for f in same), file=name)
        for name, same in places.items()
        if len(same) > 1
    ]


def shared_gradients(place: Path) -> list[FoundFile]:
    """Gradient files and sidecars in the root of a dataset, which scans may inherit."""
    found = (_parse(Path(entry.path)) for entry in _entries(place) if not _is_folder(entry))
    return [f for f in found if f is not None and f.suffix in ("dwi", "epi") and f.ending in (*_GRADIENTS, ".json")]


def inherited(image: FoundFile, ending: str, offered: Sequence[FoundFile]) -> Path | None:
    """The gradient file of an image by BIDS's inheritance principle.

    It is in the image's folder or above, and the image has all of its entities; the nearest such file is used, and of
    several in one folder the one with most entities.
    """
    return next(iter(equally_near(image, ending, offered)), None)


def equally_near(image: FoundFile, ending: str, offered: Sequence[FoundFile]) -> list[Path]:
    """The gradient files of an image, several if names do not determine which is meant."""
    near = [
        f for f in offered
        if f.ending == ending and f.suffix == "dwi" and f.path.parent in image.path.parents
        and f.entities.items() <= image.entities.items()
    ]  # fmt: skip
    ranks = [(len(f.path.parent.parts), len(f.entities)) for f in near]
    return [f.path for f, rank in zip(near, ranks, strict=True) if rank == max(ranks)]


def sidecars_of(image: FoundFile, offered: Sequence[FoundFile]) -> tuple[Path, ...]:
    """JSON files that apply to an image by the same principle, the nearest last."""
    said = [
        f for f in offered
        if f.ending == ".json" and f.suffix == image.suffix and f.path.parent in image.path.parents
        and f.entities.items() <= image.entities.items()
    ]  # fmt: skip
    return tuple(f.path for f in sorted(said, key=lambda f: (len(f.path.parent.parts), len(f.entities))))


def _parse(path: Path) -> FoundFile | None:
    # fMRIPrep expects a lesion as sub-01_T1w_label-lesion_roi.nii.gz, with the image's suffix in the middle.
    match = _NAME.match(re.sub(r"_T[12]w(?=_label-lesion_roi\.)", "", path.name))
    if match is None:
        return None
    pairs = [part.split("-", 1) for part in match["entities"].split("_") if part]
    entities = dict(pairs)
    return None if len(entities) != len(pairs) else FoundFile(path, entities, match["suffix"], match["ending"])


def _misnamed(name: str, found: FoundFile | None) -> tuple[str, str] | None:
    """Problem of the name of a probable input file, and the correct name."""
    if not name.lower().endswith(_WANTED):
        return None
    if found is None or "sub" not in found.entities:
        return "not a BIDS name", "sub-LABEL_..._suffix.ending"
    right = _SUFFIXES.get(found.suffix.lower(), found.suffix)
    if found.suffix != right or found.ending != found.ending.lower():
        return "BIDS names are case-sensitive", f"..._{right}{found.ending.lower()}"
    return None


def _misplaced(found: FoundFile, parts: tuple[str, ...]) -> tuple[str, str] | None:
    if len(parts) > 1 and parts[-2] not in _FOLDERS and parts[-2].lower() in _FOLDERS:
        return "BIDS names are case-sensitive", f"the folder {parts[-2].lower()}"
    if not parts[0].startswith("sub-") or "sub" not in found.entities:
        return None
    if f"sub-{found.entities['sub']}" != parts[0]:
        return f"a file of sub-{found.entities['sub']} is in the folder of {parts[0]}", f"a name with {parts[0]}"
    session = next((part for part in parts[:-1] if part.startswith("ses-")), None)
    if session == "ses-":
        return "the folder ses- has no label", "ses-LABEL"
    named = f"ses-{found.entities['ses']}" if "ses" in found.entities else None
    if session is not None and named != session:
        return f"a file of {named or 'no session'} is in the folder of {session}", f"a name with {session}"
    return None
