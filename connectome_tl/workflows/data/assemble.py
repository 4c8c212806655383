"""`connectome-tl assemble`: connectome from a tractogram and a parcellation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.assemble import Assembly, account_of, assemble
from connectome_tl.connectome.centroids import check_places
from connectome_tl.connectome.export import refuse_overwriting, write_connectome
from connectome_tl.connectome.names.labels import read_labels as read_label_table
from connectome_tl.connectome.regions import RegionTable, regions_of_atlas, regions_of_image, regions_of_table
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, UsageError
from connectome_tl.files import read_text
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import Streamlines, announced_count, read_blocks
from connectome_tl.provenance import file_hash, write_table
from connectome_tl.settings.imaging import AssemblySettings
from connectome_tl.workflows.progress import Steps

MEASURES = ("count", "length", "invnodevol")
UNITS = {"count": "streamlines", "length": "mm", "invnodevol": "streamlines per voxel", "FA": "1"}
UNITS |= dict.fromkeys(("MD", "AD", "RD"), "mm2/s")

_T = TypeVar("_T")


@dataclass(frozen=True)
class AssembledFile:
    """Written files, and notes."""

    file: Path
    regions: Path
    assembly: Assembly


def assemble_files(
    tractogram: str | Path,
    parcellation: str | Path,
    out: str | Path,
    *,
    measure: str = "count",
    settings: AssemblySettings | None = None,
    weights: str | Path | None = None,
    labels: str | Path | None = None,
    atlas: str | None = None,
    show_progress: bool = False,
) -> AssembledFile:
    """Assemble one measure and write it with sidecar and region table.

    Args:
        out: a `.tsv` file; `.json` and `_nodeindices.tsv` are written next to it.
        measure: count, length, invnodevol or mean=IMAGE.
        weights: text or `.npy`, one number per streamline (SIFT2).
        labels, atlas: names of the rows; by default the labels of the image, by number.
        show_progress: draw bars, on a terminal only.

    Raises:
        UsageError: an unknown measure, labels and atlas together, or an `out` that is not `.tsv`.
        MissingInputError, DataError: problems of any input, listed together; or as in `assemble`.
    """
    if Path(out).suffix.lower() != ".tsv":
        raise UsageError("a connectome is written as a table", expected="--out FILE.tsv", got=str(out))
    name, image_file = _measure(measure)
    if labels is not None and atlas is not None:
        raise UsageError("give --labels or --atlas, not both")
    faults: list[ConnectomeTLError] = []
    _tried(lambda: next(read_blocks(tractogram), None), faults)
    parcels = _tried(lambda: read_labels(parcellation), faults)
    named = _tried(lambda: _named_regions(labels, atlas), faults)
    image = None if image_file is None else _tried(lambda: read_volume(image_file), faults)
    given = None if weights is None else _tried(lambda: read_weights(weights), faults)
    if faults or parcels is None:
        raise _together(faults)
    regions = named or regions_of_image(parcels)
    images = {} if image is None else {name: image}
    precise = settings is not None and settings.sampling == "precise"
    with Steps(shown=show_progress, lines=False) as steps:
        with steps.counted("streamlines") as progress:
            blocks = _counted_blocks(tractogram, progress)
            ends = reduce_streamlines(blocks, lengths=name == "length", images=images, precise=precise)
            ends = replace(ends, file=ends.file or str(tractogram))  # an empty one has no block that names it
        with steps.step("regions of their ends"):
            assembly = assemble(
                ends,
                parcels,
                regions,
                (name,),
                settings=settings,
                weights=given,
                weights_file=None if weights is None else str(weights),
            )

    sources = [tractogram, parcellation, *(p for p in (image_file, weights, labels) if p is not None)]
    written = Path(out)
    refuse_overwriting([written, written.with_name(f"{written.stem}_nodeindices.tsv")], sources)
    (file,) = write_connectome(
        assembly.connectome,
        out,
        atlas=atlas or "",
        inputs={Path(source).name: file_hash(source) for source in sources},
        settings=settings or AssemblySettings(),
        units=UNITS.get(name, "as in the image"),
        notes=assembly.warnings,
        fields={
            "Streamlines": account_of(assembly),
            "EdgeWeight": "streamline weights" if weights is not None else "streamlines",
        },
    )
    table = write_regions(file.with_name(f"{file.stem}_nodeindices.tsv"), assembly, regions)
    return AssembledFile(file, table, assembly)


def _counted_blocks(tractogram: str | Path, progress: Callable[[int, int], None]) -> Iterator[Streamlines]:
    """Blocks of a tractogram; reports the number of streamlines read, of those stated in the header."""
    n, total = 0, announced_count(tractogram)
    for block in read_blocks(tractogram):
        yield block
        n += len(block.n_points)
        if total is not None:
            progress(min(n, total), total)


def write_regions(
    path: Path, assembly: Assembly, regions: RegionTable, measures: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write the table of the rows: position, name, label in the image, voxels, presence, and `measures`."""
    table = pd.DataFrame(
        {
            "index": range(1, len(regions.names) + 1),
            "name": list(regions.names),
            "label": list(regions.numbers),
            "n_voxels": assembly.node_volumes,
            "present": assembly.connectome.node_mask.astype(int),
            **(measures or {}),
        }
    )
    return write_table(path, table)


