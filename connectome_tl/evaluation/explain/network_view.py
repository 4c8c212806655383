"""Evaluate networks on rows: prediction as a differentiable function, attributions, occlusion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.explain.curved import ROWS_AT_ONCE, integrated_gradients
from connectome_tl.evaluation.explain.items import Items
from connectome_tl.evaluation.explain.targets import Target
from connectome_tl.nn.batch import Batch, ImageRows, Modality, VolumeSource
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.fitted_models import NetworkModel, mirrored, to_batch

# Input tensors of the built-in modalities; other modalities are explained only as a whole, by occlusion.
_VOLUME = ("image", "volume")
_FIELDS = (("connectome", "edges"), ("connectome", "regional"), ("clinical", "values"), _VOLUME)
_EDGE = 1e-6
REFERENCES, REFERENCES_WITH_VOLUMES = 8, 4
STEPS = 24  # of each path
_VOLUMES = 8  # rows predicted at once with volumes


@dataclass(frozen=True, eq=False)
class NetworkView:
    """Networks of one fit on some rows.

    Attributes:
        batch: the rows. means: of the training rows, by (modality, field).
        references: training rows from which the paths of integrated gradients start.
        gaps: completeness errors of attributions, see `gap`.
    """

    model: NetworkModel
    items: Items
    batch: Batch
    means: dict[tuple[str, str], Tensor]
    references: Batch
    gaps: dict[Target, float] = field(default_factory=dict)

    @staticmethod
    def of(model: NetworkModel, cohort: Cohort, ids: Sequence[str], items: Items) -> NetworkView:
        """The view of these rows; the mean row is that of the rows the model was trained on."""
        batch = to_batch(model.features.rows(cohort, ids))
        train = to_batch(model.features.rows(cohort, model.targets.ids))
        means = {}
        for name, part in train.modalities.items():
            for key in _inputs_of(part):
                means[name, key] = getattr(part, key).mean(dim=0, keepdim=True)
            if isinstance(part, ImageRows) and part.volume is None and (mean := _mean_volume(part)) is not None:
                means[name, "volume"] = mean
        wanted = REFERENCES_WITH_VOLUMES if _VOLUME in means else REFERENCES
        spread = torch.linspace(0, len(train) - 1, min(wanted, len(train))).round().long().unique()
        return NetworkView(model, items, batch, means, train.rows(spread))

    @cached_property
    def _networks(self) -> dict[str, list[OutcomeModel]]:
        return {task.name: self.model.networks(task.name) for task in self.model.tasks}

    def explained(self, target: Target, batch: Batch | None = None) -> Tensor:
        """(n_rows,) the explained number, as `NetworkModel.predict` makes it."""
        given = self.batch if batch is None else batch
        views = [given, mirrored(given)] if self.model.flip_test and "image" in given.modalities else [given]
        task = target.task
        made = [one(view) for one in self._networks[task.name] for view in views]
        own = [outputs[:, target.output : target.output + task.n_outputs].double() for outputs in made]
        shares = [share / len(views) for share in self.model.shares[task.name].values() for _ in views]

        def averaged(parts: Iterable[Tensor]) -> Tensor:
            return torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(dim=0)

        if task.form == "value":
            place = [t.name for t in self.model.tasks].index(task.name)
            scale, mean = float(self.model.targets.scale[place]), float(self.model.targets.mean[place])
            return averaged(outputs[:, 0] for outputs in own) * scale + mean
        if task.form == "levels":
            return averaged(torch.sigmoid(o).cummin(dim=1).values.sum(dim=1) for o in own)
        if task.form == "risk":
            risk = averaged(torch.sigmoid(outputs[:, 0]) for outputs in own)
        else:
            risk = averaged(torch.softmax(outputs, dim=1)[:, target.which] for outputs in own)
        return torch.logit(risk.clamp(_EDGE, 1 - _EDGE))

    def value(self, target: Target) -> np.ndarray:
        """(n_rows,) the explained number."""
        return self._value(target, self.batch)

    def _value(self, target: Target, batch: Batch) -> np.ndarray:
        """(n_rows,) the explained number of a batch; volumes are in memory for a few rows at a time."""
        parts = torch.arange(len(batch)).split(_VOLUMES) if "image" in batch.modalities else [None]
        with torch.no_grad():
            found = [self.explained(target, batch if at is None else batch.rows(at)) for at in parts]
        return torch.cat(found).numpy()

    def attributions(self, target: Target) -> np.ndarray:
        """(n_rows, n_items) integrated gradients (captum) in the order of `Places.onto`, mean over the references.

        Paths start at training rows (expected gradients: Erion et al. 2021, doi:10.1038/s42256-021-00343-w), because
        layer normalisation is nearly singular at the mean row.
        """
        asked = [place for place in _FIELDS if place in self.means and (place != _VOLUME or self.items.cells)]
        n, n_references = len(self.batch), len(self.references)
        every = torch.arange(n).repeat(n_references)
        start = torch.arange(n_references).repeat_interleave(n)

        def function(*given: Tensor) -> Tensor:
            values, at = given[:-1], given[-1]
            batch = self.batch.rows(at)
            for (name, key), value in zip(asked, values, strict=True):
                batch = _with(batch, name, key, value)
            # An encoder may ignore an input; its gradient is then 0.
            unused = sum(0.0 * value.flatten(1).sum(dim=1) for value in values)
            return self.explained(target, batch) + unused

        rows = _VOLUMES if "image" in self.batch.modalities else len(every)
        parts = []
        for at in torch.arange(len(every)).split(rows) if asked else ():
            found = integrated_gradients(
                function,
                tuple(self._input(self.batch, place, every[at]) for place in asked),
                tuple(self._input(self.references, place, start[at]) for place in asked),
                (every[at],),
                steps=STEPS,
                rows_at_once=min(rows, ROWS_AT_ONCE),
            )
            parts.append(self._onto(dict(zip(asked, (one.double().numpy() for one in found), strict=True)), len(at)))
        whole = np.concatenate(parts) if parts else self._onto({}, len(every))
        summed = whole.reshape(n_references, n, -1).mean(axis=0)
        change = self.value(target) - self.reference_value(target)
        self.gaps[target] = float(np.abs(summed.sum(axis=1) - change).mean())
        return summed

    def _input(self, batch: Batch, place: tuple[str, str], at: Tensor) -> Tensor:
        """Rows of an input; volumes are read, and those that do not exist are the mean."""
        if place != _VOLUME:
            found: Tensor = getattr(batch.modalities[place[0]], place[1])[at]
            return found
        here = batch.present["image"][at].view(-1, 1, 1, 1, 1)
        return torch.where(here, batch.image.rows(at).volumes, self.means[_VOLUME])

    def gap(self, target: Target) -> float:
        """Mean absolute completeness error of the latest attributions.

        It is 0 up to the quadrature along the paths and modalities that are explained only by occlusion.
        """
        return self.gaps.get(target, 0.0)

    def reference_value(self, target: Target) -> float:
        """Mean explained number of the references, restricted to the regions and modalities of a row."""
        return float(self._value(target, self.references).mean())

    def _onto(self, found: dict[tuple[str, str], np.ndarray], n: int) -> np.ndarray:
        """(n, n_items) attributions of `n` rows of the inputs."""
        items = self.items
        edges, own = np.zeros((n, items.n_edges)), np.zeros((n, items.n_regions))
        if ("connectome", "edges") in found:
            both = found["connectome", "edges"]
            first, second = np.triu_indices(items.n_regions, 1)
            edges = (both + both.swapaxes(2, 3))[:, :, first, second].reshape(n, -1)
            own += np.diagonal(both, axis1=2, axis2=3).sum(axis=1)
        if ("connectome", "regional") in found:
            own += found["connectome", "regional"].sum(axis=2)
        covariates = np.zeros((n, len(items.covariates)))
        if ("clinical", "values") in found:
            covariates[:, items.covariate_positions(self.model.features)] = found["clinical", "values"]
        cells = items.cells.sums(found[_VOLUME]) if _VOLUME in found else np.zeros((n, len(items.cells)))
        return np.concatenate([edges, own, covariates, cells], axis=1)

    def occlusions(self, target: Target) -> np.ndarray:
        """Decrease of the explained number, (n_sets, n_rows), if each set of inputs is set to its mean."""
        whole = self.value(target)
        return np.stack(
            [
                np.zeros_like(whole) if batch is self.batch else whole - self._value(target, batch)
                for batch in self._occluded()
            ]
        )

    def _occluded(self) -> Iterator[Batch]:
        """Batches in the order of `Places.sets`."""
        items = self.items
        own = items.covariate_positions(self.model.features)
        yield from (self._without_regions(np.array([r])) for r in range(items.n_regions))
        for c in range(len(items.covariates)):
            yield self._at_mean("clinical", "values", np.flatnonzero(own == c))
        yield from (self._without_cell(c) for c in range(len(items.cells)))
        yield from (self._without_regions(members) for members in items.groups.values())
        yield from (self._without_modality(name) for name in items.modalities)

    def _without_regions(self, regions: np.ndarray) -> Batch:
        if "connectome" not in self.batch.modalities:
            return self.batch
        touched = torch.zeros(self.items.n_regions, dtype=torch.bool)
        touched[torch.from_numpy(regions)] = True
        rows = self.batch.connectome
        either = touched[:, None] | touched[None, :]
        edges = torch.where(either, self.means["connectome", "edges"], rows.edges)
        regional = torch.where(touched[:, None], self.means["connectome", "regional"], rows.regional)
        return self.batch.with_connectome(replace(rows.with_edges(edges), regional=regional))

    def _without_cell(self, cell: int) -> Batch:
        source = self.batch.image.source if _VOLUME in self.means else None
        if source is None:
            return self.batch
        inside = self.items.cells.voxels == cell
        return self.batch.with_image(
            replace(self.batch.image, source=_Occluded(source, inside, self.means[_VOLUME].numpy()[0]))
        )

    def _at_mean(self, name: str, key: str, columns: np.ndarray | None = None) -> Batch:
        if name not in self.batch.modalities:
            return self.batch
        value = getattr(self.batch.modalities[name], key)
        mean = self.means[name, key].expand_as(value)
        if columns is not None:
            kept = torch.ones(value.shape[-1], dtype=torch.bool)
            kept[torch.from_numpy(columns)] = False
            mean = torch.where(kept, value, mean)
        return _with(self.batch, name, key, mean)

    def _without_modality(self, name: str) -> Batch:
        if name in ("edges", "regional measures"):
            return self._at_mean("connectome", "edges" if name == "edges" else "regional")
        found = self.batch
        for place in self.means:
            if place[0] == name:
                mean = self.means[place]
                found = _with(found, *place, mean.expand(len(found), *mean.shape[1:]))
        return found


@dataclass(frozen=True, eq=False)
class _Occluded:
    """Volumes of a source whose voxels `inside` (x, y, z) are those of `mean` (n_channels, x, y, z)."""

    source: VolumeSource
    inside: np.ndarray
    mean: np.ndarray

    @property
    def n_channels(self) -> int:
        return self.source.n_channels

    def read(self, rows: Sequence[int]) -> np.ndarray:
        return np.where(self.inside, self.mean, self.source.read(rows))

    def stored(self, rows: Sequence[int]) -> np.ndarray:
        found = self.source.stored(rows)
        return np.where(self.inside, self.mean.astype(found.dtype), found)


def _inputs_of(part: Modality) -> list[str]:
    """Fields with values of the subjects, without presence masks."""
    skipped = {*part.shared, "node_mask", "kept", "normalised", "flat", "where"}
    return [name for name, value in vars(part).items() if isinstance(value, Tensor) and name not in skipped]


def _mean_volume(rows: ImageRows) -> Tensor | None:
    """(1, n_channels, depth, height, width) the mean of the volumes, read one at a time; None without a volume."""
    there = [] if rows.where is None else [at for at in rows.where.tolist() if at >= 0]
    if rows.source is None or not there:
        return None
    total = torch.from_numpy(rows.source.read(there[:1])).clone()
    for at in there[1:]:
        total += torch.from_numpy(rows.source.read([at]))
    return total / len(there)


def _with(batch: Batch, name: str, key: str, value: Tensor) -> Batch:
    """Replace the tensor of one field; values computed from the old one are dropped."""
    if (name, key) == ("connectome", "edges"):
        return batch.with_connectome(batch.connectome.with_edges(value))
    if (name, key) == ("image", "volume"):
        return batch.with_image(replace(batch.image, volume=value, where=None, source=None))
    part = replace(batch.modalities[name], **{key: value})
    return replace(batch, modalities={**batch.modalities, name: part})
