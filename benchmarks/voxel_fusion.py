"""Compare fusion of connectome, covariates and volumes, a third of each missing at random, with each of them alone.

    python benchmarks/voxel_fusion.py [--cohorts 8] [--first 0] [--out voxel_fusion.tsv] [--device cpu] [--quick]

Each cohort has 320 simulated newborns, 120 to learn from and 200 to be tested, whose outcome depends on their
connectome, their covariates and a lesion of the deep grey matter that their volume (32^3, ADC) shows. A third of the
connectomes, of the volumes and of the rows of covariates is removed at random, so that one in 27 newborns has nothing;
they stay. All arms are studies through the whole engine on the same splits: `fused`, `dropout` (fused, each modality
hidden from a training row with a chance of 0.3), and the three modalities alone. Simulator, sizes and budget were set
before a result was seen. Printed: AUC of the full model and of the network of each arm, and paired differences with 95
% t intervals over cohorts to each modality alone and to the best of them in each cohort, chosen with the test scores,
which favours it; and to the best of the five controls, which see the volumes and which subjects have none.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from voxel_tables import CONTROLS, Table, arguments, beside_controls, best_of, differences, interval

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.settings.encoders import GraphEncoder
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Stages, Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.simulation.volume_cohorts import INJURY, write_volumes
from connectome_tl.simulation.volumes import Lesions, VolumeSettings, easy
from connectome_tl.workflows.study.run import run_study

SINGLE = ("connectome", "clinical", "image")
ARMS = ("fused", "dropout", *SINGLE)
LEARNT, TESTED = 120, 200


def cohort_of(seed: int, quick: bool, home: Path) -> Cohort:
    """Newborns with all three modalities, a third of each removed."""
    n = 40 if quick else LEARNT + TESTED
    made = simulate_study(n_source=4, n_pool=4, n_target=n, seed=seed)
    newborns = easy(VolumeSettings(size=16 if quick else 32, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions()))
    images = write_volumes(n, newborns, home / "newborns", name="x", outcomes=("injury",), seed=seed)
    rng = np.random.default_rng([seed, 9])
    lesion = images.targets["injury"].to_numpy(float)
    liability = np.asarray(made.liability)[:, 0]
    liability = (liability - liability.mean()) / liability.std() + 1.5 * (lesion - lesion.mean())
    outcome = (liability + 0.5 * rng.normal(size=n) > np.quantile(liability, 0.6)).astype(float)
    ids = list(made.target.ids)
    missing = rng.random((3, n)) < 1 / 3
    mask, covariates = made.target.node_mask.copy(), made.target.covariates.copy()
    mask[missing[0]] = False
    covariates.loc[missing[1]] = np.nan
    return replace(
        made.target,
        tasks=(INJURY,),
        targets=pd.DataFrame({"injury": outcome}, index=ids),
        status=pd.DataFrame({"injury": ["observed"] * n}, index=ids),
        scores=None,
        family=np.full(n, "", dtype=object),
        node_mask=mask,
        covariates=covariates,
        volumes=tuple("" if gone else file for gone, file in zip(missing[2], images.volumes, strict=True)),
    )


def settings(seed: int, arm: str, quick: bool, device: str) -> StudySettings:
    """The study of one arm."""
    volumes = ResNetEncoder(width=1 / 8, stem_stride=2)
    hidden = 0.3 if arm == "dropout" else 0.0
    graph = GraphEncoder(width=8, embedding=16)
    if arm == "image":
        model = ModelSettings(encoder=volumes, fused_width=16)
    else:
        others = () if arm in SINGLE else (volumes,)
        model = ModelSettings(encoder=graph, others=others, fused_width=16, modality_dropout=hidden)
    return StudySettings(
        title=f"Fusion, simulated: {arm}",
        target=CohortUse(cohort=f"{arm if arm in SINGLE else 'all'}/cohort.yaml", tasks=("injury",)),
        image=ImageSettings(
            size=16 if quick else 32,
            voxel=10.0 if quick else 5.0,
            augment=Augmentation(flip=0.5, affine=0.0, noise=0.0, gamma=0.0),
        ),
        model=model,
        stages=Stages(
            pretrain=None,
            adapt=None,
            finetune=FineTune(
                training=Training(steps=3 if quick else 200, batch_size=16), ensemble=Ensemble(networks=2)
            ),
        ),
        splits=SplitSettings(
            scheme="few_labels", n_labelled=20 if quick else LEARNT, repeats=1, outer=2, stratum="injury", seed=seed
        ),
        controls=(),
        baselines=("prevalence", *(CONTROLS if arm == "fused" else ())),
        refits=Refits(linear=0),
        seed=seed,
        n_jobs=1,
        device=device,
    )


def alone(cohort: Cohort, modality: str) -> Cohort:
    """The cohort with one modality; subjects without it are kept."""
    n = cohort.n_subjects
    if modality != "connectome":
        bare = {"regions": (), "atlas": "", "measures": (), "node_mask": np.zeros((n, 0), bool)}
        cohort = replace(cohort, weights=np.zeros((n, 0, 0, 0), np.float32), region_features=None, **bare)
    if modality != "clinical":
        cohort = replace(cohort, covariates=pd.DataFrame(index=list(cohort.ids)), covariate_specs=())
    return cohort if modality == "image" else replace(cohort, volumes=())


def run(table: Table, seed: int, quick: bool, device: str) -> None:
    home = Path(tempfile.mkdtemp())
    try:
        cohort = cohort_of(seed, quick, home)
        write_cohort(cohort, home / "all")
        for modality in SINGLE:
            write_cohort(alone(cohort, modality), home / modality)

        def arm_of(arm: str) -> dict[str, float]:
            found = run_study(settings(seed, arm, quick, device), home / f"run {arm}", base=home)
            auc = found.scores[found.scores["metric"] == "auc"]
            return {
                str(model): float(value)
                for model, value in zip(auc["model"], auc["value"], strict=True)
                if model in ("full", "network", "core", *CONTROLS)
            }

        for arm in ARMS:
            table.fill(seed, arm, lambda arm=arm: arm_of(arm))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    given = arguments(__doc__, "voxel_fusion", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        if any((seed, arm, "cpu") not in table.values for arm in ARMS):
            run(table, seed, given.quick, given.device)
    print()
    for measure in ("full", "network"):
        table.means(ARMS, measure)
        best = best_of(table.all(SINGLE, measure), higher=True)
        single_best = {cohort: value for cohort, (value, _) in best.items()}
        for arm in ("fused", "dropout"):
            found = differences(table.series(arm, measure), single_best)
            print(f"  {arm} - best single modality: {measure} {interval(found)} ({len(found)} cohorts)")
        for single in SINGLE:
            table.against(single, ["fused", "dropout"], measure)
        table.against("fused", ["dropout"], measure)
    print("  the five controls, which see the volumes")
    models = {
        f"{arm}, {measure}": table.series(arm, measure)
        for measure in ("full", "network")
        for arm in ("fused", "dropout", "image")
    }
    beside_controls(models, table.measures("fused", CONTROLS), higher=True, unit=" AUC")
    table.spent()


if __name__ == "__main__":
    main()
