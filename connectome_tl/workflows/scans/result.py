"""Data shared by all scans of a run, and the result of one scan."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from connectome_tl.connectome.assemble import Assembly, RegionTable
from connectome_tl.imaging.quality.record import ScanQuality
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.filters import Filters
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.register.gate import Gate
from connectome_tl.imaging.register.warps import Warp
from connectome_tl.imaging.track.reconstruction import Orientations, Response
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.scans.age import ScanAges
from connectome_tl.workflows.scans.template import ChosenTemplate

STAMP = "exploratory"
_REMARK = re.compile(
    r"as preprocessed$|corrected by hooks\.distortion: |\d+ runs are joined: "
    r"|labels of white matter, fluid and other tissue in the numbering of \S+ count as background"
)
UNLIKE_PHASES = f"{STAMP}: runs of different phase directions are joined, and susceptibility was not corrected"
_WORDS = {"susceptibility": "susceptibility", "eddy": "eddy currents", "motion": "motion within volumes"}


def status_of(preprocessed: bool, settings: ConnectomesSettings) -> str:
    """Corrections applied to raw data; starts with `exploratory` if distortions were not corrected."""
    if preprocessed:
        return "as preprocessed"
    hook = settings.hooks.distortion
    done = () if hook is None else hook.corrects
    words = _WORDS | ({"motion": "motion"} if settings.preprocessing.motion == "none" else {})
    left = [word for name, word in words.items() if name not in done]
    if {"susceptibility", "eddy"} <= set(done) and "motion" not in left:
        said = f"corrected by hooks.distortion: {_listed([_WORDS[name] for name in _WORDS if name in done])}"
        return said.replace("motion within volumes", "motion")
    return f"{STAMP}: {_listed(left)} {'was' if left in (['motion'], ['susceptibility']) else 'were'} not corrected"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def stamps_of(warnings: Sequence[str]) -> list[str]:
    """The warnings that make a scan exploratory."""
    return [warning for warning in warnings if warning.startswith(STAMP)]


def is_remark(warning: str) -> bool:
    """Whether a warning of a scan only reports processing requested by the settings or the data."""
    return _REMARK.match(warning) is not None


SettingsT = TypeVar("SettingsT", bound=AnyScanSettings, covariant=True)


@dataclass(frozen=True)
class Plan(Generic[SettingsT]):
    """Data shared by all scans of a run. Paths are absolute.

    Attributes:
        regions: rows of every connectome; None takes the labels of each parcellation (which must agree).
        templates: by the scan's name; empty without a template.
        own_templates: hashes of the template files that the settings name, for scans of any age.
        response: file of the declared group response.
        filters: which images are selected, from `--bids-filter-file`.
        shown: whether each step of a scan is shown on the terminal.
        base: folder that paths of the settings are relative to.
    """

    settings: SettingsT
    regions: RegionTable | None
    atlas_name: str
    templates: Mapping[str, ChosenTemplate]
    ages: ScanAges
    out: Path
    n_threads: int = 1
    response: Path | None = None
    filters: Filters = field(default_factory=dict)
    shown: bool = False
    base: Path = Path()
    own_templates: Mapping[str, str] = field(default_factory=dict)

    @property
    def datatype(self) -> str:
        """The folder of a scan's results, as BIDS calls it."""
        return "dwi" if isinstance(self.settings, ConnectomesSettings) else "anat"

    def with_threads(self, scans: Sequence[Scan], n_workers: int) -> Plan[SettingsT]:
        """With more workers than scans that can be processed, a scan uses several threads."""
        n_scans = sum(not scan.problems for scan in scans)
        return replace(self, n_threads=max(n_workers // max(n_scans, 1), 1))

    def step(self, scan: str) -> Callable[[str], None]:
        """Function to be called at the start of each step of a scan; prints a line if `shown`."""

        def say(name: str) -> None:
            if self.shown:
                print(f"{datetime.now():%H:%M:%S} {scan}: {name}", file=sys.stderr, flush=True)

        return say

    def file(self, scan: str, suffix: str) -> Path:
        """A scan's file; `suffix` is what follows its name."""
        return self.out / scan.replace("_", "/") / self.datatype / f"{scan}_{suffix}"

    def files(self, scan: str) -> dict[str, Path]:
        """Shared inputs, by role."""
        files = self.templates[scan].files() if scan in self.templates else {}
        return files if self.response is None else files | {"response": self.response}

    def inputs_of(self, scan: Scan) -> dict[str, Path]:
        """All inputs of a scan by role, including shared ones."""
        corrected = isinstance(self.settings, ConnectomesSettings) and self.settings.hooks.distortion is not None
        # Sidecars of several runs contain their phase directions, which a warning reports.
        further = scan.files_for_correction() if (corrected or len(scan.runs) > 1) and not scan.preprocessed else {}
        return {**scan.files(), **further, **self.files(scan.name)}

    def said_of(self, scan: str) -> dict[str, object]:
        """Template with its reason, and the age, for the sidecar.

        An age is included only if it affects the result, so that jobs without a table of ages give the same scan.
        """
        said: dict[str, object] = {"Template": self.templates[scan].record()} if scan in self.templates else {}
        hook = self.settings.hooks.tissues
        aged = self.settings.tissues == "segmented" or (hook is not None and "age" in hook.used)
        aged |= scan in self.templates and self.templates[scan].ages is not None
        return said | ({"Age": self.ages.of(scan)} if aged else {})

    @property
    def rows_are_given(self) -> bool:
        """Whether the rows are defined by a label table or an atlas of the user."""
        return self.settings.labels is not None or self.settings.atlas is not None

    def told(self, scan: str) -> str:
        """The template in a sentence, for the page."""
        chosen = self.templates.get(scan)
        if chosen is None:
            return ""
        contrast = "" if chosen.contrast is None else f", {chosen.contrast}"
        return f"Template: {chosen.name}{contrast} ({chosen.why})."


@dataclass(frozen=True)
class Made:
    """Written files of one scan, its numbers for the cohort page, and warnings."""

    files: tuple[Path, ...]
    numbers: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ScanResult:
    """All results of one scan.

    Attributes:
        images: scalar maps by name, each (x, y, z) on the grid of `dwi`.
        streamlines: (n_points, 3) mm each.
        passed: (x, y, z) streamlines through each voxel.
        quality: quality of the original data.
        gate: scores of the accepted registration; None without registration.
        principal: (x, y, z, 3) main direction of the tensor.
        anatomical: (x, y, z) anatomical image on the grid of `dwi`; None where it was not needed.
        weights: (n_streamlines,) of each streamline; None where each counts once.
        orientations: densities, if the engine returns them.
        scores: further numbers for the cohort, by name.
        transforms: by the two spaces, `from-A_to-B`: maps points of B to points of A.
    """

    name: str
    preprocessed: bool
    dwi: Dwi
    images: Mapping[str, np.ndarray]
    labels: Volume
    streamlines: list[np.ndarray]
    assembly: Assembly
    response: Response
    warnings: tuple[str, ...]
    passed: np.ndarray
    quality: ScanQuality
    gate: Gate | None
    weights: np.ndarray | None
    principal: np.ndarray
    anatomical: np.ndarray | None
    orientations: Orientations | None = None
    transforms: Mapping[str, Warp] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
