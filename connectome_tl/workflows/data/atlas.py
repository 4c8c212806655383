"""`connectome-tl atlas`: list, show and install atlases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectome_tl.atlas import CENTROIDS, Atlas, atlas_names, image_folder, load_atlas
from connectome_tl.connectome.assignment import some
from connectome_tl.connectome.centroids import Fit, centroids, check_places
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.read.images import Volume, read_labels, write_volume
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash, write_bytes, write_json, write_table


@dataclass(frozen=True)
class InstalledAtlas:
    """An installed label image: path, hash, labels that are not in the table, notes."""

    image: Path
    sha256: str
    unused_labels: tuple[int, ...]
    notes: tuple[str, ...] = ()


def list_atlases(console: Console | None = None) -> tuple[str, ...]:
    """Print the names of all atlases with size, space and title; return the names."""
    table = Table()
    for heading in ("name", "regions", "node set", "space", "title"):
        table.add_column(heading, justify="right" if heading == "regions" else "left")
    for name in atlas_names():
        atlas = load_atlas(name)
        table.add_row(name, str(atlas.n_regions), atlas.node_set, atlas.space, Text(atlas.title))
    (console or Console()).print(table)
    return atlas_names()


def show_atlas(name: str, console: Console | None = None) -> Atlas:
    """Print one atlas: source, licence, where to obtain its image, and its regions in row order.

    Raises:
        UsageError: no such atlas; the message lists similar names.
    """
    atlas = load_atlas(name)
    screen = console or Console()
    for label, text in (
        ("", f"{atlas.name}: {atlas.title}"),
        ("space", atlas.space),
        ("node set", atlas.node_set),
        ("source", atlas.source),
        ("licence", atlas.licence),
        ("image", atlas.image),
        ("order", atlas.order),
    ):
        if text:
            screen.print(Text(f"{label}: {text}" if label else text))
    table = Table()
    for heading in ("row", "label", "name", "hemisphere", "lobe", "x", "y", "z", "also called"):
        table.add_column(heading, justify="right" if heading in ("row", "label", "x", "y", "z") else "left")
    for row, region in enumerate(atlas.regions, 1):
        at = (f"{value:.1f}" if atlas.has_centroids else "n/a" for value in (region.x, region.y, region.z))
        also = Text(", ".join(region.aliases))
        table.add_row(str(row), str(region.index), region.name, region.hemisphere, region.lobe, *at, also)
    screen.print(table)
    return atlas


def install_atlas(name: str, image: str | Path, folder: str | Path | None = None) -> InstalledAtlas:
    """Check a label image against an atlas table and keep a copy with its hash.

    If the table has no centroids, those of the image are stored for later commands.

    Args:
        folder: folder of the copy, `NAME/labels.nii[.gz]` with a JSON file; None for the user's data folder, or
            CONNECTOME_TL_ATLASES.

    Raises:
        UsageError: no such atlas. MissingInputError: no such image. DataError: labels of the table
            that the image lacks, invalid labels, left and right exchanged, or regions at other locations than in
            the table (another atlas or numbering).
    """
    atlas, source = load_atlas(name), Path(image)
    labels = read_labels(source)
    _check_labels(atlas, labels, source)
    fit = check_places(labels, atlas)
    if fit is None:
        _check_sides(atlas, labels, source)
    known = {region.index for region in atlas.regions} | {0}
    unused = tuple(int(label) for label in np.unique(labels.data) if int(label) not in known)
    target_folder = Path(folder or image_folder()) / name
    if source.name.lower().endswith((".nii", ".nii.gz")):
        ending = ".nii.gz" if source.name.lower().endswith(".gz") else ".nii"
        target = write_bytes(target_folder / f"labels{ending}", source.read_bytes())
    else:  # FreeSurfer's format
        target = write_volume(target_folder / "labels.nii.gz", labels.data, labels.affine)
    digest = file_hash(target)
    write_json(
        target.parent / "labels.json",
        {"Atlas": name, "Sha256": digest, "UnusedLabels": unused, "Source": atlas.source, "Licence": atlas.licence},
    )
    if not atlas.has_centroids or (target.parent / CENTROIDS).is_file():
        write_table(target.parent / CENTROIDS, _centroids(atlas, labels))
    return InstalledAtlas(target, digest, unused, _notes(unused, fit, atlas))


def _notes(unused: tuple[int, ...], fit: Fit | None, atlas: Atlas) -> tuple[str, ...]:
    notes = []
    if unused:
        notes.append(f"labels beyond the table, which are left out, {len(unused)}: {some(unused)}")
    if fit is None and atlas.has_centroids:
        notes.append("the image is too small for its places to be compared with the table's")
    if fit is not None and fit.apart > fit.far:
        notes.append(
            f"the image is in another space than the table ({atlas.space}): regions are {fit.apart:.0f} mm apart, "
            "and fit after an affine map"
        )
    return tuple(notes)


def _centroids(atlas: Atlas, labels: Volume) -> pd.DataFrame:
    """Mean position of each label in mm (RAS+); a background that is missing in this image is at the centre."""
    found = pd.DataFrame.from_dict(centroids(labels), orient="index", columns=["x", "y", "z"])
    voxels = np.argwhere(labels.data > 0)
    middle = voxels.mean(axis=0) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    mean = found.reindex([region.index for region in atlas.regions])
    return mean.fillna(dict(zip("xyz", middle, strict=True))).round(1).rename_axis("index").reset_index()


def _check_labels(atlas: Atlas, labels: Volume, source: Path) -> None:
    """Check that every label of the table is in the image."""
    there = set(np.unique(labels.data).tolist())
    absent = [r for r in atlas.regions if r.index not in there]
    absent = [r for r in absent if r.lobe != "Background"]  # present in some releases only
    problems = [
        Problem(f"label {region.index} ({region.name}) is not in the image", file=source) for region in absent[:10]
    ]
    if len(absent) > 10:
        problems.append(
            Problem(
                f"{counted(len(absent) - 10, 'more label is', 'more labels are')} not in the image",
                file=source,
                remedy=f"Is this the image of {atlas.name}? {atlas.image}",
            )
        )
    raise_all(f"the image does not fit atlas {atlas.name}", problems)


def _check_sides(atlas: Atlas, labels: Volume, source: Path) -> None:
    """Check that left regions are left of right regions in world coordinates."""
    places = centroids(labels)
    left, right = ([places[r.index][0] for r in atlas.regions if r.hemisphere == s and r.index in places] for s in "LR")
    if left and right and np.mean(left) > np.mean(right):
        raise DataError(
            "left and right are exchanged: labels of the left hemisphere are on the right",
            file=source,
            remedy="The image's orientation (sform, qform) is wrong or missing; do not use it before that is fixed.",
        )
