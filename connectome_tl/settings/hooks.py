"""Settings of user-supplied programs for distortion correction, brain extraction and tissues."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.placeholders import placeholders, require_known

Word = str
Corrected = Literal["susceptibility", "eddy", "motion"]


class Hook(Settings):
    """One command, or several that run in sequence, in an empty folder and without a shell.

    `{name}` in a word is replaced by the path (or value) of that name; `{{` is a literal brace. Commands write to their
    working folder. `outputs` names the files that are taken from there.
    """

    names: ClassVar[tuple[str, ...]] = ()
    common: ClassVar[tuple[str, ...]] = ("out", "n_threads", "config")

    command: tuple[tuple[Word, ...], ...] = Field(
        min_length=1, description="list of words, or list of such lists, which run in this order"
    )
    outputs: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict, description="files that the commands leave in the folder they run in, by name"
    )
    version: tuple[Word, ...] = Field(
        default=(), description="command that prints the version; its first line goes into the record"
    )

    @field_validator("command", mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        """One command is a list of one."""
        return [value] if isinstance(value, (list, tuple)) and value and isinstance(value[0], str) else value

    @model_validator(mode="after")
    def _words_are_whole(self) -> Hook:
        if not all(self.command):
            raise ValueError("an empty command")
        require_known((word for command in self.command for word in command), (*self.names, *self.common))
        strange = sorted(set(self.outputs) - set(self.results))
        if strange:
            raise ValueError(f"outputs are some of {', '.join(self.results)}; not {strange[0]}")
        names = [name for given in self.outputs.values() for name in ((given,) if isinstance(given, str) else given)]
        outside = [name for name in names if not name or name.startswith("/") or ".." in name.split("/")]
        if outside:
            raise ValueError(f"outputs must be in the folder that the command runs in; not {outside[0]!r}")
        return self

    @property
    def used(self) -> set[str]:
        """Names of the placeholders in the words."""
        return placeholders(word for command in self.command for word in command)

    @property
    def results(self) -> dict[str, str]:
        """Outputs, with the default file of each."""
        return {}

    def files_of(self, result: str) -> tuple[str, ...]:
        """Files of one output, relative to the folder."""
        given = self.outputs.get(result, self.results[result])
        return (given,) if isinstance(given, str) else given


class DistortionHook(Hook):
    """Correction of diffusion data: FSL's topup and eddy, or any other.

    `{dwi}`, `{bval}`, `{bvec}`, `{mask}`, `{json}` are the data after denoising; `{opposite}` is the image of
    unweighted volumes with opposite phase encoding. `{b0s}` has the unweighted volumes of both directions, `{acqp}` one
    row for each of them, and `{index}` the row of each volume, in the format of topup and eddy.
    """

    names: ClassVar[tuple[str, ...]] = (
        "dwi", "bval", "bvec", "mask", "json", "opposite", "b0s", "acqp", "index",
    )  # fmt: skip
    corrects: tuple[Corrected, ...] = Field(
        default=("susceptibility", "eddy"),
        min_length=1,
        description="corrections of the command; with motion, volumes are not aligned again and b-vectors are required",
    )

    @property
    def results(self) -> dict[str, str]:
        return {"dwi": "out.nii.gz", "bvec": "out.bvec", "mask": ""}


class BrainHook(Hook):
    """Brain extraction for scans without a mask: SynthStrip, HD-BET or any other. `{out}` is the mask."""

    names: ClassVar[tuple[str, ...]] = ("image",)
    of: tuple[Literal["anatomical", "diffusion"], ...] = Field(
        default=("anatomical", "diffusion"), min_length=1, description="images for which the brain is needed"
    )

    @property
    def results(self) -> dict[str, str]:
        return {"mask": "out.nii.gz"}


class TissueHook(Hook):
    """Tissue segmentation for scans without maps: Draw-EM, MCRIBS, FAST or any other.

    The result is a 5TT image, Draw-EM's nine labels, or maps of white matter, grey matter and fluid, in this order; and
    optionally a label image of regions (`labels`). `{age}` is the age at scan in the unit of `age`.
    """

    names: ClassVar[tuple[str, ...]] = ("image", "mask", "contrast", "age")

    @property
    def results(self) -> dict[str, str]:
        return {"tissues": "out.nii.gz", "labels": ""}


class AnatomyHooks(Settings):
    """User-supplied programs for anatomical images, used if the folder has no such result."""

    brain: BrainHook | None = None
    tissues: TissueHook | None = None


class DiffusionHooks(AnatomyHooks):
    """User-supplied programs for anatomical and diffusion data."""

    distortion: DistortionHook | None = None
