"""Run user-supplied programs on a scan, and check and collect their output."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, Problem
from connectome_tl.imaging.commands import hook_record, output_of, require_hook, run_hook
from connectome_tl.imaging.preprocess.phase import pairs, phase_problems
from connectome_tl.imaging.preprocess.structural import plausible_brain
from connectome_tl.imaging.preprocess.tissues import Tissues, read_tissues
from connectome_tl.imaging.quality.record import usable_volumes
from connectome_tl.imaging.read.dwi import (
    Dwi,
    fsl_to_world,
    gradient_problems,
    normalised,
    numbered,
    read_bvecs,
    signal_problem,
)
from connectome_tl.imaging.read.dwi_files import write_dwi
from connectome_tl.imaging.read.images import Volume, read_labels, write_volume
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.read.run_files import read_sidecars
from connectome_tl.provenance import write_json, write_text
from connectome_tl.settings.hooks import BrainHook, DiffusionHooks, DistortionHook, Hook
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.template import contrast_of

AnyPlan = Plan[AnyScanSettings]
_PAIRED = {"b0s", "acqp", "index"}
_KEEP = "The command must keep the order and the scale of the volumes."


@dataclass(frozen=True, eq=False)
class Segmented:
    """Output of a tissue hook, on the grid of the anatomical image.

    Attributes:
        labels: regions, where the tool makes some.
    """

    tissues: Tissues
    labels: Volume | None


def hooks_of(settings: AnyScanSettings) -> dict[str, Hook]:
    """The hooks that are set, by name."""
    given: dict[str, Hook | None] = {"brain": settings.hooks.brain, "tissues": settings.hooks.tissues}
    if isinstance(settings.hooks, DiffusionHooks):
        given["distortion"] = settings.hooks.distortion
    return {name: hook for name, hook in given.items() if hook is not None}


def require_hooks(settings: AnyScanSettings, base: Path) -> None:
    """Check that the programs of all hooks exist.

    Raises:
        MissingInputError: a program does not exist.
    """
    for name, hook in hooks_of(settings).items():
        require_hook(hook, name, base)


def hook_versions(plan: AnyPlan) -> dict[str, str]:
    """Version and hash of each hook, for provenance."""
    return {f"hooks.{name}": hook_record(hook, name, plan.base) for name, hook in hooks_of(plan.settings).items()}


def hook_problems(scan: Scan, plan: AnyPlan) -> list[Problem]:
    """Problems of a scan that lacks files for the placeholders of its hooks."""
    hooks = hooks_of(plan.settings)
    found: list[Problem] = []
    distortion, tissues = hooks.get("distortion"), hooks.get("tissues")
    if distortion is not None and not scan.preprocessed:
        if distortion.used & {"opposite", *_PAIRED} and not scan.opposite:
            expected = f"fmap/{scan.name}_dir-..._epi.nii.gz, or unweighted volumes in dwi/"
            what = "there are no unweighted volumes of the other phase direction, which hooks.distortion requires"
            found.append(Problem(what, expected=expected, subject=scan.name))
        if distortion.used & _PAIRED:
            found += phase_problems((*scan.runs, *scan.opposite), scan.name)
        if "json" in distortion.used and not scan.sidecars:
            what = "the diffusion image has no sidecar, which hooks.distortion requires"
            found.append(Problem(what, subject=scan.name, file=scan.dwi))
    if tissues is not None and "age" in tissues.used and not scan.tissues and plan.ages.column is None:
        found.append(
            Problem("hooks.tissues requires {age}", expected="age: {column, unit, reference}", subject=scan.name)
        )
    return found


def without_distortion(dwi: Dwi, scan: Scan, plan: Plan[ConnectomesSettings], hook: DistortionHook) -> Dwi:
    """The data corrected by the hook.

    Raises:
        MissingInputError, DataError: a name has no value, the command failed, or its output cannot be used.
    """
    name, image = "distortion", Volume(dwi.data, dwi.affine, scan.name, dwi.file)
    with _folders() as (given, made):
        files = write_dwi(given, "data", dwi)
        values = {part: str(file) for part, file in zip(("dwi", "bval", "bvec"), files, strict=True)}
        values["mask"] = str(write_volume(given / "mask.nii.gz", dwi.mask, dwi.affine))
        values |= {"json": str(write_json(given / "data.json", read_sidecars(scan.sidecars)))} if scan.sidecars else {}
        values |= {"opposite": str(scan.opposite[0].image)} if scan.opposite else {}
        if hook.used & _PAIRED:
            values |= _paired(dwi, scan, given)
        _run(hook, name, values, made, scan, plan)
        (corrected,) = output_of(hook, name, "dwi", made, image, n_dimensions=(4,))
        if corrected.data.shape[3] != dwi.n_volumes:
            raise DataError(
                "hooks.distortion has changed the number of volumes",
                expected=str(dwi.n_volumes),
                got=str(corrected.data.shape[3]),
                subject=scan.name,
                file=dwi.file,
            )
        mask = dwi.mask
        if hook.outputs.get("mask"):
            found = output_of(hook, name, "mask", made, image)[0].data > 0.5
            b0 = Volume(corrected.data[..., dwi.is_b0].mean(axis=3), dwi.affine, scan.name, dwi.file)
            mask = plausible_brain(found, b0, hook=f"hooks.distortion: {hook.files_of('mask')[0]}")
        directions = _directions(dwi, made / hook.files_of("bvec")[0], hook, scan)
    cleared = replace(dwi, data=corrected.data, directions=directions, mask=mask)
    where = f"hooks.distortion: {hook.files_of('dwi')[0]}"
    problems = _damage(cleared, refuse=plan.settings.wrong_table == "refuse")
    if problems:
        told = [replace(one, subject=scan.name, file=where, remedy=_KEEP) for one in problems]
        raise DataError("the output of hooks.distortion cannot be used", problems=told)
    return cleared


def _damage(dwi: Dwi, *, refuse: bool) -> list[Problem]:
    """Problems of corrected data that are empty or inverted, or that contradict the gradient table.

    Args:
        refuse: whether a contradiction of the table is a problem.
    """
    what, _ = signal_problem(dwi.data[..., dwi.is_b0].mean(axis=3), dwi.mask)
    if what is not None:
        return [Problem(what)]
    try:
        _, empty, _ = usable_volumes(dwi, refuse=refuse)
    except DataError as error:
        return list(error.problems)
    return [Problem(f"volumes are empty: {numbered(empty)}")] if empty.any() else []


def _paired(dwi: Dwi, scan: Scan, folder: Path) -> dict[str, str]:
    found = pairs(dwi, scan.runs, scan.opposite)
    rows = "".join(" ".join(f"{value:g}" for value in row) + "\n" for row in found.rows)
    return {
        "b0s": str(write_volume(folder / "b0s.nii.gz", found.b0s, dwi.affine)),
        "acqp": str(write_text(folder / "acqp.txt", rows)),
        "index": str(write_text(folder / "index.txt", " ".join(map(str, found.index)) + "\n")),
    }


def _directions(dwi: Dwi, file: Path, hook: DistortionHook, scan: Scan) -> np.ndarray:
    """Rotated directions of the hook; unchanged if it wrote none and did not correct motion."""
    if not file.is_file():
        if "motion" in hook.corrects or "bvec" in hook.outputs:
            raise DataError(
                "hooks.distortion wrote no b-vectors, which must rotate with the volumes",
                expected=file.name,
                subject=scan.name,
                remedy="Give in `outputs: {bvec: ...}` what they are called.",
            )
        return dwi.directions
    where = f"hooks.distortion: {file.name}"
    with _named("distortion", file.parent):
        vectors = read_bvecs(file, subject=scan.name)
    problems = gradient_problems(
        dwi.bvals, vectors, dwi.n_volumes, subject=scan.name, files=(None, where), b0_max=dwi.b0_max
    )
    if problems:
        raise DataError("the b-vectors of hooks.distortion cannot be used", problems=problems)
    return np.where(dwi.is_b0[:, None], dwi.directions, normalised(fsl_to_world(vectors, dwi.affine)))


def brain_finder(scan: Scan, plan: AnyPlan, of: str) -> Callable[[Volume], np.ndarray] | None:
    """Function that computes a brain mask, (x, y, z) bool, if a hook is set for images `of` this kind."""
    hook = plan.settings.hooks.brain
    if hook is None or of not in hook.of:
        return None
    return lambda image: _brain(image, scan, plan, hook, of)


def _brain(image: Volume, scan: Scan, plan: AnyPlan, hook: BrainHook, of: str) -> np.ndarray:
    with _folders() as (given, made):
        values = {"image": str(write_volume(given / "image.nii.gz", image.data, image.affine))}
        _run(hook, "brain", values, made, scan, plan, log=f"brain-{of}")
        (mask,) = output_of(hook, "brain", "mask", made, image)
    return plausible_brain(mask.data > 0.5, image, hook=f"hooks.brain: {hook.files_of('mask')[0]}")


def segment(scan: Scan, plan: AnyPlan, anatomical: Volume) -> Segmented:
    """Tissues, and labels where the tool makes some, of an anatomical image that is 0 outside the brain.

    Raises:
        MissingInputError, DataError: as `without_distortion`; no tissue maps that are known.
    """
    hook = plan.settings.hooks.tissues
    assert hook is not None  # callers ask where one is set
    with _folders() as (given, made):
        values = {
            "image": str(write_volume(given / "image.nii.gz", anatomical.data, anatomical.affine)),
            "mask": str(write_volume(given / "mask.nii.gz", anatomical.data > 0, anatomical.affine)),
            "contrast": contrast_of(scan.anatomical) or "",
        }
        if scan.name in plan.ages.values:
            values["age"] = f"{plan.ages.values[scan.name]:g}"
        _run(hook, "tissues", values, made, scan, plan)
        files = hook.files_of("tissues")
        output_of(hook, "tissues", "tissues", made, anatomical, n_dimensions=(3, 4))
        with _named("tissues", made):
            tissues = read_tissues([made / file for file in files], subject=scan.name)
        labels = None
        if hook.outputs.get("labels"):
            output_of(hook, "tissues", "labels", made, anatomical)
            with _named("tissues", made):
                labels = read_labels(made / hook.files_of("labels")[0], subject=scan.name)
            labels = Volume(labels.data, labels.affine, scan.name, "hooks.tissues: labels")
    return Segmented(replace(tissues, source="hooks.tissues"), labels)


def _run(
    hook: Hook, name: str, values: dict[str, str], made: Path, scan: Scan, plan: AnyPlan, log: str | None = None
) -> None:
    result = next(iter(hook.results))
    common = {"out": str(made / hook.files_of(result)[0]), "n_threads": str(plan.n_threads), "config": str(plan.base)}
    plan.step(scan.name)(f"hooks.{name}")
    run_hook(
        hook,
        name,
        {**common, **values},
        made,
        subject=scan.name,
        file=str(scan.dwi or scan.anatomical),
        n_threads=plan.n_threads,
        log=plan.out / "log" / f"{scan.name}_hook-{log or name}.txt",
    )


@contextmanager
def _named(name: str, made: Path) -> Iterator[None]:
    """Name files of a hook's temporary folder, in problems, by the hook."""
    try:
        yield
    except DataError as error:
        problems = [
            replace(one, file=f"hooks.{name}: {Path(one.file).relative_to(made)}")
            if one.file is not None and Path(one.file).is_relative_to(made)
            else one
            for one in error.problems
        ]
        raise DataError(f"the output of hooks.{name} cannot be used", problems=problems) from error


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """What a command is given, and the empty folder that it runs in."""
    with tempfile.TemporaryDirectory(prefix="connectome-tl-") as name:
        given, made = Path(name, "given"), Path(name, "made")
        given.mkdir()
        made.mkdir()
        yield given, made
