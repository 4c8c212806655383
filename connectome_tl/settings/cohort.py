"""`cohort.yaml`: location of a cohort's tables and matrices, and the meaning of columns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.plurals import counted
from connectome_tl.settings.base import Settings

# Re-exported for other packages.
from connectome_tl.settings.columns import AgeColumn as AgeColumn
from connectome_tl.settings.columns import AgeUnit as AgeUnit
from connectome_tl.settings.columns import Covariate as Covariate
from connectome_tl.settings.columns import OneScan as OneScan
from connectome_tl.settings.columns import Outcome as Outcome
from connectome_tl.settings.columns import StatusRule as StatusRule
from connectome_tl.settings.columns import Word
from connectome_tl.settings.scans import ScanFolder as ScanFolder

Transform = Literal["none", "log1p", "fisher_z"]


class ConnectomeFiles(Settings):
    """Connectome files: one file per subject (`files`, with `{id}` in the name), one stacked array with a table of
    its rows, or a `network` of regional measures. With `similarity`, edges are similarities of the regional measures
    (`region_features`) within each subject, so that no diffusion MRI is needed.

    Rows of a matrix are matched by name. If the file has no names, they are taken from `labels` (a table in row order)
    or from `atlas`; `order` then states whether unnamed rows follow the atlas table (as printed by `atlas show`) or the
    label numbers of the image. With `labels: named`, every file has to name its rows. With `labels: numbered`, rows are
    called 1, 2, ... in the order of the files, which cannot be verified. `layout` states how a triangle is stored, row
    by row: `upper`, or `lower` (nilearn's `vectorize`), with or without the diagonal. Several measures may each have an
    array (`key: [full, partial]`) and a transform (`transform: [log1p, none]`). With `zero_rows: missing`, a region
    without any edge is a missing region. With `unmatched: drop`, rows without a matrix and matrices without a row are
    excluded and counted instead of refused; with `unmatched: missing`, rows without a matrix are subjects with a
    missing connectome. A value in the column `reason` (for example, quality control) also makes a connectome missing,
    even if there is a matrix.
    """

    files: str | None = None
    stack: str | None = None
    network: Literal["similarity"] | None = None
    key: str | tuple[str, ...] | None = Field(
        default=None, description="name of the array inside an .npz, .mat or .h5; several: one per measure"
    )
    rows: str | None = Field(default=None, description="table whose id column assigns the rows to subjects")
    layout: Literal["full", "upper", "lower"] = "full"
    format: str = "auto"
    atlas: str | None = None
    labels: str | None = Field(
        default=None,
        description="table of the regions of the rows, in their order; named: by the files; numbered: without names",
    )
    regions: Literal["all", "cerebrum"] | tuple[str, ...] = "all"
    measure: str | tuple[str, ...] = "weight"
    transform: Transform | tuple[Transform, ...] = Field(
        default="none", description="none, log1p or fisher_z; several: one per measure"
    )
    diagonal: Literal["zero", "keep"] = "zero"
    order: Literal["table", "label"] | None = None
    zero_rows: Literal["keep", "missing"] = "keep"
    unmatched: Literal["refuse", "drop", "missing"] = "refuse"
    reason: str | None = Field(
        default=None, description="column with the reason for a missing or unusable matrix; otherwise empty"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ConnectomeFiles:
        if (self.unmatched == "missing" or self.reason is not None) and self.files is None:
            raise ValueError("unmatched: missing and reason go with files, one matrix per subject")
        if sum(given is not None for given in (self.files, self.stack, self.network)) != 1:
            raise ValueError("give files (one matrix per subject), stack (all in one array) or network, one of them")
        if self.files is not None and "{id}" not in self.files:
            raise ValueError("files needs {id} in place of the subject's id, for example matrices/{id}.csv")
        own = {"key", "rows", "layout", "format", "measure", "order", "zero_rows"} & self.model_fields_set
        if self.network is not None and own:
            raise ValueError(f"{', '.join(sorted(own))}: of matrix files; a network is made from region_features")
        if self.atlas is None and self.labels is None and self.network is None:
            raise ValueError("rows are matched by name: give atlas (see `connectome-tl atlas list`) or labels")
        if self.regions == "cerebrum" and self.atlas is None:
            raise ValueError("regions: cerebrum needs an atlas, which defines the lobes")
        for name, given in (("key", self.key), ("transform", self.transform)):
            if isinstance(given, tuple) and len(given) != len(self.measures):
                raise ValueError(
                    f"{name} has {counted(len(given), 'entry')} for {counted(len(self.measures), 'measure')}: "
                    f"give one for each"
                )
        if self.labels in (NAMED, NUMBERED) and self.atlas is not None:
            meaning = "no names" if self.labels == NUMBERED else "the names of the files alone"
            raise ValueError(f"labels: {self.labels} means {meaning}, and atlas defines names: use one of them")
        if "fisher_z" in self.transforms and self.diagonal == "keep":
            raise ValueError("Fisher's z of a diagonal of ones is infinite: use diagonal: zero")
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the edge measures, in order."""
        if self.network is not None:
            return (f"morphometric_{self.network}",)
        return (self.measure,) if isinstance(self.measure, str) else self.measure

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transform of each measure."""
        return self.transform if isinstance(self.transform, tuple) else (self.transform,) * len(self.measures)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays in the files, one per measure; empty if not given."""
        return () if self.key is None else (self.key,) if isinstance(self.key, str) else self.key

    @property
    def label_table(self) -> str | None:
        """File of the label table, if there is one."""
        return None if self.labels in (NAMED, NUMBERED) else self.labels


NAMED, NUMBERED = "named", "numbered"  # labels of rows that every file names; of rows without names


class TriangleSettings(Settings):
    """Layout of a file that its content does not determine (for `convert`); see `ConnectomeFiles`."""

    layout: Literal["full", "upper", "lower"] | None = None
    order: Literal["table", "label"] | None = None


class RegionFeatureFiles(Settings):
    """Regional measures (thickness, volume, FA), used as node features and for similarity networks.

    One of: `table`, with one row per subject and one column per measure and region, as written by FreeSurfer's
    `aparcstats2table` (`{name}` in the file name: one table per measure; `{hemi}`: one for lh and one for rh; or a list
    of tables whose columns are combined); `files`, one table per subject with a `name` column and one row per region;
    `stack`, an array (n_subjects, n_regions, n_features) with the rows and regions of the connectomes.
    """

    files: str | None = None
    stack: str | None = None
    table: str | tuple[str, ...] | None = None
    key: str | None = None
    id: str | None = Field(default=None, description="id column of `table`; default: the cohort's, else the first")
    columns: str = Field(default="{name}_{region}", description="pattern of the column names of `table`")
    names: tuple[str, ...]

    @model_validator(mode="after")
    def _one_source(self) -> RegionFeatureFiles:
        if sum(given is not None for given in (self.files, self.stack, self.table)) != 1:
            raise ValueError("give table (one row per subject), files (one table per subject) or stack, one of them")
        if self.files is not None and "{id}" not in self.files:
            raise ValueError("files needs {id} in place of the subject's id")
        if self.columns.count("{region}") != 1 or any("{name}" not in self.columns + one for one in self.tables):
            raise ValueError("columns needs {region}, and {name} unless the table's own name has it: {region}_{name}")
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError("names are those of the features, each once")
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables with one row per subject; one per hemisphere if the name contains `{hemi}`."""
        given = (self.table,) if isinstance(self.table, str) else self.table or ()
        return tuple(dict.fromkeys(one.replace("{hemi}", side) for one in given for side in ("lh", "rh")))


class VolumeFiles(Settings):
    """Images for the voxel pathway, one per subject: `files` with `{id}` in the name, or the `column` of the
    participants table with their paths, relative to `cohort.yaml`. All have one `contrast` (T1w, T2w, ADC, FA ...);
    a file whose name states another is refused. `labels` are label maps of tissues or parcels in the space of the
    images (`{id}` in the name, or a column), for `voxel_contrast`. `missing: allow` permits subjects without an image
    or a label map."""

    files: str | None = None
    column: str | None = None
    labels: str | None = None
    contrast: str = ""
    missing: Literal["refuse", "allow"] = "refuse"

    @model_validator(mode="after")
    def _one_source(self) -> VolumeFiles:
        if (self.files is None) == (self.column is None):
            raise ValueError("give files (with {id} in place of the subject's id) or column, but not both")
        if self.files is not None and "{id}" not in self.files:
            raise ValueError("files needs {id} in place of the subject's id")
        return self

    @property
    def label_column(self) -> str | None:
        """The column with the paths of label maps, if `labels` is no pattern."""
        return None if self.labels is None or "{id}" in self.labels else self.labels


class MoreTable(Settings):
    """A further table, joined by id: sessions, phenotype, upstream quality control.

    `file` is one table for all subjects, or, with `{id}` in the name, a one-row table or JSON file per subject.
    """

    file: str
    id: str | tuple[str, ...] | None = Field(
        default=None, description="its id column or columns; default: those of the participants, or the usual names"
    )
    select: str | None = Field(default=None, description="keeps one of several visits")
    columns: tuple[str, ...] | None = Field(default=None, description="default: all that are new")


class Exclusion(Settings):
    """Subjects to exclude, with a reason, counted in the flow of subjects; `when` has the syntax of `select`.

    `unknown` states whether a subject with a missing value is kept or excluded; without it such a subject is an error.
    """

    when: str
    reason: str = Field(min_length=1)
    unknown: Literal["refuse", "keep", "exclude"] = "refuse"


class CohortSettings(Settings):
    """The whole of `cohort.yaml`. Paths are relative to the file itself.

    `id` may be two columns (`[participant_id, session_id]`): each scan is then a row, called `sub-01_ses-1`, and the
    scans of a child are kept in one fold like a family. A column may be both a covariate and an outcome, but not in the
    same study.
    """

    name: str = "cohort"
    simulated: bool = False
    exploratory: bool = Field(default=False, description="necessary corrections of the scans are missing")
    origin: str = Field(default="", description="how the connectomes were made: a sentence for the report's methods")
    participants: str
    tables: tuple[MoreTable, ...] = ()
    id: str | Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = "participant_id"
    age: AgeColumn | None = None
    gestational_age: AgeColumn | None = None
    site: str | None = None
    family: str | tuple[str, ...] | None = Field(
        default=None, description="twins, siblings, repeated scans: rows that share any of these are kept together"
    )
    largest_family: int = Field(default=10, ge=1, description="rows; a larger one may be a code for no family")
    missing: tuple[Word, ...] = Field(default=(), description="further codes for a missing value, as written")
    decimal: Literal[".", ","] | None = Field(default=None, description="decimal mark, where cells leave it open")
    select: str | None = Field(default=None, description="keep rows where this is true, e.g. `age < 13`")
    exclude: tuple[Exclusion, ...] = Field(default=(), description="left out after `select`, one rule after the other")
    one_scan: OneScan | None = Field(default=None, description="keep one scan of each subject; default: all")
    covariates: tuple[Covariate, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    connectomes: ConnectomeFiles | None = None
    region_features: RegionFeatureFiles | None = None
    volumes: VolumeFiles | None = None
    scans: ScanFolder | None = Field(default=None, description="a BIDS folder that `run` makes the connectomes of")

    @property
    def ids(self) -> tuple[str, ...]:
        """The id column, or columns."""
        return (self.id,) if isinstance(self.id, str) else self.id

    @field_validator("age")
    @classmethod
    def _weeks_have_an_origin(cls, age: AgeColumn | None) -> AgeColumn | None:
        if age is not None and age.unit == "weeks" and "reference" not in age.model_fields_set:
            raise ValueError(
                "weeks from what? Set reference: birth, postmenstrual (from the last menstrual period) or corrected"
            )
        return age

    @model_validator(mode="after")
    def _names_are_unique(self) -> CohortSettings:
        names = [outcome.name for outcome in self.outcomes]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"outcome names must differ: {', '.join(doubled)}")
        if self.one_scan is not None and (isinstance(self.id, str) or self.age is None):
            raise ValueError("one_scan needs id: [subject column, session column] and the age at each scan")
        columns = [covariate.column for covariate in self.covariates]
        doubled = sorted({column for column in columns if columns.count(column) > 1})
        if doubled:
            raise ValueError(f"covariate columns occur twice: {', '.join(doubled)}")
        if self.age is not None and self.age.to not in (None, self.age.reference) and self.gestational_age is None:
            raise ValueError("converting an age to another reference needs gestational_age; give its column")
        if self.scans is not None and (self.connectomes is not None or self.region_features is not None):
            raise ValueError("connectomes and region_features are made from scans: give either these or scans")
        if self.scans is not None and self.volumes is not None:
            raise ValueError("with scans, set the image that is the volume: scans: {volumes: T2w}")
        if self.region_features is not None and self.connectomes is None:
            raise ValueError("region_features go with connectomes, which name the regions (or network: similarity)")
        made = self.connectomes is not None and self.connectomes.network is not None
        if made and (self.region_features is None or self.region_features.stack is not None):
            raise ValueError("a network is made from region_features: give their table, or files")
        return self
