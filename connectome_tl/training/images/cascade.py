"""Two-stage brain age: a second network predicts the residual of the first.

Follows TSAN (Cheng et al. 2021, doi:10.1109/TMI.2021.3085948). The published second stage is trained on in-sample
estimates of the first network; by default they are out-of-fold here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.nn.devices import device_of_network
from connectome_tl.nn.voxel.ranking import ranked_loss
from connectome_tl.settings.images.cascade import RankedLoss, TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded
from connectome_tl.training.networks.augmentation import Augment

MakeEncoder = Callable[[], nn.Module]  # an encoder (batch, n_channels, ...) -> (batch, width) with attribute width
_HIDDEN = 32


class AgeNetwork(nn.Module):
    """Predict a standardised age from volume, sex and, in the second stage, the rounded first estimate.

    Widths of the other branches are those of the published code: sex 2-16-8, estimate 1-32-16.
    """

    def __init__(self, encoder: nn.Module, *, second: bool) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.width
        assert isinstance(width, int)
        self.embed = nn.Sequential(nn.Linear(width, _HIDDEN), nn.ELU())
        self.sex = nn.Sequential(nn.Linear(2, 16), nn.ELU(), nn.Linear(16, 8), nn.ELU())
        self.estimate = nn.Sequential(nn.Linear(1, 32), nn.ELU(), nn.Linear(32, 16), nn.ELU()) if second else None
        last = nn.Linear(16, 1)
        if second:  # the initial output equals the first estimate
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(_HIDDEN + 8 + (16 if second else 0), 16), nn.ELU(), last)

    def forward(self, volumes: Tensor, sex: Tensor, estimate: Tensor | None = None) -> Tensor:
        """Ages (batch,) from volumes, sex (batch, 2), one-hot with zeros if unknown, and estimates (batch,)."""
        parts = [self.embed(self.encoder(volumes)), self.sex(sex)]
        if self.estimate is not None:
            assert estimate is not None
            parts.append(self.estimate(estimate[:, None]))
        return self.head(torch.cat(parts, dim=1))[:, 0]


@dataclass(frozen=True, eq=False)
class TwoStageAge:
    """A fitted cascade.

    Attributes:
        ids: the rows it was fitted on.
        first, second: networks of each inner fold (one each for `in_sample`), whose predictions are averaged.
        centre, scale: mean and standard deviation of age in the training rows. rounding: in units of age.
        estimates: (n, 2) first and final prediction of the training rows, out-of-fold if there are folds.
    """

    ids: tuple[str, ...]
    first: tuple[AgeNetwork, ...]
    second: tuple[AgeNetwork, ...]
    centre: float
    scale: float
    rounding: float
    estimates: np.ndarray

    def predict(self, rows: VolumeRows) -> np.ndarray:
        """(n, 2) first and final predicted age, in units of age."""
        first = np.mean([_outputs(network, rows) for network in self.first], axis=0)
        rounded = _rounded(first, self.rounding, self.centre, self.scale)
        final = rounded + np.mean([_outputs(network, rows, rounded) for network in self.second], axis=0)
        return self.centre + self.scale * np.stack([first, final], axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """All fitted state, as arrays."""
        arrays = {
            f"{stage}.{k}.{name}": value.numpy()
            for stage, networks in (("first", self.first), ("second", self.second))
            for k, network in enumerate(networks)
            for name, value in network.state_dict().items()
        }
        numbers = [self.centre, self.scale, self.rounding]
        return {**arrays, "numbers": np.array(numbers), "estimates": self.estimates}


def fit_two_stage(
    rows: VolumeRows,
    ids: Sequence[str],
    encoder: MakeEncoder,
    settings: TwoStage,
    seed: int,
    change: Augment | None = None,
) -> TwoStageAge:
    """Fit both stages on these rows.

    Args:
        encoder: creates a new encoder with weights drawn from torch's generator.
        change: random transform of training batches.

    Raises:
        DataError: a training row without age, or too few rows or families for the inner folds.
    """
    rows = rows.of(ids)
    rows.need_ages()
    centre, scale = float(rows.ages.mean()), float(rows.ages.std()) or 1.0
    ages = (rows.ages - centre) / scale
    rounding = float(np.ptp(rows.ages)) / 20 or 1.0 if settings.rounding == "auto" else settings.rounding
    with seeded(seed) as rng:
        parts = _parts(rows, settings, rng)
        first, estimates = [], np.zeros((len(rows), 2))
        for train, held in parts:
            network = _train(
                AgeNetwork(encoder(), second=False), rows, ages, None, train, settings.loss, settings.first, rng, change
            )
            estimates[held, 0] = _outputs(network, rows.at(held))
            first.append(network)
        rounded = _rounded(estimates[:, 0], rounding, centre, scale)
        second = []
        for train, held in parts:
            network = _train(
                AgeNetwork(encoder(), second=True),
                rows,
                ages,
                rounded,
                train,
                settings.loss,
                settings.second,
                rng,
                change,
            )
            estimates[held, 1] = rounded[held] + _outputs(network, rows.at(held), rounded[held])
            second.append(network)
    for network in (*first, *second):
        network.cpu()
    estimates = centre + scale * estimates
    return TwoStageAge(rows.ids, tuple(first), tuple(second), centre, scale, rounding, estimates)


def _parts(rows: VolumeRows, settings: TwoStage, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (training rows, rows to estimate) of the inner folds; all rows in both for in-sample estimates."""
    everyone = np.arange(len(rows))
    if settings.first_estimates == "in_sample":
        return [(everyone, everyone)]
    families = np.array(rows.families or rows.ids)
    names = rng.permutation(np.unique(families))
    if len(names) < settings.folds:
        raise DataError(
            "too few training families for out-of-fold first estimates",
            expected=f"at least {settings.folds}",
            got=str(len(names)),
            remedy="Set a lower number of `folds`.",
        )
    held = [np.flatnonzero(np.isin(families, part)) for part in np.array_split(names, settings.folds)]
    return [(np.setdiff1d(everyone, part), part) for part in held]


