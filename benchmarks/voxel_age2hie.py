"""Brain age to infant injury: pretraining on age against the same network from scratch, and five controls.

    python benchmarks/voxel_age2hie.py [--cohorts 20] [--first 0] [--out voxel_age2hie.tsv] [--quick]
        [--n 80] [--size 32] [--device cpu] [--null ages|lesions]

Each cohort is a study of its own through the whole engine (`run_study`): 400 healthy infants on T1w volumes (0 to 24
months, three scanners) whose age stage 1 learns, and newborns on ADC volumes, 40 % of them with a lesion of the deep
grey matter and equal-looking blobs elsewhere in both classes, at 32^3: `--n` to learn from and 200 to be tested.
Simulator, sizes, budget and number of newborns (80) were set on cohorts from 1000 on, which are not counted; the
network of stride 2 was taken for its cost. The seed of cohorts, splits and networks changes together. Printed: AUC of
every model (pairs within a test part) and paired differences with 95 % t intervals over cohorts, of `network` to
`network_scratch` (the same stage 3), to `network_long` (from random weights, with as many steps on the newborns as both
stages together), of `full` to `scratch`, and of `network` and `full` to each control and to the best one of each
cohort.

`--null ages` permutes the ages that stage 1 learns, and uses the source although nothing can be learned from it
(`stages.pretrain.use_if: always`); `--null lesions` plants none, and outcomes are drawn at random: neither may show a
benefit. Stage 3 has the same steps in both twins; those of stage 1 come on top of them. `--easy` has lesions of twice
the radius without blobs elsewhere.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from voxel_tables import CONTROLS, Table, arguments, beside_controls

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import Lesions, VolumeSettings, easy
from connectome_tl.workflows.study.run import run_study

PAIRS = (
    ("network", "network_scratch"),
    ("network", "network_long"),
    ("full", "scratch"),
    *(("network", control) for control in CONTROLS),
    *(("full", control) for control in CONTROLS),
)


@dataclass(frozen=True)
class Design:
    """Voxels along an axis, steps of stages 1 and 3, numbers of healthy and of tested subjects."""

    size: int
    steps: tuple[int, int] = (400, 200)
    healthy: int = 400
    tested: int = 200
    simple: bool = False


def settings(seed: int, n: int, design: Design, device: str, null: str | None = None) -> StudySettings:
    """The study of one cohort."""
    first, last = design.steps
    return StudySettings(
        title="AGE2HIE, simulated",
        source=CohortUse(cohort="healthy/cohort.yaml", tasks=("age",)),
        target=CohortUse(cohort="newborns/cohort.yaml", tasks=("injury",)),
        image=ImageSettings(
            size=design.size,
            voxel=160.0 / design.size,
            augment=Augmentation(flip=0.5, affine=0.0, noise=0.0, gamma=0.0, invert=0.3),
        ),
        model=ModelSettings(encoder=ResNetEncoder(width=1 / 8, stem_stride=2), fused_width=16),
        stages=Stages(
            pretrain=Pretrain(
                use_if="always" if null == "ages" else "predictable",
                training=Training(steps=first, batch_size=16, learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
            ),
            adapt=None,
            finetune=FineTune(training=Training(steps=last, batch_size=16), ensemble=Ensemble(networks=2)),
        ),
        splits=SplitSettings(scheme="few_labels", n_labelled=n, repeats=1, outer=2, stratum="injury", seed=seed),
        controls=("scratch", "network_scratch"),
        baselines=("prevalence", *CONTROLS),
        refits=Refits(linear=0),
        seed=seed,
        n_jobs=1,
        device=device,
    )


def scores(seed: int, n: int, null: str | None, design: Design, device: str) -> dict[str, float]:
    """AUC of every model on one cohort."""
    healthy = VolumeSettings(size=design.size)
    newborns = VolumeSettings(size=design.size, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions())
    if design.simple:
        newborns = easy(newborns)
    if null == "lesions":
        newborns = replace(newborns, lesions=None)
    home = Path(tempfile.mkdtemp())
    try:
        rng = np.random.default_rng([seed, 5])
        source = write_volumes(design.healthy, healthy, home / "healthy", name="healthy", seed=2 * seed)
        if null == "ages":
            order = rng.permutation(source.n_subjects)
            shuffled = pd.DataFrame(source.targets.to_numpy()[order], source.targets.index, source.targets.columns)
            source = replace(source, targets=shuffled)
        target = write_volumes(
            n + design.tested, newborns, home / "newborns", name="newborn", outcomes=("injury",), seed=2 * seed + 1
        )
        if null == "lesions":
            drawn = (rng.random(n + design.tested) < 0.4).astype(float)
            target = replace(
                target,
                targets=target.targets.assign(injury=drawn),
                status=target.status.assign(injury="observed"),
            )
        write_cohort(source, home / "healthy")
        write_cohort(target, home / "newborns")
        study = settings(seed, n, design, device, null)
        auc = aucs(study, home / "run", home)
        return {**auc, "network_long": aucs(long(study, sum(design.steps)), home / "long", home)["network"]}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def aucs(study: StudySettings, out: Path, home: Path) -> dict[str, float]:
    """AUC by model."""
    found = run_study(study, out, base=home).scores
    auc = found[found["metric"] == "auc"]
    return {str(model): float(value) for model, value in zip(auc["model"], auc["value"], strict=True)}


def long(study: StudySettings, steps: int) -> StudySettings:
    """The study without its source, and with this number of steps on the newborns."""
    training = study.stages.finetune.training.model_copy(update={"steps": steps, "part_learning_rates": {}})
    finetune = study.stages.finetune.model_copy(update={"training": training})
    stages = study.stages.model_copy(update={"pretrain": None, "finetune": finetune})
    less = {"source": None, "stages": stages, "controls": (), "baselines": ("prevalence",)}
    return study.model_copy(update=less)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--n", type=int, default=80)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, nargs=2, default=(400, 200), help="of stage 1 and of stage 3")
    parser.add_argument("--easy", action="store_true", help="lesions of twice the radius, no blobs elsewhere")
    parser.add_argument("--null", choices=("ages", "lesions"), default=None)
    own, rest = parser.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    asked = arguments(__doc__, "voxel_age2hie", cohorts=20)
    n = 24 if asked.quick else own.n
    design = Design(16, (4, 3), 24, 16) if asked.quick else Design(own.size, tuple(own.steps), simple=own.easy)
    arm = f"n={n} null={own.null} {design.size}^3 steps={design.steps}{' easy' if design.simple else ''}"
    table = Table(asked.out)
    for seed in range(asked.first, asked.first + asked.cohorts):
        table.fill(seed, arm, lambda seed=seed: scores(seed, n, own.null, design, asked.device))
    measures = sorted({measure for _, a, measure in table.values if a == arm} - {"cpu", *CONTROLS})
    print(f"\n{arm}, {len(table.of(arm, 'full'))} cohorts: AUC")
    for measure in measures:
        print(f"  {measure:20s} {table.of(arm, measure).mean():.3f}")
    for one, other in PAIRS:
        table.within(arm, one, other)
    models = table.measures(arm, ("network", "full"))
    beside_controls(models, table.measures(arm, CONTROLS), higher=True, unit=" AUC")
    table.spent()


if __name__ == "__main__":
    main()
