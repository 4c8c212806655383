"""dHCP-33: benefit of stage 2 on unlabelled newborns for 33 labelled ones, from regional measures of the cortex.

    python benchmarks/dhcp33.py --prepare FOLDER              # one table with ids from the six files of the release
    python benchmarks/dhcp33.py [--draws 10] [--keep FOLDER]  # the table of results

Needs the folder dhcp_cortex_regional in CONNECTOME_TL_DATA (or ../shared/data); without it, a message is printed and
nothing is computed. Two arms, both by the settings of configs/dhcp33.yaml:
  preterm   three stages: 63 term-born infants (age at scan, sex), all untested infants without labels, 33 preterm
            infants with labels; tested on the other 43.
  everyone  stages 2 and 3 only, since no infant is left for a source: 33 of all 139 with labels, tested on the others.
Prints R2 against the training mean and mean absolute error, pooled over draws, and paired differences of R2
over infants with their 95 % intervals. The settings are the package's defaults except
`node_features: measures`, which was chosen after one draw of the preterm arm with the default.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pandas as pd

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.scores.compare import compare
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.features.scaling import RegionScaler
from connectome_tl.provenance import write_table
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.workflows.study.inputs import read_cohorts

ROOT = Path(__file__).parents[1]
ARMS = {
    "preterm": [],
    "everyone": ["source=null", "stages.pretrain=null", "target.cohort=dhcp33/everyone.yaml"],
}


def release() -> Path | None:
    folder = Path(os.environ.get("CONNECTOME_TL_DATA", ROOT.parent / "shared" / "data")) / "dhcp_cortex_regional"
    return folder / "data" if folder.is_dir() else None


def prepare(data: Path, out: Path) -> None:
    """Write participants.tsv and regional.tsv; rows of the release's files belong together by their order."""
    people, measures = [], []
    for part, group in (("test_term", "term"), ("test_risk", "preterm")):
        table = pd.read_csv(data / f"{part}_data.csv", encoding="utf-8-sig")
        seen = pd.read_csv(data / f"{part}_cov.csv", header=None, names=["pma", "sex"], encoding="utf-8-sig")
        born = pd.read_csv(data / f"{part}_ga.csv", header=None, names=["ga"], encoding="utf-8-sig")
        if not len(table) == len(seen) == len(born):
            sys.exit(f"{part}: {len(table)}, {len(seen)} and {len(born)} rows that should be the same infants")
        ids = [f"sub-{group}{i + 1:02d}" for i in range(len(table))]
        people.append(pd.concat([seen, born], axis=1).assign(participant_id=ids, group=group))
        measures.append(pd.concat([pd.DataFrame({"participant_id": ids}), table], axis=1))
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "participants.tsv", pd.concat(people)[["participant_id", "group", "pma", "ga", "sex"]])
    write_table(out / "regional.tsv", pd.concat(measures))


def ridge_on_measures(settings: StudySettings, cohorts, splits) -> pd.DataFrame:
    """Ridge on the 2,288 measures, trained on the labelled infants only."""
    target, tables = cohorts.target, []
    for repeat, number, fold in splits.folds():
        train, test = target.positions(fold.train), target.positions(fold.test)
        scaler = RegionScaler.fit(target.region_features[train], fold.train)
        x_train, x_test = (scaler.apply(target.region_features[at]).reshape(len(at), -1) for at in (train, test))
        for task in tasks_of(settings, cohorts):
            y = target.targets[task.name].to_numpy(float)
            score = fit_ridge(x_train.astype(float), y[train], train_ids=fold.train).predict(x_test)[:, 0]
            tables.append(prediction_rows(task, "ridge on measures", repeat, number, fold.test, y[test], score, 0.5))
    return pd.concat(tables, ignore_index=True)


def report(settings: StudySettings, store: FitStore) -> None:
    cohorts = read_cohorts(settings, ROOT / "configs")
    tasks = tasks_of(settings, cohorts)
    splits = make_split_plan(cohorts.target, settings.splits)
    made = cross_validate(
        settings,
        cohorts,
        splits,
        store=store,
        progress=lambda done, n: print(f"\r{done}/{n} fits", end="", file=sys.stderr),
    )
    print(file=sys.stderr)
    found = pd.concat(
        [
            made.predictions,
            baseline_predictions(settings, cohorts, splits, tasks),
            ridge_on_measures(settings, cohorts, splits),
        ],
        ignore_index=True,
    )
    n_source = cohorts.source.n_subjects if cohorts.source is not None else 0
    print(
        f"{cohorts.target.n_subjects} infants, {settings.splits.n_labelled} of them labelled, "
        f"{settings.splits.repeats} draws, {n_source} in the source, "
        f"{cohorts.pool.n_subjects} less the tested in the pool"
    )
    every = scores(found, tasks)
    models = list(found["model"].drop_duplicates())
    for task in tasks:
        print(f" {task.name} ({task.unit})")
        for model in models:
            by = {s.metric: s for s in every if s.task == task.name and s.model == model}
            r2, mae = by["r2"], by["mae"]
            name = {"prevalence": "mean", "ridge": "ridge on edges"}.get(model, model)
            print(f"  {name:20s} R2 {r2.value:+.2f} [{r2.low:+.2f}, {r2.high:+.2f}]   MAE {mae.value:.2f}")
        pairs = [("full", "no_adapt"), ("no_pretrain", "scratch"), ("full", "scratch"), ("full", "ridge")]
        if settings.source is None:
            pairs = [("full", "scratch"), ("full", "ridge")]
        for model, rival in pairs:
            gap = compare(found, task, model, rival, "r2")
            word = " = effect of stage 2" if (model, rival) in (pairs[0], ("no_pretrain", "scratch")) else ""
            name = f"{model} - {rival}"
            print(f"  {name:21s} {gap.difference:+.3f} [{gap.low:+.2f}, {gap.high:+.2f}] {gap.verdict}{word}")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="only write the tables to this folder")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--arm", choices=list(ARMS))
    parser.add_argument("--keep", type=Path, help="folder for the fits, so that a stopped run resumes")
    arguments = parser.parse_args()
    data = release()
    if data is None:
        print("skipped: dhcp_cortex_regional is in neither CONNECTOME_TL_DATA nor ../shared/data")
        return
    if arguments.prepare is not None:
        prepare(data, arguments.prepare)
        print(f"wrote participants.tsv and regional.tsv into {arguments.prepare}")
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(data, Path(name))
        os.environ["DHCP33"] = name
        for arm, overrides in ARMS.items():
            if arguments.arm in (None, arm):
                settings = load_settings(
                    ROOT / "configs" / "dhcp33.yaml",
                    StudySettings,
                    overrides=[f"splits.repeats={arguments.draws}", *overrides],
                )
                print(f"arm {arm}: ", end="")
                report(settings, FitStore(arguments.keep or Path(name) / "fits"))


if __name__ == "__main__":
    main()
