"""The page of one scan: brain mask and labels over FA, where streamlines pass, the matrix, the numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.provenance import content_hash, write_text
from connectome_tl.workflows.scans.result import ScanResult

LABELS = {  # of the numbers: what they are, and their unit
    "b0_snr": ("signal to noise, unweighted", ""),
    "brain_ml": ("brain", "ml"),
    "density": ("density of the connectome", ""),
    "max_fd": ("largest framewise displacement", "mm"),
    "mean_fd": ("mean framewise displacement", "mm"),
    "n_volumes_flagged": ("volumes flagged", ""),
    "neighbour_correlation": ("correlation of neighbouring volumes", ""),
    "share_slices_lost": ("slices with signal dropout", ""),
    "mask_dice": ("overlap with the template (Dice)", ""),
    "mean_fa": ("mean FA", ""),
    "mean_md": ("mean MD", "mm²/s"),
    "mean_weight": ("mean weight of the network", ""),
    "n_regions_present": ("regions present", ""),
    "share_assigned": ("streamlines that join two regions", ""),
}
# Each with the directions it looks along, from left to right, and from bottom to top.
_VIEWS = (("axial", "IS", "LR", "PA"), ("coronal", "PA", "LR", "IS"), ("sagittal", "LR", "PA", "IS"))
Turn = tuple[slice, ...]
_BEGIN, _END = "<!-- beside the cohort -->", "<!-- to here -->"
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2430}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}"
    "td:first-child{white-space:nowrap}"
    "td,th{padding:.25rem .8rem .25rem 0;text-align:left;border-bottom:1px solid #dde2e8}"
    "img{max-width:100%}.warn{background:#fff4df;padding:.5rem .8rem;border-left:4px solid #d98b00;margin:.4rem 0}"
    ".bad{background:#fdeaea;border-color:#c0392b}.small{color:#5a6675;font-size:.9em}"
)


def page(title: str, body: str) -> str:
    """A self-contained page; `body` is HTML already, `title` is text."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1>{body}<p class=small>For research, not for care.</p></body></html>\n"
    )


@dataclass(frozen=True)
class Row:
    """A row of slices: an image (x, y, z) on the grid of the brain mask, its colours, the value that is brightest."""

    title: str
    image: np.ndarray
    colours: str
    most: float
    with_labels: bool = False


def write_scan_report(path: Path, found: ScanResult, numbers: Mapping[str, float], told: str) -> Path:
    """Write the page; the same scan gives the same bytes. The cohort's numbers come in later (`set_beside`)."""
    account, fa, dwi = found.assembly.account, found.images["FA"], found.dwi
    passed = np.log1p(found.passed)
    rows = [
        Row("FA with regions", fa, "gray", max(float(np.quantile(fa[dwi.mask], 0.995)), 1e-6), True),
        Row("streamlines (log)", passed, "magma", max(float(passed.max()), 1e-9)),
    ]
    lines = (
        f"{account.total:,} streamlines: {account.edges:,} join two regions ({account.within_one_region:,} of them "
        f"within one), {account.unassigned:,} end outside all regions, {account.too_short:,} are too short."
    )
    drawn = slices(rows, dwi.mask, found.labels, dwi.affine)
    body = scan_body(found.warnings, told, drawn, found.assembly.connectome, lines, numbers)
    return write_text(path, page(found.name, body))


def scan_body(
    warnings: Sequence[str], told: str, drawn: str, connectome: Connectome, lines: str, numbers: Mapping[str, float]
) -> str:
    """What a scan's page holds; `drawn` is HTML, all else text."""
    boxes = "".join(f'<div class="warn">{html.escape(text)}</div>' for text in warnings)
    measure = html.escape(connectome.measures[0].replace("_", " "))
    return (
        f"{boxes}<p>{html.escape(told)}</p><h2>Brain and regions</h2>{drawn}"
        f"<h2>Connectome ({measure})</h2>{matrix(connectome)}<p>{html.escape(lines)}</p>"
        f"<h2>Numbers</h2>{_BEGIN}{_numbers_table(numbers, {})}{_END}"
    )


def set_beside(path: Path, numbers: Mapping[str, float], cohort: Mapping[str, tuple[float, float]]) -> None:
    """Put the cohort's median and robust spread beside a page's numbers, where they are not there already."""
    before = path.read_text("utf-8")
    head, _, rest = before.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    after = f"{head}{_BEGIN}{_numbers_table(numbers, cohort)}{_END}{tail}"
    if after != before:
        write_text(path, after)


