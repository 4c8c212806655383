"""Prefix scan names, so that cohorts of several folders have unique ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from connectome_tl.imaging.read.inputs import Inventory, Scan
from connectome_tl.settings.imaging import AnyScanSettings
from connectome_tl.workflows.scans.result import Plan

_T = TypeVar("_T")


def prefixed(subject: str, prefix: str) -> str:
    """Add a prefix to a name: `sub-01` with `siteA` is `sub-siteA01`, also for names with a session."""
    return f"sub-{prefix}{subject.removeprefix('sub-')}"


def with_prefix(
    plan: Plan[AnyScanSettings], scans: list[Scan], inventory: Inventory
) -> tuple[Plan[AnyScanSettings], list[Scan], Inventory]:
    """Replace input names by output names, after all files are found."""
    prefix = plan.settings.id_prefix
    if not prefix:
        return plan, scans, inventory

    def renamed(values: Mapping[str, _T]) -> dict[str, _T]:
        return {prefixed(name, prefix): value for name, value in values.items()}

    def named(scan: Scan) -> Scan:
        return replace(scan, subject=prefixed(scan.subject, prefix))

    ages = replace(plan.ages, values=renamed(plan.ages.values), problems=renamed(plan.ages.problems))
    plan = replace(plan, templates=renamed(plan.templates), ages=ages)
    return plan, [named(s) for s in scans], replace(inventory, scans=tuple(named(s) for s in inventory.scans))
