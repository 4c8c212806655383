"""Settings of volumes: grids, augmentation and 3D encoders."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count, EncoderSettings, Probability
from connectome_tl.settings.images.embedding import EmbeddingUse

Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=4, le=512)]
Positive = Annotated[float, Field(gt=0)]


class Augmentation(Settings):
    """Random augmentation of training volumes, seeded by the fit; a probability of 0 disables an augmentation.

    Args:
        flip: probability of a left-right flip.
        affine: probability of a small rotation and shift. rotate: largest angle (degrees). shift: largest shift
            (voxels). scale: largest relative change of size; 0 by default, since size is related to age.
        bias: probability of a smooth bias field. noise: probability of Gaussian noise. gamma: probability of a change
            of contrast. invert: probability of inverted intensities within the head, for the contrast inversion of the
            first year.
        contrast: probability of a random contrast, a smooth random (not necessarily monotonic) map of the intensities
            within the head. strength: largest share of it that is mixed with the original.
    """

    flip: Share = 0.5
    affine: Share = 0.5
    rotate: Annotated[float, Field(ge=0, le=180)] = 8.0
    shift: Annotated[float, Field(ge=0)] = 2.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: Share = 0.0
    noise: Share = 0.3
    gamma: Share = 0.3
    invert: Share = 0.0
    contrast: Share = 0.0
    strength: Share = 1.0

    @property
    def changes(self) -> bool:
        """Whether any augmentation is enabled."""
        return any((self.flip, self.affine, self.bias, self.noise, self.gamma, self.invert, self.contrast))


class ImageSettings(Settings):
    """Conversion of the volumes of all cohorts of a study to grids of one size.

    `grid: isotropic` resamples to `voxel` mm and crops or pads around the head or the centre, which preserves size;
    `zoom` resizes the whole volume to the grid, which does not; `raw` crops or pads the native voxels around the centre
    of the volume, without resampling. All volumes are reoriented to RAS first.

    Args:
        size: voxels of the grid, one number or three.
        voxel: voxel size in mm, for `isotropic`.
        centre: centre of an `isotropic` grid: the `head`, or that of the `image`, which keeps the alignment of volumes
            that are registered to one template.
        window: lowest and highest intensity; others are set to these limits before anything else, for example [0, 80]
            for the brain in CT (Hounsfield units).
        normalise: `zscore` or `minmax` (of the 1st and 99th percentile), or `none`.
        over: voxels used for mean, standard deviation and percentiles. The foreground is the head above the neck,
            including bone and air, or the brain if the background is empty (see `imaging.volumes.foreground`).
            Outlying intensities are clipped to three times the range of the 1st to 99th percentile beyond it, except
            with `none`.
        outside: whether voxels outside the foreground are set to 0 (`zero`) or kept (`keep`).
        nan: treatment of NaN voxels.
        overflow: whether images whose stored integers are saturated or wrapped around are refused or only noted.
        shape: whether a head of implausible size or proportions, one that fills the field of view, or one of which
            more than a fifth is outside the grid or very little is on it, is refused or only noted.
        spread: largest allowed ratio of voxel sizes between the volumes of a study, for `raw`.
        flip_test: average the predictions of each volume and its mirror image.
        embedding: precomputed embeddings instead of volumes, for an encoder of kind `embedding`.
        precision: precision of the training, on a CPU or a GPU. `float32` is exact float32, also on a GPU, where
            TF32 is not used. `bf16` is mixed precision: products and convolutions in bfloat16, weights and their
            updates in float32. `auto` is bfloat16 if a test on the device shows that it is accurate and faster.
            Predictions are made in float32 on the CPU.
    """

    TRAINING: ClassVar[frozenset[str]] = frozenset({"augment", "flip_test", "precision", "spread", "embedding"})
    """Settings that do not affect grids."""

    grid: Literal["isotropic", "zoom", "raw"] = "isotropic"
    size: Size | tuple[Size, Size, Size] = 64
    voxel: Positive = 2.5
    centre: Literal["head", "image"] = "head"
    window: tuple[float, float] | None = None
    normalise: Literal["zscore", "minmax", "none"] = "zscore"
    over: Literal["foreground", "all"] = "foreground"
    outside: Literal["zero", "keep"] = "zero"
    nan: Literal["refuse", "zero"] = "refuse"
    overflow: Literal["refuse", "note"] = "refuse"
    shape: Literal["refuse", "note"] = "refuse"
    spread: Annotated[float, Field(ge=1)] = 3.0
    augment: Augmentation = Augmentation()
    flip_test: bool = False
    precision: Literal["float32", "bf16", "auto"] = "float32"
    embedding: EmbeddingUse | None = None

    @field_validator("window")
    @classmethod
    def _window_is_open(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not -1e6 < window[0] < window[1] < 1e6:
            raise ValueError("window needs two finite numbers, the lower one first")
        return window

    @model_validator(mode="after")
    def _contrast_knows_the_head(self) -> ImageSettings:
        if self.outside == "keep" and (self.augment.invert or self.augment.contrast):
            raise ValueError(
                "image.augment.invert and contrast change the intensities within the head, which they find by a "
                "background of 0: set image.outside: zero, or leave them out"
            )
        return self

    @property
    def shape3(self) -> tuple[int, int, int]:
        """Voxels of the grid along each axis."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size, self.size)

    @property
    def gridding(self) -> ImageSettings:
        """The settings that affect grids, used as the key of their cache."""
        rest = ImageSettings()
        return self.model_copy(update={name: getattr(rest, name) for name in self.TRAINING})

    def describe(self) -> str:
        """A sentence for the methods section."""
        size = " x ".join(map(str, self.shape3))
        centre = "head" if self.centre == "head" else "centre of the image"
        how = {
            "isotropic": f"resampled to {self.voxel:g} mm and cropped or padded around the {centre} to {size} voxels",
            "zoom": f"resized as a whole to {size} voxels, which discards the size of the head",
            "raw": f"cropped or padded to {size} native voxels",
        }[self.grid]
        levels = {
            "zscore": f"Intensities were standardised over {_over(self.over)}.",
            "minmax": f"Intensities were scaled between the 1st and 99th percentile of {_over(self.over)}.",
            "none": "Intensities were not normalised.",
        }[self.normalise]
        window = f" Intensities were clipped to {self.window[0]:g} to {self.window[1]:g}." if self.window else ""
        return f"Volumes were reoriented to RAS and {how}.{window} {levels}"


