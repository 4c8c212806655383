"""Which template fits an age. Ages carry their unit; nothing is fetched unless the user asks for it.

Cohorts as TemplateFlow's descriptions have them (ages there are postmenstrual weeks for dHCP, months after birth for
MNIInfant); https://www.templateflow.org. Licences are those of each template; the images are the user's to get.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from connectome_tl.errors import DataError, MissingInputError, UsageError

UNITS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}  # in days
REFERENCES = ("birth", "postmenstrual")
_TERM_WEEKS = 40.0
_DHCP_WEEKS = (36, 44)
_MNI_MONTHS = (0, 2, 5, 8, 11, 14, 17, 21, 27, 33, 44, 60)  # cohort k spans from the k-th to the next
_ADULT_YEARS = 18.5
_OLDEST_WEEKS = 120 * 52.2


@dataclass(frozen=True)
class Template:
    """A template of TemplateFlow: its name, its cohort (None where it has none) and the contrast to register with."""

    name: str
    cohort: str | None
    contrast: Literal["T1w", "T2w"]


def template_for_age(age: float, unit: str, reference: str) -> Template:
    """The template for an age at scan; `unit` is one of UNITS, `reference` one of REFERENCES.

    Postmenstrual ages of 36 to 44 weeks (rounded) take dHCP's weekly volumes and T2w, whose contrast newborns have;
    after that, up to 60 months from term, MNIInfant's cohorts (T2w below 3 months, T1w then); from 60 months to 18.5
    years MNIPediatricAsym's cohort 1, the one of all ages; beyond, MNI152NLin2009cAsym. An age from birth is taken as
    that of a term-born child.

    Raises:
        DataError: below 35.5 weeks postmenstrual, where there is none, or not an age.
    """
    days = age * UNITS[unit] + (_TERM_WEEKS * 7 if reference == "birth" else 0.0)
    weeks, months = days / 7, (days - _TERM_WEEKS * 7) / UNITS["months"]
    if not _DHCP_WEEKS[0] - 0.5 <= weeks < _OLDEST_WEEKS:
        raise DataError(
            "there is no template for this age",
            expected="35.5 weeks postmenstrual or more",
            got=f"{age:g} {unit} ({weeks:.1f} weeks postmenstrual)",
            remedy="Give template: {image, labels} of your own, or check the unit of the age.",
        )
    if weeks < _DHCP_WEEKS[1] + 0.5:
        return Template("dhcpVol", str(round(weeks)), "T2w")
    if months < _MNI_MONTHS[-1]:
        cohort = sum(months >= start for start in _MNI_MONTHS)
        return Template("MNIInfant", str(cohort), "T2w" if months < 3 else "T1w")
    if months < 12 * _ADULT_YEARS:
        return Template("MNIPediatricAsym", "1", "T1w")
    return Template("MNI152NLin2009cAsym", None, "T1w")


def fetch_template(template: Template) -> Path:
    """The template's image, by TemplateFlow's own client, from its cache or the network.

    Raises:
        MissingInputError: the client is not installed. UsageError: TemplateFlow has no such image.
    """
    try:
        from templateflow import api
    except ImportError as error:
        raise MissingInputError(
            "fetching a template needs TemplateFlow's client",
            remedy="pip install templateflow, or give template: {image, labels}.",
        ) from error
    found = api.get(template.name, cohort=template.cohort, suffix=template.contrast, desc=None, extension="nii.gz")
    paths = [Path(path) for path in (found if isinstance(found, list) else [found])]
    if not paths:
        raise UsageError("TemplateFlow has no such image", got=f"{template.name}, cohort {template.cohort}")
    return sorted(paths)[0]  # res-1 is the finest
