"""Write images and streamlines of a scan with sidecars and BIDS names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.imaging.read.dwi_files import write_dwi
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.register.itk import write_transform
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.imaging.track.orientation_field import order_of
from connectome_tl.imaging.track.reconstruction import Orientations
from connectome_tl.imaging.track.streamlines import write_tck
from connectome_tl.provenance import write_sidecar, write_text
from connectome_tl.settings.imaging import ConnectomesSettings
from connectome_tl.workflows.scans.result import Plan, ScanResult

_TENSOR, _FREE = "tensor", "fwtensor"
_MAPS = {  # by name: model, description, unit
    "FA": (_TENSOR, "fractional anisotropy", "1"),
    "MD": (_TENSOR, "mean diffusivity", "mm2/s"),
    "FW": (_FREE, "fraction of free water", "1"),
    "FAfw": (_FREE, "fractional anisotropy without free water", "1"),
    "MDfw": (_FREE, "mean diffusivity without free water", "mm2/s"),
}
_ITK = "ITK's convention (LPS): maps points of the space `to` to points of the space `from`"


def write_maps(found: ScanResult, plan: Plan[ConnectomesSettings], inputs: Mapping[str, str]) -> list[Path]:
    """Write maps, mask, labels and streamline density, and the optional files of the settings."""
    name, dwi, settings = found.name, found.dwi, plan.settings
    folder = plan.file(name, "").parent
    described = partial(
        write_sidecar,
        inputs=inputs,
        settings=settings,
        SpatialReference=Path(dwi.file or "").name,
    )

    def image(suffix: str, data: np.ndarray, affine: np.ndarray, **fields: Any) -> list[Path]:
        file = write_volume(folder / f"{name}_{suffix}.nii.gz", data, affine)
        return [file, described(file, **fields)]

    written: list[Path] = []
    for parameter, (model, what, unit) in _MAPS.items():
        if parameter in found.images:
            suffix = f"model-{model}_param-{parameter}_dwimap"
            written += image(suffix, found.images[parameter], dwi.affine, Description=what, units=unit)
    here = "on the grid of the diffusion data"
    written += image("space-dwi_desc-brain_mask", dwi.mask, dwi.affine, Description=here, Type="Brain")
    labels = f"space-dwi_atlas-{plan.atlas_name}_dseg"
    written += image(labels, found.labels.data, found.labels.affine, Description=here, Atlas=plan.atlas_name)
    density: dict[str, Any] = {"Description": "streamlines through each voxel", "units": "streamlines"}
    density["seed"] = settings.tracking.seed
    written += image("space-dwi_desc-density_tdi", found.passed, dwi.affine, **density)
    if settings.keep_preprocessed:
        data = write_dwi(folder, f"{name}_desc-preproc", dwi)
        written += [*data, described(data[0], Description="as fibres were followed in", SkullStripped=False)]
    if settings.keep_orientations and found.orientations is not None:
        for tissue, values, said in _densities(found.orientations):
            written += image(f"model-csd_param-fod_label-{tissue}_dwimap", values, dwi.affine, **said)
    if settings.keep_transforms:
        for spaces, warp in found.transforms.items():
            file = write_transform(folder / f"{name}_{spaces}_mode-image_xfm", warp)
            length = None if warp.places is None else "mm"
            written += [file, described(file, Description=_ITK, units=length)]
    if settings.keep_tractogram:
        written += _streamlines(found, folder / f"{name}_tractogram.tck", described, settings)
    return written


def _densities(orientations: Orientations) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Densities of fibres (white matter) and, with two tissues, of fluid, with fields for the sidecar."""
    n_coefficients = orientations.coefficients.shape[-1]
    encoding = {
        "Type": "sh",
        "EncodingAxis": 3,
        "Reference": "xyz",
        "AntipodalSymmetry": True,
        "SphericalHarmonicBasis": "MRtrix3",
        "SphericalHarmonicDegree": order_of(n_coefficients),
    }
    said = "fibre orientation density: MRtrix3's real harmonics of even degree, axes of the world (RAS)"
    fibres: dict[str, Any] = {"Description": said, "OrientationEncoding": encoding}
    found = [("WM", np.asarray(orientations.coefficients, dtype=np.float32), fibres)]
    if orientations.fluid is not None:
        fluid = {"Description": "isotropic density of fluid: MRtrix3's harmonic of degree 0"}
        found.append(("CSF", np.asarray(orientations.fluid, dtype=np.float32), fluid))
    return found


def _streamlines(found: ScanResult, file: Path, described: partial[Path], settings: ConnectomesSettings) -> list[Path]:
    """Write the tractogram and, if streamlines have weights, the file for `assemble --weights`."""
    said = {"Description": "streamlines in mm (RAS+), as MRtrix3 writes them", "units": "mm"}
    written = [write_tck(file, found.streamlines)]
    written.append(described(file, seed=settings.tracking.seed, Engine=settings.engine, **said))
    if found.weights is not None:
        lines = "".join(f"{weight:.9g}\n" for weight in found.weights)
        weights = write_text(file.with_name(f"{file.stem}_weights.txt"), lines)
        written += [weights, described(weights, Description=f"one per streamline: {weight_name(settings)}")]
    return written
