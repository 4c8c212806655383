"""Pages of scans: one per scan and an index. Text, figures and numbers are rendered as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectome_tl.report.figures.sheet import Figure
from connectome_tl.report.pages import render, stamps_of

_ORDER = (  # of the numbers: head and motion, signal, tensor, registration, connectome
    *("brain_ml", "mean_fd", "max_fd", "n_volumes_flagged", "share_slices_lost", "b0_snr", "snr_b", "cnr_b"),
    *("neighbour_correlation", "mean_fa", "mean_md", "mask_dice", "likeness", "anatomy_likeness"),
    *("n_regions_present", "share_assigned"),
    *("density", "mean_weight"),
)
LABELS = {  # description and unit of each number
    "b0_snr": ("signal to noise, unweighted", ""),
    "brain_ml": ("brain", "ml"),
    "density": ("density of the connectome", ""),
    "likeness": ("similarity to the template (local squared correlation)", ""),
    "anatomy_likeness": ("similarity of diffusion data and anatomical image (local squared correlation)", ""),
    "mask_dice": ("overlap with the template (Dice)", ""),
    "max_fd": ("largest framewise displacement", "mm"),
    "mean_fa": ("mean FA", ""),
    "mean_fd": ("mean framewise displacement", "mm"),
    "mean_md": ("mean MD", "mm²/s"),
    "mean_weight": ("mean weight of the network", ""),
    "n_regions_present": ("regions present", ""),
    "n_volumes_flagged": ("volumes flagged", ""),
    "neighbour_correlation": ("correlation of neighbouring volumes", ""),
    "share_assigned": ("share of streamlines that end in regions", ""),
    "share_slices_lost": ("share of slices with signal dropout", ""),
}
BEGIN, END = "<!-- beside the cohort -->", "<!-- to here -->"
FAR = 4.0  # robust standard deviations from the median


@dataclass(frozen=True)
class ScanPage:
    """Contents of the page of one scan.

    Attributes:
        told: sentences on the template and the choices made.
        pictures: (data URL, description) of slices through the brain.
        matrix: data URL of the matrix. lines: sentences on the connectome.
        figures: figures of motion and of gradient directions.
        index: link to the index of all scans.
        notes: processing requested by the settings or the data. stamps: why the scan is exploratory.
    """

    name: str
    warnings: tuple[str, ...]
    told: str
    pictures: tuple[tuple[str, str], ...]
    matrix: str
    measure: str
    lines: str
    numbers: Mapping[str, float]
    index: str
    figures: tuple[Figure, ...] = ()
    stamps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanIndex:
    """Contents of the index of a folder of scans.

    Attributes:
        scans: name, link, numbers of each.
        failed: name and problem of each scan that failed. notes: notes on the folder.
        stamps: reasons why scans are exploratory, with the number of scans.
        typical: median and robust standard deviation of each number; empty if there are too few scans.
    """

    name: str
    scans: Sequence[tuple[str, str, Mapping[str, float]]]
    failed: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    stamps: Sequence[str] = ()
    typical: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def render_scan(page: ScanPage) -> str:
    """Render the page of one scan; the same scan gives the same bytes."""
    beside = beside_cohort(page.numbers, {})
    return render("scan.html", page=page, beside=beside, stamps=stamps_of(exploratory=bool(page.stamps)))


def render_index(index: ScanIndex) -> str:
    """Render the index of all scans of a folder; outlying numbers are marked."""
    columns = sorted({key for _, _, numbers in index.scans for key in numbers}, key=_rank)
    rows = [
        (name, link, [_cell(numbers.get(key, math.nan), index.typical.get(key)) for key in columns])
        for name, link, numbers in index.scans
    ]
    return render("scans.html", index=index, columns=[title(key) for key in columns], rows=rows, stamps=[])


def beside_cohort(
    numbers: Mapping[str, float],
    typical: Mapping[str, tuple[float, float]],
    neighbours: Sequence[tuple[str, str]] = (),
) -> str:
    """Render the part of a page that changes as scans are added: comparison with the cohort, and neighbours.

    Args:
        neighbours: labels of the previous and the next scan, and links to them.
    """
    rows = [(title(key), f"{value:.4g}", _place(value, typical.get(key))) for key, value in _ordered(numbers)]
    inner = render("scan_numbers.html", rows=rows, compared=bool(typical), neighbours=neighbours)
    return f"{BEGIN}{inner}{END}"


def _ordered(numbers: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(numbers.items(), key=lambda item: _rank(item[0]))


def _rank(key: str) -> tuple[int, float, str]:
    """Place of a number among the others; those of shells by their b-value."""
    shell = key[5:] if key[:5] in ("snr_b", "cnr_b") else ""
    known = key[:5] if shell else key
    place = _ORDER.index(known) if known in _ORDER else len(_ORDER)
    return place, float(shell) if shell.isdecimal() else 0.0, key


def title(key: str) -> str:
    """Description of a number, with its unit."""
    of_shell = {"snr_b": "signal to noise, b = ", "cnr_b": "contrast to noise, b = "}
    plain = of_shell[key[:5]] + key[5:] if key[:5] in of_shell else key.replace("_", " ")
    label, unit = LABELS.get(key, (plain, ""))
    return f"{label}, {unit}" if unit else label


def is_far(value: float, middle: float, spread: float) -> bool:
    """More than four robust standard deviations from the median."""
    return abs(value - middle) > FAR * max(spread, 1e-12)


def _place(value: float, typical: tuple[float, float] | None) -> dict[str, object] | None:
    """Position of a number in the cohort; `at` is in percent of a bar from -4 to 4 robust standard deviations."""
    if typical is None or not math.isfinite(value):
        return None
    middle, spread = typical
    off = (value - middle) / max(spread, 1e-12)
    return {
        "middle": f"{middle:.4g}",
        "spread": f"{spread:.2g}",
        "far": is_far(value, middle, spread),
        "at": round(50 + 50 * max(min(off / FAR, 1.0), -1.0), 1),
    }


def _cell(value: float, typical: tuple[float, float] | None) -> tuple[str, bool]:
    if not math.isfinite(value):
        return "n/a", False
    return f"{value:.3g}", typical is not None and is_far(value, *typical)
