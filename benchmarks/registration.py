"""Labels of the phantom's template carried into subjects: Dice before, after affine and after SyN, CPU seconds.

python benchmarks/registration.py [--subjects 3]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from connectome_tl.imaging.images import Volume
from connectome_tl.imaging.registration import Warp, carry_labels, register, register_affine
from connectome_tl.settings.imaging import RegistrationSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    numbers = np.unique(truth[truth > 0])
    pairs = [((found == n), (truth == n)) for n in numbers]
    return float(np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=int, default=3)
    options = parser.parse_args()
    # One grid for images and labels, so that the template's labels need no second table.
    anatomy = make_anatomy(PhantomSettings(voxel=2.0, anatomical_voxel=2.0))
    template = make_head(anatomy, still=True)
    moving = Volume(template.t2w, template.t2w_affine)
    labels = Volume(template.labels.astype(np.int32), template.affine)
    settings = RegistrationSettings()
    print("contrast   before  affine     s     SyN     s")
    for contrast in ("same", "inverted"):
        rows = []
        for seed in range(options.subjects):
            head = make_head(anatomy, seed=seed + 1)
            image = head.t2w if contrast == "same" else np.where(head.mask, 1400 - head.t2w, 0)
            fixed = Volume(image.astype(np.float32), head.t2w_affine)
            grid = Volume(head.labels, head.affine)
            start = time.process_time()
            affine = register_affine(fixed, moving, settings)
            middle = time.process_time()
            whole = register(fixed, moving, settings)
            end = time.process_time()
            dice = [
                mean_dice(carry_labels(w, labels, grid).data, head.labels) for w in (Warp(np.eye(4)), affine, whole)
            ]
            rows.append((dice[0], dice[1], middle - start, dice[2], end - middle))
        a, b, c, d, e = np.median(rows, axis=0)
        print(f"{contrast:9s} {a:7.2f} {b:7.2f} {c:5.1f} {d:7.2f} {e:5.1f}")


if __name__ == "__main__":
    main()
