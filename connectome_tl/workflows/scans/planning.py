"""Prepare a run over scans: settings, templates, parcellations, regions, missing inputs."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from connectome_tl.atlas import find_image, load_atlas
from connectome_tl.config import load_settings, parse_settings
from connectome_tl.connectome.assemble import RegionTable, regions_of_atlas, regions_of_table
from connectome_tl.connectome.centroids import MAX_MISPLACED, check_places
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.errors import (
    ConnectomeTLError,
    Problem,
    UsageError,
)
from connectome_tl.imaging.read.images import read_labels as read_label_image
from connectome_tl.imaging.read.inputs import Inventory, Scan
from connectome_tl.imaging.read.tables import unfetched
from connectome_tl.provenance import file_hash
from connectome_tl.settings.imaging import (
    AnyScanSettings,
    ConnectomesSettings,
    MorphometrySettings,
    ScanSettings,
)
from connectome_tl.settings.surfaces import SurfaceFiles
from connectome_tl.settings.templates import TemplatesByAge
from connectome_tl.workflows.scans.age import read_ages
from connectome_tl.workflows.scans.hooks import hook_problems, require_hooks
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.surface_rows import rows_of
from connectome_tl.workflows.scans.surfaces import regions_of_surfaces, surface_files, surface_problems
from connectome_tl.workflows.scans.template import ChosenTemplate, choose_templates, template_files

_SELECT = "Select one by `parcellation` in the configuration, or leave one."
ScanSettingsT = TypeVar("ScanSettingsT", bound=ScanSettings)


def folder_settings(
    config: str | Path | None, kind: type[ScanSettingsT], **given: str | None
) -> tuple[ScanSettingsT, Path]:
    """Settings of a command with overrides from the command line, and the base folder of their paths."""
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    if config is None:
        return parse_settings("", kind, overrides=overrides), Path.cwd()
    return load_settings(config, kind, overrides=overrides), Path(config).resolve().parent


def plan_folder(
    settings: AnyScanSettings,
    base: Path,
    inventory: Inventory,
    out: Path,
    *,
    response: Path | None = None,
) -> tuple[Plan[AnyScanSettings], list[Scan]]:
    """Plan shared by all scans, and the scans with their parcellations and problems.

    Args:
        base: base folder of relative paths in the settings.
        response: file of the declared group response.

    Raises:
        UsageError, MissingInputError: settings, template, ages. DataError: a template's labels match no atlas.
    """
    if settings.template is None and settings.parcellation is None and settings.atlas is not None:
        image = find_image(settings.atlas)
        if image is not None and not any(scan.parcellation for scan in inventory.scans):
            raise UsageError(
                f"atlas {settings.atlas} has an image but no template to register it with",
                expected="template: {image, labels} in the configuration",
                got=str(image),
            )
    ages = read_ages(inventory, settings.age)
    images = settings.images if isinstance(settings, MorphometrySettings) else ()
    contrast = images[0] if images else None
    scans, templates = choose_templates(settings, base, list(inventory.scans), ages, contrast=contrast)
    if len(images) < 2:
        scans = [replace(scan, other_anatomical=None) for scan in scans]
    regions, name = _regions(settings, base, templates)
    if settings.surfaces is not None:
        scans = [_with_surfaces(scan, settings.surfaces, inventory.root) for scan in scans]
        if regions is None:
            regions = _first_regions(scans)
    if regions is not None and regions.atlas is not None:  # reported once for all scans
        most = settings.assembly.max_misplaced if isinstance(settings, ConnectomesSettings) else MAX_MISPLACED
        for file in sorted({template.labels for template in templates.values()}):
            check_places(read_label_image(file), regions.atlas, max_misplaced=most)
    hashes = {file: file_hash(base / file) for file in template_files(settings.template) if (base / file).is_file()}
    plan = Plan(
        settings, regions, name, templates, ages, out, response=response, base=base, own_templates=hashes
    )  # fmt: skip
    require_hooks(settings, base)
    return plan, [_fetched(_with_parcellation(scan, plan, inventory.root), plan) for scan in scans]


def _regions(
    settings: AnyScanSettings, base: Path, templates: dict[str, ChosenTemplate]
) -> tuple[RegionTable | None, str]:
    """Rows of every connectome and the name for files, from a table, an atlas, or the templates' labels."""
    if settings.labels is not None:
        table = regions_of_table(read_labels(base / settings.labels), file=settings.labels)
        return table, _letters(settings.atlas or _name_of(settings.labels))
    if settings.atlas is not None:
        return regions_of_atlas(load_atlas(settings.atlas)), _letters(settings.atlas)
    tables = sorted({chosen.table for chosen in templates.values() if chosen.table is not None})
    if len(tables) > 1:
        raise UsageError(
            "the templates of these ages have different labels",
            expected="labels: a table, or atlas: NAME, and label images that follow it",
            got=", ".join(path.name for path in tables),
        )
    if tables and isinstance(settings.template, TemplatesByAge):
        return regions_of_table(read_labels(tables[0]), file=str(tables[0])), _letters(settings.template.labels or "")
    return None, "labels"


