"""Content of a scan's page: figures and numbers; `report` renders the HTML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.provenance import content_hash, write_text
from connectome_tl.report.figures.scans import Row, cuts, matrix_image, motion_figure, sphere_figure
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.scan_page import BEGIN, END, ScanPage, beside_cohort, render_scan
from connectome_tl.workflows.scans.result import ScanResult, is_remark, stamps_of

Typical = Mapping[str, tuple[float, float]]


def write_scan_report(path: Path, found: ScanResult, numbers: Mapping[str, float], told: str, index: Path) -> Path:
    """Write the page; the same scan gives the same bytes. `set_beside` adds the cohort's numbers later."""
    account = found.assembly.account
    lines = (
        f"{account.total:,} streamlines: both ends of {account.edges:,} are in regions ({account.within_one_region:,} "
        f"in the same region), {account.unassigned:,} have an end outside all, {account.too_short:,} are too short."
    )
    rows = _rows(found)
    drawn = slices(rows, found.dwi.mask, found.labels, found.dwi.affine)
    pictures = [(drawn, "cuts: " + "; ".join(row.title for row in rows))]
    made = page_of(found.name, found.warnings, told, pictures, found.assembly.connectome, lines, numbers, path, index)
    return write_text(path, render_scan(replace(made, figures=tuple(_figures(found)))))


def page_of(
    name: str,
    warnings: Sequence[str],
    told: str,
    pictures: Sequence[tuple[str, str]],
    connectome: Connectome,
    lines: str,
    numbers: Mapping[str, float],
    path: Path,
    index: Path,
) -> ScanPage:
    """A scan's page. `pictures` are data URLs with their descriptions; all other content is text."""
    stamped = stamps_of(warnings)
    return ScanPage(
        name=name,
        warnings=tuple(one for one in warnings if not is_remark(one) and one not in stamped),
        notes=tuple(one for one in warnings if is_remark(one)),
        told=told,
        pictures=tuple(pictures),
        matrix=matrix(connectome),
        measure=connectome.measures[0].replace("_", " "),
        lines=lines,
        numbers=numbers,
        index=Path(os.path.relpath(index, path.parent)).as_posix(),
        stamps=tuple(one[:1].upper() + one[1:] for one in stamped),
    )


def set_beside(
    path: Path, numbers: Mapping[str, float], cohort: Typical, neighbours: Sequence[tuple[str, str]] = ()
) -> None:
    """Add the cohort's median and robust standard deviation to the numbers of a page, unless already present."""
    before = path.read_text("utf-8")
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    after = f"{head}{beside_cohort(numbers, cohort, neighbours)}{tail}"
    if after != before:
        write_text(path, after)


def page_hash(path: Path) -> str:
    """Hash of a page without the content that `set_beside` changes."""
    head, _, rest = path.read_text("utf-8").partition(BEGIN)
    return content_hash(head, rest.partition(END)[2])


def slices(rows: Sequence[Row], mask: np.ndarray, labels: Volume, affine: np.ndarray) -> str:
    """Slices through the centre of the brain as a data URL; the labels may have another grid in the same space."""
    parcels = carry_labels(Warp(np.eye(4)), labels, Volume(mask, affine)).data
    return cuts(rows, mask, parcels, aff2axcodes(affine))


def matrix(connectome: Connectome) -> str:
    """Image of the first measure, on a logarithmic scale for counts and a linear scale for signed values."""
    weights, name = connectome.weights[0], connectome.measures[0].replace("_", " ")
    if name.startswith("morphometric"):
        there = connectome.node_mask[:, None] & connectome.node_mask & ~np.eye(len(weights), dtype=bool)
        shown, text = np.where(there, weights, np.nan), f"{name}; grey: a region is missing"
    else:
        shown, text = np.log10(np.where(weights > 0, weights, np.nan)), "log10 of the weight; grey: no streamline"
    return matrix_image(shown, connectome.regions, text)


def brightest(image: np.ndarray, mask: np.ndarray) -> float:
    """Intensity at the upper end of the grey scale."""
    return max(float(np.quantile(image[mask], 0.995)), 1e-6)


def _rows(found: ScanResult) -> list[Row]:
    fa, mask, dwi = found.images["FA"], found.dwi.mask, found.dwi
    b0 = dwi.data[..., dwi.is_b0].mean(axis=3)
    most, passed = brightest(fa, mask), np.log1p(found.passed)
    colour = np.clip(np.abs(found.principal) * (fa / most)[..., None], 0, 1)
    rows = [Row("FA with regions", fa, "gray", most, with_labels=True)]
    if found.anatomical is not None:
        rows.insert(0, Row("anatomy with regions", found.anatomical, "gray", brightest(found.anatomical, mask), True))
        rows.append(Row("unweighted, edges of the anatomy", b0, "gray", brightest(b0, mask), outline=found.anatomical))
    return [
        *rows,
        Row("main directions", np.where(mask[..., None], colour, 0)),
        Row("streamlines (log)", passed, "magma", max(float(passed.max()), 1e-9)),
    ]


def _figures(found: ScanResult) -> list[Figure]:
    sheet, table = Sheet(""), found.quality.volumes
    flagged = (table[["slices_lost", "slices_bright", "slices_striped", "left_out"]] > 0).any(axis=1).to_numpy()
    moved = table["framewise_displacement"].to_numpy(float) if "framewise_displacement" in table else np.full(1, np.nan)
    drawn = sheet.draw(
        lambda name: motion_figure(moved, flagged, name),
        "Framewise displacement",
        "Crosses: volumes with signal dropout, stripes, too bright, or left out.",
    )
    drawn += sheet.draw(
        lambda name: sphere_figure(found.dwi.bvals, found.dwi.directions, name),
        "Gradient directions",
        "After correction; both ends of an axis are one direction, the upper is drawn.",
    )
    return drawn
