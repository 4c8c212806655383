"""Raw scans are exploratory everywhere: sidecar, page, cohort.yaml, and the report of a run on them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from small_study import last_stage, small_settings

from connectome_tl import run_study
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

TINY = PhantomSettings(
    n_regions=6,
    n_edges=5,
    half_axes=(24.0, 28.0, 22.0),
    voxel=3.0,
    region_radius=6.0,
    shells=((0.0, 3), (1000.0, 20)),
)
CONFIG = """\
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
measures: [count]
tracking: {n_streamlines: 100}
reconstruction: {response_voxels: 60, sh_order: 4}
preprocessing: {denoise: none, motion: none}
"""
STAMP = "susceptibility, eddy currents and motion were not corrected"  # not even between volumes


@pytest.mark.slow
def test_the_stamp_of_raw_scans_reaches_the_report_of_a_run(tmp_path: Path) -> None:
    bids = write_phantom(tmp_path / "bids", n_subjects=4, n_sessions=1, settings=TINY)
    (bids / "config.yaml").write_text(CONFIG)
    table = pd.read_csv(bids / "participants.tsv", sep="\t")
    table["motor_score"] = [91, 104, 88, 110]
    table.to_csv(bids / "participants.tsv", sep="\t", index=False)

    made = tmp_path / "made"
    build_connectomes(bids, made, config=bids / "config.yaml")
    assert STAMP in next(made.rglob("sub-01*_relmat.json")).read_text()
    assert STAMP in next(made.rglob("sub-01*_report.html")).read_text()
    assert f"4 of 4 scans are exploratory: {STAMP}" in (made / "index.html").read_text()

    cohort = yaml.safe_load((made / "cohort.yaml").read_text())
    assert cohort["exploratory"] is True
    cohort["outcomes"] = [{"name": "motor_score", "column": "motor_score", "kind": "regression"}]
    (made / "declared.yaml").write_text(yaml.safe_dump(cohort))
    settings = small_settings(
        steps=1,
        source=None,
        pool=None,
        target=CohortUse(cohort="declared.yaml", tasks=("motor_score",)),
        stages=last_stage(small_settings().stages.finetune),
        splits=SplitSettings(repeats=1, outer=2),
        controls=(),
        baselines=("prevalence",),
    )
    report = run_study(settings, tmp_path / "run", base=made).report.read_text()
    assert "exploratory" in report.lower()
    cohort["exploratory"] = False  # and the report states this, not its default text
    (made / "declared.yaml").write_text(yaml.safe_dump(cohort))
    plain = run_study(settings, tmp_path / "plain", base=made).report.read_text()
    assert "exploratory" not in plain.lower()
