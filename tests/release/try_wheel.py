"""Build sdist and wheel, install the wheel into an empty environment for each extra, and try it from another folder.

    python tests/release/try_wheel.py [base] [learn] [voxel]                 # `make wheel-test` tries all three
    python tests/release/try_wheel.py learn --work DIR                       # keep environments and results in DIR
    python tests/release/try_wheel.py learn voxel --quick                    # small studies in place of the demos
    python tests/release/try_wheel.py learn --here                           # bundle made by this checkout

`base` works without torch. `learn` runs the demo, packs its model, and applies the bundle in another environment that
begins without torch: `predict` refuses there, the printed remedy is applied, and predictions must then equal those of
the study's fits to 1e-6. `voxel` does the same with the demo on volumes. With `--here`, demo and bundle are made by
this checkout in the environment that runs the script, and only `predict` and `validate` by the wheel.

Needs the package index that pip is configured for. Prints one line per step; ends with 1 at the first failure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(sys.executable).parent
NEEDED = (
    "connectome_tl/py.typed",
    "connectome_tl/_packaged/atlases/aal90/regions.tsv",
    "connectome_tl/_packaged/configs/example/study.yaml",
    "connectome_tl/report/templates/",
)


def run(*words: object, cwd: Path, code: int = 0) -> str:
    """Run a command, print how long it took, and return what it printed."""
    line, started = [str(word) for word in words], time.monotonic()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if Path(line[0]).parent == HERE:  # the checkout; other environments must find the wheel
        environ["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(line, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    print(f"{time.monotonic() - started:7.1f} s  {' '.join(' '.join(line).split())[:110]}", flush=True)
    if done.returncode != code:
        sys.exit(f"expected exit code {code}, got {done.returncode}:\n{said[-4000:]}")
    return said


def environment(folder: Path) -> Path:
    """An empty virtual environment, or the one of an earlier call; returns its folder of commands."""
    if not (folder / "bin").is_dir():
        venv.create(folder, with_pip=True)
    return folder / "bin"


def build(work: Path) -> Path:
    """The wheel, built from the sdist; both must contain the files that the package reads."""
    commands = environment(work / "tools")
    pip = (commands / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    run(*pip, "build", cwd=work)
    run(commands / "python", "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
    (wheel,) = (work / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in NEEDED:
        if not any(name.startswith(needed) for name in names):
            sys.exit(f"{wheel.name} lacks {needed}")
    return wheel


def install(work: Path, wheel: Path, extra: str, name: str = "") -> Path:
    """The command `connectome-tl` of an environment with the wheel and one extra, or none."""
    commands = environment(work / f"env-{name or extra or 'base'}")
    pip = (commands / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    if extra:
        run(*pip, "torch==2.13.0", cwd=work)
    run(*pip, f"{wheel}[{extra}]" if extra else wheel, cwd=work)
    # A wheel of the same version that was installed here before.
    run(*pip, "--force-reinstall", "--no-deps", wheel, cwd=work)
    return commands / "connectome-tl"


def names_of_commands(command: Path, cwd: Path) -> list[list[str]]:
    """Every command and subcommand, as words."""
    code = (
        "import typer; from connectome_tl.cli.entry import app\n"
        "for n, c in typer.main.get_command(app).commands.items():\n"
        "    for s in getattr(c, 'commands', {'': 0}): print(n, s)"
    )
    said = run(command.parent / "python", "-c", code, cwd=cwd)
    return [line.split() for line in said.splitlines()]


def maker_of(work: Path, wheel: Path, extra: str, *, here: bool) -> Path:
    """The command that makes demo and bundle: of this checkout, or of an environment with the wheel."""
    return HERE / "connectome-tl" if here else install(work, wheel, extra)


def try_base(work: Path, wheel: Path, cwd: Path, *, quick: bool, here: bool) -> None:
    """Help of all commands; conversion and checks of a cohort; a clear message where torch is needed."""
    del quick, here
    command = install(work, wheel, "")
    for words in names_of_commands(command, cwd):
        run(command, *words, "--help", cwd=cwd)
    code = (
        "from connectome_tl import simulate_study, write_cohort\n"
        "write_cohort(simulate_study(n_source=4, n_pool=4, n_target=24).target, 'cohort')"
    )
    run(command.parent / "python", "-c", code, cwd=cwd)
    (cwd / "matrix.csv").write_text("\n".join(",".join("01"[i != j] for j in range(90)) for i in range(90)) + "\n")
    run(command, "convert", "matrix.csv", "--out", "matrix.tsv", "--atlas", "aal90", cwd=cwd)
    run(command, "cohort", "cohort/cohort.yaml", "--report", "cohort.html", cwd=cwd)
    run(command, "power", "--n", "33", "--share", "0.3", cwd=cwd)
    run(command, "init", "settings", cwd=cwd)
    (cwd / "study.yaml").write_text("target: {cohort: cohort/cohort.yaml}\n")
    refused(command, "run", "study.yaml", "--out", "run", cwd=cwd, extra="learn")
    refused(command, "predict", "bundle", "cohort/cohort.yaml", "--out", "p.tsv", cwd=cwd, extra="learn")


def refused(command: Path, *words: object, cwd: Path, extra: str) -> None:
    """The command must end with exit code 66 and name the required extra."""
    said = run(command, *words, cwd=cwd, code=66)
    if f"pip install 'connectome-tl[{extra}]'" not in said:
        sys.exit(f"no word about the extra:\n{said}")


def try_learn(work: Path, wheel: Path, cwd: Path, *, quick: bool, here: bool) -> None:
    """The demo, from simulated cohorts to the report; its bundle applied to other infants in a fresh environment."""
    maker = maker_of(work, wheel, "learn", here=here)
    demo(maker, cwd, quick=quick)
    code = (
        "from connectome_tl import simulate_study, write_cohort\n"
        "from dataclasses import replace\n"
        "other = simulate_study(seed=1).target\n"
        "other.site[:] = 'elsewhere'\n"
        "write_cohort(replace(other, name='others'), 'others')"
    )
    run(maker.parent / "python", "-c", code, cwd=cwd)
    applied_elsewhere(work, wheel, maker, cwd, extra="learn")


def try_voxel(work: Path, wheel: Path, cwd: Path, *, quick: bool, here: bool) -> None:
    """The demo on volumes; its bundle applied to other volumes in a fresh environment."""
    maker = maker_of(work, wheel, "voxel", here=here)
    demo(maker, cwd, "--images", quick=quick)
    code = (
        "from dataclasses import replace\n"
        "from connectome_tl.simulation.volume_cohorts import write_volume_cohort\n"
        "from connectome_tl.workflows.demos.volumes import NEWBORNS\n"
        "write_volume_cohort(24, NEWBORNS, 'others', name='other', outcomes=('injury',), seed=99)"
    )
    run(maker.parent / "python", "-c", code, cwd=cwd)
    applied_elsewhere(work, wheel, maker, cwd, extra="voxel")


def demo(command: Path, cwd: Path, *options: str, quick: bool) -> None:
    """The demo into `demo/`; in short, its cohorts with one repeat, few steps, few baselines and no refits."""
    if not quick:
        run(command, "demo", *options, "--out", "demo", "--quiet", cwd=cwd)
        return
    run(command.parent / "python", "-c", SHORT_DEMO, *options, cwd=cwd)
    run(command, "run", "demo/study/study.yaml", "--out", "demo/run", "--quiet", cwd=cwd)


def applied_elsewhere(work: Path, wheel: Path, maker: Path, cwd: Path, *, extra: str) -> None:
    """Bundle `demo/run`, apply it to `others/` in a fresh environment, and compare with the fits of the study."""
    run(maker, "bundle", "demo/run", "--out", "bundle", cwd=cwd)
    fresh = install(work, wheel, "", f"fresh-{extra}")
    line = ("predict", "bundle", "others/cohort.yaml", "--out", "predicted.tsv", "--research-individual")
    if not has_torch(fresh, cwd):
        refused(fresh, *line, cwd=cwd, extra="learn")
    install(work, wheel, extra, f"fresh-{extra}")  # the remedy that was printed
    run(fresh, *line, cwd=cwd)
    run(fresh, "validate", "bundle", "others/cohort.yaml", "--out", "validation", cwd=cwd)
    told = json.loads(run(maker.parent / "python", "-c", OF_THE_STUDY, cwd=cwd).splitlines()[-1])
    with (cwd / "predicted.tsv").open(newline="") as stream:
        found = {(row["subject"], row["task"]): float(row["value"]) for row in csv.DictReader(stream, delimiter="\t")}
    wanted = {(subject, task): value for subject, task, value in told}
    if not wanted or set(found) != set(wanted):
        sys.exit(f"{len(found)} predictions in the fresh environment, {len(wanted)} of the study's fits")
    far = max(abs(found[key] - value) / max(1.0, abs(value)) for key, value in wanted.items())
    print(f"          {len(wanted)} predictions, at most {far:.2g} from those of the study's fits", flush=True)
    if not far <= SAME:
        sys.exit(f"expected the same to {SAME:g}")


def has_torch(command: Path, cwd: Path) -> bool:
    """Whether a kept environment already contains torch."""
    code = "import importlib.util; print(importlib.util.find_spec('torch') is not None)"
    return run(command.parent / "python", "-c", code, cwd=cwd).strip() == "True"


SAME = 1e-6
SHORT_DEMO = """
import sys
from pathlib import Path
from connectome_tl import simulate_study, write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.settings.study import Refits, SplitSettings
from connectome_tl.settings.training import Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.workflows.demos.study import demo_settings
from connectome_tl.workflows.demos.volumes import HEALTHY, NEWBORNS, image_demo_settings
images, home = "--images" in sys.argv, Path("demo/cohorts")
if images:
    write_volume_cohort(30, HEALTHY, home / "healthy", name="healthy", seed=1)
    write_volume_cohort(40, NEWBORNS, home / "newborns", name="newborn", outcomes=("injury",), seed=2)
