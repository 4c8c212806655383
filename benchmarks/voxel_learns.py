"""Age prediction by a small 3D network, compared with five controls without networks and the best possible error.

    python benchmarks/voxel_learns.py [--cohorts 10] [--first 0] [--out voxel_learns.tsv] [--quick]
        [--n 480] [--size 32] [--device cpu]

Each cohort is a study of its own through the whole engine (`run_study`): `--n` labelled infants on T1w volumes, 0 to 24
months, whose contrast inverts in the first year, three scanners, and 200 others that are tested. Nothing is
pretrained: `network` is four ResNet-10 of an eighth of the published width, averaged. Simulator, size and budget were
set on cohorts from 1000 on, which are not counted. Printed: the mean absolute error (months) of every model beside
that of the best possible estimate (`oracle`), and paired differences of `network` and `full` to the best control of
each cohort with 95 % t intervals over cohorts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from voxel_tables import CONTROLS, Table, arguments, beside_controls

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Stages, Training
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.study.run import run_study

TESTED = 200


def settings(seed: int, n: int, size: int, steps: int, device: str) -> StudySettings:
    """The study of one cohort."""
    return StudySettings(
        title="Age from simulated volumes",
        target=CohortUse(cohort="infants/cohort.yaml", tasks=("age",)),
        image=ImageSettings(
            size=size, voxel=160.0 / size, augment=Augmentation(flip=0.5, affine=0.5, noise=0.2, gamma=0.2)
        ),
        model=ModelSettings(encoder=ResNetEncoder(width=1 / 8, stem_stride=2), fused_width=16),
        stages=Stages(
            pretrain=None,
            adapt=None,
            finetune=FineTune(
                training=Training(steps=steps, batch_size=16, learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
                ensemble=Ensemble(networks=4, checkpoints=(0.5,)),
            ),
        ),
        splits=SplitSettings(scheme="few_labels", n_labelled=n, repeats=1, outer=2, stratum="", seed=seed),
        controls=(),
        baselines=("prevalence", *CONTROLS),
        refits=Refits(linear=0),
        seed=seed,
        n_jobs=1,
        device=device,
    )


def errors(seed: int, n: int, size: int, quick: bool, device: str) -> dict[str, float]:
    """Mean absolute error of every model on one cohort, in months."""
    tested = 16 if quick else TESTED
    simulated = VolumeSettings(size=size)
    home = Path(tempfile.mkdtemp())
    try:
        best: dict[str, float] = {}
        cohort = write_volumes(
            n + tested,
            simulated,
            home / "infants",
            name="infant",
            seed=seed,
            watch=lambda subject, one: best.update({subject: one.oracle_age}),
        )
        # Scanners are no families; a stratum of age would need classes.
        write_cohort(replace(cohort, simulated=True), home / "infants")
        found = run_study(settings(seed, n, size, 4 if quick else 600, device), home / "run", base=home)
        mae = found.scores[found.scores["metric"] == "mae"]
        values = {str(model): float(value) for model, value in zip(mae["model"], mae["value"], strict=True)}
        seen = found.predictions[found.predictions["model"] == "network"].set_index("subject")
        values["oracle"] = float(np.mean([abs(best[str(i)] - truth) for i, truth in seen["y_true"].items()]))
        return values
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--n", type=int, default=480)
    parser.add_argument("--size", type=int, default=32)
    own, rest = parser.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    asked = arguments(__doc__, "voxel_learns", cohorts=10)
    n, size = (24, 16) if asked.quick else (own.n, own.size)
    arm = f"n={n} {size}^3"
    table = Table(asked.out)
    for seed in range(asked.first, asked.first + asked.cohorts):
        table.fill(seed, arm, lambda seed=seed: errors(seed, n, size, asked.quick, asked.device))
    print(f"\n{arm}: mean absolute error")
    for measure in sorted({measure for _, a, measure in table.values if a == arm} - {"cpu", *CONTROLS}):
        print(f"  {measure:20s} {table.of(arm, measure).mean():.3f} months")
    beside_controls(table.measures(arm, ("network", "full")), table.measures(arm, CONTROLS), unit=" months")
    table.spent()


if __name__ == "__main__":
    main()
