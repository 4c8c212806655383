"""More run folders with leaks or edits, of ridge alone or with inner folds, fast enough for many seeds.

Each variant writes `home/cohorts` and `home/run`, like those of `leaky_runs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.provenance import content_hash, write_json, write_table
from connectome_tl.settings.study import SplitSettings
from connectome_tl.workflows.study.results import read_record
from tests.audit.leaky_runs import (
    CAUGHT_BY_WARNING,
    LEDGER_CHECK,
    RIDGE_ONLY,
    TASK,
    dense_cohorts,
    honest_run,
    predictions_of,
    rewrite,
    target_of,
    write_results,
)

Variant = Callable[[Path, int], None]


def _run(home: Path, seed: int, **settings: Any) -> None:
    honest_run(home, seed, dense_cohorts(seed), **{**RIDGE_ONLY, **settings})


def _ridge_on(home: Path, rows: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """The ridge baseline of each fold on rows (n_subjects, n_edges) that were changed with all subjects."""
    cohort, predictions = target_of(home), predictions_of(home)
    upper = np.triu_indices(cohort.n_regions, 1)
    y = cohort.targets[TASK].to_numpy(float)
    x = rows(cohort.weights[:, 0][:, upper[0], upper[1]].astype(float), np.asarray(cohort.age, dtype=float))
    here = (predictions["task"] == TASK) & (predictions["model"] == "ridge")
    for _, of_fold in predictions[here].groupby(["repeat", "fold"]):
        test = cohort.positions(of_fold["subject"])
        train = np.setdiff1d(np.flatnonzero(np.isfinite(y)), test)
        risk = fit_ridge(x[train], 2 * y[train] - 1).predict_probability(x[test])[:, 0]
        predictions.loc[of_fold.index, "y_score"] = risk
        predictions.loc[of_fold.index, "y_pred"] = (risk >= 0.5).astype(float)
    rewrite(home, predictions)


def confounds_taken_out_of_everybody(home: Path, seed: int) -> None:
    """Age is regressed out of the edges over all rows, including the test rows."""
    _run(home, seed)

    def residuals(x: np.ndarray, age: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(len(x)), np.where(np.isfinite(age), age, np.nanmean(age))])
        return np.asarray(x - design @ np.linalg.lstsq(design, x, rcond=None)[0])

    _ridge_on(home, residuals)


def a_reference_of_everybody(home: Path, seed: int) -> None:
    """Edges are whitened with the covariance of all subjects."""
    _run(home, seed)

    def whitened(x: np.ndarray, _: np.ndarray) -> np.ndarray:
        u, s, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        return np.asarray(u * np.sqrt(s) @ vt)

    _ridge_on(home, whitened)


def a_mixing_weight_chosen_on_test(home: Path, seed: int) -> None:
    """The full model of each fold is the mixture of core and network with the best score on its test rows."""
    _run(home, seed)
    table = predictions_of(home)
    of = {m: table[(table["task"] == TASK) & (table["model"] == m)] for m in ("full", "core", "network")}
    for fold, rows in of["full"].groupby("fold"):
        core, network = (of[m].loc[of[m]["fold"] == fold, "y_score"].to_numpy(float) for m in ("core", "network"))
        y, known = rows["y_true"].to_numpy(float), rows["y_true"].notna().to_numpy()
        mixed = [w * core + (1 - w) * network for w in (0.0, 0.35, 0.7)]
        best = min(mixed, key=lambda risk: float(((risk - y)[known] ** 2).mean()))
        table.loc[rows.index, "y_score"] = best
        table.loc[rows.index, "y_pred"] = (best >= 0.5).astype(float)
    rewrite(home, table)


def two_classes_turned_after_calibration(home: Path, seed: int) -> None:
    """The predicted class of two impaired infants is changed to impaired, in the recalibrated table only."""
    _run(home, seed, splits=SplitSettings(repeats=1, outer=3, inner=2, stratum=TASK))
    path = home / "run" / "calibrated.tsv"
    table = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"subject": str})
    wrong = table.index[(table["model"] == "core") & (table["y_true"] == 1) & (table["y_pred"] == 0)]
    chosen = wrong if len(wrong) else table.index[(table["model"] == "core") & (table["y_pred"] == 0)]
    lowest = table.loc[chosen, "y_score"].sort_values().index[:2]
    table.loc[lowest, "y_pred"] = 1.0
    write_table(path, table)


def a_threshold_written_into_the_settings(home: Path, seed: int) -> None:
    """The threshold that classifies best is written into study.yaml and used for all results."""
    _run(home, seed)
    file, table = home / "run" / "study.yaml", predictions_of(home)
    cut = 0.37
    file.write_text(file.read_text().replace("threshold: 0.5", f"threshold: {cut}"))
    binary = table["task"] == TASK
    table.loc[binary, "y_pred"] = (table.loc[binary, "y_score"] >= cut).astype(float)
    rewrite(home, table)


def _forged(home: Path, part: str, change: Callable[[dict[str, Any]], None]) -> None:
    for path in sorted((home / "run" / "models" / part).glob("*.json")):
        record = json.loads(path.read_text())
        record.pop("content")
        change(record)
        write_json(path, {**record, "content": content_hash(record)})


def a_learning_curve_forged(home: Path, seed: int) -> None:
    """Predictions of all stored fits of the smaller sizes are moved towards the truth; page and tables follow."""
    _run(home, seed, learning_curve=(12,))
    known = target_of(home).targets[TASK].to_dict()
    kept = predictions_of(home)

    def nearer(record: dict[str, Any]) -> None:
        for subject, values in record["predictions"].items():
            if np.isfinite(known.get(subject, np.nan)):
                values[0] = 0.5 * values[0] + 0.5 * float(known[subject])

    _forged(home, "", nearer)
    rewrite(home, kept)
    record = read_record(home / "run")
    write_table(home / "run" / "learning_curve.tsv", pd.DataFrame([p.model_dump() for p in record.learning_curve]))


def held_out_risks_forged(home: Path, seed: int) -> None:
    """The stored fits, which explanations and bundles use, have other values for their training rows."""
    _run(home, seed)

    def other(record: dict[str, Any]) -> None:
        for values in record["held_out"].values():
            values[0] = 0.9 if values[0] is None else values[0] + 0.3

    _forged(home, "", other)


def versions_and_seed_edited(home: Path, seed: int) -> None:
    """provenance.json names other versions and another seed than the results."""
    _run(home, seed)
    path = home / "run" / "provenance.json"
    said = json.loads(path.read_text())
    write_json(path, {**said, "seed": 99, "versions": {**said["versions"], "numpy": "9.9"}})


def a_warning_hidden_by_style(home: Path, seed: int) -> None:
    """The page is complete, but a style hides all warnings."""
    _run(home, seed)
    path = home / "run" / "report.html"
    path.write_text(path.read_text("utf-8").replace("</style>", "li{display:none}</style>", 1), "utf-8")


def methods_praised(home: Path, seed: int) -> None:
    """The methods text claims a preregistration, in the results and on the page."""
    _run(home, seed)
    record = read_record(home / "run")
    write_results(home, record.model_copy(update={"methods": "Preregistered. " + record.methods}))


def a_look_edited_out_of_the_ledger(home: Path, seed: int) -> None:
    """The ledger next to the folder has another configuration than the one in log/ for the same evaluation."""
    _run(home, seed)
    path = home / "test_scores.jsonl"
    first, *others = path.read_text().splitlines()
    look = {**json.loads(first), "models": ["prevalence"]}
    path.write_text("\n".join([json.dumps(look), *others]) + "\n")


CAUGHT_BY_WARNING[a_threshold_written_into_the_settings] = LEDGER_CHECK

LEAKY_FOLDERS: tuple[Variant, ...] = (
    confounds_taken_out_of_everybody,
    a_reference_of_everybody,
    a_mixing_weight_chosen_on_test,
    two_classes_turned_after_calibration,
    a_threshold_written_into_the_settings,
    a_learning_curve_forged,
    held_out_risks_forged,
    versions_and_seed_edited,
    a_warning_hidden_by_style,
    methods_praised,
    a_look_edited_out_of_the_ledger,
)
