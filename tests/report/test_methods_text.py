"""The methods paragraph names omissions and settings that are not the default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from small_study import small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.nested_cv import CrossValidation, PlannedFold
from connectome_tl.report.text.methods import StudyFacts, methods_paragraph
from connectome_tl.report.text.training import training_text
from connectome_tl.settings.encoders import GraphEncoder
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.study import Stages
from connectome_tl.settings.training import Adapt, FineTune, Training
from connectome_tl.training.plans import FitPlan, RowSet
from connectome_tl.workflows.study.records import network_rows

SIZES = {"target": 40, "source": 60, "pool": 50}


def text(
    *,
    without: str = "",
    controls: tuple[str, ...] = ("scratch", "no_pretrain", "no_adapt"),
    known: dict[str, Any] | None = None,
    **asked: Any,
) -> str:
    """The paragraph of a study with connectomes, without the cohort of one role; `known`: further facts."""
    stage = {"source": "pretrain", "pool": "adapt"}.get(without)
    settings = small_settings(controls=controls, **asked)
    if stage is not None:
        settings = settings.model_copy(
            update={without: None, "stages": settings.stages.model_copy(update={stage: None})}
        )
    sizes = {role: n for role, n in SIZES.items() if role != without}
    facts = StudyFacts("1", "infants", sizes, (26, 27), 9, "aal90", ("count",), ("connectome",), ("age",), (45, 50))
    return methods_paragraph(settings, replace(facts, **(known or {})), ())


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
    assert "only earlier stage" not in methods_paragraph(alone, facts, ())


def test_the_batches_of_stage_2_are_those_of_the_rows_that_are_not_tested() -> None:
    stages = Stages(adapt=Adapt(), finetune=FineTune())
    assert "batches of 45 to 50, learning rate 0.0003" in text(stages=stages)


def test_every_block_of_the_core_is_named() -> None:
    assert "one block each for edges:" in text()
    said = text(known={"regional": True, "presence": True, "tangent": True, "modalities": ("connectome", "clinical")})
    blocks = "edges, edges in tangent space, regional measures, the presence of a connectome and clinical covariates"
    assert f"one block each for {blocks}:" in said


def test_the_average_of_the_core_is_named_where_it_is_used() -> None:
    assert "with fewer than 150 training families, an average over the scales of the blocks" in text()
    assert "an average over the scales" not in text(core={"average_below": 0})


def test_controls_start_from_the_remaining_stage_and_have_their_own_steps_where_the_model_has_its_parents() -> None:
    assert "start from the weights of the remaining earlier stage or, if there is none, from initial ones" in text()
    assert "fit their own feature steps" not in text()
    assert "fit their own feature steps" in text(stages=Stages(finetune=FineTune(scaling="parent")))


def test_the_direct_path_is_named_after_what_it_maps() -> None:
    assert GraphEncoder().describe().endswith("a linear map of the edges")
    assert GraphEncoder(node_features="measures").describe().endswith("a linear map of the regional measures")


def test_settings_of_transferred_weights_are_named() -> None:
    stages = Stages(finetune=FineTune(training=Training(anchor=0.1)))
    assert "L2-SP" in text(stages=stages)
    assert "L2-SP" not in text(stages=Stages(finetune=FineTune()))


@pytest.mark.parametrize(("n", "batches", "steps"), [(33, "24 to 25", 320), (120, "90", 320), (700, "66", 320)])
def test_the_rows_of_the_last_stage_are_those_of_one_network(n: int, batches: str, steps: int) -> None:
    """Each of four networks is trained without a quarter of the rows."""
    ids = tuple(f"s{i}" for i in range(n))
    inner = tuple(ids[start::4] for start in range(4))
    plan = FitPlan("finetune", RowSet("target", ids, ""), ("y",), ("connectome",), FeatureSettings(), 0, inner=inner)
    fold = Fold(ids, ())
    planned = tuple(PlannedFold(model, (), 0, 0, fold, (plan,)) for model in ("full", "core"))
    rows = network_rows(CrossValidation(pd.DataFrame(), planned, {}), "finetune")
    assert rows is not None
    said = training_text(Training(), *rows)
    assert f"at most {steps} steps with batches of {batches}" in said


def test_data_and_model_stages_and_evaluation_are_paragraphs() -> None:
    starts = [paragraph.split(" ")[0] for paragraph in text().split("\n\n")]
    assert starts == ["Connectomes", "Stage", "Models"]
    assert "\n" not in text().replace("\n\n", "")


def test_edges_in_lower_precision_are_named() -> None:
    stages = Stages(finetune=FineTune(training=Training(precision="bf16")))
    assert text(stages=stages).count("edges in bfloat16") == 1
    assert "bfloat16" not in text()
