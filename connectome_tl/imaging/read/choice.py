"""Choose between several candidate files of a session, or report them as ambiguous."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.errors import Problem
from connectome_tl.imaging.read.names import IMAGES, FoundFile

_FIRST = "The first one is used."


def belongs(found: FoundFile, image: FoundFile | None) -> bool:
    """Whether a mask or parcellation does not belong to another diffusion image of the session."""
    if image is None or found.path.parent.name != "dwi":
        return True
    return all(found.entities.get(key) in (None, image.entities.get(key)) for key in ("acq", "dir", "run"))


def the_only(found: list[FoundFile], what: str, name: str, problems: list[Problem]) -> FoundFile | None:
    """The only file, or None; several files are a problem, since the choice is ambiguous."""
    if len(found) > 1:
        remedy = "Leave one."
        stems = {f.path.name.removesuffix(f.ending) for f in found}
        if what == "diffusion image" and len(stems) == len(found):
            remedy = "Select one by dwi: {acq, dir, run, ...} in the configuration, or join_runs: true."
        problems.append(
            Problem(f"more than one {what}", got=", ".join(f.path.name for f in found), subject=name, remedy=remedy)
        )
        return None
    return found[0] if found else None


def tissues_of(found: list[FoundFile], space: str | None) -> tuple[tuple[Path, ...], str]:
    """Tissue maps and their space, `dwi` before `anat`; probabilities before 5TT before labels."""

    def lies_in(f: FoundFile) -> str | None:
        if f.path.parent.name == "dwi" or (space is not None and f.entities.get("space") == space):
            return "dwi"
        return "anat" if f.entities.get("space") in (None, "T2w", "T1w") else None

    for place in ("dwi", "anat"):
        here = [f for f in found if f.ending in IMAGES and lies_in(f) == place]
        shares = {f.entities.get("label"): f.path for f in here if f.suffix == "probseg"}
        if {"WM", "GM", "CSF"} <= set(shares):
            return (shares["WM"], shares["GM"], shares["CSF"]), place
        single = [f.path for f in here if f.suffix.lower() == "5tt"]
        single += [f.path for f in here if f.suffix == "dseg" and f.entities.get("desc") == "drawem9"]
        if single:
            return (single[0],), place
    return (), "dwi"


def anatomical_of(found: list[FoundFile]) -> FoundFile | None:
    """The image to register: a restored or preprocessed one before the raw one."""
    return next(iter(_ranked(found)), None)


def repeated_files(found: list[FoundFile], name: str) -> list[Problem]:
    """Notes that the first of several raw images of one contrast, or of two formats of one image, is used."""
    images = [f for f in found if f.ending in IMAGES and f.suffix not in ("dwi", "T1w", "T2w")]
    stems: dict[str, list[FoundFile]] = {}
    for f in images:
        stems.setdefault(str(f.path).removesuffix(f.ending), []).append(f)
    problems = [
        Problem(
            "an image exists in two formats", None, ", ".join(sorted(f.path.name for f in same)), name, remedy=_FIRST
        )
        for same in stems.values()
        if len(same) > 1
    ]
    for kind in ("T2w", "T1w"):
        ranked = _ranked([f for f in found if f.suffix == kind and f.ending in IMAGES and "space" not in f.entities])
        if len(ranked) > 1 and "desc" not in ranked[0].entities and "desc" not in ranked[1].entities:
            names = ", ".join(f.path.name for f in ranked)
            problems.append(Problem(f"more than one {kind}", got=names, subject=name, remedy=_FIRST))
    return problems


def _ranked(found: list[FoundFile]) -> list[FoundFile]:
    able = [f for f in found if f.entities.get("desc") in (None, "restore", "preproc", "brain")]
    able = [f for f in able if f.entities.get("part") in (None, "mag")]
    return sorted(able, key=lambda f: (f.entities.get("desc") not in ("restore", "preproc"), f.path.name))
