"""One messy spreadsheet and a folder of matrices become three cohorts by following the error messages only."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.workflows.data.cohort import check_cohort

GROUPS = ["Preterm", "preterm ", "PRETERM", "neonate", "Older"]
HEADER = ["ID", "Study group", "Age (weeks)", "age years", "Sex", "centre", "Family", "ga", "Bayley Cog"]
N = 30


def rows() -> list[list[str]]:
    """Thirty subjects: ids without their zeros, groups and sexes in several spellings, codes, limits, commas."""
    out = []
    for i in range(N):
        group = GROUPS[i % 5]
        infant = group != "Older"
        score = ["<55", "101", "died", "88", "999", "72"][i // 5]
        out.append(
            [
                str(7001 + i),
                group,
                f"{38 + i % 5},5" if infant else "-",
                "n/a" if infant else f"{8 + i % 4}.5",
                ["M", "f", "Male", "1", "2", "F"][i % 6] if i < 25 else "unknown",
                ["Kings", "kings", "KCL"][i % 3],
                "F1" if i in (0, 1) else "0",
                f"{26 + i % 5}+{i % 7}" if infant else "",
                score if group.strip().lower() == "preterm" else "",
            ]
        )
    return out


def write_spreadsheet(folder: Path, kind: str, cells: list[list[str]]) -> str:
    name = f"study.{kind}"
    if kind == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [HEADER, *cells]:
            book.active.append([int(cell) if cell.isdigit() else cell or None for cell in row])
        book.save(folder / name)
    else:
        text = "\n".join(";".join(f'"{cell}"' if ";" in cell else cell for cell in row) for row in [HEADER, *cells])
        (folder / name).write_text("\n" + text + ";;\n", encoding="utf-16")
    return name


def write_matrices(folder: Path) -> None:
    (folder / "mats").mkdir()
    names = load_atlas("unc_aal90").names
    for i in range(N):
        half = np.triu(np.random.default_rng(i).gamma(1.0, 3.0, (90, 90)), 1)
        lines = [",".join(names), *(",".join(f"{value:.4f}" for value in row) for row in half + half.T)]
        (folder / "mats" / f"sub-000{7001 + i}_sc.csv").write_text("\n".join(lines) + "\n")


class Path_:
    """Follows the errors; each step may use the printed text only."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind, self.cells = folder, kind, rows()
        self.table = write_spreadsheet(folder, kind, self.cells)

    def walk(self, settings: dict[str, Any], steps: list[tuple[str, Callable[[dict[str, Any], str], None]]]) -> Cohort:
        """Apply the steps whose phrase is printed until the cohort is read."""
        left = list(steps)
        for _ in range(30):
            file = self.folder / "cohort.yaml"
            file.write_text(yaml.safe_dump(settings, sort_keys=False))
            try:
                cohort = check_cohort(file, console=Console(file=io.StringIO())).cohort
            except ConnectomeTLError as error:
                for problem in error.problems:
                    self.answer(problem, settings, left)
            else:
                assert left == [], [phrase for phrase, _ in left]
                return cohort
        raise AssertionError("no end of errors")

    def answer(
        self, problem: Problem, settings: dict[str, Any], left: list[tuple[str, Callable[[dict[str, Any], str], None]]]
    ) -> None:
        said = str(problem)
        fitting = next((step for step in left if step[0] in said), None)
        assert fitting is not None, f"no remedy is known for: {said}"
        left.remove(fitting)
        fitting[1](settings, said)


def take_unit(settings: dict[str, Any], said: str) -> None:
    assert "weeks, months, years, days or hours" in said
    settings["age"] = {"column": settings["age"], "unit": "weeks"}


def take_reference(settings: dict[str, Any], said: str) -> None:
    assert "postmenstrual (from the last menstrual period)" in said
    settings["age"]["reference"] = "postmenstrual"


def take_nearest(key: str) -> Callable[[dict[str, Any], str], None]:
    def apply(settings: dict[str, Any], said: str) -> None:
        settings[key] = re.search(r"Did you mean ([^?]+?)(?: or [^?]+)?\?", said).group(1)  # type: ignore[union-attr]

    return apply


def quote_column(settings: dict[str, Any], said: str) -> None:
    assert "in backticks" in said
    settings["select"] = settings["select"].replace("study group", "`study group`")


def rename_column(settings: dict[str, Any], said: str) -> None:
    settings["select"] = settings["select"].replace("`study group`", said.split("Did you mean ")[1].rstrip("?"))


