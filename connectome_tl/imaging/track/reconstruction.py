"""Fibre orientations by constrained spherical deconvolution, one tissue or two.

The density of a voxel is found by dipy's solver (Tournier et al. 2007, doi:10.1016/j.neuroimage.2007.02.016);
its matrix is our own: any number of shells, and an isotropic fluid in addition to the fibres (Jeurissen et al.
2014, doi:10.1016/j.neuroimage.2014.07.061; these two tissues in newborns: Pietsch et al. 2019,
doi:10.1016/j.neuroimage.2018.10.060), which dipy itself offers only with a further solver installed.
Coefficients are in MRtrix3's basis and scale.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path
from typing import Any, cast

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.track.tensor import TensorMaps
from connectome_tl.settings.imaging import ReconstructionSettings

_CONVERGENCE = 50
_CROSSING = 15  # even harmonics up to degree 4, the lowest that have two maxima
_SAME_DIRECTION = 0.999  # cosine


@dataclass(frozen=True, eq=False)
class Response:
    """Response of a single fibre population and, with two tissues, of free fluid in each shell.

    Attributes:
        bvals: (n_shells,) s/mm2, the unweighted one first.
        fibre: (n_shells, n_orders) zonal harmonics of even order of a fibre along z.
        fluid: (n_shells,) isotropic coefficient, or None.
    """

    bvals: np.ndarray
    fibre: np.ndarray
    fluid: np.ndarray | None

    def as_record(self) -> dict[str, object]:
        """Plain values for a JSON file."""
        return {
            "bvals": self.bvals.tolist(),
            "fibre": self.fibre.tolist(),
            "fluid": None if self.fluid is None else self.fluid.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Orientations:
    """Fibre orientation densities.

    Attributes:
        coefficients: (x, y, z, n_coefficients) float32, even real harmonics in MRtrix3's (Tournier's) basis,
            world axes.
        fluid: (x, y, z) float32, or None with one tissue.
        mask: (x, y, z) bool, where they were computed.
    """

    coefficients: np.ndarray
    fluid: np.ndarray | None
    mask: np.ndarray
    affine: np.ndarray


def response_from_record(record: object, file: str | Path | None = None) -> Response:
    """Create a response from JSON, the inverse of `Response.as_record`.

    Args:
        record: the parsed JSON.
        file: file of the record, for messages.

    Raises:
        DataError: not the record of a response, inconsistent shapes, or non-finite numbers.
    """
    try:
        given = cast("dict[str, Any]", record)
        fluid = given["fluid"]
        made = Response(
            np.asarray(given["bvals"], dtype=float),
            np.asarray(given["fibre"], dtype=float),
            None if fluid is None else np.asarray(fluid, dtype=float),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _no_response(repr(error), file) from error
    n_shells = made.bvals.size
    shaped = made.bvals.ndim == 1 and n_shells > 0 and made.fibre.ndim == 2 and len(made.fibre) == n_shells
    if not shaped or (made.fluid is not None and made.fluid.shape != (n_shells,)):
        got = f"bvals {made.bvals.shape}, fibre {made.fibre.shape}"
        raise _no_response(got if made.fluid is None else f"{got}, fluid {made.fluid.shape}", file)
    numbers = [made.bvals, made.fibre] if made.fluid is None else [made.bvals, made.fibre, made.fluid]
    if not all(np.isfinite(values).all() for values in numbers):
        raise _no_response("a number that is not finite", file)
    return made


def _no_response(got: str, file: str | Path | None) -> DataError:
    return DataError(
        "not a response function",
        expected="bvals (n_shells,), fibre (n_shells, n_orders), fluid (n_shells,) or null",
        got=got,
        file=file,
        remedy="Make it with `connectome-tl connectomes BIDS_DIR OUT_DIR group`.",
    )


def used_shells(dwi: Dwi, settings: ReconstructionSettings) -> tuple[list[tuple[float, np.ndarray]], int]:
    """Shells to deconvolve, the unweighted first, and the possible number of tissues.

    One tissue uses the highest shell alone; two tissues need two weighted shells.
    """
    weighted = list(dwi.shells())
    n_tissues = 2 if settings.tissues == "two" or (settings.tissues == "auto" and len(weighted) > 1) else 1
    if n_tissues == 2 and len(weighted) < 2:
        raise DataError(
            "two tissues need two shells", got=f"{len(weighted)}", subject=dwi.subject, file=dwi.file,
            remedy="Use tissues: auto.",
        )  # fmt: skip
    unweighted = (0.0, np.flatnonzero(dwi.is_b0))
    return ([unweighted, *weighted], 2) if n_tissues == 2 else ([weighted[-1]], 1)


def few_directions(dwi: Dwi, settings: ReconstructionSettings) -> list[str]:
    """Warn if the data have too few directions to distinguish crossing fibres."""
    volumes = np.concatenate([volumes for bval, volumes in used_shells(dwi, settings)[0] if bval > 0])
    alike = np.abs(dwi.directions[volumes] @ dwi.directions[volumes].T) > _SAME_DIRECTION
    n_directions = int((~np.tril(alike, -1).any(axis=1)).sum())
    if n_directions >= _CROSSING:
        return []
    return [
        f"orientations are estimated from {n_directions} directions; crossing fibres are distinguished with at least "
        f"{_CROSSING}, so that connections that cross others may be missing or wrong"
    ]


def estimate_response(dwi: Dwi, maps: TensorMaps, settings: ReconstructionSettings) -> Response:
    """Response of this subject, from the voxels of highest FA and, for fluid, of highest diffusivity.

    Voxels at the rim of the mask are excluded. There is no threshold on FA.

    Raises:
        DataError: too few voxels or directions.
    """
    from scipy.ndimage import binary_erosion

    inner = dwi.mask
    for n_steps in (2, 1):
        eroded = binary_erosion(dwi.mask, iterations=n_steps)
        if eroded.sum() >= 4 * settings.response_voxels:
            inner = eroded
            break
    shells, n_tissues = used_shells(dwi, settings)
    plausible = inner & (maps.fa < 0.99) & (maps.md > 0)
    fibre_voxels = _highest(maps.fa, plausible, settings.response_voxels)
    if len(fibre_voxels) < 10:
        raise DataError("too few voxels for a response", got=str(len(fibre_voxels)), subject=dwi.subject, file=dwi.file)
    at = tuple(fibre_voxels.T)
    orders = np.arange(0, settings.sh_order + 1, 2)
    axis = maps.principal[at].astype(float)
    fibre = np.zeros((len(shells), len(orders)))
    for row, (bval, volumes) in enumerate(shells):
        signal = dwi.data[at][:, volumes].astype(float)
        if bval == 0.0:
            fibre[row, 0] = signal.mean() * np.sqrt(4 * np.pi)
            continue
        n_orders = _orders_allowed(len(volumes), len(orders))
        cosine = axis @ dwi.directions[volumes].T
        fibre[row, :n_orders] = np.linalg.lstsq(_zonal(orders[:n_orders], cosine.ravel()), signal.ravel(), rcond=None)[
            0
        ]
    fluid = None
    if n_tissues == 2:
        at = tuple(_highest(maps.md, plausible & (maps.fa < 0.2), settings.response_voxels).T)
        fluid = np.array([dwi.data[at][:, volumes].mean() for _, volumes in shells]) * np.sqrt(4 * np.pi)
    return Response(np.array([bval for bval, _ in shells]), fibre, fluid)


def deconvolve(dwi: Dwi, response: Response, settings: ReconstructionSettings) -> Orientations:
    """Fibre orientation densities in every voxel of the mask.

    Raises:
        DataError: the shells of the response and of the data differ.
    """
    from dipy.reconst.csdeconv import csdeconv

    shells, n_tissues = used_shells(dwi, settings)
    mine = np.array([bval for bval, _ in shells])
    if len(mine) != len(response.bvals) or np.abs(mine - response.bvals).max() > 100:
        raise DataError(
            "the response belongs to other b-values",
            expected=", ".join(f"{b:.0f}" for b in response.bvals),
            got=", ".join(f"{b:.0f}" for b in mine),
            subject=dwi.subject,
            file=dwi.file,
        )
    if (response.fluid is None) == (n_tissues == 2):
        raise DataError("the response has another number of tissues", subject=dwi.subject, file=dwi.file)
    volumes = np.concatenate([v for _, v in shells])
    forward = _forward(dwi, shells, response, settings.sh_order)
    constraint = _constraint(forward, settings.sh_order, two=n_tissues == 2)
    gram = forward.T @ forward
    coefficients = np.zeros((*dwi.mask.shape, forward.shape[1]), dtype=np.float32)
    # One tissue: amplitudes below a tenth of the mean count as noise; two: only negative ones, since the
    # fluid is constrained by the same rule and may well be small.
    tau = 0.1 if n_tissues == 1 else 0.0
    solve = unwrap(csdeconv)  # without the decorator, which inspects the signature in each call
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a voxel that has not converged after 50 rounds keeps its last estimate
        for voxel in np.argwhere(dwi.mask):
            at = tuple(voxel)
            signal = dwi.data[at][volumes].astype(float)
            if signal.any():
                coefficients[at] = solve(signal, forward, constraint, tau=tau, convergence=_CONVERGENCE, P=gram)[0]
    if n_tissues == 1:
        return Orientations(coefficients, None, dwi.mask, dwi.affine)
    return Orientations(coefficients[..., :-1], coefficients[..., -1], dwi.mask, dwi.affine)


def _constraint(forward: np.ndarray, order: int, *, two: bool) -> np.ndarray:
    """Rows whose product with the unknowns should not be negative, scaled as Tournier et al. 2007 do."""
    from dipy.data import get_sphere

    points = get_sphere(name="symmetric362").vertices
    amplitude = harmonics(points[np.lexsort((points[:, 0], points[:, 1], points[:, 2]))][len(points) // 2 :], order)
    # Weighted as strongly as the data; half the sphere represents all of it.
    weight = len(forward) * float(np.abs(forward[:, 0]).mean()) / 362.0 * np.sqrt(2.0)
    if not two:
        return amplitude * weight
    fluid = np.zeros((1, amplitude.shape[1] + 1))
    fluid[0, -1] = 1.0
    return np.concatenate([np.pad(amplitude, [(0, 0), (0, 1)]), fluid * len(amplitude)]) * weight


def harmonics(directions: np.ndarray, order: int) -> np.ndarray:
    """Even real harmonics in MRtrix3's basis, (n_directions, n_coefficients)."""
    from dipy.reconst.shm import real_sh_tournier

    x, y, z = directions.T
    theta, phi = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
    basis, _, _ = real_sh_tournier(order, theta, phi, legacy=False)
    return np.asarray(basis)


