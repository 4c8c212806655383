"""Tangent space of correlations: arithmetic against geometric mean, and shrinkage; scores and CPU time.

    python benchmarks/tangent.py --data ../shared/data [--draws 8]

Ridge on tangent rows of ABIDE (without the locked sites), penalty by leave-one-out, 300 test rows; the
difference to shrinkage 0.1 with the arithmetic mean, with its standard error over draws.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import r2_score, roc_auc_score
from strength import Rows, baselines, drawn
from strength_cohorts import abide
from threadpoolctl import threadpool_limits

from connectome_tl.features.tangent import TangentEdges
from connectome_tl.settings.tangent import TangentSettings

CHOICES = {
    "arithmetic, 0.1": TangentSettings(values="correlation"),
    "geometric, 0.1": TangentSettings(values="correlation", mean="geometric"),
    "arithmetic, 0.01": TangentSettings(values="correlation", shrinkage=0.01),
    "arithmetic, 0.3": TangentSettings(values="correlation", shrinkage=0.3),
}
OUTCOMES = ("age", "diagnosis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=8)
    args = parser.parse_args()
    with threadpool_limits(1):
        compare(args.data, args.draws)


def compare(data: Path, n_draws: int) -> None:
    """One line per size and choice."""
    cohort = abide(data)
    assert cohort.correlations is not None
    matrices, ids = cohort.correlations[:, None], [str(k) for k in range(len(cohort.families))]
    mask = np.ones(cohort.correlations.shape[:2], dtype=bool)
    y = np.column_stack([cohort.outcomes[name] for name in OUTCOMES])
    for size in ("33", "100", "300"):
        scores = {name: np.empty((n_draws, 2)) for name in CHOICES}
        spent = {name: np.zeros(2) for name in CHOICES}
        for draw in range(n_draws):
            _, train, test = drawn("ABIDE", cohort, size, "design", draw)
            for name, settings in CHOICES.items():
                start = time.process_time()
                step = TangentEdges.fit(matrices[train], mask[train], ids, settings)
                fitted = time.process_time()
                found = [step.rows(matrices[part], mask[part], ids) for part in (train, test)]
                spent[name] += (fitted - start) / len(train), (time.process_time() - fitted) / (len(train) + len(test))
                mean = found[0].mean(axis=0)
                rows = Rows({"tangent": (found[0] - mean, found[1] - mean)}, cohort.families[train])
                predicted = dict(baselines(rows, y[train]))["tangent"]
                scores[name][draw] = (
                    r2_score(y[test, 0], predicted[:, 0]),
                    roc_auc_score(y[test, 1], predicted[:, 1]),
                )
        first = scores["arithmetic, 0.1"]
        for name, values in scores.items():
            differences, error = (values - first).mean(axis=0), (values - first).std(axis=0, ddof=1) / n_draws**0.5
            text = ", ".join(
                f"{outcome} {mean:.3f} ({difference:+.3f} +- {se:.3f})"
                for outcome, mean, difference, se in zip(OUTCOMES, values.mean(axis=0), differences, error)
            )
            fit, apply = 1000 * spent[name] / n_draws
            print(f"n = {size:4s} {name:16s} {text}; ms a matrix: mean {fit:.1f}, rows {apply:.1f}", flush=True)


if __name__ == "__main__":
    main()
