"""The search space as YAML: allowed keys, and error messages."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from tuning_cases import tuned_cohorts, tuned_study

from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.config import dump_settings, parse_settings
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.tuning.search import best_of
from connectome_tl.evaluation.tuning.space import check_space
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import _SECTIONS, Dimension, TuneSettings, tunable_keys
from connectome_tl.training.schemes import StudyCohorts

HEAD = "target: {cohort: target/cohort.yaml}\ntune:\n  space:\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    edges.n_edgs: {low: 2, high: 9}", r"line 4: tune\.space\.edges\.n_edgs: .*mean edges\.n_edges"),
        ("    stages.finetune.training.learning_rat: {low: 1, high: 9}", "mean stages.finetune.training.learning_rate"),
        ("    splits.outer: {low: 2, high: 9}", r"line 4: .*cannot be tuned; keys below model, core"),
        ("    stages.adapt.transductive: {choices: [true, false]}", "line 4: .*cannot be tuned"),
        ("    edges.n_edges: {low: 9, high: 2}", "line 4: .*low must be below high"),
        ("    edges.n_edges: {low: 9}", "line 4: .*give low and high, or choices"),
        ("    edges.n_edges: {choices: [4]}", "line 4: .*at least two different values"),
        ("    edges.n_edges: {low: 0, high: 4, log: true}", "line 4: .*starts above 0"),
        ("    edges.n_edges: {lo: 0, high: 4}", r"line 4: tune\.space\.edges\.n_edges\.lo: unknown key.*low"),
        ("    edges: {choices: [{n_edges: 3}, {}]}\n    edges.n_edges: {low: 2, high: 3}", "which is part of it"),
    ],
)  # fmt: skip
def test_a_wrong_space_is_refused_with_its_line_and_the_nearest_key(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_settings(HEAD + line, StudySettings)


def test_every_kind_of_encoder_and_objective_is_searchable() -> None:
    keys = tunable_keys()
    for key in (
        "model.encoder.dropout",
        "model.encoder.widths",
        "stages.adapt.objective",
        "core.clip",
        "edges.tangent",
    ):
        assert key in keys
    assert not {"seed", "splits.inner", "stages", "target.cohort"} & set(keys)
    parse_settings(
        HEAD + "    stages.finetune.training.part_learning_rates.connectome: {low: 0.1, high: 2.0}", StudySettings
    )


def test_a_space_survives_the_settings_file() -> None:
    study = tuned_study()
    assert parse_settings(dump_settings(study), StudySettings) == study


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"edges.n_edges": {"low": 10, "high": 1e2}}, "edges.n_edges = 38.6.*a whole number is needed.*high: 100"),
        ({"edges.consensus": {"low": 0.5, "high": 2.0}}, "edges.consensus = 2.0: .*must be at most 1"),
        ({"model.encoder.widths": {"choices": [[4], [8]]}}, "this study has no setting model.encoder.widths"),
        ({"confounds": {"choices": [None, {"columns": ["hat"]}]}}, "no column 'hat' in cohort"),
        ({"confounds.columns": {"choices": [["age"], ["motion"]]}}, "no setting confounds.columns"),
    ],
)
def test_values_that_the_study_or_its_cohorts_refuse_are_found_before_the_first_trial(
    space: dict[str, Any], said: str
) -> None:
    _refused(space, "core", said)


@pytest.mark.parametrize(
    ("key", "ends", "model"),
    [
        ("stages.finetune.training.learning_rate", (0.001, 0.01), "core"),
        ("model.dropout", (0.0, 0.5), "core"),
        ("core.clip", (2.0, 6.0), "network"),
        ("core.landmarks", (100, 200), "network"),
    ],
)
def test_settings_on_which_the_tuned_model_does_not_depend_are_refused(
    key: str, ends: tuple[float, float], model: str
) -> None:
    space = {key: {"low": ends[0], "high": ends[1]}}
    _refused(space, model, f"{key} has no effect on the tuned model, {model}")
    check_space(*_asked(space, "full"))


@pytest.mark.parametrize(
    "lines",
    [
        "  sampler: random\n  startup: 5\n",
        "  model: core\n  prune: inside\n",
        "  objectives: [auc, brier]\n  prune: inside\n",
    ],
)
def test_settings_of_a_search_without_effect_are_refused(lines: str) -> None:
    with pytest.raises(UsageError, match="has no effect with"):
        parse_settings(HEAD + "    core.clip: {low: 2.0, high: 6.0}\n" + lines, StudySettings)


def _asked(space: dict[str, Any], model: str) -> tuple[StudySettings, StudyCohorts, TuneSettings, Fold]:
    study, cohorts = tuned_study(), tuned_cohorts()
    fold = make_split_plan(cohorts.target, study.splits).repeats[0][0]
    return study, cohorts, TuneSettings.model_validate({"space": space, "model": model}), fold


def _refused(space: dict[str, Any], model: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_space(*_asked(space, model))


def test_a_choice_may_be_a_whole_block() -> None:
    blocks = [{"kind": "flat", "widths": [4, 2]}, {"kind": "graph", "width": 3}]
    one = Dimension.model_validate({"choices": blocks})
    assert [one.value(label) for label in one.labels] == blocks
    study = tuned_study().with_settings({"model.encoder": one.value(one.labels[0])})
    assert study.model.encoder.kind == "flat"
    assert study.model.encoder.widths == (4, 2)


def test_of_several_metrics_the_best_mean_rank_wins() -> None:
    assert best_of(np.array([[0.5], [0.7], [0.7], [0.6]])) == 1
    # Ranks of the AUC 0 1 2 3 3, of the negative Brier score 4 2 0 1 3: the third by its mean of 1.
    assert best_of(np.array([[0.9, -0.9], [0.8, -0.3], [0.7, -0.1], [0.6, -0.2], [0.6, -0.5]])) == 2
    assert best_of(np.array([[0.8, -0.1], [0.9, -0.2]])) == 1  # a tie goes to the first metric
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(0, 4, (12, 2)).astype(float)
        best = values[best_of(values)]
        assert not ((values >= best).all(axis=1) & (values > best).any(axis=1)).any()


def test_the_sections_that_are_searched_are_those_of_a_study() -> None:
    """Their classes are named in `settings.tuning`, which the study's settings import."""
    for name, section in _SECTIONS.items():
        annotation = StudySettings.model_fields[name].annotation
        assert section in (annotation, *get_args(annotation)), name
