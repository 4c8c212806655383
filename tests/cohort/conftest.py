"""A small cohort on disk that a test can damage in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import ConnectomeTLError, DataError


@dataclass
class OnDisk:
    """Six subjects of 90 regions; `table` and `settings` may be changed before `read`."""

    folder: Path
    table: dict[str, list[str]]
    settings: dict
    matrices: dict[str, np.ndarray]
    names: tuple[str, ...] = field(default_factory=lambda: load_atlas("aal90").names)

    def write(self) -> Path:
        header = "\t".join(self.table)
        rows = ["\t".join(cells) for cells in zip(*self.table.values(), strict=True)]
        (self.folder / "participants.tsv").write_text("\n".join([header, *rows]) + "\n")
        (self.folder / "cohort.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        for subject, matrix in self.matrices.items():
            write_named(self.folder / f"{subject}.tsv", matrix, self.names)
        return self.folder / "cohort.yaml"

    def read(self) -> Cohort:
        return read_cohort(self.write())

    def problems(self, kind: type[ConnectomeTLError] = DataError) -> list[str]:
        with pytest.raises(kind) as caught:
            self.read()
        return [str(problem) for problem in caught.value.problems]


def write_named(path: Path, matrix: np.ndarray, names: tuple[str, ...]) -> None:
    lines = ["\t".join(names), *("\t".join(repr(float(value)) for value in row) for row in matrix)]
    path.write_text("\n".join(lines) + "\n")


def symmetric(n_regions: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(1.0, 3.0, (n_regions, n_regions))
    matrix = np.triu(values, 1)
    return matrix + matrix.T


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    ids = [f"sub-{i:02d}" for i in range(1, 7)]
    table = {
        "participant_id": ids,
        "pma": ["40.5", "41", "39.2", "42", "40", "n/a"],
        "ga": ["29+4", "30", "28.5", "31", "27+0", "26"],
        "sex": ["F", "M", "M", "F", "F", "n/a"],
        "cog": ["101", "84", "77", "n/a", "n/a", "95"],
        "cog_status": ["observed", "observed", "observed", "lost", "died", "observed"],
        "family": ["a", "a", "", "b", "", "c"],
    }
    settings = {
        "name": "infants",
        "participants": "participants.tsv",
        "age": {"column": "pma", "unit": "weeks", "reference": "postmenstrual"},
        "gestational_age": {"column": "ga", "unit": "weeks"},
        "family": "family",
        "covariates": [
            {"column": "ga", "unit": "weeks", "available_at": "birth"},
            {"column": "sex", "type": "categorical", "role": "both"},
        ],
        "outcomes": [
            {
                "name": "cognitive",
                "column": "cog",
                "kind": "binary",
                "operator": "<",
                "cutoff": 85,
                "edition": "Bayley-III",
                "status": {"column": "cog_status", "died": "positive", "untestable": "missing"},
            }
        ],
        "connectomes": {"files": "{id}.tsv", "atlas": "aal90", "measure": "count", "transform": "log1p"},
    }
    return OnDisk(tmp_path, table, settings, {s: symmetric(90, i) for i, s in enumerate(ids)})


Spoil = Callable[[OnDisk], None]
