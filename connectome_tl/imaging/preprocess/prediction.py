"""Leave-one-out prediction of each diffusion volume from all others, over all shells.

The signal of every voxel is fitted by a few components: the leading singular vectors of the signals of tensors of many
shapes and directions for this gradient table. As in eddy and SHORELine, volumes are compared with predictions from the
data (Andersson and Sotiropoulos 2016, doi:10.1016/j.neuroimage.2015.10.019; Cieslak et al. 2024,
doi:10.1002/mrm.29973). For a linear fit, leave-one-out predictions have a closed form.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.read.gradients import golden_spiral

# mm2/s: of the noise floor, tissue without a direction and fluid, and (along, across) of fibres from newborn to adult
_ISOTROPIC = (0.0, 0.3e-3, 0.7e-3, 1.2e-3, 2.0e-3, 3.0e-3)
_FIBRES = ((1.7e-3, 0.3e-3), (1.9e-3, 0.6e-3), (2.2e-3, 1.0e-3), (1.3e-3, 0.9e-3))
_N_DIRECTIONS = 60
_SMALLEST_DECAY = 0.01  # of the largest singular value
_SMALLEST_SHAPE = 0.03  # of the same of all fibres; for usual tables it leaves a tensor's five shapes
_MOST_PER_VOLUME = 0.4  # components for each volume, so that enough is left over to predict with


def left_one_out(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Matrix of leave-one-out predictions, (n_volumes, n_volumes), with zero diagonal."""
    basis = components(bvals, directions)
    hat = basis @ basis.T
    own = np.minimum(np.diag(hat), 0.95)  # a single volume of a b-value is hardly predicted by others
    return np.asarray((hat - np.diag(np.diag(hat))) / (1.0 - own)[:, None])


def components(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Orthonormal signals over the volumes, (n_volumes, n_components), the most common first."""
    flat = isotropic_signals(bvals)
    decays, strength, _ = np.linalg.svd(flat, full_matrices=False)
    decays = decays[:, strength > _SMALLEST_DECAY * strength[0]]
    fibres = fibre_signals(bvals, directions)
    shapes, strength, _ = np.linalg.svd(fibres - decays @ (decays.T @ fibres), full_matrices=False)
    shapes = shapes[:, strength > _SMALLEST_SHAPE * np.linalg.norm(fibres, 2)]
    most = max(int(_MOST_PER_VOLUME * len(bvals)), 1)
    return np.asarray(np.concatenate([decays, shapes], axis=1)[:, :most])


def isotropic_signals(bvals: np.ndarray) -> np.ndarray:
    """Signals of compartments without a direction, (n_volumes, n_compartments), 1 at b = 0."""
    return np.asarray(np.exp(-np.outer(bvals, _ISOTROPIC)))


def fibre_signals(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Signals of fibres of several kinds and all directions, (n_volumes, n_fibres), 1 at b = 0."""
    cosines = (directions @ golden_spiral(_N_DIRECTIONS).T) ** 2
    kinds = [np.exp(-bvals[:, None] * (across + (along - across) * cosines)) for along, across in _FIBRES]
    return np.concatenate(kinds, axis=1)
