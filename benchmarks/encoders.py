"""Compare encoders with and without messages and with the core, objectives with no adaptation, and two atlases.

    python benchmarks/encoders.py [--cohorts 6] [--first 0] [--part encoders objectives atlases] [--encoders KIND ...]
                                  [--out encoders.tsv] [--quick] [--report]

Simulated cohorts with new subjects as test rows. Design seeds are 9000 and above; reported results use others.

`encoders`: networks from scratch, with and without messages, and the closed-form core. Two kinds of cohort:
  footprint  60 infants, 24 regions: the outcome changes the connections of some regions (as in `simulate_study`).
  spread     300 subjects, 24 regions, one measure per region (a lesion load): the outcome is the effect of the load
             of each region on the regions that it is connected to in the same subject. Message passing can represent
             this; a linear model of edges and measures cannot (`connectome_tl/simulation/spread.py`). Ridge on the
             propagated loads is the upper bound.
`objectives`: 33 infants, 150 older subjects and 80 neonates of 24 regions: three stages with each objective against
  no stage 2, and the scores of a probe during it.
`atlases`: 33 infants on 90 regions and 200 older subjects on 90 or on 116: an encoder that represents regions by their
  coordinates, pretrained on the same atlas, on the other one, and not at all.

Prints R2 on new subjects, paired differences over cohorts with 95 % t intervals, and CPU time. A killed run resumes.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.encoders import AnyEncoder, EncoderSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import AnyObjective
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.settings.training import Adapt, Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.simulation.spread import simulate_spread
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain

Row = tuple[str, int, str, float, float]  # part, seed, model, value, CPU seconds
COLUMNS = ("part", "seed", "model", "value", "cpu")
TASK, N_REGIONS, N_NEW = "cognitive_score", 24, 150
FREE = {
    "kind": "graph",
    "node_features": "identity",
    "readout": "attention",
    "direct": False,
    "dropout": 0.1,
    "width": 32,
}
ENCODERS = [kind() for kind in get_args(get_args(AnyEncoder)[0])]
# Without volumes, objectives of volumes would be no adaptation.
OBJECTIVES = [kind() for kind in get_args(get_args(AnyObjective)[0]) if kind.modality == "connectome"]


def cut(cohort: Cohort, names: list[str]) -> Cohort:
    at = [cohort.regions.index(name) for name in names]
    weights = np.ascontiguousarray(cohort.weights[:, :, at][:, :, :, at])
    return replace(cohort, regions=tuple(names), weights=weights, node_mask=cohort.node_mask[:, at])


def footprint(seed: int, n_train: int, n_source: int = 4, n_pool: int = 4) -> StudyCohorts:
    """`simulate_study` on the eight regions with most of the effect, and others."""
    made = simulate_study(seed=seed, n_source=n_source, n_pool=n_pool, n_target=n_train + N_NEW)
    rng = np.random.default_rng([seed, 1])
    strong = np.argsort(-np.abs(made.pattern).sum(axis=0), kind="stable")
    at = (*strong[:8], *rng.permutation(strong[8:])[: N_REGIONS - 8])
    names = [made.target.regions[i] for i in at]
    source = made.source.with_regions(made.target.regions)
    return StudyCohorts(
        {"target": cut(made.target, names), "source": cut(source, names), "pool": cut(made.pool, names)}
    )


def spread(seed: int, n_train: int) -> tuple[StudyCohorts, Row]:
    """The outcome is the lesion load propagated along the subject's connections; ridge on the propagated load."""
    made = simulate_spread(seed, n_train + N_NEW, TASK, n_regions=N_REGIONS)
    start = time.process_time()
    rows, y = made.arrived, made.cohort.targets[TASK].to_numpy(float)
    found = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(rows[:n_train], y[:n_train]).predict(rows[n_train:])
    value = float(r2_score(y[n_train:], found))
    row = ("encoders spread", seed, "ridge on the propagated loads", value, time.process_time() - start)
    return StudyCohorts({"target": made.cohort}), row


