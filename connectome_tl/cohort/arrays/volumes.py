"""Find the image of each subject, by a pattern with `{id}` or a column of the table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from connectome_tl.cohort.arrays.files import Search, found_files
from connectome_tl.cohort.columns.ids import bare
from connectome_tl.cohort.findings import listed
from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import is_there
from connectome_tl.imaging.volumes.checks import check_contrast, named_contrast
from connectome_tl.plurals import counted
from connectome_tl.settings.cohort import VolumeFiles


def volume_files(spec: VolumeFiles | None, search: Search, cells: Mapping[str, str]) -> tuple[str, ...]:
    """The image of each subject, "" if there is none; problems are added to the findings.

    Args:
        cells: paths of the table by subject, for `column`.
    """
    if spec is None:
        return ()
    search = replace(search, dropping="volumes.missing: allow")
    if spec.missing == "allow":
        search = replace(search, unmatched="drop")
    found = _found(spec.files, spec.column, search, cells, "volume")
    if spec.contrast:
        for subject, file in found.items():
            try:
                check_contrast(file, subject, spec.contrast)
            except ConnectomeTLError as error:
                search.findings.problems += error.problems
    return tuple(found.get(subject, "") for subject in search.ids)


def label_files(
    spec: VolumeFiles | None, search: Search, cells: Mapping[str, str], volumes: Sequence[str]
) -> tuple[str, ...]:
    """The label map of each subject with a volume, "" if there is none; as `volume_files`.

    Args:
        cells: paths of the table by subject, if `labels` is a column.
        volumes: the volume of each subject, "" without one.
    """
    if spec is None or spec.labels is None:
        return ()
    ids = [subject for subject, file in zip(search.ids, volumes, strict=False) if file]
    among = replace(search, ids=ids, dropping="volumes.missing: allow")
    if spec.missing == "allow":
        among = replace(among, unmatched="drop")
    pattern = spec.labels if spec.label_column is None else None
    found = _found(pattern, spec.label_column, among, cells, "label map")
    return tuple(found.get(subject, "") for subject in search.ids)


def contrast_of(spec: VolumeFiles | None, files: Sequence[str]) -> str:
    """The contrast of the volumes, from cohort.yaml, else from the names of all files, else ""."""
    if spec is None:
        return ""
    return spec.contrast or named_contrast(file for file in files if file)


def _found(
    pattern: str | None, column: str | None, search: Search, cells: Mapping[str, str], what: str
) -> dict[str, str]:
    return _by_pattern(pattern, search, what) if pattern is not None else _by_column(column, search, cells, what)


def _by_pattern(pattern: str, search: Search, what: str) -> dict[str, str]:
    try:
        found = found_files(pattern, search.folder, search.findings)
    except ConnectomeTLError as error:
        search.findings.problems += error.problems
        return {}
    names = search.owners(found, what=f"a {what}", file=pattern, lacking="stay without one")
    return {subject: str(found[name]) for subject, name in names.items()}


def _other_owner(path: str, subject: str, everyone: set[str]) -> str:
    """The subject in the `sub-` entity of a name, if it is another one of the table and the path lacks this id.

    Args:
        everyone: all ids of the table, as `bare` makes them.
    """
    stated = re.search(r"(?:^|_)sub-([A-Za-z0-9]+)", path.rsplit("/", 1)[-1])
    own = re.escape(subject.removeprefix("sub-"))
    if stated is None or re.search(rf"(?<![A-Za-z0-9]){own}(?![A-Za-z0-9])", path):
        return ""
    return stated[1] if bare(stated[1]) in everyone - {bare(subject)} else ""


def _by_column(column: str | None, search: Search, cells: Mapping[str, str], what: str) -> dict[str, str]:
    noun = "image" if what == "volume" else what
    found = {i: str(search.folder / cells[i]) for i in search.ids if i in cells}
    others = {bare(i) for i in search.everyone}
    for subject, file in found.items():
        if not is_there(search.folder / cells[subject]):
            search.findings.problems.append(
                Problem(f"the {noun} named in the table was not found", subject=subject, file=file)
            )
        elif owner := _other_owner(cells[subject], subject, others):
            search.findings.problems.append(
                Problem(
                    f"the {noun} named in the table is that of another subject by its name",
                    got=f"sub-{owner}",
                    subject=subject,
                    file=file,
                    remedy=f"Correct column {column!r}.",
                )
            )
    without = [i for i in search.ids if i not in found]
    if without and search.unmatched == "refuse":
        search.findings.problems.append(
            Problem(
                f"{counted(len(without), 'subject has', 'subjects have')} no {noun} in column {column!r}: "
                f"{listed(without, 6)}",
                remedy=f"Name their {noun}s, leave them out (`select`), or set volumes.missing: allow.",
            )
        )
    elif without:
        search.findings.notes.append(f"{counted(len(without), 'subject has', 'subjects have')} no {noun}")
    return found
