"""`init` asks which atlas and measure is meant where each file holds several, and writes what was chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.workflows.init.from_files import init_study, start_from
from connectome_tl.workflows.init.questions import Question

NAMES = {"One": ("a", "b", "c"), "Two": ("d", "e", "f", "g")}


def symmetric(n: int, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).gamma(1, 5, (n, n)), 1)
    return upper + upper.T


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "mats").mkdir()
    ids = [f"PT{i:02d}" for i in range(12)]
    for i, one in enumerate(ids):
        variables: dict[str, np.ndarray] = {}
        for atlas, names in NAMES.items():
            variables[f"atlas_{atlas}_region_labels"] = np.array(names, dtype=object)
            for k, measure in enumerate(("count", "mean_length")):
                variables[f"atlas_{atlas}_{measure}_connectivity"] = symmetric(len(names), 10 * i + k)
        savemat(tmp_path / "mats" / f"sub-{one}_connectivity.mat", variables, long_field_names=True)
        savemat(tmp_path / "mats" / f"sub-{one}_plain.mat", {"SC": symmetric(5, i), "FC": symmetric(5, i + 50)})
    pd.DataFrame({"id": ids, "score": np.linspace(60, 120, 12)}).to_csv(tmp_path / "sheet.csv", index=False)
    return tmp_path


def start(lab: Path, answers: dict[str, str], **more: object) -> Path:
    start_from([lab / "sheet.csv"], lab / "mats", lab / "study", answers=answers, ask=None, **more)  # type: ignore[arg-type]
    return lab / "study" / "cohort.yaml"


def test_the_chosen_atlas_and_measure_are_read(lab: Path) -> None:
    cohort = read_cohort(start(lab, {"format": "qsirecon:Two", "measure": "mean_length"}))
    assert cohort.regions == NAMES["Two"]
    np.testing.assert_allclose(cohort.weights[3, 0], symmetric(4, 31), rtol=1e-6)


def test_the_chosen_variable_is_read(lab: Path) -> None:
    cohort = read_cohort(start(lab, {"format": "mat:FC", "atlas": "numbered"}, pattern="sub-{id}_plain.mat"))
    np.testing.assert_allclose(cohort.weights[3, 0], symmetric(5, 53), rtol=1e-6)


def test_without_an_answer_the_choices_and_the_option_are_named(lab: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)one of qsirecon:One, qsirecon:Two.*--answer 'format=\.\.\.'"):
        start(lab, {})
    with pytest.raises(UsageError, match=r"(?s)one of count, mean_length.*--answer 'measure=\.\.\.'"):
        start(lab, {"format": "qsirecon:Two"})
    with pytest.raises(UsageError, match="answer 'qsirecon:Three' to format"):
        start(lab, {"format": "qsirecon:Three"})


def test_at_a_terminal_files_atlas_and_measure_are_asked(lab: Path) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def ask(question: Question) -> str:
        asked.append((question.key, question.choices))
        return question.choices[-1] if question.key in ("format", "measure") else str(question.default)

    start_from([lab / "sheet.csv"], lab / "mats", lab / "study", answers={}, ask=ask)
    assert asked[:3] == [
        ("pattern", ("sub-{id}_connectivity.mat", "sub-{id}_plain.mat")),
        ("format", ("qsirecon:One", "qsirecon:Two")),
        ("measure", ("count", "mean_length")),
    ]
    text = (lab / "study" / "cohort.yaml").read_text()
    assert "labels: named" in text


def test_a_table_without_a_header_is_refused_before_a_subject_is_lost(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    rows = [f"s{i:02d},{40 + i},{80 + i}" for i in range(1, 7)]
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n")
    for i in range(1, 7):
        np.savetxt(tmp_path / "m" / f"s{i:02d}.csv", np.ones((90, 90)), delimiter=",")
    with pytest.raises(DataError, match="no header: its first line is s01, 41, 81"):
        init_study(tmp_path / "p.csv", tmp_path / "m", tmp_path / "study")
