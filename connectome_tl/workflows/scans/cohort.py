"""Group level of an output folder: report, `cohort.yaml`, comparison of scans.

All data are read from the folder, so that scans may be processed by separate jobs, and the last command includes
all of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.config import dump_settings
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError
from connectome_tl.imaging.read.inputs import Inventory
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.plurals import counted
from connectome_tl.provenance import read_own_json_object, write_table, write_text
from connectome_tl.report.scan_page import ScanIndex, render_index
from connectome_tl.settings.cohort import CohortSettings, ConnectomeFiles, RegionFeatureFiles
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.folder import alone
from connectome_tl.workflows.scans.prefix import prefixed
from connectome_tl.workflows.scans.report import set_beside
from connectome_tl.workflows.scans.result import STAMP, Plan, stamps_of, status_of
from connectome_tl.workflows.scans.scan import Done, finished_scans

_HEAD = """\
# Overwritten by every run of the command: declare outcomes and covariates in a copy in the same folder.
# participants.tsv contains the columns of the folder's own table for each subject; those whose name is also written
# here (mean_fd, age_at_scan, session) are called NAME_given.
"""
_MOTION = {"column": "mean_fd", "unit": "mm", "role": "nuisance"}
_ENOUGH = 5  # smallest number of scans for the detection of outliers


def finish(inventory: Inventory, plan: Plan[AnyScanSettings]) -> tuple[Path | None, Path]:
    """Write `failures.tsv`, `cohort.yaml` (None without a scan that worked) and the page; returns the last two."""
    done, failed = finished_scans(plan), failures(plan)
    write_table(plan.out / "failures.tsv", pd.DataFrame(failed, columns=["scan", "problem", "exit_code"]))
    cohort = _write_cohort(inventory, plan, done) if done else None
    numbers = pd.DataFrame([dict(item.numbers) for item in done], index=[item.scan for item in done])
    typical = _typical(numbers) if len(done) >= _ENOUGH else {}
    for k, item in enumerate(done):
        with alone(plan.out, item.scan, wait=False) as held:
            if held:  # otherwise another process writes this page
                path = plan.file(item.scan, "report.html")
                set_beside(path, item.numbers, typical, _neighbours(plan, done, k))
    stamps = Counter(stamp for item in done for stamp in stamps_of(item.warnings))
    index = ScanIndex(
        name=plan.settings.name,
        scans=[(item.scan, _link(plan.file(item.scan, "report.html"), plan.out), item.numbers) for item in done],
        failed=[(scan, text.removeprefix(f"subject {scan}").lstrip(",: ")) for scan, text, _ in failed],
        notes=[str(problem) for problem in inventory.problems],
        stamps=[
            f"{n} of {counted(len(done), 'scan')} {'is' if n == 1 else 'are'} {text}."
            for text, n in sorted(stamps.items())
        ],
        typical=typical,
    )
    return cohort, write_text(plan.out / "index.html", render_index(index))


def _neighbours(plan: Plan[AnyScanSettings], done: list[Done], k: int) -> list[tuple[str, str]]:
    """Previous and next scan, with links to their pages."""
    here = plan.file(done[k].scan, "report.html").parent
    near = [(word, done[i].scan) for word, i in (("Before", k - 1), ("After", k + 1)) if 0 <= i < len(done)]
    return [(f"{word}: {scan}", _link(plan.file(scan, "report.html"), here)) for word, scan in near]


def _link(target: Path, start: Path) -> str:
    return Path(os.path.relpath(target, start)).as_posix()


def failures(plan: Plan[AnyScanSettings]) -> list[tuple[str, str, int]]:
    """(scan, problem, exit code) of all that failed, in this run or an earlier one."""
    found = []
    for file in sorted(plan.out.glob(f"sub-*/**/{plan.datatype}/*_failure.json")):
        try:
            record = read_own_json_object(file, ["Problem", "ExitCode"])
        except MissingInputError:  # another process has made this scan
            continue
        found.append((file.name.removesuffix("_failure.json"), str(record["Problem"]), int(record["ExitCode"])))
    return found


def _typical(numbers: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Median and robust standard deviation of each number."""
    middle = numbers.median()
    spread = 1.4826 * (numbers - middle).abs().median()
    return {str(name): (float(middle[name]), float(spread[name])) for name in numbers.columns}


def _write_cohort(inventory: Inventory, plan: Plan[AnyScanSettings], done: list[Done]) -> Path:
    rows = []
    for item in done:
        subject, _, session = item.scan.partition("_")
        row: dict[str, object] = {"participant_id": item.scan, "subject": subject, "session": session or None}
        if plan.ages.column is not None:
            row["age_at_scan"] = plan.ages.values.get(item.scan)
        if any("mean_fd" in one.numbers for one in done):
            row["mean_fd"] = item.numbers.get("mean_fd")
        rows.append(row)
    table = pd.DataFrame(rows)
    known = said_of_subjects(inventory, plan.settings.id_prefix)
    by = [key for key in ("subject", "session") if key in known]
    known = known.rename(columns={name: f"{name}_given" for name in table.columns if name not in by})
    known = known.loc[:, ~known.columns.duplicated()]
    table = table.merge(known, how="left", on=by)
    write_table(plan.out / "participants.tsv", _as_said_before(table, plan, {scan.name for scan in inventory.scans}))
    connectomes, regional = result_files(plan, done[0].scan, plan.out, f"{depth_of(plan, done)}/{{id}}")
    age = plan.ages.column
    settings = CohortSettings.model_validate(
        {
            "name": plan.settings.name,
            "exploratory": any(stamps_of(item.warnings) for item in done),
            "origin": origin_of(plan, done),
            "participants": "participants.tsv",
            "family": "subject",
            **({"age": age.model_copy(update={"column": "age_at_scan"})} if age is not None else {}),
            **({"covariates": [_MOTION]} if "mean_fd" in table else {}),
            "connectomes": connectomes,
            "region_features": regional,
        }
    )
    return write_text(plan.out / "cohort.yaml", _HEAD + dump_settings(settings))


