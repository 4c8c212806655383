"""Open a MATLAB or HDF5 file with the matrices of all subjects: CONN's, or one plain array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.mat73 import open_stack
from connectome_tl.connectome.formats.matlab import conn_stack, is_conn, is_mat73_file, plain_names, read_mat
from connectome_tl.connectome.formats.name_lists import texts_of
from connectome_tl.connectome.formats.stacks import StackedArray, in_memory
from connectome_tl.errors import DataError


def open_mat_stack(path: Path) -> tuple[dict[str, np.ndarray], dict[str, StackedArray]]:
    """The lists of text of a MATLAB or HDF5 file and its arrays with subjects on the first axis, as of `open_arrays`.

    MATLAB users store (n_regions, n_regions, n_subjects); which axis counts the subjects follows from the shape, and
    from the symmetry of the matrices if there are as many subjects as regions.

    Raises:
        MissingInputError: no such file. DataError: damaged, no array of matrices, or one with an unclear axis.
    """
    if (is_mat73_file(path) and open_stack(path, "Z") is not None) or is_conn(path):
        z, names = conn_stack(path)
        return {"regions": np.array(names, dtype=np.str_)}, {"Z": z}
    variables = read_mat(path)
    numeric = {key: one for key, one in variables.items() if isinstance(one, np.ndarray) and one.dtype.kind in "fiu"}
    large = {
        key: in_memory(_subjects_first(one, key, path))
        for key, one in numeric.items()
        if one.ndim == 3 and len(set(one.shape)) < 3
    }
    large = large or {key: in_memory(one) for key, one in numeric.items() if one.ndim == 2 and min(one.shape) > 1}
    if not large:
        raise DataError(
            "no array of matrices in the file",
            file=path,
            expected="one of (n_regions, n_regions, n_subjects)",
            got=", ".join(f"{key} {one.shape}" for key, one in numeric.items()) or "no numeric array",
        )
    small = {key: np.array(said, dtype=np.str_) for key, one in variables.items() if (said := texts_of(one))}
    n_regions = next(iter(large.values())).shape[-1]
    regions = plain_names({key: one for key, one in variables.items() if key not in large}, n_regions)
    return small | ({"regions": np.array(regions, dtype=np.str_)} if regions else {}), large


def _subjects_first(values: np.ndarray, key: str, path: Path) -> np.ndarray:
    """(n_subjects, n_regions, n_regions), from an array with the subjects on the first or the last axis."""
    first, second, last = values.shape
    if first == second == last:
        is_last = np.array_equal(values, values.swapaxes(0, 1), equal_nan=True)
        is_first = np.array_equal(values, values.swapaxes(1, 2), equal_nan=True)
        if is_last == is_first:
            raise DataError(
                f"{key} has as many subjects as regions, and it is not clear which axis counts the subjects",
                file=path,
                got=str(values.shape),
                remedy="Save it as .npy with the subjects on the first axis.",
            )
    else:
        is_last = first == second
    return np.moveaxis(values, -1, 0) if is_last else values
