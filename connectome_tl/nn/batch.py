"""`Batch`: the modalities of some subjects, with masks of presence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from connectome_tl.errors import InternalError
from connectome_tl.nn.devices import moved

_PREPARED_AT_ONCE = 16  # subjects


@dataclass(frozen=True)
class Modality:
    """Tensors of one modality; all but `shared` ones have one row per subject."""

    shared: ClassVar[tuple[str, ...]] = ()

    def _each(self, change: Callable[[Tensor], Tensor], *, shared: bool) -> Self:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self,
            **{
                name: change(value)
                for name, value in found.items()
                if isinstance(value, Tensor) and (shared or name not in self.shared)
            },
        )

    def rows(self, index: Tensor, into: Self | None = None) -> Self:
        """Select rows by number; if given, `into` (with as many rows) is overwritten to avoid allocation."""
        if into is None:
            return self._each(lambda tensor: tensor.index_select(0, index), shared=False)
        for f in fields(self):
            tensor = getattr(self, f.name)
            if isinstance(tensor, Tensor) and f.name not in self.shared:
                torch.index_select(tensor, 0, index, out=getattr(into, f.name))
        return into

    def between(self, start: int, end: int) -> Self:
        """Views of consecutive rows."""
        return self._each(lambda tensor: tensor[start:end], shared=False)

    def to(self, device: torch.device | str) -> Self:
        """Move all tensors to a device."""
        return self._each(lambda tensor: tensor.to(device), shared=True)

    def mixed(self, other: Tensor, share: Tensor) -> Self:
        """Weighted mean of each row (weight `share`, (batch,)) and row number `other`, (batch,)."""

        def mix(tensor: Tensor) -> Tensor:
            weight = share.view(-1, *[1] * (tensor.dim() - 1))
            return weight * tensor + (1 - weight) * tensor.index_select(0, other)

        return self._each(mix, shared=False)

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the modality that a branch needs, by name."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConnectomeRows(Modality):
    """Connectomes of a batch.

    Attributes:
        edges: (batch, n_measures, n_regions, n_regions) scaled edges, 0 where absent.
        regional: (batch, n_regions, n_features) scaled regional measures; n_features may be 0.
        node_mask: (batch, n_regions) 1 where the region exists, 0 where it is missing.
        mean, scale: (n_measures, n_regions, n_regions) parameters of the inverse scaling.
        places: (n_regions, n_place_columns) centroid, hemisphere and lobe of each region, or None if the atlas does
            not provide them.
        kept: (batch, 1 or n_measures, n_regions, n_regions) 0 where an objective masks an edge, or None.
        normalised, flat: precomputed `adjacency` and `upper` for rows that do not change, or None.
        gathered: precomputed inputs of the first layer of one encoder, see `Branch.prepared`, or None.
    """

    shared: ClassVar[tuple[str, ...]] = ("mean", "scale", "places")

    edges: Tensor
    regional: Tensor
    node_mask: Tensor
    mean: Tensor
    scale: Tensor
    places: Tensor | None = None
    kept: Tensor | None = None
    normalised: Tensor | None = None
    flat: Tensor | None = None
    gathered: Tensor | None = None

    @property
    def sizes(self) -> dict[str, int]:
        _, n_measures, n_regions, _ = self.edges.shape
        known = {"n_regions": n_regions, "n_measures": n_measures, "n_features": self.regional.shape[2]}
        return known if self.places is None else {**known, "n_places": self.places.shape[1]}

    @property
    def present(self) -> Tensor:
        """(batch, 1, n_regions, n_regions) 1 for edges whose two regions exist."""
        return (self.node_mask[:, :, None] * self.node_mask[:, None, :])[:, None]

    @property
    def unscaled(self) -> Tensor:
        """Edges before scaling, (batch, n_measures, n_regions, n_regions), 0 where an objective masks them."""
        weights = torch.addcmul(self.mean, self.edges, self.scale)
        return weights if self.kept is None else weights * self.kept

    @property
    def adjacency(self) -> Tensor:
        """Normalised edges for message passing, (batch, n_measures, n_regions, n_regions).

        They are computed from the edges before scaling, so that gradients on edges include the messages.
        """
        return normalise_adjacency(self.unscaled, self.node_mask) if self.normalised is None else self.normalised

    @property
    def upper(self) -> Tensor:
        """(batch, n_measures * n_edges) scaled edges above the diagonal."""
        if self.flat is not None:
            return self.flat
        n_regions = self.edges.shape[2]
        rows, columns = torch.triu_indices(n_regions, n_regions, offset=1, device=self.edges.device)
        return self.edges.flatten(2).index_select(2, rows * n_regions + columns).flatten(1)

    def parts(self, size: int) -> list[ConnectomeRows]:
        """Split into parts of at most `size` consecutive rows."""
        n_rows = len(self.edges)
        return [self] if n_rows <= size else [self.between(at, at + size) for at in range(0, n_rows, size)]

    def prepared(self, dtype: torch.dtype | None = None) -> ConnectomeRows:
        """Precompute adjacency and flat edges, for rows that are used in many batches.

        Args:
            dtype: type of all tensors of the size of the edges; None for that of the edges.
        """
        # In parts, since temporary copies of all edges would determine the peak memory of a fit.
        n_rows, _, n_regions, _ = self.edges.shape
        dtype = dtype or self.edges.dtype
        normalised = torch.empty_like(self.edges, dtype=dtype)
        flat = self.edges.new_empty((n_rows, self.edges.shape[1] * n_regions * (n_regions - 1) // 2), dtype=dtype)
        for at in range(0, n_rows, _PREPARED_AT_ONCE):
            part = self.between(at, at + _PREPARED_AT_ONCE)
            normalised[at : at + _PREPARED_AT_ONCE] = part.adjacency
            flat[at : at + _PREPARED_AT_ONCE] = part.upper
        return replace(self, edges=self.edges.to(dtype), normalised=normalised, flat=flat)

    def with_edges(self, edges: Tensor, kept: Tensor | None = None) -> ConnectomeRows:
        """Replace the edges, and pass messages only along `kept` edges (1 or 0), normalised without the others."""
        return replace(self, edges=edges, kept=kept, normalised=None, flat=None, gathered=None)

    def mixed(self, other: Tensor, share: Tensor) -> ConnectomeRows:
        """As for every modality, between rows with the same regions."""
        found = super(ConnectomeRows, replace(self, normalised=None, flat=None, gathered=None)).mixed(other, share)
        return replace(found, node_mask=self.node_mask)

    def without_regions(self, there: Tensor) -> ConnectomeRows:
        """Treat regions with 0 in `there`, (batch, n_regions), as missing."""
        mask = self.node_mask * there
        edges = self.edges * (mask[:, :, None] * mask[:, None, :])[:, None]
        return replace(self.with_edges(edges, self.kept), node_mask=mask, regional=self.regional * mask[..., None])


@dataclass(frozen=True)
class ClinicalRows(Modality):
    """Encoded covariates, `values` (batch, n_columns)."""

    values: Tensor

    @property
    def sizes(self) -> dict[str, int]:
        return {"n_columns": self.values.shape[1]}


class VolumeSource(Protocol):
    """Reader of a few volumes at a time."""

    @property
    def n_channels(self) -> int:
        """Number of images per subject."""
        ...

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """(n, n_channels, depth, height, width) float32 of these row numbers; zeros for -1."""
        ...

    def stored(self, rows: Sequence[int]) -> np.ndarray:
        """The same in the precision of the files."""
        ...


@runtime_checkable
class LabelSource(Protocol):
    """Reader of the label maps of a few volumes at a time."""

    @property
    def label_values(self) -> np.ndarray:
        """Labels of the label maps, sorted, without 0; empty if there are no maps."""
        ...

    def classes(self, rows: Sequence[int]) -> np.ndarray:
        """(n, depth, height, width) int64, places in `label_values` from 1, 0 without a label; as `read`."""
        ...


@dataclass(frozen=True)
class ImageRows(Modality):
    """Images of a batch: volumes in memory, volumes that are read on demand, or embeddings.

    Attributes:
        volume: (batch, n_channels, depth, height, width), or None.
        embedding: (batch, n_columns), or None.
        where: (batch,) row numbers in `source`, -1 for a subject without a volume; or None.
        source: reader of the volumes, or None.
        labels: (batch, depth, height, width) class of each voxel, 0 without one; None unless an objective needs them.
    """

    volume: Tensor | None = None
    embedding: Tensor | None = None
    where: Tensor | None = None
    source: VolumeSource | None = None
    labels: Tensor | None = None

    @property
    def volumes(self) -> Tensor:
        """Volumes (batch, n_channels, depth, height, width), read if they are not in memory."""
        if self.volume is not None:
            return self.volume
        if self.where is None or self.source is None:
            raise InternalError("a batch of images has neither volumes nor files")
        return torch.from_numpy(self.source.read(self.where.tolist())).to(self.where.device)

    def volumes_on(self, device: torch.device) -> Tensor:
        """`volumes`, float32, on a device; they are moved in the precision of the files."""
        if self.volume is not None or self.where is None or self.source is None:
            return self.volumes.to(device)
        return moved(torch.from_numpy(self.source.stored(self.where.tolist())), device).float()

    @property
    def classes(self) -> Tensor:
        """`labels`, read from the source."""
        if self.where is None or not isinstance(self.source, LabelSource):
            raise InternalError("a batch of images has no files of label maps")
        return torch.from_numpy(self.source.classes(self.where.tolist()))

    @property
    def n_labels(self) -> int:
        """Number of labels in the label maps of the source."""
        return len(self.source.label_values) if isinstance(self.source, LabelSource) else 0

    @property
    def sizes(self) -> dict[str, int]:
        found = {}
        if self.volume is not None:
            found["n_channels"] = self.volume.shape[1]
        elif self.source is not None:
            found["n_channels"] = self.source.n_channels
        if self.embedding is not None:
            found["n_columns"] = self.embedding.shape[1]
        return found


@dataclass(frozen=True)
class Batch:
    """Modalities by name, each with a (batch,) bool tensor of presence."""

    modalities: Mapping[str, Modality]
    present: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def rows(self, index: Tensor, into: Batch | None = None) -> Batch:
        """Select rows by number; if given, the tensors of `into` (with at least as many rows) are reused."""
        places = {} if into is None else into.modalities
        if into is not None and len(into) > len(index):
            places = {name: place.between(0, len(index)) for name, place in places.items()}
        return Batch(
            {name: modality.rows(index, places.get(name)) for name, modality in self.modalities.items()},
            {name: present.index_select(0, index) for name, present in self.present.items()},
        )

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors to a device."""
        return Batch(
            {name: modality.to(device) for name, modality in self.modalities.items()},
            {name: present.to(device) for name, present in self.present.items()},
        )

    def mixed(self, other: Tensor, share: Tensor) -> Batch:
        """Weighted mean of each row (weight `share`, (batch,)) and row `other`, (batch,), with the same modalities."""
        mixed = {name: modality.mixed(other, share) for name, modality in self.modalities.items()}
        return replace(self, modalities=mixed)

    @property
    def connectome(self) -> ConnectomeRows:
        """Rows of the connectome, which the batch has to have."""
        found = self.modalities["connectome"]
        assert isinstance(found, ConnectomeRows)
        return found

    @property
    def image(self) -> ImageRows:
        """Rows of the image, which the batch has to have."""
        found = self.modalities["image"]
        assert isinstance(found, ImageRows)
        return found

    def with_image(self, rows: ImageRows) -> Batch:
        """Copy with other rows of the image; presence is unchanged."""
        return replace(self, modalities={**self.modalities, "image": rows})

    def with_connectome(self, rows: ConnectomeRows) -> Batch:
        """Copy with other rows of the connectome; presence is unchanged."""
        return replace(self, modalities={**self.modalities, "connectome": rows})

    def prepared(self, dtype: torch.dtype | None = None) -> Batch:
        """Precompute shared tensors, for rows that are used in many batches; `dtype` as for connectomes."""
        if "connectome" not in self.modalities:
            return self
        return self.with_connectome(self.connectome.prepared(dtype))


ROWS: dict[str, type[Modality]] = {"connectome": ConnectomeRows, "clinical": ClinicalRows, "image": ImageRows}


def register_rows(modality: str, rows: type[Modality]) -> None:
    """Register the record of a further modality."""
    ROWS[modality] = rows


def normalise_adjacency(weights: Tensor, node_mask: Tensor) -> Tensor:
    """Normalise to D^-1/2 W D^-1/2, where D is the sum of absolute weights, so that edges keep their sign.

    Shapes: weights (batch, n_measures, n_regions, n_regions), node_mask (batch, n_regions).
    Missing regions and regions without edges exchange no messages.
    """
    if node_mask.amin() == 0:  # skip the product with 1
        weights = weights * node_mask[:, None, :, None] * node_mask[:, None, None, :]
    degree = weights.abs().sum(dim=-1)
    root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
    return root[..., :, None] * weights * root[..., None, :]
