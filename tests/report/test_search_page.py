"""Warning of a search whose trials do not differ in their scores."""

from __future__ import annotations

from every_page import search

from connectome_tl.report.tuning import render_search


def test_folds_whose_trials_have_equal_scores_are_named() -> None:
    record = search()
    assert "same scores" not in render_search(record)
    alike = tuple(t.model_copy(update={"values": (0.6,)}) if t.fold == 1 else t for t in record.trials)
    assert "the same scores in repeat 0, fold 1: there" in render_search(record.model_copy(update={"trials": alike}))
