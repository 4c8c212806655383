"""Find a list of region names in the folder of a matrix that has no names."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from connectome_tl.connectome.formats.arrays import load_arrays
from connectome_tl.connectome.formats.cells import is_number
from connectome_tl.connectome.formats.name_lists import row_lists
from connectome_tl.connectome.matrix_file import RowList
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.errors import ConnectomeTLError, DataError
from connectome_tl.files import is_there, listed_in, read_json_object

_WORDS = frozenset(
    {"label", "labels", "name", "names", "region", "regions", "roi", "rois", "nodes", "parcels", "parcellation", "lut"}
    | {"region_names", "region_labels", "roi_names", "roi_labels", "node_names", "node_labels", "regionnames"}
    | {"atlas", "order", "roi_order", "region_order", "columns", "rows", "index", "ids"}
)
_ENDINGS = (".txt", ".tsv", ".csv", ".json", ".lut", ".xml", ".npy")
_BINARY = (".npy", ".npz", ".mat", ".h5", ".hdf5")  # a text file of the same stem is not a second matrix
_MAX_BYTES = 5_000_000


def lists_beside(path: Path, counts: tuple[int, ...]) -> tuple[RowList, ...]:
    """Lists of as many regions as the matrix may have rows.

    `x.npy` is named by `x_labels.txt`, `x.regions.tsv`, `x_atlas-A.tsv`, `labels_x.txt` or lists in `x.json`, and
    `x_fc.npy` also by `x_labels.txt` of as many regions; `labels.txt` in the same folder may belong to it (`shared`).
    """
    try:
        own, same_stem, kin, shared = _candidates(path)
    except OSError:
        return ()
    found = [one for file in own for one in _read(file, counts, shared=False, strict=True)]
    found += [one for file in same_stem for one in _read(file, counts, shared=False, strict=False)]
    of_kin = [one for file in kin for one in _read(file, counts, shared=False, strict=False)] if not found else []
    found += [one for one in of_kin if len(one) in counts]
    return tuple(found + [one for file in shared for one in _read(file, counts, shared=True, strict=False)])


def _candidates(path: Path) -> tuple[list[Path], list[Path], list[Path], list[Path]]:
    """Lists named after the matrix, files of the same stem, lists of the same prefix, lists for the whole folder."""
    folder, stem = path.parent, path.stem.casefold()
    of_this, of_kin = _named_after(stem), _named_after(stem.rpartition("_")[0])
    own, same_stem, kin, shared = [], [], [], []
    listed_in(folder, "*.*")
    for name in _listing(str(folder), os.stat(folder).st_mtime_ns):
        base, _, ending = name.casefold().rpartition(".")
        if name == path.name:
            continue
        if _is_list(of_this.fullmatch(base)):
            own.append(folder / name)
        elif base == stem:
            if ending == "json" or (path.suffix.lower() in _BINARY and ending != "npy"):
                same_stem.append(folder / name)
        elif "_" in stem and _is_list(of_kin.fullmatch(base)):
            kin.append(folder / name)
        elif base in _WORDS:
            shared.append(folder / name)
    return own, same_stem, kin, shared


def _named_after(stem: str) -> re.Pattern[str]:
    word = re.escape(stem)
    return re.compile(rf"{word}[_\-. ](?P<after>[a-z_]+)(-[a-z0-9]+)?|(?P<before>[a-z_]+)[_\-. ]{word}")


def _is_list(match: re.Match[str] | None) -> bool:
    return match is not None and (match["after"] or match["before"]) in _WORDS


@lru_cache(maxsize=64)
def _listing(folder: str, changed: int) -> tuple[str, ...]:
    del changed
    return tuple(sorted(name for name in os.listdir(folder) if name.casefold().endswith(_ENDINGS)))


def _read(file: Path, counts: tuple[int, ...], *, shared: bool, strict: bool) -> list[RowList]:
    """Lists of regions in the file; none if the file contains something else."""
    if not is_there(file):
        return []
    try:
        if file.suffix.lower() == ".json":
            found = row_lists(_said(file), counts)
            if found:
                return [RowList(file.name, names=one.names, numbers=one.numbers, shared=shared) for one in found]
        if file.suffix.lower() == ".npy":
            (array,) = load_arrays(file, limit=_MAX_BYTES).values()
            return [replace(one, shared=shared) for one in row_lists({file.name: array}, counts)]
        table = read_labels(file)
    except ConnectomeTLError as error:
        # A list that belongs to this matrix but has unusable names is an error; other files are ignored.
        if strict and any("twice" in problem.what or "name" in problem.what for problem in error.problems):
            raise DataError("the list of regions for it cannot be used", problems=error.problems) from error
        return []
    if all(is_number(cell) for cell in table.names[0].split()) and table.numbers is None:
        return []  # a line of numbers: another matrix
    if shared and len(table.names) not in counts:
        return []
    if table.numbers is not None and table.names == tuple(str(number) for number in table.numbers):
        return [RowList(file.name, numbers=table.numbers, shared=shared)]
    return [RowList(file.name, names=table.names, shared=shared)]


def _said(file: Path) -> dict[str, object]:
    said = read_json_object(file, limit=_MAX_BYTES)
    return {} if said.get("Software") == "connectome_tl" else said
