"""Choose the template and the anatomical image of each scan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.register.templates import (
    Template,
    TemplateImages,
    contrast_for_age,
    find_template,
    template_for_age,
)
from connectome_tl.settings.imaging import ScanSettings
from connectome_tl.settings.templates import AnyTemplate, Contrast, TemplateFiles, TemplateOfAges, TemplatesByAge
from connectome_tl.workflows.scans.age import ScanAges


@dataclass(frozen=True)
class ChosenTemplate:
    """A scan's template.

    Attributes:
        contrast: T1w, T2w, or None if neither settings nor the image's name determine it.
        why: reason for the choice, for the sidecar and the page.
        table: names of the labels, if the template provides them.
        ages: range of ages for which it was made, in the unit of the scans' ages; None if not given.
    """

    name: str
    image: Path
    labels: Path
    mask: Path | None
    contrast: str | None
    why: str
    table: Path | None = None
    ages: tuple[float, float] | None = None

    def files(self) -> dict[str, Path]:
        """Its inputs by role."""
        found = {"template_image": self.image, "template_labels": self.labels}
        return found if self.mask is None else found | {"template_mask": self.mask}

    def record(self) -> dict[str, str | None]:
        """For the sidecar."""
        return {"Name": self.name, "Contrast": self.contrast, "Why": self.why}


def contrast_of(image: Path | None) -> str | None:
    """T1w or T2w from the end of an image's name, else None."""
    ending = "" if image is None else image.name.split(".")[0].rsplit("_", 1)[-1]
    return ending if ending in ("T1w", "T2w") else None


def space_of(chosen: ChosenTemplate) -> str:
    """The template's name as an entity's value may be: letters and digits."""
    named = re.search(r"tpl-([a-zA-Z0-9+]+)", chosen.name)
    letters = named.group(1) if named else "".join(letter for letter in chosen.name if letter.isalnum())
    return letters or "template"


def choose_templates(
    settings: ScanSettings, base: Path, scans: list[Scan], ages: ScanAges, *, contrast: Contrast | None = None
) -> tuple[list[Scan], dict[str, ChosenTemplate]]:
    """Scans with the anatomical image to use, and their templates by name.

    Of T2w and T1w, a scan uses the contrast of its template; if it is unknown, T2w up to three months from term (or
    with unknown age) and T1w later. A scan without an age or without a template for its age is a problem.

    Args:
        contrast: contrast for all scans, independent of their templates.

    Raises:
        MissingInputError: files of a template that are not there, or not in TemplateFlow's cache.
    """
    wanted = settings.template
    if not isinstance(wanted, TemplatesByAge):
        chosen = None if wanted is None else _files(wanted, base, "declared for all scans")
        _refuse_absent({} if chosen is None else {chosen.name: chosen})
        shown = contrast or (None if chosen is None else chosen.contrast)
        scans = [_with_contrast(scan, shown or _contrast(scan, ages)) for scan in scans]
        return scans, {} if chosen is None else {scan.name: chosen for scan in scans}
    ready: list[Scan] = []
    found: dict[str, ChosenTemplate] = {}
    absent: dict[str, Problem] = {}
    for scan in scans:
        problem = ages.problems.get(scan.name)
        if problem is None and wanted.by_age == "templateflow":
            given = [contrast] if contrast else map(contrast_of, (scan.anatomical, scan.other_anatomical))
            pictured = {name for name in given if name}
            problem = _of_templateflow(scan, pictured, wanted.labels or "", base, ages, found, absent)
        elif problem is None:
            problem = _of_range(scan, wanted.by_age, base, ages, found)
        of_template = found[scan.name].contrast if scan.name in found else None
        scan = _with_contrast(scan, contrast or of_template or _contrast(scan, ages))
        ready.append(scan if problem is None else replace(scan, problems=(*scan.problems, problem)))
    if absent:
        raise MissingInputError("templates are not in TemplateFlow's cache", problems=absent.values())
    _refuse_absent(found)
    return ready, found


def template_notes(scan: Scan, chosen: ChosenTemplate | None, ages: ScanAges) -> list[str]:
    """Notes on different contrasts of template and image, and on a template of another age."""
    if chosen is None:
        return []
    own, age, notes = contrast_of(scan.anatomical), ages.values.get(scan.name), list[str]()
    if own is not None and chosen.contrast not in (None, own):
        notes.append(
            f"the template is {chosen.contrast} and the image {own}: labels are transferred less accurately than "
            "within one contrast"
        )
    if chosen.ages is not None and age is not None and not chosen.ages[0] <= age < chosen.ages[1]:
        notes.append(f"the template is for {chosen.ages[0]:g} to {chosen.ages[1]:g}, the age is {ages.of(scan.name)}")
    return notes