def study(
    encoder: EncoderSettings | dict[str, Any], objective: Any = None, early: Training | None = None
) -> StudySettings:
    return StudySettings(
        source=CohortUse(cohort="older", tasks=("score", "age", "sex")),
        pool=CohortUse(cohort="pool"),
        target=CohortUse(cohort="target", tasks=(TASK,)),
        model=ModelSettings.model_validate({"encoder": encoder}),
        stages=Stages(
            pretrain=Pretrain(training=early or Training(weight_decay=10.0)),
            adapt=None if objective is None else Adapt(objective=objective),
            finetune=FineTune(ensemble=Ensemble(networks=3)),
        ),
        n_jobs=1,
    )


def fitted(
    asked: StudySettings, cohorts: StudyCohorts, scheme: str, n_train: int, model: str, part: str, seed: int
) -> tuple[Row, dict[str, FitResult]]:
    """R2 on new subjects of one model, and its fits."""
    ids = cohorts.target.ids
    plan = chain(asked, cohorts, BY_NAME[scheme], Fold(ids[:n_train], ids[n_train:]), (TASK,), seed=seed)
    start = time.process_time()
    results = fit([plan], cohorts.by_name())
    cpu = time.process_time() - start
    truth = cohorts.target.targets[TASK].to_numpy(float)[n_train:]
    found = np.array([results[plan.key].predictions[subject][0] for subject in plan.predict])
    known = np.isfinite(truth)
    error = ((truth - found)[known] ** 2).mean() / truth[known].var()
    return (part, seed, model, 1 - float(error), cpu), results


def encoders_of(seed: int, kind: str) -> Iterator[Row]:
    part, n_train = f"encoders {kind}", 60 if kind == "footprint" else 300
    if kind == "footprint":
        cohorts = footprint(seed, n_train)
    else:
        cohorts, by_hand = spread(seed, n_train)
        yield by_hand
    yield fitted(study(ENCODERS[0]), cohorts, "core_scratch", n_train, "core", part, seed)[0]
    for encoder in ENCODERS:
        changed = {"node_features": "measures"} if kind == "spread" and hasattr(encoder, "node_features") else {}
        for messages in (True, False):
            if not messages and not hasattr(encoder, "messages"):
                continue
            asked = encoder.model_copy(update=changed if messages else {**changed, "messages": False})
            name = f"{encoder.kind}{'' if messages else ' without messages'}"  # type: ignore[attr-defined]
            yield fitted(study(asked), cohorts, "network_scratch", n_train, name, part, seed)[0]


def objectives_of(seed: int) -> Iterator[Row]:
    cohorts = footprint(seed, 33, n_source=150, n_pool=80)
    rows: list[tuple[str, Any, str]] = [
        ("no adaptation", None, "network_no_adapt"),
        ("scratch", None, "network_scratch"),
    ]
    rows += [(one.kind, one, "network") for one in OBJECTIVES]
    for name, objective, scheme in rows:
        row, results = fitted(study(ENCODERS[0], objective), cohorts, scheme, 33, name, "objectives", seed)
        yield row
        for result in results.values() if objective is not None else ():
            for fact, value in result.facts.items():
                if fact.startswith("probe "):
                    yield f"probe {name}", seed, fact.removeprefix("probe "), value, 0.0


def atlases_of(seed: int) -> Iterator[Row]:
    early = Training(steps=300, learning_rate=3e-3)
    for adult, name in (("aal90", "same atlas"), ("aal116", "other atlas")):
        made = simulate_study(seed=seed, n_source=200, n_pool=4, n_target=33 + N_NEW, adult=adult, smooth=True)
        source = made.source.with_regions(made.target.regions) if adult == "aal90" else made.source
        cohorts = StudyCohorts({"target": made.target, "source": source})
        yield fitted(study(FREE, early=early), cohorts, "network_no_adapt", 33, name, "atlases", seed)[0]
    yield fitted(study(FREE), cohorts, "network_scratch", 33, "no transfer", "atlases", seed)[0]
    yield fitted(study(FREE), cohorts, "core_scratch", 33, "core", "atlases", seed)[0]


