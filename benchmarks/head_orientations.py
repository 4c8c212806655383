"""One real head in other storage orders of its files, at other angles in the scanner, and with wrong headers.

    python benchmarks/head_orientations.py [--orders 14 38] [--turned z20 x90] [--headers bothMirror] [--out FOLDER]

A T1w head of IXI (2 mm, with skull and scalp) with a diffusion series of 2.5 mm that is simulated in it: bundles
between its regions, tissue and fluid by the intensities of the T1w. Another head of IXI with 145 labels is the
template. `connectomes` computes all scans in one folder, from raw files to matrices, without denoising and motion
correction. *Orders* (of 48): the axes of all files are stored in another order and direction, with correct affines and
b-vectors. *Turned*: the head is rotated in the scanner. *Headers*: affines state a wrong orientation. A scan is *found*
if its labels are as good as those of the first order (Dice at least 0.8 times), *stopped* if it is refused. About two
CPU minutes per scan. With `--out`, finished scans are kept. Data: CONNECTOME_TL_DATA.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
from anatomies import IXI, mean_dice, places_of
from scipy.ndimage import binary_closing, binary_fill_holes
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.read.gradients import golden_spiral
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume, write_volume
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels
from connectome_tl.provenance import write_json, write_table, write_text

_HEAD, _TEMPLATE = 0, 3  # of ten
_VOXEL_MM = 2.5
_BUNDLES, _RADIUS_MM = 14, 5.0
_ALONG, _ACROSS, _TISSUE, _FLUID = 1.7e-3, 0.4e-3, 0.9e-3, 3.0e-3  # mm2/s
_SNR = 30.0
_FOUND = 0.8  # of the Dice of the first order
CONFIG = """\
name: head
labels: template/labels.tsv
template:
  image: template/tpl-Head_T1w.nii.gz
  labels: template/tpl-Head_dseg.nii.gz
  mask: template/tpl-Head_mask.nii.gz
preprocessing: {denoise: none, motion: none}
registration: {nonlinear_mm: 2.5}
tracking: {n_streamlines: 3000, max_length_mm: 250}
"""


def whole_head(number: int) -> tuple[Volume, Volume, np.ndarray]:
    """T1w, labels, and brain, (x, y, z) bool."""
    file = sorted((IXI / "T1w").glob("*.nii.gz"))[number]
    image, labels = read_volume(file), read_labels(IXI / "labels" / file.name.replace("T1w", "labels"))
    brain = binary_fill_holes(binary_closing(np.pad(labels.data > 0, 4), iterations=2))[4:-4, 4:-4, 4:-4]
    return image, labels, np.asarray(brain)


class Subject:
    """The head, and bundles between its regions as curves in mm."""

    def __init__(self, number: int) -> None:
        self.image, self.labels, self.brain = whole_head(number)
        places, numbers = places_of(self.image), np.unique(self.labels.data[self.labels.data > 0])
        centres = np.array([places[self.labels.data == number].mean(axis=0) for number in numbers])
        rng, middle = np.random.default_rng(1), places[self.brain].mean(axis=0)
        apart = np.linalg.norm(centres[:, None] - centres, axis=2)
        pairs = np.argwhere(np.triu((apart > 40) & (apart < 90)))
        self.curves = []
        for a, b in pairs[rng.permutation(len(pairs))[:_BUNDLES]]:
            t = np.linspace(0, 1, 300)[:, None]
            control = 0.4 * (centres[a] + centres[b]) + 0.2 * middle
            self.curves.append((1 - t) ** 2 * centres[a] + 2 * t * (1 - t) * control + t**2 * centres[b])

    def scanned(self, pose: np.ndarray) -> tuple[Volume, Volume, Volume, np.ndarray, np.ndarray]:
        """T1w, diffusion data, labels on their grid, b-values and directions of the head in a pose, mm to mm."""
        back = Warp(np.linalg.inv(pose))
        t1w = self.image if np.array_equal(pose, np.eye(4)) else carry_image(back, self.image, self._grid(pose, 2.0, 8))
        grid = self._grid(pose, _VOXEL_MM, 3)
        labels = carry_labels(back, self.labels, grid)
        brain = Volume(self.brain.astype(np.float32), self.image.affine)
        mask = carry_image(back, brain, grid).data > 0.5
        bright = carry_image(back, self.image, grid).data / np.quantile(self.image.data[self.brain], 0.9)
        bvals = np.repeat([0.0, 1000.0], [3, 24])
        directions = np.vstack([np.zeros((3, 3)), golden_spiral(48)[:24]])
        inside = (places_of(grid)[mask] - pose[:3, 3]) @ pose[:3, :3]  # in the head's own frame
        fluid = np.clip((0.5 - bright[mask]) / 0.2, 0, 1)
        total, signal = np.zeros(len(inside)), np.zeros((len(inside), len(bvals)))
        for curve in self.curves:
            distance, nearest = cKDTree(curve).query(inside)
            share = 0.7 * np.clip((_RADIUS_MM - distance) / _VOXEL_MM + 0.5, 0, 1) * (1 - total)
            tangent = np.gradient(curve, axis=0)[nearest] @ pose[:3, :3].T
            tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
            decay = np.exp(-bvals * (_ACROSS + (_ALONG - _ACROSS) * (tangent @ directions.T) ** 2))
            signal += share[:, None] * decay
            total += share
        rest = 1 - total
        wet = np.minimum(fluid, rest)[:, None]
        signal += (rest[:, None] - wet) * np.exp(-bvals * _TISSUE)
        data = np.zeros((*grid.shape, len(bvals)))
        level = 700 * (1.6 - np.clip(bright[mask], 0.3, 1.2))[:, None]
        data[mask] = level * signal + 1600 * wet * np.exp(-bvals * _FLUID)
        sigma = data[mask][:, :3].mean() / _SNR
        noise = np.random.default_rng(2).normal(0, sigma, (2, *data.shape))
        data = np.sqrt((data + noise[0]) ** 2 + noise[1] ** 2).astype(np.float32)
        return t1w, Volume(data, grid.affine), labels, bvals, directions

    def _grid(self, pose: np.ndarray, voxel: float, air: int) -> Volume:
        """An empty image along the scanner's axes around the head (`voxel` of 2 mm) or the brain in a pose."""
        region = self.brain if voxel > 2 else self.image.data > 0.05 * self.image.data.max()
        moved = places_of(self.image)[region] @ pose[:3, :3].T + pose[:3, 3]
        low, high = moved.min(axis=0) - air * voxel, moved.max(axis=0) + air * voxel
        affine = np.diag([voxel, voxel, voxel, 1.0])
        affine[:3, 3] = low
        return Volume(np.zeros(np.ceil((high - low) / voxel).astype(int), np.float32), affine)