def _name_of(labels: str) -> str:
    """Name of a label table: its `atlas-` entity, else its file name."""
    found = re.search(r"atlas-([a-zA-Z0-9+]+)", Path(labels).name)
    return found.group(1) if found else Path(labels).name.split(".")[0]


def _letters(name: str) -> str:
    """A name as a valid value of an entity, without the key."""
    return "".join(letter for letter in re.sub(r"(atlas|desc|seg)-", "", name) if letter.isalnum()) or "labels"


def _fetched(scan: Scan, plan: Plan[AnyScanSettings]) -> Scan:
    """The scan, with problems for files whose content is not fetched and for missing inputs of hooks."""
    absent = (unfetched(file, scan.name) for file in plan.inputs_of(scan).values())
    return replace(scan, problems=(*scan.problems, *filter(None, absent), *hook_problems(scan, plan)))


def _with_parcellation(scan: Scan, plan: Plan[AnyScanSettings], root: Path) -> Scan:
    """The scan with its parcellation, or with a problem if there is none."""
    settings = plan.settings
    if settings.surfaces is not None:
        return scan
    if settings.parcellation is not None:
        file = root / settings.parcellation.format(subject=scan.subject, session=scan.session or "")
        if file.is_file():
            return replace(scan, parcellation=file)
        empty = scan.session is None and "{session}" in settings.parcellation
        remedy = "The scan has no session, so that {session} is empty: move it into a session." if empty else None
        problem = Problem("the parcellation is missing", expected=str(file), subject=scan.name, remedy=remedy)
    elif _from_hook(settings) and scan.parcellation is None and scan.anatomical is not None:
        return replace(scan, parcellation_in="hook")
    elif settings.template is not None and scan.anatomical is None and scan.parcellation is None:
        problem = Problem("there is no T2w or T1w image to register the template with", subject=scan.name)
    elif scan.parcellation is not None or settings.template is not None:
        return scan
    elif len(scan.labels_in_anat) == 1 and scan.anatomical is not None:
        return replace(scan, parcellation=scan.labels_in_anat[0], parcellation_in="anat")
    elif scan.labels_in_anat and scan.anatomical is not None:
        got = ", ".join(file.name for file in scan.labels_in_anat)
        problem = Problem("more than one parcellation", got=got, subject=scan.name, remedy=_SELECT)
    else:
        remedy = "Give `parcellation` or `template` in the configuration, or put a _dseg into the folder of the data."
        problem = Problem(
            "there is no parcellation", subject=scan.name, file=scan.dwi or scan.anatomical, remedy=remedy
        )
    return replace(scan, problems=(*scan.problems, problem))


def _with_surfaces(scan: Scan, settings: SurfaceFiles, root: Path) -> Scan:
    files = surface_files(settings, root, scan)
    problems = (*scan.problems, *surface_problems(files, scan))
    return replace(scan, surfaces=files, parcellation=None, parcellation_in="surfaces", problems=problems)


def _first_regions(scans: list[Scan]) -> RegionTable | None:
    """Rows from the first scan with readable label tables; scans with unreadable ones fail separately."""
    for scan in scans:
        if not scan.problems:
            with suppress(ConnectomeTLError):
                return rows_of(regions_of_surfaces(scan.surfaces, subject=scan.name))
    return None


def _from_hook(settings: AnyScanSettings) -> bool:
    """Whether labels are from a user-supplied program, without a template."""
    hook = settings.hooks.tissues
    return hook is not None and bool(hook.outputs.get("labels")) and settings.template is None