def _forward(dwi: Dwi, shells: list[tuple[float, np.ndarray]], response: Response, order: int) -> np.ndarray:
    orders = np.arange(0, order + 1, 2)
    of_coefficient = np.repeat(np.arange(len(orders)), 2 * orders + 1)
    blocks = []
    for row, (_, volumes) in enumerate(shells):
        directions = dwi.directions[volumes].copy()
        directions[np.linalg.norm(directions, axis=1) < 0.5] = (0, 0, 1)
        kernel = response.fibre[row] * np.sqrt(4 * np.pi / (2 * orders + 1))
        part = harmonics(directions, order) * kernel[of_coefficient]
        if response.fluid is not None:
            part = np.column_stack([part, np.full(len(volumes), response.fluid[row] / np.sqrt(4 * np.pi))])
        blocks.append(part)
    return np.concatenate(blocks)


def _zonal(orders: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    from scipy.special import eval_legendre

    return np.stack([np.sqrt((2 * order + 1) / (4 * np.pi)) * eval_legendre(order, cosine) for order in orders], axis=1)


def _orders_allowed(n_directions: int, n_orders: int) -> int:
    while n_orders > 1 and n_orders * (2 * n_orders - 1) > n_directions:
        n_orders -= 1
    return n_orders


def _highest(values: np.ndarray, where: np.ndarray, count: int) -> np.ndarray:
    voxels = np.argwhere(where)
    order = np.argsort(-values[where], kind="stable")
    return voxels[order[: min(count, len(voxels) // 2)]]
