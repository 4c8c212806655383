"""The methods paragraph names omissions and settings that are not the default."""

from __future__ import annotations

from typing import Any

import pytest
from small_study import small_settings

from connectome_tl.report.text.methods import StudyFacts, methods_text
from connectome_tl.settings.study import Stages
from connectome_tl.settings.training import FineTune, Training

SIZES = {"target": 40, "source": 60, "pool": 50}


def text(*, without: str = "", controls: tuple[str, ...] = ("scratch", "no_pretrain", "no_adapt"), **asked: Any) -> str:
    """The paragraph of a study with connectomes, without the cohort of one role."""
    stage = {"source": "pretrain", "pool": "adapt"}.get(without)
    settings = small_settings(controls=controls, **asked)
    if stage is not None:
        settings = settings.model_copy(
            update={without: None, "stages": settings.stages.model_copy(update={stage: None})}
        )
    sizes = {role: n for role, n in SIZES.items() if role != without}
    facts = StudyFacts("1", "infants", sizes, (26, 27), 9, "aal90", ("count",), ("connectome",), ("age",))
    return methods_text(settings, facts, ())


@pytest.mark.parametrize(("without", "stage", "control"), [("pool", 1, "no_pretrain"), ("source", 2, "no_adapt")])
def test_one_earlier_stage_has_no_control_of_its_own_and_the_text_says_so(
    without: str, stage: int, control: str
) -> None:
    sentence = f"Stage {stage} is the only earlier stage; the model without it is the model from scratch"
    assert f"{sentence}. It therefore has no control of its own." in text(without=without)
    assert sentence not in text(without=without, controls=("scratch",))  # it was not requested
    assert "which is not among the controls" in text(without=without, controls=(control,))
    assert f"{sentence}." in text(without=without, controls=("scratch", f"network_{control}"))


def test_two_earlier_stages_and_none_say_nothing_of_the_kind() -> None:
    assert "only earlier stage" not in text()
    alone = small_settings(source=None, pool=None, stages=Stages(pretrain=None, adapt=None))
    facts = StudyFacts("1", "infants", {"target": 40}, (26, 27), 9, "aal90", ("count",), ("connectome",))
    assert "only earlier stage" not in methods_text(alone, facts, ())


def test_edges_in_lower_precision_are_named() -> None:
    stages = Stages(finetune=FineTune(training=Training(precision="bf16")))
    assert text(stages=stages).count("edges in bfloat16") == 1
    assert "bfloat16" not in text()
