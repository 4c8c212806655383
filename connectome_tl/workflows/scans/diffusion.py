"""Process one diffusion scan, from its files to connectomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
from scipy.ndimage import binary_dilation

from connectome_tl.connectome.assemble import Assembly, assemble, joins_two_regions, regions_of_image
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.files import read_json_object
from connectome_tl.imaging.preprocess.denoising import preprocess
from connectome_tl.imaging.preprocess.gradient_check import lengths_of_tables, table_problem
from connectome_tl.imaging.preprocess.structural import above_zero, dwi_mask, refuse_background
from connectome_tl.imaging.preprocess.tissues import Tissues, read_tissues, tissue_warnings
from connectome_tl.imaging.quality.direction_check import direction_warnings
from connectome_tl.imaging.quality.record import ScanQuality, scan_quality, usable_volumes
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume, read_labels
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.read.joined import read_runs
from connectome_tl.imaging.read.run_files import phases_of
from connectome_tl.imaging.register.gate import Gate, check
from connectome_tl.imaging.register.registration import register_affine
from connectome_tl.imaging.register.sides import likeness_to_anatomy
from connectome_tl.imaging.register.warps import Warp, both_ways, carry_image, carry_labels
from connectome_tl.imaging.track.fibre_density import streamline_weights
from connectome_tl.imaging.track.free_water import fit_free_water
from connectome_tl.imaging.track.mrtrix import track_with_mrtrix
from connectome_tl.imaging.track.reconstruction import (
    Orientations,
    Response,
    deconvolve,
    estimate_response,
    few_directions,
    response_from_record,
)
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list
from connectome_tl.imaging.track.tensor import TensorMaps, fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.track.tractography import density_map, track
from connectome_tl.settings.imaging import FREE_WATER, ConnectomesSettings, RegistrationSettings
from connectome_tl.workflows.scans.anatomy import read_anatomical, segmented, template_labels
from connectome_tl.workflows.scans.files import numbers_of, write_scan
from connectome_tl.workflows.scans.hooks import Segmented, brain_finder, segment, without_distortion
from connectome_tl.workflows.scans.result import UNLIKE_PHASES, Made, Plan, ScanResult, status_of
from connectome_tl.workflows.scans.surfaces import labels_of_surfaces
from connectome_tl.workflows.scans.template import contrast_of, space_of, template_notes


def make_connectomes(scan: Scan, plan: Plan[ConnectomesSettings], inputs: Mapping[str, str]) -> Made:
    """Compute and write all outputs of one scan except its completion mark.

    Args:
        inputs: hash of every input by its role, for the sidecars.

    Raises:
        ConnectomeTLError: a problem of this scan.
    """
    settings = plan.settings
    recon = settings.reconstruction
    warnings: list[str] = [] if scan.preprocessed else [status_of(scan.preprocessed, settings)]
    step = plan.step(scan.name)
    step("reading")
    dwi, quality = _diffusion(scan, plan, warnings)
    scores: dict[str, float] = {}
    anatomy = cache(partial(_anatomy, scan, dwi, plan, scores))
    segmentation = cache(lambda: segment(scan, plan, anatomy()[0]))
    step("labels")
    transforms: dict[str, Warp] = {}
    labels, gate = _parcels(scan, dwi, plan, anatomy, segmentation, warnings, transforms)
    warnings += [] if gate is None or gate.fit is None else gate.fit.warnings()
    step("tensor")
    maps = tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=recon.tensor_max_b)))
    images = {"FA": maps.fa, "MD": maps.md, "AD": maps.ad, "RD": maps.rd}
    if recon.free_water:
        free = fit_free_water(dwi, max_b=recon.tensor_max_b)
        images |= dict(zip(FREE_WATER, (free.fraction, free.fa, free.md), strict=True))
    wrong = table_problem(lengths_of_tables(dwi, maps), dwi)
    if wrong is not None:
        problem, sure = wrong
        if sure and settings.wrong_table == "refuse":
            raise DataError("the gradient table must be wrong", problems=[problem])
        warnings.append(str(problem))
    warnings += direction_warnings(dwi, np.flatnonzero(quality.volumes["left_out"] == 0))
    warnings += few_directions(dwi, recon)
    response = _response(dwi, maps, plan)
    tissues = _tissues(scan, dwi, plan, anatomy, segmentation, warnings)
    warnings += [] if tissues is None else tissue_warnings(tissues, maps.md, maps.fa, scan.name)
    step("orientations and streamlines")
    streamlines, weights, orientations = _streamlines(dwi, response, plan, tissues, labels)
    step("assembly")
    assembly = _assemble(streamlines, weights, labels, images, dwi.affine, plan)
    warnings += assembly.warnings
    seen = anatomy() if anatomy.cache_info().currsize else None
    if seen is not None:
        transforms |= both_ways("dwi", contrast_of(scan.anatomical) or "anat", seen[1])

    found = ScanResult(
        scan.name, scan.preprocessed, dwi, images, labels, streamlines, assembly, response, tuple(warnings),
        passed=density_map(streamlines, dwi.mask.shape, dwi.affine), quality=quality,
        gate=gate, weights=weights,
        principal=maps.principal, anatomical=None if seen is None else _seen_in(dwi, *seen),
        orientations=orientations, transforms=transforms, scores=scores,
    )  # fmt: skip
    return Made(tuple(write_scan(found, plan, inputs)), numbers_of(found), found.warnings)


def _diffusion(scan: Scan, plan: Plan[ConnectomesSettings], warnings: list[str]) -> tuple[Dwi, ScanQuality]:
    """The preprocessed data, and the quality of the original data."""
    settings = plan.settings
    if scan.dwi is None:
        raise MissingInputError("there is no diffusion image", subject=scan.name)
    dwi = read_runs(
        scan.runs, bvec_axes=scan.bvec_axes, mask=scan.mask, subject=scan.name, b0_max=settings.b0_max,
        lengths=settings.bvec_lengths,
    )  # fmt: skip
    warnings += dwi.warnings
    hook = settings.hooks.distortion
    corrected = scan.preprocessed or (hook is not None and "susceptibility" in hook.corrects)
    if len(phases_of(scan.runs)) > 1 and not corrected:
        warnings.append(UNLIKE_PHASES)
    extract = brain_finder(scan, plan, "diffusion")
    if scan.mask is None:
        dwi = dwi.with_mask(dwi_mask(dwi, extract))
    else:
        mean = Volume(dwi.data[..., dwi.is_b0].mean(axis=3), dwi.affine, scan.name, dwi.file)
        refuse_background(dwi.mask, mean, scan.mask)
    raw, empty, check = usable_volumes(dwi, refuse=settings.wrong_table == "refuse")
    dwi, motion = raw, None
    if not scan.preprocessed:
        # A generous mask, so that noise is estimated within the head.
        generous = raw.with_mask(binary_dilation(raw.mask, iterations=3))
        hook = settings.hooks.distortion
        dwi, motion = preprocess(
            generous,
            settings.preprocessing,
            n_threads=plan.n_threads,
            step=plan.step(scan.name),
            correct=None if hook is None else partial(without_distortion, scan=scan, plan=plan, hook=hook),
            correct_moves=hook is not None and "motion" in hook.corrects,
        )
        if hook is None or not hook.outputs.get("mask"):
            dwi = dwi.with_mask(raw.mask if scan.mask is not None else dwi_mask(dwi, extract))
    plan.step(scan.name)("quality")
    quality = scan_quality(raw, empty, check, motion)
    warnings += quality.warnings
    return dwi, quality


def _anatomy(scan: Scan, dwi: Dwi, plan: Plan[ConnectomesSettings], scores: dict[str, float]) -> tuple[Volume, Warp]:
    """The brain in the anatomical image, and the map from the diffusion data to it; `scores` receives its likeness."""
    b0, settings = _mean_b0(dwi), plan.settings.registration

    def rough(head: Volume) -> np.ndarray:
        back = Warp(np.linalg.inv(register_affine(b0, head, settings, rigid=True).affine))
        return carry_image(back, Volume(dwi.mask.astype(np.float32), dwi.affine), head).data > 0.5

    brain = above_zero(read_anatomical(scan, rough, extract=brain_finder(scan, plan, "anatomical"))[0])
    to_anatomical = register_affine(b0, brain, settings, rigid=True)
    likeness = likeness_to_anatomy(b0, brain, to_anatomical, settings)
    scores["anatomy_likeness"] = round(likeness, 4)
    return brain, to_anatomical


def _seen_in(dwi: Dwi, brain: Volume, to_anatomical: Warp) -> np.ndarray:
    """The anatomical image on the grid of the diffusion data."""
    return carry_image(to_anatomical, brain, Volume(dwi.data[..., 0], dwi.affine)).data


def _parcels(
    scan: Scan,
    dwi: Dwi,
    plan: Plan[ConnectomesSettings],
    anatomy: Callable[[], tuple[Volume, Warp]],
    segmentation: Callable[[], Segmented],
    warnings: list[str],
    transforms: dict[str, Warp],
) -> tuple[Volume, Gate | None]:
    """Labels in diffusion space: from the folder, else from the anatomical image or a template.

    Raises:
        MissingInputError: neither parcellation nor template and anatomical image.
        DataError: the registration is refused.
    """
    grid = Volume(dwi.data[..., 0], dwi.affine, scan.name, dwi.file)
    own = segmentation().labels if scan.parcellation_in == "hook" else None
    if plan.settings.surfaces is not None:
        own = labels_of_surfaces(scan, plan.settings.surfaces, anatomy()[0], plan.regions, given=plan.rows_are_given)
    if own is not None:
        return _from_anatomy(own, dwi, anatomy, grid, plan.settings.registration)
    if scan.parcellation is not None:
        labels = read_labels(scan.parcellation, subject=scan.name)
        if scan.parcellation_in == "anat":
            return _from_anatomy(labels, dwi, anatomy, grid, plan.settings.registration)
        if not _overlap(labels, grid):
            raise DataError(
                "the parcellation is not aligned with the diffusion data",
                subject=scan.name,
                file=scan.parcellation,
                remedy="It must be in the subject's own space.",
            )
        return labels, None
    chosen = plan.templates.get(scan.name)
    if chosen is None or scan.anatomical is None:
        raise MissingInputError(
            "there is no parcellation and no image to register a template with", subject=scan.name, file=scan.dwi
        )
    warnings += template_notes(scan, chosen, plan.ages)
    anatomical, to_anatomical = anatomy()
    spaces = f"from-{space_of(chosen)}_to-{contrast_of(scan.anatomical) or 'anat'}"
    return template_labels(
        scan, anatomical, chosen, plan.settings.registration, grid, dwi.mask, to_anatomical,
        warnings=warnings, keep=lambda warp: transforms.update({spaces: warp}),
    )  # fmt: skip


def _from_anatomy(
    labels: Volume,
    dwi: Dwi,
    anatomy: Callable[[], tuple[Volume, Warp]],
    grid: Volume,
    settings: RegistrationSettings,
) -> tuple[Volume, Gate]:
    """Resample labels of the anatomical image to the diffusion data."""
    brain, to_anatomical = anatomy()
    carried = carry_labels(to_anatomical, labels, grid)
    inside = Volume((brain.data > 0).astype(np.float32), brain.affine)
    covered = carry_image(to_anatomical, inside, grid).data > 0.5
    return carried, check(carried, labels, dwi.mask, covered, settings)


def _overlap(labels: Volume, grid: Volume) -> bool:
    centre = np.argwhere(labels.data > 0).mean(axis=0) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    inverse = np.linalg.inv(grid.affine)
    voxel = inverse[:3, :3] @ centre + inverse[:3, 3]
    return bool(((voxel > 0) & (voxel < np.array(grid.shape[:3]))).all())


def _tissues(
    scan: Scan,
    dwi: Dwi,
    plan: Plan[ConnectomesSettings],
    anatomy: Callable[[], tuple[Volume, Warp]],
    segmentation: Callable[[], Segmented],
    warnings: list[str],
) -> Tissues | None:
    """Tissue maps on the grid of the diffusion data: from the folder, else segmented if requested."""
    wanted, hook = plan.settings.tissues, plan.settings.hooks.tissues
    if wanted == "none" or (not scan.tissues and hook is None and wanted == "given"):
        return None
    grid = Volume(dwi.data[..., 0], dwi.affine, scan.name, dwi.file)
    if scan.tissues:
        found = read_tissues(scan.tissues, subject=scan.name)
        if scan.tissues_in == "dwi":
            return found.on_grid(grid)
    if scan.anatomical is None:
        raise MissingInputError(
            "there is no T2w or T1w image for the transfer of the tissues to the diffusion data", subject=scan.name
        )
    anatomical, to_anatomical = anatomy()
    if not scan.tissues and hook is not None:
        found = segmentation().tissues
    elif not scan.tissues:
        found = segmented(scan, anatomical, plan.ages.months(scan.name), warnings)
    return found.on_grid(grid, to_anatomical)


def _mean_b0(dwi: Dwi) -> Volume:
    return Volume(dwi.data[..., dwi.is_b0].mean(axis=3) * dwi.mask, dwi.affine, dwi.subject, dwi.file)


def _response(dwi: Dwi, maps: TensorMaps, plan: Plan[ConnectomesSettings]) -> Response:
    """The declared group response, else the subject's own."""
    if plan.response is not None:
        return response_from_record(read_json_object(plan.response), plan.response)
    return estimate_response(dwi, maps, plan.settings.reconstruction)


