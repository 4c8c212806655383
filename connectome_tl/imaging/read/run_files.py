"""The files of a diffusion run, and what its sidecars state."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import read_json_object

_PHASES = ("i", "i-", "j", "j-", "k", "k-")
_PAIRS = (("AP", "PA"), ("LR", "RL"), ("IS", "SI"))
_OPPOSITE = {phase for pair in _PAIRS for phase in pair}
_NAMED_PHASE = re.compile(r"_dir-([a-zA-Z0-9]+)_")
_SAME_ECHO = 0.002  # s; scanners round echo times of runs of one protocol
_IGNORED = "Until then the JSON files of this image are not used, and hooks that need them fail."


@dataclass(frozen=True)
class RunFiles:
    """One image with its gradients and sidecars (the nearest last), where available."""

    image: Path
    bval: Path | None = None
    bvec: Path | None = None
    table: Path | None = None
    sidecars: tuple[Path, ...] = ()

    def files(self, number: int) -> dict[str, Path]:
        """Input files by role, for the run of that number."""
        roles = {"dwi": self.image, "bval": self.bval, "bvec": self.bvec, "table": self.table}
        return {f"{role}_{number}": path for role, path in roles.items() if path is not None}


def read_sidecars(paths: Sequence[Path]) -> dict[str, Any]:
    """Merge the sidecars of one image; the nearest takes precedence.

    Raises:
        MissingInputError, DataError: no such file, or not a JSON object.
    """
    said: dict[str, Any] = {}
    for path in paths:
        said |= read_json_object(path)
    return said


def sidecar_problems(runs: Sequence[RunFiles]) -> list[Problem]:
    """Sidecars that cannot be read or state no phase direction of BIDS, once each.

    Those of an image are ignored if one of them cannot be read, unless a hook needs them.
    """
    found: list[Problem] = []
    for path in sorted({path for run in runs for path in run.sidecars}):
        try:
            phase = read_json_object(path).get("PhaseEncodingDirection")
        except ConnectomeTLError as error:
            found += [replace(one, remedy=f"{one.remedy or 'Correct it.'} {_IGNORED}") for one in error.problems]
            continue
        if phase is not None and phase not in _PHASES:
            what = "PhaseEncodingDirection is no axis of the image"
            found.append(Problem(what, expected=", ".join(_PHASES), got=str(phase), file=path))
    return found


def unlike_runs(runs: Sequence[RunFiles], name: str) -> list[Problem]:
    """A problem if runs that are joined have different echo times, so that their signals cannot be compared."""
    times = {run.image.name: _number(run, "EchoTime") for run in runs}
    known = [time for time in times.values() if time is not None]
    if not known or max(known) - min(known) <= _SAME_ECHO:
        return []
    got = ", ".join(f"{time:g} s ({image})" for image, time in times.items() if time is not None)
    remedy = "Select one by dwi: {acq, dir, run, ...} in the configuration, or correct the JSON files."
    return [Problem("the runs have different echo times", "one EchoTime", got, name, remedy=remedy)]


def same_phases(runs: Sequence[RunFiles]) -> list[Problem]:
    """Images whose names state other phase directions (`dir-`) than each other, but whose sidecars state the same."""
    found: dict[str, dict[str, Path]] = {}
    for run in runs:
        named = _NAMED_PHASE.search(run.image.name)
        stated = _stated(run).get("PhaseEncodingDirection")
        if named and stated in _PHASES and named.group(1) in _OPPOSITE:
            found.setdefault(str(stated), {}).setdefault(named.group(1), run.image)
    return [
        Problem(
            "images of opposite phase directions by name have the same PhaseEncodingDirection",
            expected="j and j-, for example",
            got=f"{stated} in those of {images[one].name} and {images[other].name}",
            file=images[other],
            remedy="The JSON files are followed: correct those that are wrong.",
        )
        for stated, images in found.items()
        for one, other in _PAIRS
        if one in images and other in images
    ]


def phases_of(runs: Sequence[RunFiles]) -> set[str]:
    """Phase directions of runs, where known from sidecars or names (`dir-`)."""
    found: set[str] = set()
    for run in runs:
        named = _NAMED_PHASE.search(run.image.name)
        said = _stated(run).get("PhaseEncodingDirection")
        found |= {str(said)} if said else {named.group(1)} if named else set()
    return found


def _number(run: RunFiles, key: str) -> float | None:
    value = _stated(run).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _stated(run: RunFiles) -> dict[str, Any]:
    try:
        return read_sidecars(run.sidecars)
    except ConnectomeTLError:  # reported when the file is needed
        return {}
