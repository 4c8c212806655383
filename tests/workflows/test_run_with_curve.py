"""A run with a learning curve and permuted baselines: written, shown, resumed to the same bytes, and audited."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import UsageError
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.study.run import run_study

COHORTS = small_cohorts(n_source=20, n_target=24, n_regions=8)


def study(**changed: object) -> StudySettings:
    settings = {
        "pool": None,
        "stages": small_settings(steps=1).stages.model_copy(update={"adapt": None}),
        "target": CohortUse(cohort="target/cohort.yaml", tasks=("cognitive",)),
        "splits": SplitSettings(repeats=1, outer=2, stratum="cognitive"),
        "controls": ("scratch",),
        "baselines": ("prevalence", "ridge", "cpm", "meta_matching"),
        "refits": {"linear": 0},
        "learning_curve": (8,),
        "baseline_permutations": 5,
    }
    return small_settings(steps=1, **{**settings, **changed})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, cohort in (("older", COHORTS.source), ("target", COHORTS.target)):
        assert cohort is not None
        write_cohort(cohort, folder / name)
    return folder


@pytest.mark.slow
def test_it_is_written_shown_resumed_and_audited(data: Path) -> None:
    run = run_study(study(), data / "out", base=data)
    record = run.record
    assert {p.n_labelled for p in record.learning_curve} == {8, 12}
    table = pd.read_csv(run.folder / "learning_curve.tsv", sep="\t")
    assert len(table) == len(record.learning_curve) == 2 * len(set(table["model"]))
    assert {"full", "scratch", "ridge", "cpm", "meta_matching"} <= set(table["model"])
    assert {p.model for p in record.permutations} == {"ridge", "cpm", "meta_matching"}
    assert {p.n_permutations for p in record.permutations} == {5}
    html = run.report.read_text("utf-8")
    for text in ("Learning curve: ", "doi:10.1038/nprot.2016.178", "doi:10.1038/s41593-022-01059-9"):
        assert text in html
    assert "Ridge on edges, CPM and Meta-matching were also fitted to 5 permutations" in record.methods
    assert "stratified, nested subsets of 8 labelled subjects" in record.methods
    assert "Permutation test" not in record.verdicts[0].how_well  # those of baselines are in the table
    before = {name: (run.folder / name).read_bytes() for name in ("results.json", "report.html", "learning_curve.tsv")}
    (run.folder / "log" / "finished.json").unlink()
    run_study(study(), data / "out", base=data)
    assert {name: (run.folder / name).read_bytes() for name in before} == before
    audit = audit_run(run.folder)
    assert not [finding for finding in audit.findings if finding.status == "failed"]
    table.loc[0, "value"] = 0.99
    table.to_csv(run.folder / "learning_curve.tsv", sep="\t", index=False, na_rep="n/a")
    failed = {f.check for f in audit_run(run.folder).findings if f.status == "failed"}
    assert failed == {"learning_curve.tsv is that of results.json"}


def test_a_size_that_no_fold_has_is_refused_before_anything_is_fitted(data: Path) -> None:
    with pytest.raises(UsageError, match="learning_curve"):
        run_study(study(learning_curve=(12,)), data / "other", base=data)
    assert not list((data / "other").rglob("*.safetensors"))
