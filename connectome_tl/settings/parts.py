"""Names of what a study uses and an extension may define."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.tasks import KINDS


def parts_of(study: StudySettings, kinds: Iterable[str], tune: TuneSettings | None = None) -> tuple[str, ...]:
    """Parts of the study as in `extension_code`.

    Args:
        kinds: kinds of the outcomes of its cohorts.
        tune: a search space for the study.
    """
    known = sorted({*kinds} & {*KINDS})
    objectives = [name for one in (study.tuned, tune) if one is not None for name in one.objectives]
    blocks = [study.model_dump(mode="json"), {} if tune is None else tune.model_dump(mode="json")]
    return (
        *(f"{what} {kind}" for kind in sorted({*_kinds(blocks)}) for what in ("encoder", "objective", "fusion")),
        *(f"modality {name}" for name in study.model.branches),
        *(f"baseline {name}" for name in study.baselines),
        *(f"control {name}" for name in study.controls),
        *(f"task kind {kind}" for kind in known),
        *(f"metric {name}" for name in objectives),
        *(f"metric {name}" for kind in known for name in (KINDS[kind].primary, KINDS[kind].second)),
    )


def metrics_of(kinds: Iterable[str]) -> tuple[str, ...]:
    """Metrics, as parts, that the results of a study have although no setting names them."""
    known = sorted({*kinds} & {*KINDS})
    return tuple(f"metric {name}" for name, metric in METRICS.items() if any(map(metric.of, known)))


def _kinds(value: Any) -> Iterator[str]:
    """The `kind` of every block."""
    if isinstance(value, dict):
        yield from (kind for kind in [value.get("kind")] if isinstance(kind, str))
    if isinstance(value, (dict, list)):
        yield from (kind for part in (value.values() if isinstance(value, dict) else value) for kind in _kinds(part))
