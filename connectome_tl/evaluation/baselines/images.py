"""Five baselines of an image study, on the same splits and grids as the networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Learner
from connectome_tl.evaluation.baselines.engines.learners import LOGISTIC, RIDGE
from connectome_tl.features.volumes import GridReader, VolumeNumbers, coarse_voxels, read_volumes
from connectome_tl.nn.voxel.resnet import VoxelResNet

POOLED = 16  # voxels along each axis of the volumes for principal components
_SEED = 20241107  # seed of the random encoder; the same in every study
_MOST_COMPONENTS, _VARIANCE = 100, 0.95
_AT_ONCE = 8

Table = Callable[[GridReader, VolumeNumbers, np.ndarray], np.ndarray]


def random_encoder(data: BaselineData) -> list[Baseline]:
    """Ridge on the pooled maps of a frozen, random network."""
    return _on(data, "random_encoder")


def volumes(data: BaselineData) -> list[Baseline]:
    """Logarithms of the volumes of the head and of three intensity classes in it."""
    return _on(data, "volumes")


def quantiles(data: BaselineData) -> list[Baseline]:
    """Logarithm of the head volume, and quantiles of its intensities."""
    return _on(data, "quantiles")


def volumes_quantiles(data: BaselineData) -> list[Baseline]:
    """Features of `volumes` and of `quantiles`."""
    return _on(data, "volumes_quantiles")


def pca_gpr(data: BaselineData) -> list[Baseline]:
    """A Gaussian process on principal components of block means."""
    return _on(data, "pca_gpr")


def _on(data: BaselineData, name: str) -> list[Baseline]:
    """A baseline on a table with one row per subject, NaN without a volume; none if the study has no volumes.

    The table is not fitted: each row depends on its own volume only. It is computed once for all folds.
    """
    cohort, study = data.target, data.study
    if not any(cohort.volumes) or not study.model.reads_volumes:
        return []
    what, learner = METHODS[name]

    @cache
    def table() -> np.ndarray:
        reader, numbers, present = read_volumes(cohort, cohort.ids, study.image)
        found = np.where(present[:, None], what(reader, numbers, present), np.nan)
        return found if present.all() else np.column_stack([found, ~present])

    def design(fold: Fold) -> Design:
        train, test = (table()[cohort.positions(ids)] for ids in (fold.train, fold.test))
        return Design(train, test, fold.train, data.families(fold))

    return [Baseline(design, data.tasks, learner)]


def random_features(reader: GridReader, numbers: VolumeNumbers, present: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of every map of a frozen, random ResNet-10, after each of its stages."""
    del numbers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        net = VoxelResNet(10, width=0.25, stem_stride=2 if min(reader.shape) >= 48 else 1).eval()
    rows = np.flatnonzero(present)
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _AT_ONCE):
            volumes = torch.from_numpy(reader.read(rows[start : start + _AT_ONCE].tolist()))
            maps = net.maps(volumes)
            flat = [h.flatten(2) for h in maps]
            parts.append(torch.cat([f(h) for h in flat for f in (_mean, _spread)], dim=1).double().numpy())
    found = np.full((len(present), parts[0].shape[1]), np.nan)
    found[rows] = np.concatenate(parts)
    return found


def _mean(h: torch.Tensor) -> torch.Tensor:
    return h.mean(dim=2)


def _spread(h: torch.Tensor) -> torch.Tensor:
    return h.std(dim=2, correction=0)


def pooled_voxels(reader: GridReader, numbers: VolumeNumbers, present: np.ndarray) -> np.ndarray:
    """Block means of at most 16 x 16 x 16 voxels."""
    del numbers
    return coarse_voxels(reader, len(present), POOLED).astype(float)


def gaussian_process(design: Design, y: np.ndarray, binary: bool) -> np.ndarray:
    """Values or risks (n_test,) by a Gaussian process on principal components of the training rows.

    The components explain 95 % of the variance (at most 100 components). The kernel is radial with noise; its
    parameters maximise the marginal likelihood. A missing row is replaced by the training mean.
    """
    from sklearn.decomposition import PCA
    from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    known = np.isfinite(y)
    center = np.nanmean(design.train, axis=0)
    train, test = (np.where(np.isnan(rows), center, rows) - center for rows in (design.train, design.test))
    components = PCA(svd_solver="full").fit(train)
    explained = np.cumsum(components.explained_variance_ratio_)
    n = min(_MOST_COMPONENTS, int((explained < _VARIANCE).sum()) + 1, len(train) - 1)
    one, two = components.transform(train)[:, :n], components.transform(test)[:, :n]
    scale = max(float(one.std(axis=0).max()), 1e-12)
    one, two = one / scale, two / scale
    radial = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(np.sqrt(n), (1e-2, 1e3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a parameter at its bound is acceptable
        if binary:
            model = GaussianProcessClassifier(radial).fit(one[known], y[known])
            return np.asarray(model.predict_proba(two)[:, 1])
        spread = float(y[known].std()) or 1.0
        noisy = radial + WhiteKernel(0.3, (1e-4, 1e2))
        model = GaussianProcessRegressor(noisy).fit(one[known], (y[known] - y[known].mean()) / spread)
        return np.asarray(model.predict(two) * spread + y[known].mean())


METHODS: dict[str, tuple[Table, Learner]] = {
    "random_encoder": (random_features, RIDGE),
    "volumes": (lambda _, numbers, __: numbers.volumes, LOGISTIC),
    "quantiles": (lambda _, numbers, __: numbers.head_and_quantiles, LOGISTIC),
    "volumes_quantiles": (lambda _, numbers, __: np.column_stack([numbers.volumes, numbers.quantiles]), LOGISTIC),
    "pca_gpr": (pooled_voxels, Learner(gaussian_process)),
}
"""Features and learner of each baseline, by name."""
