"""`connectome-tl demo --images`: run a small AGE2HIE study with importance maps on simulated volumes.

Stage 1 predicts the age of healthy infants from T1w volumes. The target are newborns with another contrast (ADC), some
with an injury of the deep grey matter, simulated by `simulation.volumes`.
"""

from __future__ import annotations

from pathlib import Path

from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import Lesions, VolumeSettings, easy
from connectome_tl.workflows.images.map_files import FOLDER
from connectome_tl.workflows.images.maps import PAGE, map_volumes
from connectome_tl.workflows.study.run import run_study

SIZE = 32  # voxels along each axis
HEALTHY = VolumeSettings(size=SIZE, ages=(0.0, 24.0))
BRIEF_MAP = NoiseMap(width=4, depth=2, descent=Descent(steps=100, batch_size=8, learning_rate=1e-2))
NEWBORNS = easy(VolumeSettings(size=SIZE, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions()))


def image_demo_settings(seed: int = 0) -> StudySettings:
    """The demo's study: pretraining on age, fine-tuning on injury, control from scratch and image baselines."""
    return StudySettings(
        title="Demo: brain age to injury, simulated volumes",
        source=CohortUse(cohort="../cohorts/healthy/cohort.yaml", tasks=("age",)),
        target=CohortUse(cohort="../cohorts/newborns/cohort.yaml", tasks=("injury",)),
        image=ImageSettings(size=28, voxel=5.5, centre="image", augment=Augmentation(affine=0.0, noise=0.2, gamma=0.2)),
        model=ModelSettings(encoder=ResNetEncoder(width=1 / 8, stem_stride=2), fused_width=16),
        stages=Stages(
            pretrain=Pretrain(training=Training(steps=160, weight_decay=0.1, batch_size=16)),
            adapt=None,
            finetune=FineTune(training=Training(steps=200, batch_size=16), ensemble=Ensemble(networks=2)),
        ),
        splits=SplitSettings(repeats=1, outer=3, seed=seed, stratum="injury"),
        controls=("scratch", "network_scratch"),
        baselines=(
            "prevalence",
            "nuisance_only",
            "random_encoder",
            "volumes",
            "quantiles",
            "volumes_quantiles",
            "pca_gpr",
        ),
        refits=Refits(linear=0),
        seed=seed,
    )


def run_image_demo(out: Path, *, seed: int = 0, show_progress: bool = True) -> tuple[Path, Path]:
    """Simulate, write, run; returns the report and the page of the voxel maps."""
    folder = out / "cohorts"
    write_volume_cohort(160, HEALTHY, folder / "healthy", name="healthy", seed=2 * seed + 1)
    write_volume_cohort(120, NEWBORNS, folder / "newborns", name="newborn", outcomes=("injury",), seed=2 * seed + 2)
    file = write_text(out / "study" / "study.yaml", dump_settings(image_demo_settings(seed)))
    report = run_study(file, out / "run", show_progress=show_progress).report
    map_volumes(out / "run", n_subjects=4, noise=BRIEF_MAP, show_progress=show_progress)
    return report, out / "run" / FOLDER / PAGE
