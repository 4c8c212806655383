"""Agreement of edges with the cross-sections of bundles in independent phantoms, for each preprocessing step.

    python benchmarks/weights.py [--seeds 10] [--streamlines 20000] [--quick] [--mrtrix] [--keep FOLDER]

The phantoms share no code with `connectome_tl.simulation`: an ellipsoid of 90 x 105 x 80 mm in voxels of 2.5 mm, with
random orientation; seven curved bundles (sticks and zeppelins) whose cross-sections increase by a factor of 1.25 each,
in random order and with random ends; grey matter, two ventricles; coil bias of 20 %, Rician noise, SNR 25; shells of
1000 and 2600 s/mm2. Reported per step: rank correlation of the seven edges with the cross-sections, and the mean
relative error after one common scale, for counts and for fitted weights (`tracking.weights: fibre_density`), with
--mrtrix also for MRtrix3's counts and SIFT2 on the same data and response.

The design was fixed before any result, with one exception: in the first design up to five bundles crossed in the
centre, where no cross-section is preserved and MRtrix3 with SIFT2 failed as well (rank correlation 0.61, error 0.29 on
seed 0). Now at most two cross. The fit was developed on seeds 100 and 101, where its penalty had little effect. With
--keep, finished parts are not repeated (use an empty folder for another version of the code).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from connectome_tl.connectome.assemble import RegionTable, assemble, joins_two_regions
from connectome_tl.imaging.preprocess.denoising import preprocess
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.track.fibre_density import streamline_weights
from connectome_tl.imaging.track.mrtrix import track_with_mrtrix
from connectome_tl.imaging.track.reconstruction import deconvolve, estimate_response
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.track.tractography import track
from connectome_tl.provenance import write_json
from connectome_tl.settings.imaging import (
    ConnectomesSettings,
    PreprocessingSettings,
    ReconstructionSettings,
    TrackingSettings,
)

HALF_AXES = np.array([45.0, 52.5, 40.0])
VOXEL = 2.5
AREAS = 30.0 * 1.25 ** np.arange(7)  # mm2
GREY, REGION = 5.0, 7.0  # mm: thickness of the cortex, radius of a region
SNR = 25.0
REGIONS = RegionTable(tuple(f"R{number:02d}" for number in range(1, 15)), tuple(range(1, 15)))
NOTHING = {"denoise": "none", "gibbs": "none", "motion": "none", "bias": False}
STEPS = {
    "as acquired": {},
    "mppca": {"denoise": "mppca"},
    "gibbs": {"gibbs": "dipy"},
    "motion": {"motion": "rigid"},
    "bias": {"bias": True},
    "mppca, motion": {"denoise": "mppca", "motion": "rigid"},
}


def phantom(seed: int) -> tuple[Dwi, np.ndarray, np.ndarray]:
    """Data, labels (2k + 1 and 2k + 2 are the ends of bundle k), and the cross-section of each bundle in mm2."""
    rng = np.random.default_rng((77, seed))
    areas = rng.permutation(AREAS)
    lines = _lines(rng, areas)
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    reach = np.sqrt(((turn * HALF_AXES) ** 2).sum(axis=1))
    shape = np.ceil(2 * (reach + 4) / VOXEL).astype(int)
    affine = np.diag([-VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    table = _table(rng)
    signal = np.zeros((*shape, len(table)))
    centre = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    n_sub = 3
    offsets = (np.stack(np.meshgrid(*[np.arange(n_sub)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5) / n_sub - 0.5
    for offset in offsets * VOXEL:
        signal += _tissue_signal((centre + offset) @ turn, lines, areas, table, turn) / len(offsets)
    place = centre @ turn / HALF_AXES
    mask = (place**2).sum(axis=-1) < 1
    field = 1 + 0.2 * np.sin(2 * place[..., 0] + place[..., 1] + rng.uniform(0, 6))
    noise = 1000.0 / SNR * rng.standard_normal((2, *signal.shape))
    data = np.hypot(signal * field[..., None] * 1000 + noise[0], noise[1]).astype(np.float32)
    labels = np.zeros(shape, dtype=np.int32)
    ends = np.array([line[at] for line in lines for at in (0, -1)])
    distance = np.linalg.norm((centre @ turn)[..., None, :] - ends, axis=-1)
    near = (distance.min(axis=-1) < REGION) & mask
    labels[near] = distance.argmin(axis=-1)[near] + 1
    return Dwi(data, affine, table[:, 3], table[:, :3], mask), labels, areas


def _lines(rng: np.random.Generator, areas: np.ndarray) -> list[np.ndarray]:
    """Seven quadratic curves between points near the surface, ends at least 15 mm apart; two of them may cross.

    A cross-section is preserved only if fibres do not compete for space: no three bundles meet, and two meet at 45
    degrees or more and over a quarter of their lengths at most.
    """
    inner, t = HALF_AXES - 4.0, np.linspace(0, 1, 160)[:, None]
    lines: list[np.ndarray] = []
    for _ in range(100_000):
        a, b = (point / np.linalg.norm(point) * inner for point in rng.standard_normal((2, 3)))
        line = (1 - t) ** 2 * a + 2 * t * (1 - t) * (0.4 * (a + b) + rng.uniform(-8, 8, 3)) + t**2 * b
        others = np.array([other[at] for other in lines for at in (0, -1)]).reshape(-1, 3)
        near = [np.linalg.norm(others - end, axis=1) < 15 for end in (a, b)]
        if np.linalg.norm(a - b) > 35 and not np.any(near) and _has_room(line, lines, areas):
            lines.append(line)
        if len(lines) == len(areas):
            return lines
    raise RuntimeError("no layout was found")


def _has_room(line: np.ndarray, lines: list[np.ndarray], areas: np.ndarray) -> bool:
    radii = np.sqrt(areas / np.pi)
    meets = np.zeros(len(line), dtype=int)
    for other, radius in zip(lines, radii, strict=False):
        gap = np.linalg.norm(line[:, None] - other, axis=2)
        close = gap < radius + radii[len(lines)] + 1
        tangents = [np.gradient(one, axis=0) for one in (line, other)]
        tangents = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in tangents]
        if close.any() and np.abs(tangents[0] @ tangents[1].T)[close].max() > np.cos(np.pi / 4):
            return False
        if max(close.any(axis=1).mean(), close.any(axis=0).mean()) > 0.25:
            return False
        meets += close.any(axis=1)
        if any(
            (close.any(axis=0) & (np.linalg.norm(other[:, None] - third, axis=2).min(axis=1) < radius + r + 1)).any()
            for third, r in zip(lines, radii, strict=False)
            if third is not other
        ):
            return False
    return bool(meets.max(initial=0) <= 1)


def _table(rng: np.random.Generator) -> np.ndarray:
    """(n_volumes, 4): direction and b-value."""
    rows = [np.column_stack([np.zeros((6, 3)), np.zeros(6)])]
    for bval, n in ((1000.0, 32), (2600.0, 48)):
        points = rng.standard_normal((n, 3))
        for _ in range(200):  # electrostatic repulsion, including antipodes
            points /= np.linalg.norm(points, axis=1, keepdims=True)
            every = np.concatenate([points, -points])
            away = points[:, None] - every
            size = np.linalg.norm(away, axis=2, keepdims=True)
            points = points + 0.02 * np.where(size > 1e-9, away / np.maximum(size, 1e-3) ** 3, 0).sum(axis=1) / n
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        rows.append(np.column_stack([points, np.full(n, bval)]))
    return np.concatenate(rows)


def _tissue_signal(
    points: np.ndarray, lines: list[np.ndarray], areas: np.ndarray, table: np.ndarray, turn: np.ndarray
) -> np.ndarray:
    """Signal of points in the phantom's own axes; gradients are in the scanner's."""
    bval, gradients = table[:, 3], table[:, :3] @ turn
    shape, points = points.shape[:3], points.reshape(-1, 3)
    depth = 1 - np.sqrt(((points / HALF_AXES) ** 2).sum(axis=1))
    out = np.zeros((len(points), len(bval)))
    head = depth > 0
    fluid = (np.linalg.norm((np.abs(points) - (9, 0, 4)) / (4, 12, 5), axis=1) < 1) & head
    grey = head & (depth * HALF_AXES.mean() < GREY)
    matrix = head & ~fluid & ~grey
    out[fluid] = 2.2 * np.exp(-bval * 3.0e-3)
    out[grey] = 1.3 * np.exp(-bval * 0.95e-3)
    out[matrix] = 1.15 * np.exp(-bval * 1.05e-3)  # unmyelinated white matter: no direction
    fibres = np.zeros_like(out)
    count = np.zeros(len(points))
    for line, area in zip(lines, areas, strict=True):
        radius = np.sqrt(area / np.pi)
        box = ((points > line.min(axis=0) - radius) & (points < line.max(axis=0) + radius)).all(axis=1)
        near = np.flatnonzero(head & box)
        gap = np.linalg.norm(points[near, None] - line, axis=2)
        best, inside = gap.argmin(axis=1), gap.min(axis=1) < radius
        tangent, here = np.gradient(line, axis=0)[best[inside]], near[inside]
        cosine = (tangent / np.linalg.norm(tangent, axis=1, keepdims=True)) @ gradients.T
        stick = np.exp(-bval * 1.7e-3 * cosine**2)
        zeppelin = np.exp(-bval * (0.7e-3 + 1.0e-3 * cosine**2))
        fibres[here] += 0.45 * stick + 0.55 * zeppelin
        count[here] += 1
    some = count > 0
    out[some] = fibres[some] / count[some, None]
    return out.reshape(*shape, -1)


def error(found: np.ndarray, areas: np.ndarray) -> tuple[float, float]:
    """Rank correlation, and mean relative error after the best common scale."""
    if not found.any():
        return 0.0, 1.0
    scale = (found / areas).sum() / ((found / areas) ** 2).sum()
    return float(spearmanr(found, areas).statistic), float(np.abs(scale * found / areas - 1).mean())


def measured(
    raw: tuple[Dwi, np.ndarray, np.ndarray], step: str, n_streamlines: int, *, mrtrix: bool
) -> dict[str, tuple[float, float]]:
    acquired, labels, areas = raw
    dwi, _ = preprocess(acquired, PreprocessingSettings.model_validate({**NOTHING, **STEPS[step]}))
    reconstruction, tracking = ReconstructionSettings(), TrackingSettings(n_streamlines=n_streamlines)
    maps = tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=reconstruction.tensor_max_b)))
    response = estimate_response(dwi, maps, reconstruction)
    orientations = deconvolve(dwi, response, reconstruction)
    lines = track(orientations, dwi.mask, tracking).streamlines
    joined = joins_two_regions(reduce_streamlines([from_list(lines)]), Volume(labels, dwi.affine), REGIONS)
    fitted = streamline_weights(lines, orientations, dwi.mask, tracking.fod_cutoff, used=joined)
    out = {"count": error(_edges(lines, None, labels, dwi), areas)}
    out["fitted"] = error(_edges(lines, fitted, labels, dwi), areas)
    if mrtrix:
        settings = ConnectomesSettings(engine="mrtrix3", tracking=tracking)
        lines, sift2, _ = track_with_mrtrix(dwi, response, settings)
        out["MRtrix3 count"] = error(_edges(lines, None, labels, dwi), areas)
        out["MRtrix3 SIFT2"] = error(_edges(lines, sift2, labels, dwi), areas)
    return out


def _edges(lines: list[np.ndarray], weights: np.ndarray | None, labels: np.ndarray, dwi: Dwi) -> np.ndarray:
    """Weight of the seven true edges."""
    ends = reduce_streamlines([from_list(lines)])
    matrix = assemble(ends, Volume(labels, dwi.affine), REGIONS, weights=weights).connectome.weights[0]
    return np.asarray(matrix[np.arange(0, 14, 2), np.arange(1, 14, 2)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--streamlines", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="one seed, as acquired and after MP-PCA")
    parser.add_argument("--mrtrix", action="store_true", help="MRtrix3's numbers too")
    parser.add_argument("--keep", type=Path, help="folder for finished parts; a second run resumes from it")
    options = parser.parse_args()
    n_seeds, steps = (1, ["as acquired", "mppca"]) if options.quick else (options.seeds, list(STEPS))
    start = time.process_time()
    found: dict[str, list[dict[str, tuple[float, float]]]] = {step: [] for step in steps}
    for seed in range(n_seeds):
        raw = None
        for step in steps:
            part = f"{step.replace(', ', '_').replace(' ', '_')}_{options.streamlines}_{seed}.json"
            file = None if options.keep is None else options.keep / part
            if file is None or not file.is_file():
                raw = raw or phantom(seed)
                one = measured(raw, step, options.streamlines, mrtrix=options.mrtrix)
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_json(file, one)
            else:
                one = json.loads(file.read_text())
            found[step].append(one)
    print(
        f"{n_seeds} seeds, {options.streamlines} streamlines, cross-sections {', '.join(f'{a:.0f}' for a in AREAS)} mm2"
    )
    print(f"{'step':16s} {'weights':16s} {'Spearman':>9s} {'worst':>6s} {'error':>6s} {'worst':>6s}")
    verdicts: dict[str, bool] = {}
    for step, every in found.items():
        for name in every[0]:
            rho, wrong = np.array([one[name] for one in every]).T
            print(f"{step:16s} {name:16s} {rho.mean():9.2f} {rho.min():6.2f} {wrong.mean():6.2f} {wrong.max():6.2f}")
            if name == "fitted":
                what = f"{step}: fitted weights, mean Spearman at least 0.9 and mean error under 0.2"
                verdicts[what] = bool(rho.mean() >= 0.9 and wrong.mean() < 0.2)
    print(f"{(time.process_time() - start) / 60:.1f} CPU minutes (without MRtrix3's own)")
    for what, true in verdicts.items():
        print(f"{'yes' if true else 'NO '}  {what}")
    sys.exit(0 if all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
