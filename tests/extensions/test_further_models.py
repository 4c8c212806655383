"""An external baseline, the mean outcome of the nearest training subjects, and an external control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from connectome_tl import extend
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Learner
from connectome_tl.evaluation.baselines.engines.linear import fit_edge_scaler
from connectome_tl.settings.base import Settings
from connectome_tl.settings.model_table import MODELS, ModelSpec, Scheme
from connectome_tl.settings.study import StudySettings

SPEC = ModelSpec(
    "neighbours", "Nearest subjects", "#445566", "baseline", "Is it better than the nearest subjects?",
    words="the nearest subjects",
)  # fmt: skip
CONTROL = ModelSpec(
    "bare_start", "Bare start", "#665544", "control", "Do covariates and earlier stages help together?",
    subject="Both of them", words="a bare start",
    scheme=Scheme("bare_start", pretrain=False, adapt=False, without=frozenset({"clinical"})),
)  # fmt: skip


class NeighboursSettings(Settings):
    n: int = 5

    def describe(self) -> str:
        return f"the mean outcome of the {self.n} training subjects with the nearest edges"


def nearest(n: int, design: Design, y: np.ndarray) -> np.ndarray:
    scaler, known = fit_edge_scaler(design.train), np.isfinite(y)
    train, test = scaler.transform(design.train[known]), scaler.transform(design.test)
    apart = ((test[:, None] - train[None]) ** 2).sum(axis=2)
    return np.asarray(y[known][np.argsort(apart, axis=1)[:, :n]].mean(axis=1))


def neighbours(data: BaselineData) -> list[Baseline]:
    n = data.study.baseline_settings.neighbours.n  # type: ignore[attr-defined]
    learner = Learner(lambda design, y, _: nearest(n, design, y))
    return [Baseline(data.edges, data.tasks, learner)]


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(baseline=(SPEC, neighbours), settings=NeighboursSettings, control=CONTROL)


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small(
        {"baseline_settings": {"neighbours": {"n": 3}}},
        baselines=("prevalence", "neighbours"),
        controls=("bare_start",),
        baseline_permutations=2,
    )
    assert np.isfinite(run.scores.set_index("model").loc["neighbours", "value"]).all()
    asked = run.comparisons.set_index("control")["question"]
    assert asked["neighbours"] == SPEC.question
    assert asked["bare_start"] == CONTROL.question
    page = run.report.read_text("utf-8")
    assert "the mean outcome of the 3 training subjects with the nearest edges" in page
    assert "Nearest subjects" in page
    assert "Bare start" in page
    assert unknown_to_the_package("bare_start")
    assert unknown_to_the_package("neighbours.n")
    assert unknown_to_the_package("nearest edges")


def test_its_settings_have_defaults_and_are_checked() -> None:
    assert StudySettings.model_validate({"target": {"cohort": "t"}}).baseline_settings.neighbours.n == 5  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="neighbours"):
        StudySettings.model_validate({"target": {"cohort": "t"}, "baseline_settings": {"neighbours": {"k": 1}}})


def test_a_name_that_is_taken_and_a_control_are_refused() -> None:
    with pytest.raises(UsageError, match="already"):
        extend(baseline=(ModelSpec("ridge", "R", "#123456", "baseline"), neighbours))
    with pytest.raises(UsageError, match="is no baseline"):
        extend(baseline=(ModelSpec("mine", "M", "#123456", "control"), neighbours))
    assert "mine" not in MODELS


@pytest.mark.parametrize(
    "changes", [{"scheme": None}, {"role": "baseline"}, {"scheme": Scheme("another", adapt=False)}, {"name": "alone"}]
)
def test_a_control_without_a_definition_of_its_name_is_refused(changes: dict) -> None:
    with pytest.raises(UsageError, match="is no control"):
        extend(control=replace(CONTROL, **changes))
    assert "alone" not in MODELS
