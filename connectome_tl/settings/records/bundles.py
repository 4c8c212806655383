"""Records of model bundles and of external validations."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from connectome_tl.settings.base import Record
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.results import Noun, VerdictWord
from connectome_tl.settings.records.scores import Number, Score
from connectome_tl.settings.records.statistics import CalibrationCurve, DecisionCurve
from connectome_tl.tasks import Task

RESEARCH_ONLY = "research only, not for care"
SMALLEST_COUNT = 10  # people; smaller counts are written as "< 10", and no statistic of fewer people is released

_STEEPEST = 1e6  # largest coefficient of a recalibration; beyond it the risks are 0 and 1

FitKind = Literal["mean", "refit"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = str  # "33", "< 10", or "> 30" if the exact number would reveal a remainder below ten


def count_text(n: int, of: int | None = None) -> Count:
    """A number of people as text that a bundle may contain.

    Args:
        of: a total that is also published; the remainder must not be a count under ten either.
    """
    if n < SMALLEST_COUNT:
        return f"< {SMALLEST_COUNT}"
    return f"> {of - SMALLEST_COUNT}" if of is not None and 0 < of - n < SMALLEST_COUNT else str(n)


class FileClaim(Record):
    """Entry of the manifest for one file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Record):
    """All files of a bundle. The hash of the manifest is the hash of the bundle."""

    format: Literal["connectome-tl bundle"]
    format_version: Literal[1]
    files: dict[str, FileClaim]


class Span(Record):
    """Lowest and highest value, rounded outwards so that no individual value is disclosed."""

    low: Number
    high: Number

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("the lowest value is above the highest")
        return self


class CovariateInput(Record):
    """A covariate of the model or of its limits.

    `needed`: whether the column is required. `span`: training range of a numeric covariate; `levels`: levels of a
    categorical one.
    """

    column: str
    type: Literal["numeric", "categorical"]
    unit: str = ""
    needed: bool = True
    span: Span | None = None
    levels: tuple[str, ...] = ()


class ImageLimits(Record):
    """Properties of the training images: voxel edges and field of view (mm) of the files, volume of the head (ml), and
    quantiles of its intensities above the background. `all_have_one`: whether every subject had an image.
    `stripped`: how many of the images were skull-stripped, unknown in bundles of older versions."""

    voxel: Span
    extent: Span
    head_ml: Span
    grey_levels: tuple[Span, ...]
    all_have_one: bool = True
    stripped: Literal["all", "some", "none", "unknown"] = "unknown"


class Limits(Record):
    """Properties of the subjects that the model was trained and tested on, as limits of its use.

    `age` is in `age_unit` with origin `age_reference`; `density` and `mean_weight` (one per measure) are those of the
    transformed edges; `most_missing` is the largest number of missing regions of a training subject. `sites` has names
    only if the authors allowed it.
    """

    age: Span | None = None
    age_unit: str = ""
    age_reference: str = "birth"
    n_sites: int = 0
    sites: tuple[str, ...] = ()
    density: Span | None = None
    mean_weight: tuple[Span, ...] = ()
    most_missing: int = 0
    covariates: tuple[CovariateInput, ...] = ()
    images: ImageLimits | None = None


class ImageInput(Record):
    """Conversion of a volume to the grid of the fits; `contrast` is empty if the study did not state it."""

    grid: ImageSettings
    contrast: str = ""


class Inputs(Record):
    """Required inputs of a subject: regions in order, measures and their transforms, regional measures, modalities,
    volumes."""

    regions: tuple[str, ...]
    atlas: str
    atlas_sha256: str = ""
    measures: tuple[str, ...]
    transforms: tuple[str, ...]
    region_features: tuple[str, ...] = ()
    modalities: tuple[str, ...]
    image: ImageInput | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.regions)) != len(self.regions) or len(self.transforms) not in (
            0,  # cohorts made in Python
            len(self.measures),
        ):
            raise ValueError("regions occur twice, or measures and transforms differ in number")
        return self


class ExpectedScore(Record):
    """A cross-validated score of the study, to two decimals, with the interval for new cohorts of this size."""

    metric: str
    value: Number
    low: Number
    high: Number

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.metric not in METRICS or self.low > self.high:
            raise ValueError("an unknown metric, or an interval that ends before it begins")
        return self


class Scaling(Record):
    """Recalibrated risk = sigmoid(intercept + slope * logit(risk)), from the out-of-fold risks of the study."""

    intercept: float = Field(ge=-_STEEPEST, le=_STEEPEST)
    slope: float = Field(ge=-_STEEPEST, le=_STEEPEST)


