"""Recompute the results of a run from its predictions and data, and compare them with its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import tee
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.audit.replay import Replay
from connectome_tl.audit.results import page_finding, results_findings, table_finding
from connectome_tl.audit.stored import stored_finding
from connectome_tl.evaluation.nested_cv import CrossValidation, fold_predictions
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.provenance import content_hash
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import RunRecord, Score
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.workflows.audit.pages import drawings, explanation_findings, paper_findings
from connectome_tl.workflows.audit.sidecars import written_findings
from connectome_tl.workflows.audit.stored_fits import SPOT_CHECKS, SpotCheckedFits, StoredFits
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.fitting import fit_study, label_moves
from connectome_tl.workflows.study.judge import judge
from connectome_tl.workflows.study.results import as_frame, table_cells, table_text

_MAY_DIFFER = 0.02  # in AUC or R2: differences of float32 on another processor


def shown_findings(folder: Path, record: RunRecord, scores: list[Score]) -> list[Finding]:
    """Compare `scores.json`, the tables and the page with `results.json`."""
    again = RunRecord.model_construct(**{**vars(record), "scores": tuple(scores)})
    (listed,) = results_findings(again, record)
    findings = [listed.model_copy(update={"check": "scores.json is that of results.json"})]
    tables: dict[str, Sequence[Record]] = {"scores.tsv": record.scores, "comparisons.tsv": record.comparisons}
    if record.learning_curve:
        tables["learning_curve.tsv"] = record.learning_curve
    for name, records in tables.items():
        if (folder / name).is_file():
            findings.append(table_finding(name, table_cells(folder / name), table_text(as_frame(records))))
        else:
            findings.append(_absent(name))
    page = folder / "report.html"
    if not page.is_file():
        return [*findings, _absent(page.name)]
    drawn, once_more = tee(drawings(folder, record))
    findings.append(page_finding(page.read_text("utf-8", "replace"), (one.page for one in drawn)))
    return [*findings, *paper_findings(folder, record, once_more), *explanation_findings(folder, record)]


def judged_findings(
    folder: Path,
    replay: Replay,
    fits: dict[str, FitResult],
    predictions: pd.DataFrame,
    recorded: RunRecord,
    steps: Steps,
) -> list[Finding]:
    """Recompute scores, comparisons, tests, verdicts and warnings, and compare them with `results.json`.

    Permuted and resampled networks and those of the learning curve are read from the run's store and a few of them
    trained again; everything else is fitted again.

    Args:
        fits: all refitted networks. predictions: predictions of the run, already compared with the refits.
    """
    study, cohorts = replay.study, replay.cohorts
    kept = stored_finding(fits, StoredFits(folder / "models"), exactly=replay.exactly, apply=replay.applied(fits))
    validation = CrossValidation(predictions, replay.everything, fits)
    own = pd.concat([fold_predictions(item, fits, cohorts, study.threshold) for item in replay.everything])
    found = fit_study(
        folder,
        study,
        cohorts,
        replay.splits,
        replay.tasks,
        steps,
        store_of=lambda place: SpotCheckedFits(place, known=frozenset(fits), exactly=replay.exactly),
        validation=replace(validation, predictions=predictions[predictions["model"].isin(set(own["model"]))]),
    )
    found = replace(found, predictions=predictions)
    judged = judge(study, cohorts, replay.splits, found)
    findings = [kept, *results_findings(recorded, judged.record)]
    findings += written_findings(folder, study, cohorts, found, judged, recorded)
    if "full" in found.permuted:
        with steps.step("training permuted networks again"):
            findings.append(_spot_check(replay, found.permuted["full"]))
    return findings


def _spot_check(replay: Replay, stored: np.ndarray) -> Finding:
    """Retrain a few permuted networks, and compare with the stored statistics, (1 + n_permutations, n_tasks)."""
    check = "permuted networks trained again"
    n = len(stored) - 1
    chosen = np.random.default_rng(int(content_hash(stored)[:12], 16)).permutation(n)[:SPOT_CHECKS]
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


def _absent(name: str) -> Finding:
    return Finding(check=f"{name} is that of results.json", status="skipped", what="the folder does not hold it")
