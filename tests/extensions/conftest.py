"""Registrations of an extension are removed after its module; a small study is run from its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import figures_left_out, small_cohorts, small_settings

from connectome_tl import extension_code
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.connectome.formats.table import FORMATS
from connectome_tl.evaluation.baselines.fixed import BASELINES
from connectome_tl.evaluation.scores.metrics import FURTHER
from connectome_tl.features.steps import MODALITIES, RECORDS
from connectome_tl.nn.batch import ROWS
from connectome_tl.nn.branch import BRANCHES
from connectome_tl.nn.fusion import FUSIONS
from connectome_tl.nn.losses import LOSSES
from connectome_tl.settings.baselines import BaselineSettings
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Adapt, FineTune, Pretrain, Stages
from connectome_tl.tasks import KINDS
from connectome_tl.training import extension
from connectome_tl.training.objectives.table import OBJECTIVES
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

PACKAGE = Path(extension.__file__).parents[1]
RunSmall = Callable[..., StudyRun]


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    tables: list[Any] = [MODALITIES, ROWS, BRANCHES, FUSIONS, OBJECTIVES, KINDS, LOSSES, RECORDS]
    tables += [FORMATS, MODELS, BASELINES, METRICS, FURTHER, extension_code._REGISTERED, extension._CALLS]
    before = [table.copy() for table in tables]
    places = [(ModelSettings, "encoder"), (ModelSettings, "others"), (ModelSettings, "fusion"), (Adapt, "objective")]
    fields = [owner.__pydantic_fields__[name] for owner, name in places]
    kinds = [(field.annotation, field.discriminator) for field in fields]
    blocks = dict(BaselineSettings.__pydantic_fields__)
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.extend(content) if isinstance(table, list) else table.update(content)
    for field, kind in zip(fields, kinds, strict=True):
        field.annotation, field.discriminator = kind
    BaselineSettings.__pydantic_fields__ = blocks
    BaselineSettings.model_rebuild(force=True)
    StudySettings.__pydantic_fields__["baseline_settings"].default = BaselineSettings()
    for model in (ModelSettings, Pretrain, Adapt, FineTune, Stages, StudySettings):
        model.model_rebuild(force=True)


@pytest.fixture(scope="module")
def run_small(tmp_path_factory: pytest.TempPathFactory) -> RunSmall:
    """`run_small({"model": {...}})`: a small study with these keys in its study.yaml, from files to the report."""

    def run(
        changed: dict[str, Any],
        cohorts: StudyCohorts | None = None,
        images: Callable[[Cohort, Path], object] | None = None,
        rewrite: Callable[[Cohort, Path], object] | None = None,
        figures: bool = False,
        **settings: Any,
    ) -> StudyRun:
        home = tmp_path_factory.mktemp("extended")
        found = cohorts or small_cohorts(n_source=16, n_pool=12, n_target=20)
        for role, folder in (("source", "older"), ("pool", "pool"), ("target", "target")):
            write_cohort(found.roles[role], home / folder)
        if images is not None:
            images(found.target, home / "target" / "images")
            file = home / "target" / "cohort.yaml"
            declared = yaml.safe_load(file.read_text())
            declared["connectomes"]["unmatched"] = "drop"  # some have no image
            file.write_text(yaml.safe_dump({**declared, "volumes": {"files": "images/{id}.npy"}}))
        if rewrite is not None:
            rewrite(found.target, home / "target")
        small = small_settings(
            **{
                "steps": 3,
                "target": CohortUse(cohort="target/cohort.yaml", tasks=("cognitive",)),
                "splits": SplitSettings(repeats=1, outer=2, stratum="cognitive"),
                "controls": ("no_pretrain",),
                "baselines": ("prevalence",),
                "refits": Refits(linear=0),
                **settings,
            }
        )
        text = yaml.safe_load(dump_settings(small))
        for key, value in changed.items():
            *parents, last = key.split(".")
            here = text
            for parent in parents:
                here = here[parent]
            here[last] = value
        (home / "study.yaml").write_text(yaml.safe_dump(text))
        with nullcontext() if figures else figures_left_out():
            return run_study(home / "study.yaml", home / "run")

    return run


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], None]]:
    """`install(name, code)`: a package with one module and an entry point, as pip installs it."""
    with pytest.MonkeyPatch.context() as patched:

        def add(name: str, code: str, version: str = "1.0") -> None:
            folder = tmp_path_factory.mktemp("site")
            about = folder / f"{name}-{version}.dist-info"
            about.mkdir()
            (folder / f"{name}.py").write_text(code)
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (about / "entry_points.txt").write_text(f"[connectome_tl]\n{name} = {name}\n")
            patched.syspath_prepend(folder)

        yield add


@pytest.fixture(scope="session")
def unknown_to_the_package() -> Callable[[str], bool]:
    """Whether no file of the package contains this name."""
    sources = [path.read_text("utf-8").lower() for path in PACKAGE.rglob("*.py")]
    return lambda name: not any(name.lower() in text for text in sources)