def _over(which: str) -> str:
    return "the foreground (the head, or the brain of stripped images)" if which == "foreground" else "all voxels"


class ImageEncoder(EncoderSettings):
    """Settings shared by all encoders of volumes.

    Args:
        dropout: dropout of the embedding.
        weights: file of initial weights (`.safetensors`, or `.pth`, read by torch's weights-only reader), relative to
            study.yaml.
        weights_hash: SHA-256 of that file; set by a run, so that a changed file changes the key of the fit.
    """

    modality: ClassVar[str] = "image"
    dropout: Probability = 0.0
    weights: str | None = None
    weights_hash: str = ""

    @property
    def is_atlas_bound(self) -> bool:
        return False

    @property
    def _started(self) -> str:
        return ", started from a file of weights" if self.weights else ""


class ResNetEncoder(ImageEncoder):
    """A residual network in MedicalNet's layout (Chen et al. 2019, arXiv:1904.00625).

    MedicalNet's weights have `width: 1`, `norm: batch`, `stem_stride: 2` and were trained with `dilated: true`. They
    can be loaded with other settings of equal shapes, but the network then computes a different function.

    Args:
        shortcut: of blocks that change the size: `A` pads with zeros, `B` is a convolution (MONAI's default); by
            default as in MedicalNet's files, A for 18 and 34 layers and B otherwise.
    """

    kind: Literal["resnet"] = "resnet"
    depth: Literal[10, 18, 34, 50] = 10
    width: Annotated[float, Field(gt=0, le=4)] = 0.25
    norm: Literal["group", "batch", "instance"] = "group"
    stem_stride: Literal[1, 2] = 2
    dilated: bool = False
    shortcut: Literal["A", "B"] | None = None

    def describe(self) -> str:
        shortcut = f", shortcut {self.shortcut}" if self.shortcut else ""
        dilated = ", last two stages dilated" if self.dilated else ""
        return (
            f"a 3D ResNet-{self.depth} on volumes (width {self.width:g}, {self.norm} normalisation, stem stride "
            f"{self.stem_stride}{shortcut}{dilated}){self._started}"
        )


class SfcnEncoder(ImageEncoder):
    """The simple fully convolutional network of Peng et al. 2021 (doi:10.1016/j.media.2020.101871), without its
    soft-label head: five blocks of convolution, norm, max-pooling and ReLU, then one of 1 x 1 x 1."""

    kind: Literal["sfcn"] = "sfcn"
    widths: tuple[Count, ...] = (32, 64, 128, 256, 256, 64)
    norm: Literal["group", "batch"] = "group"
    dropout: Probability = 0.5

    @model_validator(mode="after")
    def _has_blocks(self) -> SfcnEncoder:
        if len(self.widths) < 2:
            raise ValueError("widths needs two blocks or more")
        return self

    def describe(self) -> str:
        return f"a simple fully convolutional 3D network (widths {', '.join(map(str, self.widths))}){self._started}"


class DenseNetEncoder(ImageEncoder):
    """A 3D DenseNet (Huang et al. 2017, arXiv:1608.06993): MONAI's, with the number of layers as a setting."""

    kind: Literal["densenet"] = "densenet"
    init_features: Count = 16
    growth: Count = 8
    layers: tuple[Count, ...] = (3, 6, 12, 8)
    norm: Literal["group", "batch"] = "group"

    def describe(self) -> str:
        return f"a 3D DenseNet of {sum(self.layers)} dense layers (growth {self.growth}){self._started}"


class ScaleDenseEncoder(ImageEncoder):
    """The dense multi-scale network of TSAN (Cheng et al. 2021, doi:10.1109/TMI.2021.3085948): every block is
    concatenated with its pooled input, so that the width triples. `width: 8` and five blocks are published."""

    kind: Literal["scaledense"] = "scaledense"
    width: Count = 4
    blocks: Annotated[int, Field(ge=1, le=5)] = 3
    norm: Literal["group", "batch"] = "group"

    def describe(self) -> str:
        return f"a dense multi-scale 3D network of {self.blocks} blocks (first width {self.width}){self._started}"
