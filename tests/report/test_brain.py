"""The glass brain draws the given values on one scale."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from report_parts import brain_coordinates

from connectome_tl.report.figures.brain import glass_brain

COORDINATES = brain_coordinates(np.random.default_rng(0))


def n_drawn(svg: str, tag: str = "use") -> int:
    return sum(element.tag == tag for element in ElementTree.fromstring(svg).iter())


def test_every_region_is_drawn_in_three_views_and_undefined_ones_are_left_out() -> None:
    values = np.linspace(-1, 1, 90)
    svg = glass_brain(COORDINATES, values)
    assert svg is not None
    assert svg.count("#c2410c") + svg.count("#1d4ed8") >= 90 * 3
    values[:30] = np.nan
    fewer = glass_brain(COORDINATES, values)
    assert fewer is not None
    assert fewer.count("#1d4ed8") == svg.count("#1d4ed8") - 90


def test_the_same_input_gives_the_same_bytes_and_the_name_only_changes_ids() -> None:
    values = np.sin(np.arange(90.0))
    one = glass_brain(COORDINATES, values, edges=[(0, 1, 0.5), (3, 80, -1.0)])
    assert one == glass_brain(COORDINATES, values, edges=[(0, 1, 0.5), (3, 80, -1.0)])
    assert one != glass_brain(COORDINATES, values, edges=[(0, 1, -0.5), (3, 80, -1.0)])


def test_nothing_to_draw_is_none() -> None:
    assert glass_brain(COORDINATES, np.full(90, np.nan)) is None


def test_a_brain_of_zeros_and_one_of_one_region_can_be_drawn() -> None:
    assert glass_brain(COORDINATES, np.zeros(90)) is not None
    assert glass_brain(COORDINATES[:1], [1.0]) is not None


@pytest.mark.parametrize(
    ("coordinates", "values", "edges"),
    [
        (COORDINATES[:, :2], np.ones(90), ()),
        (COORDINATES, np.ones(89), ()),
        (COORDINATES, np.ones(90), [(0, 90, 1.0)]),
        (COORDINATES, np.ones(90), [(-1, 3, 1.0)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(coordinates: np.ndarray, values: np.ndarray, edges: list) -> None:
    with pytest.raises(ValueError, match=r"expected|outside"):
        glass_brain(coordinates, values, edges=edges)
