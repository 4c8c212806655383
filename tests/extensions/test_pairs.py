"""An external importer: a study whose matrices are files of names and pairs of regions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_study import small_cohorts

from connectome_tl import extend
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.connectome.formats.table import Format
from connectome_tl.connectome.names.naming import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.run import run_study


def read_pairs(path: Path) -> MatrixFile:
    first, *lines = path.read_text("utf-8").splitlines()
    names = tuple(first.split("\t"))
    values = np.zeros((len(names), len(names)))
    for line in lines:
        try:
            one, other, value = line.split("\t")
            values[names.index(one), names.index(other)] = values[names.index(other), names.index(one)] = float(value)
        except ValueError as error:
            raise DataError("a line is no pair of regions", file=path, got=repr(line)) from error
    return MatrixFile(values[None], measures=("fbc",), names=names)


PAIRS = Format("pairs_of_regions", "names, then pairs of regions", (".pairs",), read_pairs, names_rows=True)


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(importer=PAIRS)


def write_pairs(cohort: Cohort, folder: Path, ending: str = ".pairs", **settings: Any) -> None:
    """The matrices of the target in files of this format."""
    (folder / "matrices").mkdir()
    for i, subject in enumerate(cohort.ids):
        at = np.flatnonzero(cohort.node_mask[i])
        lines = ["\t".join(cohort.regions[j] for j in at)]
        pairs = [(j, k) for j in at for k in at if j < k]
        lines += [f"{cohort.regions[j]}\t{cohort.regions[k]}\t{float(cohort.weights[i, 0, j, k])!r}" for j, k in pairs]
        (folder / "matrices" / f"{subject}{ending}").write_text("\n".join(lines) + "\n")
    file = folder / "cohort.yaml"
    declared = yaml.safe_load(file.read_text())
    kept = {name: declared["connectomes"][name] for name in ("atlas", "regions", "measure")}
    declared["connectomes"] = {"files": f"matrices/{{id}}{ending}", **kept, **settings}
    file.write_text(yaml.safe_dump(declared))
    (folder / "matrices.npz").unlink()


def plain_cohorts() -> StudyCohorts:
    found = small_cohorts(n_source=16, n_pool=12, n_target=20)
    none = {"region_features": None, "region_feature_names": ()}
    return StudyCohorts({role: replace(cohort, **none) for role, cohort in found.roles.items()})


def test_a_study_with_it_runs_to_a_report_and_is_not_finished_after_a_change_of_its_code(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohorts = plain_cohorts()
    run = run_small({}, cohorts, rewrite=write_pairs, controls=())
    home = run.folder.parent
    np.testing.assert_array_equal(read_cohort(home / "target" / "cohort.yaml").weights, cohorts.target.weights)
    assert np.isfinite(run.predictions["y_score"]).all()
    said = re.sub(r"\s+", " ", run.report.read_text("utf-8"))
    assert "Connectomes of 20 infants" in said
    assert unknown_to_the_package("pairs_of_regions")
    written = run.report.stat().st_mtime_ns
    run_study(home / "study.yaml", run.folder)
    assert run.report.stat().st_mtime_ns == written
    extend(importer=replace(PAIRS, read=lambda path: read_pairs(path)))
    run_study(home / "study.yaml", run.folder)
    assert run.report.stat().st_mtime_ns != written


def test_files_with_another_ending_are_read_if_the_format_is_named_and_damaged_ones_are_named(
    tmp_path: Path,
) -> None:
    cohort = plain_cohorts().target
    write_cohort(cohort, tmp_path)
    write_pairs(cohort, tmp_path, ending=".list", format="pairs_of_regions")
    found = read_cohort(tmp_path / "cohort.yaml")
    np.testing.assert_array_equal(found.weights, cohort.weights)
    np.testing.assert_array_equal(found.node_mask, cohort.node_mask)
    broken = tmp_path / "matrices" / f"{cohort.ids[3]}.list"
    broken.write_text(broken.read_text() + "a\tb\n")
    with pytest.raises(DataError, match="a line is no pair of regions") as told:
        read_cohort(tmp_path / "cohort.yaml")
    assert broken.name in str(told.value)
