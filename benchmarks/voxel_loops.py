"""Two training loops of a ResNet-10 on volumes: this package's, and a plain one of MONAI with its cache in memory.

Both have the same stem stride, batch, optimiser and augmentation. Used by `voxel_speed.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.nn.batch import Batch, ImageRows, VolumeSource
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import build_model
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.images.volumes import Augmentation, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.networks.augmentation import augmentation
from connectome_tl.training.networks.loop import Pool, train
from connectome_tl.training.networks.volumes import Work
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.objectives.supervised import Supervised

RATE, DECAY = 1e-4, 1e-4
AUGMENTED = Augmentation()
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """Voxels along each axis, volumes of a batch, `group` or `batch` normalisation, augmentation or not."""

    size: int
    batch: int
    norm: str
    augmented: bool = True

    def __str__(self) -> str:
        return f"{self.size}^3, batch {self.batch}, {self.norm} norm" + ("" if self.augmented else ", no augmentation")


class Stored:
    """Volumes (n, size, size, size) in float16, as in the package's cache (a `VolumeSource`)."""

    n_channels = 1

    def __init__(self, n: int, size: int) -> None:
        rng = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij", sparse=False))
        ball = np.sqrt((grid**2).sum(axis=0)) < 0.8
        noise = rng.normal(size=(size, size, size))
        self.volumes = np.stack([(ball * (1 + 0.1 * i + 0.3 * noise)).astype(np.float16) for i in range(n)])

    def read(self, rows: Sequence[int]) -> np.ndarray:
        return self.stored(rows).astype(np.float32)

    def stored(self, rows: Sequence[int]) -> np.ndarray:
        return self.volumes[list(rows)][:, None]


def network(norm: str) -> nn.Module:
    """The package's ResNet-10 of full width."""
    return VoxelResNet(10, norm=norm)  # type: ignore[arg-type]


def _settings(norm: str, width: float) -> ModelSettings:
    return ModelSettings(encoder=ResNetEncoder(width=width, norm=norm, stem_stride=2), fused_width=8)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Run:
    """How a case is run: steps, the clock, `cpu` or `cuda`, and `float32` or `bf16`."""

    steps: int
    clock: Clock = time.process_time
    device: str = "cpu"
    precision: str = "float32"


def our_stamps(case: Case, source: VolumeSource, n: int, run: Run, width: float = 1.0) -> list[float]:
    """Time after each step of the package's loop on the first n volumes."""
    torch.manual_seed(0)
    model = build_model(_settings(case.norm, width), {"image": {"n_channels": 1}}, {"y": 1})
    stamps: list[float] = []
    rows = ImageRows(where=torch.arange(n), source=source)
    batch = Batch({"image": rows}, {"image": torch.ones(n, dtype=torch.bool)})
    augment = augmentation(AUGMENTED, 1) if case.augmented else None
    train(
        model,
        Supervised(Outcomes({"y": "regression"}, {"y": 1})),
        {TRAIN: Pool(batch, torch.linspace(-1, 1, n)[:, None])},
        Training(steps=run.steps, batch_size=case.batch, learning_rate=RATE, weight_decay=DECAY),
        np.random.default_rng(0),
        work=Work(torch.device(run.device), run.precision, augment),
        hook=lambda _, __: stamps.append(run.clock()),
    )
    return stamps


def plain_stamps(case: Case, stored: Stored, run: Run) -> list[float]:
    """Time after each step of a loop as MONAI's tutorials have it."""
    from monai.data import CacheDataset, DataLoader, set_track_meta

    set_track_meta(True)  # MONAI's default, which the package's augmentation changes
    torch.manual_seed(0)
    net = plain_network(case.norm).to(run.device)
    rows = [(torch.from_numpy(stored.read([i])[0]), float(i)) for i in range(len(stored.volumes))]
    data = CacheDataset([{"image": v, "y": y} for v, y in rows], _transforms(case), progress=False)
    loader = DataLoader(data, batch_size=case.batch, shuffle=True, num_workers=0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    stamps: list[float] = []
    for volumes, y in _batches(loader):
        with torch.autocast(run.device, dtype=torch.bfloat16, enabled=run.precision == "bf16"):
            found = net(volumes.to(run.device))[:, 0]
        loss = (found.float() - y.float().to(run.device)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        stamps.append(run.clock())
        if len(stamps) == run.steps:
            break
    return stamps


def _batches(loader: object) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for one in loader:  # type: ignore[attr-defined]
            yield one["image"], one["y"]


def _transforms(case: Case) -> object:
    from monai.transforms import Compose, EnsureTyped, RandAdjustContrastd, RandAffined, RandFlipd, RandGaussianNoised

    a, keys = AUGMENTED, ["image"]
    angle = float(np.radians(a.rotate))
    drawn = [
        RandFlipd(keys, prob=a.flip, spatial_axis=0),
        RandAffined(
            keys,
            prob=a.affine,
            rotate_range=(angle,) * 3,
            translate_range=(a.shift,) * 3,
            padding_mode="border",
        ),
        RandAdjustContrastd(keys, prob=a.gamma, gamma=(0.7, 1.5)),
        RandGaussianNoised(keys, prob=a.noise, std=0.1),
    ]
    return Compose([EnsureTyped(keys), *(drawn if case.augmented else [])]).set_random_state(seed=1)


def plain_network(norm: str) -> nn.Module:
    """MONAI's ResNet-10 with MedicalNet's stem; its `norm` affects the stem only, so that norms are replaced."""
    from monai.networks.nets import resnet10

    net: nn.Module = resnet10(spatial_dims=3, n_input_channels=1, num_classes=1, conv1_t_stride=2)
    if norm == "group":
        for parent in list(net.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm3d):
                    setattr(parent, name, nn.GroupNorm(8, child.num_features))
    return net
