"""The closed-form core against fixed linear models: simulated cohorts, ABIDE, cortex; no network.

    python benchmarks/strength.py --data ../shared/data --out strength.jsonl [--draws confirm|design] [--quick]

Per cell (cohort, outcome, number of training rows) the best FIXED baseline is the one with the best mean on
separate draws (stream "select"). On the draws of the chosen stream the core is then compared with it: mean
difference (R2, or AUC of labels) with a 95 % t interval over draws. "Hindsight" is the difference to the
baseline that is best on the same draws, which no rule could have selected in advance. Draws of a real cohort share
subjects, so their intervals are too narrow for new subjects.

Baselines, each a ridge with its penalty by leave-one-family-out: raw edges; everything (edges, regional,
covariates, standardised and concatenated); tangent; covariates; regional. An outcome is never its own covariate.
Results are appended after each draw, so that a killed run resumes; results of other code are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import r2_score, roc_auc_score
from strength_cohorts import REAL, SIMULATED, Cohort
from threadpoolctl import threadpool_limits

from connectome_tl.features import tangent as tangent_module
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.tangent import CORRELATIONS
from connectome_tl.training.closed_form import core as core_module
from connectome_tl.training.closed_form.blocks import Block
from connectome_tl.training.closed_form.combine import best_fit
from connectome_tl.training.closed_form.core import fit_core
from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum

STREAMS = {"select": 1, "design": 2, "confirm": 3}
N_DRAWS = {"select": 12, "design": 8, "confirm": 20}
N_TEST = 300
SIZES: dict[str, tuple[str, ...]] = {
    "adult functional": ("33", "100", "300", "600"),
    "neonatal functional": ("33", "100", "300", "600"),
    "structural counts": ("33", "100", "300", "600"),
    "ABIDE": ("33", "100", "300", "5-fold"),
    "cortex": ("33", "100"),
}
ORDER = ("33", "100", "300", "5-fold", "600")  # the most expensive cells last
PENALTIES = np.logspace(-2, 3, 11)


@dataclass(frozen=True, eq=False)
class Rows:
    """Train and test rows of each modality, fitted on training rows, and the outcomes."""

    blocks: dict[str, tuple[np.ndarray, np.ndarray]]
    families: np.ndarray


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    spread = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1e-9), spread, np.inf)
    return np.nan_to_num((train - mean) / spread), np.nan_to_num((test - mean) / spread)


def rows_of(cohort: Cohort, train: np.ndarray, test: np.ndarray) -> Rows:
    """Standardised edges and regional columns, tangent rows."""
    blocks = {"edges": _scaled(cohort.edges[train], cohort.edges[test])}
    if cohort.regional is not None:
        blocks["regional"] = _scaled(cohort.regional[train], cohort.regional[test])
    if cohort.correlations is not None:
        mask = np.ones(cohort.correlations.shape[:2], dtype=bool)
        ids = np.arange(len(mask)).astype(str)
        matrices = cohort.correlations[:, None]
        step = TangentEdges.fit(matrices[train], mask[train], list(ids[train]), CORRELATIONS)
        found = [step.rows(matrices[part], mask[part], list(ids[part])) for part in (train, test)]
        mean = found[0].mean(axis=0)
        blocks["tangent"] = (found[0] - mean, found[1] - mean)
    return Rows(blocks, cohort.families[train])


def baselines(rows: Rows, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and predictions (n_test, n_outcomes) of each fixed baseline; y (n_train, n_outcomes)."""
    parts = dict(rows.blocks)
    wide = [parts[name] for name in ("edges", "regional", "covariates") if name in parts]
    if wide:
        parts["everything"] = (np.hstack([part[0] for part in wide]), np.hstack([part[1] for part in wide]))
    for name, (train, test) in parts.items():
        scale = np.einsum("ij,ij->", train, train) / len(train)
        gram, cross = train @ train.T / scale, test @ train.T / scale
        predicted = np.empty((len(test), y.shape[1]))
        for column in range(y.shape[1]):
            known = np.flatnonzero(np.isfinite(y[:, column]))
            target = y[known, column][:, None]
            design = Design.of(np.ones((len(known), 1)), Families.of(rows.families[known]))
            spectrum = Spectrum.of(gram[np.ix_(known, known)], np.arange(len(known)), design)
            errors = design.residuals(target)
            shares, _ = best_fit(spectrum.path(target, errors, PENALTIES), errors, np.array([False]))
            dual = spectrum.dual(target, PENALTIES, shares)
            rest = target.mean() - (gram[np.ix_(known, known)] @ dual).mean()
            predicted[:, column] = (cross[:, known] @ dual)[:, 0] + rest
        yield name, predicted


