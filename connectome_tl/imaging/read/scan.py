"""One session of one subject: files by role, and problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectome_tl.errors import Problem
from connectome_tl.imaging.read.choice import anatomical_of, belongs, the_only, tissues_of
from connectome_tl.imaging.read.names import IMAGES, FoundFile, sidecars_of
from connectome_tl.imaging.read.run_files import RunFiles, unlike_runs
from connectome_tl.imaging.read.runs import Wanted, find_runs, with_files

_LABELLED = ("drawem87", "aparcaseg", "aparca2009s")  # `desc-` of label images that define regions
_CONTRASTS = ("T2w", "T1w")
_ANATOMICAL_SPACES = (None, "T2w", "T1w")
_NO_RUN = RunFiles(Path())


@dataclass(frozen=True)
class Scan:
    """One session of one subject.

    Attributes:
        subject, session: labels with `sub-` and `ses-`; session None without sessions.
        dwi, bval, bvec, table: image and gradients (`table` is MRtrix's `.b`).
        bvec_axes: `image` for QSIPrep, whose vectors are not FSL's; else `fsl`.
        preprocessed: True if susceptibility, eddy currents and motion are already corrected.
        anatomical: T2w if available (newborns), else T1w.
        other_anatomical: the T1w if `anatomical` is a T2w.
        parcellation: label image in the subject's space, if available.
        parcellation_in: its space, `dwi` or `anat`; or another source of labels, `surfaces` or `hook`.
        further: runs that are joined to the first, in order.
        sidecars: JSON files of the first run, the nearest last.
        opposite: unweighted volumes of another phase direction.
        surfaces: files of cortical surfaces with regions, by role.
        labels_in_anat: label images in the space of the anatomical image (Draw-EM's 87 regions of the dHCP).
        tissues: one 5TT image, one image of Draw-EM's nine labels, or maps of white matter, grey matter and fluid.
        tissues_in: space of `tissues`, `dwi` or `anat`.
        lesion: mask excluded from the cost of a registration, on the grid of `anatomical`.
        problems: reasons that prevent processing; empty for usable scans.
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
    labels_in_anat: tuple[Path, ...] = ()
    tissues: tuple[Path, ...] = ()
    tissues_in: str = "dwi"
    lesion: Path | None = None
    further: tuple[RunFiles, ...] = ()
    sidecars: tuple[Path, ...] = ()
    opposite: tuple[RunFiles, ...] = ()
    surfaces: tuple[tuple[str, Path], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """Subject and session, joined by `_`."""
        return self.subject if self.session is None else f"{self.subject}_{self.session}"

    @property
    def folder(self) -> str:
        """Folder of the session, relative to the dataset."""
        return self.subject if self.session is None else f"{self.subject}/{self.session}"

    @property
    def runs(self) -> tuple[RunFiles, ...]:
        """Diffusion images, in the order of their runs."""
        if self.dwi is None:
            return ()
        return (RunFiles(self.dwi, self.bval, self.bvec, self.table, self.sidecars), *self.further)

    def files(self) -> dict[str, Path]:
        """Every input by its role."""
        diffusion = ("dwi", "bval", "bvec", "table", "mask")
        roles = (*diffusion, "anatomical", "other_anatomical", "anatomical_mask", "lesion", "parcellation")
        found = {role: path for role in roles if (path := getattr(self, role)) is not None}
        found |= {f"tissue_{k}": path for k, path in enumerate(self.tissues, 1)}
        for number, run in enumerate(self.further, 2):
            found |= run.files(number)
        return found | dict(self.surfaces)

    def files_for_correction(self) -> dict[str, Path]:
        """Further inputs of a distortion correction by role: unweighted volumes of another phase, and sidecars."""
        found = {f"opposite_{k}": run.image for k, run in enumerate(self.opposite, 1)}
        said = dict.fromkeys(path for run in (*self.runs, *self.opposite) for path in run.sidecars)
        return found | {f"sidecar_{k}": path for k, path in enumerate(said, 1)}


def scan_of(
    subject: str,
    session: str | None,
    files: list[FoundFile],
    gradients: Sequence[FoundFile],
    kind: str,
    *,
    diffusion: bool,
    wanted: Wanted,
) -> Scan:
    """Assign the files of a session to roles.

    Args:
        gradients: files of b-values and b-vectors, and sidecars, that the session may inherit.
        kind: kind of the folder, as in `Inventory`.
        diffusion: whether missing diffusion data are a problem.
    """
    problems: list[Problem] = []
    name = subject if session is None else f"{subject}_{session}"
    found = find_runs(files, gradients, wanted, name, problems)
    runs = tuple(with_files(image, gradients, name, problems) for image in found.chosen)
    problems += unlike_runs(runs, name)
    chosen, first = (found.chosen[0], runs[0]) if runs else (None, _NO_RUN)
    space = None if chosen is None else chosen.entities.get("space")
    anatomical = _anatomy(files, space)
    mask, anatomical_mask = _masks(files, chosen, anatomical)
    parcel, own = _label_images(files, chosen, space, name, problems)
    tissues, tissues_in = tissues_of(files, space)
    return Scan(
        subject=subject,
        session=session,
        dwi=first.image if runs else None,
        bval=first.bval,
        bvec=first.bvec,
        table=first.table,
        bvec_axes="image" if space == "ACPC" or (space in _CONTRASTS and kind == "qsiprep") else "fsl",
        preprocessed=bool(_prepared(files)),
        mask=mask,
        anatomical=_first(anatomical),
        other_anatomical=_first(anatomical[1:]),
        anatomical_mask=anatomical_mask,
        parcellation=None if parcel is None else parcel.path,
        labels_in_anat=own,
        tissues=tissues,
        tissues_in=tissues_in,
        lesion=_lesion(files),
        further=runs[1:],
        sidecars=first.sidecars,
        opposite=tuple(RunFiles(f.path, sidecars=sidecars_of(f, gradients)) for f in found.opposite),
        problems=tuple(problems) if diffusion else (),
    )


def _images(files: Iterable[FoundFile], *suffixes: str) -> list[FoundFile]:
    return [f for f in files if f.suffix in suffixes and f.ending in IMAGES]


def _first(files: Iterable[FoundFile]) -> Path | None:
    return next((f.path for f in files), None)


def _prepared(files: Iterable[FoundFile]) -> list[FoundFile]:
    return [f for f in _images(files, "dwi") if f.entities.get("desc") == "preproc"]


def _anatomy(files: list[FoundFile], space: str | None) -> list[FoundFile]:
    """Anatomical images in the subject's own space, T2w before T1w."""
    native = (*_ANATOMICAL_SPACES, space)
    found = (
        anatomical_of([f for f in _images(files, kind) if f.entities.get("space") in native]) for kind in _CONTRASTS
    )
    return [f for f in found if f is not None]


def _masks(
    files: list[FoundFile], chosen: FoundFile | None, anatomical: Sequence[FoundFile]
) -> tuple[Path | None, Path | None]:
    """Brain masks of the diffusion data and of the anatomical image."""
    masks = [*(f for f in _images(files, "mask") if f.entities.get("desc") == "brain"), *_images(files, "brainmask")]
    masks = [f for f in masks if belongs(f, chosen)]
    drawn_in = (None, "T2w") if not anatomical else (None, anatomical[0].entities.get("space", "T2w"))
    of_anatomy = [f for f in masks if f.path.parent.name == "anat" and f.entities.get("space") in drawn_in]
    return _first(f for f in masks if f.path.parent.name == "dwi"), _first(of_anatomy)


def _lesion(files: list[FoundFile]) -> Path | None:
    """The mask of a lesion on the grid of the anatomical image."""
    masks = [f for f in _images(files, "mask", "roi") if f.path.parent.name == "anat" and not f.entities.get("space")]
    return _first(f for f in masks if "lesion" in (f.entities.get("label"), f.entities.get("desc")))


def _label_images(
    files: list[FoundFile], chosen: FoundFile | None, space: str | None, name: str, problems: list[Problem]
) -> tuple[FoundFile | None, tuple[Path, ...]]:
    """Parcellations in the spaces of the diffusion data and of the anatomical image."""
    named = [f for f in _images(files, "dseg") if "atlas" in f.entities or "seg" in f.entities]
    own = [f for f in _images(files, "dseg") if f in named or f.entities.get("desc") in _LABELLED]
    own = [f for f in own if f.path.parent.name == "anat" and f.entities.get("space") in _ANATOMICAL_SPACES]
    parcels = [f for f in named if f.path.parent.name == "dwi" or (space and f.entities.get("space") == space)]
    parcels = [f for f in parcels if belongs(f, chosen)]
    parcel = the_only(parcels, "parcellation", name, problems) if parcels else None
    return parcel, tuple(f.path for f in own)
