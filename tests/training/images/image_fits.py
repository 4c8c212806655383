"""Fits of image methods in a few steps, as arrays."""

from __future__ import annotations

import numpy as np
import torch
from image_rows import SmallEncoder
from torch import nn

from connectome_tl.settings.images.cascade import TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.settings.images.synthesis import TaskGuidedGan
from connectome_tl.training.images.cascade import fit_two_stage
from connectome_tl.training.images.importance import fit_noise_map
from connectome_tl.training.images.rows import VolumeRows
from connectome_tl.training.images.synthesis import fit_synthesiser

BRIEF = Descent(steps=3, batch_size=4)
GAN = TaskGuidedGan(width=4, depth=1, latent=4, bin_width=12.0, descent=BRIEF)
State = dict[str, np.ndarray]


def weights(network: nn.Module) -> State:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def age(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    return fit_two_stage(rows, ids, SmallEncoder, TwoStage(folds=2, first=BRIEF, second=BRIEF), seed=0).state()


def gan(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    return fit_synthesiser(rows, ids, GAN, seed=0).state()


def noise(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    torch.manual_seed(0)
    net = nn.Sequential(SmallEncoder(), nn.Linear(8, 1))
    mapper = fit_noise_map(net, rows, ids, NoiseMap(width=4, depth=1, descent=BRIEF), seed=0)
    return weights(mapper.network) | {"numbers": np.array([mapper.scale, mapper.weight, mapper.error])}