def core_blocks(rows: Rows, part: int, edges: str) -> list[Block]:
    """Inputs of the core, the same choice for every cohort. `edges`: use of raw edges besides their tangent form."""
    found = []
    for name, values in rows.blocks.items():
        # Raw edges repeat the information of their tangent form: they enter the stack only, without a radial kernel.
        again = name == "edges" and "tangent" in rows.blocks
        if again and edges == "none":
            continue
        kernel = "linear" if again or name == "covariates" else "both"
        found.append(Block(name, values[part], kernel, relax=name == "tangent", summed=not again or edges == "summed"))
    return found


def groups(cohort: Cohort) -> Iterator[tuple[list[str], list[str]]]:
    """(outcomes, covariates): an outcome that is a covariate is fitted without it."""
    plain = [name for name in cohort.outcomes if name not in cohort.covariates]
    yield plain, list(cohort.covariates)
    for name in cohort.outcomes:
        if name in cohort.covariates:
            yield [name], [other for other in cohort.covariates if other != name]


def score_draw(cohort: Cohort, train: np.ndarray, test: np.ndarray, edges: str | None) -> dict[str, dict[str, float]]:
    """Scores by outcome and model; seconds of CPU under "cpu". Without `edges` the baselines only."""
    start = time.process_time()
    whole = rows_of(cohort, train, test)
    scores: dict[str, dict[str, float]] = {name: {} for name in cohort.outcomes}
    spent = {"rows": time.process_time() - start, "core": 0.0, "baselines": 0.0}
    for names, covariates in groups(cohort):
        if not names:
            continue
        clinical = np.column_stack([cohort.covariates[name] for name in covariates])
        blocks = {**whole.blocks, "covariates": _scaled(clinical[train], clinical[test])}
        rows = Rows(blocks, whole.families)
        y = np.column_stack([cohort.outcomes[name] for name in names])
        start = time.process_time()
        found = list(baselines(rows, y[train]))
        spent["baselines"] += time.process_time() - start
        if edges is not None:
            start = time.process_time()
            kinds = ["binary" if name in cohort.binary else "regression" for name in names]
            fit = fit_core(core_blocks(rows, 0, edges), y[train], kinds, [str(f) for f in rows.families])
            found.append(("core", fit.predict(core_blocks(rows, 1, edges))))
            spent["core"] += time.process_time() - start
        for model, predicted in found:
            for column, name in enumerate(names):
                known = np.isfinite(y[test, column])
                measure = roc_auc_score if name in cohort.binary else r2_score
                scores[name][model] = float(measure(y[test][known, column], predicted[known, column]))
    scores["cpu"] = spent
    return scores


