"""Run folders with one leak each and consistent metadata: splits, settings and scores agree.

Each variant writes `home/cohorts` and `home/run`; `honest_run` writes a correct one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.clinical.calibration import fit_platt, threshold_at_specificity
from connectome_tl.evaluation.clinical.recalibration import FoldCalibrator, recalibrate
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.provenance import write_json, write_table, write_text
from connectome_tl.report.render import render_report
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.records.audit import AuditRecord
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.study import Refits, SplitSettings, StudySettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.audit.stored_fits import StoredFits
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.fitting import fit_study
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.judge import judge
from connectome_tl.workflows.study.ledger import looks, with_ledger
from connectome_tl.workflows.study.results import as_frame, read_record
from connectome_tl.workflows.study.run import run_study
from tests.audit.hidden_outcomes import HIDDEN_OUTCOMES, ids_that_name_the_group, odd_ids_of_cases
from tests.audit.hidden_patterns import HIDDEN_PATTERNS
from tests.audit.hidden_products import HIDDEN_PRODUCTS
from tests.audit.leaky_copies import LEAKY_COPIES
from tests.audit.leaky_data import (
    LEAKY_DATA,
    Maker,
    a_later_scan_under_a_new_id,
    half_positive,
    infants_in_the_source_under_new_ids,
)
from tests.small_study import FLAT, small_cohorts, small_settings

TASK = "cognitive"


def honest_run(home: Path, seed: int, cohorts: StudyCohorts | None = None, **settings: Any) -> StudySettings:
    """Simulate, write and run a small study; returns its settings."""
    found = cohorts or small_cohorts(seed=seed)
    for name, cohort in (("older", found.source), ("pool", found.pool), ("target", found.target)):
        assert cohort is not None
        write_cohort(cohort, home / "cohorts" / name)
    made = small_settings(**{"seed": seed, "steps": 2, "refits": Refits(linear=5), **settings})
    run_study(write_text(home / "cohorts" / "study.yaml", dump_settings(made)), home / "run")
    return made


def predictions_of(home: Path, run: str = "run") -> pd.DataFrame:
    return pd.read_csv(home / run / "predictions.tsv", sep="\t", na_values="n/a", dtype={"subject": str})


def rewrite(home: Path, predictions: pd.DataFrame) -> Path:
    """Write predictions and all results that follow from them, so that the folder is consistent."""
    run = home / "run"
    write_table(run / "predictions.tsv", predictions)
    settings = load_settings(run / "study.yaml", StudySettings)
    cohorts = read_cohorts(settings, run)
    splits, tasks = SplitPlan.load(run / "split_plan.json"), tasks_of(settings, cohorts)
    with Steps(shown=False) as steps:
        found = fit_study(run, settings, cohorts, splits, tasks, steps, store_of=StoredFits)
    write_results(home, judge(settings, cohorts, splits, replace(found, predictions=predictions)).record)
    return home


def write_results(home: Path, record: RunRecord) -> None:
    """All files that show the results of a run."""
    run = home / "run"
    write_json(run / "results.json", record)
    write_json(run / "scores.json", record.scores)
    write_table(run / "scores.tsv", as_frame(record.scores))
    write_table(run / "comparisons.tsv", as_frame(record.comparisons))
    write_text(run / "report.html", render_report(with_ledger(record, looks(run, record), until_first=True)))


def target_of(home: Path) -> Cohort:
    return read_cohort(home / "cohorts" / "target" / "cohort.yaml")


def leaky_ridge(home: Path, predictions: pd.DataFrame, how: str) -> pd.DataFrame:
    """Ridge on edges selected, centred by group, or corrected for site effects, with the outcomes of all rows."""
    cohort = target_of(home)
    upper = np.triu_indices(cohort.n_regions, 1)
    x = cohort.weights[:, 0][:, upper[0], upper[1]].astype(float)
    y = cohort.targets[TASK].to_numpy(float)
    seen = np.isfinite(y)
    if how == "selection":
        gap = np.abs(x[seen][y[seen] == 1].mean(axis=0) - x[seen][y[seen] == 0].mean(axis=0))
        x = x[:, np.argsort(-gap)[:10]]
    elif how == "groups":
        for group in (0.0, 1.0):
            x[y == group] -= 0.5 * x[y == group].mean(axis=0)
    else:
        # The location step of ComBat with the outcome of all rows as a protected covariate.
        site = (cohort.site == cohort.site[0]).astype(float)
        design = np.column_stack([np.ones(seen.sum()), site[seen], y[seen]])
        effect = np.linalg.lstsq(design, x[seen], rcond=None)[0][1]
        x = x - np.outer(site, effect)
    here = (predictions["task"] == TASK) & (predictions["model"] == "ridge")
    for _, rows in predictions[here].groupby(["repeat", "fold"]):
        test = cohort.positions(rows["subject"])
        train = np.setdiff1d(np.flatnonzero(seen), test)
        p = fit_ridge(x[train], 2 * y[train] - 1).predict_probability(x[test])[:, 0]
        predictions.loc[rows.index, "y_score"] = p
        predictions.loc[rows.index, "y_pred"] = (p >= 0.5).astype(float)
    return predictions


def selection_before_the_split(home: Path, seed: int) -> None:
    honest_run(home, seed)
    rewrite(home, leaky_ridge(home, predictions_of(home), "selection"))


def combat_with_the_outcome(home: Path, seed: int) -> None:
    honest_run(home, seed)
    rewrite(home, leaky_ridge(home, predictions_of(home), "harmonised"))


def a_child_under_a_new_id(home: Path, seed: int) -> None:
    """A fifth of the infants occur twice, with a slightly different second scan, new ids and no family."""
    known = small_cohorts(seed=seed)
    target = known.target
    rows = np.arange(0, target.n_subjects, 5)
    rng = np.random.default_rng(seed)
    both = np.r_[np.arange(target.n_subjects), rows]
    doubled = target.drawn(both, [*target.ids, *(f"new{i:03d}" for i in rows)])
    noise = 1 + 0.02 * rng.standard_normal(doubled.weights[target.n_subjects :].shape)
    doubled.weights[target.n_subjects :] *= (noise + noise.swapaxes(2, 3)) / 2
    doubled.family[target.n_subjects :] = ""
    honest_run(home, seed, known.with_role("target", doubled))


def threshold_on_test(home: Path, seed: int) -> None:
    """Each test fold has the threshold that classifies it best."""
    honest_run(home, seed)
    predictions = predictions_of(home)
    here = (predictions["task"] == TASK) & (predictions["model"] == "full")
    for _, rows in predictions[here].groupby(["repeat", "fold"]):
        cuts = np.sort(rows["y_score"].to_numpy())
        right = [((rows["y_score"] >= cut) == (rows["y_true"] == 1))[rows["y_true"].notna()].mean() for cut in cuts]
        predictions.loc[rows.index, "y_pred"] = (rows["y_score"] >= cuts[int(np.argmax(right))]).astype(float)
    rewrite(home, predictions)


def calibration_on_test(home: Path, seed: int) -> None:
    """Scaling and threshold of each outer fold fitted on its own test rows."""
    splits = SplitSettings(repeats=1, outer=3, inner=2, stratum=TASK)
    honest_run(home, seed, splits=splits, controls=())
    predictions = predictions_of(home)
    found = []
    known = predictions[(predictions["task"] == TASK) & predictions["y_true"].notna()]
    for (model, repeat, fold), rows in known.groupby(["model", "repeat", "fold"], sort=False):
        p, y = rows["y_score"].to_numpy(float), rows["y_true"].to_numpy(float)
        if model != "prevalence" and 0 < y.sum() < y.size:
            made = fit_platt(p, y), threshold_at_specificity(p, y, 0.9)
            found.append(FoldCalibrator(TASK, str(model), int(repeat), int(fold), *made))
    write_table(home / "run" / "calibrated.tsv", recalibrate(predictions, found, 0.5))


def adaptation_on_test(home: Path, seed: int) -> None:
    """The infants are the pool, without exclusion of the test fold; the settings state the exclusion."""
    known = small_cohorts(seed=seed)
    stages = small_settings(steps=2).stages
    assert stages.adapt is not None
    secret = stages.model_copy(update={"adapt": stages.adapt.model_copy(update={"transductive": True})})
    honest_run(home, seed, known.with_role("pool", known.target), stages=secret)
    file = home / "run" / "study.yaml"
    file.write_text(file.read_text().replace("transductive: true", "transductive: false"))


def epoch_chosen_on_test(home: Path, seed: int) -> None:
    """For each fold, the best of four training lengths by test score is reported."""
    made = honest_run(home, seed)
    stages = made.stages
    longer = [
        made.model_copy(
            update={
                "stages": stages.model_copy(
                    update={
                        "finetune": stages.finetune.model_copy(
                            update={"training": stages.finetune.training.model_copy(update={"steps": steps})}
                        )
                    }
                )
            }
        )
        for steps in (4, 10, 25)
    ]
    rewrite(home, _best_of_each_fold(home, longer))


def tuned_on_the_outer_score(home: Path, seed: int) -> None:
    """For each fold, the best of four seeds by test score is reported."""
    made = honest_run(home, seed)
    rewrite(home, _best_of_each_fold(home, [made.model_copy(update={"seed": seed + 100 + k}) for k in range(3)]))


def the_best_of_several_runs(home: Path, seed: int) -> None:
    """The best of several runs with other seeds: its folder is correct; only the ledger next to it shows the others."""
    made = honest_run(home, seed)
    tried = [made, *(made.model_copy(update={"seed": seed + 100 + k}) for k in range(2))]
    aucs = []
    for k, settings in enumerate(tried):
        run_study(settings, home / f"try{k}", base=home / "cohorts")
        aucs.append(_auc(predictions_of(home, f"try{k}")))
    shutil.rmtree(home / "run")
    shutil.move(home / f"try{int(np.argmax(aucs))}", home / "run")
    for k in range(len(tried)):
        shutil.rmtree(home / f"try{k}", ignore_errors=True)


def _best_of_each_fold(home: Path, others: Sequence[StudySettings]) -> pd.DataFrame:
    """The run's predictions, with the network of each fold from the settings with the best test score.

    The full model would not show it if the network has no weight.
    """
    tables = [predictions_of(home)]
    for k, settings in enumerate(others):
        run_study(settings, home / f"other{k}", base=home / "cohorts")
        tables.append(predictions_of(home, f"other{k}"))
        shutil.rmtree(home / f"other{k}")
    (home / "test_scores.jsonl").unlink()  # the attempts leave no trace
    shown = tables[0].copy()
    here = (shown["task"] == TASK) & (shown["model"] == "network")
    for _, rows in shown[here].groupby(["repeat", "fold"]):
        best = max(
            reversed(tables), key=lambda table: _auc(table.loc[rows.index], "network")
        )  # among equal scores, not the correct one
        shown.loc[rows.index] = best.loc[rows.index]
    return shown


def _auc(predictions: pd.DataFrame, model: str = "full") -> float:
    rows = predictions[(predictions["task"] == TASK) & (predictions["model"] == model)]
    y, score = rows[["y_true"]].to_numpy(float), rows[["y_score"]].to_numpy(float)
    won, met = within_fold_counts(y, score, (rows["repeat"] * 1000 + rows["fold"]).to_numpy())
    return float(won[0] / met[0]) if met[0] else 0.0


def results_edited_everywhere(home: Path, seed: int) -> None:
    """A verdict, a difference and a score are changed in every file that shows them."""
    honest_run(home, seed)
    record = read_record(home / "run")
    better = record.comparisons[0].model_copy(update={"difference": 0.3, "low": 0.1, "high": 0.5, "verdict": "helps"})
    praised = record.verdicts[0].model_copy(update={"headline": "Better than chance."})
    changed = {"comparisons": (better, *record.comparisons[1:]), "verdicts": (praised, *record.verdicts[1:])}
    write_results(home, record.model_copy(update=changed))


def a_p_value_edited(home: Path, seed: int) -> None:
    honest_run(home, seed, permutations=9)
    record = read_record(home / "run")
    tests = tuple(test.model_copy(update={"p_value": 0.001, "p_value_max": 0.001}) for test in record.permutations)
    write_results(home, record.model_copy(update={"permutations": tests}))


def a_table_edited(home: Path, seed: int) -> None:
    honest_run(home, seed)
    path = home / "run" / "comparisons.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table.loc[0, "difference"] = "0.31"
    write_table(path, table)


def a_page_edited(home: Path, seed: int) -> None:
    honest_run(home, seed)
    path = home / "run" / "report.html"
    path.write_text(path.read_text("utf-8").replace("cannot tell", "it helps", 1), "utf-8")


def permuted_fits_forged(home: Path, seed: int) -> None:
    """All stored permuted networks predict noise, so that null scores are low; the results follow from the store."""
    honest_run(home, seed, network_permutations=5)
    rng = np.random.default_rng(seed)
    for path in sorted((home / "run" / "models" / "permuted").glob("*.json")):
        fit = FitStore(path.parent).load(path.stem, state=False)
        if fit is not None and fit.predictions and not (home / "run" / "models" / path.name).exists():
            noise = {subject: rng.random(values.size) for subject, values in fit.predictions.items()}
            FitStore(path.parent).save(replace(fit, predictions=noise), keep_state=False)
    rewrite(home, predictions_of(home))


def second_scans_of_reliability_8(home: Path, seed: int) -> None:
    """A sixth of the infants occur again under new ids with a scan that correlates 0.8 with the first."""
    _joined(home, seed, lambda rng, log: 0.8 * log + 0.6 * log.std(axis=0) * _symmetric(rng, log))


def copies_times_1_2(home: Path, seed: int) -> None:
    """A sixth of the infants occur again under new ids, with every weight times 1.2."""
    _joined(home, seed, lambda _, log: log, factor=1.2)


def a_twin_family_not_declared(home: Path, seed: int) -> None:
    """Rescans a month later, nearly the same, without the family that declares them."""
    _joined(home, seed, lambda rng, log: 0.95 * log + 0.3 * log.std(axis=0) * _symmetric(rng, log))


def six_infants_left_out_after_a_look(home: Path, seed: int) -> None:
    """The cohort is run, the six infants with the worst predictions are removed, and it is run again as a first run."""
    known = small_cohorts(seed=seed)
    honest_run(home, seed, known)
    rows = predictions_of(home)
    rows = rows[(rows["task"] == TASK) & (rows["model"] == "full") & rows["y_true"].notna()]
    worst = set(rows["subject"][(rows["y_score"] - rows["y_true"]).abs().sort_values().index[-6:]])
    shutil.rmtree(home / "run")
    shutil.rmtree(home / "cohorts")
    honest_run(
        home, seed, known.with_role("target", known.target.take([i for i in known.target.ids if i not in worst]))
    )


def the_outcome_in_a_column(home: Path, seed: int) -> None:
    """A later score of the same domain is a clinical covariate."""
    known = small_cohorts(n_target=40, seed=seed)
    target = known.target
    rng = np.random.default_rng(seed)
    later = target.targets["motor_score"].fillna(90.0) + rng.normal(0, 2, target.n_subjects)
    spec = Covariate(column="later_score", type="numeric")
    told = replace(
        target,
        covariates=target.covariates.assign(later_score=later),
        covariate_specs=(*target.covariate_specs, spec),
    )
    honest_run(home, seed, known.with_role("target", told))


def the_outcome_in_what_is_missing(home: Path, seed: int) -> None:
    """A region was not segmented in the impaired infants."""
    known = small_cohorts(n_target=40, seed=seed)
    target = known.target
    mask = target.node_mask.copy()
    mask[:, 0] = target.targets[TASK].to_numpy(float) != 1
    honest_run(home, seed, known.with_role("target", replace(target, node_mask=mask)))


def _joined(
    home: Path, seed: int, second: Callable[[np.random.Generator, np.ndarray], np.ndarray], factor: float = 1.0
) -> None:
    """A study of 36 unrelated subjects, a sixth occurring twice; `second` returns their logs about the group mean."""
    rng = np.random.default_rng(seed)
    cohorts = dense_cohorts(seed, n_target=36)
    target = cohorts.target
    rows = np.arange(0, target.n_subjects, 6)
    both = np.r_[np.arange(target.n_subjects), rows]
    doubled = target.drawn(both, [*target.ids, *(f"new{i:03d}" for i in rows)])
    log = np.log(np.where(target.weights > 0, target.weights, 1.0))
    mean = log.mean(axis=0)
    again = np.exp(mean + second(rng, log - mean)[rows]) * factor
    doubled.weights[target.n_subjects :] = np.where(target.weights[rows] > 0, again, 0.0)
    doubled.family[target.n_subjects :] = ""
    honest_run(home, seed, cohorts.with_role("target", doubled), **RIDGE_ONLY)


def _symmetric(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    upper = np.triu(rng.standard_normal(like.shape), 1)
    return upper + upper.swapaxes(-1, -2)


RIDGE_ONLY: dict[str, Any] = {
    "model": FLAT,
    "steps": 1,
    "controls": (),
    "baselines": ("prevalence", "ridge"),
    "refits": Refits(linear=0),
}


def dense_cohorts(seed: int, *, n_target: int = 33, n_regions: int = 24) -> StudyCohorts:
    """The simulated cohorts with log-normal weights in every edge; half of the log variance is individual."""
    cohorts = small_cohorts(n_target=n_target, n_regions=n_regions, n_source=16, n_pool=12, seed=seed)
    rng = np.random.default_rng([seed, 7])
    backbone = np.triu(rng.normal(2.0, 0.7, (n_regions, n_regions)), 1)
    for role in ("target", "pool", "source"):
        cohort = cohorts.roles[role]
        own = 0.5 * _symmetric(rng, cohort.weights)
        weights = np.exp(backbone + backbone.T + own) * (1 - np.eye(n_regions))
        cohorts = cohorts.with_role(role, replace(cohort, weights=weights.astype(np.float32)))
    return cohorts


def run_of(maker: Maker) -> Callable[[Path, int], None]:
    """The variant that runs a ridge-only study on the cohorts of a maker of `leaky_data`."""

    def variant(home: Path, seed: int) -> None:
        rng = np.random.default_rng([seed, 9])
        honest_run(home, seed, maker(half_positive(dense_cohorts(seed), rng), rng), **RIDGE_ONLY)

    variant.__name__ = maker.__name__
    return variant


DATA_MAKERS = (*LEAKY_DATA, *HIDDEN_OUTCOMES, *HIDDEN_PRODUCTS, *HIDDEN_PATTERNS)
DATA_RUNS = tuple(run_of(maker) for maker in DATA_MAKERS)
COPY_RUNS = tuple(run_of(maker) for maker in LEAKY_COPIES)


def rows_scaled_by_outcome_group(home: Path, seed: int) -> None:
    """Half of the mean of their own outcome group is subtracted from the test rows of ridge."""
    honest_run(home, seed, **RIDGE_ONLY)
    rewrite(home, leaky_ridge(home, predictions_of(home), "groups"))


LEDGER_CHECK = "ledger of test scores"
ROWS_CHECK = "rows that agree in every column"
ALONE_CHECK = "no single value reveals the outcome"
NAMES_CHECK = "ids reveal no outcome"
_OTHER_CHECKS = {
    a_later_scan_under_a_new_id: ROWS_CHECK,
    ids_that_name_the_group: NAMES_CHECK,
    odd_ids_of_cases: NAMES_CHECK,
}
# Leaks that a folder alone cannot prove cause a warning.
CAUGHT_BY_WARNING: dict[Callable[[Path, int], None], str] = {
    the_best_of_several_runs: LEDGER_CHECK,
    six_infants_left_out_after_a_look: LEDGER_CHECK,
    the_outcome_in_a_column: ALONE_CHECK,
    the_outcome_in_what_is_missing: ALONE_CHECK,
    **{
        run: _OTHER_CHECKS.get(maker, ALONE_CHECK)
        for run, maker in zip(DATA_RUNS, DATA_MAKERS, strict=True)
        if maker is not infants_in_the_source_under_new_ids
    },
}

LEAKY_RUNS: tuple[Callable[[Path, int], None], ...] = (
    selection_before_the_split,
    combat_with_the_outcome,
    a_child_under_a_new_id,
    threshold_on_test,
    calibration_on_test,
    adaptation_on_test,
    epoch_chosen_on_test,
    tuned_on_the_outer_score,
    the_best_of_several_runs,
    results_edited_everywhere,
    a_p_value_edited,
    a_table_edited,
    a_page_edited,
    permuted_fits_forged,
    second_scans_of_reliability_8,
    copies_times_1_2,
    a_twin_family_not_declared,
    six_infants_left_out_after_a_look,
    the_outcome_in_a_column,
    the_outcome_in_what_is_missing,
    rows_scaled_by_outcome_group,
    *DATA_RUNS,
    *COPY_RUNS,
)


def caught(record: AuditRecord, variant: Callable[[Path, int], None] | None = None) -> list[str]:
    """Failed checks; for a variant that only causes a warning, this warning as well."""
    hint = CAUGHT_BY_WARNING.get(variant) if variant else None
    return [f.check for f in record.findings if f.status == "failed" or (f.status == "warning" and f.check == hint)]
