"""Leave-one-out prediction of each diffusion volume by a Gaussian process over all shells.

The prior covariance is that of mixtures of isotropic compartments and fibres of all directions, for this gradient
table; the noise is chosen by the error of the predictions. A truncated fit, as in `prediction`, misses the sharper
angular structure of high b-values, and an alignment takes what is missing for rotation. As in eddy, volumes are
compared with predictions from the data (Andersson and Sotiropoulos 2015, doi:10.1016/j.neuroimage.2015.07.067).
Leave-one-out predictions have a closed form (Sundararajan and Keerthi 2001, doi:10.1162/08997660151134343).
"""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.preprocess.prediction import fibre_signals, isotropic_signals

_COPY = 1e-9  # squared difference of two volumes, as a fraction of one's own square, below which they are copies
_FOLLOWED = 0.9  # of the displacement of predictions; all of a common motion, which is unknown, would be without limit
_LEAST_SHARE = 0.05  # of the squared slopes of a prediction that counts as signal where two halves agree on less
_NOISE = tuple(10.0 ** (step / 2) for step in range(-9, 3))  # variances beside that of a voxel's signals


def covariance(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Prior covariance of the signals of a voxel, (n_volumes, n_volumes), for signals of about 1 at b = 0."""
    flat, fibres = isotropic_signals(bvals), fibre_signals(bvals, directions)
    return np.asarray(flat @ flat.T / flat.shape[1] + fibres @ fibres.T / fibres.shape[1])


def predictions(prior: np.ndarray, noise: float) -> np.ndarray:
    """Matrix of leave-one-out predictions, (n_volumes, n_volumes), with zero diagonal.

    Args:
        noise: variance of the noise, in units of the prior's.
    """
    inverse = np.linalg.inv(prior + noise * np.eye(len(prior)))
    return np.asarray(np.eye(len(prior)) - inverse / np.diag(inverse)[:, None])


def of_halves(bvals: np.ndarray, prior: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of the predictions from each half of the volumes (every second one by b-value)."""
    order = np.argsort(bvals, kind="stable")
    found = []
    for half in (order[::2], order[1::2]):
        matrix = np.zeros_like(prior)
        own = prior[np.ix_(half, half)] + noise * np.eye(len(half))
        matrix[:, half] = np.linalg.solve(own, prior[half]).T
        found.append(matrix)
    return found[0], found[1]


def displaced_by(weights: np.ndarray, halves: tuple[np.ndarray, np.ndarray], products: np.ndarray) -> np.ndarray:
    """Displacement of each prediction for a displacement of each volume, (n_volumes, n_volumes).

    Args:
        weights, halves: as `predictions` and `of_halves`; noise of the two halves is independent.
        products: (n_volumes, n_volumes) inner products of the volumes' gradients.
    """
    alike = halves[0] @ products @ halves[1].T
    alike = (alike + alike.T) / 2
    whole = np.einsum("vi,ij,vj->v", weights, products, weights, optimize=True)
    own = np.maximum(np.diag(alike), np.maximum(_LEAST_SHARE * whole, 1e-300))
    return np.asarray(weights * alike / own[:, None])


def followed(change: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Changes of poses when the predictions have followed them, (n_volumes, 6).

    A prediction is displaced with the volumes it is made of. Alignment alone would settle in many iterations, and what
    many volumes have in common would stay too small. A common motion of all volumes is not identifiable; therefore the
    predictions follow only in part.

    Args:
        change: (n_volumes, 6) mm, from the alignment to the predictions as they are. shares: as `displaced_by`.
    """
    most = _FOLLOWED / max(float(np.abs(np.linalg.eigvals(shares)).max()), 1.0)
    return np.asarray(np.linalg.solve(np.eye(len(shares)) - most * shares, change))


def noise_in(signals: np.ndarray, prior: np.ndarray) -> float:
    """Variance of the noise for which volumes are predicted best from the others, in units of the prior's.

    Args:
        signals: (n_volumes, n_voxels). Copies of a volume are predicted without error and have no influence.
    """
    products = signals @ signals.T
    own = np.diag(products)
    distances = own[:, None] + own - 2 * products + 2 * np.diag(own)  # squared; large on the diagonal
    single = (distances > _COPY * own[:, None]).all(axis=1)
    judged = single if single.any() else np.ones(len(prior), dtype=bool)

    def error(noise: float) -> float:
        off = (np.eye(len(prior)) - predictions(prior, noise))[judged]
        return float(np.log(np.maximum(((off @ products) * off).sum(axis=1), 1e-300)).mean())

    return min(_NOISE, key=error)