else:
    study = simulate_study(n_source=60, n_pool=30, n_target=40)
    for name, cohort in (("older", study.source), ("pool", study.pool), ("target", study.target)):
        write_cohort(cohort, home / name)
settings = image_demo_settings() if images else demo_settings()
few = Training(steps=4)
stages = Stages(
    pretrain=Pretrain(training=few),
    adapt=None if images else settings.stages.adapt.model_copy(update={"training": few}),
    finetune=FineTune(training=few, ensemble=Ensemble(networks=2)),
)
splits = SplitSettings(repeats=1, outer=2, stratum=settings.splits.stratum)
short = {"stages": stages, "splits": splits, "controls": (), "permutations": 0, "refits": Refits(linear=0)}
baselines = ("prevalence",) if images else ("prevalence", "clinical_only")
short |= {"baselines": baselines}
Path("demo/study").mkdir(parents=True, exist_ok=True)
Path("demo/study/study.yaml").write_text(dump_settings(settings.model_copy(update=short)))
"""
# What the fits of `demo/run` predict, without a bundle: their mean, for every subject of `others`. `fits_of` compares
# them with the predictions.tsv of the run first.
OF_THE_STUDY = """
import json
from pathlib import Path
import numpy as np
from connectome_tl import read_cohort
from connectome_tl.evaluation.scores.predictions import score_of
from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.workflows.release.bundle_fits import fits_of, fitted_scheme, read_finished
study = read_finished(Path("demo/run"), Path("demo/run"))
fits = fits_of(study, fitted_scheme(study, "full"), "mean", lambda done, total: None)
others = read_cohort("others/cohort.yaml")
if study.cohorts.target.regions:
    others = others.with_regions(study.cohorts.target.regions)