def all_orders() -> list[np.ndarray]:
    """The 48 signed permutations of three axes, (3, 3) each; the first is the identity."""
    found = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.zeros((3, 3), dtype=int)
        turn[list(order), range(3)] = signs
        found.append(turn)
    return sorted(found, key=lambda turn: (-np.linalg.det(turn), -np.trace(turn)))


def stored(image: Volume, order: np.ndarray) -> Volume:
    """The same image with its voxels in another order: axis k of the array is the axis of `image` in column k."""
    axes = [int(np.abs(order[:, k]).argmax()) for k in range(3)]
    data, affine = np.moveaxis(image.data, axes, range(3)), image.affine.copy()
    affine[:3, :3] = image.affine[:3, axes]
    for k in range(3):
        if order[axes[k], k] < 0:
            affine[:3, 3] += affine[:3, k] * (data.shape[k] - 1)
            affine[:3, k] *= -1
            data = np.flip(data, k)
    return Volume(np.ascontiguousarray(data), affine)


def write_scan(
    root: Path, name: str, t1w: Volume, dwi: Volume, bvals: np.ndarray, directions: np.ndarray,
    wrong: dict[str, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Write a scan; `wrong` has the rotations or reflections by which the affines of `anat` and `dwi` are wrong."""
    wrong = wrong or {}
    axes = dwi.affine[:3, :3] / np.sqrt((dwi.affine[:3, :3] ** 2).sum(axis=0))
    vectors = directions @ axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]  # FSL's convention
    folder = root / name
    for kind, ending, image in (("anat", "T1w", t1w), ("dwi", "dwi", dwi)):
        change = np.eye(4)
        if kind in wrong:
            middle = image.affine[:3, :3] @ ((np.array(image.shape[:3]) - 1) / 2) + image.affine[:3, 3]
            change[:3, :3] = wrong[kind]
            change[:3, 3] = middle - wrong[kind] @ middle
        write_volume(folder / kind / f"{name}_{ending}.nii.gz", image.data, change @ image.affine)
    write_text(folder / "dwi" / f"{name}_dwi.bval", " ".join(f"{b:.0f}" for b in bvals) + "\n")
    lines = (" ".join(f"{v:.6f}" for v in row) + "\n" for row in vectors.T)
    write_text(folder / "dwi" / f"{name}_dwi.bvec", "".join(lines))
    write_json(folder / "dwi" / f"{name}_dwi.json", {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05})


def write_template(root: Path) -> None:
    image, labels, brain = whole_head(_TEMPLATE)
    for ending, data in (("T1w", image.data), ("dseg", labels.data), ("mask", brain)):
        write_volume(root / "template" / f"tpl-Head_{ending}.nii.gz", data, image.affine)
    numbers = np.unique(labels.data[labels.data > 0])
    table = pd.DataFrame({"index": numbers, "name": [f"region {number}" for number in numbers]})
    write_table(root / "template" / "labels.tsv", table)
    write_json(root / "dataset_description.json", {"Name": "Head", "BIDSVersion": "1.10.1", "DatasetType": "raw"})


def poses() -> Iterator[tuple[str, np.ndarray]]:
    """Rotations of the head in the scanner, (3, 3) each, with a name."""
    for angle in (20, 45, 90):
        for axis, vector in (("x", (1, 0, 0)), ("z", (0, 0, 1)), ("diagonal", (0.577, 0.577, 0.577))):
            yield f"{axis}{angle}", Rotation.from_rotvec(np.multiply(angle, vector), degrees=True).as_matrix()


def headers() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Wrong affines of the images."""
    mirror, half = np.diag([-1.0, 1, 1]), np.diag([1.0, -1, -1])
    for said, wrong in (("Mirror", mirror), ("Half", half), ("Cycle", np.eye(3)[[1, 2, 0]])):
        yield f"anat{said}", {"anat": wrong}
        yield f"dwi{said}", {"dwi": wrong}
        yield f"both{said}", {"anat": wrong, "dwi": wrong}


class Results:
    """Labels and connectomes in an output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def has(self, name: str) -> bool:
        return any((self.out / f"sub-{name}").rglob("*_provenance.json"))

    def matrix(self, name: str, measure: str) -> np.ndarray:
        file = next((self.out / f"sub-{name}").rglob(f"*meas-{measure}_relmat.tsv"))
        return np.nan_to_num(pd.read_csv(file, sep="\t").to_numpy(dtype=float))

    def labels(self, name: str) -> np.ndarray:
        return read_labels(next((self.out / f"sub-{name}").rglob("*_dseg.nii.gz"))).data

    def warnings(self, name: str) -> list[str]:
        record = json.loads(next((self.out / f"sub-{name}").rglob("*_provenance.json")).read_text())
        return [line for line in record["Warnings"] if not line.startswith("exploratory")]

    def beside(self, name: str, first: str) -> str:
        """Correlations of edges with those of another scan: root of counts, and FA where both have ten streamlines."""
        upper = np.triu_indices(len(self.matrix(first, "count")), 1)
        one, two = (self.matrix(scan, "count")[upper] for scan in (name, first))
        fa, other = (self.matrix(scan, "FA")[upper] for scan in (name, first))
        strong = (one >= 10) & (two >= 10)
        r, r_fa = np.corrcoef(np.sqrt(one), np.sqrt(two))[0, 1], np.corrcoef(fa[strong], other[strong])[0, 1]
        return f"{(one != two).sum()} counts differ, r {r:.4f}; FA of {strong.sum()} strong edges r {r_fa:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, nargs="*", default=[14, 38])
    parser.add_argument("--turned", nargs="*", default=[])
    parser.add_argument("--headers", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = given.out or Path(name)
        root, out = base / "bids", base / "connectomes"
        subject = Subject(_HEAD)
        write_template(root)
        rest = subject.scanned(np.eye(4))
        truths = {"o00": rest[2]}
        write_scan(root, "sub-o00", rest[0], rest[1], rest[3], rest[4])
        for k in given.orders:
            order = all_orders()[k]
            truths[f"o{k:02d}"] = stored(rest[2], order)
            write_scan(root, f"sub-o{k:02d}", stored(rest[0], order), stored(rest[1], order), rest[3], rest[4])
        middle = places_of(subject.image)[subject.brain].mean(axis=0)
        for said, turn in poses():
            if said in given.turned:
                pose = np.eye(4)
                pose[:3, :3], pose[:3, 3] = turn, middle - turn @ middle
                scan = subject.scanned(pose)
                truths[said] = scan[2]
                write_scan(root, f"sub-{said}", scan[0], scan[1], scan[3], scan[4])
        for said, wrong in headers():
            if said in given.headers:
                truths[said] = rest[2]
                write_scan(root, f"sub-{said}", rest[0], rest[1], rest[3], rest[4], wrong)
        (root / "config.yaml").write_text(CONFIG)
        command = [str(Path(sys.executable).with_name("connectome-tl")), "connectomes", str(root), str(out)]
        command += ["participant", "--config", str(root / "config.yaml"), "--n-cpus", "1"]
        for said in truths:
            command += ["--participant-label", said]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        print(f"exit code {done.returncode}: {done.stderr.strip()}", flush=True)
        found = Results(out)
        best = mean_dice(found.labels("o00"), truths["o00"].data)
        for said, truth in truths.items():
            if not found.has(said):
                print(f"{said}: stopped")
                continue
            dice = mean_dice(found.labels(said), truth.data)
            word = "found" if dice >= _FOUND * best else "NOT FOUND"
            print(f"{said}: {word}, Dice {dice:.3f}, {found.beside(said, 'o00')} {found.warnings(said)}")
    print(f"CPU time {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s")


if __name__ == "__main__":
    main()
