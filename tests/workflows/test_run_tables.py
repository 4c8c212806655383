"""A table of predictions that was damaged after its run is refused in one line with the location."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from connectome_tl.errors import DataError, DivergedError
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.provenance import write_table
from connectome_tl.tasks import Task
from connectome_tl.workflows.study.results import read_predictions

TASK = Task(name="delay", kind="binary", column="delay")


def rows():
    y = np.array([0.0, 1.0, np.nan, 1.0])
    return prediction_rows(TASK, "full", 0, 0, ["a", "b", "c", "d"], y, np.array([0.2, 0.7, 0.4, 0.6]), 0.5)


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("y_score", np.nan, 3),
        ("y_score", np.inf, 3),
        ("y_pred", np.nan, 4),
        ("y_true", -np.inf, 2),
        ("fold", np.nan, 5),
        ("repeat", np.nan, 2),
        ("subject", None, 3),
        ("task", None, 4),
        ("model", None, 5),
    ],
)
def test_a_missing_or_infinite_cell_is_named_with_its_line(tmp_path, column, value, line):
    table = rows().astype({column: object})
    table.loc[line - 2, column] = value
    path = write_table(tmp_path / "predictions.tsv", table)
    with pytest.raises(DataError, match=f"line {line}: column {column} holds a value that is missing or infinite"):
        read_predictions(path)


def test_missing_outcomes_and_probabilities_of_other_tasks_are_no_damage(tmp_path):
    table = rows().assign(p_0=[np.nan, 0.3, np.nan, 0.2])
    path = write_table(tmp_path / "predictions.tsv", table)
    pd.testing.assert_frame_equal(read_predictions(path), table, check_dtype=False)


@pytest.mark.parametrize("text", ["", "subject\n", "\x00\x01", "subject\ttask\na\tb\n", "a\tb\nc\td\te\tf\n"])
def test_what_is_no_table_is_bad_data(tmp_path, text):
    path = tmp_path / "predictions.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match="not a table of predictions"):
        read_predictions(path)


def test_a_model_whose_output_is_not_finite_is_bad_data_and_no_fault_of_ours():
    with pytest.raises(DivergedError, match="subject b: task delay: a prediction of model ridge is not finite"):
        prediction_rows(TASK, "ridge", 0, 0, ["a", "b"], np.zeros(2), np.array([0.5, np.nan]), 0.5)
