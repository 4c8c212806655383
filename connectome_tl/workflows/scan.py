"""One scan, from its files to connectomes: what `connectome-tl connectomes` does for each subject and session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from connectome_tl.connectome.assemble import Assembly, assemble, regions_of_image
from connectome_tl.errors import DataError, MissingInputError, raise_all
from connectome_tl.imaging.denoising import preprocess
from connectome_tl.imaging.dwi import Dwi, read_dwi
from connectome_tl.imaging.free_water import fit_free_water
from connectome_tl.imaging.gate import Gate, check
from connectome_tl.imaging.gradient_check import flip_warning, lengths_of_tables
from connectome_tl.imaging.images import Volume, grid_problem, read_labels, read_mask, read_volume, same_grid
from connectome_tl.imaging.inputs import Scan
from connectome_tl.imaging.mrtrix import track_with_mrtrix
from connectome_tl.imaging.reconstruction import Response, deconvolve, estimate_response, response_from_record
from connectome_tl.imaging.registration import register, register_affine
from connectome_tl.imaging.sampling import reduce_streamlines
from connectome_tl.imaging.streamlines import from_list
from connectome_tl.imaging.structural import brain_mask, dwi_mask
from connectome_tl.imaging.tensor import TensorMaps, fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.tissues import SEGMENTED, Tissues, read_tissues, segment_tissues
from connectome_tl.imaging.tractography import density_map, track
from connectome_tl.imaging.warps import carry_image, carry_labels, compose
from connectome_tl.provenance import content_hash, file_hash, read_json, versions, write_json
from connectome_tl.settings.imaging import FREE_WATER, ConnectomesSettings
from connectome_tl.workflows.scan_files import numbers_of, write_scan
from connectome_tl.workflows.scan_report import page_hash
from connectome_tl.workflows.scan_result import EXPLORATORY, Plan, ScanResult


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
    inputs = {role: file_hash(path) for role, path in {**scan.files(), **_files_of(plan)}.items()}
    key = content_hash(inputs, plan.settings, plan.regions and vars(plan.regions), plan.atlas_name, versions())
    before = _finished(mark, key, folder)
    if before is not None:
        return Done(scan.name, "unchanged", before["Numbers"], tuple(before["Warnings"]))

    mark.unlink(missing_ok=True)
    for left in folder.glob(".*.part"):  # of a run that was killed while writing
        left.unlink(missing_ok=True)
    recon = plan.settings.reconstruction
    warnings: list[str] = [] if scan.preprocessed else [EXPLORATORY]
    dwi, snr = _diffusion(scan, plan.settings, warnings)
    labels, gate = parcellate(scan, dwi, plan)
    maps = tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=recon.tensor_max_b)))
    images = {"FA": maps.fa, "MD": maps.md, "AD": maps.ad, "RD": maps.rd}
    if recon.free_water:
        free = fit_free_water(dwi, max_b=recon.tensor_max_b)
        images |= dict(zip(FREE_WATER, (free.fraction, free.fa, free.md), strict=True))
    flip = flip_warning(lengths_of_tables(dwi, maps), subject=scan.name)
    if flip is not None:
        warnings.append(str(flip))
    response = _response(dwi, maps, plan)
    tissues = _tissues(scan, dwi, plan.settings, warnings)
    streamlines, weights = _streamlines(dwi, response, plan, tissues)
    assembly = _assemble(streamlines, weights, labels, images, dwi.affine, plan)
    warnings += assembly.warnings

    found = ScanResult(
        scan.name, scan.preprocessed, dwi, images, labels, streamlines, assembly, response, tuple(warnings),
        passed=density_map(streamlines, dwi.mask.shape, dwi.affine), b0_snr=snr,
        mask_dice=None if gate is None else gate.mask_dice,
    )  # fmt: skip
    written = write_scan(folder, found, plan, inputs)
    outputs = {path.name: _hash(path) for path in sorted(written)}
    numbers = numbers_of(found)
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
            (folder / name).is_file() and _hash(folder / name) == digest for name, digest in record["Outputs"].items()
        )
    except Exception:  # a damaged mark is no mark: everything is made again
        return None
    return record if whole else None


def _files_of(plan: Plan) -> dict[str, Path]:
    """Files that all scans share, by role."""
    files = {f"template_{role}": path for role, path in plan.template.items()}
    return files if plan.response is None else files | {"response": plan.response}


def _hash(path: Path) -> str:
    """Of an output; a page's without its comparison with the cohort, which changes as the cohort grows."""
    return page_hash(path) if path.suffix == ".html" else file_hash(path)


def _diffusion(scan: Scan, settings: ConnectomesSettings, warnings: list[str]) -> tuple[Dwi, float | None]:
    """The data ready for reconstruction, and their signal to noise before anything was done to them."""
    if scan.dwi is None:
        raise MissingInputError("there is no diffusion image", subject=scan.name)
    dwi = read_dwi(
        scan.dwi, scan.bval, scan.bvec, table=scan.table, bvec_axes=scan.bvec_axes, mask=scan.mask, subject=scan.name
    )
    warnings += dwi.warnings
    if scan.mask is None:
        dwi = dwi.with_mask(dwi_mask(dwi))
    snr = _snr(dwi)
    if not scan.preprocessed:
        brain = dwi.mask
        # A generous mask, so that noise is looked for in the head and not in the air.
        dwi = preprocess(dwi.with_mask(binary_dilation(brain, iterations=3)), settings.preprocessing)
        dwi = dwi.with_mask(brain if scan.mask is not None else dwi_mask(dwi))
    return dwi, snr