def read_weights(path: str | Path) -> np.ndarray:
    """Read one number per streamline, (n_streamlines,), from `.npy` or text as written by `tcksift2` and `tcksample`.

    Raises:
        MissingInputError, DataError: no such file, or not a list of numbers.
    """
    if Path(path).suffix.lower() == ".npy":
        from connectome_tl.connectome.formats.arrays import load_array

        array = load_array(path)
        if array.dtype.kind not in "iuf" or array.size != max(array.shape, default=1):
            raise DataError(
                "not a list of numbers", expected="one real number per streamline",
                got=f"{array.dtype} {array.shape}", file=path,
            )  # fmt: skip
        return np.asarray(array, dtype=float).ravel()
    lines = [line for line in read_text(path).split("\n") if not line.lstrip().startswith("#")]
    words = re.split(r"[\s,;]+", " ".join(lines).strip())
    try:
        return np.array([_number(word) for word in words], dtype=float)
    except ValueError as error:
        raise DataError(f"not a list of numbers: {error}", file=path) from error


def _number(word: str) -> float:
    if "_" in word:  # Python parses 1_000 as a thousand; no tool writes it
        raise ValueError(f"could not convert string to float: {word!r}")
    return float(word)


def _tried(read: Callable[[], _T], faults: list[ConnectomeTLError]) -> _T | None:
    """The content that was read, or None with its problem in the list."""
    try:
        return read()
    except (DataError, MissingInputError) as error:
        faults.append(error)
        return None


def _together(faults: list[ConnectomeTLError]) -> ConnectomeTLError:
    """One error for all inputs that cannot be used."""
    if len(faults) == 1:
        return faults[0]
    kind = MissingInputError if any(isinstance(fault, MissingInputError) for fault in faults) else DataError
    return kind("these inputs cannot be used", problems=[problem for fault in faults for problem in fault.problems])


def _measure(text: str) -> tuple[str, str | None]:
    """Name of the measure and, for a mean, its image."""
    kind, equals, image = text.partition("=")
    if kind == "mean" and equals and image:
        return f"mean_{Path(image).name.split('.')[0]}", image
    if text in MEASURES:
        return text, None
    raise UsageError("no such edge measure", expected=f"{', '.join(MEASURES)} or mean=IMAGE", got=text)


def region_table(parcels: Volume, labels: str | Path | None, atlas: str | None) -> RegionTable:
    """Rows of the connectome, from a label table, an atlas, or the labels of the image by number.

    Raises:
        UsageError: labels and atlas together. DataError: the image is not one of the atlas.
    """
    if labels is not None and atlas is not None:
        raise UsageError("give --labels or --atlas, not both")
    regions = _named_regions(labels, atlas) or regions_of_image(parcels)
    if regions.atlas is not None:
        check_places(parcels, regions.atlas)
    return regions


def _named_regions(labels: str | Path | None, atlas: str | None) -> RegionTable | None:
    if labels is not None:
        return regions_of_table(read_label_table(labels), file=str(labels))
    return None if atlas is None else regions_of_atlas(load_atlas(atlas))
