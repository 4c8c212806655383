"""Tissue maps: read (5TT, Draw-EM, probability maps) or segmented from the image.

The segmentation uses k-means over the intensities of one image (scikit-learn) and Gaussians of its three classes. It
uses no anatomical prior, so that results based on it are exploratory. A converged Gaussian mixture was unstable when
one voxel in twenty was omitted; dipy's Markov random field gave NaN for empty classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_volume, same_grid
from connectome_tl.imaging.register.warps import Warp, carry_image

# Draw-EM's nine classes (Makropoulos et al. 2018, doi:10.1016/j.neuroimage.2018.01.054): background (4) is none;
# brainstem counts as white matter, since streamlines pass it; cerebellum and hippocampus as cortex.
_DRAWEM = {"fluid": (1, 5), "cortex": (2, 6, 9), "white": (3, 8), "deep": (7,)}
# From dark to bright. Newborns' white matter contains more water than their grey matter; from five to nine months both
# look alike (Wang et al. 2019, doi:10.1109/TMI.2019.2901712); later the order is that of adults.
_NEWBORN = {"T2w": ("grey", "white", "fluid"), "T1w": ("fluid", "white", "grey")}
_ADULT = {"T2w": ("white", "grey", "fluid"), "T1w": ("fluid", "grey", "white")}
_ALIKE_MONTHS = (5.0, 9.0)
_MOST, _FEW = 0.5, 30  # share of a tissue in its voxels; smallest number of voxels that are compared
_HARDLY = 1.15  # ratio of diffusivities
SEGMENTED = "exploratory: tissue maps come from intensities alone, without anatomy"


@dataclass(frozen=True, eq=False)
class Tissues:
    """Shares of each tissue per voxel, each (x, y, z) in 0 to 1, on one grid.

    Attributes:
        source: what they were read from, or `segmented`.
    """

    white: np.ndarray
    cortex: np.ndarray
    deep: np.ndarray
    fluid: np.ndarray
    affine: np.ndarray
    source: str

    @property
    def grey(self) -> np.ndarray:
        """Share of grey matter, cortical and deep."""
        return np.asarray((self.cortex + self.deep).clip(0, 1))

    def on_grid(self, target: Volume, warp: Warp | None = None) -> Tissues:
        """Resample the maps to the grid of `target` (trilinear); `warp` maps its mm to theirs (default: identity)."""
        chain = Warp(np.eye(4)) if warp is None else warp
        moved = [carry_image(chain, Volume(part, self.affine), target).data.clip(0, 1) for part in self.parts]
        white, cortex, deep, fluid = moved
        return Tissues(white, cortex, deep, fluid, target.affine, self.source)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """White matter, cortex, deep grey matter and fluid."""
        return self.white, self.cortex, self.deep, self.fluid

    def five(self) -> np.ndarray:
        """MRtrix3's 5TT, (x, y, z, 5): cortex, deep grey, white, fluid, pathological (none)."""
        return np.stack([self.cortex, self.deep, self.white, self.fluid, np.zeros_like(self.fluid)], axis=-1)


def read_tissues(files: Sequence[Path], *, subject: str | None = None) -> Tissues:
    """Read one 5TT image, one image of Draw-EM's nine labels, or maps of white matter, grey matter and fluid.

    Raises:
        MissingInputError, DataError: as `read_volume`; maps on different grids, shares outside 0 to 1, an image that is
            none of these, or one without white matter.
    """
    if len(files) == 3:
        maps = [read_volume(file, subject=subject) for file in files]
        for other in maps[1:]:
            if not same_grid(maps[0], other):
                raise DataError("tissue maps have different grids", subject=subject, file=other.file)
        white, grey, fluid = (_share(image.data, subject, image.file) for image in maps)
        return _checked(Tissues(white, grey, np.zeros_like(grey), fluid, maps[0].affine, "probability maps"), maps[0])
    image = read_volume(files[0], subject=subject, n_dimensions=(3, 4))
    if image.data.ndim == 4 and image.data.shape[3] == 5:
        cortex, deep, white, fluid, _ = np.moveaxis(_share(image.data, subject, image.file), 3, 0)
        return _checked(Tissues(white, cortex, deep, fluid, image.affine, "5TT"), image)
    if image.data.ndim == 3 and image.data.max() <= 9 and np.array_equal(image.data, np.rint(image.data)):
        parts = {name: np.isin(image.data, numbers).astype(np.float32) for name, numbers in _DRAWEM.items()}
        found = Tissues(parts["white"], parts["cortex"], parts["deep"], parts["fluid"], image.affine, "Draw-EM")
        return _checked(found, image)
    raise DataError(
        "not a known kind of tissue image",
        expected="5 volumes (5TT) or Draw-EM's labels 1 to 9",
        got=f"{image.shape}, up to {image.data.max():g}",
        subject=subject,
        file=image.file,
    )


