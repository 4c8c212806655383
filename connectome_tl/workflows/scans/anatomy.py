"""Anatomical processing of a scan: brain mask, tissues, template labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, raise_all
from connectome_tl.imaging.preprocess.structural import brain_mask, refuse_background
from connectome_tl.imaging.preprocess.tissues import SEGMENTED, Tissues, segment_tissues
from connectome_tl.imaging.read.images import (
    Volume,
    grid_problem,
    read_mask,
    read_volume,
    same_grid,
    with_contrast,
)
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.register.gate import Gate, check
from connectome_tl.imaging.register.template_fit import fit_template
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels, compose
from connectome_tl.settings.imaging import RegistrationSettings
from connectome_tl.workflows.scans.template import ChosenTemplate, contrast_of
from connectome_tl.workflows.scans.template_images import read_template

_NOTABLE = 0.05  # share of the brain without data that is reported


def read_anatomical(
    scan: Scan,
    rough: Callable[[Volume], np.ndarray] | None = None,
    *,
    extract: Callable[[Volume], np.ndarray] | None = None,
    warnings: list[str] | None = None,
) -> tuple[Volume, np.ndarray]:
    """The anatomical image, 0 outside the brain mask (that of the folder, if available), and the part with data.

    Args:
        rough: function that computes a rough mask, (x, y, z) bool, if the folder has none; without it the image must
            be (nearly) skull-stripped.
        extract: user-supplied brain extraction, if the folder has no mask.
        warnings: gets a line if a notable part of the mask has no data.

    Raises:
        DataError: the image is constant, its mask has another grid, or no brain is found.
    """
    assert scan.anatomical is not None
    stored = read_volume(scan.anatomical, subject=scan.name)
    image = with_contrast(stored)
    if scan.anatomical_mask is not None:
        mask = read_mask(scan.anatomical_mask, subject=scan.name)
        if not same_grid(mask, image):
            raise_all("the brain mask cannot be used", [grid_problem("the brain mask", mask, image)], DataError)
        refuse_background(mask.data, image, scan.anatomical_mask)
        brain = mask.data
    elif extract is not None:
        brain = extract(image)
    else:
        brain = brain_mask(image, near=None if rough is None else rough(image))
    known = with_data(stored, brain, [] if warnings is None else warnings)
    return Volume(np.where(brain, image.data, 0), image.affine, scan.name, image.file), known


def with_data(image: Volume, brain: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Voxels of the brain with data, (x, y, z) bool: finite values, and not exactly 0 unless some are negative.

    Args:
        warnings: gets a line if a notable part of the brain has no data.
    """
    values = image.data[brain]
    known = np.isfinite(values)
    if not (values[known] < 0).any():
        known &= values != 0
    lost = np.count_nonzero(~known) / max(len(known), 1)
    if lost > _NOTABLE:
        named = "an image" if image.file is None else Path(image.file).name
        warnings.append(f"{lost:.0%} of the brain mask has no data in {named} (0 or not a number) and is not used")
    found = brain.copy()
    found[brain] = known
    return found


def template_labels(
    scan: Scan,
    anatomical: Volume,
    chosen: ChosenTemplate,
    settings: RegistrationSettings,
    grid: Volume,
    brain: np.ndarray,
    to_anatomical: Warp | None = None,
    *,
    warnings: list[str],
    keep: Callable[[Warp], None] = lambda _: None,
) -> tuple[Volume, Gate]:
    """The template's labels on `grid`, by registration to the anatomical image, if the gate accepts it.

    Args:
        brain: (x, y, z) bool on `grid`, for the gate.
        to_anatomical: mm of `grid` to mm of the anatomical image; default: the same.
        warnings: gets remarks on the template's images.
        keep: called with the transform from the anatomical image to the template.

    Raises:
        DataError: the registration is refused; as `read_template`; or image and lesion have different grids.
    """
    template = read_template(chosen, trust_header=settings.orientation == "header")
    warnings += template.notes
    lesion = _lesion(scan, anatomical)
    contrasts = (contrast_of(scan.anatomical), chosen.contrast)
    fit = fit_template(anatomical, template.image, settings, contrasts=contrasts, lesion=lesion)
    chain = fit.warp
    keep(chain)
    if to_anatomical is not None:
        chain = compose(to_anatomical, chain)
    carried = carry_labels(chain, template.labels, grid)
    covered = carry_image(chain, Volume(template.brain.astype(np.float32), template.image.affine), grid).data > 0.5
    return carried, check(carried, template.labels, brain, covered, settings, fit)


def segmented(scan: Scan, anatomical: Volume, months: float | None, warnings: list[str]) -> Tissues:
    """Tissues from intensities only, which makes the scan exploratory; `months` from term, None if unknown."""
    warnings.append(SEGMENTED)
    return segment_tissues(anatomical, anatomical.data > 0, contrast_of(scan.anatomical) or "", months=months)


def _lesion(scan: Scan, anatomical: Volume) -> np.ndarray | None:
    if scan.lesion is None:
        return None
    mask = read_mask(scan.lesion, subject=scan.name)
    if not same_grid(mask, anatomical):
        raise_all("the lesion mask cannot be used", [grid_problem("the lesion mask", mask, anatomical)], DataError)
    return mask.data
