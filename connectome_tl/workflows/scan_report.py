"""The page of one scan: brain mask and labels over FA, where streamlines pass, the matrix, the numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from connectome_tl.connectome.assemble import Assembly
from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.images import Volume, same_grid
from connectome_tl.imaging.tensor import TensorMaps
from connectome_tl.imaging.tractography import density_map
from connectome_tl.provenance import write_text

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2430}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}"
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


def write_scan_report(
    path: Path,
    name: str,
    dwi: Dwi,
    maps: TensorMaps,
    labels: Volume,
    streamlines: list[np.ndarray],
    assembly: Assembly,
    numbers: Mapping[str, float],
    warnings: Sequence[str],
) -> Path:
    """Write the page; the same scan gives the same bytes."""
    boxes = "".join(f'<div class="warn">{html.escape(text)}</div>' for text in warnings)
    account = assembly.account
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{v:.4g}</td></tr>" for k, v in numbers.items())
    body = (
        f"{boxes}<h2>Brain, labels, streamlines</h2>{_slices(dwi, maps, labels, streamlines)}"
        f"<h2>Connectome ({html.escape(assembly.connectome.measures[0])})</h2>{_matrix(assembly)}"
        f"<p>{account.total} streamlines: {account.edges} join two regions ({account.within_one_region} of them within "
        f"one), {account.unassigned} end outside all regions, {account.too_short} are too short.</p>"
        f"<h2>Numbers</h2><table>{rows}</table>"
    )
    return write_text(path, page(name, body))


def _slices(dwi: Dwi, maps: TensorMaps, labels: Volume, streamlines: list[np.ndarray]) -> str:
    from matplotlib.figure import Figure

    grid = Volume(maps.fa, dwi.affine)
    parcels = labels.data if same_grid(labels, grid) else None
    passed = np.log1p(density_map(streamlines, dwi.mask.shape, dwi.affine))
    centre = np.rint(np.argwhere(dwi.mask).mean(axis=0)).astype(int)
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, axis in enumerate((2, 1, 0)):

        def cut(image: np.ndarray, axis: int = axis) -> np.ndarray:
            return np.take(image, centre[axis], axis=axis).T

        for row, (image, colours, top) in enumerate(
            ((maps.fa, "gray", 0.6), (passed, "magma", max(passed.max(), 1e-9)))
        ):
            box = axes[row, column]
            box.imshow(cut(image), origin="lower", cmap=colours, vmin=0, vmax=top)
            box.contour(cut(dwi.mask.astype(float)), levels=[0.5], colors="#ffd166", linewidths=0.7)
            box.set_axis_off()
            if row == 0 and parcels is not None:
                shown = np.ma.masked_equal(cut(parcels) % 20, 0)
                box.imshow(np.ma.masked_where(cut(parcels) == 0, shown), origin="lower", cmap="tab20", alpha=0.55)
    axes[0, 0].set_title("FA, brain outline, labels", fontsize=10)
    axes[1, 0].set_title("streamlines through each voxel (log)", fontsize=10)
    return _image(figure, "slices of FA with labels, and of streamline density")


def _matrix(assembly: Assembly) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    box = figure.subplots()
    drawn = box.imshow(np.log1p(assembly.connectome.weights[0]), cmap="viridis")
    figure.colorbar(drawn, ax=box, label="log(1 + weight)")
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
