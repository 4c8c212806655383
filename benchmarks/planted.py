"""Planted truth: whether the stages find what the older subjects share with 33 infants, and where each stage helps.

    python benchmarks/planted.py [--part truth] [--kinds interaction] [--encoder graph] [--cohorts 40] [--first 0]
                                 [--out planted.tsv] [--quick]
    python benchmarks/planted.py --part map [--cohorts 6] [--figure transfer_map.png]

The difficulty is fixed in planted.yaml. Connectomes are a mean, two traits, other traits and noise on every edge. The
oracle predicts with the true effects of all traits. Three kinds of studies of `truth`, 1 x 5 folds of 33 infants:
  related      the outcome and the score of the older subjects depend on the same trait
  unrelated    the score depends on another trait: nothing can be transferred
  interaction  outcome and score depend on the product of the two traits, which no linear model can represent
Printed: AUC of the oracle, of ridge on the infants and of the models; mean paired differences over cohorts with 95 % t
intervals; and how often the verdict of a study of 33 infants was `helps` (the power, or the error) or `harms`.

`map` varies the number of labelled infants, the correlation between the trait of the older subjects' score and that of
the outcome, and the signal (oracle AUC), and tests each fit on 400 new infants: gain of stage 1 for core and network,
of stage 2 for the network, and of both for the full model. --figure draws it. Design seeds are 9000 and above; a
killed run resumes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import yaml
from scipy import stats
from sklearn.metrics import roc_auc_score

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate
from connectome_tl.evaluation.scores.compare import comparisons
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain

Row = tuple[str, str, int, str, float]  # part, cell, seed, quantity, value
D = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
DELAY = Task(name="delay", kind="binary", column="delay")
SCORE = Task(name="score", kind="regression", column="score")
KINDS = ("related", "unrelated", "interaction")
PAIRS = (
    ("full", "scratch"),
    ("network", "network_scratch"),
    ("core", "core_scratch"),
    ("network", "ridge"),
    ("network", "core"),
    ("full", "ridge"),
)
N_LABELLED, SIMILARITY, SLOPES = (15, 33, 60, 120), (0.0, 0.5, 1.0), {"0.75": 1.15, "0.9": 3.2}
N_NEW = 400
STAGES = {
    "stage 1, core": ("core", "core_scratch"),
    "stage 1, network": ("network_no_adapt", "network_scratch"),
    "stage 2, network": ("network", "network_no_adapt"),
    "both, full model": ("full", "scratch"),
}


class World:
    """Effects of traits on the edges, the same for all cohorts of a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 11])
        self.upper = np.triu_indices(D["n_regions"], 1)
        self.traits = self._patterns(3, D["pattern_norm"])
        self.nuisance = self._patterns(D["nuisance_traits"], D["nuisance_norm"])

    def _patterns(self, n: int, norm: float) -> np.ndarray:
        """(n, n_edges): each among ten random regions."""
        found = np.zeros((n, len(self.upper[0])))
        for pattern in found:
            places = np.zeros(D["n_regions"])
            places[self.rng.choice(D["n_regions"], 10, replace=False)] = self.rng.normal(size=10)
            pattern += np.outer(places, places)[self.upper]
        return norm * found / np.linalg.norm(found, axis=1, keepdims=True)

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) traits and (n, n_edges) edges."""
        traits = self.rng.normal(size=(n, 3))
        other = self.rng.normal(size=(n, len(self.nuisance))) @ self.nuisance
        return traits, traits @ self.traits + other + self.rng.normal(size=(n, len(self.upper[0])))

    def expected(self, edges: np.ndarray) -> np.ndarray:
        """(n, 3) expected traits given the edges and the true effects."""
        covariance = self.traits.T @ self.traits + self.nuisance.T @ self.nuisance + np.eye(edges.shape[1])
        return np.asarray(edges @ np.linalg.solve(covariance, self.traits.T))

    def cohort(self, name: str, edges: np.ndarray, task: Task | None, values: np.ndarray) -> Cohort:
        n, n_regions = len(edges), D["n_regions"]
        weights = np.zeros((n, 1, n_regions, n_regions), dtype=np.float32)
        weights[:, 0, self.upper[0], self.upper[1]] = edges
        ids = tuple(f"sub-{name}{i:04d}" for i in range(n))
        columns = {} if task is None else {task.name: values}
        return Cohort(
            name=name,
            ids=ids,
            regions=tuple(f"region{i + 1:02d}" for i in range(n_regions)),
            atlas="planted",
            measures=("weight",),
            weights=weights + weights.swapaxes(2, 3),
            node_mask=np.ones((n, n_regions), dtype=bool),
            covariates=pd.DataFrame(index=list(ids)),
            covariate_specs=(),
            tasks=() if task is None else (task,),
            targets=pd.DataFrame(columns, index=list(ids)),
            status=pd.DataFrame(dict.fromkeys(columns, "observed"), index=list(ids)),
            age=np.full(n, np.nan),
            age_unit="years",
            site=np.full(n, ""),
            family=np.full(n, ""),
        )


def cohorts_of(
    seed: int, kind: str, n_target: int, similarity: float = 1.0, slope: float | None = None
) -> tuple[StudyCohorts, float]:
    """The three cohorts, and the AUC of the oracle on 5,000 other infants."""
    world = World(seed)
    rng = np.random.default_rng([seed, 12])
    product = kind == "interaction"
    slope = slope or D["interaction_slope" if product else "slope"]

    def risk(traits: np.ndarray) -> np.ndarray:
        return np.asarray(slope * (traits[:, 0] * traits[:, 1] if product else traits[:, 0]))

    def labels(traits: np.ndarray) -> np.ndarray:
        return (rng.random(len(traits)) < 1 / (1 + np.exp(-risk(traits)))).astype(float)

    traits, edges = world.draw(n_target)
    target = world.cohort("infant", edges, DELAY, labels(traits))
    _, unlabelled = world.draw(D["n_pool"])
    older, their_edges = world.draw(D["n_source"])
    shared = older[:, 0] * older[:, 1] if product else older[:, 0]
    similarity = 0.0 if kind == "unrelated" else similarity
    learnt = similarity * shared + np.sqrt(1 - similarity**2) * older[:, 2]
    score = 100 - 15 * (learnt + D["source_noise"] * rng.normal(size=len(older)))  # low scores are adverse
    shift = D["cohort_shift"] * rng.normal(size=edges.shape[1])
    others, seen = world.draw(5000)
    oracle = float(roc_auc_score(labels(others), risk(world.expected(seen))))
    return StudyCohorts(
        {
            "target": target,
            "source": world.cohort("older", their_edges + shift, SCORE, score),
            "pool": world.cohort("pool", unlabelled, None, np.empty(0)),
        }
    ), oracle


def settings_of(seed: int, encoder: str = "graph") -> StudySettings:
    return StudySettings(
        model=ModelSettings.model_validate({"encoder": {"kind": encoder}}),
        source=CohortUse(cohort="older", tasks=("score",)),
        pool=CohortUse(cohort="pool"),
        target=CohortUse(cohort="target", tasks=("delay",)),
        splits=SplitSettings(repeats=1, outer=5, seed=seed),
        controls=("scratch", "network_scratch", "core_scratch"),
        baselines=("ridge", "linear_all", "linear_transfer", "prevalence"),
        n_jobs=1,
        seed=seed,
    )


def truth_of(seed: int, kind: str, encoder: str) -> Iterator[tuple[str, float]]:
    """AUC of every model, and 1, 0 or -1 per comparison for helps, nothing found, harms."""
    cohorts, oracle = cohorts_of(seed, kind, D["n_target"])
    yield "oracle", oracle
    settings = settings_of(seed, encoder)
    splits = make_split_plan(cohorts.target, settings.splits)
    found = pd.concat(
        [
            cross_validate(settings, cohorts, splits).predictions,
            baseline_predictions(settings, cohorts, splits, (DELAY,)),
        ]
    )
    yield from ((one.model, one.value) for one in scores(found, [DELAY]) if one.metric == "auc")
    words = {"helps": 1.0, "harms": -1.0}
    for one in comparisons(found, [DELAY], kfold=True):
        yield f"verdict {one.model} {one.control}", words.get(one.verdict, 0.0)


def map_of(seed: int, cell: tuple[int, float, str]) -> Iterator[tuple[str, float]]:
    """Gain of each stage on new infants."""
    n, similarity, signal = cell
    cohorts, oracle = cohorts_of(seed, "related", n + N_NEW, similarity, SLOPES[signal])
    yield "oracle", oracle
    settings, ids = settings_of(seed), cohorts.target.ids
    fold = Fold(ids[:n], ids[n:])
    names = dict.fromkeys(name for pair in STAGES.values() for name in pair)
    plans = {name: chain(settings, cohorts, BY_NAME[name], fold, ("delay",), seed=seed) for name in names}
    results = fit(list(plans.values()), cohorts.by_name(), n_jobs=1)
    truth = cohorts.target.targets["delay"].to_numpy(float)[n:]
    for name, plan in plans.items():
        risks = [results[plan.key].predictions[subject][0] for subject in fold.test]
        yield name, float(roc_auc_score(truth, risks))


def interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def report_truth(rows: pd.DataFrame) -> None:
    for kind in KINDS:
        table = rows[rows["cell"] == kind].pivot(index="seed", columns="quantity", values="value")
        if len(table) < 2:
            continue
        print(f"\n{kind}: {len(table)} studies of {D['n_target']} infants\n")
        models = [name for name in table.mean().sort_values(ascending=False).index if "verdict" not in name]
        print("AUC: " + ", ".join(f"{name} {table[name].mean():.3f}" for name in models))
        print("\n| difference | mean | above 0 | verdict helps | harms |\n|---|---|---|---|---|")
        for model, control in PAIRS:
            gain = (table[model] - table[control]).to_numpy()
            verdict = table.get(f"verdict {model} {control}")
            words = " | |" if verdict is None else f" {(verdict > 0).mean():.0%} | {(verdict < 0).mean():.0%} |"
            print(f"| {model} minus {control} | {interval(gain)} | {(gain > 0).mean():.0%} |{words}")


def gains(rows: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """(stage, cell) to the gain of each cohort."""
    table = rows.pivot(index=["cell", "seed"], columns="quantity", values="value")
    return {
        (stage, str(cell)): (mine[model] - mine[control]).to_numpy()
        for cell, mine in table.groupby(level="cell")
        for stage, (model, control) in STAGES.items()
    }


def cell_name(n: int, similarity: float, signal: str) -> str:
    return f"{n}, {similarity:g}, {signal}"


def report_map(rows: pd.DataFrame) -> None:
    found = gains(rows)
    oracle = rows[rows["quantity"] == "oracle"].copy()
    oracle["signal"] = oracle["cell"].str.split(", ").str[2]
    print("oracle AUC: " + ", ".join(f"{v:.3f}" for v in oracle.groupby("signal")["value"].mean()))
    print(f"\n| signal | similarity | labelled | {' | '.join(STAGES)} |\n|---|---|---|" + "---|" * len(STAGES))
    for signal, similarity, n in itertools.product(SLOPES, SIMILARITY, N_LABELLED):
        cell = cell_name(n, similarity, signal)
        mine = [found.get((stage, cell), np.empty(0)) for stage in STAGES]
        if min(map(len, mine)) > 1:
            print(f"| {signal} | {similarity:g} | {n} | {' | '.join(map(interval, mine))} |")


def draw_map(rows: pd.DataFrame, path: Path) -> None:
    """One panel per stage and signal; colour is the mean gain, an asterisk marks an interval without 0."""
    import matplotlib.pyplot as plt

    found, limit = gains(rows), 0.15
    figure, axes = plt.subplots(
        len(SLOPES), len(STAGES), figsize=(11, 5.5), sharex=True, sharey=True, layout="constrained"
    )
    for (signal, stage), axis in zip(itertools.product(SLOPES, STAGES), axes.flat, strict=True):
        means = np.full((len(SIMILARITY), len(N_LABELLED)), np.nan)
        for (i, similarity), (j, n) in itertools.product(enumerate(SIMILARITY), enumerate(N_LABELLED)):
            values = found.get((stage, cell_name(n, similarity, signal)), np.empty(0))
            if len(values) < 2:
                continue
            means[i, j] = values.mean()
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            mark = " *" if abs(values.mean()) > half else ""
            ink = "white" if abs(values.mean()) > 0.6 * limit else "black"
            # Adding 0 turns a rounded -0 into 0.
            shown = f"{round(values.mean(), 2) + 0.0:+.2f}{mark}"
            axis.text(j, i, shown, ha="center", va="center", fontsize=9, color=ink)
        image = axis.imshow(means, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
        axis.set_xticks(range(len(N_LABELLED)), N_LABELLED)
        axis.set_yticks(range(len(SIMILARITY)), [f"{s:g}" for s in SIMILARITY])
        if signal == next(iter(SLOPES)):
            axis.set_title(f"{stage[0].upper()}{stage[1:]}", fontsize=10)
        if stage == next(iter(STAGES)):
            axis.set_ylabel(f"oracle AUC {signal}\nsimilarity of the source")
        if signal == list(SLOPES)[-1]:
            axis.set_xlabel("labelled infants")
    figure.colorbar(image, ax=axes, shrink=0.6, label="gain in AUC (* interval without 0)", extend="both")
    figure.savefig(path, dpi=110)


def jobs_of(part: str, kinds: list[str], seed: int, encoder: str) -> Iterator[tuple[str, Iterator[tuple[str, float]]]]:
    if part == "truth":
        yield from ((kind, truth_of(seed, kind, encoder)) for kind in kinds)
    else:
        cells = itertools.product(N_LABELLED, SIMILARITY, SLOPES)
        yield from ((cell_name(*cell), map_of(seed, cell)) for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("truth", "map"), default="truth")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of truth")
    parser.add_argument("--encoder", default="graph", help="kind of encoder of truth")
    parser.add_argument("--cohorts", type=int, help="per kind or cell; 40 for truth, 6 for map")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("planted.tsv"))
    parser.add_argument("--figure", type=Path, help="draw the map of finished cells")
    parser.add_argument("--report", action="store_true", help="only print stored results")
    parser.add_argument("--quick", action="store_true", help="two cohorts of each kind of truth, not stored")
    given = parser.parse_args()
    part, out = ("truth", None) if given.quick else (given.part, given.out)
    n = 2 if given.quick else given.cohorts or (40 if part == "truth" else 6)
    rows: list[Row] = []
    if out is not None and out.is_file():
        with out.open() as stream:
            rows = [(p, c, int(s), q, float(v)) for p, c, s, q, v in csv.reader(stream, delimiter="\t")]
    done = {row[:3] for row in rows}
    for seed in range(given.first, given.first + n) if not given.report else ():
        for cell, job in jobs_of(part, given.kinds, seed, given.encoder):
            if (part, cell, seed) in done:
                continue
            start = time.process_time()
            made = [(part, cell, seed, name, value) for name, value in job]
            made.append((part, cell, seed, "cpu", time.process_time() - start))
            rows += made
            if out is not None:
                with out.open("a") as stream:
                    csv.writer(stream, delimiter="\t").writerows(made)
            print(f"{part}, {cell}, seed {seed}: {made[-1][4]:.0f} CPU s", file=sys.stderr)
    table = pd.DataFrame(rows, columns=["part", "cell", "seed", "quantity", "value"])
    table = table[table["part"] == part]
    cpu = table.loc[table["quantity"] == "cpu", "value"].sum()
    table = table[table["quantity"] != "cpu"]
    (report_truth if part == "truth" else report_map)(table)
    print(f"\nCPU time {cpu / 60:.1f} min")
    if given.figure is not None and part == "map":
        draw_map(table, given.figure)


if __name__ == "__main__":
    main()
