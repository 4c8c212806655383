"""Rows of volumes for the image methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from connectome_tl.errors import DataError, LeakageError
from connectome_tl.nn.devices import exact_on_gpu, moved
from connectome_tl.plurals import counted
from connectome_tl.training.images.lazy import AT_ONCE, Volumes, selected

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class VolumeRows:
    """Volumes of subjects on one grid, with ages and other variables.

    Attributes:
        ids: one per row. volumes: (n, n_channels, depth, height, width), in memory or read on access.
        ages: (n,) NaN where unknown. sex: (n,) 0 or 1, NaN where unknown, or None.
        families: one per row; rows of a family are kept in one inner fold. Empty: no families.
        labels: (n, depth, height, width) int64 class of each voxel, in memory or read on access, or None.
        device: where the networks of a method are trained. The rows stay in CPU memory or in files, and
            batches are moved.
    """

    ids: tuple[str, ...]
    volumes: Volumes
    ages: np.ndarray
    sex: np.ndarray | None = None
    families: tuple[str, ...] = ()
    labels: Volumes | None = None
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        sizes = {"volumes": len(self.volumes), "ages": len(self.ages)}
        sizes |= {"sex": len(self.sex)} if self.sex is not None else {}
        sizes |= {"families": len(self.families)} if self.families else {}
        sizes |= {"labels": len(self.labels)} if self.labels is not None else {}
        wrong = [f"{name} {size}" for name, size in sizes.items() if size != len(self.ids)]
        if wrong or self.volumes.ndim != 5:
            raise DataError(
                "rows of volumes do not match",
                expected=f"{counted(len(self.ids), 'subject')} and volumes (n, n_channels, depth, height, width)",
                got=", ".join([*wrong, f"volumes {tuple(self.volumes.shape)}"]),
            )

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: Sequence[str]) -> VolumeRows:
        """The rows of these subjects, in this order.

        Raises:
            DataError: a subject does not exist, or its volume is not finite.
        """
        place = {subject: i for i, subject in enumerate(self.ids)}
        missing = [subject for subject in ids if subject not in place]
        if missing:
            raise DataError("no volume of this subject", subject=missing[0])
        rows = self if tuple(ids) == self.ids else self.at([place[subject] for subject in ids])
        broken = torch.tensor([not bool(torch.isfinite(one).all()) for one in rows.volumes])
        if bool(broken.any()):
            raise DataError(
                "the volume has voxels that are not finite",
                subject=rows.ids[int(broken.nonzero()[0])],
                remedy="Fix the volume, or leave the subject out.",
            )
        return rows

    def at(self, index: Sequence[int] | np.ndarray) -> VolumeRows:
        """The rows at these places."""
        at = np.asarray(index, dtype=int)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in at),
            volumes=selected(self.volumes, at),
            ages=self.ages[at],
            sex=None if self.sex is None else self.sex[at],
            families=tuple(self.families[i] for i in at) if self.families else (),
            labels=None if self.labels is None else selected(self.labels, at),
        )

    def loaded(self) -> Tensor:
        """All volumes, in memory."""
        return self.volumes[:]

    def batch(self, index: np.ndarray) -> Tensor:
        """The volumes of these row numbers, on the device."""
        return moved(self.volumes[index], self.device)

    def need_ages(self) -> None:
        """Refuse rows without an age."""
        unknown = np.flatnonzero(~np.isfinite(self.ages))
        if len(unknown):
            raise DataError(
                f"{len(unknown)} training subjects have no age",
                subject=self.ids[unknown[0]],
                remedy="Give their ages, or leave them out of training.",
            )

    def need_labels(self) -> Volumes:
        """The label maps; refuses rows without."""
        if self.labels is None:
            raise DataError("these volumes have no label maps", expected="a class for each voxel")
        return self.labels


def refuse_seen(fitted: Sequence[str], test: Sequence[str], what: str) -> None:
    """Check that none of the test subjects was used for a fit.

    Raises:
        LeakageError: a test subject was used; the message names it.
    """
    both = sorted(set(fitted) & set(test))
    if both:
        raise LeakageError(f"{what} was fitted on {counted(len(both), 'subject')} of the test fold", subject=both[0])


@contextmanager
def seeded(seed: int) -> Iterator[np.random.Generator]:
    """Context with torch's generator set to a seed, and restored afterwards; yields a NumPy generator of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield np.random.default_rng(seed)


@exact_on_gpu()
def in_batches(
    function: Callable[[Tensor], Tensor], volumes: Volumes, size: int = AT_ONCE, device: torch.device | None = None
) -> Tensor:
    """Apply a function to volumes in batches, without gradients; the result is in CPU memory.

    Args:
        device: device that each batch is moved to; that of the volumes by default.
    """
    with torch.no_grad():
        return torch.cat([function(moved(part, device or part.device)).cpu() for part in volumes.split(size)])
