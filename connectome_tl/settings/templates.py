"""Settings of templates and their label images, for all scans or by age."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.placeholders import require_known

Contrast = Literal["T1w", "T2w"]


class TemplateFiles(Settings):
    """A template and its label image. Paths are relative to the configuration file."""

    image: str
    labels: str
    mask: str | None = None
    contrast: Contrast | None = Field(default=None, description="of the image; default: as its name ends")
    ages: tuple[float, float] | None = Field(
        default=None, description="[from, to] in the unit of `age`; scans outside get a warning"
    )

    @field_validator("ages")
    @classmethod
    def _runs_forward(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("ages are [from, to], from the younger to the older")
        return value


class TemplateOfAges(TemplateFiles):
    """A template for a range of ages: `[from, to]` in the unit of `age`, the first included, the last not."""

    ages: tuple[float, float]


class TemplatesByAge(Settings):
    """Templates by age: each scan uses that of its age, from TemplateFlow or from user files.

    TemplateFlow templates are read from its local cache and never downloaded (see `connectome-tl fetch template`).
    `labels` selects the label image: entities of the template's own dseg (`desc-structures` of dhcpVol,
    `atlas-Schaefer2018_desc-400Parcels7Networks` of MNI152NLin2009cAsym), or a user file, relative to the
    configuration, with `{template}` and `{cohort}` in its name.
    """

    by_age: Annotated[
        Annotated[Literal["templateflow"], Tag("word")] | Annotated[tuple[TemplateOfAges, ...], Tag("list")],
        Discriminator(lambda value: "word" if isinstance(value, str) else "list"),
        Field(min_length=1, description="templateflow, or a list of {ages: [from, to], image, labels, mask}"),
    ]
    labels: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> TemplatesByAge:
        if self.by_age == "templateflow":
            if self.labels is None:
                raise ValueError("give labels, for example labels: desc-structures (dhcpVol's 87)")
            require_known([self.labels], ("template", "cohort"))
            return self
        if self.labels is not None:
            raise ValueError("labels is for TemplateFlow; your own templates have their labels in the list")
        ranges = sorted(template.ages for template in self.by_age if isinstance(template, TemplateOfAges))
        for (_, end), (start, _) in pairwise(ranges):
            if start < end:
                raise ValueError(f"ages overlap: which template is for {start:g}?")
        return self


def _kind_of_template(value: Any) -> str:
    by_age = "by_age" in value if isinstance(value, dict) else isinstance(value, TemplatesByAge)
    return "by_age" if by_age else "files"


AnyTemplate = Annotated[
    Annotated[TemplateFiles, Tag("files")] | Annotated[TemplatesByAge, Tag("by_age")], Discriminator(_kind_of_template)
]