def _train(
    network: AgeNetwork,
    rows: VolumeRows,
    ages: np.ndarray,
    rounded: np.ndarray | None,
    train: np.ndarray,
    loss: RankedLoss,
    descent: Descent,
    rng: np.random.Generator,
    change: Augment | None,
) -> AgeNetwork:
    """Train on some rows; in the second stage the residual is squared and the sum ranked."""
    network.to(rows.device)
    target = torch.tensor(ages, dtype=torch.float32, device=rows.device)
    sex = _one_hot(rows).to(rows.device)
    known = None if rounded is None else torch.tensor(rounded, dtype=torch.float32, device=rows.device)

    def loss_of(index: np.ndarray) -> Tensor:
        at = train[index]
        estimate = None if known is None else known[at]
        volumes = rows.batch(at) if change is None else change(rows.batch(at))
        found = network(volumes, sex[at], estimate)
        # The error of the residual equals the error of the sum, so that one call gives both published terms.
        return ranked_loss(found if estimate is None else estimate + found, target[at], loss)

    network.train()
    descend(network.parameters(), loss_of, len(train), descent, rng)
    return network.eval()


def _outputs(network: AgeNetwork, rows: VolumeRows, rounded: np.ndarray | None = None) -> np.ndarray:
    sex = _one_hot(rows)
    known = None if rounded is None else torch.tensor(rounded, dtype=torch.float32)
    places, device = torch.arange(len(rows)), device_of_network(network)

    def outputs(at: Tensor) -> Tensor:
        estimate = None if known is None else known[at].to(device)
        found: Tensor = network(rows.volumes[at].to(device), sex[at].to(device), estimate)
        return found

    return in_batches(outputs, places).double().numpy()


def _one_hot(rows: VolumeRows) -> Tensor:
    sex = np.full(len(rows), np.nan) if rows.sex is None else rows.sex
    return torch.tensor(np.stack([sex == 0, sex == 1], axis=1), dtype=torch.float32)


def _rounded(standardised: np.ndarray, rounding: float, centre: float, scale: float) -> np.ndarray:
    """The nearest multiple of `rounding` in units of age, standardised again."""
    ages = np.round((centre + scale * standardised) / rounding) * rounding
    return (ages - centre) / scale
