"""Select and order the diffusion runs of a session, with their companion files.

Unweighted volumes of the other phase direction are in `fmap/*_epi.nii.gz` or, with the data, in `dwi/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.imaging.read.choice import the_only
from connectome_tl.imaging.read.gradients import B0_MAX
from connectome_tl.imaging.read.names import IMAGES, FoundFile, equally_near, inherited, sidecars_of
from connectome_tl.imaging.read.run_files import RunFiles, read_sidecars
from connectome_tl.imaging.read.tables import is_unweighted


@dataclass(frozen=True)
class Wanted:
    """Selection of the diffusion images of a session.

    Attributes:
        entities: entities of the selected image where there are several, such as {"acq": "b2600", "run": "1"}.
        join: use all remaining images, as runs of one scan.
        b0_max: s/mm2; an image without larger b-values has unweighted volumes only.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    join: bool = False
    b0_max: float = B0_MAX


@dataclass(frozen=True)
class Runs:
    """Images to use, in the order of their runs, and images of the other phase direction."""

    chosen: tuple[FoundFile, ...]
    opposite: tuple[FoundFile, ...]


def find_runs(
    files: Sequence[FoundFile],
    offered: Sequence[FoundFile],
    wanted: Wanted,
    name: str,
    problems: list[Problem],
) -> Runs:
    """Select images: preprocessed before raw, by the selection; one image, or all if runs are joined.

    Args:
        offered: gradients and sidecars that images may inherit.
    """

    def alone(found: FoundFile) -> bool:
        return is_unweighted(inherited(found, ".bval", offered), wanted.b0_max)

    images = [f for f in files if f.suffix == "dwi" and f.ending in IMAGES]
    prepared = [f for f in images if f.entities.get("desc") == "preproc"]
    raw = [f for f in images if "desc" not in f.entities and f.entities.get("part") in (None, "mag")]
    candidates = _as_meant(prepared or raw, wanted, name, problems)
    if candidates is None:
        return Runs((), ())
    unweighted: list[FoundFile] = []
    if len(candidates) > 1:  # unweighted volumes of the other phase encoding are used for correction only
        weighted = [f for f in candidates if not alone(f)]
        unweighted = [f for f in candidates if f not in weighted] if weighted else []
        candidates = weighted or candidates
    if not candidates:
        problems.append(_no_image(files, name))
    chosen = _chosen(candidates, wanted, name, problems)
    if prepared:
        return Runs(chosen, ())
    unweighted += [f for f in raw if f not in (*candidates, *unweighted) and alone(f)]
    maps = [f for f in files if f.suffix == "epi" and f.ending in IMAGES and f.path.parent.name == "fmap"]
    return Runs(chosen, tuple(f for f in [*maps, *unweighted] if _goes_with(f, chosen, offered)))


def _as_meant(
    candidates: list[FoundFile], wanted: Wanted, name: str, problems: list[Problem]
) -> list[FoundFile] | None:
    """Images that match the selection, with a problem and None if there is none.

    A single image may lack an entity, as preprocessed data do; with another value of it, it is not used.
    """
    asked = wanted.entities.items()

    def matches(found: FoundFile, absent: bool) -> bool:
        given = found.entities
        return all(given[key].lstrip("0") == value if key in given else absent for key, value in asked)

    as_meant = [found for found in candidates if matches(found, absent=len(candidates) == 1)]
    if as_meant or not candidates:
        return as_meant
    expected = ", ".join(f"{key}-{value}" for key, value in asked)
    got = ", ".join(found.path.name for found in candidates)
    problems.append(Problem("no diffusion image matches `dwi`", expected=expected, got=got, subject=name))
    return None


def _no_image(files: Sequence[FoundFile], name: str) -> Problem:
    lonely = [f.path.name for f in files if f.suffix == "dwi" and f.ending in (".bval", ".bvec")]
    remedy = f"There are {', '.join(lonely)} without their image." if lonely else None
    return Problem("there is no diffusion image", expected=f"{name}_dwi.nii.gz", subject=name, remedy=remedy)


def _chosen(candidates: list[FoundFile], wanted: Wanted, name: str, problems: list[Problem]) -> tuple[FoundFile, ...]:
    """All images in the order of their runs if they are joined, else the only one."""
    if not wanted.join:
        one = the_only(candidates, "diffusion image", name, problems)
        return () if one is None else (one,)
    chosen = tuple(sorted(candidates, key=_in_order))
    stems = [found.path.name.removesuffix(found.ending) for found in chosen]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        remedy = "Leave one of them."
        problems.append(Problem("a run exists with two file extensions", got=twice, subject=name, remedy=remedy))
    return chosen


def with_files(image: FoundFile, offered: Sequence[FoundFile], name: str, problems: list[Problem]) -> RunFiles:
    """An image with inherited files; adds a problem for missing b-values or b-vectors."""
    bval, bvec, table = (inherited(image, ending, offered) for ending in (".bval", ".bvec", ".b"))
    for what, ending in (("b-values", ".bval"), ("b-vectors", ".bvec"), ("gradient tables", ".b")):
        if len(several := equally_near(image, ending, offered)) > 1:
            shown = ", ".join(file.name for file in several)
            what = f"several files of {what} apply to one image"
            problems.append(Problem(what, got=shown, subject=name, file=image.path, remedy="Leave one."))
    if table is None:
        stem = image.path.name.removesuffix(image.ending)
        problems += [
            Problem(f"the {what} are missing", expected=stem + ending, subject=name, file=image.path)
            for what, ending, there in (("b-values", ".bval", bval), ("b-vectors", ".bvec", bvec))
            if there is None
        ]
    return RunFiles(image.path, bval, bvec, table, sidecars_of(image, offered))


def _in_order(found: FoundFile) -> tuple[int, str]:
    """Sort key: number of the run, if any, then name."""
    run = found.entities.get("run", "")
    return (int(run) if run.isdigit() else 0, found.path.name)


def _goes_with(found: FoundFile, chosen: Sequence[FoundFile], offered: Sequence[FoundFile]) -> bool:
    """Whether unweighted volumes apply to these images.

    This needs another phase direction; `B0FieldIdentifier` and, where the images state no field, `IntendedFor` are
    followed where they are given.
    """
    said = _said(found, offered)
    own_fields = _texts(said.get("B0FieldIdentifier"))
    fields = {field for image in chosen for field in _texts(_said(image, offered).get("B0FieldSource"))}
    intended = {_stem(name.rsplit("/", 1)[-1]) for name in _texts(said.get("IntendedFor"))}
    if own_fields and fields:
        if not fields.intersection(own_fields):
            return False
    elif intended and not any(_stem(image.path.name) in intended for image in chosen):
        return False
    for image in chosen:
        other = _said(image, offered)
        own = [said.get("PhaseEncodingDirection"), other.get("PhaseEncodingDirection")]
        if None in own:
            own = [found.entities.get("dir"), image.entities.get("dir")]
        if None in own or own[0] != own[1]:
            return True
    return False


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def _said(found: FoundFile, offered: Sequence[FoundFile]) -> dict[str, Any]:
    try:
        return read_sidecars(sidecars_of(found, offered))
    except ConnectomeTLError:  # reported when the file is needed
        return {}
