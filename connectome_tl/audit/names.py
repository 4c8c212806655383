"""Ids and file names that reveal the outcome: `sub-03case`, odd numbers for cases, a code of the group.

No model reads an id, but whoever prepared the scans could see the outcome, and numbers of records end in columns. The
order of ids is not tested, since many cohorts number one group after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd

from connectome_tl.audit.separation import too_good
from connectome_tl.audit.summaries import telling_levels
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.settings.records.audit import Finding
from connectome_tl.tasks import Task

_PARTS = re.compile(r"\d+|[^\W\d_]+")
_PER_LEVEL = 4  # subjects per level of a part of the names, at least


def name_findings(cohort: Cohort, tasks: Sequence[Task]) -> list[Finding]:
    """Warn of ids and names of images from which an outcome can be read."""
    check = "ids reveal no outcome"
    sources = {"id": list(cohort.ids), "image": [PurePath(name).name for name in cohort.volumes]}
    found = [
        f"{task.name} from {part}"
        for task in tasks
        for what, names in sources.items()
        if names
        for part in list(_telling(what, names, cohort.targets[task.name].to_numpy(dtype=float), task))[:1]
    ]
    if not found:
        return [Finding(check=check, status="passed", what="no part of the ids or of the names of images does")]
    remedy = "No model reads them. Check that scans were processed and rated blind to the outcome, or rename them."
    return [Finding(check=check, status="warning", what="; ".join(found[:8]), remedy=remedy)]


def _telling(what: str, names: Sequence[str], outcome: np.ndarray, task: Task) -> Iterator[str]:
    """Parts of the names that reveal the outcome, with their measure."""
    parts = [_PARTS.findall(name) for name in names]
    last = [next((int(part) for part in reversed(one) if part.isdigit()), None) for one in parts]
    columns = {f"letters of the {what}": [" ".join(p for p in one if not p.isdigit()) for one in parts]}
    columns[f"last character of the {what}"] = [name[-1:] for name in names]
    for k in range(max(map(len, parts), default=0)):
        columns[f"part {k + 1} of the {what}"] = [one[k] if k < len(one) else "" for one in parts]
    values = {f"odd or even number of the {what}": np.array([np.nan if n is None else n % 2 for n in last])}
    for name, column in columns.items():
        levels, counts = np.unique(column, return_counts=True)
        if not 2 <= levels.size <= len(names) // _PER_LEVEL:
            continue
        text = telling_levels(pd.Series(column, dtype=object), outcome, task)
        if text:
            yield f"{name} ({text})"
        for level in levels[counts > 1]:
            values[f"{name}: {level or 'none'}"] = (np.array(column) == level).astype(float)
    yield from too_good(np.column_stack(list(values.values())), list(values), outcome, task)