def _snr(dwi: Dwi) -> float | None:
    """Median over the brain of mean by standard deviation of the unweighted volumes."""
    b0 = dwi.data[..., dwi.is_b0][dwi.mask]
    if b0.shape[1] < 3:
        return None
    return float(np.median(b0.mean(axis=1) / np.maximum(b0.std(axis=1, ddof=1), 1e-9)))


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
    stripped = _anatomical(scan)
    template, labels = read_volume(plan.template["image"]), read_labels(plan.template["labels"])
    whole = read_mask(plan.template["mask"]).data if "mask" in plan.template else template.data > 0
    moving = Volume(np.where(whole, template.data, 0), template.affine)
    to_template = register(stripped, moving, settings, lesion=_lesion(scan, stripped))
    chain = compose(register_affine(_mean_b0(dwi), stripped, settings, rigid=True), to_template)
    carried = carry_labels(chain, labels, grid)
    covered = carry_image(chain, Volume(whole.astype(np.float32), template.affine), grid).data > 0.5
    return carried, check(carried, labels, dwi.mask, covered, settings)


def _overlap(labels: Volume, grid: Volume) -> bool:
    centre = np.argwhere(labels.data > 0).mean(axis=0) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    inverse = np.linalg.inv(grid.affine)
    voxel = inverse[:3, :3] @ centre + inverse[:3, 3]
    return bool(((voxel > 0) & (voxel < np.array(grid.shape[:3]))).all())


def _tissues(scan: Scan, dwi: Dwi, settings: ConnectomesSettings, warnings: list[str]) -> Tissues | None:
    """Tissue maps on the grid of the diffusion data: those of the folder, else segmented where that is asked for."""
    if settings.tissues == "none" or (not scan.tissues and settings.tissues == "given"):
        return None
    grid = Volume(dwi.data[..., 0], dwi.affine, scan.name, dwi.file)
    if scan.tissues:
        found = read_tissues(scan.tissues, subject=scan.name)
        if scan.tissues_in == "dwi":
            return found.on_grid(grid)
    if scan.anatomical is None:
        raise MissingInputError(
            "there is no T2w or T1w image to bring the tissues into the diffusion data with", subject=scan.name
        )
    anatomical = _anatomical(scan)
    if not scan.tissues:
        contrast = scan.anatomical.name.split(".")[0].rsplit("_", 1)[-1]
        found = segment_tissues(anatomical, anatomical.data > 0, contrast)
        warnings.append(SEGMENTED)
    return found.on_grid(grid, register_affine(_mean_b0(dwi), anatomical, settings.registration, rigid=True))


def _anatomical(scan: Scan) -> Volume:
    """The anatomical image, 0 outside the brain."""
    assert scan.anatomical is not None
    image = read_volume(scan.anatomical, subject=scan.name)
    brain = None
    if scan.anatomical_mask is not None:
        mask = read_mask(scan.anatomical_mask, subject=scan.name)
        brain = mask.data if same_grid(mask, image) else None
    return Volume(
        np.where(brain_mask(image) if brain is None else brain, image.data, 0), image.affine, scan.name, image.file
    )


def _lesion(scan: Scan, anatomical: Volume) -> np.ndarray | None:
    if scan.lesion is None:
        return None
    mask = read_mask(scan.lesion, subject=scan.name)
    if not same_grid(mask, anatomical):
        raise_all("the lesion mask cannot be used", [grid_problem("the lesion mask", mask, anatomical)], DataError)
    return mask.data


def _mean_b0(dwi: Dwi) -> Volume:
    return Volume(dwi.data[..., dwi.is_b0].mean(axis=3) * dwi.mask, dwi.affine, dwi.subject, dwi.file)


def _response(dwi: Dwi, maps: TensorMaps, plan: Plan) -> Response:
    """The declared group response, else the subject's own."""
    if plan.response is not None:
        return response_from_record(read_json(plan.response))
    return estimate_response(dwi, maps, plan.settings.reconstruction)


def _streamlines(
    dwi: Dwi, response: Response, plan: Plan, tissues: Tissues | None
) -> tuple[list[np.ndarray], np.ndarray | None]:
    settings = plan.settings
    if settings.engine == "mrtrix3":
        return track_with_mrtrix(dwi, response, settings, tissues=tissues)
    orientations = deconvolve(dwi, response, settings.reconstruction)
    found = track(
        orientations,
        dwi.mask,
        settings.tracking,
        tissues=None if tissues is None else (tissues.white, tissues.grey, tissues.fluid),
        n_threads=plan.n_threads,
        subject=dwi.subject,
    )
    return found.streamlines, None


def _assemble(
    streamlines: list[np.ndarray],
    weights: np.ndarray | None,
    labels: Volume,
    images: Mapping[str, np.ndarray],
    affine: np.ndarray,
    plan: Plan,
) -> Assembly:
    settings = plan.settings
    wanted = {name: Volume(images[name], affine) for name in settings.measures if name in images}
    ends = reduce_streamlines([from_list(streamlines)], lengths="length" in settings.measures, images=wanted)
    regions = plan.regions or regions_of_image(labels)
    return assemble(ends, labels, regions, settings.measures, settings=settings.assembly, weights=weights)
