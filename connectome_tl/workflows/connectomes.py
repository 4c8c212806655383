"""`connectome-tl connectomes`: scans to connectomes, a page about them, and a `cohort.yaml` that `run` takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from connectome_tl.atlas import find_image, load_atlas
from connectome_tl.config import dump_settings, load_settings, parse_settings
from connectome_tl.connectome.assemble import RegionTable, regions_of_atlas, regions_of_table
from connectome_tl.connectome.labels import read_labels
from connectome_tl.errors import ConnectomeTLError, DataError, InternalError, MissingInputError, Problem, UsageError
from connectome_tl.imaging.input_tables import unfetched
from connectome_tl.imaging.inputs import Inventory, Scan, take_inventory
from connectome_tl.imaging.mrtrix import commands_of, require
from connectome_tl.provenance import write_json, write_text
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.workflows.scan import Done, mark_of, process_scan
from connectome_tl.workflows.scan_cohort import failure_of, finish
from connectome_tl.workflows.scan_result import Plan


@dataclass(frozen=True)
class ConnectomesRun:
    """What a run made.

    Attributes:
        done: scans of this run; page and cohort also hold those of earlier ones.
        failed: (scan, problem, exit code) of those of this run that did not work.
        cohort: `cohort.yaml` of the scans that worked; None when none did.
        page: `index.html`.
    """

    done: tuple[Done, ...]
    failed: tuple[tuple[str, str, int], ...]
    cohort: Path | None
    page: Path


def build_connectomes(
    bids_dir: str | Path,
    out_dir: str | Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    atlas: str | None = None,
    engine: str | None = None,
    config: str | Path | None = None,
    n_workers: int = 1,
) -> ConnectomesRun:
    """Make the connectomes of every scan of a folder; what is done already is left as it is.

    Everything that is missing or doubled is listed before anything is computed. A scan that fails stops
    no other.

    Args:
        atlas, engine: override the configuration.
        n_workers: scans at the same time.

    Raises:
        UsageError, MissingInputError: settings, folder or template.
        DataError, MissingInputError: at the end, when scans failed: one line for each.
    """
    settings, base = _settings(config, atlas, engine)
    inventory = take_inventory(bids_dir, participants=participants, sessions=sessions)
    plan, scans = _plan(settings, base, inventory, Path(out_dir).resolve())
    failed = [(scan.name, str(problem), 66) for scan in scans for problem in scan.problems[:1]]
    ready = [scan for scan in scans if not scan.problems]
    _write_head(plan.out, settings, inventory, scans)
    done: list[Done] = []
    for name, result in _each(ready, plan, n_workers):
        if isinstance(result, Done):
            done.append(result)
        else:
            failed.append((name, str(result), result.exit_code))
    for name, problem, code in failed:  # what an earlier run made of other inputs is no result of these
        mark_of(plan.out, name).unlink(missing_ok=True)
        write_json(failure_of(plan.out, name), {"Problem": problem, "ExitCode": code})
    for item in done:
        failure_of(plan.out, item.scan).unlink(missing_ok=True)
    cohort, written = finish(inventory, plan)
    run = ConnectomesRun(tuple(sorted(done, key=lambda d: d.scan)), tuple(sorted(failed)), cohort, written)
    if run.failed:
        kind = MissingInputError if all(code == 66 for _, _, code in run.failed) else DataError
        raise kind(
            f"{len(run.failed)} of {len(scans)} scans failed; the others are done (see {run.page})",
            problems=[Problem(text) for _, text, _ in run.failed],
        )
    return run


def _settings(config: str | Path | None, atlas: str | None, engine: str | None) -> tuple[ConnectomesSettings, Path]:
    overrides = [f"{key}={value}" for key, value in (("atlas", atlas), ("engine", engine)) if value is not None]
    if config is not None:
        return load_settings(config, ConnectomesSettings, overrides=overrides), Path(config).resolve().parent
    return parse_settings("", ConnectomesSettings, overrides=overrides), Path.cwd()


def _plan(settings: ConnectomesSettings, base: Path, inventory: Inventory, out: Path) -> tuple[Plan, list[Scan]]:
    regions: RegionTable | None = None
    name = settings.atlas or _name_of(settings.labels)
    if settings.labels is not None:
        regions = regions_of_table(read_labels(base / settings.labels), file=settings.labels)
    elif settings.atlas is not None:
        regions = regions_of_atlas(load_atlas(settings.atlas))
    template: dict[str, Path] = {}
    if settings.template is not None:
        files = settings.template
        template = {"image": base / files.image, "labels": base / files.labels}
        if files.mask is not None:
            template["mask"] = base / files.mask
        absent = [Problem("template file not found", file=path) for path in template.values() if not path.is_file()]
        if absent:
            raise MissingInputError("the template is not there", problems=absent)
    elif settings.atlas is not None and settings.parcellation is None:
        image = find_image(settings.atlas)
        if image is not None and not any(scan.parcellation for scan in inventory.scans):
            raise UsageError(
                f"atlas {settings.atlas} has an image but no template to register it with",
                expected="template: {image, labels} in the configuration",
                got=str(image),
            )
    require(commands_of(settings))
    given = settings.reconstruction.response_file
    response = None if given is None else _there(base / given)
    label = "".join(letter for letter in name if letter.isalnum()) or "labels"
    scans = [_with_parcellation(_fetched(scan), settings, inventory.root) for scan in inventory.scans]
    return Plan(settings, regions, label, template, out, response=response), scans


def _there(file: Path) -> Path:
    if not file.is_file():
        raise MissingInputError("the group response is not there", file=file)
    return file


def _name_of(labels: str | None) -> str:
    """What a label table is about: its `atlas-` entity, else its file name."""
    if labels is None:
        return "labels"
    found = re.search(r"atlas-([a-zA-Z0-9+]+)", Path(labels).name)
    return found.group(1) if found else Path(labels).name.split(".")[0]


def _fetched(scan: Scan) -> Scan:
    """The scan, with a problem for every file of it whose content is elsewhere."""
    absent = [unfetched(file, scan.name) for file in scan.files().values() if not file.is_file()]
    return replace(scan, problems=(*scan.problems, *absent))


def _with_parcellation(scan: Scan, settings: ConnectomesSettings, root: Path) -> Scan:
    """The scan with its parcellation, or with the problem that there is no way to one."""
    if settings.parcellation is not None:
        file = root / settings.parcellation.format(subject=scan.subject, session=scan.session or "")
        if file.is_file():
            return replace(scan, parcellation=file)
        problem = Problem("the parcellation is missing", expected=str(file), subject=scan.name)
    elif scan.parcellation is not None or (settings.template is not None and scan.anatomical is not None):
        return scan
    elif settings.template is not None:
        problem = Problem("there is no T2w or T1w image to register the template with", subject=scan.name)
    else:
        remedy = "Give `parcellation` or `template` in the configuration, or put a _dseg beside the data."
        problem = Problem("there is no parcellation", subject=scan.name, file=scan.dwi, remedy=remedy)
    return replace(scan, problems=(*scan.problems, problem))


def _each(scans: list[Scan], plan: Plan, n_workers: int) -> Iterator[tuple[str, Done | ConnectomeTLError]]:
    if n_workers <= 1 or len(scans) <= 1:
        for scan in scans:
            yield scan.name, _guarded(scan, plan)
        return
    with ProcessPoolExecutor(min(n_workers, len(scans)), mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_guarded, scan, plan): scan.name for scan in scans}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _guarded(scan: Scan, plan: Plan) -> Done | ConnectomeTLError:
    """One scan's result or its error; a fault of ours in one scan does not take the others with it."""
    from threadpoolctl import threadpool_limits

    try:
        # More threads add in another order: another last digit, other streamlines, other bytes on a second run.
        with threadpool_limits(limits=1):
            return process_scan(scan, plan)
    except ConnectomeTLError as error:
        return error
    except Exception as error:
        return InternalError(
            f"{type(error).__name__}: {error}",
            subject=scan.name,
            file=scan.dwi,
            remedy="A fault of connectome-tl; report it.",
        )


def _write_head(out: Path, settings: ConnectomesSettings, inventory: Inventory, scans: list[Scan]) -> None:
    write_json(
        out / "dataset_description.json",
        {
            "Name": settings.name,
            "BIDSVersion": "1.10.1",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "connectome-tl"}],
        },
    )
    write_text(out / ".bidsignore", "*_relmat.*\n*_nodeindices.*\n*_provenance.json\n*_failure.json\n*_report.html\n")
    write_text(out / "settings.yaml", dump_settings(settings))
    found = [*inventory.problems, *(problem for scan in scans for problem in scan.problems)]
    write_text(out / "inventory.txt", "".join(f"{problem}\n" for problem in found) or "nothing to complain about\n")
