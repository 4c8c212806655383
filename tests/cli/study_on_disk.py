"""A small study on disk, and the result of a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import SplitSettings


@dataclass(frozen=True)
class Answer:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


def write_study(folder: Path, **changed: Any) -> Path:
    """Three cohorts and a study.yaml that runs in seconds, some settings replaced."""
    cohorts = small_cohorts(n_source=20, n_pool=12, n_target=20, n_regions=8)
    for name, cohort in (("older", cohorts.source), ("pool", cohorts.pool), ("target", cohorts.target)):
        assert cohort is not None
        write_cohort(cohort, folder / name)
    settings = small_settings(
        steps=4,
        splits=SplitSettings(repeats=2, outer=2, stratum="cognitive"),
        permutations=4,
        network_permutations=2,
        title="A small study",
        **changed,
    )
    return write_text(folder / "study.yaml", dump_settings(settings))


def edit(file: Path, change: Callable[[dict], None]) -> None:
    """Change a YAML file in place."""
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run except its log."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in found.items() if not name.startswith("log/")}
