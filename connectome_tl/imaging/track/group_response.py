"""Group response function: the mean over subjects, as MRtrix3's `responsemean`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.track.reconstruction import Response

_SAME_SHELL = 100.0  # s/mm2


def mean_response(responses: Mapping[str, Response]) -> Response:
    """Mean of several subjects' responses, each scaled to the group's mean at order 0.

    The scale is the geometric mean over shells of the ratios of group to subject (MRtrix3 3.0's `responsemean`;
    Tournier et al. 2019, doi:10.1016/j.neuroimage.2019.116137), which removes scanner gain.

    Args:
        responses: by the scan's name.

    Raises:
        DataError: there are no responses, or shells, tissues or orders differ.
    """
    if not responses:
        raise DataError("there is no response to average")
    name, first = next(iter(responses.items()))
    problems = [
        Problem("the response differs from the first one's", _shape(first), _shape(other), subject=scan)
        for scan, other in responses.items()
        if not _alike(first, other)
    ]
    raise_all(f"responses of different kinds have no mean (the first is that of {name})", problems, DataError)
    every = list(responses.values())
    fluid = None
    if first.fluid is not None:
        fluid = _mean([np.asarray(own.fluid)[:, None] for own in every])[:, 0]
    return Response(np.mean([own.bvals for own in every], axis=0), _mean([own.fibre for own in every]), fluid)


def _mean(coefficients: list[np.ndarray]) -> np.ndarray:
    """Of (n_shells, n_orders) each."""
    every = np.stack(coefficients)
    scale = np.exp(np.log(every[:, :, 0].mean(axis=0) / every[:, :, 0]).mean(axis=1))
    return np.asarray((every * scale[:, None, None]).mean(axis=0))


def _alike(first: Response, other: Response) -> bool:
    return (
        first.fibre.shape == other.fibre.shape
        and (first.fluid is None) == (other.fluid is None)
        and bool((np.abs(first.bvals - other.bvals) <= _SAME_SHELL).all())
    )


def _shape(response: Response) -> str:
    shells = ", ".join(f"{bval:.0f}" for bval in response.bvals)
    n_tissues = 1 if response.fluid is None else 2
    return f"b-values {shells}; {n_tissues} tissues; {response.fibre.shape[1]} orders"
