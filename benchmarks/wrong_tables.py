"""How often correct and wrong gradient tables are refused (`connectome_tl.imaging.preprocess.gradient_check`).

    python benchmarks/wrong_tables.py --seeds 60 61 [--kinds phantom motion fibres bundles head real]

Every series is checked with its correct table and with the 23 others (axes flipped or exchanged), of which the three
single flips are also the effect of images that are mirrored in their headers. Kinds: *phantom*, the phantom of the
package with noise, few directions, dropouts; *motion*, the same with rigid motion of each volume (standard deviation 1
to 5 mm and degrees), not corrected; *fibres*, a whole brain with the measured fibre orientations of an adult
(TractSeg's), signal-to-noise ratio 6 to 30; *bundles*, the phantom of `weights.py`; *head*, that of
`head_orientations.py`; *real*, three cut-outs of real data and of a phantom with fewer directions or more noise. All
kinds also in slabs of 2 and 4 slices and, if large, in cubes. Data: CONNECTOME_TL_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from head_orientations import Subject
from scipy.spatial.transform import Rotation
from weights import phantom

from connectome_tl.imaging.preprocess.gradient_check import AS_IT_STANDS, lengths_of_tables, table_problem
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.simulation.phantom import PhantomSettings, gradients, make_anatomy, make_head, random_poses

DATA = Path(os.environ.get("CONNECTOME_TL_DATA", "../shared/data"))
SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), region_radius=6.0)
TABLES = tuple(((0.0, 4), (b, n)) for b, n in ((1000.0, 6), (1000.0, 12), (1000.0, 40), (3000.0, 40)))
CUBE = 16  # voxels


def phantoms(seed: int) -> Iterator[tuple[str, Dwi]]:
    rng = np.random.default_rng([seed, 1])
    for shells in TABLES:
        for snr in (5.0, 12.0, 25.0):
            head = make_head(make_anatomy(replace(SMALL, shells=shells, snr=snr, seed=seed)), seed=seed)
            dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
            yield "phantom", dwi
        data = dwi.data.copy()
        for _ in range(dwi.n_volumes):
            data[:, :, rng.integers(data.shape[2]), rng.integers(data.shape[3])] *= rng.uniform(0, 0.6)
        yield "phantom, dropouts", replace(dwi, data=data)


def moved(seed: int) -> Iterator[tuple[str, Dwi]]:
    for shells in TABLES[:3]:
        for size in (1.0, 2.0, 3.0, 5.0):
            poses = random_poses(sum(n for _, n in shells), size, seed=seed)
            head = make_head(make_anatomy(replace(SMALL, shells=shells, seed=seed)), seed=seed, poses=poses)
            yield f"motion, {size:g} mm", Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)


def fibres(seed: int) -> Iterator[tuple[str, Dwi]]:
    rng = np.random.default_rng([seed, 2])
    image = nib.load(DATA / "tractseg_peaks" / "peaks.nii.gz")
    peaks = image.get_fdata().reshape(*image.shape[:3], 3, 3)
    fa = nib.load(DATA / "tractseg_peaks" / "FA.nii.gz").get_fdata()
    size = np.linalg.norm(np.nan_to_num(peaks), axis=-1)
    mask = np.isfinite(peaks).all(axis=(-2, -1)) & (fa > 0) & (size.sum(axis=-1) > 0)
    along = peaks[mask] / np.maximum(size[mask], 1e-9)[..., None]
    share = np.clip(1.3 * fa[mask], 0, 0.8)[:, None] * size[mask] / size[mask].sum(axis=-1, keepdims=True)
    for number in (12, 30, 60):
        bvals, directions = gradients(((0.0, 3), (1000.0, number)), seed=seed)
        decay = np.exp(-bvals * (0.3e-3 + 1.4e-3 * (along @ directions.T) ** 2))
        signal = (share[..., None] * decay).sum(axis=1) + (1 - share.sum(axis=1))[:, None] * np.exp(-bvals * 0.9e-3)
        for snr in (6, 12, 30):
            data = np.zeros((*mask.shape, len(bvals)))
            data[mask] = signal
            noise = rng.normal(0, 1 / snr, (2, *data.shape))
            data = np.hypot(data + noise[0], noise[1]).astype(np.float32)
            yield f"fibres, SNR {snr}", Dwi(data, image.affine, bvals, directions, mask)


def heads(seed: int) -> Iterator[tuple[str, Dwi]]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 0.3, 3)).as_matrix()
    _, image, _, bvals, directions = Subject(seed % 10).scanned(pose)
    bright = image.data[..., 0] > 0.2 * np.quantile(image.data[..., 0], 0.98)
    yield "head", Dwi(image.data, image.affine, bvals, directions, bright)


def real(seed: int) -> Iterator[tuple[str, Dwi]]:
    rng = np.random.default_rng([seed, 3])
    for name in ("msmt_dwi", "dwi", "SIFT_phantom_dwi"):
        stem = DATA / "mrtrix_test_data" / "nii" / name
        dwi = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
        yield "real", dwi
        low = np.flatnonzero(~dwi.is_b0 & (dwi.bvals < 1500))
        low = low if len(low) > 20 else np.flatnonzero(~dwi.is_b0)
        for number in (6, 12, 20):
            yield "real, fewer", dwi.part(np.r_[np.flatnonzero(dwi.is_b0), rng.permutation(low)[:number]])
        for snr in (5, 10):
            noise = rng.normal(0, dwi.data[..., dwi.is_b0].mean() / snr, (2, *dwi.data.shape))
            data = np.hypot(dwi.data + noise[0], noise[1]).astype(np.float32)
            yield "real, noise", replace(dwi, data=data)


def bundles(seed: int) -> Iterator[tuple[str, Dwi]]:
    yield "bundles", phantom(seed)[0]


def parts(dwi: Dwi, rng: np.random.Generator) -> Iterator[tuple[str, Dwi]]:
    """Slabs along each axis, and a cube."""
    shape = np.array(dwi.mask.shape)
    sizes = [(n if k == axis else shape[k] for k in range(3)) for axis in range(3) for n in (2, 4)]
    for size in [*map(tuple, sizes), (CUBE,) * 3] if shape.min() > CUBE else map(tuple, sizes):
        start = [int(rng.integers(0, max(whole - part, 0) + 1)) for whole, part in zip(shape, size, strict=True)]
        cut = tuple(slice(at, at + part) for at, part in zip(start, size, strict=True))
        if dwi.mask[cut].sum() >= 100:
            yield ("cubes" if size == (CUBE,) * 3 else "slabs"), replace(dwi, data=dwi.data[cut], mask=dwi.mask[cut])


KINDS = {"phantom": phantoms, "motion": moved, "fibres": fibres, "bundles": bundles, "head": heads, "real": real}


def refusals(dwi: Dwi) -> dict[str, float]:
    """Whether the correct table and shares of the wrong ones are refused; the factor for long streamlines."""
    found = lengths_of_tables(dwi, tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=1500))))

    def refused(table: str) -> bool:
        said = table_problem(found | {AS_IT_STANDS: found[table], table: found[AS_IT_STANDS]}, dwi)
        return said is not None and said[1]

    flips = [name for name in found if name.startswith("flipped")]
    others = [name for name in found if name not in flips and name != AS_IT_STANDS]
    return {
        "series": 1,
        "correct refused": float(refused(AS_IT_STANDS)),
        "flips refused, %": 100 * float(np.mean([refused(name) for name in flips])),
        "other wrong refused, %": 100 * float(np.mean([refused(name) for name in others])),
        "largest factor of a correct table": max(found.values()) / max(found[AS_IT_STANDS], 1e-9),
        "longest, edges": max(found.values()) / dwi.voxel_mm3 ** (1 / 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[60])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    given = parser.parse_args()
    how = {
        "series": "sum",
        "correct refused": "sum",
        "longest, edges": "median",
        "largest factor of a correct table": "max",
    }
    for kind in given.kinds:
        rows = []
        for seed in given.seeds:
            rng = np.random.default_rng([seed, 4])
            for name, dwi in KINDS[kind](seed):
                rows.append({"kind": name, **refusals(dwi)})
                rows += [{"kind": f"{kind}, {part}", **refusals(cut)} for part, cut in parts(dwi, rng)]
        table = pd.DataFrame(rows).groupby("kind", sort=False)
        print(
            table.agg({name: how.get(name, "mean") for name in rows[0] if name != "kind"}).round(2).to_string(),
            flush=True,
        )
    print(f"CPU time {time.process_time():.0f} s")


if __name__ == "__main__":
    main()
