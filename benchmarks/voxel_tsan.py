"""Brain age in two stages against one stage, and the loss terms on ranks, at equal numbers of steps.

    python benchmarks/voxel_tsan.py [--cohorts 8] [--first 0] [--out voxel_tsan.tsv] [--device cpu] [--quick]

Simulated volumes at 32^3, 0 to 24 months, three scanners, 160 training and 200 test subjects. All arms average four
networks of inner folds and make as many steps in all: `plain` (one stage, squared error), `ranked` (one stage, rank and
difference terms), `two_stage` (squared error), `tsan` (both), `in_sample` (both, first estimates in-sample as
published, the mean of four seeds). Prints the mean absolute error, paired differences to `plain` with 95 % t intervals
over cohorts, and the AUC of cases, whose brains are 2.5 months ahead of their age, by a linear support vector machine
on the gap of new subjects, beside that of the best possible estimate of age. The five controls learn from the same
subjects; the correction of their gaps is fitted on out-of-fold estimates too.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score
from voxel_tables import CONTROLS, Table, arguments, beside_controls, controls_of, encoder, mae, rows_of

from connectome_tl.settings.images.cascade import RankedLoss, TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.images.age_gap import AgeBias, classify_by_gap, fit_age_bias, gap_table
from connectome_tl.training.images.cascade import fit_two_stage

AHEAD = 2.5  # months
ARMS = ("plain", "ranked", "two_stage", "tsan", "in_sample")


def settings_of(arm: str, steps: int) -> TwoStage:
    staged = arm not in ("plain", "ranked")
    first, second = (steps - steps // 3, steps // 3) if staged else (steps, 0)
    return TwoStage(
        loss=RankedLoss(weight=0.0 if arm in ("plain", "two_stage") else 10.0),
        first=Descent(steps=first, learning_rate=2e-3, cosine=True),
        second=Descent(steps=second, learning_rate=5e-4, cosine=True),
        first_estimates="in_sample" if arm == "in_sample" else "out_of_fold",
    )


def case_auc(ids: tuple[str, ...], age: np.ndarray, predicted: np.ndarray, bias: AgeBias | None) -> float:
    """Every second subject is said to be younger than its brain; five folds, AUC within each."""
    case = (np.arange(len(ids)) % 2).astype(float)
    said = age - AHEAD * case
    corrected = predicted if bias is None else bias.corrected(predicted, said)
    table = gap_table(ids, np.arange(len(ids)) // 2 % 5, said, predicted, corrected)
    found = classify_by_gap(table, case)
    return float(np.mean([roc_auc_score(part.y_true, part.y_score) for _, part in found.groupby("fold")]))


def run(table: Table, seed: int, quick: bool, device: str) -> None:
    size, n_train, n_test, steps = (16, 24, 40, 12) if quick else (32, 160, 200, 300)
    sim = simulate_volumes(n_train + n_test, VolumeSettings(size=size), seed=seed)
    rows = rows_of(sim, device)
    test = rows.at(range(n_train, n_train + n_test))

    def arm_of(arm: str) -> dict[str, float]:
        settings, column = settings_of(arm, steps), 0 if arm in ("plain", "ranked") else 1
        seeds = (
            [seed] if settings.first_estimates == "out_of_fold" else [seed + 10_000 * k for k in range(settings.folds)]
        )
        fits = [fit_two_stage(rows, rows.ids[:n_train], encoder, settings, one) for one in seeds]
        predicted = np.mean([fitted.predict(test)[:, column] for fitted in fits], axis=0)
        estimates = np.mean([fitted.estimates[:, column] for fitted in fits], axis=0)
        bias = fit_age_bias(rows.ids[:n_train], estimates, rows.ages[:n_train], "gap")
        return {"mae": mae(predicted, test.ages), "auc": case_auc(test.ids, test.ages, predicted, bias)}

    for arm in ARMS:
        table.fill(seed, arm, lambda arm=arm: arm_of(arm))
    controls, learnt, tested = controls_of(sim, rows), np.arange(n_train), np.arange(n_train, n_train + n_test)

    def control_of(name: str) -> dict[str, float]:
        estimates = np.zeros(n_train)
        for part in range(4):
            held = learnt % 4 == part
            estimates[held] = controls.predict(name, rows.ages[learnt[~held]], learnt[~held], learnt[held])
        predicted = controls.predict(name, rows.ages[learnt], learnt, tested)
        bias = fit_age_bias(rows.ids[:n_train], estimates, rows.ages[:n_train], "gap")
        return {"mae": mae(predicted, test.ages), "auc": case_auc(test.ids, test.ages, predicted, bias)}

    for control in CONTROLS:
        table.fill(seed, control, lambda control=control: control_of(control))
    oracle = sim.oracle_age[n_train:]
    table.fill(
        seed,
        "oracle",
        lambda: {"mae": mae(oracle, test.ages), "auc": case_auc(test.ids, test.ages, oracle, None)},
    )


def main() -> None:
    given = arguments(__doc__, "voxel_tsan", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        run(table, seed, given.quick, given.device)
    print()
    table.means([*ARMS, "oracle"], "mae", " months")
    table.against("plain", ARMS[1:], "mae")
    table.against("two_stage", ["tsan"], "mae")
    table.against("in_sample", ["tsan"], "mae")
    beside_controls(table.all(ARMS, "mae"), table.all(CONTROLS, "mae"), unit=" months")
    table.means([*ARMS, "oracle"], "auc")
    table.against("plain", ARMS[1:], "auc")
    beside_controls(table.all(ARMS, "auc"), table.all(CONTROLS, "auc"), higher=True, unit=" AUC")
    table.means(ARMS, "cpu", " s")
    table.spent()


if __name__ == "__main__":
    main()
