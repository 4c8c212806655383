"""Find the template for an age. Nothing is downloaded unless the user asks for it.

Cohorts follow the descriptions of TemplateFlow (https://www.templateflow.org), with postmenstrual weeks for dHCP and
months after birth for MNIInfant. Each template has its own licence; users obtain the images themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from connectome_tl.errors import DataError, MissingInputError, OutputError, UsageError

UNITS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}  # in days
REFERENCES = ("birth", "postmenstrual", "corrected")
_TERM_WEEKS = 40.0
_DHCP_WEEKS = (36, 44)
_MNI_MONTHS = (0, 2, 5, 8, 11, 14, 17, 21, 27, 33, 44, 60)  # cohort k spans from the k-th to the next
_ADULT_YEARS = 18.5
_OLDEST_WEEKS = 120 * 52.2
_T2W_MONTHS = 3  # from term; newborns' white and grey matter differ more on T2w


@dataclass(frozen=True)
class Template:
    """A template of TemplateFlow: name, cohort (None without cohorts) and contrast for the registration."""

    name: str
    cohort: str | None
    contrast: Literal["T1w", "T2w"]

    def __str__(self) -> str:
        return self.name if self.cohort is None else f"{self.name} cohort {self.cohort}"


def weeks_of(age: float, unit: str, reference: str) -> float:
    """Postmenstrual weeks; ages from birth are treated as those of term-born children, like corrected ages."""
    return age * UNITS[unit] / 7 + (0.0 if reference == "postmenstrual" else _TERM_WEEKS)


def months_of(age: float, unit: str, reference: str) -> float:
    """Months from term, negative before it."""
    return (weeks_of(age, unit, reference) - _TERM_WEEKS) * 7 / UNITS["months"]


def contrast_for_age(months: float) -> Literal["T1w", "T2w"]:
    """T2w up to three months from term, T1w later."""
    return "T2w" if months < _T2W_MONTHS else "T1w"


def template_for_age(age: float, unit: str, reference: str) -> Template:
    """The template for an age at scan; `unit` is one of UNITS, `reference` one of REFERENCES.

    Postmenstrual ages of 36 to 44 weeks (rounded): weekly volumes of dHCP, T2w, which has more contrast in newborns.
    Up to 60 months from term: cohorts of MNIInfant (T2w below 3 months, else T1w). From 60 months to 18.5 years:
    cohort 1 of MNIPediatricAsym, which includes all ages. Above: MNI152NLin2009cAsym.

    Raises:
        DataError: below 35.5 postmenstrual weeks, for which there is no template, or not an age.
    """
    weeks, months = weeks_of(age, unit, reference), months_of(age, unit, reference)
    if not _DHCP_WEEKS[0] - 0.5 <= weeks < _OLDEST_WEEKS:
        raise DataError(
            "there is no template for this age",
            expected="35.5 weeks postmenstrual or more",
            got=f"{age:g} {unit} ({weeks:.1f} weeks postmenstrual)",
            remedy="Give template: {image, labels} of your own, or check the unit of the age.",
        )
    if weeks < _DHCP_WEEKS[1] + 0.5:
        return Template("dhcpVol", str(int(weeks + 0.5)), "T2w")
    if months < _MNI_MONTHS[-1]:
        cohort = sum(months >= start for start in _MNI_MONTHS)
        return Template("MNIInfant", str(cohort), contrast_for_age(months))
    if months < 12 * _ADULT_YEARS:
        return Template("MNIPediatricAsym", "1", "T1w")
    return Template("MNI152NLin2009cAsym", None, "T1w")


@dataclass(frozen=True)
class TemplateImages:
    """Files of one template on one grid; `labels` is None if not requested, `table` if the labels have no names."""

    image: Path
    mask: Path
    labels: Path | None = None
    table: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return (path for path in (self.image, self.mask, self.labels, self.table) if path is not None)


def find_template(template: Template, labels: str | None = None) -> TemplateImages | None:
    """The template at the finest resolution with all files in TemplateFlow's cache, or None.

    Files are found by name, without the client and without downloads. The client creates empty files or broken links
    for files that it has not fetched.

    Args:
        labels: entities of the label image: `desc-structures`, `atlas-Schaefer2018_desc-400Parcels7Networks`.
    """
    from platformdirs import user_cache_dir

    top = Path(os.environ.get("TEMPLATEFLOW_HOME") or user_cache_dir("templateflow")) / f"tpl-{template.name}"
    folder = top if template.cohort is None else top / f"cohort-{template.cohort}"
    wanted = {("", template.contrast): "image", ("desc-brain", "mask"): "mask"}
    named = None if labels is None else ("_".join(sorted(labels.split("_"))), "dseg")
    if named is not None:
        wanted[named] = "labels"
    found: dict[str, dict[str, Path]] = {}
    for path in filter(_is_there, folder.glob("tpl-*.nii.gz")):
        resolution, *own = _named(path)
        if tuple(own) in wanted:
            found.setdefault(resolution, {})[wanted[own[0], own[1]]] = path
    whole = [files for _, files in sorted(found.items()) if len(files) == len(wanted)]  # res-1 is the finest
    tables = [path for place in (folder, top) for path in place.glob("tpl-*.tsv") if _is_there(path)]
    table = next((path for path in tables if _named(path)[1:] == named), None)
    return TemplateImages(**whole[0], table=table) if whole else None


def _named(path: Path) -> tuple[str, str, str]:
    """Resolution, own entities (sorted) and suffix of a file of TemplateFlow's."""
    *pairs, suffix = path.name.split(".")[0].split("_")
    own = "_".join(sorted(pair for pair in pairs if not pair.startswith(("tpl-", "cohort-", "res-"))))
    return next((pair for pair in pairs if pair.startswith("res-")), ""), own, suffix


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def fetch_template(template: Template, labels: str | None = None) -> TemplateImages:
    """Download the template's image, brain mask and labels by TemplateFlow's client to its cache.

    Raises:
        MissingInputError: the client is not installed. UsageError: TemplateFlow has no such image or labels.
        OutputError: no network.
    """
    try:
        from templateflow import api
    except ImportError as error:
        raise MissingInputError(
            "fetching a template needs TemplateFlow's client",
            remedy="pip install connectome-tl[templateflow], or give template: {image, labels}.",
        ) from error
    query = {"cohort": template.cohort, "extension": ".nii.gz"}
    try:
        api.get(template.name, suffix=template.contrast, desc=None, **query)
        api.get(template.name, suffix="mask", desc="brain", **query)
        if labels is not None:
            keys = {"atlas": None, "desc": None, "seg": None} | dict(pair.split("-", 1) for pair in labels.split("_"))
            keys = {"segmentation" if key == "seg" else key: value for key, value in keys.items()}
            api.get(template.name, suffix="dseg", **keys, **query)
            api.get(template.name, suffix="dseg", **keys, extension=".tsv")
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"the template could not be fetched: {error}", remedy="It needs a network; run the same command again."
        ) from error
    found = find_template(template, labels)
    if found is None:
        wanted = f"{template.contrast}, brain mask{'' if labels is None else f', {labels}_dseg'}"
        raise UsageError("TemplateFlow has no such images", expected=wanted, got=str(template))
    return found
