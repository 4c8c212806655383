"""The page of one scan: brain mask and labels over FA, where streamlines pass, the matrix, the numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from connectome_tl.connectome.assemble import Assembly
from connectome_tl.imaging.images import Volume
from connectome_tl.imaging.warps import Warp, carry_labels
from connectome_tl.provenance import content_hash, write_text
from connectome_tl.workflows.scan_result import ScanResult

LABELS = {  # of the numbers: what they are, and their unit
    "b0_snr": ("signal to noise, unweighted", ""),
    "brain_ml": ("brain", "ml"),
    "density": ("density of the connectome", ""),
    "mask_dice": ("overlap with the template (Dice)", ""),
    "mean_fa": ("mean FA", ""),
    "mean_md": ("mean MD", "mm²/s"),
    "n_regions_present": ("regions present", ""),
    "share_assigned": ("streamlines that join two regions", ""),
}
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


def write_scan_report(path: Path, found: ScanResult, numbers: Mapping[str, float]) -> Path:
    """Write the page; the same scan gives the same bytes. The cohort's numbers come in later (`set_beside`)."""
    boxes = "".join(f'<div class="warn">{html.escape(text)}</div>' for text in found.warnings)
    account = found.assembly.account
    body = (
        f"{boxes}<h2>Brain, labels, streamlines</h2>{_slices(found)}"
        f"<h2>Connectome ({html.escape(found.assembly.connectome.measures[0])})</h2>{_matrix(found.assembly)}"
        f"<p>{account.total:,} streamlines: {account.edges:,} join two regions ({account.within_one_region:,} of them "
        f"within one), {account.unassigned:,} end outside all regions, {account.too_short:,} are too short.</p>"
        f"<h2>Numbers</h2>{_BEGIN}{_numbers_table(numbers, {})}{_END}"
    )
    return write_text(path, page(found.name, body))


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
        cells = f"<td>{html.escape(label)}{f', {unit}' if unit else ''}</td><td>{value:.4g}</td>"
        if key in cohort:
            middle, spread = cohort[key]
            mark = " <b>far off</b>" if is_far(value, middle, spread) else ""
            cells += f"<td>{middle:.4g}{mark}</td><td>{spread:.2g}</td>"
        elif cohort:
            cells += "<td></td><td></td>"
        lines.append(f"<tr>{cells}</tr>")
    return "".join(lines) + "</table>"


def _slices(found: ScanResult) -> str:
    from matplotlib.figure import Figure

    dwi, fa = found.dwi, found.images["FA"]
    grid = Volume(fa, dwi.affine)
    parcels = carry_labels(Warp(np.eye(4)), found.labels, grid).data  # also where they lie on another grid
    passed = np.log1p(found.passed)
    centre = np.rint(np.argwhere(dwi.mask).mean(axis=0)).astype(int)
    rows = [np.flatnonzero(dwi.mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box_of = tuple(slice(max(int(r[0]) - 2, 0), int(r[-1]) + 3) for r in rows)
    figure = Figure(figsize=(10, 6.6), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 3)
    for column, axis in enumerate((2, 1, 0)):

        def cut(image: np.ndarray, axis: int = axis) -> np.ndarray:
            return np.take(image[box_of], centre[axis] - box_of[axis].start, axis=axis).T

        top = max(float(np.quantile(fa[dwi.mask], 0.995)), 1e-6)
        for row, (image, colours, most) in enumerate(((fa, "gray", top), (passed, "magma", max(passed.max(), 1e-9)))):
            box = axes[row, column]
            left = np.diag(dwi.affine)[0] < 0 and axis != 0  # the subject's left on the left of the page
            shown = [cut(part)[:, ::-1] if left else cut(part) for part in (image, dwi.mask.astype(float), parcels)]
            box.imshow(shown[0], origin="lower", cmap=colours, vmin=0, vmax=most)
            box.contour(shown[1], levels=[0.5], colors="#ffd166", linewidths=0.8)
            box.set_axis_off()
            if row == 0:
                colour = np.ma.masked_where(shown[2] == 0, shown[2] % 20)
                box.imshow(colour, origin="lower", cmap="tab20", vmin=0, vmax=19, alpha=0.5, interpolation="nearest")
    axes[0, 0].set_title("FA, brain outline, regions", fontsize=10)
    axes[1, 0].set_title("streamlines through each voxel (log)", fontsize=10)
    return _image(figure, "slices of FA with regions, and of streamline density")


def _matrix(assembly: Assembly) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.5), layout="constrained", facecolor="white")
    box = figure.subplots()
    weights = np.where(assembly.connectome.weights[0] > 0, assembly.connectome.weights[0], np.nan)
    drawn = box.imshow(np.log10(weights), cmap="viridis", interpolation="nearest")
    box.set_facecolor("#eef1f4")
    figure.colorbar(drawn, ax=box, label="log10 of the weight; grey: no streamline")
    n = assembly.connectome.n_regions
    if n <= 40:
        box.set_xticks(range(n), assembly.connectome.regions, rotation=90, fontsize=7)
        box.set_yticks(range(n), assembly.connectome.regions, fontsize=7)
    return _image(figure, "matrix of edge weights")


def _image(figure: object, text: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})  # type: ignore[attr-defined]
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'
