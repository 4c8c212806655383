"""Records of model bundles and of external validations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectome_tl.settings.base import Record
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.results import Noun, VerdictWord
from connectome_tl.settings.records.scores import Number, Score
from connectome_tl.settings.records.statistics import CalibrationCurve, DecisionCurve
from connectome_tl.tasks import Task

RESEARCH_ONLY = "research only, not for care"
SMALLEST_COUNT = 10  # people; fewer are written as "< 10", and no number is released that is made from fewer

FitKind = Literal["mean", "refit"]
Count = str  # "33", "< 10", or "> 30" where the exact number would give away that fewer than ten are left


def count_text(n: int, of: int | None = None) -> Count:
    """A number of people as a bundle may say it.

    Args:
        of: a total that is said beside it: the rest of it must not be a count under ten either.
    """
    if n < SMALLEST_COUNT:
        return f"< {SMALLEST_COUNT}"
    return f"> {of - SMALLEST_COUNT}" if of is not None and 0 < of - n < SMALLEST_COUNT else str(n)


class FileClaim(Record):
    """What the manifest says of one file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Record):
    """All files of a bundle. The hash of the manifest is the hash of the bundle."""

    format: Literal["connectome-tl bundle"]
    format_version: Literal[1]
    files: dict[str, FileClaim]


class Span(Record):
    """Lowest and highest value, rounded outwards so that no single value is given away."""

    low: Number
    high: Number


class CovariateInput(Record):
    """A covariate that the model needs, or that its limits speak of.

    `needed`: a cohort without the column cannot be predicted. `span`: of a numeric one in training; `levels`: of a
    categorical one.
    """

    column: str
    type: Literal["numeric", "categorical"]
    unit: str = ""
    needed: bool = True
    span: Span | None = None
    levels: tuple[str, ...] = ()


class ImageLimits(Record):
    """What images the model was trained on: voxel edges and field of view (mm) as the files have them, volume of the
    head (ml), and quantiles of its grey levels as multiples of their mean. `all_have_one`: no subject lacked one."""

    voxel: Span
    extent: Span
    head_ml: Span
    grey_levels: tuple[Span, ...]
    all_have_one: bool = True


class Limits(Record):
    """On what subjects the model was trained and tested: the limits of its use.

    `age` is in `age_unit` from `age_reference`; `density` and `mean_weight` (one per measure) are of the edges as the
    model takes them; `most_missing` is the largest number of regions that a training subject lacked. `sites` has
    names only where the makers allowed it.
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
    """How a volume becomes the grid that the fits see; `contrast` is empty where the study did not say it."""

    grid: ImageSettings
    contrast: str = ""


class Inputs(Record):
    """What a subject must have: regions in order, measures and their transforms, regional measures, modalities,
    volumes."""

    regions: tuple[str, ...]
    atlas: str
    atlas_sha256: str = ""
    measures: tuple[str, ...]
    transforms: tuple[str, ...]
    region_features: tuple[str, ...] = ()
    modalities: tuple[str, ...]
    image: ImageInput | None = None


class ExpectedScore(Record):
    """A cross-validated score of the study, to two decimals, with the interval for new cohorts of this size."""

    metric: str
    value: Number
    low: Number
    high: Number


class Scaling(Record):
    """Recalibrated risk = sigmoid(intercept + slope * logit(risk)), from the out-of-fold risks of the study."""

    intercept: Number
    slope: Number


class BundledTask(Record):
    """What the bundle knows of one outcome.

    `n` and `n_positive` are counts of subjects with the outcome. `against_clinical` is the verdict of the paired
    difference to the model of the clinical covariates alone, or "not compared". `held_from` has, by level, the
    probability from which a level is in the conformal set (0: it is always in it); `half_width` is that of the
    conformal interval of a value, None where the subjects were too few. `spread` is the standard deviation of a
    subject's predictions over repeats (of the logit for a risk), for the interval where a bundle holds one fit.
    """

    task: Task
    n: Count
    n_positive: Count = ""
    expected: tuple[ExpectedScore, ...]
    against_clinical: VerdictWord | Literal["not compared"]
    difference: ExpectedScore | None = None
    scaling: Scaling | None = None
    level: Number = 0.9
    held_from: tuple[Number, ...] = ()
    half_width: float | None = None
    spread: float | None = None


class BundleFacts(Record):
    """Everything of a bundle that is no weight.

    `n_train` is the smallest number of subjects that one of the `n_fits` fits learned from. `linear_core` says that
    radial kernels, which hold training rows, were left out, and everything was cross-validated again without them.
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


class SimulatedGrid(Record):
    """Numbers of a simulated volume, as `imaging.grids.Gridded` has them; its voxels lie beside them as a tensor."""

    head_ml: Number
    tissue_ml: tuple[Number, Number, Number]
    quantiles: tuple[Number, ...]


class SelfTestRow(Record):
    """The covariates of one simulated subject; its matrices and its volume lie beside them as tensors."""

    covariates: dict[str, float | str | None]
    age: Number = float("nan")
    volume: SimulatedGrid | None = None


class SelfTest(Record):
    """Simulated subjects and what the bundle predicts of them, (n_rows, n_columns) row by row."""

    simulated: Literal[True] = True
    rows: tuple[SelfTestRow, ...] = Field(min_length=1, max_length=64)
    predictions: tuple[tuple[Number, ...], ...]


class ShiftRow(Record):
    """How a new cohort lies against one limit; `outside` is a count of subjects."""

    what: str
    limit: str
    here: str
    outside: Count


class ValidatedTask(Record):
    """What the external validation found of one outcome; `recalibrated` are the scores after the intercept alone
    was moved by `shift` (recalibration in the large), on the same subjects."""

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
    """Everything the page of an external validation shows; it stays with those who validated."""

    title: str
    cohort: str
    bundle: str
    n_subjects: int
    noun: Noun = "subjects"
    tasks: tuple[ValidatedTask, ...]
    shifts: tuple[ShiftRow, ...]
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
