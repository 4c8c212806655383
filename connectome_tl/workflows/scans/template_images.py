"""Read the images of a template, and check that they belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from connectome_tl.connectome.names.unlisted import refuse_other_numbering
from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.preprocess.structural import above_zero, refuse_background
from connectome_tl.imaging.read.images import (
    Volume,
    grid_problem,
    read_labels,
    read_mask,
    read_volume,
    same_grid,
    with_contrast,
)
from connectome_tl.imaging.register.label_turn import turn_of_labels
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.workflows.scans.template import ChosenTemplate

_NOTABLE, _MOST = 0.1, 0.25  # share of the labelled voxels outside the template's brain: reported, refused


@dataclass(frozen=True, eq=False)
class TemplateImages:
    """Images of a template.

    Attributes:
        image: (x, y, z), 0 outside the brain. brain: (x, y, z) bool on its grid.
        labels: label image, which may have another grid.
        notes: remarks for every scan that uses the template.
    """

    image: Volume
    brain: np.ndarray
    labels: Volume
    notes: tuple[str, ...] = ()


def read_template(chosen: ChosenTemplate, *, trust_header: bool = False) -> TemplateImages:
    """Read a template's image, mask and labels; without a mask its brain is where the image is above 0.

    Args:
        trust_header: report labels that seem to be rotated by 180 degrees instead of refusing them.

    Raises:
        MissingInputError, DataError: as the readers; the image is constant; the mask has another grid or covers the
            background; values below 0 without a mask; more than a quarter of the labelled voxels are outside the
            brain; or the labels are rotated by 180 degrees.
    """
    image, labels = with_contrast(read_volume(chosen.image)), read_labels(chosen.labels)
    brain = image.data > 0
    if chosen.mask is None and (image.data < 0).sum() > _MOST * brain.sum():
        raise DataError(
            "the template's image has values below 0, so that its brain cannot be told from the background",
            expected="values above 0 in the brain and 0 elsewhere, or a mask",
            got=f"{(image.data < 0).mean():.0%} of the voxels below 0",
            file=chosen.image,
            remedy="Give the mask of the template's brain (`template.mask`).",
        )
    if chosen.mask is not None:
        mask = read_mask(chosen.mask)
        if not same_grid(mask, image):
            raise_all("the template's mask cannot be used", [grid_problem("the mask", mask, image)], DataError)
        refuse_background(mask.data, image, chosen.mask)
        brain = mask.data
    share = _outside(labels, Volume(brain, image.affine))
    if share > _MOST:
        raise DataError(
            "the template's labels are not where its brain is",
            expected=f"at most {_MOST:.0%} of the labelled voxels outside the brain of {chosen.image.name}",
            got=f"{share:.0%}",
            file=chosen.labels,
            remedy="Labels, image and mask of a template must be in one space: take all from the same release.",
        )
    notes = []
    if share > _NOTABLE:
        notes.append(
            f"{share:.0%} of the template's labelled voxels are outside its brain: are its labels in its space?"
        )
    inside = Volume(np.where(brain, image.data, 0), image.affine)
    turned = turn_of_labels(inside, labels)
    if turned is not None:
        what = f"the template's labels are {turned[0]} in its image"
        got = f"{turned[1]:.2f} of their variance as stored, {turned[2]:.2f} after a rotation by 180 degrees"
        if not trust_header:
            raise DataError(
                what,
                expected="labels that explain local intensities better as stored than after a rotation",
                got=got,
                file=chosen.labels,
                remedy=f"One of the headers is wrong, of the labels or of {chosen.image.name}: convert both again. If "
                "both are right, set registration.orientation: header.",
            )
        notes.append(f"{what}, or do not follow its anatomy: they explain {got}")
    return TemplateImages(above_zero(inside), brain, labels, tuple(notes))


def template_problems(
    templates: Iterable[ChosenTemplate], regions: RegionTable | None, *, trust_header: bool = False
) -> list[Problem]:
    """Problems of templates whose images do not belong together, or not to the table of regions; once per template."""
    found: list[Problem] = []
    for template in {tuple(chosen.files().values()): chosen for chosen in templates}.values():
        try:
            labels = read_template(template, trust_header=trust_header).labels
            if regions is not None:
                refuse_other_numbering(labels, regions)
        except DataError as error:
            found += error.problems
    return found


def _outside(labels: Volume, brain: Volume) -> float:
    """Share of the labelled voxels outside a brain on any grid."""
    there = Volume(brain.data.astype(np.int32), brain.affine)
    inside = carry_labels(Warp(np.eye(4)), there, labels).data > 0
    labelled = labels.data > 0
    return float((labelled & ~inside).sum() / labelled.sum())
