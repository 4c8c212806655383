"""Volumes of many subjects that are read or computed a few at a time."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from connectome_tl.nn.batch import VolumeSource

AT_ONCE = 16  # volumes


@dataclass(frozen=True, eq=False)
class LazyVolumes:
    """Volumes that are made on access, with the part of the interface of a tensor that image methods use.

    Attributes:
        shape: (n, n_channels, depth, height, width).
        make: float32 volumes of these row numbers.
    """

    shape: tuple[int, ...]
    make: Callable[[np.ndarray], Tensor]

    ndim = 5

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        return self.make(np.arange(len(self))[index])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[[row]][0] for row in range(len(self)))

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive parts of at most `size` volumes."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def at(self, rows: np.ndarray) -> LazyVolumes:
        """The volumes of these row numbers, still lazy."""
        return LazyVolumes((len(rows), *self.shape[1:]), lambda index: self.make(rows[index]))


Volumes = Tensor | LazyVolumes


def read_lazily(source: VolumeSource, rows: Sequence[int], shape: Sequence[int]) -> LazyVolumes:
    """Volumes of these row numbers of a source, read on access; `shape` of one, without its channels."""
    at = np.asarray(rows, dtype=int)
    return LazyVolumes(
        (len(at), source.n_channels, *shape), lambda index: torch.from_numpy(source.read(at[index].tolist()))
    )


def selected(volumes: Volumes, rows: np.ndarray) -> Volumes:
    """The volumes of these row numbers, lazy if the given ones are."""
    return volumes.at(rows) if isinstance(volumes, LazyVolumes) else volumes[rows]


def concatenated(first: Volumes, second: Volumes) -> Volumes:
    """Both, one after the other; lazy if one of them is."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    n = len(first)

    def make(index: np.ndarray) -> Tensor:
        found = torch.empty((len(index), *first.shape[1:]))
        for part, places, shift in ((first, index < n, 0), (second, index >= n, n)):
            if places.any():
                found[torch.from_numpy(places)] = part[index[places] - shift]
        return found

    return LazyVolumes((n + len(second), *first.shape[1:]), make)


def on_disk(volumes: LazyVolumes) -> LazyVolumes:
    """The same, each computed once and kept in a temporary file without a name."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the volumes are used
    for part in volumes.split(AT_ONCE):
        file.write(part.contiguous().numpy().tobytes())
    size = 4 * int(np.prod(volumes.shape[1:]))

    def make(index: np.ndarray) -> Tensor:
        found = np.empty((len(index), *volumes.shape[1:]), dtype=np.float32)
        for place, row in zip(found, index.tolist(), strict=True):
            file.seek(row * size)
            place[...] = np.frombuffer(file.read(size), dtype=np.float32).reshape(place.shape)
        return torch.from_numpy(found)

    weakref.finalize(make, file.close)
    return LazyVolumes(volumes.shape, make)


def mean_and_spread(volumes: Volumes) -> tuple[Tensor, float]:
    """Mean volume (n_channels, depth, height, width), and the standard deviation of all voxels."""
    total, square, n = torch.zeros(volumes.shape[1:], dtype=torch.float64), 0.0, 0
    for part in volumes.split(AT_ONCE):
        values = part.double()
        total += values.sum(dim=0)
        square += float(values.square().sum())
        n += values.numel()
    variance = (square - float(total.sum()) ** 2 / n) / max(n - 1, 1)
    return (total / len(volumes)).float(), float(np.sqrt(max(variance, 0.0)))
