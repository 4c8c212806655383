"""Image methods on volumes that are read in batches: same results, and memory that does not grow with the cohort."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_fits import GAN, age, gan, noise
from image_rows import rows_of, simulated

from connectome_tl.provenance import content_hash
from connectome_tl.training.images.lazy import LazyVolumes, concatenated, mean_and_spread, on_disk, selected
from connectome_tl.training.images.rows import VolumeRows, in_batches
from connectome_tl.training.images.synthesis import fit_synthesiser, joined, nearness, synthesise

IN_MEMORY = rows_of(simulated())
VOLUMES = torch.randn(7, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))


def lazily(volumes: torch.Tensor) -> LazyVolumes:
    return LazyVolumes(tuple(volumes.shape), lambda index: volumes[index])


def test_lazy_volumes_are_those_of_the_tensor() -> None:
    lazy, rows = lazily(VOLUMES), np.array([5, 0, 3, 3])
    for found, expected in (
        (lazy[:2], VOLUMES[:2]),
        (lazy[torch.tensor([6, 1])], VOLUMES[[6, 1]]),
        (lazy.at(rows)[[1, 3]], VOLUMES[[0, 3]]),
        (selected(lazy, rows)[:], selected(VOLUMES, rows)),
        (concatenated(lazy, VOLUMES[:3])[[8, 2, 9, 0]], VOLUMES[[1, 2, 2, 0]]),
        (on_disk(lazy)[[4, 4, 1]], VOLUMES[[4, 4, 1]]),
        (torch.stack(list(lazy)), VOLUMES),
        (in_batches(lambda part: part * 2, lazy, 3), VOLUMES * 2),
    ):
        assert torch.equal(found, expected)
    mean, spread = mean_and_spread(lazy)
    torch.testing.assert_close(mean, VOLUMES.mean(dim=0))
    assert spread == pytest.approx(float(VOLUMES.std()), rel=1e-6)


@pytest.mark.parametrize("fit", [age, gan, noise], ids=lambda fit: fit.__name__)
def test_fits_do_not_depend_on_where_the_volumes_are(fit: object) -> None:
    rows = IN_MEMORY.at(range(10))
    assert content_hash(fit(rows, rows.ids)) == content_hash(fit(on_access(rows), rows.ids))  # type: ignore[operator]


def test_synthetic_volumes_do_not_depend_on_where_the_volumes_are() -> None:
    rows = IN_MEMORY.at(range(10))
    for source in ("gan", "mixup"):
        settings = GAN.model_copy(update={"source": source})
        model = fit_synthesiser(rows, rows.ids, settings, 0) if source == "gan" else None
        one, other = (synthesise(each, rows.ids, settings, 0, model).rows for each in (rows, on_access(rows)))
        assert isinstance(other.volumes, LazyVolumes)
        torch.testing.assert_close(one.loaded(), other.loaded())
        both = joined(on_access(rows), other)
        torch.testing.assert_close(both.batch(np.array([2, 11])), torch.stack([rows.volumes[2], one.volumes[1]]))
        near = [nearness(one.volumes, rows.volumes).ratio, nearness(other.volumes, on_access(rows).volumes).ratio]
        assert near[0] == pytest.approx(near[1])


def on_access(rows: VolumeRows) -> VolumeRows:
    assert isinstance(rows.volumes, torch.Tensor)
    return replace(rows, volumes=lazily(rows.volumes))


MEASURED = """
import resource, sys
import numpy as np, torch
from image_fits import BRIEF, GAN, age, noise
from image_rows import SmallEncoder
from torch import nn
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.images.volumes import ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.evaluation.baselines.volume_networks import _without_synthetic
from connectome_tl.training.images.lazy import LazyVolumes
from connectome_tl.training.images.pruning import prune
from connectome_tl.training.images.rows import VolumeRows
from connectome_tl.training.images.synthesis import fit_synthesiser, joined, nearness, synthesise

file, n, size = sys.argv[1], int(sys.argv[2]), 32
one = size**3

def make(index):
    parts = [np.fromfile(file, np.float16, one, offset=2 * one * (int(row) % 10)) for row in index]
    return torch.from_numpy(np.stack(parts).astype(np.float32).reshape(-1, 1, size, size, size))

rng = np.random.default_rng(0)
rows = VolumeRows(tuple(f"s{i}" for i in range(n)), LazyVolumes((n, 1, size, size, size), make), rng.uniform(0, 24, n))
noise(rows, rows.ids)
for source in ("gan", "mixup"):
    settings = GAN.model_copy(update={"source": source})
    model = fit_synthesiser(rows, rows.ids, settings, 0) if source == "gan" else None
    made = synthesise(rows, rows.ids, settings, 0, model).rows
    nearness(made.volumes, rows.volumes)
both = joined(rows, made)
age(both, both.ids)

net = nn.Sequential(SmallEncoder(), nn.Linear(8, 1))
target = torch.from_numpy(rows.ages).float()
loss = lambda one, at: (one(rows.batch(at))[:, 0] - target[at]).square().mean()
prune(net, loss, n, TaylorPruning(target=0.3, per_event=0.3, between=BRIEF, after=BRIEF), rng, rows.batch(np.arange(1)))
study = StudySettings(target=CohortUse(cohort="x"), model=ModelSettings(encoder=ResNetEncoder(width=0.0625)))
synthesis = study.baseline_settings.synthetic_volumes.model_copy(update={"training": BRIEF})
settings = study.baseline_settings.model_copy(update={"synthetic_volumes": synthesis})
_without_synthetic(study.model_copy(update={"baseline_settings": settings}), rows, rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
"""


@pytest.mark.slow
def test_memory_of_image_methods_does_not_grow_with_the_number_of_volumes(tmp_path: Path) -> None:
    file = tmp_path / "volumes"
    np.random.default_rng(0).normal(size=(10, 32, 32, 32)).astype(np.float16).tofile(file)
    peaks = []
    for n in (40, 340):
        command = [sys.executable, "-c", MEASURED, str(file), str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
        peaks.append(float(done.stdout))
    in_memory = 300 * 4 * 32**3 / 2**20  # MiB of the further volumes, held once
    assert peaks[1] - peaks[0] < 0.6 * in_memory