def page_hash(path: Path) -> str:
    """Hash of a page without what `set_beside` changes."""
    head, _, rest = path.read_text("utf-8").partition(_BEGIN)
    return content_hash(head, rest.partition(_END)[2])


def is_far(value: float, middle: float, spread: float) -> bool:
    """More than four robust standard deviations from the median."""
    return abs(value - middle) > 4 * max(spread, 1e-12)


def _numbers_table(numbers: Mapping[str, float], cohort: Mapping[str, tuple[float, float]]) -> str:
    beside = "<th>cohort: median</th><th>robust SD</th>" if cohort else ""
    lines = [f"<table><tr><th></th><th>this scan</th>{beside}</tr>"]
    for key, value in numbers.items():
        label, unit = LABELS.get(key, (key, ""))
        far = " <b>far off</b>" if key in cohort and is_far(value, *cohort[key]) else ""
        cells = f"<td>{html.escape(label)}{f', {unit}' if unit else ''}</td><td>{value:.4g}{far}</td>"
        if key in cohort:
            cells += "".join(f"<td>{number}</td>" for number in (f"{cohort[key][0]:.4g}", f"{cohort[key][1]:.2g}"))
        elif cohort:
            cells += "<td></td><td></td>"
        lines.append(f"<tr>{cells}</tr>")
    return "".join(lines) + "</table>"


def slices(rows: Sequence[Row], mask: np.ndarray, labels: Volume, affine: np.ndarray) -> str:
    """Axial, coronal and sagittal cuts through the middle of the brain, the subject's left on the left.

    The labels may lie on another grid of the same space.
    """
    from matplotlib.figure import Figure

    parcels = carry_labels(Warp(np.eye(4)), labels, Volume(mask, affine)).data
    centre = np.rint(np.argwhere(mask).mean(axis=0)).astype(int)
    along = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box_of = tuple(slice(max(int(r[0]) - 2, 0), int(r[-1]) + 3) for r in along)
    figure = Figure(figsize=(10, 3.4 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    codes = aff2axcodes(affine)
    for column, (view, normal, sides, ends) in enumerate(_VIEWS):
        axis, across, up = (next(k for k in range(3) if codes[k] in pair) for pair in (normal, sides, ends))
        forward = (codes[up] == ends[1], codes[across] == sides[1])
        turned = tuple(slice(None, None, 1 if way else -1) for way in forward)

        def cut(image: np.ndarray, axis: int = axis, upright: bool = up > across, turned: Turn = turned) -> np.ndarray:
            found = np.take(image[box_of], centre[axis] - box_of[axis].start, axis=axis)
            return (found.T if upright else found)[turned]

        for line, row in enumerate(rows):
            box = axes[line, column]
            box.imshow(cut(row.image), origin="lower", cmap=row.colours, vmin=0, vmax=row.most)
            box.contour(cut(mask.astype(float)), levels=[0.5], colors="#ffd166", linewidths=0.8)
            box.text(0.02, 0.5, sides[0], color="white", transform=box.transAxes, va="center")
            box.set_axis_off()
            box.set_title(f"{view}: {row.title}" if column == 0 else view, fontsize=10, loc="left")
            if row.with_labels:
                found = cut(parcels)
                colour = np.ma.masked_where(found == 0, found % 20)
                box.imshow(colour, origin="lower", cmap="tab20", vmin=0, vmax=19, alpha=0.5, interpolation="nearest")
    return _image(figure, "slices: " + "; ".join(row.title for row in rows))


def matrix(connectome: Connectome) -> str:
    """The first measure; on a logarithmic scale where it counts, as it is where it may be negative."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.5), layout="constrained", facecolor="white")
    box = figure.subplots()
    weights, name = connectome.weights[0], connectome.measures[0].replace("_", " ")
    if name.startswith("morphometric"):
        there = connectome.node_mask[:, None] & connectome.node_mask & ~np.eye(len(weights), dtype=bool)
        shown, text = np.where(there, weights, np.nan), f"{name}; grey: a region is missing"
    else:
        shown, text = np.log10(np.where(weights > 0, weights, np.nan)), "log10 of the weight; grey: no streamline"
    drawn = box.imshow(shown, cmap="viridis", interpolation="nearest")
    box.set_facecolor("#eef1f4")
    figure.colorbar(drawn, ax=box, label=text)
    n = connectome.n_regions
    if n <= 40:
        box.set_xticks(range(n), connectome.regions, rotation=90, fontsize=7)
        box.set_yticks(range(n), connectome.regions, fontsize=7)
    return _image(figure, "matrix of edge weights")


def _image(figure: object, text: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})  # type: ignore[attr-defined]
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'
