"""One scan, from its files to connectomes: what `connectome-tl connectomes` does for each subject and session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.connectome.assemble import Assembly, RegionTable, account_of, assemble
from connectome_tl.connectome.export import write_connectome
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.denoising import preprocess
from connectome_tl.imaging.dwi import Dwi, read_dwi
from connectome_tl.imaging.gate import Gate, check
from connectome_tl.imaging.images import Volume, read_labels, read_mask, read_volume, same_grid, write_volume
from connectome_tl.imaging.inputs import Scan
from connectome_tl.imaging.reconstruction import (
    Orientations,
    Response,
    deconvolve,
    estimate_response,
    flip_warning,
    response_from_record,
)
from connectome_tl.imaging.registration import register, register_affine
from connectome_tl.imaging.sampling import reduce_streamlines
from connectome_tl.imaging.streamlines import from_list, write_tck
from connectome_tl.imaging.structural import brain_mask, dwi_mask
from connectome_tl.imaging.tensor import TensorMaps, coherence_of_tables, fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.tractography import density_map, track
from connectome_tl.imaging.warps import carry_image, carry_labels, compose
from connectome_tl.provenance import content_hash, file_hash, read_json, versions, write_json
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.workflows.assemble import UNITS, write_regions

EXPLORATORY = "exploratory: susceptibility, eddy currents and motion within volumes were not corrected"


@dataclass(frozen=True)
class Plan:
    """What all scans of a run share. Paths are absolute.

    Attributes:
        regions: rows of every connectome; None takes the labels of each parcellation (which must agree).
        template: role (image, labels, mask) to path; empty without a template.
    """

    settings: ConnectomesSettings
    regions: RegionTable | None
    atlas_name: str
    template: Mapping[str, Path]
    out: Path
    n_threads: int = 1


@dataclass(frozen=True)
class Done:
    """What came of one scan: `state` is computed or unchanged; numbers for the cohort page."""

    scan: str
    state: str
    numbers: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def process_scan(scan: Scan, plan: Plan) -> Done:
    """Make all outputs of one scan, or find that they are there already.

    A scan's key is the hash of its inputs, the settings and the versions; `provenance.json` is written last
    and holds it with the hash of every output, so that a run that was killed makes the missing ones again.

    Raises:
        ConnectomeTLError: whatever is wrong with this scan, naming it.
    """
    folder = plan.out / scan.folder / "dwi"
    mark = mark_of(plan.out, scan.name)
    inputs = {role: file_hash(path) for role, path in {**scan.files(), **_template_files(plan)}.items()}
    key = content_hash(inputs, plan.settings, plan.regions and vars(plan.regions), plan.atlas_name, versions())
    before = _finished(mark, key, folder)
    if before is not None:
        return Done(scan.name, "unchanged", before["Numbers"], tuple(before["Warnings"]))

    mark.unlink(missing_ok=True)
    for left in folder.glob(".*.part"):  # of a run that was killed while writing
        left.unlink(missing_ok=True)
    warnings: list[str] = [] if scan.preprocessed else [EXPLORATORY]
    dwi = _diffusion(scan, plan.settings, warnings)
    labels, gate = parcellate(scan, dwi, plan)
    maps = tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=plan.settings.reconstruction.tensor_max_b)))
    flip = flip_warning(coherence_of_tables(dwi, maps), subject=scan.name)
    if flip is not None:
        warnings.append(str(flip))
    streamlines, weights, response = _streamlines(dwi, maps, plan)
    regions = plan.regions or _regions(labels)
    assembly = _assemble(streamlines, weights, labels, maps, dwi, regions, plan.settings)
    warnings += assembly.warnings

    written = _write(folder, scan, dwi, maps, labels, streamlines, assembly, regions, plan, inputs, warnings, response)
    numbers = _numbers(dwi, maps, assembly, gate)
    from connectome_tl.workflows.scan_report import write_scan_report

    written.append(
        write_scan_report(
            folder / f"{scan.name}_report.html", scan.name, dwi, maps, labels, streamlines, assembly, numbers, warnings
        )
    )
    outputs = {path.name: file_hash(path) for path in sorted(written)}
    record = {"Key": key, "Inputs": inputs, "Settings": plan.settings, "Outputs": outputs, "Numbers": numbers}
    write_json(mark, {**record, "Warnings": warnings, "Versions": versions(), "Use": "research only, not for care"})
    return Done(scan.name, "computed", numbers, tuple(warnings))


def mark_of(out: Path, scan: str) -> Path:
    """The file that says that a scan is done; written last."""
    return out / scan.replace("_", "/") / "dwi" / f"{scan}_provenance.json"


def finished_scans(out: Path) -> list[Done]:
    """Scans that are done in an output folder, of this run or an earlier one."""
    found = []
    for mark in sorted(out.glob("sub-*/**/*_provenance.json")):
        record = read_json(mark)
        found.append(
            Done(mark.name.removesuffix("_provenance.json"), "unchanged", record["Numbers"], tuple(record["Warnings"]))
        )
    return found


def _finished(mark: Path, key: str, folder: Path) -> dict[str, Any] | None:
    if not mark.is_file():
        return None
    try:
        record = read_json(mark)
        whole = record["Key"] == key and all(
            (folder / name).is_file() and file_hash(folder / name) == digest
            for name, digest in record["Outputs"].items()
        )
    except Exception:  # a damaged mark is no mark: everything is made again
        return None
    return record if whole else None


def _template_files(plan: Plan) -> dict[str, Path]:
    return {f"template_{role}": path for role, path in plan.template.items()}


def _diffusion(scan: Scan, settings: ConnectomesSettings, warnings: list[str]) -> Dwi:
    if scan.dwi is None:
        raise MissingInputError("there is no diffusion image", subject=scan.name)
    dwi = read_dwi(
        scan.dwi, scan.bval, scan.bvec, table=scan.table, bvec_axes=scan.bvec_axes, mask=scan.mask, subject=scan.name
    )
    warnings += dwi.warnings
    if not scan.preprocessed:
        dwi = preprocess(dwi, settings.preprocessing)
    return dwi if scan.mask is not None else dwi.with_mask(dwi_mask(dwi))


def parcellate(scan: Scan, dwi: Dwi, plan: Plan) -> tuple[Volume, Gate | None]:
    """Labels in the space of the diffusion data: found there, or carried in from the template.

    Raises:
        MissingInputError: neither parcellation nor template and anatomical image.
        DataError: the registration does not fit.
    """
    grid = Volume(dwi.data[..., 0], dwi.affine, scan.name, dwi.file)
    if scan.parcellation is not None:
        labels = read_labels(scan.parcellation, subject=scan.name)
        if not _overlap(labels, grid):
            raise DataError(
                "the parcellation lies elsewhere than the diffusion data",
                subject=scan.name,
                file=scan.parcellation,
                remedy="It must be in the subject's own space.",
            )
        return labels, None
    if not plan.template or scan.anatomical is None:
        raise MissingInputError("there is no way to a parcellation", subject=scan.name, file=scan.dwi)
    settings = plan.settings.registration
    anatomical = read_volume(scan.anatomical, subject=scan.name)
    if scan.anatomical_mask is not None:
        mask = read_mask(scan.anatomical_mask, subject=scan.name)
        brain = mask.data if same_grid(mask, anatomical) else brain_mask(anatomical)
    else:
        brain = brain_mask(anatomical)
    stripped = Volume(np.where(brain, anatomical.data, 0), anatomical.affine, scan.name, anatomical.file)
    template, labels = read_volume(plan.template["image"]), read_labels(plan.template["labels"])
    whole = read_mask(plan.template["mask"]).data if "mask" in plan.template else template.data > 0
    to_template = register(stripped, Volume(np.where(whole, template.data, 0), template.affine), settings)
    mean = Volume(dwi.data[..., dwi.is_b0].mean(axis=3) * dwi.mask, dwi.affine, scan.name)
    chain = compose(register_affine(mean, stripped, settings, rigid=True), to_template)
    carried = carry_labels(chain, labels, grid)
    covered = carry_image(chain, Volume(whole.astype(np.float32), template.affine), grid).data > 0.5
    return carried, check(carried, labels, dwi.mask, covered, settings)


def _overlap(labels: Volume, grid: Volume) -> bool:
    centre = np.argwhere(labels.data > 0).mean(axis=0) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    inverse = np.linalg.inv(grid.affine)
    voxel = inverse[:3, :3] @ centre + inverse[:3, 3]
    return bool(((voxel > 0) & (voxel < np.array(grid.shape[:3]))).all())


def _regions(labels: Volume) -> RegionTable:
    from connectome_tl.connectome.assemble import regions_of_image

    return regions_of_image(labels)


def _streamlines(dwi: Dwi, maps: TensorMaps, plan: Plan) -> tuple[list[np.ndarray], np.ndarray | None, Response | None]:
    settings = plan.settings
    if settings.engine == "mrtrix3":
        from connectome_tl.imaging.mrtrix import track_with_mrtrix

        tracked, weights = track_with_mrtrix(dwi, maps, settings)
        return tracked, weights, None
    recon = settings.reconstruction
    if recon.response_file is not None:
        response = response_from_record(read_json(recon.response_file))
    else:
        response = estimate_response(dwi, maps, recon)
    orientations: Orientations = deconvolve(dwi, response, recon)
    found = track(orientations, dwi.mask, settings.tracking, n_threads=plan.n_threads, subject=dwi.subject)
    return found.streamlines, None, response


def _assemble(
    streamlines: list[np.ndarray],
    weights: np.ndarray | None,
    labels: Volume,
    maps: TensorMaps,
    dwi: Dwi,
    regions: RegionTable,
    settings: ConnectomesSettings,
) -> Assembly:
    images = {"FA": maps.fa, "MD": maps.md, "AD": maps.ad, "RD": maps.rd}
    wanted = {name: Volume(images[name], dwi.affine) for name in settings.measures if name in images}
    ends = reduce_streamlines([from_list(streamlines)], lengths="length" in settings.measures, images=wanted)
    return assemble(ends, labels, regions, settings.measures, settings=settings.assembly, weights=weights)


def _write(
    folder: Path,
    scan: Scan,
    dwi: Dwi,
    maps: TensorMaps,
    labels: Volume,
    streamlines: list[np.ndarray],
    assembly: Assembly,
    regions: RegionTable,
    plan: Plan,
    inputs: Mapping[str, str],
    warnings: list[str],
    response: Response | None,
) -> list[Path]:
    stem = f"{scan.name}_atlas-{plan.atlas_name}"
    fields = {
        "Streamlines": account_of(assembly),
        "Preprocessed": scan.preprocessed,
        "Status": "as preprocessed" if scan.preprocessed else EXPLORATORY,
        "Engine": plan.settings.engine,
        "Response": None if response is None else response.as_record(),
    }
    written = list(
        write_connectome(
            assembly.connectome,
            folder / f"{stem}_relmat.tsv",
            atlas=plan.atlas_name,
            inputs=inputs,
            settings=plan.settings,
            units={name: UNITS[name] for name in plan.settings.measures},
            notes=tuple(warnings),
            fields=fields,
        )
    )
    written.append(write_regions(folder / f"{stem}_nodeindices.tsv", assembly, regions))
    for name, image in (("FA", maps.fa), ("MD", maps.md)):
        written.append(write_volume(folder / f"{scan.name}_model-tensor_param-{name}_dwimap.nii.gz", image, dwi.affine))
    written.append(write_volume(folder / f"{scan.name}_space-dwi_desc-brain_mask.nii.gz", dwi.mask, dwi.affine))
    written.append(
        write_volume(folder / f"{scan.name}_space-dwi_atlas-{plan.atlas_name}_dseg.nii.gz", labels.data, labels.affine)
    )
    passed = density_map(streamlines, dwi.mask.shape, dwi.affine)
    written.append(write_volume(folder / f"{scan.name}_space-dwi_desc-density_tdi.nii.gz", passed, dwi.affine))
    if plan.settings.keep_tractogram:
        written.append(write_tck(folder / f"{scan.name}_tractogram.tck", streamlines))
    return written


def _numbers(dwi: Dwi, maps: TensorMaps, assembly: Assembly, gate: Gate | None) -> dict[str, float]:
    matrix = assembly.connectome.weights[0]
    n_regions = len(matrix)
    upper = matrix[np.triu_indices(n_regions, 1)]
    b0 = dwi.data[..., dwi.is_b0]
    numbers = {
        "brain_ml": float(dwi.mask.sum() * np.prod(dwi.zooms) / 1000),
        "mean_fa": float(maps.fa[dwi.mask].mean()),
        "mean_md": float(maps.md[dwi.mask].mean()),
        "n_regions_present": float(assembly.connectome.node_mask.sum()),
        "density": float((upper > 0).mean()) if upper.size else 0.0,
        "share_assigned": assembly.account.edges / max(assembly.account.total, 1),
    }
    if b0.shape[3] > 2:
        spread = b0[dwi.mask].std(axis=1, ddof=1)
        numbers["b0_snr"] = float(np.median(b0[dwi.mask].mean(axis=1) / np.maximum(spread, 1e-9)))
    if gate is not None:
        numbers["mask_dice"] = gate.mask_dice
    return dict(sorted(numbers.items()))  # as they come back from disk, so that a rerun writes the same page