PARTS: dict[str, tuple[tuple[str, Callable[[int], Iterator[Row]]], ...]] = {
    "encoders": (
        ("encoders footprint", lambda seed: encoders_of(seed, "footprint")),
        ("encoders spread", lambda seed: encoders_of(seed, "spread")),
    ),
    "objectives": (("objectives", objectives_of),),
    "atlases": (("atlases", atlases_of),),
}


def difference(table: pd.DataFrame, one: str, other: str) -> str:
    """Mean paired difference over cohorts with its 95 % t interval."""
    both = (table[one] - table[other]).dropna()
    if len(both) < 2:
        return "-"
    half = stats.t.ppf(0.975, len(both) - 1) * both.std(ddof=1) / len(both) ** 0.5
    return f"{both.mean():+.3f} [{both.mean() - half:+.3f}, {both.mean() + half:+.3f}]"


def report(rows: list[Row]) -> None:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for part in ("encoders footprint", "encoders spread", "objectives", "atlases"):
        mine = table[table["part"] == part]
        if mine.empty:
            continue
        wide = mine.pivot_table(index="seed", columns="model", values="value")
        cpu = mine.groupby("model")["cpu"].mean()
        against = {"objectives": "no adaptation", "atlases": "no transfer"}.get(part)
        control = against or "itself without messages"
        print(f"\n{part}: {len(wide)} cohorts\n")
        core = " minus the core |" if "core" in wide else ""
        print(f"| model | R2 | minus {control} |{core} CPU s |")
        print("|---|---|---|---|" + ("---|" if core else ""))
        for name in dict.fromkeys(mine["model"]):
            other = against or f"{name} without messages"
            first = difference(wide, name, other) if other in wide and other != name else ""
            second = f" {difference(wide, name, 'core') if name != 'core' else ''} |" if core else ""
            print(f"| {name} | {wide[name].mean():.3f} | {first} |{second} {cpu[name]:.1f} |")
    probes = table[table["part"].str.startswith("probe ")]
    if len(probes):
        mean = probes.groupby(["part", "model"], sort=False)["value"].mean()
        print("\nprobes, mean over cohorts, before -> after stage 2\n")
        facts = mean.index.get_level_values(1).unique()
        what = [fact.removeprefix("0, ") for fact in facts if fact.startswith("0, ")]
        print(f"| objective | {' | '.join(what)} |")
        print("|---|" + "---|" * len(what))
        for part in mean.index.get_level_values(0).unique():
            cells = [f"{mean[part][f'0, {w}']:.2f} -> {mean[part][f'1, {w}']:.2f}" for w in what]
            print(f"| {part.removeprefix('probe ')} | {' | '.join(cells)} |")
    print(f"\nCPU time {table['cpu'].sum() / 60:.1f} min")


def read(out: Path | None) -> list[Row]:
    if out is None or not out.is_file():
        return []
    with out.open() as stream:
        return [(p, int(s), m, float(v), float(c)) for p, s, m, v, c in csv.reader(stream, delimiter="\t")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--encoders", nargs="+", metavar="KIND", help="only these kinds in the part `encoders`")
    parser.add_argument("--out", type=Path, default=Path("encoders.tsv"))
    parser.add_argument("--quick", action="store_true", help="one cohort of two encoders and objectives, not stored")
    parser.add_argument("--report", action="store_true", help="only print stored results")
    arguments = parser.parse_args()
    out, n = arguments.out, arguments.cohorts
    if arguments.encoders:
        ENCODERS[:] = [one for one in ENCODERS if getattr(one, "kind", "") in arguments.encoders]
    if arguments.quick:
        out, n = None, 1
        del ENCODERS[2:], OBJECTIVES[2:]
    rows = read(out)
    done = {(part, seed) for part, seed, *_ in rows}
    for seed in range(arguments.first, arguments.first + n):
        for part, run in (one for name in arguments.part for one in PARTS[name]):
            if arguments.report or (part, seed) in done:
                continue
            made = list(run(seed))
            rows += made
            if out is not None:
                with out.open("a") as stream:
                    csv.writer(stream, delimiter="\t").writerows(made)
            print(f"{part}, seed {seed}: {sum(row[4] for row in made):.0f} CPU s", file=sys.stderr)
    report(rows)


if __name__ == "__main__":
    main()
