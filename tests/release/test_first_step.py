"""The first commands of README and quickstart put `connectome-tl` on the PATH of a shell that lacks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from connectome_tl import __version__

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def fences(page: str) -> list[str]:
    return re.findall(r"^```(?:bash)?\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.M | re.S)


def first_lines(page: str) -> list[str]:
    """What the page prints before its first `connectome-tl` command and concerns the installation."""
    lines = [line for fence in fences(page) for line in fence.splitlines()]
    end = next(i for i, line in enumerate(lines) if line.startswith("connectome-tl "))
    return [line for line in lines[:end] if line.startswith((". ", "make install"))]


@pytest.mark.skipif(not (BIN / "activate").is_file(), reason="not a virtual environment")
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_first_step_puts_the_command_on_the_path(page: str, tmp_path: Path) -> None:
    """In a clone whose environment is installed already, so that `make install` finds nothing to do."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    (tmp_path / ".venv" / ".installed").touch()
    others = [one for one in os.environ["PATH"].split(os.pathsep) if not (Path(one) / "connectome-tl").exists()]
    environ = {**os.environ, "PATH": os.pathsep.join(others)}
    environ.pop("VIRTUAL_ENV", None)

    def typed(lines: list[str]) -> subprocess.CompletedProcess[str]:
        script = "\n".join(["set -e", *lines, "connectome-tl --version"])
        return subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    assert typed([]).returncode == 127  # command not found
    done = typed(first_lines(page))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"connectome-tl {__version__}"