def drawn(name: str, real: Cohort | None, size: str, stream: str, draw: int) -> tuple[Cohort, np.ndarray, np.ndarray]:
    """A cohort, its training and its test rows. A "5-fold" draw is one fold of one of several partitions."""
    if real is None:
        n = int(size)
        cohort = SIMULATED[name](1000 * STREAMS[stream] + draw, n + N_TEST)
        train, test = np.arange(n), np.arange(n, n + N_TEST)
        return cohort, train, test[~np.isin(cohort.families[test], cohort.families[train])]
    if size == "5-fold":
        order = np.random.default_rng([7, 1000 * STREAMS[stream] + draw // 5]).permutation(len(real.families))
        test = np.sort(order[draw % 5 :: 5])
        return real, np.setdiff1d(order, test), test
    order = np.random.default_rng([8, 1000 * STREAMS[stream] + draw]).permutation(len(real.families))
    return real, order[: int(size)], order[int(size) : int(size) + N_TEST]


def run(args: argparse.Namespace) -> None:
    cohorts = dict.fromkeys(SIMULATED)
    if args.data is not None:
        cohorts |= {name: read(args.data) for name, read in REAL.items()}
    code = _code(args.edges)
    done = _read(args.out, code)
    cells = [(size, name) for name in cohorts for size in SIZES[name] if not args.quick or size == "33"]
    for size, name in sorted(cells, key=lambda cell: ORDER.index(cell[0])):
        for stream in ("select", args.draws):
            n_draws = 2 if args.quick else N_DRAWS[stream]
            for draw in range(n_draws):
                key = (name, size, stream, draw)
                if key in done:
                    continue
                cohort, train, test = drawn(name, cohorts[name], size, stream, draw)
                done[key] = score_draw(cohort, train, test, None if stream == "select" else args.edges)
                line = dict(zip(("cohort", "size", "stream", "draw"), key)) | {"scores": done[key], "code": code}
                with args.out.open("a") as file:
                    # Start a new line, even if a kill truncated the last one.
                    file.write("\n" + json.dumps(line) + "\n")
    report(done, args.draws)


def report(done: dict[tuple, dict], stream: str) -> None:
    """A table of cells, then the bars."""
    print(
        f"{'cell':44s} {'draws':>5s} {'core':>6s}  {'best fixed':12s} {'score':>6s}  difference [95 %]        hindsight"
    )
    cells: dict[str, list[tuple[float, float]]] = {"small": [], "large": []}
    for cohort, size in sorted({key[:2] for key in done}, key=str):
        chosen = {part: [v for k, v in done.items() if k[:3] == (cohort, size, part)] for part in ("select", stream)}
        if not chosen["select"] or len(chosen[stream]) < 2:
            continue
        for outcome in chosen[stream][0]:
            if outcome == "cpu":
                continue
            names = sorted(chosen["select"][0][outcome])
            means = {n: np.mean([scores[outcome][n] for scores in chosen["select"]]) for n in names}
            fixed = max(means, key=lambda n: means[n])
            table = {n: np.array([scores[outcome][n] for scores in chosen[stream]]) for n in [*names, "core"]}
            hindsight = max(names, key=lambda n: table[n].mean())
            mean, half = _interval(table["core"] - table[fixed])
            after = (table["core"] - table[hindsight]).mean()
            cells["small" if size in ("33", "100") else "large"].append((mean, mean + half))
            print(
                f"{f'{cohort}, {outcome}, n = {size}':44s} {len(table['core']):5d} {table['core'].mean():6.3f}  "
                f"{fixed:12s} {table[fixed].mean():6.3f}  {mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]   "
                f"{after:+.3f} {hindsight}"
            )
    for name, least, bar in (("large", 0.0, -0.01), ("small", -0.01, -0.04)):
        if cells[name]:
            mean = np.mean([cell[0] for cell in cells[name]])
            below = sum(cell[1] < bar for cell in cells[name])
            verdict = "holds" if mean >= least and not below else "does not hold"
            sizes = "n >= 300" if name == "large" else "n = 33 and 100"
            print(
                f"{sizes}: {len(cells[name])} cells, mean difference {mean:+.4f} (bar {least:+.2f}), "
                f"{below} intervals entirely below {bar:+.2f}: {verdict}"
            )
    spent = {part: sum(v["cpu"][part] for v in done.values()) for part in ("rows", "baselines", "core")}
    print("CPU seconds: " + ", ".join(f"{part} {seconds:.0f}" for part, seconds in spent.items()))


def _interval(values: np.ndarray) -> tuple[float, float]:
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def _code(edges: str) -> str:
    """Hash of everything that determines the results."""
    folder = Path(core_module.__file__).parent
    sources = [
        *sorted(folder.glob("*.py")),
        Path(tangent_module.__file__),
        Path(__file__),
        Path(__file__).with_name("strength_cohorts.py"),
    ]
    text = b"".join(path.read_bytes() for path in sources) + (CoreSettings().model_dump_json() + edges).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def _read(path: Path, code: str | None) -> dict[tuple, dict]:
    """Results by cell, stream and draw; `code` None takes those of any code."""
    found: dict[tuple, dict] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            given = json.loads(line)
        except ValueError:  # the line that a kill truncated
            continue
        if code not in (None, given["code"]):
            sys.exit(f"{path} contains results of other code: name another file with --out")
        found[(given["cohort"], given["size"], given["stream"], given["draw"])] = given["scores"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data; without it only simulations run")
    parser.add_argument("--out", type=Path, default=Path("strength.jsonl"))
    parser.add_argument("--draws", choices=("design", "confirm"), default="confirm")
    parser.add_argument("--edges", choices=("stack", "summed", "none"), default="stack", help="with a tangent block")
    parser.add_argument("--report", action="store_true", help="print the results in the file and run nothing")
    parser.add_argument("--quick", action="store_true", help="two draws of the smallest simulated cells")
    args = parser.parse_args()
    if args.report:
        report(_read(args.out, None), args.draws)
        return
    if args.quick:
        args.data = None
    with threadpool_limits(1):
        run(args)


if __name__ == "__main__":
    main()
