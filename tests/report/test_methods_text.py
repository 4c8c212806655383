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
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.encoders import GraphEncoder
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.records.results import People
from connectome_tl.settings.study import Stages
from connectome_tl.settings.training import Adapt, Ensemble, FineTune, Training
from connectome_tl.tasks import Task
from connectome_tl.training.plans import FitPlan, RowSet
from connectome_tl.workflows.study.records import network_rows

PEOPLE = {
    "target": People(noun="infants", n_subjects=40, n_scans=40),
    "source": People(noun="adults", n_subjects=60, n_scans=60),
    "pool": People(noun="infants", n_subjects=50, n_scans=50),
}
VALUE = Task(name="score", kind="regression", column="score")
BINARY = Task(name="impaired", kind="binary", column="impaired")


def text(
    *,
    without: str = "",
    controls: tuple[str, ...] = ("scratch", "no_pretrain", "no_adapt"),
    known: dict[str, Any] | None = None,
    tasks: tuple[Task, ...] = (),
    **asked: Any,
) -> str:
    """The paragraph of a study with connectomes, without the cohort of one role; `known`: further facts."""
    stage = {"source": "pretrain", "pool": "adapt"}.get(without)
    settings = small_settings(controls=controls, **asked)
    if stage is not None:
        settings = settings.model_copy(
            update={without: None, "stages": settings.stages.model_copy(update={stage: None})}
        )
    people = {role: n for role, n in PEOPLE.items() if role != without}
    facts = StudyFacts("1", people, (26, 27), 9, "aal90", ("count",), ("connectome",), ("age",), (45, 50))
    return methods_paragraph(settings, replace(facts, **(known or {})), tasks)


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
    facts = StudyFacts("1", {"target": PEOPLE["target"]}, (26, 27), 9, "aal90", ("count",), ("connectome",))
    assert "only earlier stage" not in methods_paragraph(alone, facts, ())


def test_the_batches_of_stage_2_are_those_of_the_rows_that_are_not_tested() -> None:
    stages = Stages(adapt=Adapt(), finetune=FineTune())
    assert "batches of 45 to 50, learning rate 0.0003" in text(stages=stages)


def test_curved_kernels_are_named_where_a_cohort_is_large_enough_for_them() -> None:
    assert "kernels" not in text()
    both = "With at least 60 training families, the combination also had radial kernels and quadratic kernels of 16"
    assert both in text(core=CoreSettings(rbf_from=60, quadratic_from=60))
    said = text(core=CoreSettings(rbf_from=50, quadratic_components=0))
    assert "With at least 50 training families, the combination also had radial kernels of each block" in said
    assert "quadratic" not in said


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


@pytest.mark.parametrize(("n", "batches", "steps"), [(33, "24 to 25", 320), (120, "90", 320), (700, "66", 525)])
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


@pytest.mark.parametrize(
    ("families", "splits", "said"),
    [
        (True, {}, "; members of a family were assigned to the same fold"),
        (True, {"families": "ignored"}, "; members of a family were not kept in the same fold (a leak"),
        (True, {"scheme": "few_labels", "n_labelled": 9}, "; labelled subjects were of different families"),
        (False, {"families": "ignored"}, ""),
    ],
)
def test_families_are_where_the_splits_put_them(families: bool, splits: dict[str, Any], said: str) -> None:
    found = text(known={"families": families}, splits=splits)
    assert said in found
    assert ("of a family were assigned" in found) == ("assigned" in said)
    assert ("famil" in found.split("\n\n")[-1].split(".")[0]) == bool(said)


def test_the_rows_that_choose_the_steps_are_named() -> None:
    assert "training rows, which was used to choose the number of steps" in text()
    leaky = text(stages=Stages(finetune=FineTune(ensemble=Ensemble(choose_on="tested"))))
    assert "number of steps was chosen on the tested rows (a leak, for demonstration)" in leaky
    assert "which was used to choose" not in leaky


@pytest.mark.parametrize(
    ("tasks", "regression", "shrunk", "started"),
    [
        ((VALUE,), "value", True, "heads of values that"),
        ((BINARY,), "value", False, "heads of binary outcomes that"),
        ((VALUE, BINARY), "value", True, "heads of values and binary outcomes that"),
        ((VALUE,), "distribution", False, ""),
        ((VALUE, BINARY), "distribution", False, "heads of binary outcomes that"),
    ],
)
def test_only_linear_heads_are_shrunk_and_started(
    tasks: tuple[Task, ...], regression: str, shrunk: bool, started: str
) -> None:
    model = small_settings().model.model_dump() | {"regression": {"kind": regression}}
    said = text(tasks=tasks, model=model)
    assert ("were shrunk towards the mean" in said) == shrunk
    assert started in said
    assert ("start as the linear combination" in said) == bool(started)


def test_seeds_and_the_column_of_the_strata_are_named() -> None:
    assert "the predictions of 4 networks were averaged" in text(stages=Stages())
    assert "the predictions of 3 ensembles, with different initial weights, of 4 networks" in text(
        stages=Stages(), n_seeds=3
    )
    assert "stratified by severity" in text(known={"stratum": "severity"})
    assert "stratified" not in text()


def test_scans_are_not_counted_as_subjects() -> None:
    people = {role: replaced.model_copy(update={"n_scans": 70}) for role, replaced in PEOPLE.items()}
    said = text(known={"people": people})
    assert "Connectomes of 70 scans of 40 infants" in said
    assert "pretraining of the network on 70 scans of 60 adults" in said
    assert "on up to 70 scans of 50 infants without outcomes" in said


@pytest.mark.parametrize("kind", ["coral", "masked_edges"])
def test_stage_2_without_the_source_is_named(kind: str) -> None:
    stages = Stages.model_validate({"adapt": {"objective": {"kind": kind}}})
    assert ("stage 2 is the reconstruction of the pool alone" in text(stages=stages)) == (kind == "coral")
