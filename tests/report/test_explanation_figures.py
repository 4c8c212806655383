"""Figures of maps: positions, limits on the number of items, and the same bytes every time."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from page import HOSTILE, Page
from report_example import example_record

from connectome_tl.atlas import load_atlas
from connectome_tl.report.explanations import render_explanations
from connectome_tl.report.figures.explanations import CIRCLE_EDGES, brain_figure, circle_figure, lobe_order, matrix_of
from connectome_tl.settings.records.explanations import (
    CellPlace,
    ExplanationMap,
    ExplanationRecord,
    MapItem,
    NullResult,
    Withheld,
)

N = 90


def example(atlas: str, rename: str = "") -> ExplanationRecord:
    regions = load_atlas(atlas).regions
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(N, 1)
    values = rng.normal(size=len(first)) ** 3
    order = np.argsort(-np.abs(values))[:150]
    matrix = np.zeros((N, N))
    matrix[first, second] = matrix[second, first] = values
    scale = float(np.abs(matrix).max())
    names = [rename + region.name for region in regions]
    one = ExplanationMap(
        task="cognitive_delay",
        model="core",
        method="pattern",
        unit="standard deviations",
        explained="log-odds",
        n_rows=33,
        n_subjects=33,
        regions=tuple(
            MapItem(name=name, value=abs(v), p=0.2) for name, v in zip(names, rng.normal(size=N), strict=True)
        ),
        edges=tuple(MapItem(name=rename, value=values[i], first=int(first[i]), second=int(second[i])) for i in order),
        covariates=(MapItem(name=rename + "age", value=-0.3, stability=0.5, p=0.01),),
        n_edges=len(values),
        matrix=base64.b64encode(np.round(127 * matrix / scale).astype(np.int8).tobytes()).decode(),
        matrix_scale=scale,
        null=(
            NullResult(
                kind="edge", n_permutations=99, n_items=4005, threshold=5, largest=6, p_largest=0.02, n_beyond=3
            ),
        ),
        note=rename,
    )
    return ExplanationRecord(
        configuration="",
        models=("core",),
        atlas=atlas,
        space=load_atlas(atlas).space,
        regions=tuple(names),
        lobes=tuple(region.lobe for region in regions),
        hemispheres=tuple(region.hemisphere for region in regions),
        coordinates=tuple((region.x, region.y, region.z) for region in regions),
        maps=(one,),
        withheld=(Withheld(task="cognitive_delay", model="full", reason=rename + "at chance"),),
        notes=(rename,),
    )


@pytest.mark.parametrize("atlas", ["aal90", "unc_aal90"])
def test_a_brain_is_drawn_in_adult_and_neonatal_space_and_stays_small(atlas: str) -> None:
    found = example(atlas)
    svg = brain_figure(found.maps[0], found, "b", "Simulated data")
    assert svg is not None
    assert svg == brain_figure(found.maps[0], found, "b", "Simulated data")
    assert len(svg) < 400_000
    assert "Simulated data" in Page(svg).visible
    nowhere = found.model_copy(update={"coordinates": ()})
    assert brain_figure(nowhere.maps[0], nowhere, "b", "") is None


def test_regions_of_a_lobe_stand_together_and_the_matrix_is_that_of_the_summary() -> None:
    found = example("unc_aal90")
    order, spans = lobe_order(found)
    assert sorted(order) == list(range(N))
    assert [lobe for lobe, _, _ in spans] == sorted(set(found.lobes))
    for lobe, start, end in spans:
        assert {found.lobes[i] for i in order[start:end]} == {lobe}
    matrix = matrix_of(found.maps[0], N)
    top = found.maps[0].edges[0]
    assert matrix[top.first, top.second] == pytest.approx(top.value, abs=found.maps[0].matrix_scale / 127)


def test_only_the_strongest_edges_are_drawn() -> None:
    found = example("unc_aal90")
    one = found.maps[0]
    few = one.model_copy(update={"edges": one.edges[:CIRCLE_EDGES]})
    assert circle_figure(one, found, "c", "") == circle_figure(few, found, "c", "")
    assert circle_figure(one.model_copy(update={"edges": ()}), found, "c", "") is None


@pytest.mark.parametrize("text", HOSTILE[:6])
def test_hostile_names_of_regions_and_covariates_do_nothing(text: str) -> None:
    record = example_record(n_tasks=1, n_repeats=1, n_permutations=0)
    page = Page(render_explanations(example("unc_aal90", text), record))
    assert page.faults == []
    assert page.loads() == []
    assert page.tags["img"] == 0
    assert text in "".join(page.text)
    assert len(page.ids) == len(set(page.ids))


def test_bars_of_cells_have_the_regions_of_an_atlas_and_their_coordinates() -> None:
    found = example("unc_aal90")
    cells = (MapItem(name="(8, -24, 31) right back", value=0.4), MapItem(name="(0, 1, 2) centre", value=-0.2))
    places = (
        CellPlace(name=cells[0].name, x=8.2, y=-24.0, z=31.4, region=found.regions[3]),
        CellPlace(name=cells[1].name, x=0.0, y=1.0, z=2.0),
    )
    maps = (found.maps[0].model_copy(update={"cells": cells}),)
    found = found.model_copy(update={"maps": maps, "cells": places, "cell_space": "the space of the volumes"})
    html = render_explanations(found, example_record(n_tasks=1, n_repeats=1, n_permutations=0))
    figure = html.partition("Cells: the largest values")[2].partition("</figure>")[0]
    assert f">{found.regions[3]} (8, -24, 31)<" in figure
    assert ">(0, 1, 2) centre<" in figure