mean = np.mean([model.predict(others, others.ids) for model in fits.models], axis=0)
places = columns_of(study.tasks)
print(json.dumps([
    [subject, task.name, float(value)]
    for task in study.tasks
    for subject, value in zip(others.ids, score_of(task, mean[:, places[task.name]]))
]))
"""
TRIALS: dict[str, Callable[..., None]] = {"base": try_base, "learn": try_learn, "voxel": try_voxel}


def tried(kinds: list[str], work: Path, *, quick: bool, here: bool) -> None:
    """Build the wheel and try these kinds, each from a separate folder."""
    wheel = build(work)
    for kind in kinds or TRIALS:
        elsewhere = work / f"elsewhere-{kind}"
        elsewhere.mkdir(exist_ok=True)
        TRIALS[kind](work, wheel, elsewhere, quick=quick, here=here)
        print(f"{kind}: done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*TRIALS, []], metavar="KIND", help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--work", type=Path, help="a folder for environments and results that is kept")
    parser.add_argument("--quick", action="store_true", help="small studies in place of the demos")
    parser.add_argument("--here", action="store_true", help="make demo and bundle with this checkout, not the wheel")
    options = parser.parse_args()
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        tried(options.kinds, options.work.resolve(), quick=options.quick, here=options.here)
        return
    with tempfile.TemporaryDirectory() as folder:
        tried(options.kinds, Path(folder), quick=options.quick, here=options.here)


if __name__ == "__main__":
    main()
