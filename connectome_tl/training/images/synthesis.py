"""Synthetic training volumes, by mixing latent maps or voxels.

Follows Li et al. 2021 (arXiv:2108.01659): a generator reconstructs volumes with a critic (gradient penalty), an
absolute error and the error of an age network as losses; two training subjects of one age bin are then mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from connectome_tl.errors import DataError
from connectome_tl.nn.voxel.adversarial import AgeGuide, Critic, EncoderDecoder, gradient_penalty
from connectome_tl.plurals import counted
from connectome_tl.settings.images.synthesis import RandomContrast, TaskGuidedGan
from connectome_tl.simulation.volumes import random_contrast
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.lazy import (
    AT_ONCE,
    LazyVolumes,
    Volumes,
    concatenated,
    mean_and_spread,
    on_disk,
    selected,
)
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded
from connectome_tl.training.networks.optimisers import Adam

_COMPARED = 16  # voxels along each axis at which distances of volumes are computed


@dataclass(frozen=True, eq=False)
class Synthesiser:
    """A fitted generator.

    Attributes:
        ids: the rows it was fitted on.
        mean: (n_channels, ...) mean of these rows if the generator works on deviations, else zeros.
        slope: change of the latent maps per unit of age, fitted by least squares on these rows.
        errors: mean absolute error of reconstruction at the end, and mean squared error of standardised age.
    """

    ids: tuple[str, ...]
    generator: EncoderDecoder
    mean: Tensor
    slope: Tensor
    errors: tuple[float, float]

    def latent(self, volumes: Volumes) -> Tensor:
        """(n, latent, ...) coarse maps of volumes."""
        return in_batches(lambda part: self.generator.encode(part - self.mean), volumes)

    def volumes(self, latent: Tensor) -> Tensor:
        """Volumes of latent maps."""
        return self.mean + in_batches(lambda part: self.generator.decode(part, self.mean.shape[1:]), latent)

    def reconstructed(self, volumes: Tensor) -> Tensor:
        """Reconstructions of volumes."""
        return self.volumes(self.latent(volumes))

    def mixed(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        """Volumes from the latent maps weight * first + (1 - weight) * second; weight (n,)."""
        w = weight[:, None, None, None, None]
        return self.volumes(w * self.latent(first) + (1 - w) * self.latent(second))

    def at_age(self, volumes: Tensor, ages: np.ndarray, age: float) -> Tensor:
        """The same subjects at another age: latent maps are shifted along the slope on age."""
        steps = torch.tensor(age - ages, dtype=torch.float32)[:, None, None, None, None]
        return self.volumes(self.latent(volumes) + steps * self.slope)

    def age_map(self, volumes: Tensor, ages: np.ndarray, low: float, high: float) -> np.ndarray:
        """(n, depth, height, width) difference of two syntheses of one subject at two ages, sum over channels."""
        difference = self.at_age(volumes, ages, high) - self.at_age(volumes, ages, low)
        return difference.sum(dim=1).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Everything that was fitted, as arrays."""
        arrays = {name: value.numpy() for name, value in self.generator.state_dict().items()}
        return {**arrays, "mean": self.mean.numpy(), "slope": self.slope.numpy()}


