"""Files of the explanations of a run: paths and reading, without torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from connectome_tl.errors import DataError
from connectome_tl.provenance import read_json
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapItem

FOLDER, SUMMARY, PAGE = "explanations", "explanations.json", "explanations.html"
_PLURAL = {
    "edge": "edges", "region": "regions", "covariate": "covariates", "group": "groups", "modality": "modalities"
}  # fmt: skip
PERMUTED = "permuted"  # fits under permuted outcomes, until the explanations are written


def read_explanations(folder: Path, configuration: str) -> ExplanationRecord | None:
    """The explanations of a run folder, or None where there are none or they belong to another run.

    Raises:
        DataError: the summary was changed by hand, or by another version.
    """
    file = folder / FOLDER / SUMMARY
    if not file.is_file():
        return None
    try:
        record = ExplanationRecord.model_validate(read_json(file))
    except ValueError as error:
        raise DataError(
            "not a summary of explanations", file=file, remedy="Delete the folder and run `explain` again."
        ) from error
    return record if record.configuration == configuration else None


def table_name(record: ExplanationMap, kind: str) -> str:
    """Name of the table of one kind of item of a map."""
    level = "_" + re.sub(r"[^A-Za-z0-9]+", "-", record.level) if record.level else ""
    return f"{record.task}{level}_{record.model}_{record.method.replace(' ', '-')}_{_PLURAL[kind]}.tsv"


def item_tables(found: ExplanationRecord) -> Iterator[tuple[str, tuple[ExplanationMap, str]]]:
    """Name of every table of the explanations, with its map and the kind of its items."""
    for record in found.maps:
        for kind in _PLURAL:
            yield table_name(record, kind), (record, kind)


def item_table(record: ExplanationMap, kind: str, found: ExplanationRecord) -> list[dict[str, object]]:
    """Rows of the items of one kind in the summary; of edges the strongest only."""
    return [item_row(item, kind, found) for item in getattr(record, _PLURAL[kind])]


def item_row(item: MapItem, kind: str, whole: ExplanationRecord) -> dict[str, object]:
    """One row of a table of items."""
    said: dict[str, object] = {kind: item.name}
    if kind == "edge":
        for end, at in (("first", item.first), ("second", item.second)):
            said |= {end: whole.regions[at]} | {f"{end}_{key}": value for key, value in _place(at, whole).items()}
    elif kind == "region":
        said |= _place(whole.regions.index(item.name), whole)
    said |= {"value": item.value, "stability": item.stability, "p_corrected": item.p}
    return said if kind == "edge" else {**said, "drop": item.drop}


def _place(at: int, whole: ExplanationRecord) -> dict[str, object]:
    """Hemisphere, lobe and centroid of a region, where the atlas is known."""
    if not whole.lobes:
        return {}
    x, y, z = whole.coordinates[at]
    return {"hemisphere": whole.hemispheres[at], "lobe": whole.lobes[at], "x": x, "y": y, "z": z}
