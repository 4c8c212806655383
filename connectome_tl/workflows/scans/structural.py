"""Process one structural scan, from images to a network of regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pandas as pd

from connectome_tl.connectome.assemble import RegionTable, regions_of_image
from connectome_tl.connectome.centroids import check_places
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.morphometric import (
    divergence_network,
    regional_features,
    similarity_network,
    values_by_region,
)
from connectome_tl.connectome.names.unlisted import refuse_other_numbering
from connectome_tl.errors import MissingInputError
from connectome_tl.imaging.preprocess.structural import above_zero
from connectome_tl.imaging.preprocess.tissues import read_tissues
from connectome_tl.imaging.read.images import (
    Volume,
    read_labels,
    read_volume,
    same_grid,
    with_contrast,
    write_volume,
)
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.register.gate import Gate
from connectome_tl.imaging.register.registration import register_affine
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels
from connectome_tl.plurals import counted
from connectome_tl.provenance import write_table, write_text
from connectome_tl.report.figures.scans import Row
from connectome_tl.report.scan_page import render_scan
from connectome_tl.settings.imaging import MorphometrySettings
from connectome_tl.workflows.scans.anatomy import read_anatomical, segmented, template_labels, with_data
from connectome_tl.workflows.scans.hooks import Segmented, brain_finder, segment
from connectome_tl.workflows.scans.matrices import write_matrices
from connectome_tl.workflows.scans.report import brightest, page_of, slices
from connectome_tl.workflows.scans.result import Made, Plan
from connectome_tl.workflows.scans.surfaces import labels_of_surfaces
from connectome_tl.workflows.scans.template import template_notes

_NOTABLE = 0.05  # share of a region outside the brain that is reported
_HERE = Warp(np.eye(4))
_NO_MASK = "no brain mask: the brain was segmented by intensity, which includes a scalp; check its outline"


def make_network(scan: Scan, plan: Plan[MorphometrySettings], inputs: Mapping[str, str]) -> Made:
    """Compute and write the network and the regional measures of one scan, except its completion mark.

    Intensities are divided by the median of their size in the brain, since their units vary between scans; networks do
    not depend on it.
    Intensities and tissues of a region are those inside the brain where all images have data; its volume is that of its
    whole label.

    Args:
        inputs: hash of every input by its role, for the sidecars.

    Raises:
        ConnectomeTLError: a problem of this scan.
    """
    settings, warnings = plan.settings, list[str]()
    extract = brain_finder(scan, plan, "anatomical")
    first, brain = read_anatomical(scan, extract=extract, warnings=warnings)
    warnings += [] if scan.anatomical_mask is not None or extract is not None else [_NO_MASK]
    shown = above_zero(first)
    segmentation = cache(lambda: segment(scan, plan, shown))
    plan.step(scan.name)("labels")
    labels, gate = _parcels(scan, shown, brain, plan, segmentation, warnings)
    warnings += [] if gate is None or gate.fit is None else gate.fit.warnings()
    regions = plan.regions or regions_of_image(labels)
    if regions.atlas is not None:
        check_places(labels, regions.atlas)
    refuse_other_numbering(labels, regions)
    others, used = _others(scan, first, plan), brain
    for image in others:
        used = with_data(image, used, warnings)
    images = [_scaled(image, used) for image in (first, *others)]
    inside = Volume(np.where(used, labels.data, 0), labels.affine, labels.subject, labels.file)
    warnings += _outside(labels, inside, regions)
    table = _measures(images, labels, inside, regions, settings)
    for name, shares in _tissues(scan, shown, plan, segmentation, warnings).items():
        table[name] = np.array([part.mean() if len(part) else np.nan for part in _values(shares, inside, regions)])
    made = _network(table, images, inside, regions, settings, scan)
    lost = int((~made.node_mask).sum())
    if lost:
        warnings.append(f"{lost} of {made.n_regions} regions are missing")

    registration = {} if gate is None else {"Registration": gate.record()}
    stem = f"atlas-{plan.atlas_name}"
    numbers = {"brain_ml": float(brain.sum() * first.voxel_mm3 / 1000)}
    numbers |= {"n_regions_present": float(made.node_mask.sum())}
    numbers |= {"mean_weight": float(made.weights[0][np.triu_indices(made.n_regions, 1)].mean())}
    numbers |= {} if gate is None else gate.numbers()
    numbers = dict(sorted(numbers.items()))  # in the order of the stored file, so that a rerun writes the same page
    files = write_matrices(
        made,
        scan.name,
        plan,
        inputs,
        units="1",
        notes=tuple(warnings),
        fields={"EdgeWeight": made.measures[0], **registration},
    )
    own = {"index": range(1, len(regions.names) + 1), "name": list(regions.names), "label": list(regions.numbers)}
    files.append(write_table(plan.file(scan.name, f"{stem}_nodeindices.tsv"), pd.DataFrame({**own, **table})))
    files.append(write_volume(plan.file(scan.name, f"{stem}_dseg.nii.gz"), labels.data, labels.affine))
    rows = [
        Row(name if k else f"{name} with regions", image.data, "gray", brightest(image.data, used), k == 0)
        for k, (name, image) in enumerate(zip(settings.images, images, strict=True))
    ]
    told = f"{', '.join(settings.images)}. {plan.told(scan.name)}"
    told += "" if gate is None else f" {gate.told()}"
    lines = f"{int(made.node_mask.sum())} of {made.n_regions} regions, {counted(len(table), 'measure')} of each."
    drawn = slices(rows, brain, labels, first.affine)
    path, pictures = plan.file(scan.name, "report.html"), [(drawn, "cuts: " + "; ".join(row.title for row in rows))]
    page = page_of(scan.name, warnings, told, pictures, made, lines, numbers, path, plan.out / "index.html")
    files.append(write_text(path, render_scan(page)))
    return Made(tuple(files), numbers, tuple(warnings))


def _parcels(
    scan: Scan,
    image: Volume,
    brain: np.ndarray,
    plan: Plan[MorphometrySettings],
    segmentation: Callable[[], Segmented],
    warnings: list[str],
) -> tuple[Volume, Gate | None]:
    """Labels on the grid of the image, from the folder or from the template."""
    own = segmentation().labels if scan.parcellation_in == "hook" else None
    if plan.settings.surfaces is not None:
        own = labels_of_surfaces(scan, plan.settings.surfaces, image, plan.regions, given=plan.rows_are_given)
    if own is not None:
        return own, None
    if scan.parcellation is not None:
        labels = read_labels(scan.parcellation, subject=scan.name)
        return (labels if same_grid(labels, image) else carry_labels(_HERE, labels, image)), None
    chosen = plan.templates[scan.name]
    warnings += template_notes(scan, chosen, plan.ages)
    return template_labels(scan, image, chosen, plan.settings.registration, image, brain, warnings=warnings)


def _others(scan: Scan, first: Volume, plan: Plan[MorphometrySettings]) -> list[Volume]:
    """Further images on the grid of the first, rigidly registered if necessary."""
    if scan.other_anatomical is None:
        return []
    image = read_volume(scan.other_anatomical, subject=scan.name)
    numbers = with_contrast(image)  # the registration accepts no NaN; the measures leave it out
    if same_grid(image, first):
        return [image]
    return [carry_image(register_affine(first, numbers, plan.settings.registration, rigid=True), image, first)]


def _scaled(image: Volume, brain: np.ndarray) -> Volume:
    """The image in units of its median in the brain; of absolute values, as standardised images are centred at 0."""
    sizes = np.abs(image.data[brain])
    middle = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 1.0
    return Volume(np.asarray(image.data / middle, dtype=np.float32), image.affine, image.subject, image.file)


def _outside(labels: Volume, inside: Volume, regions: RegionTable) -> list[str]:
    """A warning if a notable part of a region is outside the brain, or has no data."""
    whole, kept = (np.array([len(part) for part in _values(labels, of, regions)]) for of in (labels, inside))
    lost = 1 - kept / np.maximum(whole, 1)
    lost[whole == 0] = 0
    worst = int(np.argmax(lost))
    if lost[worst] < _NOTABLE:
        return []
    share = 1 - kept.sum() / whole.sum()
    most = f"up to {lost[worst]:.0%} of a region ({regions.names[worst]})"
    return [f"{share:.0%} of the labelled voxels are outside the brain or have no data, {most}: they are not used"]


def _measures(
    images: list[Volume], labels: Volume, inside: Volume, regions: RegionTable, settings: MorphometrySettings
) -> dict[str, np.ndarray]:
    """Volume, and intensities of each image inside the brain, (n_regions,) by name."""
    volumes = regional_features(images[0], labels, regions.numbers)[:, :1]
    columns = np.column_stack([volumes, *(regional_features(i, inside, regions.numbers)[:, 1:] for i in images)])
    return dict(zip(settings.regional, columns.T, strict=False))  # tissues come after


def _tissues(
    scan: Scan,
    image: Volume,
    plan: Plan[MorphometrySettings],
    segmentation: Callable[[], Segmented],
    warnings: list[str],
) -> dict[str, Volume]:
    """Share of each tissue on the grid of the image, by name; empty if not requested."""
    wanted = plan.settings.tissues
    if wanted == "none":
        return {}
    if scan.tissues:
        found = read_tissues(scan.tissues, subject=scan.name)
    elif plan.settings.hooks.tissues is not None:
        found = segmentation().tissues
    elif wanted == "segmented":
        found = segmented(scan, image, plan.ages.months(scan.name), warnings)
    else:
        raise MissingInputError("there are no tissue maps", subject=scan.name, file=scan.anatomical)
    found = found.on_grid(image)
    shares = {"grey": found.grey, "white": found.white, "fluid": found.fluid}
    return {name: Volume(share, image.affine, scan.name) for name, share in shares.items()}


def _values(image: Volume, labels: Volume, regions: RegionTable) -> list[np.ndarray]:
    return values_by_region(image, labels, regions.numbers)


def _network(
    table: dict[str, np.ndarray],
    images: list[Volume],
    labels: Volume,
    regions: RegionTable,
    settings: MorphometrySettings,
    scan: Scan,
) -> Connectome:
    if settings.network == "similarity":
        return similarity_network(np.column_stack(list(table.values())), regions.names, subject=scan.name)
    joined = [np.column_stack(parts) for parts in zip(*(_values(i, labels, regions) for i in images), strict=True)]
    return divergence_network(joined, regions.names, subject=scan.name, file=str(scan.anatomical))
