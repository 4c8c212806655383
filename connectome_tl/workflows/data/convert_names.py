"""Names of converted files: BIDS entities, and the pattern for a cohort.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_REPLACED = ("atlas", "seg", "meas", "stat", "measure", "desc")
_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+")
_SESSION = re.compile(r"_ses-[A-Za-z0-9+]+")
_SHOWN = 10


def bids_name(file: Path, atlas: str = "") -> str:
    """`sub-1_ses-1_space-ACPC_connectivity.mat` to `sub-1_ses-1_space-ACPC_atlas-X_relmat.tsv`.

    An entity that occurs twice, as `space-` does in names of QSIPrep, is kept once; `meas-` is added on writing.
    """
    parts = file.name.split(".")[0].split("_")
    entities = [part for part in parts if "-" in part or not any("-" in other for other in parts)]
    said = {part.split("-", 1)[0]: part.split("-", 1)[1] for part in entities if "-" in part}
    atlas = plain(atlas or said.get("atlas", "") or said.get("seg", ""))
    kept: dict[str, str] = {}
    for part in entities:
        key = part.split("-", 1)[0] if "-" in part else part
        if key not in _REPLACED:
            kept.setdefault(key, part)
    return "_".join([*kept.values(), *([f"atlas-{atlas}"] if atlas else []), "relmat.tsv"])


def plain(label: str) -> str:
    """Remove all but letters and digits, for labels of BIDS entities."""
    return "".join(character for character in label if character.isalnum() and character.isascii())


def cohort_patterns(files: Sequence[Path]) -> tuple[str, ...]:
    """Patterns for `files` in a cohort.yaml, one per atlas and measure.

    `{id}` stands for the subject, or for subject and session if subjects have several sessions.
    """
    sessions: dict[str, set[str]] = {}
    for file in files:
        subject, session = _SUBJECT.search(file.name), _SESSION.search(file.name)
        if subject and session:
            sessions.setdefault(subject[0], set()).add(session[0])
    several = any(len(found) > 1 for found in sessions.values())
    patterns = dict.fromkeys(_pattern(file, several) for file in files)
    return tuple(pattern for pattern in patterns if pattern)[:_SHOWN]


def _pattern(file: Path, several_sessions: bool) -> str:
    subject = _SUBJECT.search(file.name)
    if subject is None:
        first, mark, rest = file.name.partition("_")
        return (file.parent / f"{{id}}_{rest}").as_posix() if mark and "-" not in first else ""
    rest = file.name[subject.end() :]
    if several_sessions:
        rest = _SESSION.sub("", rest, count=1)
    name = f"{file.name[: subject.start()]}sub-{{id}}{rest}"
    folders = [re.sub(r"^(sub|ses)-.*", r"\1-*", part) for part in file.parent.parts]
    return (Path(*folders) / name).as_posix()
