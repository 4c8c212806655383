"""Numbers as text and as positions on an axis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_example import example_record

from connectome_tl.report import labels, views
from connectome_tl.report.text import verdict
from connectome_tl.settings.model_table import model_order
from connectome_tl.settings.records.results import Comparison

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(low=finite, span=st.floats(1e-4, 1e6))
def test_an_axis_has_round_ticks_that_enclose_its_values(low: float, span: float) -> None:
    axis = views._axis(low, low + span, reference=None)
    places = [at for at, _ in axis.ticks]
    assert axis.low <= low + 1e-6 * span
    assert axis.high >= low + span - 1e-6 * span
    assert places[0] == 0
    assert places[-1] == 100
    assert places == sorted(places)
    assert 2 <= len(places) <= 8


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 1.0, ["0.25", "0.50", "0.75", "1.00"]),
        (-1.0, 1.0, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
        (0.0, 12.0, ["0", "5", "10", "15"]),
        (0.0, 8.0, ["0", "2", "4", "6", "8"]),
        (-0.05, 0.05, ["−0.050", "−0.025", "0.000", "0.025", "0.050"]),
    ],
)
def test_ticks_are_those_a_person_would_choose(low: float, high: float, expected: list[str]) -> None:
    assert [text for _, text in views._axis(low, high, reference=None).ticks] == expected


@given(value=finite, low=finite, high=finite)
def test_bars_stay_on_their_axis_and_say_when_they_are_cut(value: float, low: float, high: float) -> None:
    axis = views._axis(0.0, 1.0, reference=0.5)
    low, high = min(low, high), max(low, high)
    bar = views._bar(axis, value, low, high)
    assert bar.dot is not None
    assert bar.start is not None
    assert bar.width is not None
    assert 0 <= bar.dot <= 100
    assert 0 <= bar.start <= 100
    assert -1e-9 <= bar.width <= 100 - bar.start + 0.01
    assert bar.cut_low == (low < -1e-9)
    assert bar.cut_high == (high > 1 + 1e-9)


def test_undefined_values_have_no_place() -> None:
    axis = views._axis(0.0, 1.0, reference=None)
    assert views._bar(axis, math.nan, math.nan, math.nan) == views.Bar(None, None, None)
    assert views._bar(axis, 0.5, math.nan, math.nan) == views.Bar(50.0, None, None)


def test_right_of_zero_is_better_also_where_smaller_is_better() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    brier = Comparison(
        task=record.tasks[0].name, metric="brier", model="full", control="ridge", question="?",
        difference=-0.1, low=-0.15, high=-0.05, sign=-1, verdict="helps", n=30,
    )  # fmt: skip
    only = record.model_copy(
        update={
            "comparisons": (brier,),
            "scores": tuple(s for s in record.scores if s.metric == "brier"),
        }
    )
    (view,) = views.task_views(only)
    (row,) = view.differences
    assert row.bar.dot is not None
    assert view.difference_axis.reference is not None
    assert row.bar.dot > view.difference_axis.reference
    assert (row.value, row.interval) == ("−0.10", "[−0.15, −0.05]")


def test_the_equivalence_band_is_drawn_only_where_one_was_fixed() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    (view,) = views.task_views(record)
    low, high = view.difference_axis.low, view.difference_axis.high
    assert view.difference_axis.band is not None
    assert view.difference_axis.band[1] == pytest.approx(100 * 0.1 / (high - low), abs=0.02)
    without = tuple(c.model_copy(update={"margin": None}) for c in record.comparisons)
    (view,) = views.task_views(record.model_copy(update={"comparisons": without}))
    assert view.difference_axis.band is None


def test_a_second_interval_of_a_number_is_a_second_table_and_not_a_second_row() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    second = tuple(s.model_copy(update={"method": "this fitted model"}) for s in record.scores)
    (once,) = views.task_views(record)
    (twice,) = views.task_views(record.model_copy(update={"scores": record.scores + second}))
    assert twice.forest == once.forest
    assert twice.scores[0] == once.scores[0]
    assert twice.scores[1].methods[0][1] == "this fitted model"
    assert twice.scores[1].rows == once.scores[0].rows


def test_a_range_of_n_is_shown_as_a_range() -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    scores = [s for s in record.scores if s.metric == "auc"][:2]
    fewer = scores[1].model_copy(update={"n": 12, "n_positive": 3})
    text = views.n_text([scores[0], fewer])
    assert text == f"n = 12 to {scores[0].n}, 3 to {scores[0].n_positive} positive"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.50"), (-0.123, "−0.12"), (-0.001, "0.00"), (math.nan, "n/a"), (math.inf, "n/a"), (None, "n/a")],
)
def test_numbers(value: float | None, expected: str) -> None:
    assert labels.number(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.5, "+0.50"), (-0.5, "−0.50"), (0.001, "0.00"), (math.nan, "n/a")])
def test_differences_carry_their_sign(value: float, expected: str) -> None:
    assert labels.signed(value) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.978, 0.9), 3), ((-0.0391, 0.001), 4), ((85.3, 7.0), 1), ((2345.0,), 0), ((math.nan,), 0)],
)
def test_a_column_has_as_many_decimals_as_its_largest_number_needs(values: tuple[float, ...], expected: int) -> None:
    assert labels.column_digits(values) == expected


@pytest.mark.parametrize("n_permutations", [19, 99, 100, 200, 1000, 9999])
def test_no_permutation_p_is_printed_as_zero(n_permutations: int) -> None:
    smallest = 1 / (n_permutations + 1)
    assert float(labels.p_value(smallest, n_permutations)) > 0


def test_every_model_of_the_contract_has_a_name_and_a_colour_of_its_own() -> None:
    names = ["full", "scratch", "no_pretrain", "no_adapt", "single_task", "no_clinical"]
    names += ["clinical_only", "nuisance_only", "ridge", "prevalence"]
    shown = [labels.model_label(name) for name in names]
    assert len({model.label for model in shown}) == len({model.colour for model in shown}) == len(names)
    assert sorted([*names[4:], *names[:4]], key=model_order) == names
    assert labels.model_label("my_own").label == "My own"


@pytest.mark.parametrize(
    ("low", "high", "with_sign", "text"),
    [
        (0.41, 0.8, False, "[0.41, 0.80]"),
        (-0.0049, 0.0049, True, "[−0.005, +0.005]"),
        (0.9996, 1.0, False, "[0.9996, 1.0000]"),
        (0.5, 0.5, False, "[0.50, 0.50]"),
    ],
)
def test_an_interval_is_printed_with_enough_decimals_to_have_a_length(low, high, with_sign, text) -> None:
    assert labels.interval(low, high, with_sign=with_sign) == text
    words = verdict.interval(low, high, with_sign)
    assert words == "no interval" if low == high else text.strip("[]").replace("−", "-").replace(", ", " to ") in words
