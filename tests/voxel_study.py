"""A small study of simulated volumes on disk, and the settings to run it in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import Lesions, VolumeSettings

LESIONS = Lesions(radius=16.0, distractors=False)

STUDY: dict[str, Any] = {
    "title": "volumes",
    "source": {"cohort": "older/cohort.yaml"},
    "pool": {"cohort": "pool/cohort.yaml"},
    "target": {"cohort": "target/cohort.yaml"},
    "image": {"size": 12, "voxel": 13.0},
    "model": {"encoder": {"kind": "resnet", "width": 0.0625, "stem_stride": 1}, "fused_width": 6},
    "stages": {
        "pretrain": {"training": {"steps": 3}},
        "adapt": {"objective": {"kind": "masked_volume", "blocks": 4, "coarse": 3}, "training": {"steps": 2}},
        "finetune": {"training": {"steps": 3}, "ensemble": {"networks": 2, "checkpoints": [0.5]}},
    },
    "splits": {"repeats": 1, "outer": 2, "stratum": "injury"},
    "controls": ["no_pretrain"],
    "baselines": ["prevalence", "volumes_quantiles"],
    "refits": {"linear": 0},
    "n_jobs": 1,
}


def write_study(folder: Path, *, n: int = 20, without: Sequence[int] = (), **changed: Any) -> Path:
    """Cohorts of volumes and a study.yaml; keys of `changed` replace those of the study."""
    small = VolumeSettings(size=16)
    write_volume_cohort(12, small, folder / "older", name="older", seed=1)
    infants = VolumeSettings(size=16, ages=(0.0, 1.0), contrast="ADC", lesions=LESIONS)
    write_volume_cohort(10, infants, folder / "pool", name="pool", outcomes=(), seed=2)
    write_volume_cohort(n, infants, folder / "target", name="target", outcomes=("injury",), seed=3, without=without)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **changed}))
    return file
