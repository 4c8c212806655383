"""Predicted (`run --dry-run`) and actual CPU time and memory of five small studies.

    python benchmarks/predicted_cost.py [--quick] [--out FOLDER]

The studies differ in the steps that take most of the time: networks of three stages; closed-form fits, permutations and
bootstrap refits of one cohort; seeds, inner folds and permuted networks; a learning curve, and networks
refitted and permuted, with a source; networks on volumes. Each is predicted and then run in a separate process, on one
thread. The steps that differ by more than a factor of 2 and 2 s are listed. The duration of the prediction is printed.
Finished studies are not run again: give --out to resume. The measure: every prediction within a factor of 2.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.workflows.demos.volumes import HEALTHY, NEWBORNS
from connectome_tl.workflows.progress import Steps

STUDIES = {
    "networks": """\
source: {cohort: source/cohort.yaml, tasks: [age, sex]}
pool: {cohort: pool/cohort.yaml}
target: {cohort: target/cohort.yaml, tasks: [cognitive, motor_score]}
splits: {repeats: %d, outer: 3}
stages: {pretrain: {training: {steps: 120}}, adapt: {training: {steps: 60}}, finetune: {training: {steps: 120}}}
controls: [scratch, no_pretrain]
refits: {linear: 0}
""",
    "closed_form": """\
target: {cohort: target/cohort.yaml, tasks: [cognitive, cognitive_score]}
splits: {repeats: %d, outer: 4}
stages: {finetune: {training: {steps: 20}}}
controls: []
permutations: 199
baseline_permutations: 99
refits: {linear: 100}
""",
    "seeds": """\
target: {cohort: target/cohort.yaml, tasks: [cognitive]}
splits: {repeats: %d, outer: 3, inner: 3}
stages: {finetune: {training: {steps: 100}}}
model: {encoder: {kind: flat, widths: [32, 16]}}
controls: [no_clinical]
n_seeds: 2
network_permutations: 4
refits: {linear: 20}
""",
    "refitted": """\
source: {cohort: source/cohort.yaml, tasks: [age, sex]}
target: {cohort: target/cohort.yaml, tasks: [cognitive]}
splits: {repeats: %d, outer: 2}
stages: {pretrain: {training: {steps: 80}}, finetune: {training: {steps: 80}}}
controls: []
refits: {linear: 20, network: 2}
network_permutations: 2
permutations: 99
learning_curve: [12, 14]
""",
    "volumes": """\
source: {cohort: healthy/cohort.yaml, tasks: [age]}
target: {cohort: newborns/cohort.yaml, tasks: [injury]}
image: {size: 28, voxel: 5.5, centre: image}
model: {encoder: {kind: resnet, width: 0.125, stem_stride: 2}, fused_width: 16}
stages:
  pretrain: {training: {steps: 40, batch_size: 16}}
  finetune: {training: {steps: 60, batch_size: 16}, ensemble: {networks: 2}}
splits: {repeats: %d, outer: 2}
controls: [scratch]
baselines: [prevalence, volumes, pca_gpr]
refits: {linear: 0}
""",
}
FACTOR, SMALL = 2.0, 2.0  # SMALL: CPU seconds by which a step may differ


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one repeat of each")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("STUDY", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(Path(options.one[0]), options.one[1])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        sys.exit(0 if _all(out, repeats=1 if options.quick else 2) else 1)


def _all(out: Path, *, repeats: int) -> bool:
    if not (out / "target").is_dir():
        study = simulate_study(seed=3, n_source=80, n_pool=40, n_target=33)
        for role in ("source", "pool", "target"):
            write_cohort(getattr(study, role), out / role)
        write_volume_cohort(40, HEALTHY, out / "healthy", name="healthy", seed=1)
        write_volume_cohort(30, NEWBORNS, out / "newborns", name="newborn", outcomes=("injury",), seed=2)
    right = True
    print("study         predicted   measured   factor   memory predicted, measured   prediction took")
    for name, text in STUDIES.items():
        file, known = out / f"{name}.yaml", out / f"{name}.json"
        file.write_text(text % repeats + "n_jobs: 1\n")
        if not known.is_file():
            known.write_text(json.dumps({what: _elsewhere(file, what) for what in ("predict", "run")}))
        found = json.loads(known.read_text())
        said, was = found["predict"], found["run"]
        factor = said["predicted"] / was["cpu"]
        memory = said["memory"] / was["memory"]
        good = all(1 / FACTOR <= one <= FACTOR for one in (factor, memory))
        right = right and good
        held = f"{said['memory'] / 1e9:10.2f} GB {was['memory'] / 1e9:6.2f} GB"
        times = f"{said['predicted']:9.1f} s {was['cpu']:8.1f} s {factor:8.2f}"
        print(f"{name:12} {times}   {held} {said['cpu']:18.1f} s  {'' if good else 'NO'}")
        for step, actual in was["steps"].items():
            guess = said["steps"].get(step.replace("core model", "core"), 0.0)
            if abs(guess - actual) > SMALL and not 1 / FACTOR <= guess / max(actual, 1e-9) <= FACTOR:
                print(f"    {step}: predicted {guess:.1f} s, measured {actual:.1f} s")
    print(f"{'yes' if right else 'NO '}  every prediction within a factor of {FACTOR:g}")
    return right


def _elsewhere(file: Path, what: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(file), what]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _one(file: Path, what: str) -> dict[str, Any]:
    """Predict or run a study in this process; CPU seconds, by step too, and bytes at the peak."""
    from connectome_tl.workflows.study import run
    from connectome_tl.workflows.study.forecast import forecast_study

    start, found = time.process_time(), {}
    if what == "predict":
        forecast = forecast_study(file, file.with_suffix(""))
        steps = dict(forecast.steps) | {"fitting models": sum(count.seconds for count in forecast.fits)}
        found = {"predicted": forecast.seconds, "memory": forecast.memory, "steps": steps}
    else:
        found = {"steps": (steps := {})}
        vars(run)["Steps"] = partial(_TimedSteps, seconds=steps)
        run.run_study(file, file.with_suffix(""))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return {"cpu": time.process_time() - start, "memory": peak, **found}


class _TimedSteps(Steps):
    """Steps whose CPU seconds are kept by name."""

    def __init__(self, *, shown: bool, seconds: dict[str, float]) -> None:
        super().__init__(shown=shown)
        self._seconds = seconds

    @contextmanager
    def counted(self, name: str) -> Iterator[Any]:
        start = time.process_time()
        with super().counted(name) as update:
            yield update
        self._seconds[name] = time.process_time() - start


if __name__ == "__main__":
    main()
