"""Explanation report, as a separate page and as a section of the run report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectome_tl.plurals import counted
from connectome_tl.report import labels
from connectome_tl.report.figures.explanations import (
    BRAIN_EDGES,
    CIRCLE_EDGES,
    bars_figure,
    brain_figure,
    circle_figure,
    matrix_figure,
)
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.labels import number
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapItem
from connectome_tl.settings.records.results import RunRecord

Row = tuple[str, ...]
_SHOWN = 10
_SIGNIFICANT = 0.05
_SHOWN_KINDS = ("edge", "region", "covariate", "cell")  # whose stability and agreement are shown
_KINDS = {
    "edge": "Edges", "region": "Regions", "covariate": "Covariates", "cell": "Cells of the volumes",
    "group": "Lobes or networks", "modality": "Modalities",
}  # fmt: skip
_TITLES = {
    "pattern": "Pattern: association with the prediction",
    "integrated gradients": "Integrated gradients: contribution to the prediction",
    "occlusion": "Occlusion: change of the prediction without it",
}


@dataclass(frozen=True)
class MapView:
    """One map: its figures and its tables."""

    title: str
    unit: str
    note: str
    figures: list[Figure]
    cells: list[Row]
    groups: list[Row]
    tests: list[str]


@dataclass(frozen=True)
class ModelView:
    """All maps of one model and outcome."""

    heading: str
    model: str
    lead: str
    maps: list[MapView]
    stability: list[Row]
    agreement: list[Row]
    same_as_core: bool


def explanation_views(found: ExplanationRecord, record: RunRecord, sheet: Sheet) -> list[ModelView]:
    """One view per outcome, class and model, in the order of the record."""
    groups: dict[tuple[str, str, str], list[ExplanationMap]] = {}
    for one in found.maps:
        groups.setdefault((one.task, one.level, one.model), []).append(one)
    return [_model_view(key, maps, found, record, sheet) for key, maps in groups.items()]


def _model_view(
    key: tuple[str, str, str], maps: list[ExplanationMap], found: ExplanationRecord, record: RunRecord, sheet: Sheet
) -> ModelView:
    task, level, model = key
    known = next((one for one in record.tasks if one.name == task), None)
    title = labels.task_title(known) if known is not None else labels.plain(task)
    weight = next((w for w in record.network_weights if w.task == task), None)
    only_core = model == "full" and weight is not None and weight.high == 0 and ("core" in found.models)
    return ModelView(
        heading=f"{title}{f', {level}' if level else ''}",
        model=labels.model_label(model).label,
        lead=_lead(maps),
        maps=[] if only_core else [_map_view(one, found, sheet) for one in maps],
        stability=[] if only_core else _stability_rows(maps),
        agreement=[] if only_core else _agreement_rows(key, found),
        same_as_core=only_core,
    )


def _lead(maps: list[ExplanationMap]) -> str:
    """One sentence: which items exceed the null, and how well the methods agree on the strongest regions."""
    tested = [(one, test) for one in maps for test in one.null if test.kind in ("edge", "region", "cell")]
    if not tested:
        why = next((one.untested for one in maps if one.untested), "")
        return f"This model was not tested against permuted outcomes{f' ({why})' if why else ''}."
    parts = [f"{one.method}: {test.n_beyond:,} of {test.n_items:,} {_KINDS[test.kind].lower()}" for one, test in tested]
    n = tested[0][1].n_permutations
    return (
        f"Beyond what permuted outcomes give, corrected over all items of a map "
        f"({counted(n, 'permutation')}): {'; '.join(parts)}. The correction holds where nothing is related to the "
        "outcome; otherwise items that only correlate with a related one are among them."
    )


def _map_view(one: ExplanationMap, found: ExplanationRecord, sheet: Sheet) -> MapView:
    figures: list[Figure] = []
    note = f"{one.unit[:1].upper()}{one.unit[1:]}. "
    figures += sheet.draw(
        lambda name: brain_figure(one, found, name, sheet.stamp),
        "Regions" + (f" and the {min(BRAIN_EDGES, len(one.edges))} strongest edges" if one.edges else ""),
        "Area: difference from the median region."
        + (" Edges in orange raise the prediction, edges in blue lower it." if one.edges else ""),
        wide=True,
    )
    figures += sheet.draw(
        lambda name: circle_figure(one, found, name, sheet.stamp),
        f"The {min(CIRCLE_EDGES, len(one.edges))} strongest edges",
        "Left hemisphere on the left; lobes in the order of the key, from the top. Width: magnitude.",
    )
    figures += sheet.draw(
        lambda name: matrix_figure(one, found, name, sheet.stamp),
        f"All {counted(one.n_edges, 'edge')}, ordered by lobe",
        "Red: a larger value raises the prediction.",
    )
    lobes = dict(zip(found.regions, found.lobes, strict=True)) if found.lobes else {}
    bars_note = (
        "Next to the bars: share of test folds in which the item is among the largest; *: corrected p <= 0.05, unless "
        "this holds for most."
    )
    for items, title in (
        (one.regions, "Regions"), (one.covariates, "Clinical covariates"), (_named_cells(one, found), "Cells"),
    ):  # fmt: skip
        drawn = sheet.draw(
            lambda name, items=items, title=title: bars_figure(  # type: ignore[misc]
                _starred(items), [_lobe(item.name, lobes) for item in items], name, sheet.stamp, title=title
            ),
            f"{title}: the largest values",
            bars_note,
        )
        figures += drawn
        bars_note = "" if drawn else bars_note
    return MapView(
        title=_TITLES[one.method],
        unit=note.strip(),
        note=one.note + (f" Attributions miss the prediction by {one.gap:.2g} SD on average." if one.gap else ""),
        figures=figures,
        cells=_cell_rows(one, found),
        groups=_item_rows((*one.groups, *one.modalities), len(one.groups) + len(one.modalities)),
        tests=[
            f"{_KINDS[test.kind]}: {test.n_beyond:,} of {test.n_items:,} beyond the corrected threshold; smallest p "
            f"{labels.p_value(test.p_largest, test.n_permutations)}"
            for test in one.null
        ],
    )


def _starred(items: tuple[MapItem, ...]) -> tuple[MapItem, ...]:
    """The items without p values where most are significant, so that the marks would distinguish nothing."""
    if sum(item.p <= _SIGNIFICANT for item in items) <= len(items) / 2:
        return items
    return tuple(item.model_copy(update={"p": float("nan")}) for item in items)


def _item_rows(items: tuple[MapItem, ...], longest: int = _SHOWN) -> list[Row]:
    """Name, value, stability, p and drop of the largest items."""
    known = [item for item in items if item.value == item.value]
    return [
        (item.name, number(item.value, 3), number(item.stability), number(item.p, 3), number(item.drop, 3))
        for item in sorted(known, key=lambda item: -abs(item.value))[:longest]
    ]


def _named_cells(one: ExplanationMap, found: ExplanationRecord) -> tuple[MapItem, ...]:
    """The cells as `region (x, y, z)` where an atlas names their regions."""
    regions = {cell.name: cell for cell in found.cells if cell.region}
    return tuple(
        item.model_copy(update={"name": f"{cell.region} ({cell.x:.0f}, {cell.y:.0f}, {cell.z:.0f})"})
        if (cell := regions.get(item.name))
        else item
        for item in one.cells
    )


def _lobe(name: str, lobes: Mapping[str, str]) -> str:
    """The lobe of a region, or of a cell named by its region."""
    return lobes.get(name) or lobes.get(name.partition(" (")[0], "")


def _cell_rows(one: ExplanationMap, found: ExplanationRecord) -> list[Row]:
    """The rows of the strongest cells, with their regions where an atlas names them."""
    regions = {cell.name: cell.region for cell in found.cells}
    rows = _item_rows(one.cells)
    return [(row[0], regions[row[0]], *row[1:]) for row in rows] if any(regions.values()) else rows


def _stability_rows(maps: list[ExplanationMap]) -> list[Row]:
    return [
        (
            labels.plain(one.method),
            _KINDS[s.kind],
            f"{s.n_units} {s.over}",
            number(s.rank_correlation),
            f"{number(s.overlap)} {labels.interval(s.low, s.high)}",
            f"{s.top} (chance {number(s.chance)})",
        )
        for one in maps
        for s in one.stability
        if s.kind in _SHOWN_KINDS
    ]


def _agreement_rows(key: tuple[str, str, str], found: ExplanationRecord) -> list[Row]:
    return [
        (
            _KINDS[row.kind],
            f"{row.first} and {row.second}",
            number(row.rank_correlation),
            f"{number(row.overlap)} of {row.top}",
        )
        for row in found.agreements
        if (row.task, row.level, row.model) == key and row.kind in _SHOWN_KINDS
    ]


def withheld_rows(found: ExplanationRecord, record: RunRecord) -> list[Row]:
    """Outcome, model and reason of the maps that are withheld."""
    names = {task.name: labels.task_title(task) for task in record.tasks}
    return [(names.get(w.task, w.task), labels.model_label(w.model).label, w.reason) for w in found.withheld]


def file_rows(found: ExplanationRecord) -> list[Row]:
    """Name, number of rows and size of each file."""
    return [(file.name, str(file.n_rows), f"{file.n_bytes / 1000:.0f} kB") for file in found.files]


def render_explanations(found: ExplanationRecord, record: RunRecord) -> str:
    """Render the page of explanations. The same records give the same bytes."""

    stamps = stamps_of(simulated=record.simulated, transductive=record.transductive, exploratory=record.exploratory)
    sheet = Sheet(" · ".join(short for short, _ in stamps), prefix="x")
    return render(
        "explanations.html",
        record=record,
        found=found,
        stamps=stamps,
        explained=explanation_views(found, record, sheet),
        withheld=withheld_rows(found, record),
        files=file_rows(found),
    )
