"""What one scan leaves on disk: connectomes with their sidecars, maps, labels, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.connectome.assemble import RegionTable, account_of
from connectome_tl.connectome.export import write_connectome
from connectome_tl.imaging.quality.record import COLUMNS, ScanQuality
from connectome_tl.imaging.read.dwi_files import write_dwi
from connectome_tl.imaging.read.images import Volume, write_volume
from connectome_tl.imaging.register.warps import Warp, carry_image
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.imaging.track.streamlines import write_tck
from connectome_tl.provenance import sidecar_path, write_json, write_table, write_text
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.workflows.assemble import UNITS, write_regions
from connectome_tl.workflows.scans.report import write_scan_report
from connectome_tl.workflows.scans.result import EXPLORATORY, Plan, ScanResult


def write_scan(found: ScanResult, plan: Plan[ConnectomesSettings], inputs: Mapping[str, str]) -> list[Path]:
    """Write all files of a scan but the mark that says it is done; the same result gives the same bytes."""
    name, dwi, settings = found.name, found.dwi, plan.settings
    folder, stem = plan.file(name, "").parent, f"{name}_atlas-{plan.atlas_name}"
    units = {measure: UNITS[measure] for measure in settings.measures}
    summed = {"count": weight_name(settings), "invnodevol": f"{weight_name(settings)}, per voxel"}
    units |= {measure: unit for measure, unit in summed.items() if measure in units}
    common = settings.reconstruction.response_file is not None
    fields = {
        "Streamlines": account_of(found.assembly),
        "Preprocessed": found.preprocessed,
        "Status": "as preprocessed" if found.preprocessed else EXPLORATORY,
        "Engine": settings.engine,
        "TrackingSeed": settings.tracking.seed,
        "EdgeWeight": weight_name(settings),
        **plan.said_of(name),
        **({} if found.gate is None else {"Registration": found.gate.record()}),
        "Response": found.response.as_record() | {"of": "declared group" if common else "this subject"},
    }
    written = list(
        write_connectome(
            found.assembly.connectome,
            folder / f"{stem}_relmat.tsv",
            atlas=plan.atlas_name,
            inputs=inputs,
            settings=settings,
            units=units,
            notes=found.warnings,
            fields=fields,
        )
    )
    connectome = found.assembly.connectome
    numbers = plan.regions.numbers if plan.regions is not None else tuple(int(region) for region in connectome.regions)
    regions = RegionTable(connectome.regions, numbers)
    table = folder / f"{stem}_nodeindices.tsv"
    written.append(write_regions(table, found.assembly, regions, _regional(found, numbers)))
    shown = {"FA": "tensor", "MD": "tensor", "FW": "fwtensor", "FAfw": "fwtensor", "MDfw": "fwtensor"}
    for parameter, model in shown.items():
        if parameter in found.images:
            file = folder / f"{name}_model-{model}_param-{parameter}_dwimap.nii.gz"
            written.append(write_volume(file, found.images[parameter], dwi.affine))
    space = {"SpatialReference": Path(dwi.file or "").name, "Description": "on the grid of the diffusion data"}
    mask = folder / f"{name}_space-dwi_desc-brain_mask.nii.gz"
    written += [write_volume(mask, dwi.mask, dwi.affine), write_json(sidecar_path(mask), space | {"Type": "Brain"})]
    labels = folder / f"{name}_space-dwi_atlas-{plan.atlas_name}_dseg.nii.gz"
    written.append(write_volume(labels, found.labels.data, found.labels.affine))
    written.append(write_json(sidecar_path(labels), space | {"Atlas": plan.atlas_name}))
    written.append(write_volume(folder / f"{name}_space-dwi_desc-density_tdi.nii.gz", found.passed, dwi.affine))
    written += _write_quality(folder / f"{name}_desc-confounds_timeseries.tsv", found.quality)
    if settings.keep_preprocessed:
        written += write_dwi(folder, f"{name}_desc-preproc", dwi)
    if settings.keep_tractogram:
        written.append(write_tck(folder / f"{name}_tractogram.tck", found.streamlines))
        if found.weights is not None:  # as `assemble --weights` takes them
            lines = "".join(f"{weight:.9g}\n" for weight in found.weights)
            written.append(write_text(folder / f"{name}_tractogram_weights.txt", lines))
    registered = "" if found.gate is None else f" {found.gate.told()}"
    told = f"{plan.told(name)}{registered} An edge weighs: {weight_name(settings)}."
    page = folder / f"{name}_report.html"
    written.append(write_scan_report(page, found, numbers_of(found), told, plan.out / "index.html"))
    return written


def _write_quality(path: Path, quality: ScanQuality) -> list[Path]:
    """The table of volumes, with a description of each of its columns as BIDS asks for."""
    said = {
        name: {"Description": text, **({"Units": unit} if unit else {})}
        for name, (text, unit) in COLUMNS.items()
        if name in quality.volumes
    }
    return [write_table(path, quality.volumes), write_json(path.with_suffix(".json"), said)]


def _regional(found: ScanResult, numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """Volume of each region, and FA and MD inside the brain, (n_regions,) each; NaN where it has none."""
    labels, here = found.labels, Warp(np.eye(4))
    size = float(abs(np.linalg.det(labels.affine[:3, :3])))
    volume = found.assembly.node_volumes * size
    known = {"volume_mm3": np.where(volume > 0, volume, np.nan)}
    mask = carry_image(here, Volume(found.dwi.mask.astype(np.float32), found.dwi.affine), labels).data > 0.5
    inside = labels.data[mask & (labels.data > 0)]
    for name in ("FA", "MD"):
        values = carry_image(here, Volume(found.images[name], found.dwi.affine), labels).data
        means = pd.Series(values[mask & (labels.data > 0)], dtype=float).groupby(inside).mean()
        known[name] = means.reindex(list(numbers)).to_numpy()
    return known


def numbers_of(found: ScanResult) -> dict[str, float]:
    """Numbers that a cohort is looked over by."""
    dwi, account = found.dwi, found.assembly.account
    matrix = found.assembly.connectome.weights[0]
    upper = matrix[np.triu_indices(len(matrix), 1)]
    numbers = {
        "brain_ml": float(dwi.mask.sum() * np.prod(dwi.zooms) / 1000),
        "mean_fa": float(found.images["FA"][dwi.mask].mean()),
        "mean_md": float(found.images["MD"][dwi.mask].mean()),
        "n_regions_present": float(found.assembly.connectome.node_mask.sum()),
        "density": float((upper > 0).mean()) if upper.size else 0.0,
        "share_assigned": account.edges / max(account.total, 1),
    }
    numbers |= found.quality.numbers
    numbers |= {} if found.gate is None else found.gate.numbers()
    return dict(sorted(numbers.items()))  # as they come back from disk, so that a rerun writes the same page