def spell_ids_as_files(walker: Path_) -> Callable[[dict[str, Any], str], None]:
    def apply(settings: dict[str, Any], said: str) -> None:
        written = dict(re.findall(r"(\d+): is '([^']+)' there", said))
        assert written
        zeros = next(iter(written.values())).removesuffix(next(iter(written)))
        for row in walker.cells:  # a remedy printed for some applies to all: the same zeros were lost
            row[0] = zeros + row[0]
        walker.table = write_spreadsheet(walker.folder, walker.kind, walker.cells)

    return apply


def take_pattern(settings: dict[str, Any], said: str) -> None:
    lying = re.search(r"found (\S+?),", said).group(1)  # type: ignore[union-attr]
    settings["connectomes"]["files"] = re.sub(r"sub-\d+", "{id}", lying)


def take_levels(settings: dict[str, Any], said: str) -> None:
    assert "levels: {1: ..., 2: ...}, with M and F" in said
    next(one for one in settings["covariates"] if one["column"] == "Sex")["levels"] = {1: "M", 2: "F"}


def take_edition(settings: dict[str, Any], said: str) -> None:
    settings["outcomes"][0]["edition"] = re.search(r"edition: ([\w-]+)", said).group(1)  # type: ignore[union-attr]


def take_limit(settings: dict[str, Any], said: str) -> None:
    assert "censored: limit" in said
    settings["outcomes"][0]["censored"] = "limit"


def take_death(settings: dict[str, Any], said: str) -> None:
    assert "died: missing, positive or negative" in said
    column = re.search(r"status: {column: ([^,]+), died", said).group(1)  # type: ignore[union-attr]
    settings["outcomes"][0]["status"] = {"column": column, "died": "missing"}


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_three_cohorts_come_out_of_one_spreadsheet(tmp_path: Path, kind: str) -> None:
    write_matrices(tmp_path)
    walker = Path_(tmp_path, kind)
    target = {
        "name": "target",
        "participants": walker.table,
        "id": "id",
        "select": "study group == 'preterm'",
        "age": "Age (weeks)",
        "site": "centre",
        "family": "Family",
        "covariates": [
            {"column": "Sex", "type": "categorical", "available_at": "birth"},
            {"column": "ga", "unit": "weeks", "available_at": "birth"},
        ],
        "outcomes": [{"name": "cognitive", "column": "Bayley Cog", "kind": "binary", "operator": "<", "cutoff": 85}],
        "connectomes": {"files": "mats/{id}.csv", "atlas": "unc_aal90", "measure": "count", "transform": "log1p"},
    }
    cohort = walker.walk(
        target,
        [
            ("weeks or years?", take_unit),
            ("give the edition", take_edition),
            ("weeks from what?", take_reference),
            ("column 'id' is not in the table", take_nearest("id")),
            ("select cannot be read", quote_column),
            ("uses a column that does not exist", rename_column),
            ("but without a matrix", take_pattern),
            ("the id is written differently", spell_ids_as_files(walker)),
            ("codes without an explanation", take_levels),
            ("censored values", take_limit),
            ("no rule says what 'died' means", take_death),
        ],
    )
    assert cohort.n_subjects == 18
    np.testing.assert_array_equal(cohort.age[:3], [38.5, 39.5, 40.5])
    np.testing.assert_array_equal(cohort.targets["cognitive"].iloc[[0, 3, 6, 9, 12, 15]], [1, 0, np.nan, 0, np.nan, 1])
    assert set(cohort.covariates["Sex"].dropna()) == {"M", "F"}
    assert set(cohort.site) == {"Kings", "KCL"}
    assert [list(cohort.family).count("F1"), list(cohort.family).count("")] == [2, 16]
    done = yaml.safe_load((tmp_path / "cohort.yaml").read_text())
    pool = {key: value for key, value in done.items() if key != "outcomes"}
    pool |= {"name": "pool", "select": done["select"].replace("preterm", "neonate")}
    assert walker.walk(pool, []).n_subjects == 6
    source = pool | {
        "name": "source",
        "select": done["select"].replace("preterm", "older"),
        "age": {"column": "age years", "unit": "years"},
        "covariates": [done["covariates"][0] | {"role": "nuisance"}],
        "outcomes": [
            {"name": "age", "column": "age years", "kind": "regression", "unit": "years"},
            {"name": "sex", "column": "Sex", "kind": "binary", "levels": ["F", "M"]},
        ],
    }
    cohort = walker.walk(source, [])
    assert cohort.n_subjects == 6
    assert cohort.weights.shape == (6, 1, 90, 90)
