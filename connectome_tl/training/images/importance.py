"""Voxel importance by learned noise (Bintsi et al. 2021, arXiv:2108.05388).

A 3D U-Net predicts the standard deviation of noise added to each voxel. It is trained to maximise the noise while the
prediction stays within a tolerance. Voxels with little noise are important.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.nn.devices import device_of_network
from connectome_tl.nn.voxel.unet import UNet
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.lazy import mean_and_spread
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded

Predictor = Callable[[Tensor], Tensor]  # volumes (n, n_channels, ...) to (n,) or (n, n_outputs)
_START, _RATE, _RANGE = 0.1, 0.1, (1e-4, 1e3)  # of the adaptive weight


@dataclass(frozen=True, eq=False)
class NoiseMapper:
    """A fitted noise network.

    Attributes:
        ids: ids of the training rows. network: maps volumes to the logit of the fraction of the largest noise.
        weight: final weight of the noise term. error: squared change of the prediction divided by its variance, mean
        of the last tenth of the steps.
    """

    ids: tuple[str, ...]
    network: UNet
    settings: NoiseMap
    scale: float
    weight: float
    error: float

    def maps(self, volumes: Tensor) -> np.ndarray:
        """(n, depth, height, width) importance of each voxel of each subject: 1 without noise, 0 with the largest
        noise.
        """
        return 1 - in_batches(lambda part: torch.sigmoid(self._logit(part))[:, 0], volumes).numpy()

    def population(self, volumes: Tensor) -> np.ndarray:
        """(depth, height, width) mean map, for volumes in a common space."""
        return self.maps(volumes).mean(axis=0)

    def noise(self, volumes: Tensor) -> Tensor:
        """(n, 1, depth, height, width) standard deviation of the noise of each voxel."""
        return in_batches(lambda part: _deviation(self._logit(part), self.settings, self.scale), volumes)

    def _logit(self, volumes: Tensor) -> Tensor:
        return _logit(self.network, volumes, self.settings.coarse)


def fit_noise_map(
    predictor: nn.Module, rows: VolumeRows, ids: Sequence[str], settings: NoiseMap, seed: int
) -> NoiseMapper:
    """Train the noise network on these rows; the predictor is unchanged.

    Args:
        predictor: maps volumes to (n,) or (n, n_outputs) predictions, whose change is penalised.
    """
    rows, home = rows.of(ids), device_of_network(predictor)
    predictor.eval().to(rows.device)
    frozen = [parameter for parameter in predictor.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        with seeded(seed) as rng:
            return _fit(predictor, rows, settings, rng)
    finally:
        predictor.to(home)
        for parameter in frozen:
            parameter.requires_grad_(True)


def _fit(predictor: nn.Module, rows: VolumeRows, settings: NoiseMap, rng: np.random.Generator) -> NoiseMapper:
    plain = _columns(in_batches(predictor, rows.volumes, device=rows.device)).to(rows.device)
    spread = plain.var(dim=0, unbiased=False).clamp_min(1e-12)
    _, scale = mean_and_spread(rows.volumes)
    network = UNet(rows.volumes.shape[1], 1, width=settings.width, depth=settings.depth).to(rows.device)
    start = _start(predictor, rows, plain, spread, settings, scale)
    with torch.no_grad():
        network.last.weight.mul_(0.1)
        if network.last.bias is not None:
            network.last.bias.fill_(start)
    weight = _START if settings.weight == "auto" else settings.weight
    errors: list[float] = []

    def loss_of(index: np.ndarray) -> Tensor:
        nonlocal weight
        volumes = rows.batch(index)
        logit = _logit(network, volumes, settings.coarse)
        deviation = _deviation(logit, settings, scale)
        noise = standard_noise(volumes, settings.blur)
        if settings.gradient == "sampled":
            error = ((_columns(predictor(volumes + noise * deviation)) - plain[index]).square() / spread).mean()
            errors.append(float(error.detach()))
        else:
            noisy = (volumes + noise * deviation.detach()).requires_grad_()
            outputs = _columns(predictor(noisy))
            errors.append(float(((outputs.detach() - plain[index]).square() / spread).mean()))
            error = _expected(outputs, noisy, deviation, spread, settings.blur)
        loss = error - weight * nn.functional.logsigmoid(logit).mean()
        if settings.weight == "auto":  # multiplicative steps towards the tolerance
            step = _RATE * (1 - min(errors[-1] / settings.tolerance, 2.0))
            weight = min(max(weight * math.exp(step), _RANGE[0]), _RANGE[1])
        return loss

    descend(network.parameters(), loss_of, len(rows), settings.descent, rng)
    last = errors[-max(1, len(errors) // 10) :]
    return NoiseMapper(rows.ids, network.eval().cpu(), settings, scale, weight, float(np.mean(last)))


def _start(
    predictor: nn.Module, rows: VolumeRows, plain: Tensor, spread: Tensor, settings: NoiseMap, scale: float
) -> float:
    """Logit of equal noise in all voxels whose error is about the tolerance, by bisection."""
    index = np.arange(min(16, len(rows)))
    volumes, low, high = rows.batch(index), -8.0, 4.0
    with torch.no_grad():
        for _ in range(8):
            middle = (low + high) / 2
            deviation = _deviation(torch.tensor(middle, device=rows.device), settings, scale)
            outputs = _columns(predictor(volumes + standard_noise(volumes, settings.blur) * deviation))
            error = float(((outputs - plain[index]).square() / spread).mean())
            low, high = (middle, high) if error < settings.tolerance else (low, middle)
    return (low + high) / 2


def _expected(outputs: Tensor, noisy: Tensor, deviation: Tensor, spread: Tensor, blur: float) -> Tensor:
    """Expected squared change of the predictions to first order, divided by their variance.

    With noise `deviation * K e`, e independent and of variance 1, the change is `sum(g * deviation * K e)`, whose
    variance is the squared norm of `K^T (g * deviation)`. The gradient g is taken at the noisy volume.
    """
    found = []
    for i in range(outputs.shape[1]):
        (slope,) = torch.autograd.grad(outputs[:, i].sum(), noisy, retain_graph=i + 1 < outputs.shape[1])
        reach = round(3 * blur)
        spread_out = nn.functional.pad(slope * deviation, [2 * reach] * 6)
        found.append(_filtered(spread_out, blur).square().sum(dim=(1, 2, 3, 4)).mean() / spread[i])
    return torch.stack(found).mean()


def standard_noise(volumes: Tensor, blur: float) -> Tensor:
    """Noise of mean 0 and variance 1 with the shape of `volumes`, filtered by a Gaussian of `blur` voxels."""
    reach = round(3 * blur)
    sizes = [size + 2 * reach for size in volumes.shape[2:]]
    return _filtered(torch.randn(*volumes.shape[:2], *sizes, device=volumes.device), blur)


def _filtered(values: Tensor, blur: float) -> Tensor:
    """Filter by a Gaussian whose squared weights sum to 1; the border, round(3 * blur) voxels, is lost."""
    reach = round(3 * blur)
    if reach == 0:
        return values
    n, n_channels, *sizes = values.shape
    values = values.reshape(n * n_channels, 1, *sizes)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=values.device) / blur).square())
    weights = weights / weights.norm()
    for axis in range(3):
        values = nn.functional.conv3d(values, weights.reshape([-1 if o == axis else 1 for o in range(-2, 3)]))
    return values.reshape(n, n_channels, *values.shape[2:])


def _logit(network: UNet, volumes: Tensor, coarse: int) -> Tensor:
    if coarse == 1:
        return network(volumes)
    depth, height, width = (-(-size // coarse) for size in volumes.shape[2:])
    found = network(nn.functional.adaptive_avg_pool3d(volumes, (depth, height, width)))
    return nn.functional.interpolate(found, size=volumes.shape[2:], mode="trilinear")


def _deviation(logit: Tensor, settings: NoiseMap, scale: float) -> Tensor:
    return scale * (settings.lowest + (settings.highest - settings.lowest) * torch.sigmoid(logit))


def _columns(outputs: Tensor) -> Tensor:
    return outputs[:, None] if outputs.ndim == 1 else outputs
