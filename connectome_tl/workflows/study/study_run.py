"""`StudyRun`: read a finished run as tables, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.report.labels import number
from connectome_tl.report.tables.scores import interval_of
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.records.bundles import FitKind
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.workflows.study.explain_files import read_explanations
from connectome_tl.workflows.study.results import as_frame, read_predictions, read_record

if TYPE_CHECKING:
    from connectome_tl.report.figures.plots import RunPlots
    from connectome_tl.settings.records.explanations import ExplanationRecord


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished run, as tables.

    Attributes:
        folder: the run folder.
        report: path of the HTML page.
        predictions: out-of-fold predictions, one row per subject, task, model and repeat.
        scores: one row per task, model and metric, with intervals.
        comparisons: paired differences to controls and baselines.
        permutations: label permutation tests.
        verdicts: sentences at the start of the report.
        record: contents of the report.
    """

    folder: Path
    report: Path
    predictions: pd.DataFrame
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    permutations: pd.DataFrame
    verdicts: pd.DataFrame
    record: RunRecord

    @property
    def plot(self) -> RunPlots:
        """The report's figures as matplotlib figures: `run.plot.roc()`, `run.plot.brain()` ... (see `RunPlots`)."""
        from connectome_tl.report.figures.plots import RunPlots
        from connectome_tl.workflows.images.map_files import read_map_images

        configuration = self.record.provenance.get("configuration", "")
        return RunPlots(
            self.record,
            explanations=lambda: read_explanations(self.folder, configuration),
            maps=lambda: read_map_images(self.folder),
        )

    def __repr__(self) -> str:
        tasks = ", ".join(task.name for task in self.record.tasks)
        return f"StudyRun({str(self.folder)!r}, outcomes: {tasks})"

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(str(text))}</li>" for text in self.verdicts["headline"])
        heads = "".join(f"<th>{word}</th>" for word in ("outcome", "score of the full model", "value", "95 % interval"))
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in self._leading_scores()
        )
        known = ", ".join(f"{one.n_subjects} {one.role}" for one in self.record.cohorts)
        report = self.report.resolve()
        return (
            f"<p><b>{escape(self.record.title)}</b> (subjects: {escape(known)})</p><ul>{lines}</ul>"
            f"<table><tr>{heads}</tr>{rows}</table>"
            f'<p>Report: <a href="{escape(report.as_uri())}">{escape(str(report))}</a></p>'
        )

    def _leading_scores(self) -> list[tuple[str, str, str, str]]:
        """Outcome, metric, value and interval of the full model's primary score."""
        wanted = {(task.name, task.spec.primary): task.label for task in self.record.tasks}
        return [
            (
                wanted[score.task, score.metric],
                METRICS[score.metric].label,
                number(score.value),
                interval_of(score),
            )
            for score in self.record.scores
            if score.model == FULL and (score.task, score.metric) in wanted
        ]

    def explain(
        self,
        models: Sequence[str] = ("core", "full"),
        *,
        n_permutations: int = 199,
        n_refitted: int | None = None,
        base: str | Path | None = None,
    ) -> ExplanationRecord:
        """Compute maps of models of the run, like `connectome-tl explain`, and write them to its folder.

        Args:
            n_permutations: permutations for the null of the core's maps; 0 for none.
            n_refitted: permutations for the null of the other models, which are refitted; 0 for none, by default 49, 19
                or none, as many as take a few minutes.
            base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

        Raises:
            UsageError: the study has no such model. MissingInputError: a fit or a cohort does not exist.
        """
        from connectome_tl.workflows.study.explain import explain_run

        return explain_run(self.folder, models=models, n_permutations=n_permutations, n_refitted=n_refitted, base=base)

    def bundle(
        self,
        out: str | Path,
        *,
        model: str = "full",
        fit: FitKind = "mean",
        site_names: bool = False,
        title: str = "",
        authors: str = "",
        licence: str = "",
        base: str | Path | None = None,
    ) -> Path:
        """Create a bundle of a model, like `connectome-tl bundle`; returns the folder.

        Args:
            fit: "mean" over the fits of the cross-validation, or one "refit" on all subjects.
            site_names: whether names of sites, and parameters of each site, may be released.
            title, authors, licence: entries of the card.
            base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

        Raises:
            UsageError: the study has no such model. DataError: a part of it cannot be released.
        """
        from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run

        options = BundleOptions(model, fit, site_names, title, authors, licence)
        return bundle_run(self.folder, out, options, base=base)


@checked_arguments
def read_run(folder: str | Path) -> StudyRun:
    """Read a finished run from its folder.

    Raises:
        MissingInputError: the folder contains no finished run.
        DataError: its results were edited, or are of another version.
    """
    where = Path(folder)
    record = read_record(where)
    return StudyRun(
        where,
        where / "report.html",
        read_predictions(where / "predictions.tsv"),
        as_frame(record.scores),
        as_frame(record.comparisons),
        as_frame(record.permutations),
        as_frame(record.verdicts),
        record,
    )
