"""Maps of the closed-form core on planted signals, and their family-wise error without signal.

*Planted*: a binary outcome with an oracle AUC of 0.80, 0.90, 0.99; 30 regions, 435 edges, 20 of them planted. Kinds:
`univariate` (each planted edge has its own part of the signal), `shared` (all depend on one latent trait), `suppressed`
(the planted edges also share noise with 20 others without signal, which a linear model uses to cancel it). Printed
per map: precision at 20, and that of a univariate t ranking; overlap of the 20 strongest between folds, share of
planted and of other edges beyond the corrected threshold. *Null*: 60 subjects, correlated edges, an outcome
independent of them: number of runs with any edge, or any region, beyond the threshold. *Null of networks*: the same
with a small graph network on 20 regions that is fitted again for every permutation.

    python benchmarks/explain.py [--first 0] [--draws 5] [--null 300] [--permutations 199] [--network-null 20]
        [--network-permutations 49] [--out explain.jsonl] [--quick]

Results in the file are not computed again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest, ttest_ind
from threadpoolctl import threadpool_limits

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.connectome.connectome import from_upper
from connectome_tl.evaluation.explain.models import features_of
from connectome_tl.evaluation.explain.null import NullMaps, beyond_largest, null_maps
from connectome_tl.evaluation.explain.refitted_null import refitted_null_maps
from connectome_tl.evaluation.explain.stability import stabilities
from connectome_tl.evaluation.explain.study import items_of
from connectome_tl.evaluation.explain.units import planned_folds, pooled, standardised, unit_maps
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.settings.encoders import GraphEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Stages, Training
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.schemes import StudyCohorts

N_REGIONS, N_PLANTED = 30, 20
N_EDGES = N_REGIONS * (N_REGIONS - 1) // 2
FEWER_EDGES = 190  # of 20 regions, for the network, which is fitted thousands of times
KINDS, AUCS, SIZES = ("univariate", "shared", "suppressed"), (0.80, 0.90, 0.99), (120, 400)
TASK = Task(name="delay", kind="binary", column="delay")
METHODS = ("pattern", "integrated gradients")


def cohort_of(edges: np.ndarray, labels: np.ndarray) -> Cohort:
    """A cohort of these edges (n, n_edges) and this outcome only."""
    n, n_regions = len(labels), round((1 + np.sqrt(1 + 8 * edges.shape[1])) / 2)
    ids = tuple(f"s{i:04d}" for i in range(n))
    targets = pd.DataFrame({"delay": labels.astype(float)}, index=list(ids))
    return Cohort(
        name="target",
        ids=ids,
        regions=tuple(f"r{i:02d}" for i in range(n_regions)),
        atlas="none",
        measures=("weight",),
        weights=from_upper(edges.astype(np.float32))[:, None],
        node_mask=np.ones((n, n_regions), dtype=bool),
        covariates=pd.DataFrame(index=list(ids)),
        covariate_specs=(),
        tasks=(TASK,),
        targets=targets,
        status=pd.DataFrame({"delay": "observed"}, index=list(ids)),
        age=np.full(n, 40.0),
        age_unit="weeks",
        site=np.full(n, "", dtype=object),
        family=np.full(n, "", dtype=object),
    )


def planted(kind: str, auc: float, n: int, seed: int) -> tuple[Cohort, np.ndarray]:
    """A cohort and the positions of its planted edges; the liability has this AUC."""
    rng = np.random.default_rng([seed, n, round(100 * auc), KINDS.index(kind)])
    truth = rng.choice(N_EDGES, N_PLANTED, replace=False)
    edges = rng.standard_normal((n, N_EDGES))
    if kind == "univariate":
        liability = edges[:, truth].sum(axis=1) / np.sqrt(N_PLANTED)
    else:
        liability = rng.standard_normal(n)
        edges[:, truth] += 0.6 * liability[:, None]
        if kind == "suppressed":
            others = rng.choice(np.setdiff1d(np.arange(N_EDGES), truth), N_PLANTED, replace=False)
            edges[:, [*truth, *others]] += 1.5 * rng.standard_normal((n, 1))
    noise = noise_for(auc)
    score = liability + noise * rng.standard_normal(n)
    return cohort_of(edges, score > np.median(score)), truth


def noise_for(auc: float) -> float:
    """Standard deviation of noise on a standard normal liability whose median split it predicts with this AUC."""
    rng = np.random.default_rng(0)
    liability, noise = rng.standard_normal((2, 20_000))

    def reached(scale: float) -> float:
        score = liability + scale * noise
        ranks = liability.argsort().argsort()
        positive = score > np.median(score)
        return float((ranks[positive].mean() - (positive.sum() - 1) / 2) / (~positive).sum())

    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > auc else (low, middle)
    return low


def study_of(seed: int, outer: int = 5) -> StudySettings:
    """One repeat, and two small networks of 30 steps."""
    return StudySettings(
        target=CohortUse(cohort="t"),
        model=ModelSettings(encoder=GraphEncoder(width=4, embedding=8), fused_width=8),
        stages=Stages(
            pretrain=None,
            adapt=None,
            finetune=FineTune(training=Training(steps=30), ensemble=Ensemble(networks=2)),
        ),
        splits=SplitSettings(repeats=1, outer=outer, seed=seed, stratum="delay"),
        n_jobs=1,
    )


def maps(cohort: Cohort, n_permutations: int, seed: int) -> tuple[dict, dict, NullMaps]:
    """Pooled edges and overlap between folds by method, and the null."""
    study = study_of(seed)
    cohorts = StudyCohorts({"target": cohort})
    splits = make_split_plan(cohort, study.splits)
    planned = planned_folds(study, cohorts, splits, [TASK], "core")
    with tempfile.TemporaryDirectory() as folder:
        store = FitStore(Path(folder))
        fit([plan for item in planned for plan in item.plans], cohorts.by_name(), store=store)
        items = items_of(cohort, [stored_model(store, planned[0].plans[0].key).features])
        moves = exchangeable_permutations(cohort.ids, n_permutations, seed)
        nulls = null_maps(planned, cohorts, store, items, moves, lambda _: True)
        units = list(unit_maps(planned, cohort, store, items, lambda _: True))
    edges, alike = {}, {}
    for method in METHODS:
        mine = standardised([unit for unit in units if unit.method == method])
        edges[method] = pooled(mine, items)["edge"]
        alike[method] = next(s.overlap for s in stabilities(mine, items) if s.kind == "edge" and s.over == "folds")
    return edges, alike, nulls


def precision(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.isin(np.argsort(-np.abs(values), kind="stable")[:N_PLANTED], truth).mean())


def planted_row(kind: str, auc: float, n: int, seed: int, n_permutations: int) -> dict[str, float]:
    cohort, truth = planted(kind, auc, n, seed)
    edges, alike, nulls = maps(cohort, n_permutations, seed)
    labels = cohort.targets["delay"].to_numpy()
    rows, columns = np.triu_indices(N_REGIONS, 1)
    flat = cohort.weights[:, 0, rows, columns]
    found = {"t": precision(ttest_ind(flat[labels == 1], flat[labels == 0]).statistic, truth)}
    for method in METHODS:
        found[method] = precision(edges[method], truth)
        found[f"{method} overlap"] = alike[method]
        null = nulls.get(("delay", "", method))
        if null is not None:
            beyond = beyond_largest(null["edge"])[0] <= 0.05
            found[f"{method} planted beyond"] = float(beyond[truth].mean())
            found[f"{method} others beyond"] = float(np.delete(beyond, truth).mean())
    return found


def unrelated(seed: int, n_edges: int = N_EDGES) -> Cohort:
    """60 subjects whose outcome is independent of their edges."""
    rng = np.random.default_rng([99, seed])
    n = 60
    edges = rng.standard_normal((n, n_edges)) + rng.standard_normal((n, 3)) @ rng.standard_normal((3, n_edges))
    return cohort_of(edges, rng.permutation(n) < n // 3)


def null_row(seed: int, n_permutations: int) -> dict[str, float]:
    return any_beyond(maps(unrelated(seed), n_permutations, seed)[2])


def network_null_row(seed: int, n_permutations: int) -> dict[str, float]:
    cohort, study = unrelated(seed, FEWER_EDGES), study_of(seed, outer=3)
    cohorts = StudyCohorts({"target": cohort})
    planned = planned_folds(study, cohorts, make_split_plan(cohort, study.splits), [TASK], "network")
    with tempfile.TemporaryDirectory() as folder:
        store = FitStore(Path(folder))
        fit([plan for item in planned for plan in item.plans], cohorts.by_name(), store=store)
        items = items_of(cohort, [features_of(stored_model(store, planned[0].plans[0].key))])
        moves = exchangeable_permutations(cohort.ids, n_permutations, seed)
        return any_beyond(
            refitted_null_maps(study, cohorts, planned, store, Path(folder) / "permuted", items, moves, lambda _: True)
        )


def any_beyond(nulls: NullMaps) -> dict[str, float]:
    """Whether any item of a map exceeds the threshold, by method and kind."""
    return {
        f"{method} {kind}": float((beyond_largest(values)[0] <= 0.05).any())
        for (_, _, method), by_kind in nulls.items()
        for kind, values in by_kind.items()
        if kind in ("edge", "region")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5, help="cohorts per cell")
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort and of the first null run")
    parser.add_argument("--null", type=int, default=300, help="null runs")
    parser.add_argument("--permutations", type=int, default=199)
    parser.add_argument("--network-null", type=int, default=20, help="null runs of the network")
    parser.add_argument("--network-permutations", type=int, default=49)
    parser.add_argument("--out", type=Path, default=Path("explain.jsonl"))
    parser.add_argument("--quick", action="store_true", help="one draw per cell, n = 120, 19 permutations")
    given = parser.parse_args()
    sizes = SIZES[:1] if given.quick else SIZES
    draws, n_null, n_permutations = (1, 5, 19) if given.quick else (given.draws, given.null, given.permutations)
    n_network, n_refitted = (1, 2) if given.quick else (given.network_null, given.network_permutations)

    def seeds(n_runs: int) -> range:
        return range(given.first, given.first + n_runs)

    jobs = [("planted", kind, auc, n, seed) for seed in seeds(draws) for n in sizes for auc in AUCS for kind in KINDS]
    jobs += [("null", "", 0.0, 60, seed) for seed in seeds(n_null)]
    jobs += [("network null", "", 0.0, 60, seed) for seed in seeds(n_network)]
    numbers = {"planted": n_permutations, "null": n_permutations, "network null": n_refitted}
    kept = [] if given.quick or not given.out.is_file() else given.out.read_text().splitlines()
    rows = [json.loads(line) for line in kept]
    done = {tuple(row["job"]): row["found"] for row in rows if row["permutations"] == numbers[row["job"][0]]}
    start = time.process_time()
    with threadpool_limits(1):
        for job in jobs:
            if job in done:
                continue
            what, kind, auc, n, seed = job
            if what == "planted":
                made = planted_row(kind, auc, n, seed, n_permutations)
            elif what == "null":
                made = null_row(seed, n_permutations)
            else:
                made = network_null_row(seed, n_refitted)
            done[job] = made
            if not given.quick:
                with given.out.open("a") as stream:
                    stream.write(json.dumps({"job": job, "permutations": numbers[what], "found": made}) + "\n")
    show(done, sizes)
    print(f"CPU {time.process_time() - start:.0f} s, {n_permutations} permutations, {n_refitted} of the network")


def show(done: dict, sizes: tuple[int, ...]) -> None:
    print(
        f"precision at {N_PLANTED}; overlap of the strongest between folds; planted and other edges beyond (p <= 0.05)"
    )
    for n in sizes:
        for auc in AUCS:
            for kind in KINDS:
                rows = [row for job, row in done.items() if job[:4] == ("planted", kind, auc, n)]
                if not rows:
                    continue
                mean = {key: np.mean([row.get(key, np.nan) for row in rows]) for key in rows[0]}
                text = f"n {n} AUC {auc:.2f} {kind:11} {len(rows)} draws  t {mean['t']:.2f}"
                for method in METHODS:
                    text += f" | {method[:8]} {mean[method]:.2f}, {mean[f'{method} overlap']:.2f}"
                    if f"{method} planted beyond" in mean:
                        text += f", {mean[f'{method} planted beyond']:.2f} / {mean[f'{method} others beyond']:.4f}"
                print(text)
    for what in ("null", "network null"):
        rows = [row for job, row in done.items() if job[0] == what]
        for key in rows[0] if rows else ():
            hits = int(sum(row[key] for row in rows))
            interval = binomtest(hits, len(rows), 0.05).proportion_ci(method="exact")
            share = f"{hits / len(rows):.3f}, {interval.low:.3f} to {interval.high:.3f}"
            print(f"{what}, {key}: {hits} of {len(rows)} runs ({share})")


if __name__ == "__main__":
    main()