def template_files(settings: AnyTemplate | None) -> list[str]:
    """Files of templates and labels that the settings name, for all ages."""
    if settings is None:
        return []
    if not isinstance(settings, TemplatesByAge):
        given: tuple[TemplateFiles, ...] = (settings,)
    elif settings.by_age == "templateflow":
        return [settings.labels or ""]  # a file or entities
    else:
        given = tuple(own for own in settings.by_age if isinstance(own, TemplateFiles))
    return [file for own in given for file in (own.image, own.labels, own.mask) if file is not None]


def _files(given: TemplateFiles, base: Path, why: str) -> ChosenTemplate:
    image, mask = base / given.image, None if given.mask is None else base / given.mask
    contrast = given.contrast or contrast_of(image)
    name, labels = image.name.split(".")[0], base / given.labels
    return ChosenTemplate(name, image, labels, mask, contrast, why, ages=given.ages)


def _of_range(
    scan: Scan, ranges: tuple[TemplateOfAges, ...] | str, base: Path, ages: ScanAges, found: dict[str, ChosenTemplate]
) -> Problem | None:
    age = ages.values[scan.name]
    given = [own for own in ranges if isinstance(own, TemplateOfAges)]
    for own in given:
        if own.ages[0] <= age < own.ages[1]:
            why = f"{ages.of(scan.name)}, in {own.ages[0]:g} to {own.ages[1]:g}"
            found[scan.name] = _files(own, base, why)
            return None
    covered = ", ".join(f"{own.ages[0]:g} to {own.ages[1]:g}" for own in given)
    return Problem("there is no template for this age", expected=covered, got=ages.of(scan.name), subject=scan.name)


def _of_templateflow(
    scan: Scan,
    shown: set[str],
    labels: str,
    base: Path,
    ages: ScanAges,
    found: dict[str, ChosenTemplate],
    absent: dict[str, Problem],
) -> Problem | None:
    column = ages.column
    assert column is not None
    age = ages.values[scan.name]
    try:
        template = template_for_age(age, column.unit, column.reference)
    except DataError as error:
        return replace(error.problems[0], subject=scan.name)
    usual = template.contrast
    if shown and usual not in shown:
        template = Template(template.name, template.cohort, "T1w" if usual == "T2w" else "T2w")
    own_file = "{template}" in labels or labels.endswith((".nii", ".nii.gz"))
    images = find_template(template, None if own_file else labels)
    if images is None:
        reckoned = f"--age {age:g} --unit {column.unit} --reference {column.reference}"
        command = f"connectome-tl fetch template {reckoned}" + ("" if own_file else f" --labels {labels}")
        command += "" if template.contrast == usual else f" --contrast {template.contrast}"
        absent.setdefault(
            f"{template} {template.contrast}",
            Problem(
                f"{template} is not in the cache",
                expected=f"{template.contrast}, brain mask" + ("" if own_file else f", {labels}_dseg"),
                subject=scan.name,
                remedy=f"Get it with: {command}",
            ),
        )
        return None
    found[scan.name] = _from_cache(template, images, labels if own_file else None, base, ages.of(scan.name))
    return None


def _from_cache(template: Template, images: TemplateImages, own: str | None, base: Path, why: str) -> ChosenTemplate:
    labels = images.labels
    if own is not None:
        labels = base / own.format(template=template.name, cohort=template.cohort or "")
    assert labels is not None
    return ChosenTemplate(str(template), images.image, labels, images.mask, template.contrast, why, images.table)


def _refuse_absent(chosen: Mapping[str, ChosenTemplate]) -> None:
    files = {path for template in chosen.values() for path in template.files().values() if not path.is_file()}
    if files:
        problems = [Problem("template file not found", file=path) for path in sorted(files)]
        raise MissingInputError("the template is missing", problems=problems)


def _contrast(scan: Scan, ages: ScanAges) -> str | None:
    """The contrast for the scan's age; None if unknown."""
    months = ages.months(scan.name)
    return None if months is None else contrast_for_age(months)


def _with_contrast(scan: Scan, contrast: str | None) -> Scan:
    """The scan with the image of this contrast as its anatomical one, where it has both."""
    if contrast is None or contrast_of(scan.other_anatomical) != contrast:
        return scan
    return replace(scan, anatomical=scan.other_anatomical, other_anatomical=scan.anatomical)