class BundledTask(Record):
    """Properties and scores of one outcome.

    `n` and `n_positive` are counts of subjects with the outcome. `against_clinical` is the verdict of the paired
    difference to the model of the clinical covariates alone, or "not compared". `held_from` is, by level, the smallest
    probability at which a level is in the conformal set (0: always); `half_width` is the half-width of the conformal
    interval of a regression, None with too few subjects. `spread` is the standard deviation of a subject's predictions
    over repeats (of the logit for a risk), used for the interval if a bundle contains one fit.
    """

    task: Task
    n: Count
    n_positive: Count = ""
    expected: tuple[ExpectedScore, ...]
    against_clinical: VerdictWord | Literal["not compared"]
    difference: ExpectedScore | None = None
    scaling: Scaling | None = None
    level: float = Field(default=0.9, gt=0, lt=1)
    held_from: tuple[Share, ...] = ()
    half_width: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    spread: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _of_each_level(self) -> Self:
        if self.held_from and len(self.held_from) != self.task.n_levels:
            raise ValueError("a conformal set needs a limit for each level")
        return self


class NeededExtension(Record):
    """An extension that defines a part of the model (`encoder strength`): its package, the module of its entry point,
    and its version, empty if no installed package names the module."""

    part: str = Field(pattern=r"^[\w -]{1,100}$")
    module: str = Field(pattern=r"^[\w.]{1,100}$")
    package: str = Field(default="", pattern=r"^[\w.-]{0,100}$")
    version: str = Field(default="", pattern=r"^[\w.+!-]{0,100}$")

    @property
    def words(self) -> str:
        """Package and version, or the module."""
        return f"{self.package} {self.version}" if self.package else self.module


class BundleFacts(Record):
    """All contents of a bundle except weights.

    `n_train` is the smallest number of training subjects of the `n_fits` fits. `linear_core` states that radial
    kernels, which contain training rows, were removed, and cross-validation was repeated without them.
    """

    format_version: Literal[1]
    title: str
    model: str
    model_label: str
    fit: FitKind
    n_fits: int
    n_without_network: int = 0
    linear_core: bool = False
    n_subjects: Count
    n_train: int = Field(ge=SMALLEST_COUNT)
    noun: Noun = "subjects"
    simulated: bool = False
    exploratory: bool = False
    transductive: bool = False
    inputs: Inputs
    limits: Limits
    tasks: tuple[BundledTask, ...] = Field(min_length=1)
    authors: str = ""
    licence: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    extensions: tuple[NeededExtension, ...] = ()


class SimulatedGrid(Record):
    """Numbers of a simulated volume, as in `imaging.volumes.grids.Gridded`; its voxels are stored as a tensor."""

    head_ml: Number
    tissue_ml: tuple[Number, Number, Number]
    quantiles: tuple[Number, ...]


class SelfTestRow(Record):
    """Covariates of one simulated subject; its matrices and its volume are stored as tensors."""

    covariates: dict[str, float | str | None]
    age: Number = float("nan")
    volume: SimulatedGrid | None = None


class SelfTest(Record):
    """Simulated subjects and the bundle's predictions of them, (n_rows, n_columns) row by row."""

    simulated: Literal[True] = True
    rows: tuple[SelfTestRow, ...] = Field(min_length=1, max_length=64)
    predictions: tuple[tuple[Number, ...], ...]


class ShiftRow(Record):
    """A new cohort compared with one limit; `outside` is a count of subjects."""

    what: str
    limit: str
    here: str
    outside: Count


class ValidatedTask(Record):
    """Results of the external validation of one outcome; `recalibrated` are the scores after adding `shift` to the
    intercept (recalibration in the large), on the same subjects."""

    task: Task
    n: Count
    n_positive: Count = ""
    scores: tuple[Score, ...]
    expected: tuple[ExpectedScore, ...]
    shift: float | None = None
    recalibrated: tuple[Score, ...] = ()
    curve: CalibrationCurve | None = None
    decision: DecisionCurve | None = None
    above_chance: bool = False


class ValidationRecord(Record):
    """Contents of the page of an external validation, which is not part of the bundle."""

    title: str
    cohort: str
    bundle: str
    n_subjects: int
    noun: Noun = "subjects"
    tasks: tuple[ValidatedTask, ...]
    shifts: tuple[ShiftRow, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    simulated: bool = False
    exploratory: bool = False
    versions: dict[str, str] = Field(default_factory=dict)


class PassedTask(Record):
    """One outcome in `validation.json`."""

    task: str
    n: Count
    n_positive: Count = ""
    scores: tuple[ExpectedScore, ...]
    above_chance: bool


class Validation(Record):
    """`validation.json`: what goes back into the bundle. `bundle` is the hash of the bundle that was validated,
    `content` that of everything else in the file."""

    format: Literal["connectome-tl validation"]
    bundle: str = Field(pattern=r"^[0-9a-f]{64}$")
    n_subjects: Count
    tasks: tuple[PassedTask, ...]
    shifts: tuple[ShiftRow, ...]
    simulated: bool = False
    versions: dict[str, str] = Field(default_factory=dict)
    content: str = ""
