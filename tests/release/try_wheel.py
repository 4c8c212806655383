"""Build sdist and wheel, install the wheel into an empty environment for each extra, and try it from another folder.

    python tests/release/try_wheel.py [base] [learn] [voxel]        # `make wheel-test` tries all three

Needs the package index that pip is configured for. Prints one line per step; ends with 1 at the first failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = (
    "connectome_tl/py.typed",
    "connectome_tl/_packaged/atlases/aal90/regions.tsv",
    "connectome_tl/_packaged/configs/example/study.yaml",
    "connectome_tl/report/templates/",
)


def run(*words: object, cwd: Path, code: int = 0) -> str:
    """Run a command, print how long it took, and return what it printed."""
    line, started = [str(word) for word in words], time.monotonic()
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    print(f"{time.monotonic() - started:7.1f} s  {' '.join(line)[:110]}", flush=True)
    if done.returncode != code:
        sys.exit(f"expected exit code {code}, got {done.returncode}:\n{said[-4000:]}")
    return said


def environment(folder: Path) -> Path:
    """An empty virtual environment; its folder of commands."""
    venv.create(folder, with_pip=True)
    return folder / "bin"


def build(work: Path) -> Path:
    """The wheel, made from the sdist; both must hold what the package reads."""
    commands = environment(work / "tools")
    run(commands / "python", "-m", "pip", "install", "--quiet", "build", cwd=work)
    run(commands / "python", "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
    (wheel,) = (work / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in NEEDED:
        if not any(name.startswith(needed) for name in names):
            sys.exit(f"{wheel.name} lacks {needed}")
    return wheel


def install(work: Path, wheel: Path, extra: str) -> Path:
    """The command `connectome-tl` of an environment that holds the wheel with one extra, or with none."""
    commands = environment(work / f"env-{extra or 'base'}")
    pip = (commands / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    if extra:
        run(*pip, "torch==2.13.0", cwd=work)
    run(*pip, f"{wheel}[{extra}]" if extra else wheel, cwd=work)
    return commands / "connectome-tl"


def names_of_commands(command: Path, cwd: Path) -> list[list[str]]:
    """Every command and subcommand, as words."""
    code = (
        "import typer; from connectome_tl.cli import app\n"
        "for n, c in typer.main.get_command(app).commands.items():\n"
        "    for s in getattr(c, 'commands', {'': 0}): print(n, s)"
    )
    said = run(command.parent / "python", "-c", code, cwd=cwd)
    return [line.split() for line in said.splitlines()]


def try_base(command: Path, cwd: Path) -> None:
    """Help of all commands; conversion and checks of a cohort; a clear message where torch is needed."""
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
    said = run(command, "run", "study.yaml", "--out", "run", cwd=cwd, code=66)
    if "pip install 'connectome-tl[learn]'" not in said:
        sys.exit(f"no word about the extra:\n{said}")


def try_learn(command: Path, cwd: Path) -> None:
    """The demo, from simulated cohorts to the report."""
    run(command, "demo", "--out", "demo", "--quiet", cwd=cwd)


def try_voxel(command: Path, cwd: Path) -> None:
    """The demo on volumes."""
    run(command, "demo", "--images", "--out", "demo", "--quiet", cwd=cwd)


TRIALS: dict[str, Callable[[Path, Path], None]] = {"base": try_base, "learn": try_learn, "voxel": try_voxel}


def main(asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        wheel = build(work)
        for kind in asked or TRIALS:
            command = install(work, wheel, "" if kind == "base" else kind)
            elsewhere = work / f"elsewhere-{kind}"
            elsewhere.mkdir()
            TRIALS[kind](command, elsewhere)
            print(f"{kind}: done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
