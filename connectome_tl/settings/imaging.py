"""Settings of the imaging pipeline. Units are in the names; defaults are for neonates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.columns import AgeColumn
from connectome_tl.settings.hooks import AnatomyHooks, DiffusionHooks
from connectome_tl.settings.surfaces import FileOfScan, SurfaceFiles
from connectome_tl.settings.templates import AnyTemplate, Contrast, TemplatesByAge

BvecLengths = Literal["auto", "ignore", "scale"]

INTENSITIES = ("mean", "sd", "p10", "p50", "p90")  # statistics of an image in each region
TISSUES = ("grey", "white", "fluid")  # share of each tissue in each region
_OWN_TRACKING = ("algorithm", "step_voxels", "max_angle_deg", "seed_amplitude")  # settings that MRtrix3 does not take
FREE_WATER = ("FW", "FAfw", "MDfw")  # free-water fraction, and FA and MD of the tissue compartment


class AssemblySettings(Settings):
    """Assignment of streamline ends to regions."""

    assignment: Literal["radial", "endvoxel"] = "radial"
    radius_mm: float = Field(default=4.0, gt=0, le=50)
    diagonal: Literal["zero", "keep"] = "zero"
    sampling: Literal["trilinear", "precise"] = Field(
        default="trilinear", description="of an image along a streamline; precise: voxels by the length within them"
    )
    max_unlisted_ends: float = Field(
        default=0.05, ge=0, le=1, description="share of streamline ends that labels beyond the table may take"
    )
    max_misplaced: float = Field(
        default=0.10, ge=0, le=1, description="share of regions that may be in other places than in the atlas; 1: any"
    )


class ReconstructionSettings(Settings):
    """Estimation of tensors and fibre orientations.

    The response is estimated from a number of voxels of highest anisotropy. An adult cut-off (FA above 0.7) selects no
    voxels in newborns, whose white matter has an FA of about 0.1 to 0.35.
    """

    tensor_max_b: float = Field(default=1500.0, gt=0, description="s/mm2; beyond it the signal is not a tensor's")
    sh_order: Literal[2, 4, 6, 8, 10] = 8
    tissues: Literal["auto", "one", "two"] = Field(
        default="auto", description="two (white matter and fluid) need two shells; auto takes what the shells allow"
    )
    response_voxels: int = Field(default=300, ge=10, description="as MRtrix3's dwi2response fa")
    response_file: str | None = Field(default=None, description="JSON of a group response; per subject without it")
    normalise: bool = Field(default=False, description="MRtrix3's mtnormalise of two tissues; engine mrtrix3 only")
    free_water: bool = Field(default=False, description="maps FW, FAfw, MDfw; needs two shells up to tensor_max_b")


class TrackingSettings(Settings):
    """Tractography.

    A step of half a voxel is MRtrix3's default (Tournier et al. 2019, doi:10.1016/j.neuroimage.2019.116137). In a
    two-tissue model, grey matter contributes amplitudes of 1/(4 pi) = 0.08 plus noise, so that the cut-off is higher.
    With it and 12 degrees per step, all true edges of the phantom and fewer false ones than by MRtrix3 were found
    (`benchmarks/tracking.py`). Directions are continuous, so that any angle is possible. Lengths are neonatal: the
    brain at term is about 110 mm long, an adult brain 170 mm.
    """

    algorithm: Literal["probabilistic", "deterministic"] = "probabilistic"
    n_streamlines: int = Field(default=100_000, ge=10)
    step_voxels: float = Field(default=0.5, gt=0, le=2)
    max_angle_deg: float = Field(
        default=12.0, gt=0, lt=90, description="angle of one step; the smallest radius is step / (2 sin(angle / 2))"
    )
    min_length_mm: float = Field(default=10.0, ge=0)
    max_length_mm: float = Field(default=150.0, gt=0)
    fod_cutoff: float = Field(default=0.2, ge=0, description="amplitude below which there is no fibre")
    seed_amplitude: float = Field(default=0.4, ge=0, description="seeds only where a fibre is at least this strong")
    max_seeds_per_streamline: int = Field(default=20, ge=1)
    weights: Literal["none", "fibre_density"] = Field(
        default="none",
        description="each streamline counts once; or as the cross-section that makes streamlines as dense as fibres",
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_length_is_allowed(self) -> TrackingSettings:
        if self.min_length_mm >= self.max_length_mm:
            raise ValueError(f"min_length_mm is {self.min_length_mm:g}, max_length_mm {self.max_length_mm:g}")
        return self


class PreprocessingSettings(Settings):
    """Preprocessing of raw diffusion data; preprocessed data are not changed.

    None of these steps corrects susceptibility distortion, eddy currents or motion within a volume; results from raw
    data are therefore exploratory.
    """

    denoise: Literal["none", "mppca", "patch2self", "dwidenoise"] = Field(
        default="mppca", description="dwidenoise is MRtrix3's; patch2self cost true edges on the phantom"
    )
    gibbs: Literal["none", "dipy", "mrdegibbs"] = Field(
        default="none", description="dipy's takes minutes, MRtrix3's seconds; not for partial Fourier"
    )
    motion: Literal["none", "rigid"] = "rigid"
    bias: bool = False


class RegistrationSettings(Settings):
    """Template to subject: affine, then SyN, by dipy or by ANTs (`pip install connectome-tl[ants]`).

    Coarse grids make dipy's affine registration fast and are sufficient for mutual information. The limits below which
    a registration is refused were chosen on separate simulation seeds (`benchmarks/gate.py`).
    """

    engine: Literal["auto", "dipy", "ants"] = Field(
        default="auto", description="auto: ANTs where antspyx is installed and image and template have one contrast"
    )
    ants_metric: Literal["auto", "mutual", "local"] = Field(
        default="auto",
        description="SyN of ANTs: mutual information, or local correlation, which is more accurate within one contrast "
        "and takes twice as long; auto: local where image and template have one contrast",
    )
    bias_field: Literal["auto", "n4", "smooth", "none"] = Field(
        default="auto",
        description="divided out first; auto: only where strong, relative to a template of the same contrast, or by "
        "N4 where antspyx or SimpleITK is installed",
    )
    orientation: Literal["search", "header"] = Field(
        default="search", description="test rotated and mirrored heads; or trust the header"
    )
    affine_mm: float = Field(default=3.0, gt=0)
    nonlinear_mm: float = Field(default=1.4, gt=0)
    affine_steps: tuple[NonNegativeInt, NonNegativeInt] = (200, 50)
    nonlinear_steps: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (100, 40, 10)
    min_mask_dice: float = Field(default=0.80, ge=0, le=1, description="below it the registration is refused")
    max_lost_labels: float = Field(default=0.10, ge=0, le=1, description="share of the template's labels")
    min_likeness: float = Field(
        default=0.25, ge=0, le=1, description="mean local squared correlation of image and transformed template"
    )
    max_size_ratio: float = Field(
        default=2.0, gt=1, description="of the brain's volume to the template's, or the other way round"
    )
    max_volume_ratio: float = Field(
        default=3.0, gt=1, description="of a label against the template's, brains scaled alike"
    )


class ScanSettings(Settings):
    """Settings shared by all commands on scans. Paths are relative to the configuration file.

    The parcellation is taken from one of: `parcellation` (a file per scan in the subject's space, with
    `{subject}` and `{session}` in its name, relative to the BIDS folder), `template`, or label images of the
    folder itself (`*_dseg.nii.gz`).
    """

    name: str = "connectomes"
    atlas: str | None = None
    labels: str | None = Field(default=None, description="table of the labels, where no atlas is named")
    parcellation: FileOfScan | None = None
    template: AnyTemplate | None = None
    surfaces: SurfaceFiles | None = Field(default=None, description="regions of cortical surfaces, in place of the two")
    id_prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9]*$", description="prefix of each subject's label in all output"
    )
    age: AgeColumn | None = Field(
        default=None, description="age at scan, a column of the folder's sessions.tsv or participants.tsv"
    )
    registration: RegistrationSettings = RegistrationSettings()
    hooks: AnatomyHooks = AnatomyHooks()
    formats: tuple[Literal["csv", "npy", "npz", "mat", "graphml"], ...] = Field(
        default=(), description="of matrices, in addition to the table (.tsv)"
    )

    @model_validator(mode="after")
    def _an_age_is_told(self) -> ScanSettings:
        named = "by_age" if isinstance(self.template, TemplatesByAge) else "ages"
        if self.age is None and self.template is not None and getattr(self.template, named) is not None:
            raise ValueError(
                f"template.{named} needs age: {{column, unit, reference}}, e.g. {{column: scan_age, unit: weeks, "
                "reference: postmenstrual}: is 42 weeks or years?"
            )
        if self.surfaces is not None and (self.template is not None or self.parcellation is not None):
            raise ValueError("labels come from surfaces, template or parcellation: give one of them")
        if self.age is not None and self.age.to is not None:
            raise ValueError("age.to belongs to cohort.yaml; here the age is used as it is in its column")
        return self


class ConnectomesSettings(ScanSettings):
    """Settings of `connectome-tl connectomes`."""

    dwi: dict[str, str | int] = Field(
        default_factory=dict, description="which diffusion image where a scan has several: {acq: b2600, run: 1}"
    )
    join_runs: bool = Field(
        default=False,
        description="all diffusion images of a session that `dwi` selects are one scan, by run and name",
    )
    b0_max: float = Field(default=50.0, ge=0, le=500, description="s/mm2; up to here a volume is not weighted")
    bvec_lengths: BvecLengths = Field(
        default="auto", description="b-vectors not of length 1: seen from the table; ignore, or scale: b times length^2"
    )
    hooks: DiffusionHooks = DiffusionHooks()
    measures: tuple[str, ...] = ("count", "length", "FA", "MD")
    engine: Literal["dipy", "mrtrix3"] = "dipy"
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    tracking: TrackingSettings = TrackingSettings()
    assembly: AssemblySettings = AssemblySettings()
    tissues: Literal["given", "segmented", "none"] = Field(
        default="given",
        description="maps that define where streamlines may end: of the folder, otherwise by intensities only, or none",
    )
    keep_tractogram: bool = Field(default=False, description="write the streamlines and their weights")
    keep_preprocessed: bool = Field(default=False, description="write the diffusion data that fibres were followed in")
    keep_orientations: bool = Field(default=False, description="write the fibre orientation densities")
    keep_transforms: bool = Field(default=False, description="write the registrations, as ITK reads them")
    wrong_table: Literal["refuse", "warn"] = Field(
        default="refuse", description="b-values or b-vectors that clearly contradict the signal"
    )

    @property
    def regional(self) -> tuple[str, ...]:
        """Names of what is measured in each region."""
        return ("volume_mm3", "FA", "MD")

    @field_validator("measures")
    @classmethod
    def _known_measures(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = ("count", "length", "invnodevol", "FA", "MD", "AD", "RD", *FREE_WATER)
        unknown = [measure for measure in value if measure not in known]
        if unknown or not value:
            raise ValueError(f"measures are some of {', '.join(known)}; not {', '.join(unknown) or 'none'}")
        if len(set(value)) != len(value):
            raise ValueError("each measure once")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> ConnectomesSettings:
        wanted = [measure for measure in self.measures if measure in FREE_WATER]
        if wanted and not self.reconstruction.free_water:
            raise ValueError(f"measure {wanted[0]} needs reconstruction: {{free_water: true}}")
        if self.reconstruction.normalise and self.engine != "mrtrix3":
            raise ValueError("reconstruction.normalise needs MRtrix3; use engine: mrtrix3")
        if self.tracking.weights != "none" and self.engine == "mrtrix3":
            raise ValueError("tracking.weights is for engine: dipy; engine: mrtrix3 always uses SIFT2 weights")
        usual = TrackingSettings()
        ignored = [name for name in _OWN_TRACKING if getattr(self.tracking, name) != getattr(usual, name)]
        if ignored and self.engine == "mrtrix3":
            raise ValueError(f"tracking.{ignored[0]} is for engine: dipy; engine: mrtrix3 uses iFOD2 with its defaults")
        return self


class MorphometrySettings(ScanSettings):
    """Settings of `connectome-tl morphometry`: networks from structural images, without diffusion data.

    Every scan must have all `images`; the first is registered to the template, the others are registered to it. All
    scans of a cohort use the same contrasts, so that they are comparable.
    """

    name: str = "morphometry"
    network: Literal["divergence", "similarity"] = "divergence"
    images: tuple[Contrast, ...] = Field(default=("T2w",), min_length=1, max_length=2)
    tissues: Literal["none", "given", "segmented"] = Field(
        default="none",
        description="share of grey, white and fluid of each region: none; of every scan's maps; of these, else by "
        "intensities alone",
    )

    @field_validator("images")
    @classmethod
    def _each_once(cls, value: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each image once")
        return value

    @property
    def regional(self) -> tuple[str, ...]:
        """Names of what is measured in each region."""
        several = len(self.images) > 1
        names = [f"{image}_{part}" if several else part for image in self.images for part in INTENSITIES]
        return ("volume_mm3", *names, *(() if self.tissues == "none" else TISSUES))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the edge measures."""
        return (f"morphometric_{self.network}",)


AnyScanSettings = ConnectomesSettings | MorphometrySettings
