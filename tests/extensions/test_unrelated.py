"""Extensions enter the keys of what uses them, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl import extension_code
from connectome_tl.cohort.splits import Fold
from connectome_tl.config import dump_settings
from connectome_tl.extension import load_extensions
from connectome_tl.extension_code import code_of
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.parts import metrics_of, parts_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.plans import FitPlan, code_version
from connectome_tl.training.schemes import StudyCohorts

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "extend.md"
COHORTS = small_cohorts()
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])


def plans(study: StudySettings, cohorts: StudyCohorts = COHORTS) -> dict[str, FitPlan]:
    return {plan.stage: plan for plan in plan_of(FOLD, study, cohorts=cohorts).lineage()}


def keys(study: StudySettings, cohorts: StudyCohorts = COHORTS) -> dict[str, str]:
    return {stage: plan.key for stage, plan in plans(study, cohorts).items()}


def parts_used(study: StudySettings, *kinds: str) -> set[str]:
    """The parts of a finished run that extensions define."""
    return set(code_of((*parts_of(study, kinds), *metrics_of(kinds))))


@pytest.fixture(scope="module")
def before(forgotten: None) -> tuple[dict[str, str], str, str]:
    del forgotten
    study = small_settings()
    return keys(study), dump_settings(study), canonical_json(study)


@pytest.fixture(scope="module")
def guide(before: object, install: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Every extension of the guide in an installed module."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("elsewhere"))  # the guide writes files
        install("whole_guide", code)
        load_extensions()
    return extension_code.registered()


def test_an_unrelated_extension_changes_no_key_and_no_settings_file(
    before: tuple[dict[str, str], str, str], guide: tuple[str, ...]
) -> None:
    kinds = {"encoder", "fusion", "objective", "modality", "task", "baseline", "control", "metric", "importer"}
    assert {part.split()[0] for part in guide} == kinds
    study = small_settings()
    assert (keys(study), dump_settings(study), canonical_json(study)) == before
    assert parts_used(study, "binary") == set()
    assert parts_used(study, "binary", "regression") == {"metric spearman"}  # which scores values without being named


def using() -> tuple[StudySettings, StudyCohorts]:
    """A study of an encoder, a modality, an objective and a kind of outcome of the guide."""
    model = {"encoder": {"kind": "strength"}, "fusion": {"kind": "product"}, "others": [{"kind": "edge_quantiles"}]}
    study = small_settings(model=ModelSettings.model_validate(model))
    small = study.stages.adapt.model_validate({"objective": {"kind": "small_embedding"}})  # type: ignore[union-attr]
    study = study.model_copy(update={"stages": study.stages.model_copy(update={"adapt": small})})
    share = Task(name="cognitive", kind="proportion", column="share")
    return study, COHORTS.with_role("target", replace(COHORTS.target, tasks=(share, *COHORTS.target.tasks[1:])))


NETWORKS = {"pretrain", "adapt", "finetune", "mixture"}


@pytest.mark.parametrize(
    ("part", "stages"),
    [
        ("encoder strength", NETWORKS),
        ("encoder edge_quantiles", NETWORKS),
        ("fusion product", NETWORKS),
        ("modality edge_quantiles", {"core", "finetune", "mixture"}),
        ("objective small_embedding", {"adapt", "finetune", "mixture"}),
        ("task kind proportion", {"core", "finetune", "mixture"}),
        ("encoder plain", set()),
        ("baseline median", set()),
        ("metric spearman", set()),
        ("control network_bare", set()),
        ("importer pairs", set()),
    ],
)
def test_the_code_of_an_extension_is_in_the_keys_of_the_fits_that_use_it(
    guide: tuple[str, ...], part: str, stages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part in guide
    study, cohorts = using()
    known = keys(study, cohorts)
    other = extension_code._REGISTERED[part]._replace(code="other")
    monkeypatch.setitem(extension_code._REGISTERED, part, other)
    changed = keys(study, cohorts)
    assert {stage for stage, key in changed.items() if key != known[stage]} == stages


def test_a_study_uses_what_its_settings_name(guide: tuple[str, ...]) -> None:
    del guide
    study, cohorts = using()
    used = {f"encoder {kind}" for kind in ("strength", "edge_quantiles")} | {"modality edge_quantiles"}
    used |= {"fusion product", "objective small_embedding", "task kind proportion", "metric spearman"}
    assert parts_used(study, *cohorts.kinds) == used
    wider = small_settings(baselines=("median",), controls=("network_bare",))
    assert parts_used(wider, "binary") == {"baseline median", "control network_bare"}
    assert code_version(parts_of(wider, ("binary",))) != code_version(parts_of(small_settings(), ("binary",)))
