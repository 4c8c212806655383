"""Process all scans of a folder, one by one or in parallel.

Missing and duplicate files are listed before anything is computed. A failed scan does not stop the others. Finished
scans are not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from connectome_tl import __version__
from connectome_tl.config import dump_settings
from connectome_tl.errors import (
    ConnectomeTLError,
    DataError,
    InternalError,
    InterruptedRunError,
    MissingInputError,
    Problem,
    UsageError,
)
from connectome_tl.files import read_json_object
from connectome_tl.imaging.preprocess.gradient_check import about_gradients
from connectome_tl.imaging.read.inputs import Inventory, Scan
from connectome_tl.plurals import counted
from connectome_tl.provenance import write_json, write_text
from connectome_tl.settings.imaging import (
    AnyScanSettings,
)
from connectome_tl.workflows.folder import EARLY, alone, refuse_others
from connectome_tl.workflows.scans.cohort import finish, said_of_subjects
from connectome_tl.workflows.scans.forecast import choices, forecast
from connectome_tl.workflows.scans.pool import process_scans
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.scan import Done, finished_scans, scans_of_other_settings
from connectome_tl.workflows.scans.template import template_notes
from connectome_tl.workflows.scans.template_images import template_problems

_NOT_BIDS = (  # names that BIDS does not define
    *(
        "settings.yaml",
        "cohort.yaml",
        "failures.tsv",
        "inventory.txt",
        "index.html",
        "participants.tsv",
        "log",
        "log/**",
    ),
    *(f"*_{suffix}.*" for suffix in ("relmat", "nodeindices", "provenance", "failure", "report", "timeseries")),
    *(f"*_{suffix}.*" for suffix in ("dwimap", "tdi", "tractogram", "tractogram_weights", "xfm", "relmat_labels")),
    *("*_desc-preproc_dwi.bval", "*_desc-preproc_dwi.bvec"),  # the standard forgot them for derivatives (1.11)
)
_MAX_TOLD = 10  # largest number of scans with a separate note on their gradient table


@dataclass(frozen=True)
class FolderRun:
    """Result of processing a folder.

    Attributes:
        done: finished scans of this run; page and cohort also contain those of earlier runs.
        failed: (scan, problem, exit code) of failed scans of this run.
        cohort: `cohort.yaml` of the finished scans; None without any.
        page: `index.html`.
        reasons: short reasons for failures, by scan.
    """

    done: tuple[Done, ...]
    failed: tuple[tuple[str, str, int], ...]
    cohort: Path | None
    page: Path
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"FolderRun({counted(len(self.done), 'scan')} done, {len(self.failed)} failed, page: {str(self.page)!r})"


def run_folder(
    plan: Plan[AnyScanSettings],
    scans: list[Scan],
    inventory: Inventory,
    n_workers: int,
    tell: Callable[[str], None] | None = None,
) -> FolderRun:
    """Call `process_folder`, and raise an error if a scan failed.

    Raises:
        DataError, MissingInputError, InterruptedRunError, InternalError: at the end, when scans failed: one line for
            each; and as `process_folder` does.
    """
    run = process_folder(plan, scans, inventory, n_workers, tell)
    if run.failed:
        others = "; the others are done" if len(run.failed) < len(scans) else ""
        raise worst_of(run)(
            f"{len(run.failed)} of {counted(len(scans), 'scan')} failed{others} (see {run.page})",
            problems=[Problem(text) for _, text, _ in run.failed],
        )
    return run


def process_folder(
    plan: Plan[AnyScanSettings],
    scans: list[Scan],
    inventory: Inventory,
    n_workers: int,
    tell: Callable[[str], None] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> FolderRun:
    """Process all scans, then write the page and `cohort.yaml`; failed scans are listed in the result.

    With more workers than scans, a scan uses several threads; results do not depend on this.

    Args:
        tell: called with each problem, line by line, before anything is computed; then with notes on each scan's
            gradient table.
        progress: called with the number of processed scans and the total number.

    Raises:
        UsageError: the output folder contains other data. DataError: the table of participants, or a template, cannot
            be used.
        OutputError, InterruptedRunError: immediately, if the output cannot be written or a worker was killed.
    """
    said_of_subjects(inventory, plan.settings.id_prefix)  # a table that cannot be read is an error now, not at the end
    _refuse_foreign(plan.out, inventory.root.resolve(), plan.datatype)
    _refuse_other_settings(plan, {scan.name for scan in scans})
    failed = [(scan.name, _in_a_line(scan.problems), 66) for scan in scans if scan.problems]
    reasons = {scan.name: _in_words(scan.problems) for scan in scans if scan.problems}
    ready = [scan for scan in scans if not scan.problems]
    inventory = replace(inventory, problems=(*inventory.problems, *_gone(plan, inventory)))
    with alone(plan.out, "cohort"):
        for left in plan.out.glob(".*.part"):  # of a run that was killed while writing
            left.unlink(missing_ok=True)
        found = _write_head(plan, inventory, scans)
    templates = [plan.templates[scan.name] for scan in scans if scan.name in plan.templates]
    trust = plan.settings.registration.orientation == "header"
    if misfits := template_problems(templates, plan.regions, trust_header=trust):
        raise DataError("a template cannot be used", problems=[*misfits, *(p for scan in scans for p in scan.problems)])
    plan = replace(plan.with_threads(ready, n_workers), shown=tell is not None)
    for line in found:
        if tell is not None:
            tell(f"Found: {line}")
    if tell is not None and ready:
        tell(forecast(plan, ready, n_workers))
    done: list[Done] = []
    turned = 0
    for through, (name, result) in enumerate(process_scans(ready, plan, n_workers), 1):
        if progress is not None:
            progress(through, len(ready))
        if isinstance(result, Done):
            done.append(result)
            said = about_gradients(result.warnings)
            turned += bool(said)
            if tell is not None and turned <= _MAX_TOLD:
                for line in said:
                    tell(line if name in line else f"subject {name}: {line}")
        else:
            failed.append((name, _in_a_line(result.problems), result.exit_code))
            reasons[name] = _in_words(result.problems)
    if tell is not None and turned > _MAX_TOLD:
        tell(f"the gradient tables of {counted(turned - _MAX_TOLD, 'scan')} more: see the report")
    for name, problem, code in failed:  # results of an earlier run with other inputs are invalid
        plan.file(name, "provenance.json").unlink(missing_ok=True)
        write_json(plan.file(name, "failure.json"), {"Problem": problem, "ExitCode": code})
    for item in done:
        plan.file(item.scan, "failure.json").unlink(missing_ok=True)
    with alone(plan.out, "cohort"):
        cohort, written = finish(inventory, plan)
    return FolderRun(tuple(sorted(done, key=lambda d: d.scan)), tuple(sorted(failed)), cohort, written, reasons)


def preview(
    plan: Plan[AnyScanSettings],
    scans: list[Scan],
    inventory: Inventory,
    n_workers: int,
    tell: Callable[[str], None] | None = None,
) -> FolderRun:
    """Describe what `run_folder` would do, without doing it.

    Raises:
        DataError: the table of participants cannot be read.
    """
    said_of_subjects(inventory, plan.settings.id_prefix)
    plan = plan.with_threads(scans, n_workers)
    for line in (*choices(plan, scans, inventory), forecast(plan, scans, n_workers)):
        if tell is not None:
            tell(line)
    failed = tuple((scan.name, _in_a_line(scan.problems), 66) for scan in scans if scan.problems)
    return FolderRun((), failed, None, plan.out / "index.html")


def _refuse_foreign(out: Path, root: Path, datatype: str) -> None:
    """Refuse to overwrite tables of another dataset.

    Raises:
        UsageError: the folder is the input, a subject of it, or contains other files, or results of another program or
            command.
    """
    inside = out.relative_to(root).parts if out.is_relative_to(root) else ("elsewhere",)
    if not inside or inside[0].startswith("sub-"):
        expected = f"another folder, as {root / 'derivatives' / 'connectome_tl'}"
        raise UsageError("the output folder is inside the scan folder", expected=expected, got=str(out))
    description = out / "dataset_description.json"
    if description.is_file() and "connectome-tl" not in description.read_text("utf-8", "replace"):
        raise UsageError("the output folder contains another dataset", expected="a new folder", got=str(out))
    other = "anat" if datatype == "dwi" else "dwi"
    if any(out.glob(f"sub-*/**/{other}/*_provenance.json")):
        made = "morphometry" if other == "anat" else "connectomes"
        raise UsageError(f"the output folder contains results of `{made}`", expected="a separate folder", got=str(out))
    if not description.is_file():
        finished = {path.relative_to(out).parts[0] for path in out.glob(f"sub-*/**/{datatype}/*_provenance.json")}
        refuse_others(out, (*EARLY, *finished))  # scans from other machines are no other files


def _refuse_other_settings(plan: Plan[AnyScanSettings], run: set[str]) -> None:
    """Refuse to mix scans of different settings in one folder.

    Raises:
        UsageError: the folder contains scans of other settings that this run would not repeat.
    """
    others = scans_of_other_settings(plan)
    kept = sorted(set(others) - run)
    if kept:
        raise UsageError(
            "the output folder contains scans made with other settings",
            expected="one set of settings per folder",
            got=f"{counted(len(kept), 'scan')}, among them {kept[0]} ({others[kept[0]]})",
            file=plan.out,
            remedy="Give another OUT_DIR, or run for all participants together: then all are processed again.",
        )
    if others:  # they are recomputed, and until then not part of a cohort
        (plan.out / "cohort.yaml").unlink(missing_ok=True)


def _gone(plan: Plan[AnyScanSettings], inventory: Inventory) -> list[Problem]:
    """A problem if scans of earlier runs, which stay in the cohort, are not in the folder any more."""
    if inventory.kind not in ("bids", "qsiprep"):
        return []
    gone = []
    for scan in (done.scan for done in finished_scans(plan)):
        subject, *session = scan.split("_")
        place = inventory.root.joinpath(f"sub-{subject[4 + len(plan.settings.id_prefix) :]}", *session)
        gone += [] if place.is_dir() else [scan]
    if not gone:
        return []
    remedy = "They stay in the cohort; where they were removed or renamed, delete their folders in OUT_DIR."
    what = (
        f"{counted(len(gone), 'scan')} of earlier runs {'is' if len(gone) == 1 else 'are'} not in the folder any more"
    )
    return [Problem(what, got=", ".join(gone[:_MAX_TOLD]), remedy=remedy)]


def worst_of(run: FolderRun) -> type[ConnectomeTLError]:
    """Most severe error of a command with failed scans: internal error, interruption, bad data, missing input."""
    codes = {code for _, _, code in run.failed}
    if InternalError.exit_code in codes:
        return InternalError
    if InterruptedRunError.exit_code in codes:
        return InterruptedRunError
    return MissingInputError if codes == {MissingInputError.exit_code} else DataError


def _in_a_line(problems: Sequence[Problem]) -> str:
    """All problems of one scan in one line."""
    return " | ".join(map(str, problems))


def _in_words(problems: Sequence[Problem]) -> str:
    """The problems of one scan, without its name, files and remedies."""
    return "; ".join(dict.fromkeys(problem.what for problem in problems))


def _source(root: Path) -> dict[str, str]:
    """Description of the input for `SourceDatasets`, without paths, which are specific to this machine."""
    try:
        said = read_json_object(root / "dataset_description.json")
    except ConnectomeTLError:
        return {}
    known = {"DOI": said.get("DatasetDOI"), "Version": said.get("DatasetVersion"), "Name": said.get("Name")}
    return {key: value for key, value in known.items() if isinstance(value, str)}


def _write_head(plan: Plan[AnyScanSettings], inventory: Inventory, scans: list[Scan]) -> list[str]:
    """Write the description of the folder; returns all problems, as in `inventory.txt`."""
    out, settings = plan.out, plan.settings
    write_json(
        out / "dataset_description.json",
        {
            "Name": settings.name,
            "BIDSVersion": "1.10.1",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "connectome-tl", "Version": __version__}],
            "SourceDatasets": [_source(inventory.root)],
        },
    )
    write_text(out / ".bidsignore", "".join(f"{name}\n" for name in _NOT_BIDS))
    write_text(out / "settings.yaml", dump_settings(settings))
    unlabelled = [scan for scan in scans if scan.parcellation is None]
    found = [*inventory.problems, *(problem for scan in scans for problem in scan.problems)]
    found += [
        Problem(note, subject=scan.name)
        for scan in unlabelled
        for note in template_notes(scan, plan.templates.get(scan.name), plan.ages)
    ]
    lines = ["\\n".join(str(problem).splitlines()) for problem in found]  # names may contain line breaks
    write_text(out / "inventory.txt", "\n".join(lines or ["no problems found"]) + "\n")
    return lines
