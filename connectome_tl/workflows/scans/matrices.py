"""Write a scan's connectome in all requested formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.export import all_written, write_connectome
from connectome_tl.provenance import IMAGING
from connectome_tl.settings.imaging import AnyScanSettings
from connectome_tl.workflows.scans.result import Plan


def write_matrices(
    connectome: Connectome,
    scan: str,
    plan: Plan[AnyScanSettings],
    inputs: Mapping[str, str],
    *,
    units: Mapping[str, str] | str,
    notes: tuple[str, ...],
    fields: Mapping[str, Any],
    seed: int | None = None,
) -> list[Path]:
    """Write the table and the other formats of the settings; returns all files, including sidecars."""
    written: list[Path] = []
    for ending in (*plan.settings.formats, "tsv"):  # the table last: files of one name share a sidecar, the table's
        written += write_connectome(
            connectome,
            plan.file(scan, f"atlas-{plan.atlas_name}_relmat.{ending}"),
            atlas=plan.atlas_name,
            inputs=inputs,
            settings=plan.settings,
            units=units,
            seed=seed,
            libraries=IMAGING,
            notes=notes,
            fields={**fields, **plan.said_of(scan)},
        )
    return list(dict.fromkeys(all_written(written)))