def tissue_warnings(tissues: Tissues, md: np.ndarray, fa: np.ndarray, subject: str | None = None) -> list[str]:
    """Compare tissue maps with diffusion on the same grid, for codes in another order.

    At all ages water diffuses faster in fluid than in white matter. White matter is usually more anisotropic than grey
    matter, but not before about 32 weeks of gestation, so that a contradiction of FA is a warning.

    Args:
        md, fa: (x, y, z) mean diffusivity and fractional anisotropy.

    Raises:
        DataError: fluid has a lower diffusivity than white matter.
    """
    fluid, white, grey = ((part > _MOST) & (md > 0) for part in (tissues.fluid, tissues.white, tissues.grey))
    found = [] if fluid.any() else [f"the tissue maps ({tissues.source}) contain no fluid"]
    if min(np.count_nonzero(fluid), np.count_nonzero(white)) >= _FEW:
        faster = float(np.median(md[fluid]) / np.median(md[white]))
        if faster < 1:
            raise DataError(
                "the tissue maps contradict the diffusion data",
                expected="a larger mean diffusivity in fluid than in white matter",
                got=f"{faster:.2f} times that of white matter",
                subject=subject,
                file=tissues.source,
                remedy="Check the codes: 5TT is cortex, deep grey, white, fluid, other; Draw-EM's numbers are 1 and 5 "
                "for fluid, 2 for cortex and 3 for white matter; maps are white, grey, fluid.",
            )
        if faster < _HARDLY:
            found.append(f"fluid in the tissue maps ({tissues.source}) diffuses hardly faster than white matter")
    if min(np.count_nonzero(grey), np.count_nonzero(white)) >= _FEW and np.median(fa[white]) < np.median(fa[grey]):
        found.append(f"white matter in the tissue maps ({tissues.source}) is less anisotropic than grey matter")
    return found


def segment_tissues(image: Volume, brain: np.ndarray, contrast: str, *, months: float | None = None) -> Tissues:
    """Segment three tissues from one T2w or T1w image; deep grey matter is not separated from cortex.

    Args:
        months: age from term; None for a newborn.

    Raises:
        DataError: not T2w or T1w, fewer than three intensities, or an age at which white and grey matter are
            isointense.
    """
    from scipy.stats import norm
    from sklearn.cluster import KMeans

    if months is not None and _ALIKE_MONTHS[0] <= months < _ALIKE_MONTHS[1]:
        raise DataError(
            "tissues cannot be segmented: white and grey matter look alike at this age",
            expected="less than 5 or at least 9 months from term",
            got=f"{months:.1f} months",
            subject=image.subject,
            file=image.file,
            remedy="Give tissue maps, or tissues: none.",
        )
    names = (_NEWBORN if months is None or months < _ALIKE_MONTHS[0] else _ADULT).get(contrast)
    values = image.data[brain].astype(float)
    if names is None or len(np.unique(values)) < 3:
        raise DataError(
            "tissues cannot be segmented", expected="a T2w or T1w image", subject=image.subject, file=image.file
        )
    start = np.quantile(values, [0.15, 0.5, 0.9])[:, None]
    found = KMeans(3, init=start, n_init=1).fit(values[:, None])
    order = np.argsort(found.cluster_centers_[:, 0])
    classes = [values[found.labels_ == k] for k in order]
    weight = [part.size * norm.pdf(values, part.mean(), max(part.std(), 1e-6)) for part in classes]
    total = np.maximum(np.sum(weight, axis=0), 1e-300)
    by = {}
    for name, part in zip(names, weight, strict=True):
        by[name] = np.zeros(image.shape, dtype=np.float32)
        by[name][brain] = part / total
    made = Tissues(by["white"], by["grey"], np.zeros_like(by["grey"]), by["fluid"], image.affine, "segmented")
    return _checked(made, image)


def _share(data: np.ndarray, subject: str | None, file: str | None) -> np.ndarray:
    low, high = float(data.min(initial=0)), float(data.max(initial=0))
    if not (np.isfinite(data).all() and low >= -0.01 and high <= 1.01):
        raise DataError(
            "not tissue fractions", expected="0 to 1", got=f"{low:g} to {high:g}", subject=subject, file=file
        )
    return np.asarray(data, dtype=np.float32).clip(0, 1)


def _checked(tissues: Tissues, image: Volume) -> Tissues:
    for name in ("white", "grey"):
        if float(getattr(tissues, name).max(initial=0)) < 0.5:
            raise DataError(f"the tissue maps contain no {name} matter", subject=image.subject, file=image.file)
    return tissues
