"""Recompute the results of a run from its predictions and data, and compare them with its files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.audit.replay import Replay
from connectome_tl.audit.results import page_finding, results_findings, table_finding
from connectome_tl.evaluation.nested_cv import CrossValidation, fold_predictions
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.provenance import MISSING, content_hash
from connectome_tl.report.render import render_report
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import RunRecord, Score
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.explain_files import read_explanations
from connectome_tl.workflows.study.fitting import fit_study, label_moves
from connectome_tl.workflows.study.judge import judge
from connectome_tl.workflows.study.ledger import looks, with_ledger
from connectome_tl.workflows.study.report import timing_of
from connectome_tl.workflows.study.results import as_frame

_SPOT_CHECKS = 2  # number of permuted networks that are retrained
_MOST_PAGES = 8  # largest number of ledger states for which the page is rendered and compared
_MAY_DIFFER = 0.02  # tolerance in AUC or R2 for float32 on another processor


class StoredFits(FitStore):
    """Fits of a finished run, read and never written."""

    def save(self, result: FitResult, *, keep_state: bool) -> None:
        """Do nothing, since an audit must not change the fits of a run."""
        del result, keep_state


def shown_findings(folder: Path, record: RunRecord, scores: list[Score]) -> list[Finding]:
    """Compare `scores.json`, the tables and the page with `results.json`."""
    again = RunRecord.model_construct(**{**vars(record), "scores": tuple(scores)})
    (listed, *_) = results_findings(again, record)
    findings = [listed.model_copy(update={"check": "scores.json is that of results.json"})]
    tables: dict[str, Sequence[Record]] = {"scores.tsv": record.scores, "comparisons.tsv": record.comparisons}
    if record.learning_curve:
        tables["learning_curve.tsv"] = record.learning_curve
    for name, records in tables.items():
        if (folder / name).is_file():
            findings.append(table_finding(name, _cells(folder / name), _written(as_frame(records))))
        else:
            findings.append(_absent(name))
    page = folder / "report.html"
    if not page.is_file():
        return [*findings, _absent(page.name)]
    return [*findings, page_finding(page.read_text("utf-8", "replace"), _pages(folder, record))]


def _pages(folder: Path, record: RunRecord) -> Iterator[str]:
    """Yield the page as rendered by `run`, then as `report` may have rendered it later: with later ledger states,
    times of the log, and maps of `explain`, if any."""
    seen = looks(folder, record)
    yield render_report(with_ledger(record, seen, until_first=True))
    found, timing = read_explanations(folder, record.provenance.get("configuration", "")), timing_of(folder)
    drawn: list[RunRecord] = []
    for k in range(len(seen), 0, -1):
        shown = with_ledger(record, seen[:k], until_first=False)
        if shown not in drawn and len(drawn) < _MOST_PAGES:
            drawn.append(shown)
            for explained, times in product(dict.fromkeys([found is not None, False]), ((), timing)):
                yield render_report(shown, found if explained else None, timing=times)


def judged_findings(
    folder: Path,
    replay: Replay,
    fits: dict[str, FitResult],
    predictions: pd.DataFrame,
    recorded: RunRecord,
    steps: Steps,
) -> list[Finding]:
    """Recompute scores, comparisons, tests, verdicts and warnings, and compare them with `results.json`.

    Permuted and resampled networks are read from the run's store, and a few permuted ones are retrained; everything
    else is refitted.

    Args:
        fits: all refitted networks. predictions: predictions of the run, already compared with the refits.
    """
    study, cohorts = replay.study, replay.cohorts
    validation = CrossValidation(predictions, replay.everything, fits)
    own = pd.concat([fold_predictions(item, fits, cohorts, study.threshold) for item in replay.everything])
    found = fit_study(
        folder,
        study,
        cohorts,
        replay.splits,
        replay.tasks,
        steps,
        store_of=StoredFits,
        validation=replace(validation, predictions=predictions[predictions["model"].isin(set(own["model"]))]),
    )
    found = replace(found, predictions=predictions)
    again = judge(study, cohorts, replay.splits, found).record
    findings = results_findings(recorded, again)
    if "full" in found.permuted:
        with steps.step("training permuted networks again"):
            findings.append(_spot_check(replay, found.permuted["full"]))
    return findings


def _spot_check(replay: Replay, stored: np.ndarray) -> Finding:
    """Retrain a few permuted networks, and compare with the stored statistics, (1 + n_permutations, n_tasks)."""
    check = "permuted networks trained again"
    n = len(stored) - 1
    chosen = np.random.default_rng(int(content_hash(stored)[:12], 16)).permutation(n)[:_SPOT_CHECKS]
    moves = label_moves(replay.study, replay.cohorts.target, n)[chosen]
    again = network_statistics(replay.study, replay.cohorts, replay.splits, replay.tasks, moves)
    gap = float(np.nanmax(np.abs(again[1:] - stored[1 + chosen]), initial=0.0))
    if gap > _MAY_DIFFER:
        return Finding(
            check=check,
            status="failed",
            what=f"statistics of stored fits differ by up to {gap:.3f} from those trained again",
            remedy="The stored permuted fits are not those of the study. Delete models/permuted and run again.",
        )
    return Finding(check=check, status="passed", what=f"{len(chosen)} of {n} have the same statistic")


def _written(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of a table as written to its file."""
    buffer = io.StringIO(table.to_csv(sep="\t", index=False, na_rep=MISSING, lineterminator="\n"))
    return pd.read_csv(buffer, sep="\t", dtype=str, keep_default_na=False)


def _cells(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except ValueError:  # not a valid table
        return pd.DataFrame()


def _absent(name: str) -> Finding:
    return Finding(check=f"{name} is that of results.json", status="skipped", what="the folder does not hold it")
