"""Every YAML file of `configs/` has a line in the gallery and is valid; studies of the gallery run small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small_study import small_cohorts

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.init.examples import configs_folder

ROOT = Path(__file__).parents[2]
CONFIGS = configs_folder()
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
NOT_OURS = ("babs/connectome_tl.yaml", "snakemake/slurm/config.yaml")  # other programs read these
KINDS: dict[str, type[Settings]] = {  # the kind of every other file follows from its keys
    "connectomes.yaml": ConnectomesSettings,
    "morphometry.yaml": MorphometrySettings,
    "tune/images.yaml": TuneSettings,
}
SMALL = (
    "splits.repeats=1",
    "splits.outer=2",
    "n_jobs=1",
    "controls=[scratch]",
    "stages.pretrain.training.steps=2",
    "stages.adapt.training.steps=2",
    "stages.finetune.training.steps=2",
    "stages.finetune.ensemble.networks=2",
)
RUN_HERE = {
    "example/study.yaml": (),
    "abide33.yaml": ("splits.n_labelled=12",),
    "dhcp33.yaml": ("splits.n_labelled=12",),
    "structural.yaml": (),
    "morphometric.yaml": (),
    "meta_matching.yaml": ("stages.adapt=null",),
}
SMALL_VOLUMES = (
    "image.size=12",
    "model.encoder.depth=10",
    "model.encoder.width=0.0625",
    "stages.pretrain.training.batch_size=4",
    "stages.finetune.training.batch_size=4",
)
RUN_ON_VOLUMES = {
    "age2hie_same_site.yaml": ("image.voxel=13",),
    "age2hie_pooled.yaml": ("image.voxel=13",),
    "age2hie_held_out_site.yaml": ("image.voxel=13",),
    "age2hie_from_scratch.yaml": ("image.voxel=13",),
    "gloresnet.yaml": (),
    "raw_t1w_resnet.yaml": (),
    "tsan.yaml": (
        "image.voxel=13",
        "model.encoder={kind: scaledense, width: 2, blocks: 2}",
        "baseline_settings.two_stage={folds: 2, first: {steps: 2}, second: {steps: 2}}",
    ),
    "synthetic_volumes.yaml": (
        "image.voxel=13",
        "baseline_settings.synthetic_volumes.synthesis={width: 4, latent: 4, descent: {steps: 2}}",
        "baseline_settings.synthetic_volumes.training={steps: 2}",
    ),
    "voxel_contrast.yaml": ("image.voxel=13", "stages.adapt.training.batch_size=4"),
}
NEEDED = {
    "meta_matching.yaml": ("meta_matching",),
    "structural.yaml": ("linear_all",),
    "tsan.yaml": ("two_stage",),
    "synthetic_volumes.yaml": ("synthetic_volumes", "mixed_volumes", "real_volumes"),
}
CONTROLS = ("random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr")
ELSEWHERE = ("he2020.yaml", "kawahara2017.yaml", "images_to_report.yaml")  # tests/evaluation, tests/workflows


def patterns() -> Iterator[str]:
    for row in (ROOT / "docs" / "gallery.md").read_text("utf-8").splitlines():
        if row.startswith("| `"):
            yield from re.findall(r"`([^`]+\.yaml)`", row.split("|")[1])


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_line_in_the_gallery_and_is_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(fnmatch(name, pattern) for pattern in patterns()), f"docs/gallery.md has no line for {name}"
    text = (CONFIGS / name).read_text("utf-8")
    for other in FILES:  # cohorts of a study are read as well
        for variable in re.findall(r"\$\{(\w+)\}", (CONFIGS / other).read_text("utf-8")):
            monkeypatch.setenv(variable, "/data")
    if name in NOT_OURS:
        assert isinstance(yaml.safe_load(text), dict)
        return
    keys = set(yaml.safe_load(text))
    kinds: dict[str, type[Settings]] = {"target": StudySettings, "participants": CohortSettings}
    kind = KINDS.get(name) or next(kind for key, kind in kinds.items() if key in keys)
    settings = load_settings(CONFIGS / name, kind)
    if isinstance(settings, StudySettings):
        home = (CONFIGS / name).parent
        for use in settings.uses.values():
            if (home / use.cohort).is_file():
                known = {outcome.name for outcome in load_settings(home / use.cohort, CohortSettings).outcomes}
                assert set(use.tasks or ()) <= known, f"{name}: {use.cohort}"


def test_every_line_of_the_gallery_is_of_a_file() -> None:
    for pattern in patterns():
        assert any(fnmatch(name, pattern) for name in FILES), pattern


def with_outcomes(cohort: Cohort, names: tuple[str, ...]) -> Cohort:
    """The cohort with random outcomes of these names, the first one binary, and measures of each region, if any."""
    rng = np.random.default_rng(len(names))
    tasks = tuple(
        Task(name=name, kind="regression" if k or name == "age" else "binary", column=f"column_{name}", unit="years")
        for k, name in enumerate(names)
    )
    values = rng.normal(size=(cohort.n_subjects, len(names)))
    values[:, :1] = (np.arange(cohort.n_subjects) % (2 if tasks[0].is_binary else 7))[:, None]
    targets = pd.DataFrame(values, index=list(cohort.ids), columns=list(names))
    status = targets.notna().map(lambda seen: "observed" if seen else "unknown")
    cohort = replace(cohort, tasks=tasks, targets=targets, status=status, scores=None)
    if not cohort.regions:
        return cohort
    measures = rng.normal(size=(cohort.n_subjects, cohort.n_regions, 2))
    return replace(cohort, region_features=measures, region_feature_names=("thickness", "area"))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cohort]:
    """Older subjects and infants of two sites."""
    home, settings = tmp_path_factory.mktemp("volumes"), VolumeSettings(size=16, n_sites=2)
    numbers = {"source": 8, "pool": 8, "target": 16}
    written = {
        role: write_volumes(n, settings, home / role, name=role, seed=n, labels=role == "pool")
        for role, n in numbers.items()
    }
    return {role: replace(cohort, volume_cache=str(home / "cache")) for role, cohort in written.items()}


def test_every_study_of_the_gallery_is_run_small() -> None:
    studies = {name for name in FILES if "target" in yaml.safe_load((CONFIGS / name).read_text("utf-8"))}
    assert studies == {*RUN_HERE, *RUN_ON_VOLUMES, *ELSEWHERE}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RUN_HERE, *RUN_ON_VOLUMES])
def test_a_study_of_the_gallery_runs_small(name: str, request: pytest.FixtureRequest) -> None:
    images = name in RUN_ON_VOLUMES
    changed = [*SMALL, *SMALL_VOLUMES, *RUN_ON_VOLUMES[name]] if images else [*SMALL, *RUN_HERE[name]]
    plain = load_settings(CONFIGS / name, StudySettings)
    if images:
        absent = [stage for stage, use in (("pretrain", plain.source), ("adapt", plain.pool)) if use is None]
        changed += [f"stages.{stage}=null" for stage in absent]
        changed += ["controls=[]"] if len(absent) == 2 else []
    if plain.splits.scheme == "site_out":  # the folds are the sites
        changed.remove("splits.outer=2")
    study = load_settings(CONFIGS / name, StudySettings, overrides=changed)
    roles = request.getfixturevalue("volumes") if images else small_cohorts().roles
    default = ("cognitive", "language")
    cohorts = StudyCohorts({role: with_outcomes(roles[role], use.tasks or default) for role, use in study.uses.items()})
    check_names(study, cohorts)
    splits = make_split_plan(cohorts.target, study.splits)
    tasks = tasks_of(study, cohorts)
    baselines = baseline_predictions(study, cohorts, splits, tasks)
    found = pd.concat([cross_validate(study, cohorts, splits).predictions, baselines])
    assert {"full", "core", "network", *study.controls, *NEEDED.get(name, ()), *(CONTROLS if images else ())} <= set(
        found["model"]
    )
    assert set(found["task"]) == {task.name for task in tasks}
    assert np.isfinite(found["y_score"]).all()
