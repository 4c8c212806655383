"""Volumes of a bundle: grid of its fits, limits of its images, simulated volumes for the self-test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from connectome_tl.bundle.members import Members
from connectome_tl.bundle.spans import Flag, outward
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, Problem
from connectome_tl.features.volumes import Grid, VolumeSteps, read_volumes
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.volumes.grids import QUANTILES, Gridded, onto_grid
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.bundles import ImageInput, ImageLimits, SimulatedGrid, Span
from connectome_tl.simulation.volumes import Contrast, VolumeSettings, affine_of, each_volume

N_VOLUMES = 3  # simulated volumes of a self-test
_SEED = 20
_SIZE = 32  # voxels along each axis of a simulated volume
_STRANGE = 0.5  # smallest fraction of intensity quantiles outside their limits for which a volume is flagged


def image_input(members: Members, cohort: Cohort) -> ImageInput | None:
    """The common grid of the fits, and the contrast of the cohort; None if no fit uses volumes.

    Raises:
        DataError: fits with different grids.
    """
    steps = [features.steps.get("image") for features in members.features()]
    grids = {one.grid for one in steps if isinstance(one, VolumeSteps)}
    if not grids:
        return None
    if len(grids) > 1:
        raise DataError("the fits of the study have different grids", remedy="Use the same image.size in all folds.")
    return ImageInput(grid=ImageSettings.model_validate_json(grids.pop()), contrast=cohort.volume_contrast)


def image_limits(cohort: Cohort, grid: ImageSettings) -> ImageLimits:
    """Limits from the images of the study."""
    grids = _grids(cohort, grid)
    known = [one for one in grids if one is not None]
    return ImageLimits(
        voxel=_span([one.native for one in known]),
        extent=_span([one.extent for one in known]),
        head_ml=_span([[one.head_ml] for one in known]),
        grey_levels=tuple(_span([[one.quantiles[i]] for one in known]) for i in range(len(QUANTILES))),
        all_have_one=len(known) == len(grids),
        stripped=_how_many([one.is_stripped for one in known]),
    )


def _how_many(stripped: Sequence[bool]) -> Literal["all", "some", "none"]:
    if all(stripped):
        return "all"
    return "some" if any(stripped) else "none"


def image_problems(wanted: ImageInput, cohort: Cohort, *, is_alone: bool) -> list[Problem]:
    """Problems of a cohort whose volumes do not match the model; `is_alone`: it has no other inputs."""
    if not any(cohort.volumes) and (is_alone or not cohort.volumes):
        return [Problem("the model needs volumes", remedy="Add `volumes` to cohort.yaml.")]
    if wanted.contrast and cohort.volume_contrast and wanted.contrast != cohort.volume_contrast:
        return [Problem("volumes have another contrast", expected=wanted.contrast, got=cohort.volume_contrast)]
    return []


def image_flags(limits: ImageLimits, cohort: Cohort, grid: ImageSettings) -> list[Flag]:
    """Compare a cohort with each limit of images; missing volumes are outside if every training subject had one."""
    grids = _grids(cohort, grid)
    found = [
        _flag("native voxel edge", limits.voxel, [None if one is None else one.native for one in grids], "mm"),
        _flag("field of view", limits.extent, [None if one is None else one.extent for one in grids], "mm"),
        _flag("head volume", limits.head_ml, [None if one is None else [one.head_ml] for one in grids], "ml")._replace(
            decides=True
        ),
        _grey_levels(limits, grids),
        *_skull_stripping(limits, grids),
    ]
    without = np.array([one is None for one in grids], dtype=bool)
    if limits.all_have_one:
        here = f"{int((~without).sum())} of {len(grids)} have one"
        said = "no volume, which every training subject had"
        found.append(Flag("volume", "of every subject", without, here, said=said))
    return found


def _grids(cohort: Cohort, settings: ImageSettings) -> Sequence[Grid | None]:
    return read_volumes(cohort, cohort.ids, settings)[0].grids


def _span(values: Sequence[Sequence[float]]) -> Span:
    found = outward(np.array(values, dtype=float))
    assert found is not None
    return found


def _flag(what: str, span: Span, values: Sequence[Sequence[float] | None], unit: str) -> Flag:
    outside = np.array([one is not None and (min(one) < span.low or max(one) > span.high) for one in values])
    known = [value for one in values if one is not None for value in one]
    here = f"{min(known):.4g} to {max(known):.4g} {unit}" if known else "unknown"
    return Flag(what, f"{span.low:g} to {span.high:g} {unit}", outside, here)


def _grey_levels(limits: ImageLimits, grids: Sequence[Grid | None]) -> Flag:
    """Flag quantiles of the head's intensities above the background, which depend on the contrast."""
    shares = [
        np.mean([not span.low <= q <= span.high for span, q in zip(limits.grey_levels, one.quantiles, strict=True)])
        if one is not None
        else 0.0
        for one in grids
    ]
    said = f"at most {_STRANGE:.0%} of {len(QUANTILES)} quantiles outside"
    here = f"up to {max(shares, default=0.0):.0%}"
    return Flag("grey levels", said, np.array(shares) > _STRANGE, here, said="grey levels unlike the training images")


def _skull_stripping(limits: ImageLimits, grids: Sequence[Grid | None]) -> list[Flag]:
    """Flag images with a skull if all training images were skull-stripped, and the reverse."""
    if limits.stripped == "unknown":
        return []
    stripped = [one is not None and one.is_stripped for one in grids]
    n_known = sum(one is not None for one in grids)
    wanted = {"all": True, "none": False}.get(limits.stripped)
    outside = np.array(
        [wanted is not None and one is not None and one.is_stripped is not wanted for one in grids], dtype=bool
    )
    said = "skull-stripped" if wanted is False else "not skull-stripped"
    here = f"{sum(stripped)} of {n_known} images"
    return [
        Flag(
            "skull stripping",
            f"{limits.stripped} of the images",
            outside,
            here,
            said=f"{said}, unlike the training images",
        )
    ]


def simulated_grids(wanted: ImageInput) -> list[Gridded]:
    """Simulated brains on the grid of the fits; they contain no data of the study."""
    known: tuple[Contrast, ...] = get_args(Contrast)
    contrast: Contrast = next((one for one in known if one == wanted.contrast), "T1w")
    settings = VolumeSettings(size=_SIZE, contrast=contrast)
    affine = affine_of(settings)
    return [
        onto_grid(Volume(one.volume, affine, f"simulated{i + 1}", "a simulated volume"), wanted.grid)
        for i, one in enumerate(each_volume(N_VOLUMES, settings, seed=_SEED))
    ]


def as_record(grid: Gridded) -> SimulatedGrid:
    """Numbers of a simulated volume without its voxels."""
    return SimulatedGrid(head_ml=grid.head_ml, tissue_ml=grid.tissue_ml, quantiles=grid.quantiles)


def as_grid(record: SimulatedGrid, voxels: np.ndarray) -> Gridded:
    """Restore a simulated volume.

    Raises:
        DataError: it does not have the numbers of a grid.
    """
    if len(record.quantiles) != len(QUANTILES):
        raise DataError(
            "a simulated volume has another number of quantiles",
            expected=str(len(QUANTILES)),
            got=str(len(record.quantiles)),
        )
    return Gridded(
        voxels.astype(np.float16), (1.0, 1.0, 1.0), record.head_ml, record.tissue_ml, record.quantiles, (1.0, 1.0, 1.0)
    )