def depth_of(plan: Plan[AnyScanSettings], done: Sequence[Done]) -> str:
    """Folders between the results and the files of a scan, as a pattern."""
    return f"{'*/' if any('_' in item.scan for item in done) else ''}*/{plan.datatype}"


def result_files(
    plan: Plan[AnyScanSettings], scan: str, folder: Path, stem: str
) -> tuple[ConnectomeFiles, RegionFeatureFiles]:
    """Entries of a cohort.yaml for connectomes and regional measures.

    Args:
        scan: one that worked; its table names the regions where no atlas does.
        folder: of the cohort.yaml. stem: pattern of a scan's files below the results, up to `_atlas-`.
    """
    measures = plan.settings.measures
    several = "_meas-{measure}" if len(measures) > 1 else ""
    regions = f"atlas-{plan.atlas_name}_nodeindices.tsv"
    named = plan.settings.atlas is not None and plan.settings.labels is None
    where = "" if folder == plan.out else f"{_link(plan.out, folder)}/"
    connectomes = ConnectomeFiles(
        files=f"{where}{stem}_atlas-{plan.atlas_name}{several}_relmat.tsv",
        measure=measures if several else measures[0],
        atlas=plan.settings.atlas if named else None,
        labels=None if named else _link(plan.file(scan, regions), folder),
        unmatched="drop",
    )
    return connectomes, RegionFeatureFiles(files=f"{where}{stem}_{regions}", names=plan.settings.regional)


def origin_of(plan: Plan[AnyScanSettings], done: Sequence[Done]) -> str:
    """A sentence on the computation of the connectomes, for methods sections."""
    n = counted(len(done), "scan")
    settings = plan.settings
    if not isinstance(settings, ConnectomesSettings):
        return (
            f"The networks of {settings.name} were made from {' and '.join(settings.images)} images of {n} by "
            f"connectome_tl (morphometric {settings.network})."
        )
    status = status_of(False, settings)
    raw = sum(status in item.warnings for item in done)
    state = {0: "preprocessed", len(done): "raw"}.get(raw, f"partly raw ({raw} of {len(done)})")
    corrected = "" if not raw else f"; {status.removeprefix(f'{STAMP}: ')}"
    tracking = settings.tracking
    return (
        f"The connectomes of {settings.name} were made from {state} diffusion MRI of {n} by connectome_tl "
        f"({tracking.n_streamlines:,} {tracking.algorithm} streamlines, engine {settings.engine}; an edge weighs: "
        f"{weight_name(settings)}{corrected})."
    )


def _as_said_before(table: pd.DataFrame, plan: Plan[AnyScanSettings], run: set[str]) -> pd.DataFrame:
    """Keep the entries of earlier runs for scans that are not in this run and its tables."""
    before = _readable(plan.out / "participants.tsv")
    if "participant_id" not in before:
        return table
    before = before.drop_duplicates("participant_id").set_index("participant_id")
    others = ~table["participant_id"].isin(run).to_numpy()
    for column in before.columns:
        if column not in table:
            if column not in ("age_at_scan", "mean_fd") and others.any():
                table[column] = None
            else:
                continue
        empty = others & table[column].isna().to_numpy()
        if not empty.any():
            continue
        said = table["participant_id"].map(before[column])
        table[column] = table[column].astype(object).where(~empty, said)
    return table


def _agreed(cells: pd.Series) -> object:
    """The common value of several rows; None if they differ."""
    return cells.iloc[0] if cells.nunique() == 1 else None


def said_of_subjects(inventory: Inventory, prefix: str) -> pd.DataFrame:
    """Columns of the folder's participants.tsv (covariates, outcomes) by the names of the output.

    Some tables have a row for each session, named in `session_id`. Cells with conflicting values in several rows of a
    subject or session are missing; the inventory lists the subjects.

    Raises:
        DataError: the table cannot be read.
    """
    file = inventory.root / "participants.tsv"
    try:
        # The inventory notes the encoding, a link to content that was not fetched, and a file that is none.
        table = read_table(file, notes=[]) if file.is_file() else pd.DataFrame()
    except DataError as error:
        mend = "Correct it, or move it out of the folder to continue without its columns."
        problems = [replace(one, remedy=" ".join(filter(None, (one.remedy, mend)))) for one in error.problems]
        raise DataError("the table of participants cannot be read", problems=problems) from error
    if "participant_id" not in table:
        return pd.DataFrame({"subject": []}, dtype=str)
    subjects = [prefixed(str(name), prefix) for name in table["participant_id"]]
    table = table.drop(columns="participant_id").rename(columns={n: f"{n}_given" for n in ("subject", "session")})
    if "session_id" in table and any(scan.session for scan in inventory.scans):
        sessions = [f"ses-{str(name).removeprefix('ses-')}" for name in table.pop("session_id")]
        table.insert(0, "session", sessions)
    table.insert(0, "subject", subjects)
    by = [key for key in ("subject", "session") if key in table]
    doubled = table.duplicated(by, keep=False)
    if doubled.any():
        agreed = table[doubled].groupby(by, sort=False).agg(_agreed)
        table = pd.concat([table[~doubled], agreed.reset_index()], ignore_index=True)
    return table


def _readable(file: Path) -> pd.DataFrame:
    """A table of an earlier run; empty if it is missing or damaged."""
    try:
        return read_table(file)
    except ConnectomeTLError:
        return pd.DataFrame()
