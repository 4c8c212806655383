"""Dry run: files, choices, estimated time and memory of each scan."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from connectome_tl.imaging.preprocess.motion import working_bytes
from connectome_tl.imaging.read.headers import shape_of
from connectome_tl.imaging.read.inputs import Inventory, Scan
from connectome_tl.imaging.register.ants import ants_is_installed
from connectome_tl.imaging.register.choice import metric_of
from connectome_tl.plurals import counted
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.scans.hooks import hooks_of
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.template import contrast_of

# Seconds on one core of a laptop, measured on phantoms; a real scan may take half or twice as long.
_PER_VALUE = {"mppca": 4.0e-6, "patch2self": 1.0e-6, "dwidenoise": 1.0e-6, "none": 0.0}
_MOTION, _GIBBS, _REST = 4.0e-6, 1.0e-5, 1.5e-6
_PER_STREAMLINE, _START = 4.0e-4, 5.0
_BY_ANTS = {"mutual": 10.0, "local": 25.0}  # a registration, by metric; newborn heads take less, adult heads more
_BY_DIPY = 45.0
_BYTES_PER_VALUE, _BYTES_PER_VOXEL, _BYTES_PER_STREAMLINE = 24, 350, 3000
_BYTES_AT_LEAST, _BYTES_OF_REGISTRATION = 300e6, 300e6


def choices(plan: Plan[AnyScanSettings], scans: Sequence[Scan], inventory: Inventory) -> list[str]:
    """Lines with the files used for each scan, and the problems of the folder."""
    lines = [f"{inventory.kind} folder {inventory.root}: {counted(len(scans), 'scan')}"]
    for scan in scans:
        lines.append(f"{scan.name}: " + ("cannot be used" if scan.problems else _seconds_text(plan, scan)))
        lines += [f"  {problem}" for problem in scan.problems]
        if scan.dwi is not None and plan.datatype == "dwi":
            lines.append("  preprocessed diffusion data" if scan.preprocessed else "  raw diffusion data (exploratory)")
        files = plan.inputs_of(scan)
        lines += [f"  {role}: {_shown(path, inventory.root)}" for role, path in files.items()]
        lines += [f"  {plan.told(scan.name)}"] if scan.name in plan.templates else []
        lines += [f"  age: {plan.ages.of(scan.name)}"]
    lines += [f"folder: {problem}" for problem in inventory.problems]
    return lines


def forecast(plan: Plan[AnyScanSettings], scans: Sequence[Scan], n_workers: int) -> str:
    """One line with rough estimates of time and memory for the scans."""
    costs = sorted((cost_of_scan(plan, scan) for scan in scans if not scan.problems), reverse=True)
    if not costs:
        return "nothing to compute"
    at_once = max(min(n_workers, len(costs)), 1)
    hours = sum(seconds for seconds, _ in costs) / at_once
    held = sum(sorted((size for _, size in costs), reverse=True)[:at_once])
    hooks = "; external programs (hooks) take additional time" if hooks_of(plan.settings) else ""
    return (
        f"{counted(len(costs), 'scan')}, {at_once} at a time: roughly {duration(max(hours, costs[0][0]))} where "
        f"none is done, "
        f"and {held / 1e9:.1f} GB of memory{hooks}"
    )


def cost_of_scan(plan: Plan[AnyScanSettings], scan: Scan) -> tuple[float, float]:
    """Seconds on one core, and peak memory in bytes."""
    settings = plan.settings
    carried = scan.parcellation is None or scan.parcellation_in != "dwi"
    seconds, least = _START + (_registration(plan, scan) if carried else 0.0), _BYTES_AT_LEAST
    least += _BYTES_OF_REGISTRATION if carried else 0
    if not isinstance(settings, ConnectomesSettings):
        return seconds, least + _BYTES_PER_VALUE * prod(_shape(scan.anatomical))
    shapes = [_shape(run.image) for run in scan.runs]
    n_voxels = max((prod(shape[:3]) for shape in shapes), default=0)
    n_volumes = sum(prod(shape[3:]) for shape in shapes)
    steps, size, n_streamlines = settings.preprocessing, n_voxels * n_volumes, settings.tracking.n_streamlines
    each, held = _REST, _BYTES_PER_VALUE * size + _BYTES_PER_VOXEL * n_voxels + _BYTES_PER_STREAMLINE * n_streamlines
    if not scan.preprocessed:
        each += _PER_VALUE[steps.denoise] + (0.0 if steps.gibbs == "none" else _GIBBS)
        if steps.motion == "rigid":
            each += _MOTION
            copies = 1 if steps.denoise == steps.gibbs == "none" else 2  # of the data, of four bytes each
            held = max(held, 4 * copies * size + working_bytes(n_voxels, n_volumes, plan.n_threads))
    return seconds + each * size + _PER_STREAMLINE * n_streamlines, least + held


def _registration(plan: Plan[AnyScanSettings], scan: Scan) -> float:
    """Seconds of the registrations of a scan."""
    settings, template = plan.settings.registration, plan.templates.get(scan.name)
    own, other = contrast_of(scan.anatomical), None if template is None else template.contrast
    alike = own is not None and own == other
    by_ants = settings.engine == "ants" or (settings.engine == "auto" and alike and ants_is_installed())
    return _BY_ANTS[metric_of(settings, (own, other))] if by_ants else _BY_DIPY


def _shape(image: Path | None) -> tuple[int, ...]:
    """Shape of an image, from its header; (0,) if it cannot be read, which is reported later."""
    try:
        return shape_of(image) if image is not None else (0,)
    except Exception:  # a damaged header makes nibabel raise almost anything
        return (0,)


def _seconds_text(plan: Plan[AnyScanSettings], scan: Scan) -> str:
    seconds, held = cost_of_scan(plan, scan)
    return f"roughly {duration(seconds)}, {held / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """A rounded duration as text."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