def fit_synthesiser(rows: VolumeRows, ids: Sequence[str], settings: TaskGuidedGan, seed: int) -> Synthesiser:
    """Train generator, critic and age network on these rows.

    Raises:
        DataError: a training row without age, or a loss that is not finite.
    """
    rows = rows.of(ids)
    rows.need_ages()
    scaled = (rows.ages - rows.ages.mean()) / (rows.ages.std() or 1.0)
    ages = torch.tensor(scaled, dtype=torch.float32, device=rows.device)
    n_channels, size = rows.volumes.shape[1], {"width": settings.width, "depth": settings.depth}
    mean, _ = mean_and_spread(rows.volumes)
    if not settings.centred:
        mean = torch.zeros_like(mean)
    centre = mean.to(rows.device)
    found = np.ones(2)  # running means: reconstruction, age
    with seeded(seed) as rng:
        generator = EncoderDecoder(n_channels, latent=settings.latent, **size)
        critic, guide = Critic(n_channels, **size), AgeGuide(n_channels, **size)
        for network in (generator, critic, guide):
            network.to(rows.device)
        own = Adam(critic.parameters(), lr=settings.descent.learning_rate, betas=(0.5, 0.9))

        def judge(index: np.ndarray) -> None:
            if settings.adversarial:
                real = rows.batch(index)
                for _ in range(settings.critic_steps):
                    with torch.no_grad():
                        made = centre + generator(real - centre)
                    loss = critic(made).mean() - critic(real).mean()
                    loss = loss + settings.penalty * gradient_penalty(critic, real, made)
                    own.zero_grad(set_to_none=True)
                    loss.backward()
                    own.step()

        def loss_of(index: np.ndarray) -> Tensor:
            real = rows.batch(index)
            made = centre + generator(real - centre)
            error = (made - real).abs().mean()
            loss = settings.reconstruction * error
            age_error = (guide(made) - ages[index]).square().mean()
            if settings.age:
                loss = loss + settings.age * age_error
            if settings.adversarial:
                loss = loss - settings.adversarial * critic(made).mean()
            found[:] = 0.9 * found + 0.1 * np.array([float(error.detach()), float(age_error.detach())])
            return loss

        moving = [*generator.parameters(), *guide.parameters()]
        descend(moving, loss_of, len(rows), settings.descent, rng, before=judge)
    generator.eval().cpu()
    slope = _slope(generator, rows, mean)
    return Synthesiser(rows.ids, generator, mean, slope, (float(found[0]), float(found[1])))


def _slope(generator: EncoderDecoder, rows: VolumeRows, mean: Tensor) -> Tensor:
    """Least-squares slope of each latent value on age, summed over batches."""
    centred = torch.tensor(rows.ages - rows.ages.mean(), dtype=torch.float64)
    size = max(float(centred.square().sum()), float(np.finfo(float).tiny))
    total: Tensor | float = 0.0
    with torch.no_grad():
        for part, ages in zip(rows.volumes.split(AT_ONCE), centred.split(AT_ONCE), strict=True):
            total = total + torch.tensordot(ages, generator.encode(part - mean).double(), dims=1)
    return (torch.as_tensor(total) / size).float()


@dataclass(frozen=True, eq=False)
class SyntheticRows:
    """Synthetic volumes and the training subjects each was mixed from.

    Attributes:
        rows: rows with ids that begin with `synthetic`. parents: two subjects per row. weight: weight of the first,
            (n,).
    """

    rows: VolumeRows
    parents: tuple[tuple[str, str], ...]
    weight: np.ndarray


def synthesise(
    rows: VolumeRows, ids: Sequence[str], settings: TaskGuidedGan, seed: int, model: Synthesiser | None = None
) -> SyntheticRows:
    """Mix training subjects within bins of age; bins with few subjects are filled first.

    Args:
        model: a synthesiser of the same rows (`source: gan`); without one the volumes themselves are mixed.

    Raises:
        DataError: no bin contains two subjects, or the model was fitted on other rows.
    """
    if model is not None and set(model.ids) != set(ids):
        raise DataError(
            "the synthesiser was not fitted on the subjects to be mixed",
            remedy="Fit it on the training rows of this fold.",
        )
    rows = rows.of(ids)
    rows.need_ages()
    rng = np.random.default_rng(seed)
    pairs = _pairs(rows.ages, settings, rng)
    weight = rng.uniform(size=len(pairs))
    w = torch.tensor(weight, dtype=torch.float32)

    def mixed(index: np.ndarray) -> Tensor:
        first, second = (rows.volumes[pairs[index, parent]] for parent in (0, 1))
        share = w[index]
        if model is not None:
            return model.mixed(first, second, share)
        return torch.lerp(second, first, share.view(-1, 1, 1, 1, 1))

    lazy = LazyVolumes((len(pairs), *rows.volumes.shape[1:]), mixed)
    volumes: Volumes
    if isinstance(rows.volumes, Tensor):
        volumes = torch.cat(list(lazy.split(AT_ONCE)))
    else:
        volumes = lazy if model is None else on_disk(lazy)
    ages = weight * rows.ages[pairs[:, 0]] + (1 - weight) * rows.ages[pairs[:, 1]]
    # A synthetic row belongs to the families of both parents; it is therefore never in an inner test part.
    made = VolumeRows(tuple(f"synthetic{i:04d}" for i in range(len(pairs))), volumes, ages, device=rows.device)
    return SyntheticRows(made, tuple((rows.ids[one], rows.ids[other]) for one, other in pairs), weight)


