"""JSON schemas of the settings, for editors."""

from __future__ import annotations

from typing import Any

from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings

SCHEMAS: dict[str, type[Settings]] = {
    "study": StudySettings,
    "cohort": CohortSettings,
    "connectomes": ConnectomesSettings,
    "morphometry": MorphometrySettings,
    "tune": TuneSettings,  # the file of `tune --space`
}


def schema_of(kind: str) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of one kind of settings file."""
    title = {"title": f"connectome-tl {kind} settings"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[kind].model_json_schema(), **title}
