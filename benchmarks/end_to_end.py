"""A raw BIDS folder of 4 subjects and 2 sessions, one command: time, planted edges, planted differences.

    python benchmarks/end_to_end.py [--seed 901] [--cpus 2] [--streamlines 20000]

Settings were chosen on anatomies 101 and 102; any other seed is new. For each scan: Spearman's correlation of edge
weights with planted cross-sections over the planted edges, and the share of weight on edges that do not exist. For
subjects: the agreement of differences of log weight between two subjects with the planted differences, over planted
edges, with sessions averaged; and the same between two sessions of one subject, where the true difference is 0.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom

CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
tracking: {{n_streamlines: {n}}}
"""
MINUTES, RHO = 10.0, 0.8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=901)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--streamlines", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name) / "bids", Path(name) / "out"
        write_phantom(root, n_subjects=4, n_sessions=2, settings=PhantomSettings(seed=options.seed))
        (root / "config.yaml").write_text(CONFIG.format(n=options.streamlines))
        program = Path(sys.executable).with_name("connectome-tl")
        command = [str(program), "connectomes", str(root), str(out), "participant"]
        command += ["--config", str(root / "config.yaml"), "--n-cpus", str(options.cpus)]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        minutes = (time.perf_counter() - start) / 60
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cohort = read_cohort(out / "cohort.yaml")
        truth = pd.read_csv(root / "derivatives" / "truth" / "edges.tsv", sep="\t")
    edges = truth[truth["participant_id"] == "sub-01"]
    a, b = ([cohort.regions.index(region) for region in edges[end]] for end in ("a", "b"))
    planted = {s: part["strength_mm2"].to_numpy() for s, part in truth.groupby("participant_id")}
    counts = cohort.weights[:, cohort.measures.index("count")]
    print(f"anatomy {options.seed}: {len(a)} planted edges among {len(cohort.regions)} regions")
    print("scan               Spearman  found  false weight")
    rhos, logs = [], {}
    for scan, weights in zip(cohort.ids, counts, strict=True):
        on = weights[a, b]
        rhos.append(float(spearmanr(on, planted[scan[:6]]).statistic))
        logs[scan] = np.log(on + 1.0)
        print(f"{scan}  {rhos[-1]:8.2f}  {(on > 0).mean():5.2f}  {1 - 2 * on.sum() / weights.sum():12.2f}")
    means = {s: np.mean([log for scan, log in logs.items() if scan.startswith(s)], axis=0) for s in planted}
    pairs = list(itertools.combinations(planted, 2))
    found = [float(spearmanr(means[p] - means[q], np.log(planted[p] / planted[q])).statistic) for p, q in pairs]
    signs = [((means[p] - means[q]) * np.log(planted[p] / planted[q]) > 0).mean() for p, q in pairs]
    between = np.mean([np.std(means[p] - means[q]) for p, q in pairs])
    within = np.mean([np.std(logs[f"{s}_ses-01"] - logs[f"{s}_ses-02"]) for s in planted])
    print(
        f"differences between subjects: Spearman {np.mean(found):.2f} (least {min(found):.2f} of {len(pairs)} pairs), "
        f"right sign {np.mean(signs):.2f}; spread {between:.2f} between, {within:.2f} within subjects"
    )
    cpu = (used.ru_utime + used.ru_stime) / 60
    print(f"wall clock {minutes:.1f} min on {options.cpus} CPUs, {cpu:.1f} CPU minutes")
    verdicts = {
        f"under {MINUTES:.0f} minutes": minutes < MINUTES,
        f"Spearman at least {RHO} in every scan (least {min(rhos):.2f})": min(rhos) >= RHO,
        "differences between subjects recovered (every pair above 0.5)": min(found) > 0.5,
    }
    for what, true in verdicts.items():
        print(f"{'yes' if true else 'NO '}  {what}")
    sys.exit(0 if all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