def _pairs(ages: np.ndarray, settings: TaskGuidedGan, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) different row numbers of one bin each; `auto` bins are doubled in width until one has two rows."""
    width = float(np.ptp(ages)) / 10 or 1.0 if settings.bin_width == "auto" else settings.bin_width
    members = _shared_bins(ages, width)
    while settings.bin_width == "auto" and not members and len(ages) > 1:
        width *= 2
        members = _shared_bins(ages - ages.min(), width)
    if not members:
        raise DataError(
            "no age bin contains two training subjects",
            got=f"bins of {width:g} for {counted(len(ages), 'subject')}",
            remedy="Set a larger `bin_width`.",
        )
    counts = np.array([len(rows) for rows in members], dtype=float)
    pairs = []
    for _ in range(max(1, round(settings.share * len(ages)))):
        which = int(counts.argmin())
        counts[which] += 1
        pairs.append(rng.choice(members[which], 2, replace=False))
    return np.array(pairs)


def _shared_bins(ages: np.ndarray, width: float) -> list[np.ndarray]:
    """Row numbers of each bin with at least two rows."""
    bins = np.floor(ages / width)
    members = [np.flatnonzero(bins == value) for value in np.unique(bins)]
    return [rows for rows in members if len(rows) > 1]


@dataclass(frozen=True)
class Nearness:
    """Root mean square distance to the nearest training volume, of synthetic volumes and (leaving each one out) of
    training volumes; values near 0 indicate copies."""

    synthetic: np.ndarray
    training: np.ndarray

    @property
    def ratio(self) -> float:
        """Median over synthetic volumes by the median over training volumes; NaN if these are equal."""
        between = float(np.median(self.training))
        return float(np.median(self.synthetic)) / between if between > 0 else float("nan")


def nearness(synthetic: Volumes, training: Volumes) -> Nearness:
    """Distances of synthetic volumes (n, ...) to training volumes (m, ...), of block means if a grid is large."""
    x, y, z = (min(_COMPARED, size) for size in training.shape[2:])

    def coarse(part: Tensor) -> Tensor:
        return adaptive_avg_pool3d(part, (x, y, z)).flatten(1)

    a, b = (in_batches(coarse, volumes) for volumes in (synthetic, training))
    own = _distances(b, b).fill_diagonal_(float("inf"))
    size = np.sqrt(a.shape[1])
    return Nearness((_distances(a, b).min(dim=1).values / size).numpy(), (own.min(dim=1).values / size).numpy())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # By differences, since products lose the distance of near copies in single precision.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def random_contrast_rows(rows: VolumeRows, ids: Sequence[str], settings: RandomContrast, seed: int) -> VolumeRows:
    """Volumes of random contrast from the label maps of these rows, standardised over each volume's labelled voxels.

    Raises:
        DataError: no label maps.
    """
    rows = rows.of(ids)
    labels = rows.need_labels()[:].numpy()
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(len(rows)), settings.copies)
    made = [_standardised(random_contrast(labels[i], rng, blur=settings.blur), labels[i] > 0) for i in place]
    return VolumeRows(
        tuple(f"{rows.ids[i]}/contrast{j % settings.copies + 1}" for j, i in enumerate(place)),
        torch.from_numpy(np.stack(made)[:, None]),
        rows.ages[place],
        None if rows.sex is None else rows.sex[place],
        tuple((rows.families or rows.ids)[i] for i in place),
        selected(rows.need_labels(), place),
        rows.device,
    )


def _standardised(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    values = volume[inside]
    return np.where(inside, (volume - values.mean()) / max(float(values.std()), 1e-6), 0.0).astype(np.float32)


def joined(rows: VolumeRows, added: VolumeRows) -> VolumeRows:
    """Concatenate training and added rows; variables that either lacks are unknown in both."""
    both = rows.sex is not None and added.sex is not None
    return VolumeRows(
        (*rows.ids, *added.ids),
        concatenated(rows.volumes, added.volumes),
        np.concatenate([rows.ages, added.ages]),
        np.concatenate([rows.sex, added.sex]) if both and rows.sex is not None and added.sex is not None else None,
        (*(rows.families or rows.ids), *(added.families or added.ids)),
        device=rows.device,
    )