def _streamlines(
    dwi: Dwi, response: Response, plan: Plan[ConnectomesSettings], tissues: Tissues | None, labels: Volume
) -> tuple[list[np.ndarray], np.ndarray | None, Orientations | None]:
    """Streamlines, their weights (None for equal weights), and fibre densities if the engine returns them."""
    settings = plan.settings
    if settings.engine == "mrtrix3":
        return track_with_mrtrix(dwi, response, settings, tissues=tissues, n_threads=plan.n_threads)
    orientations = deconvolve(dwi, response, settings.reconstruction)
    found = track(
        orientations,
        dwi.mask,
        settings.tracking,
        tissues=None if tissues is None else (tissues.white, tissues.grey, tissues.fluid),
        n_threads=plan.n_threads,
        subject=dwi.subject,
    )
    if settings.tracking.weights == "none":
        return found.streamlines, None, orientations
    ends = reduce_streamlines([from_list(found.streamlines)])
    joined = joins_two_regions(ends, labels, plan.regions or regions_of_image(labels), settings.assembly)
    cutoff = settings.tracking.fod_cutoff
    weights = streamline_weights(found.streamlines, orientations, dwi.mask, cutoff, used=joined, subject=dwi.subject)
    return found.streamlines, weights, orientations


def _assemble(
    streamlines: list[np.ndarray],
    weights: np.ndarray | None,
    labels: Volume,
    images: Mapping[str, np.ndarray],
    affine: np.ndarray,
    plan: Plan[ConnectomesSettings],
) -> Assembly:
    settings = plan.settings
    wanted = {name: Volume(images[name], affine) for name in settings.measures if name in images}
    precise = settings.assembly.sampling == "precise"
    lengths = "length" in settings.measures
    ends = reduce_streamlines([from_list(streamlines)], lengths=lengths, images=wanted, precise=precise)
    regions = plan.regions or regions_of_image(labels)
    return assemble(ends, labels, regions, settings.measures, settings=settings.assembly, weights=weights)
