"""`Cohort`: connectomes, covariates, outcomes and families of all subjects, in one order."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from connectome_tl.atlas import order_of
from connectome_tl.cohort.columns.ids import names_of
from connectome_tl.cohort.coordinates import region_places
from connectome_tl.cohort.tables.records import records_of
from connectome_tl.errors import DataError, InternalError
from connectome_tl.imaging.volumes.cache import image_hash
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.images.embedding import ImageEmbeddings
from connectome_tl.settings.records.results import FlowStep
from connectome_tl.tasks import Task

if TYPE_CHECKING:
    from connectome_tl.cohort.plots import CohortPlots
    from connectome_tl.imaging.volumes.grids import Gridded


@dataclass(frozen=True, eq=False)
class Cohort:
    """Data of all subjects of a cohort; row i of every attribute is subject `ids[i]`.

    Attributes:
        name: name for messages and reports.
        ids: (n_subjects,) unique ids.
        regions: (n_regions,) region names; empty without connectomes.
        atlas: name of the atlas or of the label table.
        measures: (n_measures,) names of the edge measures.
        weights: (n_subjects, n_measures, n_regions, n_regions) float32, transformed (log1p, Fisher z), with the
            diagonal according to the settings.
        node_mask: (n_subjects, n_regions) bool, False if a subject lacks a region.
        region_features: (n_subjects, n_regions, n_features) NaN where unknown; n_features may be 0.
        covariates: index `ids`, one column per covariate; numeric columns float with NaN,
            categorical ones text with NA.
        covariate_specs: type and role of each covariate.
        tasks: outcomes, in the order of the columns of `targets`.
        targets: index `ids`, one column per task, NaN where missing.
        status: index `ids`, one column per task: observed, lost, died, untestable, unknown.
        age: (n_subjects,) in `age_unit`, NaN where unknown.
        site, family: (n_subjects,) text, "" where unknown.
        flow: flow of subjects from the table to this cohort.
        scores: index `ids`, the scores of the targets before any cut-off, one column per outcome column; None if
            unavailable.
        age_reference: "birth" or "postmenstrual".
        volumes: (n_subjects,) image files of the voxel pathway, "" for a subject without an image; empty without
            volumes.
        volume_cache: folder with their grids; "" if grids are computed on each access.
        volume_contrast: contrast of all volumes (T1w, ADC ...), declared or from their names; "" if unknown.
        volume_labels: (n_subjects,) label maps of the volumes, "" for a subject without one; empty without label maps.
        grids: grids in memory, by image, for simulated subjects without files.
        embeddings: embeddings of the images by fits of another study, or None.
        notes: automatic decisions of the reader (codes read as missing, masked regions).
        children: (n_subjects,) participant of each row, if rows are scans (several id columns); empty otherwise.
        as_read: index `ids`, measures of the matrices in their files; None if they were not read from files.
        simulated: whether the data are simulated, which every report states.
        transforms: transform of each measure's edges on reading (none, log1p, fisher_z), by measure.
        exploratory: whether scans lack corrections that a study needs, which every report states.
        origin: a sentence on the computation of the connectomes, for the methods section.
    """

    name: str
    ids: tuple[str, ...]
    regions: tuple[str, ...]
    atlas: str
    measures: tuple[str, ...]
    weights: np.ndarray
    node_mask: np.ndarray
    covariates: pd.DataFrame
    covariate_specs: tuple[Covariate, ...]
    tasks: tuple[Task, ...]
    targets: pd.DataFrame
    status: pd.DataFrame
    age: np.ndarray
    age_unit: str
    site: np.ndarray
    family: np.ndarray
    region_features: np.ndarray | None = None
    region_feature_names: tuple[str, ...] = ()
    flow: tuple[FlowStep, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)  # input name -> SHA-256
    scores: pd.DataFrame | None = None
    age_reference: str = "birth"
    volumes: tuple[str, ...] = ()
    volume_cache: str = ""
    volume_contrast: str = ""
    volume_labels: tuple[str, ...] = ()
    grids: Mapping[str, Gridded] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    simulated: bool = False
    exploratory: bool = False
    origin: str = ""
    as_read: pd.DataFrame | None = None
    transforms: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    embeddings: ImageEmbeddings | None = None

    def __post_init__(self) -> None:
        n_subjects = len(self.ids)
        if len(set(self.ids)) != n_subjects:
            raise InternalError("subject ids occur twice", subject=_first_double(self.ids))
        for what, size in (
            ("covariates", len(self.covariates)),
            ("targets", len(self.targets)),
            ("age", len(self.age)),
            ("site", len(self.site)),
            ("family", len(self.family)),
        ):
            if size != n_subjects:
                raise InternalError(f"{what} has the wrong number of rows", expected=str(n_subjects), got=str(size))
        for what, shape, wanted in (
            ("weights", np.shape(self.weights), (n_subjects, self.n_measures, self.n_regions, self.n_regions)),
            ("node_mask", np.shape(self.node_mask), (n_subjects, self.n_regions)),
        ):
            if shape != wanted:
                raise InternalError(f"{what} has the wrong shape", expected=str(wanted), got=str(shape))

    @property
    def plot(self) -> CohortPlots:
        """Small figures with matplotlib: `cohort.plot.matrix()`, `.ages()`, `.outcomes()`, `.volume()`."""
        from connectome_tl.cohort.plots import CohortPlots

        return CohortPlots(self)

    def __repr__(self) -> str:
        tasks = ", ".join(task.name for task in self.tasks) or "none"
        regions = f"{counted(self.n_regions, 'region')}, " if self.n_regions else ""
        return (
            f"Cohort({self.name!r}: {counted(self.n_subjects, 'subject')}, {regions}"
            f"measures: {', '.join(self.measures) or 'none'}, outcomes: {tasks})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "subjects": self.n_subjects,
            "regions": f"{self.n_regions} ({self.atlas})" if self.n_regions else 0,
            "measures": ", ".join(self.measures) or "none",
            "covariates": ", ".join(spec.column for spec in self.covariate_specs) or "none",
            "outcomes": ", ".join(
                f"{task.name} ({task.kind}, {int(self.targets[task.name].notna().sum())} known)" for task in self.tasks
            )
            or "none",
        }
        cells = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.ids)

    @property
    def n_regions(self) -> int:
        """Number of regions; 0 without connectomes."""
        return len(self.regions)

    @property
    def n_measures(self) -> int:
        """Number of edge measures; 0 without connectomes."""
        return len(self.measures)

    @property
    def families(self) -> dict[str, str]:
        """Family by subject, without subjects that have none."""
        return {subject: str(name) for subject, name in zip(self.ids, self.family, strict=True) if name}

    @property
    def edge_transforms(self) -> tuple[str, ...]:
        """The transform of each measure, (n_measures,)."""
        return self.transforms or ("none",) * self.n_measures

    def is_age(self, outcome: str) -> bool:
        """Whether an outcome equals the age at scan."""
        values = self.targets[outcome].to_numpy(dtype=float)
        known = np.isfinite(self.age) & np.isfinite(values)
        return bool(known.any()) and np.allclose(self.age[known], values[known])

    def positions(self, ids: Iterable[str]) -> np.ndarray:
        """Row numbers of the given ids, in their order.

        Raises:
            DataError: an id is not in this cohort.
        """
        where = {subject: i for i, subject in enumerate(self.ids)}
        rows = []
        for subject in ids:
            if subject not in where:
                near = difflib.get_close_matches(str(subject), self.ids, n=1, cutoff=0.6)
                remedy = f"Did you mean {near[0]}?" if near else None
                raise DataError(f"not in cohort {self.name!r}", subject=subject, remedy=remedy)
            rows.append(where[subject])
        return np.array(rows, dtype=int)

    def take(self, ids: Sequence[str]) -> Cohort:
        """The same cohort with these subjects, in this order."""
        return self.drawn(self.positions(ids), ids)

    def drawn(self, rows: np.ndarray, names: Sequence[str]) -> Cohort:
        """The cohort of these rows, possibly with repetitions, under new, unique names."""
        return replace(
            self,
            ids=tuple(names),
            weights=self.weights[rows],
            node_mask=self.node_mask[rows],
            covariates=self.covariates.iloc[rows].set_axis(list(names), axis=0),
            targets=self.targets.iloc[rows].set_axis(list(names), axis=0),
            status=self.status.iloc[rows].set_axis(list(names), axis=0),
            age=self.age[rows],
            site=self.site[rows],
            family=self.family[rows],
            region_features=None if self.region_features is None else self.region_features[rows],
            scores=None if self.scores is None else self.scores.iloc[rows].set_axis(list(names), axis=0),
            volumes=tuple(self.volumes[row] for row in rows) if self.volumes else (),
            volume_labels=tuple(self.volume_labels[row] for row in rows) if self.volume_labels else (),
            as_read=None if self.as_read is None else self.as_read.iloc[rows].set_axis(list(names), axis=0),
            children=tuple(self.children[row] for row in rows) if self.children else (),
            embeddings=self.embeddings and self.embeddings.renamed([self.ids[row] for row in rows], names),
        )

    def with_regions(self, names: Sequence[str]) -> Cohort:
        """The cohort with its regions in the order of `names`; regions that it lacks become masked nodes.

        Raises:
            DataError: the cohort has a region that is not in `names`.
        """
        if tuple(names) == self.regions:
            return self
        at = order_of(self.regions, names, where="the regions of the target cohort")
        shape = (self.n_subjects, self.n_measures, len(names), len(names))
        weights = np.zeros(shape, dtype=self.weights.dtype)
        weights[:, :, at[:, None], at[None, :]] = self.weights
        node_mask = np.zeros((self.n_subjects, len(names)), dtype=bool)
        node_mask[:, at] = self.node_mask
        features = self.region_features
        if features is not None:
            moved = np.full((self.n_subjects, len(names), features.shape[2]), np.nan, dtype=features.dtype)
            moved[:, at] = features
            features = moved
        return replace(self, regions=tuple(names), weights=weights, node_mask=node_mask, region_features=features)

    def with_region_features(self, names: Sequence[str]) -> Cohort:
        """The cohort with its regional measures in the order of `names`; unchanged if it has others."""
        if self.region_features is None or sorted(names) != sorted(self.region_feature_names):
            return self
        at = [self.region_feature_names.index(name) for name in names]
        return replace(self, region_features=self.region_features[:, :, at], region_feature_names=tuple(names))

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            DataError: no such task; the message lists the tasks.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        near = difflib.get_close_matches(name, [task.name for task in self.tasks], n=1, cutoff=0.4)
        raise DataError(
            f"cohort {self.name!r} has no outcome called {name!r}",
            expected=f"one of {', '.join(t.name for t in self.tasks) or '(none)'}",
            remedy=f"Did you mean {near[0]}?" if near else None,
        )

    def own_covariates(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Columns that are both an outcome of these tasks and a covariate of the models (not allowed).

        Nuisance variables such as sex may be outcomes; the nuisance baseline then excludes them.
        """
        predicted = {task.column for task in self.tasks if task.name in tasks}
        return tuple(s.column for s in self.covariate_specs if s.role != "nuisance" and s.column in predicted)

    @property
    def places(self) -> np.ndarray | None:
        """Location of the regions, (n_regions, n_place_columns), see `region_places`; None if the atlas has none."""
        return region_places(self.atlas, self.regions)

    @cached_property
    def names(self) -> tuple[frozenset[str], ...]:
        """Names of each row for comparisons with other cohorts, see `names_of`."""
        children = self.children or self.ids
        return tuple(map(names_of, self.ids, children, map(str, self.family)))

    @cached_property
    def input_hashes(self) -> tuple[str, ...]:
        """One SHA-256 per subject over all data that its prediction can depend on."""
        features = self.region_features
        covariates = records_of(self.covariates)
        return tuple(
            content_hash(
                subject,
                self.weights[i],
                self.node_mask[i],
                covariates[i],
                self.age[i],
                self.site[i],
                self.family[i],
                features[i] if features is not None else None,
                image_hash(self.volumes[i]) if self.volumes and self.volumes[i] else None,
            )
            for i, subject in enumerate(self.ids)
        )

    @cached_property
    def row_hashes(self) -> tuple[str, ...]:
        """One SHA-256 per subject over all data that can affect a fit: inputs and outcomes."""
        targets, labels = records_of(self.targets), self.volume_labels or ("",) * self.n_subjects
        return tuple(
            content_hash(inputs, targets[i], image_hash(labels[i]) if labels[i] else None)
            for i, inputs in enumerate(self.input_hashes)
        )

    def having(self, modality: str) -> frozenset[str]:
        """Ids of the subjects that have a `connectome` or an `image`; of all for another modality."""
        if modality == "connectome" and self.regions:
            return frozenset(name for name, row in zip(self.ids, self.node_mask, strict=True) if row.any())
        if modality == "image" and self.volumes:
            return frozenset(name for name, file in zip(self.ids, self.volumes, strict=True) if file)
        return frozenset(self.ids)

    def rows_hash(self, ids: Sequence[str]) -> str:
        """Hash of these rows and of the specification of columns, independent of other subjects."""
        hashes = self.row_hashes
        return content_hash(
            [hashes[i] for i in self.positions(ids)],
            self.regions,
            self.measures,
            self.age_unit,
            self.region_feature_names,
            self.covariate_specs,
            self.tasks,
            self.transforms,
            self.places,
        )


def _first_double(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    for subject in ids:
        if subject in seen:
            return subject
        seen.add(subject)
    return ""
