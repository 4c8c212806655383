"""One scan: its key and its completion mark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectome_tl.config import differences
from connectome_tl.errors import MissingInputError
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.track.mrtrix import commands_of, version_of
from connectome_tl.provenance import (
    IMAGING,
    content_hash,
    file_hash,
    read_json,
    read_own_json_object,
    versions,
    write_json,
)
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.workflows.scans.diffusion import make_connectomes
from connectome_tl.workflows.scans.hooks import hook_versions
from connectome_tl.workflows.scans.report import page_hash
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.structural import make_network

# Packages that affect the outputs of a scan; those of networks on them differ between installations.
_LIBRARIES = (
    "connectome-tl", "numpy", "scipy", "pandas", "scikit-learn", "networkx", "nibabel", "matplotlib", *IMAGING,
)  # fmt: skip
_CODE = 22  # version of the outputs; increase it whenever the files of a scan change


@dataclass(frozen=True)
class Done:
    """Outcome of one scan: `state` is computed or unchanged; numbers for the cohort page."""

    scan: str
    state: str
    numbers: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def process_scan(scan: Scan, plan: Plan[Any]) -> Done:
    """Compute all outputs of one scan, unless they are already complete.

    The key of a scan is the hash of its inputs, settings and versions. It is stored in `provenance.json`, which is
    written last, with the hash of every output, so that an interrupted run recomputes missing outputs.

    Raises:
        ConnectomeTLError: a problem of this scan.
    """
    mark = plan.file(scan.name, "provenance.json")
    for left in mark.parent.glob(".*.part"):  # of a run that was killed while writing
        left.unlink(missing_ok=True)
    inputs = {role: file_hash(path) for role, path in plan.inputs_of(scan).items()}
    used = _versions(plan)
    key = content_hash(inputs, folder_key(plan), plan.said_of(scan.name))
    before = _finished(mark, key)
    if before is not None:
        return Done(scan.name, "unchanged", before["Numbers"], tuple(before["Warnings"]))

    mark.unlink(missing_ok=True)
    make = make_network if isinstance(plan.settings, MorphometrySettings) else make_connectomes
    made = make(scan, plan, inputs)
    outputs = {path.name: _hash(path) for path in sorted(made.files)}
    record = {
        "Key": key,
        "FolderKey": folder_key(plan),
        "Inputs": inputs,
        "Settings": plan.settings,
        "Outputs": outputs,
        "Numbers": made.numbers,
    }
    write_json(mark, {**record, "Warnings": made.warnings, "Versions": used, "Use": "research only, not for care"})
    return Done(scan.name, "computed", made.numbers, made.warnings)


def folder_key(plan: Plan[Any]) -> str:
    """Hash of the shared inputs of all scans: settings, rows, template files, group response, versions."""
    response = None if plan.response is None else file_hash(plan.response)
    rows = plan.regions and {"names": plan.regions.names, "numbers": plan.regions.numbers}
    shared = (plan.settings, rows, plan.atlas_name, plan.filters, plan.own_templates, response)
    return content_hash(*shared, _versions(plan), _CODE)


def finished_scans(plan: Plan[Any]) -> list[Done]:
    """Finished scans of the output folder with these settings, from this or earlier runs."""
    key = folder_key(plan)
    return [
        Done(scan, "unchanged", record["Numbers"], tuple(record["Warnings"]))
        for scan, record in _marks(plan)
        if record.get("FolderKey") == key
    ]


def scans_of_other_settings(plan: Plan[Any]) -> dict[str, str]:
    """Differences of scans that were made with other settings or versions, by scan."""
    key, now = folder_key(plan), plan.settings.model_dump(mode="json")
    found = {}
    for scan, record in _marks(plan):
        if record.get("FolderKey") == key:
            continue
        changed = differences(record.get("Settings", {}), now)
        before, used = record.get("Versions", {}), _versions(plan)
        changed += [
            f"{n} {before.get(n)} to {used.get(n)}" for n in sorted({*before, *used}) if before.get(n) != used.get(n)
        ]
        found[scan] = "; ".join(changed[:4]) or "rows, template files, group response or a version of the method"
    return found


def _marks(plan: Plan[Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for mark in sorted(plan.out.glob(f"sub-*/**/{plan.datatype}/*_provenance.json")):
        try:
            record = read_own_json_object(mark)
        except MissingInputError:  # another process makes this scan again
            continue
        found.append((mark.name.removesuffix("_provenance.json"), record))
    return found


def _versions(plan: Plan[Any]) -> dict[str, str]:
    theirs = commands_of(plan.settings) if isinstance(plan.settings, ConnectomesSettings) else ()
    return versions(_LIBRARIES) | version_of(theirs) | hook_versions(plan)


def _finished(mark: Path, key: str) -> dict[str, Any] | None:
    if not mark.is_file():
        return None
    try:
        record = read_json(mark)
        outputs = {mark.parent / name: digest for name, digest in record["Outputs"].items()}
        whole = record["Key"] == key and all(f.is_file() and _hash(f) == digest for f, digest in outputs.items())
    except Exception:  # with a damaged mark, everything is recomputed
        return None
    return record if whole else None


def _hash(path: Path) -> str:
    """Of an output; a page's without its comparison with the cohort, which changes as the cohort grows."""
    return page_hash(path) if path.suffix == ".html" else file_hash(path)
