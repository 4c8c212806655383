"""Files of the explanations of a run: paths and reading, without torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.wilson import wilson_interval
from connectome_tl.provenance import file_hash, read_json
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapItem

FOLDER, SUMMARY, PAGE = "explanations", "explanations.json", "explanations.html"
_PLURAL = {
    "edge": "edges", "region": "regions", "covariate": "covariates", "cell": "cells", "group": "groups",
    "modality": "modalities",
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
    known = record.configuration == configuration and predictions_hash(folder) in ("", record.predictions)
    return record if known else None


def predictions_hash(folder: Path) -> str:
    """Hash of the predictions of a run, which other data and other code change; empty without them."""
    file = folder / "predictions.tsv"
    return file_hash(file) if file.is_file() else ""


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
    return item_rows(getattr(record, _PLURAL[kind]), kind, record, found)


def item_rows(
    items: Sequence[MapItem], kind: str, record: ExplanationMap, whole: ExplanationRecord
) -> list[dict[str, object]]:
    """Rows of the table of one kind of item of a map; a last column states why there are no p values."""
    low, high = wilson_interval(np.array([item.stability for item in items]), record.n_folds)
    rows = []
    for item, *ends in zip(items, low.tolist(), high.tolist(), strict=True):
        said = _named(item, kind, whole) | {"value": item.value, "stability": item.stability}
        said |= {"stability_low": ends[0], "stability_high": ends[1], "p_corrected": item.p}
        said |= {} if kind == "edge" else {"drop": item.drop}
        rows.append(said | ({"no_p": record.untested} if record.untested else {}))
    return rows


def _named(item: MapItem, kind: str, whole: ExplanationRecord) -> dict[str, object]:
    """Name and place of an item."""
    said: dict[str, object] = {kind: item.name}
    if kind == "edge":
        for end, at in (("first", item.first), ("second", item.second)):
            said |= {end: whole.regions[at]} | {f"{end}_{key}": value for key, value in _place(at, whole).items()}
    elif kind == "region":
        said |= _place(whole.regions.index(item.name), whole)
    elif kind == "cell":
        place = next(one for one in whole.cells if one.name == item.name)
        said |= {"region": place.region, "x": place.x, "y": place.y, "z": place.z}
    return said


def _place(at: int, whole: ExplanationRecord) -> dict[str, object]:
    """Hemisphere, lobe and centroid of a region, where the atlas is known."""
    if not whole.lobes:
        return {}
    x, y, z = whole.coordinates[at]
    return {"hemisphere": whole.hemispheres[at], "lobe": whole.lobes[at], "x": x, "y": y, "z": z}
