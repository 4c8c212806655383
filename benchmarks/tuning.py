"""Flat and nested tuning on data without and with signal: optimism of the best of many trials.

Each draw is a simulated cohort. Flat: the settings with the best cross-validated AUC over all subjects, and this AUC,
as a search without outer folds would report it. Nested: settings chosen on the inner folds of each outer fold, scored
on its test rows. Without signal (permuted outcomes) the true AUC is 0.5. The closed-form core is tuned; trials are
random, the same for both.
Finished draws are read from --out, so that a killed benchmark resumes.

    python benchmarks/tuning.py                  # 30 draws of each kind
    python benchmarks/tuning.py --quick          # 3 draws, 6 trials
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.splits import Fold, InnerFold, make_split_plan
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.scores.metrics import task_scores
from connectome_tl.evaluation.scores.predictions import out_of_fold
from connectome_tl.evaluation.tuning.inner import InnerFolds
from connectome_tl.provenance import write_json
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Stages
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain

TASK = "cognitive"


@dataclass(frozen=True)
class Draw:
    """One cohort: AUC that the flat search reports, mean of the best inner AUCs, AUC on the outer folds."""

    flat: float
    inner: float
    outer: float
    cpu: float


def settings_tried(rng: np.random.Generator, n_trials: int) -> list[dict[str, object]]:
    """A typical search space: number of edges, clipping, penalties."""
    return [
        {
            "edges.n_edges": int(np.exp(rng.uniform(np.log(3), np.log(2000)))),
            "core.clip": float(rng.uniform(1.0, 6.0)),
            "core.relax": bool(rng.random() < 0.5),
            "core.rbf_from": int(rng.choice([0, 1000])),
        }
        for _ in range(n_trials)
    ]


def draw(seed: int, signal: bool, n_subjects: int, n_trials: int) -> Draw:
    """Both searches on one cohort."""
    started = time.process_time()
    target = simulate_study(seed=seed, n_source=4, n_pool=4, n_target=n_subjects).target
    if not signal:
        order = np.random.default_rng(seed).permutation(n_subjects)
        target = replace(target, targets=target.targets.iloc[order].set_axis(target.targets.index))
    cohorts = StudyCohorts({"target": target})
    study = StudySettings(
        target=CohortUse(cohort="target/cohort.yaml", tasks=(TASK,)),
        stages=Stages(pretrain=None, adapt=None),
        splits=SplitSettings(repeats=1, outer=4, inner=3, stratum=TASK, seed=seed),
        n_jobs=1,
    )
    splits = make_split_plan(target, study.splits)
    (task,) = tasks_of(study, cohorts)
    tried = [study.with_settings(one) for one in settings_tried(np.random.default_rng(seed), n_trials)]

    def scored(fold: Fold) -> np.ndarray:
        """(n_trials,) AUC over the inner folds."""
        search = InnerFolds(study, cohorts, fold, "core", task, ("auc",))
        return np.array([search.scores(one)[0] for one in tried])

    everyone = splits.repeats[0]
    flat = scored(Fold(target.ids, (), tuple(InnerFold(fold.train, fold.test) for fold in everyone)))
    inner, rows = [], []
    for number, fold in enumerate(everyone):
        found = scored(fold)
        inner.append(found.max())
        plan = chain(tried[int(found.argmax())], cohorts, BY_NAME["core"], fold, [TASK], seed=0)
        predicted = fit([plan], cohorts.by_name())[plan.key].predictions
        truth = target.targets[TASK].to_numpy(float)[target.positions(fold.test)]
        score = np.array([predicted[i][0] for i in fold.test])
        rows.append(
            pd.DataFrame(
                {"subject": fold.test, "task": TASK, "model": "core", "repeat": 0, "fold": number,
                 "y_true": truth, "y_score": score, "y_pred": (score >= 0.5).astype(float)}
            )
        )  # fmt: skip
    table = out_of_fold(pd.concat(rows, ignore_index=True), task, "core")
    outer = next(s.value for s in task_scores(table, task, "core") if s.metric == "auc")
    return Draw(float(flat.max()), float(np.mean(inner)), outer, time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=48)
    parser.add_argument("--out", type=Path, default=Path("benchmark_tuning"))
    options = parser.parse_args()
    if options.quick:
        options.draws, options.trials = 3, 6
    print(f"{options.subjects} infants, 4 outer x 3 inner folds, {options.trials} trials, {options.draws} draws")
    print("| signal | flat best | inner best | nested outer | nested - 0.5, 95 % interval | CPU s per draw |")
    print("|---|---|---|---|---|---|")
    for name, signal in (("none", False), ("planted", True)):
        draws = []
        for seed in range(options.draws):
            file = options.out / f"{name}-{options.subjects}-{options.trials}-{seed}.json"
            if not file.is_file():
                write_json(file, vars(draw(seed, signal, options.subjects, options.trials)))
            draws.append(Draw(**json.loads(file.read_text())))
        flat, inner, outer, cpu = (
            np.array([getattr(d, key) for d in draws]) for key in ("flat", "inner", "outer", "cpu")
        )
        half = 1.96 * outer.std(ddof=1) / np.sqrt(len(outer))
        centre = outer.mean() - 0.5
        print(
            f"| {name} | {flat.mean():.3f} | {inner.mean():.3f} | {outer.mean():.3f} | {centre:+.3f} "
            f"[{centre - half:+.3f}, {centre + half:+.3f}] | {cpu.mean():.1f} |"
        )


if __name__ == "__main__":
    main()
