"""Compute connectomes from scans for the cohorts of a study before it runs.

A `cohort.yaml` with a `scans:` block is converted to one without, `scans/ROLE.yaml` in the run folder. It refers to the
connectomes and to a table with the scan of each subject and the reason for a missing connectome. Later steps (fits,
`audit`, `explain`, `bundle`) read only that file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import assemble_cohort, without_scans
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.errors import (
    DataError,
    InterruptedRunError,
    MissingInputError,
    Problem,
    UsageError,
    raise_all,
)
from connectome_tl.imaging.read.inputs import Inventory, Scan, take_inventory
from connectome_tl.plurals import counted
from connectome_tl.provenance import IMAGING, content_hash, read_own_json_object, write_sidecar, write_table, write_text
from connectome_tl.settings.cohort import CohortSettings, Covariate, MoreTable, VolumeFiles
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.settings.scans import MOTION, ScanFolder, ScanVolume
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.scans.cohort import depth_of, origin_of, result_files
from connectome_tl.workflows.scans.connectomes import plan_connectomes
from connectome_tl.workflows.scans.folder import FolderRun, process_folder, worst_of
from connectome_tl.workflows.scans.forecast import forecast
from connectome_tl.workflows.scans.planning import folder_settings
from connectome_tl.workflows.scans.result import Plan, stamps_of

FOLDER = "scans"  # inside a run folder
_REASON, _SCAN, _VOLUME = "connectome_problem", "scan", "scan_volume"
_HEAD = """\
# Written by `connectome-tl run` from {source}: its tables, with the connectomes that were made from its scans.
"""
_INTERRUPTED = InterruptedRunError.exit_code


@dataclass(frozen=True)
class ScanCohort:
    """A cohort whose connectomes are computed from scans.

    Attributes:
        role: role in the study. source: its `cohort.yaml` with the `scans:` block. settings: contents of `source`.
        file: the written `cohort.yaml`. out: folder of the connectomes.
    """

    role: str
    source: Path
    settings: CohortSettings
    file: Path
    out: Path

    @property
    def scans(self) -> ScanFolder:
        """Settings of the scans."""
        assert self.settings.scans is not None  # else it is none of these
        return self.settings.scans

    @property
    def bids(self) -> Path:
        """Folder of the BIDS dataset."""
        return self.source.parent / self.scans.bids


def scan_cohorts(study: StudySettings, home: Path, folder: Path) -> tuple[ScanCohort, ...]:
    """The cohorts of a study that have a `scans:` block, each file once.

    Args:
        home: folder that the study's cohort paths are relative to. folder: of the run.

    Raises:
        MissingInputError, UsageError: a cohort file.
    """
    found: dict[Path, ScanCohort] = {}
    for role, use in study.uses.items():
        source = home / use.cohort
        if source in found:
            continue
        settings = load_settings(source, CohortSettings)
        if settings.scans is not None:
            stated = settings.scans.out
            out = folder / FOLDER / role if stated is None else source.parent / stated
            found[source] = ScanCohort(role, source, settings, folder / FOLDER / f"{role}.yaml", out.resolve())
    return tuple(found.values())


def with_connectomes(study: StudySettings, home: Path, made: Sequence[ScanCohort]) -> StudySettings:
    """The study with the generated cohort files instead of those with scans."""
    places = {one.source: Path(os.path.relpath(one.file, home)).as_posix() for one in made}
    changed = {
        role: use.model_copy(update={"cohort": places[home / use.cohort]})
        for role, use in study.uses.items()
        if home / use.cohort in places
    }
    return study.model_copy(update=changed)


def make_cohort(
    one: ScanCohort, n_workers: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[set[Path], FolderRun]:
    """Compute the missing connectomes of a cohort, and write its `cohort.yaml`.

    Returns:
        Files and folders of the input (a folder changes when a scan is added), and the result of processing.

    Raises:
        UsageError, MissingInputError, DataError: settings, tables, the BIDS folder; or no scan worked.
        InterruptedRunError: a worker was killed or memory was short; run again to resume.
    """
    subjects, plan, ready, inventory = planned(one)
    run = process_folder(plan, ready, inventory, n_workers, progress=progress)
    short = [Problem(text) for _, text, code in run.failed if code == _INTERRUPTED]
    raise_all(
        f"{one.settings.name}: {counted(len(short), 'scan was', 'scans were')} not finished", short, InterruptedRunError
    )
    if not run.done:
        raise worst_of(run)(
            f"no scan of cohort {one.settings.name!r} worked (see {run.page})",
            problems=[Problem(text) for _, text, _ in run.failed],
        )
    _write(one, plan, run, _rows(one, subjects, plan, run, inventory))
    return _inputs(one, plan, ready, inventory), run


def forecast_of(one: ScanCohort, n_workers: int) -> str:
    """One line with the predicted time and the content of the connectomes of this cohort; nothing is written.

    Raises as `make_cohort` does before it computes.
    """
    _, plan, ready, _ = planned(one)
    return f"scans of {one.settings.name}: {forecast(plan.with_threads(ready, n_workers), ready, n_workers)}"


def planned(one: ScanCohort) -> tuple[Cohort, Plan[AnyScanSettings], list[Scan], Inventory]:
    """The cohort without connectomes, and the plan for the scans of its subjects."""
    home, scans = one.source.parent, one.scans
    subjects = assemble_cohort(without_scans(one.settings), home)
    settings, base = _connectome_settings(one)
    if settings.id_prefix:
        raise UsageError(
            "id_prefix renames subjects, and a cohort's scans are found by their names", file=one.source,
            remedy="Leave id_prefix out.",
        )  # fmt: skip
    whole = take_inventory(one.bids, meant=settings.dwi, join=settings.join_runs, b0_max=settings.b0_max)
    wanted = set(_scans_of(one, subjects, whole).values())
    if not wanted:
        raise MissingInputError(
            f"no subject of cohort {one.settings.name!r} has a scan",
            expected=f"subjects such as {subjects.ids[0]}",
            got=f"scans such as {whole.scans[0].name}",
            file=one.bids,
        )
    inventory = replace(whole, scans=tuple(scan for scan in whole.scans if scan.name in wanted))
    plan, ready = plan_connectomes(settings, base, inventory, one.out)
    if not isinstance(scans.transform, str) and len(scans.transform) != len(settings.measures):
        raise UsageError(
            "scans.transform has another number of entries than there are measures",
            expected=f"one for each of {', '.join(settings.measures)}",
            file=one.source,
        )
    return subjects, plan, ready, inventory


def _connectome_settings(one: ScanCohort) -> tuple[ConnectomesSettings, Path]:
    """Settings of the connectomes, and the folder that their paths are relative to."""
    home, given = one.source.parent, one.scans.settings
    if isinstance(given, str):
        return folder_settings(home / given, ConnectomesSettings)
    unnamed = given.name == ConnectomesSettings().name
    return given.model_copy(update={"name": one.settings.name}) if unnamed else given, home.resolve()


def _scans_of(one: ScanCohort, subjects: Cohort, inventory: Inventory) -> dict[str, str]:
    """The scan of each subject, by its id in the table.

    Raises:
        DataError: a subject has several scans, and the id of the cohort does not identify one.
    """
    by_name = {scan.name: scan.name for scan in inventory.scans}
    of_child: dict[str, list[str]] = {}
    for scan in inventory.scans:
        of_child.setdefault(scan.subject, []).append(scan.name)
    found, several = {}, []
    for subject in subjects.ids:
        name = f"sub-{subject.removeprefix('sub-')}"
        own = of_child.get(name, [])
        if name in by_name:
            found[subject] = name
        elif len(own) == 1:
            found[subject] = own[0]
        elif own:
            several.append(Problem("the subject has several scans", got=", ".join(own[:4]), subject=subject))
    remedy = "Set id: [SUBJECT COLUMN, SESSION COLUMN] in the cohort, with a row for each scan."
    raise_all(
        f"cohort {one.settings.name!r}: which scan is meant?",
        [replace(problem, file=one.bids, remedy=remedy) for problem in several],
        DataError,
    )
    return found


def _rows(
    one: ScanCohort, subjects: Cohort, plan: Plan[AnyScanSettings], run: FolderRun, inventory: Inventory
) -> pd.DataFrame:
    """One row per subject: its scan, motion, image, and the reason for a missing connectome."""
    of_subject = _scans_of(one, subjects, inventory)
    moved = {item.scan: item.numbers.get(MOTION) for item in run.done}
    images = _images(one.scans.volumes, plan, inventory, set(moved)) if one.scans.volumes else {}
    rows = []
    for subject in subjects.ids:
        scan = of_subject.get(subject)
        worked = scan is not None and scan in moved
        reason = "no scan in the folder" if scan is None else run.reasons.get(scan, "")
        image = images.get(scan or "")
        rows.append(
            {
                "participant_id": subject,
                _SCAN: scan,
                _REASON: None if worked else reason,
                MOTION: moved.get(scan or ""),
                _VOLUME: None if image is None else Path(os.path.relpath(image, one.file.parent)).as_posix(),
            }
        )
    return pd.DataFrame(rows)


def _images(
    wanted: ScanVolume, plan: Plan[AnyScanSettings], inventory: Inventory, done: set[str]
) -> Mapping[str, Path]:
    """The volume of each scan that has it."""
    if wanted in ("FA", "MD"):
        maps = {scan: plan.file(scan, f"model-tensor_param-{wanted}_dwimap.nii.gz") for scan in done}
        return {scan: file for scan, file in maps.items() if file.is_file()}
    found = {}
    for scan in inventory.scans:
        named = (f for f in (scan.anatomical, scan.other_anatomical) if f is not None and f"_{wanted}." in f.name)
        for file in named:
            found[scan.name] = file
    return found


def _write(one: ScanCohort, plan: Plan[AnyScanSettings], run: FolderRun, rows: pd.DataFrame) -> None:
    """The cohort.yaml with the connectomes, its sidecar, and the table in the same folder."""
    home, place, settings = one.source.parent, one.file.parent, one.settings
    table = one.file.with_name(f"{one.role}_scans.tsv")
    columns = [name for name in (_REASON, MOTION, _VOLUME) if name == _REASON or rows[name].notna().any()]
    write_table(table, rows[["participant_id", _SCAN, *columns]])
    first = run.done[0].scan
    stem = f"{depth_of(plan, run.done)}/{{id}}{_session(rows, run)}"
    connectomes, regional = result_files(plan, first, place, stem)
    moved = MOTION in columns and rows[MOTION].nunique() > 1 and MOTION not in {c.column for c in settings.covariates}
    motion = (Covariate(column=MOTION, unit="mm", role="nuisance"),) if moved else ()

    def seen_from_there(path: str) -> str:
        return path if Path(path).is_absolute() else Path(os.path.relpath(home / path, place)).as_posix()

    own = tuple(more.model_copy(update={"file": seen_from_there(more.file)}) for more in settings.tables)
    added = MoreTable(file=table.name, id="participant_id")
    made = CohortSettings.model_validate(
        {
            **{name: getattr(settings, name) for name in settings.model_fields_set},
            "scans": None,
            "exploratory": settings.exploratory or any(stamps_of(item.warnings) for item in run.done),
            "origin": origin_of(plan, run.done),
            "participants": seen_from_there(settings.participants),
            "tables": (*own, added),
            "covariates": (*settings.covariates, *motion),
            "connectomes": connectomes.model_copy(
                update={"unmatched": "missing", "reason": _REASON, "transform": one.scans.transform}
            ),
            "region_features": regional if one.scans.regional else None,
            "volumes": VolumeFiles(column=_VOLUME, contrast=one.scans.volumes or "", missing="allow")
            if _VOLUME in columns
            else None,
        }
    )
    write_text(one.file, _HEAD.format(source=one.source.name) + dump_settings(made))
    marks = {item.scan: read_own_json_object(plan.file(item.scan, "provenance.json"), ["Inputs"]) for item in run.done}
    inputs = {scan: content_hash(mark["Inputs"]) for scan, mark in marks.items()}
    failed = {scan: text for scan, text, _ in run.failed}
    write_sidecar(one.file, inputs=inputs, settings=plan.settings, libraries=IMAGING, Failed=failed)


def _session(rows: pd.DataFrame, run: FolderRun) -> str:
    """What follows the id in a file's name: nothing where ids are those of scans, else the session, if there is one.

    Raises:
        UsageError: some ids are those of scans and others are not, or some scans have no session: no pattern fits all.
    """
    ids = {f"sub-{subject.removeprefix('sub-')}" for subject in rows["participant_id"]}
    scans = {item.scan for item in run.done}
    sessions = {scan.partition("_")[2] for scan in scans}
    if sessions == {""} or scans <= ids:
        return ""
    if scans & ids or "" in sessions:
        raise UsageError(
            "only some subjects of the table have a session in their id or in their files",
            expected="a row for each scan (such as 01_ses-1), or one for each subject",
            got=", ".join(sorted(scans - ids)[:3] + sorted(scans & ids)[:3]),
            remedy="Name all rows in the same way, and give all scans a session.",
        )
    return f"_{sessions.pop()}" if len(sessions) == 1 else "_ses-*"


def _inputs(one: ScanCohort, plan: Plan[AnyScanSettings], scans: Sequence[Scan], inventory: Inventory) -> set[Path]:
    """Files and folders that the connectomes were made from."""
    root = inventory.root.absolute()
    found = {one.source.absolute(), root}
    for scan in scans:
        for file in plan.inputs_of(scan).values():
            found.add(Path(file).absolute())
            found |= {folder for folder in Path(file).absolute().parents if folder.is_relative_to(root)}
    return found
