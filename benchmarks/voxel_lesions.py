"""Detection of a lesion by a small 3D network trained from scratch, over the number of labelled subjects.

    python benchmarks/voxel_lesions.py [--cohorts 10] [--first 0] [--out voxel_lesions.tsv] [--device cpu] [--quick]
        [--n 480] [--size 48] [--easy]

Each cohort is a study of its own through the whole engine (`run_study`): `--n` labelled newborns on ADC volumes, 40 %
of them with a lesion of the deep grey matter, equal-looking blobs elsewhere in both classes, three scanners, and 200
others that are tested. `--easy`: lesions of twice the radius, no blobs elsewhere. Nothing is pretrained: `network` is
four ResNet-10 of an eighth of the published width, averaged. Simulator, size and budget were set on cohorts from 1000
on, which are not counted. Printed: AUC of every model beside that of the best possible risk (`oracle`) and of the
number of blobs (`any blob`), and paired differences to each control and to the best one of each cohort with 95 % t
intervals over cohorts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import voxel_learns
from sklearn.metrics import roc_auc_score
from voxel_learns import TESTED
from voxel_tables import CONTROLS, Table, arguments, beside_controls

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import Lesions, VolumeSettings, easy
from connectome_tl.workflows.study.run import run_study


def settings(seed: int, n: int, size: int, steps: int, device: str) -> StudySettings:
    """The study of one cohort: that of ages, with other outcome, strata and augmentation."""
    age = voxel_learns.settings(seed, n, size, steps, device)
    augment = Augmentation(flip=0.5, affine=0.0, noise=0.0, gamma=0.2)
    return age.model_copy(
        update={
            "title": "Lesions of simulated newborns",
            "target": CohortUse(cohort="newborns/cohort.yaml", tasks=("injury",)),
            "image": age.image.model_copy(update={"augment": augment}),
            "splits": age.splits.model_copy(update={"stratum": "injury"}),
        }
    )


def scores(seed: int, n: int, size: int, steps: int, simple: bool, device: str, tested: int) -> dict[str, float]:
    """AUC of every model on one cohort."""
    simulated = VolumeSettings(size=size, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions())
    if simple:
        simulated = easy(simulated)
    home = Path(tempfile.mkdtemp())
    try:
        newborns = home / "newborns"
        truth: list[tuple[float, float, int]] = []
        cohort = write_volumes(
            n + tested,
            simulated,
            newborns,
            name="newborn",
            outcomes=("injury",),
            seed=seed,
            watch=lambda _, one: truth.append((one.outcome, one.oracle_risk, one.n_blobs)),
        )
        write_cohort(cohort, newborns)
        found = run_study(settings(seed, n, size, steps, device), home / "run", base=home)
        auc = found.scores[found.scores["metric"] == "auc"]
        values = {str(model): float(value) for model, value in zip(auc["model"], auc["value"], strict=True)}
        outcome, risk, n_blobs = np.array(truth).T
        values["oracle"] = float(roc_auc_score(outcome, risk))
        values["any blob"] = float(roc_auc_score(outcome, n_blobs))
        return values
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--n", type=int, default=480)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--easy", action="store_true")
    own, rest = parser.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    asked = arguments(__doc__, "voxel_lesions", cohorts=10)
    n, size, steps, tested = (24, 16, 4, 16) if asked.quick else (own.n, own.size, own.steps, TESTED)
    arm = f"n={n} {size}^3 {steps} steps{' easy' if own.easy else ''}"
    table = Table(asked.out)
    for seed in range(asked.first, asked.first + asked.cohorts):
        table.fill(seed, arm, lambda seed=seed: scores(seed, n, size, steps, own.easy, asked.device, tested))
    print(f"\n{arm}, {len(table.of(arm, 'network'))} cohorts: AUC")
    for measure in sorted({measure for _, a, measure in table.values if a == arm} - {"cpu", *CONTROLS}):
        print(f"  {measure:20s} {table.of(arm, measure).mean():.3f}")
    for model in ("network", "full"):
        for control in CONTROLS:
            table.within(arm, model, control)
    models = table.measures(arm, ("network", "full"))
    beside_controls(models, table.measures(arm, CONTROLS), higher=True, unit=" AUC")
    table.spent()


if __name__ == "__main__":
    main()
