"""Output files of one scan: connectomes with sidecars, maps, labels, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.connectome.assemble import RegionTable, account_of
from connectome_tl.imaging.quality.record import COLUMNS, ScanQuality
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp, carry_image
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.provenance import write_json, write_table
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.workflows.data.assemble import UNITS, write_regions
from connectome_tl.workflows.scans.maps import write_maps
from connectome_tl.workflows.scans.matrices import write_matrices
from connectome_tl.workflows.scans.report import write_scan_report
from connectome_tl.workflows.scans.result import Plan, ScanResult, status_of


def write_scan(found: ScanResult, plan: Plan[ConnectomesSettings], inputs: Mapping[str, str]) -> list[Path]:
    """Write all files of a scan except its completion mark; the same result gives the same bytes."""
    name, settings = found.name, plan.settings
    units = {measure: UNITS[measure] for measure in settings.measures}
    summed = {"count": weight_name(settings), "invnodevol": f"{weight_name(settings)}, per voxel"}
    units |= {measure: unit for measure, unit in summed.items() if measure in units}
    common = settings.reconstruction.response_file is not None
    fields = {
        "Streamlines": account_of(found.assembly),
        "Preprocessed": found.preprocessed,
        "Status": status_of(found.preprocessed, settings),
        "Engine": settings.engine,
        "TrackingSeed": settings.tracking.seed,
        "EdgeWeight": weight_name(settings),
        **({} if found.gate is None else {"Registration": found.gate.record()}),
        "Response": found.response.as_record() | {"of": "declared group" if common else "this subject"},
    }
    written = write_matrices(
        found.assembly.connectome,
        name,
        plan,
        inputs,
        units=units,
        notes=found.warnings,
        fields=fields,
        seed=settings.tracking.seed,
    )
    connectome = found.assembly.connectome
    numbers = plan.regions.numbers if plan.regions is not None else tuple(int(region) for region in connectome.regions)
    regions = RegionTable(connectome.regions, numbers)
    table = plan.file(name, f"atlas-{plan.atlas_name}_nodeindices.tsv")
    written.append(write_regions(table, found.assembly, regions, _regional(found, numbers)))
    written += write_maps(found, plan, inputs)
    written += _write_quality(plan.file(name, "desc-confounds_timeseries.tsv"), found.quality)
    registered = "" if found.gate is None else f" {found.gate.told()}"
    told = f"{plan.told(name)}{registered} An edge weighs: {weight_name(settings)}."
    page = plan.file(name, "report.html")
    written.append(write_scan_report(page, found, numbers_of(found), told, plan.out / "index.html"))
    return written


def _write_quality(path: Path, quality: ScanQuality) -> list[Path]:
    """Write the table of volumes with descriptions of its columns, as required by BIDS."""
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
    """Numbers of a scan for the comparison within a cohort."""
    dwi, account = found.dwi, found.assembly.account
    matrix = found.assembly.connectome.weights[0]
    upper = matrix[np.triu_indices(len(matrix), 1)]
    numbers = {
        "brain_ml": float(dwi.mask.sum() * dwi.voxel_mm3 / 1000),
        "mean_fa": float(found.images["FA"][dwi.mask].mean()),
        "mean_md": float(found.images["MD"][dwi.mask].mean()),
        "n_regions_present": float(found.assembly.connectome.node_mask.sum()),
        "density": float((upper > 0).mean()) if upper.size else 0.0,
        "share_assigned": account.edges / max(account.total, 1),
    }
    numbers |= {**found.quality.numbers, **found.scores}
    numbers |= {} if found.gate is None else found.gate.numbers()
    return dict(sorted(numbers.items()))  # in the order of the stored file, so that a rerun writes the same page
